"""Recovery: how a forgetful node gets back what it may have lost.

Every partition that the node holds is streamed from other replicas of it, page by page, and taken
over by the rule. A partition is recovered after N - Q + 1 whole replicas (every write that a quorum
ever acknowledged is on one of them), or after all others, whatever their state: what none of them
has is nowhere. When all partitions are recovered, and that is durable, the store is whole.

Single damaged rows are healed by the same counts: read from other replicas, and replaced.
Nothing of this begins before every request has ended that may count on an answer of the store's
former life: a write acknowledged by a replica that then forgot it, recovered from others that the
write had not reached yet, and was counted beside one of these, would be on too few.

Streams restart with the node; nothing is remembered of them.
"""

from collections.abc import Iterable

from basestore.messages import PAGE_ROWS_MAX, Read, ReadRange, Rejected
from basestore.operation import Operation, Operations
from basestore.outbox import SMALL_BYTES
from basestore.peers import Instant, Peers
from basestore.placement import Placement, row_partition
from basestore.replica import Replica
from basestore.standing import Standing, State
from repair.version import Record

STREAMS_MAX = 8
PAGE_S_MAX = 5.0
PAUSE_S = 1.0
HEALS_MAX = 64


class _Stream(Operation):
    """One partition from one other replica."""

    __slots__ = ("_recovery", "after", "begun_whole", "partition", "source")

    def __init__(self, recovery: "Recovery", partition: int, source: int, begun_whole: bool) -> None:
        super().__init__(0)
        self._recovery = recovery
        self.partition = partition
        self.source = source
        self.begun_whole = begun_whole
        self.after = b""

    def ranged(self, member: int, request: int, rows: list[bytes], more: bool, now: Instant) -> None:
        self._recovery.take_page(self, request, rows, more, now)

    def rejected(self, member: int, request: int, answer: Rejected, now: Instant) -> None:
        self._recovery.pause(self, now)

    def lost(self, member: int, now: Instant) -> None:
        if member == self.source:
            self._recovery.pause(self, now)

    def alarm(self, now: Instant) -> None:
        self._recovery.pause(self, now)


class _Healing(Operation):
    """One damaged row, read from other replicas."""

    __slots__ = ("_others", "_recovery", "needed", "replies", "row", "silent")

    def __init__(self, recovery: "Recovery", row: bytes, others: set[int], needed: int) -> None:
        super().__init__(0)
        self._recovery = recovery
        self._others = others
        self.row = row
        self.needed = needed
        self.replies: dict[int, Record | None] = {}
        self.silent: set[int] = set()  # those whose own record is damaged: they can say no more

    def held(self, member: int, request: int, record: Record | None, now: Instant) -> None:
        if member in self._others:
            self.replies[member] = record
            self._consider()

    def rejected(self, member: int, request: int, answer: Rejected, now: Instant) -> None:
        if not answer.passing:
            self.silent.add(member)
            self._consider()

    def _consider(self) -> None:
        """Enough whole replicas have answered; or all others have answered or are damaged themselves,
        and one at least has answered."""
        if len(self.replies) >= self.needed or (
            self.replies and self.replies.keys() | self.silent >= self._others
        ):
            self._recovery.heal(self)

    def alarm(self, now: Instant) -> None:
        self._recovery.give_up(self)


class Recovery:
    """Streams for a forgetful store, and healing of damaged rows, for one node."""

    def __init__(
        self,
        standing: Standing,
        replica: Replica,
        placement: Placement,
        peers: Peers,
        operations: Operations,
        request_s_max: float,
        now: Instant,
    ) -> None:
        """`request_s_max`: how long requests last at most."""
        self._request_s_max = request_s_max
        self._begin_s = now.monotonic + request_s_max  # then those of the store's former life have ended
        self._standing = standing
        self._replica = replica
        self._placement = placement
        self._peers = peers
        self._operations = operations
        self.sources_needed = placement.meeting_quorum
        self._done: dict[int, dict[int, bool]] = {}
        self._streams: dict[tuple[int, int], _Stream] = {}
        self._healing: dict[bytes, _Healing] = {}
        self._store = b""
        self._resume_s: dict[tuple[int, int], float] = {}
        self._noticed_s: dict[bytes, float] = {}

    def restart(self) -> None:
        """Begin anew: a batch was not taken, and what came in streams may have been in it."""
        self._store = b""

    def tick(self, now: Instant) -> None:
        """Start streams and heals for which there is room."""
        if self._replica.damaged:
            self._start_heals(now)
        if self._standing.state is not State.FORGETFUL or now.monotonic < self._begin_s:
            return
        if self._store != self._standing.store:  # doubt arose, perhaps anew: begin from the start
            self._store = self._standing.store
            for stream in list(self._streams.values()):
                self.abandon(stream)
            self._done = {partition: {} for partition in self._placement.held_by(self._peers.me)}
        missing = [partition for partition in self._done if not self._recovered(partition)]
        if not missing:
            self._standing.make_whole()
            return
        self._start_streams(missing, now)

    def progress(self) -> tuple[int, int]:
        """Partitions recovered so far, and all."""
        return sum(map(self._recovered, self._done)), len(self._done)

    def _others(self, partition: int) -> list[int]:
        return [r for r in self._placement.replicas[partition] if r != self._peers.me]

    def _recovered(self, partition: int) -> bool:
        done = self._done[partition]
        return sum(done.values()) >= self.sources_needed or done.keys() >= set(self._others(partition))

    def _start_streams(self, missing: Iterable[int], now: Instant) -> None:
        for partition in missing:
            for source in self._others(partition):
                if len(self._streams) >= STREAMS_MAX:
                    return
                peer = self._peers.all[source]
                done = self._done[partition].get(source)
                wanted = done is None or (peer.whole and not done)
                if (partition, source) in self._streams or not (wanted and peer.introduced):
                    continue
                if now.monotonic >= self._resume_s.get((partition, source), 0.0):
                    stream = _Stream(self, partition, source, peer.whole)
                    self._streams[partition, source] = stream
                    self._ask(stream, now)

    def _ask(self, stream: _Stream, now: Instant) -> None:
        request = self._operations.issue(stream)
        self._operations.alarm_at(request, now.monotonic + PAGE_S_MAX)
        message = ReadRange(request, [stream.partition], b"", b"", stream.after, PAGE_ROWS_MAX, 0)
        if not self._peers.send(stream.source, message, SMALL_BYTES + len(stream.after)):
            self.abandon(stream)

    def take_page(self, stream: _Stream, request: int, rows: list[bytes], more: bool, now: Instant) -> None:
        """A page came: take its records over, and ask for the next."""
        if request != stream.ids[-1]:
            return
        self._operations.drop(stream)
        for row, blob in zip(rows[::2], rows[1::2], strict=True):
            self._replica.take_over(row, Record(blob))
        if more:
            stream.after = rows[-2]
            self._ask(stream, now)
            return
        del self._streams[stream.partition, stream.source]
        self._done[stream.partition][stream.source] = stream.begun_whole

    def pause(self, stream: _Stream, now: Instant) -> None:
        """The source refused or is gone; `tick` begins the stream anew after a while."""
        self._resume_s[stream.partition, stream.source] = now.monotonic + PAUSE_S
        self.abandon(stream)

    def abandon(self, stream: _Stream) -> None:
        """It does not go on; `tick` begins it anew."""
        self._operations.drop(stream)
        self._streams.pop((stream.partition, stream.source), None)

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
            healing = self._healing[row] = _Healing(self, row, set(others), needed)
            for source in sources:
                if needed < len(others) and not self._peers.alive[source]:
                    continue
                request = self._operations.issue(healing)
                self._peers.send(source, Read(request, row, 0, True, False), SMALL_BYTES + len(row))
            self._operations.alarm_at(healing.ids[0], now.monotonic + PAGE_S_MAX)

    def heal(self, healing: _Healing) -> None:
        """Enough replicas have said what they hold: the winner replaces the damaged record."""
        self.give_up(healing)
        self._noticed_s.pop(healing.row, None)
        if healing.row in self._replica.damaged:
            self._replica.replace_damaged(healing.row, list(healing.replies.values()))

    def give_up(self, healing: _Healing) -> None:
        """It has ended, or is to be begun anew."""
        self._operations.drop(healing)
        self._healing.pop(healing.row, None)
