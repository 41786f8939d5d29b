"""Healing: a damaged row is read from other replicas, and replaced.

A replica that finds that a record's digest does not fit lists the row as damaged, and answers nothing of it
any more. It has forgotten one row, and gets it back by the same count as a forgetful store gets all
(`recovery.py`): N - Q + 1 whole replicas must say what they hold, or all others, whatever their state; and
not before every request has ended that may count on what was answered earlier. Others whose own record of the
row is damaged can say nothing; of all others, one sound answer is enough then.

Of a register a source tells what it has accepted and not learned as well: the damaged record may have been
chosen with it, and learned nowhere else (`registers/acceptors.py`).

Healed by fewer whole sources than N - Q + 1, what the row held last may be gone: a *loss* of its partition
says so (`replica/losses.py`). So it is with a row that is damaged at all its replicas, or at its only one:
nobody can heal it, and it stays as it is, unreadable, until an operator gives it up.

Owns the rows that are being healed. It does not look for damage: `replica` meets it, `scrub.py` searches.
"""

from collections.abc import Callable, Collection
from itertools import islice

from basestore.anti_entropy.certificates import Certificates
from basestore.cluster.operations import Operation, Operations
from basestore.cluster.outbox import SMALL_BYTES
from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.protocol.anti_entropy import LossRow
from basestore.protocol.replication import Held, Read, Rejected
from basestore.repair.version import Record
from basestore.replica.losses import Losses
from basestore.replica.replica import Replica
from basestore.rows import row_partition

HEAL_S_MAX = 5.0
HEALS_MAX = 64
HOPELESS_S = 60.0  # until the others are asked again for what all of them had damaged


class _Heal(Operation):
    """One damaged row, read from other replicas. It calls `ended` once: when `enough` of them have
    said what they hold, or when its time is over."""

    __slots__ = ("_ended", "_others", "enough", "needed", "pending", "replies", "row", "silent")

    def __init__(
        self, row: bytes, others: set[int], needed: int, ended: Callable[["_Heal", Instant], None]
    ) -> None:
        super().__init__(0)
        self._ended = ended
        self._others = others
        self.row = row
        self.needed = needed
        self.enough = False
        self.replies: dict[int, Record | None] = {}
        self.pending: list[bytes] = []  # what they have accepted of a register, and not learned
        self.silent: set[int] = set()  # those whose own record is damaged: they can say no more

    def held(self, member: int, answer: Held, now: Instant) -> None:
        if member in self._others:
            self.replies[member] = Record(answer.record) if answer.record else None
            if answer.accepted:
                self.pending.append(answer.accepted)
            self._consider(now)

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        # A refusal that passes says nothing of the record: the next heal asks again.
        if not answer.passing:
            self.silent.add(member)
            self._consider(now)

    def _consider(self, now: Instant) -> None:
        """Enough whole replicas have answered; or all others have answered or are damaged themselves,
        and one at least has answered."""
        if len(self.replies) >= self.needed or self.replies.keys() | self.silent >= self._others:
            self.enough = bool(self.replies)
            self._ended(self, now)

    @property
    def hopeless(self) -> bool:
        """Nobody else has a sound record of the row, and nobody is left to ask."""
        return self.silent >= self._others

    def alarm(self, now: Instant) -> None:
        self._ended(self, now)


class Healing:
    """Heals the damaged rows of one node."""

    def __init__(
        self,
        replica: Replica,
        certificates: Certificates,
        peers: Peers,
        operations: Operations,
        metrics: Metrics,
        losses: Losses,
        request_s_max: float,
    ) -> None:
        """`request_s_max`: how long requests last at most."""
        self._losses = losses
        self._replica = replica
        self._certificates = certificates
        self._peers = peers
        self._operations = operations
        self._metrics = metrics
        self._request_s_max = request_s_max
        self._under_way: dict[bytes, _Heal] = {}
        self._noticed_s: dict[bytes, float] = {}
        self.hopeless: dict[bytes, float] = {}  # damaged at all replicas; when to ask again

    def tick(self, now: Instant) -> None:
        """Begin heals for which there is room."""
        # Rows that nobody can heal must not stand in the way of others.
        waiting = (row for row in self._replica.damaged if self.hopeless.get(row, 0.0) <= now.monotonic)
        for row in list(islice(waiting, HEALS_MAX)):
            others = self._certificates.sources.get(row_partition(row), [])
            due_s = self._noticed_s.setdefault(row, now.monotonic) + self._request_s_max
            if not others:
                self._despair(row, now)
            elif row not in self._under_way and len(self._under_way) < HEALS_MAX and now.monotonic >= due_s:
                self._begin(row, others, now)

    def _begin(self, row: bytes, others: list[int], now: Instant) -> None:
        sources = [source for source in others if self._peers.all[source].introduced]
        whole = sum(map(self._peers.alive.__getitem__, others))
        meeting = self._certificates.meeting(row_partition(row))
        if not sources or (whole < meeting and len(sources) < len(others)):
            return
        # With fewer whole ones than that, only the word of all others together is enough.
        needed = meeting if whole >= meeting else len(others)
        heal = self._under_way[row] = _Heal(row, set(others), needed, self._ended)
        for source in sources:
            # Whole ones are counted: one that is not must not be taken for one of them.
            if needed < len(others) and not self._peers.alive[source]:
                continue
            request = self._operations.issue(heal)
            self._peers.send(source, Read(request, row, 0, True, False, False), SMALL_BYTES + len(row))
        self._operations.alarm_at(heal.ids[0], now.monotonic + HEAL_S_MAX)

    def _ended(self, heal: _Heal, now: Instant) -> None:
        """The winner of what enough replicas hold replaces the damaged record; if too few have answered,
        it is begun anew."""
        self._operations.drop(heal)
        self._under_way.pop(heal.row, None)
        if heal.hopeless and not heal.replies:
            self._despair(heal.row, now)
        if heal.enough:
            self._forget(heal.row)
            if heal.row in self._replica.damaged:
                whole = sum(map(self._peers.alive.__getitem__, heal.replies))
                self._losses.note({row_partition(heal.row): whole}, now)
                self._replica.replace_damaged(heal.row, list(heal.replies.values()), heal.pending)
                self._metrics.count("records_healed")

    # --- what nobody can heal --------------------------------------------------------------------

    def _despair(self, row: bytes, now: Instant) -> None:
        """There is no sound record of the row anywhere: say so, and ask again some other time."""
        if row not in self.hopeless:
            self._losses.note({row_partition(row): 0}, now)
        self.hopeless[row] = now.monotonic + HOPELESS_S

    def accept_loss(self, shown: Collection[LossRow]) -> None:
        """An operator accepts these losses. Where no other is open, rows that nobody can heal hold nothing
        from now on, and may be written again."""
        self._losses.accept(shown)
        settled = {loss.partition for loss in shown if not self._losses.open(loss.partition)}
        for row in [row for row in self.hopeless if row_partition(row) in settled]:
            self._forget(row)
            self._replica.replace_damaged(row, (), ())

    def _forget(self, row: bytes) -> None:
        self._noticed_s.pop(row, None)
        self.hopeless.pop(row, None)
