"""Raft: one voter of a group, or one that only follows, as a state machine (Ongaro and Ousterhout, "In search
of an understandable consensus algorithm", 2014; what is called the dissertation here is Ongaro's, 2014).

Its host tells it what happens, in any order, never two things at a time:

    hear(voter, message)   that store has said this; the host knows that it was that store
    tick                   time has passed; it may come late, and `due_s` says from when on it is of use
    propose, change, read, feed   what is asked of a leader
    decide, install        entries, or all up to one, that are known to be decided, from whomever
    durable(mark)          what `take` gave out with this mark, and all before, is on the disk

and after each burst of these calls `take`, which gives out what to store and what to send. The order binds:

    what is to be stored is stored in one batch, behind all that was given out before
    `messages` may leave at once: a leader may send entries that are not on its own disk yet
    `promises` leave once that batch is durable, and all before: votes, and what was appended. A store that
    tells before it is sure, and then loses it, votes twice in a term, or forgets what was decided with its
    help
    a leader counts itself, as a candidate its own vote, only by `durable`: that is said for every batch

Time is `now_s`, by a clock that only goes on; chance is an argument. Decides nothing about who should be a
voter, and does not know what entries mean.

An isolated or paused voter disturbs nobody: PreVote, and who has heard a leader within STILL_S, or has
started within that time, grants nothing (dissertation, 9.6 and 6.4.1). CheckQuorum: a leader that hears from
no majority for QUORUM_S steps down.

Beyond the paper: what is decided is learned from others than the leader, too, and so may have been decided
under a leader of whom this store has not heard. Then the leader that it follows is one no more, and what that
says is nothing where it differs from what is decided.
"""

from collections.abc import Callable, Collection, Iterable
from enum import Enum
from typing import Final

from basestore.consensus.leadership import Leadership
from basestore.consensus.log import Entry, Kind, Log, Snapshot
from basestore.consensus.messages import Append, Appended, Granted, RaftMessage, Stand, entries_of
from basestore.consensus.output import Mark, Output, Pending, Stored
from basestore.consensus.voters import Voter, Voters, decode_voters, encode_voters, majority

BEAT_S: Final = 0.5
STILL_S: Final = 2.0  # within which of a leader's word nobody else is granted anything
ELECTION_S: Final = 2.0, 4.0  # from the last word of a leader to an election: between these, by lot
UNDECIDED_MAX: Final = 1024  # entries; a leader takes no more before some are decided


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
        if self._alone and not self._standing:
            return self.heard_s
        return self._due_s if self._stands else float("inf")

    @property
    def _stands(self) -> bool:
        """Whether it may come to lead: as a voter, or until it is known to be decided that it is none: it may
        be the only one that has this entry, and then nobody else can be elected (dissertation, 4.2.2)."""
        log = self.log
        return self.votes or (log.voters_index > self.commit and self.me in log.voters_at(self.commit))

    @property
    def _alone(self) -> bool:
        return self.voters == {self.me}

    def caught_up(self, learner: Voter) -> bool:
        """Whether a learner has all that was decided at the last heartbeat, durably, and has answered since
        the one before: of what is decided all the time the last is always on its way."""
        leadership = self.leadership
        progress = leadership.followers.get(learner) if leadership is not None else None
        if leadership is None or progress is None:
            return False
        held = progress.match >= max(leadership.beat_commit, leadership.began)
        return held and progress.contact_s >= leadership.before_s

    # --- time ------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        leadership = self.leadership
        if leadership is not None:
            if not leadership.has_quorum(now_s):
                self._step_down(now_s)
            elif now_s >= leadership.beat_s + BEAT_S:
                leadership.beat(now_s)
        elif now_s >= self.due_s:
            self._campaign(now_s, pre=True)

    def _lot(self) -> float:
        least, most = ELECTION_S
        return least + (most - least) * self._chance()

    # --- elections -------------------------------------------------------------------------------

    def _campaign(self, now_s: float, *, pre: bool) -> None:
        """Stand for the next term; `pre`: first only ask whether it would be granted."""
        self._due_s = now_s + self._lot()
        if not pre:
            self._come_to(self.term + 1, now_s)
            self.vote, self._out.voted, self.role = self.me, True, Role.CANDIDATE
        term = self.term + pre
        self._standing, self._grants = (term, pre), set()
        said = Stand(term, self.log.last, self.log.last_term, pre)
        out = self._out.messages if pre else self._out.promises
        out += ((voter, said) for voter in sorted(self.voters) if voter != self.me)
        if pre:  # it promises nothing by it; as a candidate its own vote counts once that is durable
            self._grant(self.me, now_s)

    def _grant(self, voter: Voter, now_s: float) -> None:
        self._grants.add(voter)
        if self._standing and self._stands and len(self._grants & self.voters) >= majority(self.voters):
            if self._standing[1]:
                self._campaign(now_s, pre=False)
            elif self.role is Role.CANDIDATE:
                self._lead(now_s)

    def _come_to(self, term: int, now_s: float) -> None:
        """A later term: nothing is voted in it yet, and no leader of it known."""
        self.term, self.vote, self._out.voted = term, None, True
        self.leader = None
        if self.role is not Role.FOLLOWER or self._standing:
            self._step_down(now_s)

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
            self._come_to(said.term, now_s)
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
                self._come_to(said.term, now_s)
        elif self._standing == (said.term, said.pre):
            self._grant(voter, now_s)

    def _lead(self, now_s: float) -> None:
        """It is elected. Nothing of its own is decided before the empty entry is: only then is it known how
        far the log that it found is decided (dissertation, 6.4)."""
        self.role, self.leader, self._standing = Role.LEADER, self.me, None
        self.leadership = Leadership(self.me, self.term, self.log, self._out, now_s)
        self.leadership.commit = self.commit
        self.log.append([Entry(self.term, Kind.EMPTY, b"")])
        self.leadership.beat(now_s)

    # --- what a leader is asked ------------------------------------------------------------------

    def propose(self, data: bytes) -> int | None:
        """Append an entry; where it stands, if nobody else comes to lead before it is decided. None unless
        this store is `ready`, or where too much is not decided yet."""
        if not self.ready or self.log.last - self.commit >= UNDECIDED_MAX:
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
        # A leader that is to go has none: who is left may be alone, and then need not wait to be elected.
        if lease and self.votes and now_s < leadership.reads.lease_until_s:
            self._out.answers.append((self._tickets, self.commit))
        elif not leadership.reads.wait(self._tickets, self.commit):
            return None
        return self._tickets

    def _hear_appended(self, voter: Voter, said: Appended, now_s: float) -> None:
        if said.term > self.term:
            self._come_to(said.term, now_s)
        elif self.leadership is not None and said.term == self.term:
            self.leadership.hear(voter, said, now_s)
            self._advance(now_s)

    def _advance(self, now_s: float) -> None:
        """A leader may know more to be decided."""
        leadership = self.leadership
        assert leadership is not None
        self.commit = leadership.commit = max(self.commit, leadership.decided())
        if not self.votes and self.commit >= self.log.voters_index:  # its own removal is decided
            leadership.beat(now_s)  # and this tells it
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
            # Whoever stands: it may have been taken in by an entry that has not come here, and so may this
            # store; only this one's vote may be what a majority lacks (dissertation, 4.1).
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
            self._come_to(term, now_s)
        if self.role is not Role.FOLLOWER or self._standing:
            self._step_down(now_s)
        self.leader, self.heard_s = voter, now_s
        self._due_s = now_s + self._lot()
        return True

    def _hear_append(self, voter: Voter, said: Append) -> None:
        log, prev, prev_term, entries = self.log, said.prev, said.prev_term, entries_of(said.entries)
        known = log.base.last - prev
        if known > len(entries):  # all of it is decided: a leader has that, too
            self._out.promises.append((voter, Appended(self.term, log.base.last, said.round, True)))
            return
        if known > 0:
            prev, prev_term, entries = log.base.last, entries[known - 1].term, entries[known:]
        if log.term_at(prev) != prev_term:
            if prev > self.commit:
                # The leader may go back all of a conflicting term at once (the paper, 5.3).
                hint = log.run(prev, self.commit + 1) if prev <= log.last else log.last + 1
                self._out.promises.append((voter, Appended(self.term, hint, said.round, False)))
        elif self._take_over(prev + 1, entries):
            held = prev + len(entries)
            self.commit = max(self.commit, min(said.commit, held))
            self._out.promises.append((voter, Appended(self.term, held, said.round, True)))

    def _take_over(self, first: int, entries: list[Entry]) -> bool:
        """These stand from `first` on; what conflicts with them goes, and only that. False, and nothing is
        done, where something else is decided."""
        at = self.log.fresh(first, entries)
        if at == first + len(entries):
            return True
        if at <= self.commit:
            return False
        if at <= self.log.last:
            self.log.cut(at)
            self._out.cut(at)
        self.log.append(entries[at - first :])
        return True

    # --- what is decided, by whoever's word --------------------------------------------------------

    def decide(self, first: int, entries: list[Entry], now_s: float) -> None:
        """These are decided. What does not follow on what is known to be is left out: what stands before it
        here may not be what was decided."""
        last = first + len(entries) - 1
        if not first - 1 <= self.commit < last:
            return
        if entries[-1].term > self.term:  # one that leads an earlier term is no leader any more
            self._come_to(entries[-1].term, now_s)
        if self.log.fresh(first, entries) <= last and self.role is not Role.FOLLOWER:
            self._step_down(now_s)  # it has been replaced, or another was elected
        if not self._take_over(first, entries):
            raise AssertionError(f"one of the entries from {first} to {last} was decided to be another one")
        self.commit = last
        if self.leads:
            self._advance(now_s)

    def install(self, snapshot: Snapshot, now_s: float) -> None:
        """All up to this is decided; one that is not ahead of what is known to be is ignored."""
        if snapshot.last <= self.commit:
            return
        if snapshot.term > self.term:
            self._come_to(snapshot.term, now_s)
        if self.log.term_at(snapshot.last) != snapshot.term:  # else the log has all of it
            if self.role is not Role.FOLLOWER:
                self._step_down(now_s)
            self.log.install(snapshot)
            self._out.install(snapshot)
        self.commit = snapshot.last
        if self.leads:
            self._advance(now_s)

    def decided(self, after: int) -> Iterable[tuple[int, Entry]]:
        """Those behind `after`, which must not lie before the log."""
        return ((index, self.log.entry(index)) for index in range(after + 1, self.commit + 1))

    def compact(self, index: int, state: bytes) -> None:
        """The host's state at `index`, which is decided and was given out, is stored in place of all up to
        there; ValueError."""
        if not self.log.base.last < index <= min(self.commit, self._out.given):
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
        self._out.stored(mark)
        if self.role is Role.CANDIDATE and mark.term == self.term and mark.vote == self.me:
            self._grant(self.me, now_s)
        elif self.leads:
            self._advance(now_s)
