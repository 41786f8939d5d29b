"""Batches: what this node does for atomic batches: it writes those that its clients ask it to (`writing.py`),
holds the parts of its partitions (`parts.py`), and goes on with those that were left.

A part that lies for long is of a batch whose coordinator has died, or cannot reach all that it must. Whoever
holds it goes on with it: first the first replica of the batch's first partition that is alive, then, as long
as it still lies, the others, each a little later. Who does not succeed tries again, more and more rarely.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Any, Final

from basestore.anti_entropy.certificates import Certificates
from basestore.batches.admission import Admitted, admit
from basestore.batches.course import Course, End, How
from basestore.batches.part import Malformed, Part
from basestore.batches.parts import Entry, Parts
from basestore.batches.writing import Stored, Writing, doubting
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.coordinator.context import Context, park, refuse
from basestore.errors import DamagedRecord, InvalidRequest, Overloaded, RequestFailed
from basestore.instant import Instant
from basestore.metrics import FAILURES
from basestore.protocol.client import BatchWritten, WriteBatch
from basestore.protocol.groups import REFUSE
from basestore.repair.clock import NotYet
from basestore.replica.admission import Admission
from basestore.replica.replica import Replica
from basestore.rows import row_partition

BATCHES_MAX: Final = 256
LEFT_S: Final = 5.0
STEP_S: Final = 1.0  # between who goes on first, and the next
AGAIN_S_MAX: Final = 30.0
EVERY_S: Final = 0.25
BUSY_MAX: Final = 16
LOOKED_MAX: Final = 256
CROWDED: Final = (
    f"overloaded: this node has {BATCHES_MAX} atomic batches under way; nothing was done. Try again later"
)


class Batches:
    """Of one node. `open`: those of its clients that are under way."""

    def __init__(
        self, context: Context, replica: Replica, admission: Admission, certificates: Certificates
    ) -> None:
        self._context = context

        def voucher(partition: int, store: bytes) -> bool:
            replicas = context.placement.replicas[partition]
            return any(certificates.store(each) == store for each in replicas)

        me = context.peers.me
        self.parts = Parts(replica, context.group_commit, admission, voucher, lambda: certificates.store(me))
        self.open: dict[Writing, None] = {}
        self._busy: set[bytes] = set()
        self._tries: dict[bytes, tuple[int, float]] = {}  # of a row: how often, and when again
        self._due_s = 0.0
        self.handlers = self.parts.handlers
        admission.handlers.update(self.handlers)  # what it has held back goes on there
        self.requests: Mapping[type, Callable[[Outbox, Any, Instant], None]] = {WriteBatch: self.write}

    @property
    def count(self) -> int:
        """How many parts lie in this store, of batches that are not over as far as it knows."""
        return len(self.parts.rows)

    def oldest_ms(self, now: Instant) -> int | None:
        """For how long the one that came first does, in this opening."""
        entry = next(iter(self.parts.rows.values()), None)
        return (
            None if entry is None else max(0, int((now.monotonic - (entry.since_s or now.monotonic)) * 1e3))
        )

    # --- what clients ask ------------------------------------------------------------------------

    def write(self, outbox: Outbox, request: WriteBatch, now: Instant) -> None:
        """Begin it, or refuse it: then nothing was done."""
        try:
            if len(self.open) >= BATCHES_MAX:
                raise Overloaded(CROWDED)
            admitted = admit(self._context, request, now)
        except (InvalidRequest, RequestFailed) as error:  # which says nothing of an earlier attempt
            self._refuse(outbox, request, doubting(request, error) if request.repeats else error)
            return
        self._begin(outbox, request, admitted, now.monotonic, now)

    def _begin(
        self, outbox: Outbox, request: WriteBatch, admitted: Admitted, begun_s: float, now: Instant
    ) -> None:
        """Once this clock may stamp; it waits for that no longer than it may last."""
        deadline = begun_s + request.timeout_ms / 1e3

        def report(result: Stored | InvalidRequest | RequestFailed, now: Instant) -> None:
            self.open.pop(writing, None)
            self._answer(outbox, request, admitted, begun_s, result, now)

        writing = Writing(self._context, admitted, deadline, report)
        try:
            (writing.repeat if admitted.repeats else writing.begin)(now)
        except NotYet:  # of a repetition nothing is stamped, so it never waits
            again = partial(self._begin, outbox, request, admitted, begun_s)
            park(self._context, admitted.size, deadline, again, partial(self._late, outbox, request))
        except (InvalidRequest, RequestFailed) as error:
            self._refuse(outbox, request, error)
        else:
            if writing.ids:
                self.open[writing] = None

    def _answer(
        self, outbox: Outbox, request: WriteBatch, admitted: Admitted, begun_s: float,
        result: Stored | InvalidRequest | RequestFailed, now: Instant,
    ) -> None:  # fmt: skip
        metrics, seconds = self._context.metrics, now.monotonic - begun_s
        if not isinstance(result, Stored):
            metrics.answered("batch", admitted.level, FAILURES[result.code], seconds)
            refuse(self._context, outbox, request.id, result)
            return
        metrics.answered("batch", admitted.level, "stored", seconds)
        count, quorums = len(admitted.contents), self._context.placement.quorums
        versions, partitions, required = [b""] * count, [0] * count, [0] * count
        for place, content, version in zip(admitted.places, admitted.contents, result.versions, strict=True):
            versions[place], partitions[place] = version, row_partition(content.row)
            required[place] = quorums[partitions[place]][admitted.level].required
        answer = BatchWritten(request.id, result.identity.encode(), versions, partitions, required)
        outbox.put(answer, SMALL_BYTES + 48 * count)

    def _late(self, outbox: Outbox, request: WriteBatch, error: Overloaded, now: Instant) -> None:
        self._refuse(outbox, request, error)

    def _refuse(self, outbox: Outbox, request: WriteBatch, error: InvalidRequest | RequestFailed) -> None:
        self._context.metrics.refused("batch", request.level, error.code)
        refuse(self._context, outbox, request.id, error)

    # --- what was left ---------------------------------------------------------------------------

    def tick(self, now: Instant) -> None:
        """Nothing is stalled."""
        self.parts.now_s = now.monotonic
        if now.monotonic < self._due_s or not self._context.operations.idle:
            return
        self._due_s = now.monotonic + EVERY_S
        for row, entry in list(islice(self.parts.rows.items(), LOOKED_MAX)):
            entry.since_s = entry.since_s or now.monotonic  # of an earlier opening
            if now.monotonic < entry.since_s + LEFT_S:
                continue
            if row not in self._busy and len(self._busy) < BUSY_MAX:
                self._see_to(row, entry, now)
        if (
            len(self.parts.rows) > LOOKED_MAX
        ):  # those that could not be brought to an end make room for others
            self._turn()
        self._tries = {row: tries for row, tries in self._tries.items() if row in self.parts.rows}

    def _turn(self) -> None:
        rows = self.parts.rows
        for row in list(islice(rows, LOOKED_MAX)):
            rows[row] = rows.pop(row)

    def _see_to(self, row: bytes, entry: Entry, now: Instant) -> None:
        try:
            record = self.parts.held(row)
            part = Part.of(row, record) if record is not None else None
        except (DamagedRecord, Malformed):
            return  # it is healed, or nobody can go on with it
        if record is None or part is None:
            return
        known = part.known(row, record)
        tries, due_s = self._tries.get(row, (0, entry.since_s + LEFT_S + self._rank(row, part) * STEP_S))
        if now.monotonic < due_s:
            return
        self._tries[row] = tries + 1, now.monotonic + min(AGAIN_S_MAX, LEFT_S * 2**tries)
        self._busy.add(row)
        self._context.metrics.count("batches_left")
        Course(self._context, known).bring(partial(self._brought, row), now, first=REFUSE)

    def _rank(self, row: bytes, part: Part) -> int:
        """How many of those that may hold a part of the batch go on with it before this node does."""
        peers, partition = self._context.peers, row_partition(row)
        alive = [each for each in self._context.placement.replicas[partition] if peers.alive[each]]
        before = alive.index(peers.me) if peers.me in alive else len(alive)
        return before + (len(alive) if partition != part.partitions[0] else 0)

    def _brought(self, row: bytes, end: End, now: Instant) -> None:
        self._busy.discard(row)
        if end.how is not How.NOT_YET and row in self._tries:  # only its tombstones are to come
            self._tries[row] = 0, now.monotonic + LEFT_S
