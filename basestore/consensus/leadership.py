"""Leadership: what a store has for as long as it leads one term: its followers, its rounds, and who waits.

A *round* is one heartbeat to all followers. What a majority of the voters has answered tells three things:
how far the log is decided, that nobody else led when the round began, and until when the lease lasts. The
leader itself counts as one, of its log as far as that is durable. Learners are followers that do not count.
"""

from collections.abc import Callable

from basestore.consensus.log import Log
from basestore.consensus.messages import Append, Appended, Install, RaftMessage, rows_of
from basestore.consensus.output import Pending
from basestore.consensus.progress import Progress
from basestore.consensus.reads import Reads
from basestore.consensus.voters import Voter, encode_voters, majority

QUORUM_S = 4.0


class Leadership:
    """Of one term. `began`: the index of its empty entry; `beat_s`: when the last heartbeat left, and
    `before_s`: the one before."""

    def __init__(self, me: Voter, term: int, log: Log, out: Pending, now_s: float) -> None:
        self._me, self._term, self._log, self._out = me, term, log, out
        self.followers: dict[Voter, Progress] = {}
        self._learners: frozenset[Voter] = frozenset()
        self.reads = Reads()
        self.began = log.last + 1
        self.beat_s = self.before_s = now_s
        self.commit = self.beat_commit = 0  # as it is told to followers, and was with the last heartbeat
        self.see_to_followers(now_s)

    # --- followers -------------------------------------------------------------------------------

    def feed(self, learners: frozenset[Voter], now_s: float) -> None:
        self._learners = learners
        self.see_to_followers(now_s)

    def see_to_followers(self, now_s: float) -> None:
        """All voters and learners are; contact counts from now, else a new leader would step down at once."""
        wanted = (self._log.voters | self._learners) - {self._me}
        for voter in self.followers.keys() - wanted:
            del self.followers[voter]
        for voter in sorted(wanted - self.followers.keys()):  # in an order that is always the same
            self.followers[voter] = Progress(self._log.last, now_s)

    def has_quorum(self, now_s: float) -> bool:
        """Whether a majority has answered anything lately (CheckQuorum)."""
        near = self._majority(lambda progress: now_s - progress.contact_s < QUORUM_S, True)
        return bool(near)

    def _majority(self, of: Callable[[Progress], int], own: int) -> int:
        """The greatest number that a majority of the voters has come to."""
        voters, nothing = self._log.voters, 0
        numbers = [
            own if voter == self._me else of(self.followers[voter]) if voter in self.followers else nothing
            for voter in voters
        ]
        return sorted(numbers, reverse=True)[majority(voters) - 1]

    # --- what is sent ----------------------------------------------------------------------------

    def beat(self, now_s: float) -> None:
        """A heartbeat to all followers, with what they lack, and what they have not answered to again."""
        self.before_s, self.beat_s, self.beat_commit = self.beat_s, now_s, self.commit
        for progress in self.followers.values():
            progress.beat()
        self._begin_round(now_s)

    def _begin_round(self, now_s: float) -> None:
        self.reads.begin_round(now_s)
        for voter, progress in self.followers.items():
            self._send(voter, progress)
        self._count_rounds()

    def send_new(self, now_s: float) -> None:
        """What has come since the last round, to whom it may be sent."""
        if self.reads.wants_round:
            self._begin_round(now_s)
        last = self._log.last
        for voter, progress in self.followers.items():
            while progress.may_send(last):
                self._send(voter, progress)

    def _send(self, voter: Voter, progress: Progress) -> None:
        log, prev, number = self._log, progress.next - 1, self.reads.round
        said: RaftMessage
        if prev >= log.base.last or progress.waiting:  # what it waits for is said where it is asked for
            prev = max(prev, log.base.last)
            entries = [] if progress.waiting else log.batch(prev + 1)
            prev_term = log.term_at(prev)
            said = Append(self._term, prev, prev_term, rows_of(entries), self.commit, number)
            if entries:
                progress.sent(len(entries))
        else:
            base = log.base
            voters = encode_voters(base.voters)
            said = Install(self._term, base.last, base.term, voters, base.state, number)
            progress.sent_snapshot()
        self._out.messages.append((voter, said))

    # --- what is answered ------------------------------------------------------------------------

    def hear(self, voter: Voter, said: Appended, now_s: float) -> None:
        """An answer in this term."""
        progress = self.followers.get(voter)
        if progress is None:
            return
        progress.answered(min(said.round, self.reads.round), now_s)
        self._count_rounds()  # whether its log fits or not: it follows
        if said.ok:
            progress.held(said.held, self._log.last)
        elif progress.missed(said.held):
            self._send(voter, progress)

    def decided(self) -> int:
        """Up to where a majority holds the log durably, if that is an entry of this term: with it all before
        is decided, and never by counting alone (the paper, 5.4.2); else 0."""
        held = self._majority(lambda progress: progress.match, self._out.durable)
        return held if self._log.term_at(held) == self._term else 0

    def _count_rounds(self) -> None:
        number = self._majority(lambda progress: progress.round, self.reads.round)
        self._out.answers += self.reads.answered(number)
