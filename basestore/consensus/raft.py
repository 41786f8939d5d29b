"""Raft: one voter of a group, or one that only follows, as a state machine (Ongaro and Ousterhout, "In search
of an understandable consensus algorithm", 2014; what is called the dissertation here is Ongaro's, 2014).

Its host tells it what happens, in any order, never two things at a time:

    hear(voter, message)   that store has said this; the host knows that it was that store
    tick                   time has passed: by when, `due_s` says
    propose, change, read, feed   what is asked of a leader
    decide, install        entries, or all up to one, that are known to be decided, from whomever
    durable(mark)          what `take` gave out with this mark, and all before, is on the disk

and after each burst of these calls `take`, which gives out what to store and what to send. The order binds:

    what is to be stored is stored in one batch, behind all that was given out before
    `messages` may leave at once: a leader may send entries that are not on its own disk yet
    `promises` leave once that batch is durable: votes, and what was appended. A store that tells before it
    is sure, and then loses it, votes twice in a term, or forgets what was decided with its help
    a leader counts itself, as a candidate its own vote, only by `durable`

Time is `now_s`, by a clock that only goes on; chance is an argument. Decides nothing about who should be a
voter, and does not know what entries mean.

An isolated or paused voter disturbs nobody: PreVote, and who has heard a leader within STILL_S, or has
started within that time, grants nothing (dissertation, 9.6 and 6.4.1). CheckQuorum: a leader that hears from
no majority for QUORUM_S steps down.
"""

from collections.abc import Callable, Collection, Iterable
from enum import Enum
from typing import Final

from basestore.consensus.leadership import Leadership
from basestore.consensus.log import Entry, Kind, Log, Snapshot
from basestore.consensus.messages import (
    Append,
    Appended,
    Granted,
    RaftMessage,
    Stand,
    entries_of,
)
from basestore.consensus.output import Mark, Output, Pending, Stored
from basestore.consensus.voters import Voter, Voters, decode_voters, encode_voters, majority

BEAT_S: Final = 0.5
STILL_S: Final = 2.0  # within which of a leader's word nobody else is granted anything
ELECTION_S: Final = 2.0, 4.0  # from the last word of a leader to an election: between these, by lot


class Role(Enum):
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Raft:
    """One store's part. `leader`: who leads `term`, if that is known; `heard_s`: when it was heard last, or
    this store was started; `commit`: all up to there is decided."""

    def __init__(self, me: Voter, stored: Stored, now_s: float, chance: Callable[[], float]) -> None:
        """`chance`: a number from 0 to 1, another each time."""
        self.me = me
        self.term, self.vote = stored.term, stored.vote
        self.log = Log(stored.base, stored.entries)
        self.commit = max(stored.commit, stored.base.last)
        self.role = Role.FOLLOWER
        self.leader: Voter | None = None
        self._chance = chance
        self.heard_s = now_s
        self._due_s = now_s + self._lot()
        self._out = Pending(self.log.last)
        self._grants: set[Voter] = set()
        self._standing: tuple[int, bool] | None = None  # for which term, and whether only to ask
        self.leadership: Leadership | None = None
        self._tickets = 0

    # --- what is to be known ---------------------------------------------------------------------

    @property
    def voters(self) -> Voters:
        """The newest configuration in the log, decided or not."""
        return self.log.voters

    @property
    def votes(self) -> bool:
        return self.me in self.voters

    @property
    def leads(self) -> bool:
        return self.leadership is not None

    @property
    def ready(self) -> bool:
        """Whether it leads, and has decided an entry of its own term: it may propose and answer."""
        return self.leadership is not None and self.commit >= self.leadership.began

    @property
    def due_s(self) -> float:
        """When the next tick is needed."""
        if self.leadership is not None:
            return self.leadership.beat_s + BEAT_S
        return self._due_s if self.votes else float("inf")

    def caught_up(self, learner: Voter) -> bool:
        """Whether a learner has nearly all: what it lacks is no more than what is on its way."""
        progress = self.leadership.followers.get(learner) if self.leadership is not None else None
        return progress is not None and not progress.probing and progress.match >= self.commit

    # --- time ------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        leadership = self.leadership
        if leadership is not None:
            if not leadership.has_quorum(now_s):
                self._step_down(now_s)
            elif now_s >= leadership.beat_s + BEAT_S:
                leadership.begin_round(now_s)
        elif self.votes and (now_s >= self._due_s or (len(self.voters) == 1 and not self._standing)):
            self._campaign(now_s, pre=True)

    def _lot(self) -> float:
        least, most = ELECTION_S
        return least + (most - least) * self._chance()

    # --- elections -------------------------------------------------------------------------------

    def _campaign(self, now_s: float, *, pre: bool) -> None:
        """Stand for the next term; `pre`: first only ask whether it would be granted."""
        self._due_s = now_s + self._lot()
        if not pre:
            self._come_to(self.term + 1)
            self.vote, self._out.voted, self.role = self.me, True, Role.CANDIDATE
        term = self.term + pre
        self._standing, self._grants = (term, pre), set()
        said = Stand(term, self.log.last, self.log.last_term, pre)
        out = self._out.messages if pre else self._out.promises
        out += ((voter, said) for voter in self.voters if voter != self.me)
        if pre:  # it promises nothing by it; as a candidate its own vote counts once that is durable
            self._grant(self.me, now_s)

    def _grant(self, voter: Voter, now_s: float) -> None:
        self._grants.add(voter)
        standing = self._standing
        if standing is None or len(self._grants & self.voters) < majority(self.voters) or not self.votes:
            return
        if standing[1]:
            self._campaign(now_s, pre=False)
        elif self.role is Role.CANDIDATE:
            self._lead(now_s)

    def _come_to(self, term: int) -> None:
        """A later term: nothing is voted in it yet, and no leader of it known."""
        self.term, self.vote, self._out.voted = term, None, True
        self.leader = None

    def _step_down(self, now_s: float) -> None:
        if self.leadership is not None:
            self._out.answers += ((ticket, -1) for ticket in self.leadership.reads.end())
            self.leadership = None
        if self.leader == self.me:
            self.leader = None
        self.role, self._standing = Role.FOLLOWER, None
        self._due_s = now_s + self._lot()

    def _hear_stand(self, voter: Voter, said: Stand, now_s: float) -> None:
        # Whoever has a leader, or may have promised to keep one before it was started anew, keeps still.
        if self.leads or now_s - self.heard_s < STILL_S:
            return
        if said.term < self.term or (said.pre and said.term == self.term):
            self._out.promises.append((voter, Granted(self.term, said.pre, False)))
            return
        if not said.pre and said.term > self.term:
            self._come_to(said.term)
            self._step_down(now_s)
        if (said.last_term, said.last) < (self.log.last_term, self.log.last):
            return
        if not said.pre:
            if self.vote not in (None, voter):
                return
            self.vote, self._out.voted = voter, True
            self._due_s = now_s + self._lot()
        self._out.promises.append((voter, Granted(said.term, said.pre, True)))

    def _hear_granted(self, voter: Voter, said: Granted, now_s: float) -> None:
        if not said.yes:
            if said.term > self.term:
                self._come_to(said.term)
                self._step_down(now_s)
        elif self._standing == (said.term, said.pre):
            self._grant(voter, now_s)

    def _lead(self, now_s: float) -> None:
        """It is elected. Nothing of its own is decided before the empty entry is: only then is it known how
        far the log that it found is decided (dissertation, 6.4)."""
        self.role, self.leader, self._standing = Role.LEADER, self.me, None
        self.leadership = Leadership(self.me, self.term, self.log, self._out, now_s)
        self.leadership.commit = self.commit
        self.log.append([Entry(self.term, Kind.EMPTY, b"")])
        self.leadership.begin_round(now_s)

    # --- what a leader is asked ------------------------------------------------------------------

    def propose(self, data: bytes) -> int | None:
        """Append an entry; where it stands, if nobody else comes to lead before it is decided. None unless
        this store is `ready`."""
        if not self.ready:
            return None
        self.log.append([Entry(self.term, Kind.DATA, data)])
        return self.log.last

    def change(self, voters: Voters, now_s: float) -> int | None:
        """One voter more, or one less. None unless this store is `ready`, and the change before is decided:
        two at once, or one on top of what another leader may still undo, could make two majorities
        (dissertation, 4.1, and the bug that was found in it)."""
        leadership, one = self.leadership, len(voters ^ self.voters) == 1 and len(voters) > 0
        if leadership is None or not self.ready or self.log.voters_index > self.commit or not one:
            return None
        self.log.append([Entry(self.term, Kind.CHANGE, encode_voters(voters))])
        leadership.see_to_followers(now_s)
        return self.log.last

    def feed(self, learners: Collection[Voter], now_s: float) -> None:
        """Send the log to these too; they count for nothing."""
        if self.leadership is not None:
            self.leadership.feed(frozenset(learners), now_s)

    def read(self, now_s: float, *, lease: bool) -> int | None:
        """A ticket, for which `take` gives out where the read may be answered; None unless it is `ready`.
        `lease`: at once, if the lease holds."""
        leadership = self.leadership
        if leadership is None or not self.ready:
            return None
        self._tickets += 1
        if lease and now_s < leadership.reads.lease_until_s:
            self._out.answers.append((self._tickets, self.commit))
        elif not leadership.reads.wait(self._tickets, self.commit):
            return None
        return self._tickets

    def _hear_appended(self, voter: Voter, said: Appended, now_s: float) -> None:
        if said.term > self.term:
            self._come_to(said.term)
            self._step_down(now_s)
        elif self.leadership is not None and said.term == self.term:
            self.leadership.hear(voter, said, now_s)
            self._advance(now_s)

    def _advance(self, now_s: float) -> None:
        """A leader may know more to be decided."""
        assert self.leadership is not None
        self.commit = self.leadership.commit = max(self.commit, self.leadership.decided())
        if not self.votes and self.commit >= self.log.voters_index:  # its own removal is decided
            self._step_down(now_s)

    # --- the log: a follower's side --------------------------------------------------------------

    def hear(self, voter: Voter, message: RaftMessage, now_s: float) -> None:
        """A store says this."""
        if isinstance(message, Append):
            if self._follow(voter, message.term, message.round, now_s):
                self._hear_append(voter, message)
        elif isinstance(message, Appended):
            self._hear_appended(voter, message, now_s)
        elif isinstance(message, Stand):
            if self.votes and voter in self.voters:
                self._hear_stand(voter, message, now_s)
        elif isinstance(message, Granted):
            self._hear_granted(voter, message, now_s)
        elif self._follow(voter, message.term, message.round, now_s):
            voters = decode_voters(message.voters)
            self.install(Snapshot(message.last, message.snapshot_term, voters, message.state), now_s)
            self._out.promises.append((voter, Appended(self.term, self.commit, message.round, True)))

    def _follow(self, voter: Voter, term: int, number: int, now_s: float) -> bool:
        """Whether it leads the present term, or a later one: then this store follows it."""
        if term < self.term:
            self._out.promises.append((voter, Appended(self.term, 0, number, False)))
            return False
        if term > self.term:
            self._come_to(term)
        if self.role is not Role.FOLLOWER or self._standing:
            self._step_down(now_s)
        self.leader, self.heard_s = voter, now_s
        self._due_s = now_s + self._lot()
        return True

    def _hear_append(self, voter: Voter, said: Append) -> None:
        log, prev = self.log, said.prev
        if prev > log.last or (prev >= log.base.last and log.term_at(prev) != said.prev_term):
            # The leader may go back all of the conflicting term at once (the paper, 5.3).
            hint = min(prev, log.last + 1)
            while hint > self.commit + 1 and prev <= log.last and log.term_at(hint - 1) == log.term_at(prev):
                hint -= 1
            self._out.promises.append((voter, Appended(self.term, hint, said.round, False)))
            return
        self._take_over(prev + 1, entries_of(said.entries))
        held = max(prev + len(said.entries), log.base.last)
        self.commit = max(self.commit, min(said.commit, held))
        self._out.promises.append((voter, Appended(self.term, held, said.round, True)))

    def _take_over(self, first: int, entries: list[Entry]) -> None:
        """These stand from `first` on; what conflicts with them goes, and only that."""
        at = self.log.fresh(first, entries)
        if at == first + len(entries):
            return
        if at <= self.log.last:
            if at <= self.commit:
                raise AssertionError(f"the entry {at}, which is decided, is to be another one")
            self.log.cut(at)
            self._out.cut(at)
        self.log.append(entries[at - first :])

    # --- what is decided, by whoever's word --------------------------------------------------------

    def decide(self, first: int, entries: list[Entry], now_s: float) -> None:
        """These are decided. What is not next to the log is left out."""
        if not entries or first > self.log.last + 1:
            return
        last = first + len(entries) - 1
        if self.leads and self.log.fresh(first, entries) <= last:
            self._step_down(now_s)  # others have decided something else: it has been replaced
        self._take_over(first, entries)
        self.commit = max(self.commit, last)

    def install(self, snapshot: Snapshot, now_s: float) -> None:
        """All up to this is decided; one that is not ahead of what is known to be is ignored."""
        if snapshot.last <= self.commit:
            return
        if self.leads:
            self._step_down(now_s)
        if not self.log.install(snapshot):
            self._out.cut(snapshot.last + 1)
        self.commit = snapshot.last
        self._out.install(snapshot)

    def decided(self, after: int) -> Iterable[tuple[int, Entry]]:
        """Those behind `after`, which must not lie before the log."""
        return ((index, self.log.entry(index)) for index in range(after + 1, self.commit + 1))

    def compact(self, index: int, state: bytes) -> None:
        """The host's state at `index`, which is decided, is stored in place of all up to there."""
        if not self.log.base.last < index <= self.commit:
            raise ValueError(f"there is nothing to compact up to {index}")
        self.log.compact(index, state)

    # --- what comes of it ------------------------------------------------------------------------

    def take(self, now_s: float) -> Output | None:
        """What is to be stored and sent; None if that is nothing."""
        if self.leadership is not None:
            self.leadership.send_new(now_s)
        return self._out.take(self.term, self.vote, self.log)

    def durable(self, mark: Mark, now_s: float) -> None:
        """What was given out up to this mark is durable."""
        self._out.stored(mark, self.log)
        if self.role is Role.CANDIDATE and mark.term == self.term and mark.vote == self.me:
            self._grant(self.me, now_s)
        elif self.leads:
            self._advance(now_s)
