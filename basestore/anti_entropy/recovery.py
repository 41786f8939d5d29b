"""Recovery: how a forgetful node gets back what it may have lost.

It runs anti-entropy exchanges (`scheduler.py`) of every partition that it holds with other replicas of
it. A partition is recovered after exchanges with N - Q + 1 whole replicas (every write that a quorum
ever acknowledged is on one of them), or with all others, whatever their state: what none of them
has is nowhere. When all partitions are recovered, and that is durable, the store is whole.

Single damaged rows are healed by the same counts: read from other replicas, and replaced.
Nothing of this begins before every request has ended that may count on an answer of the store's
former life: a write acknowledged by a replica that then forgot it, recovered from others that the
write had not reached yet, and was counted beside one of these, would be on too few.
"""

from collections.abc import Callable

from basestore.anti_entropy.scheduler import Scheduler
from basestore.cluster.operations import Operation, Operations
from basestore.cluster.outbox import SMALL_BYTES
from basestore.cluster.peers import Peers
from basestore.cluster.placement import Placement, row_partition
from basestore.instant import Instant
from basestore.protocol.replication import Held, Read, Rejected
from basestore.replica.identity import State, StoreIdentity
from basestore.replica.replica import Replica
from repair.version import Record

HEAL_S_MAX = 5.0
HEALS_MAX = 64


class _Healing(Operation):
    """One damaged row, read from other replicas. It calls `ended` once: when `enough` of them have
    said what they hold, or when its time is over."""

    __slots__ = ("_ended", "_others", "enough", "needed", "replies", "row", "silent")

    def __init__(
        self, row: bytes, others: set[int], needed: int, ended: Callable[["_Healing"], None]
    ) -> None:
        super().__init__(0)
        self._ended = ended
        self._others = others
        self.row = row
        self.needed = needed
        self.enough = False
        self.replies: dict[int, Record | None] = {}
        self.silent: set[int] = set()  # those whose own record is damaged: they can say no more

    def held(self, member: int, answer: Held, now: Instant) -> None:
        if member in self._others:
            self.replies[member] = Record(answer.record) if answer.record else None
            self._consider()

    def rejected(self, member: int, answer: Rejected, now: Instant) -> None:
        if not answer.passing:
            self.silent.add(member)
            self._consider()

    def _consider(self) -> None:
        """Enough whole replicas have answered; or all others have answered or are damaged themselves,
        and one at least has answered."""
        if len(self.replies) >= self.needed or (
            self.replies and self.replies.keys() | self.silent >= self._others
        ):
            self.enough = True
            self._ended(self)

    def alarm(self, now: Instant) -> None:
        self._ended(self)


class Recovery:
    """Recovery of a forgetful store, and healing of damaged rows, for one node."""

    def __init__(
        self,
        identity: StoreIdentity,
        replica: Replica,
        scheduler: Scheduler,
        placement: Placement,
        peers: Peers,
        operations: Operations,
        request_s_max: float,
        now: Instant,
    ) -> None:
        """`request_s_max`: how long requests last at most."""
        self._request_s_max = request_s_max
        self._begin_s = now.monotonic + request_s_max  # then those of the store's former life have ended
        self._identity = identity
        self._replica = replica
        self._scheduler = scheduler
        self._placement = placement
        self._peers = peers
        self._operations = operations
        self.sources_needed = placement.meeting_quorum
        self._healing: dict[bytes, _Healing] = {}
        self._store = b""
        self._since_s = 0.0
        self._noticed_s: dict[bytes, float] = {}

    def restart(self) -> None:
        """Begin anew: a batch was not taken, and what came in exchanges may have been in it."""
        self._store = b""

    def tick(self, now: Instant) -> None:
        """Ask for the exchanges that are still lacking, and begin heals for which there is room."""
        if self._replica.damaged:
            self._start_heals(now)
        if self._identity.state is not State.FORGETFUL or now.monotonic < self._begin_s:
            return
        if self._store != self._identity.store:  # doubt arose, perhaps anew: begin from the start
            self._store, self._since_s = self._identity.store, now.monotonic
        missing = [p for p in self._placement.held_by(self._peers.me) if not self._recovered(p)]
        if not missing:
            self._identity.make_whole()
        for partition in missing:
            done = self._done(partition)
            for other in self._others(partition):
                if other not in done or (self._peers.all[other].whole and not done[other]):
                    self._scheduler.wish(other, partition)

    def progress(self) -> tuple[int, int]:
        """Partitions recovered so far, and all."""
        held = self._placement.held_by(self._peers.me) if self._store else []
        return sum(map(self._recovered, held)), len(held)

    def _others(self, partition: int) -> list[int]:
        return [r for r in self._placement.replicas[partition] if r != self._peers.me]

    def _done(self, partition: int) -> dict[int, bool]:
        """With whom an exchange begun since has ended with a certificate, and whether they were whole."""
        ended = (
            (other, self._scheduler.certified.get((partition, other))) for other in self._others(partition)
        )
        return {other: end[1] for other, end in ended if end is not None and end[0] >= self._since_s}

    def _recovered(self, partition: int) -> bool:
        done = self._done(partition)
        return sum(done.values()) >= self.sources_needed or done.keys() >= set(self._others(partition))

    def _start_heals(self, now: Instant) -> None:
        for row in list(self._replica.damaged)[:HEALS_MAX]:
            others = self._others(row_partition(row))
            due_s = self._noticed_s.setdefault(row, now.monotonic) + self._request_s_max
            if row in self._healing or len(self._healing) >= HEALS_MAX or now.monotonic < due_s:
                continue
            sources = [source for source in others if self._peers.all[source].introduced]
            whole = sum(map(self._peers.alive.__getitem__, others))
            if not sources or (whole < self.sources_needed and len(sources) < len(others)):
                continue
            needed = self.sources_needed if whole >= self.sources_needed else len(others)
            healing = self._healing[row] = _Healing(row, set(others), needed, self._healed)
            for source in sources:
                if needed < len(others) and not self._peers.alive[source]:
                    continue
                request = self._operations.issue(healing)
                self._peers.send(source, Read(request, row, 0, True, False, False), SMALL_BYTES + len(row))
            self._operations.alarm_at(healing.ids[0], now.monotonic + HEAL_S_MAX)

    def _healed(self, healing: _Healing) -> None:
        """The winner of what enough replicas hold replaces the damaged record; if too few have
        answered, it is begun anew."""
        self._operations.drop(healing)
        self._healing.pop(healing.row, None)
        if healing.enough:
            self._noticed_s.pop(healing.row, None)
            if healing.row in self._replica.damaged:
                self._replica.replace_damaged(healing.row, list(healing.replies.values()))
                self._scheduler.metrics.count("records_healed")
