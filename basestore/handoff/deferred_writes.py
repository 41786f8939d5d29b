"""Deferred writes: what a node that is overloaded keeps now, and delivers when it has the time.

A client that asks for it (`defer`) at ANY is not turned away by a node that would shed its write, or a limit
of which is in the way (`intake/clipping.py`). The node stamps it, stores it as hints for all of its replicas,
in one batch, and answers once that is durable: *deferred*. No member is asked, so it costs one sync, and that
is shared.

    set k=1, defer     hints for n1, n2, n3: only copies, all of one batch; deferred, once that is synced
    n1 has taken it    the hints for n2 and n3 are copies from now on (`Hints.taken`)
    all have it        nothing is left of it here; `converged` of its receipt proves it to be everywhere

To itself, if it is a replica, the node keeps a hint like any other: its record comes in by the same door,
and in its turn, so a read at ONE here shows it no earlier than one elsewhere may. Delivery is that of all
hints: the oldest first, at the pace that is left beside requests. What is deferred is an only copy, of which
closed stamps keep clear, and never ages, until a member has taken it.

The intake, which decides that the node is overloaded, hands on what it would shed (`defer_all`). Refused are,
before anything is done, writes in buckets where the first write wins, at other levels than ANY, and at nodes
whose durability is not `sync` (`coordinator/admission.py`); what would take more than `deferred_bytes_max`;
all while this store does not count, for it could be lost and nobody would notice, and before the cluster's
feature level says that no member is started again with a release that would take such a hint for another
(`cluster/feature_level.py`). Whoever is refused so is told when to try again, as if the write had been shed.

A write that is repeated without its version is looked for here, and otherwise refused: to look elsewhere is
no work for a node that has too much of it. One that is so old that replicas may take it as new no more would
be delivered nowhere: it is deferred again only while this node keeps it yet. Otherwise its client is told
that it may have happened, as by a node that begins it.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

from basestore.cluster.operations import Operation
from basestore.cluster.outbox import Outbox
from basestore.consistency import HINTED, Level
from basestore.coordinator.admission import CROWDED, DEFERRED_SINCE, admit_write
from basestore.coordinator.attempts import OTHER_CONTENT, Content, Repeated
from basestore.coordinator.context import Context, refuse
from basestore.coordinator.coordinator import OPERATIONS
from basestore.errors import (
    ClockSkew,
    InvalidRequest,
    Overloaded,
    ReplicaFailure,
    RequestFailed,
    WriteTimeout,
)
from basestore.handoff.hints import Hints
from basestore.instant import Instant
from basestore.protocol.client import OUTCOME_DEFERRED, Delete, Set, Written
from basestore.protocol.groups import singly
from basestore.repair.clock import NotYet
from basestore.repair.version import Identity, Record
from basestore.replica.identity import StoreIdentity
from basestore.rows import row_partition

_STATE = int(HINTED)
_NOT_HERE = (
    "overloaded: this node cannot look now for the write that is repeated, of which no version is known; "
    "nothing was done. Repeat it later, or at another node"
)
_NOT_WHOLE = (
    "overloaded: and this node's store is not known to be whole yet (`basestore status`), so it defers no "
    "writes; nothing was done. Try again later, or at another node"
)


class DeferredWrites:
    """Of one node."""

    def __init__(self, hints: Hints, context: Context, open_ms: int, identity: StoreIdentity) -> None:
        """`open_ms`: how old a write may be that no replica has."""
        self._hints = hints
        self._context = context
        self._open_ms = open_ms
        self._identity = identity

    def may_defer(self, outbox: Outbox, request: Set | Delete) -> bool:
        """Whether it asks for that; or its bucket has it so (`defer = "when-busy"`), it can be told, and the
        cluster is ready for it."""
        if request.defer:
            return True
        options, level = self._context.options.get(request.bucket), self._context.feature_level.level
        wanted = options is not None and options.defer and request.level == Level.ANY
        return wanted and min(outbox.version, level) >= DEFERRED_SINCE

    def defer_all(self, outbox: Outbox, requests: Iterable[Any], now: Instant) -> int:
        """What would be shed: kept as far as it may be deferred, and otherwise refused; how many were."""
        refused = 0
        for request in singly(requests):
            if self.may_defer(outbox, request):
                self.defer(outbox, request, now)
            else:
                refused += 1
                self.refuse(outbox, request, Overloaded(CROWDED))
        return refused

    def defer(self, outbox: Outbox, request: Set | Delete, now: Instant, because: str = "") -> None:
        """Keep a write, instead of beginning it, and answer it. `because`: of which limit, if of one."""
        try:
            _, content, repeated = admit_write(self._context, request, now, deferred=True)
            record = self._earlier(content, repeated)
            if record is not None:
                self._check_open(content, record, now)
        except (InvalidRequest, RequestFailed) as error:
            self.refuse(outbox, request, error)
            return
        _Deferral(self._context, self, outbox, request, content, because).begin(record, now)

    def _earlier(self, content: Content, repeated: Repeated | None) -> Record | None:
        """The record of an earlier attempt, if this is another one."""
        if repeated is None or repeated.record is not None:
            return repeated and repeated.record
        found = self._hints.deferred_before(content.row, content.proposal)
        if found is None:
            raise Overloaded(_NOT_HERE)
        if not content.left(found, self._context.digester):
            raise InvalidRequest(OTHER_CONTENT)
        return found

    def _check_open(self, content: Content, record: Record, now: Instant) -> None:
        """ReplicaFailure when replicas may take an earlier attempt no more, and this node has none of it."""
        peers = self._context.peers
        age_ms = peers.clock.about_ms(now) - record.version.wall_ms
        if age_ms <= self._open_ms or self._hints.deliverable(content.row, record):
            return
        identity = Identity.of(content.proposal, record.blob)
        raise ReplicaFailure(
            f"failed: the write that is repeated is {age_ms} ms old, too old to be deferred, for replicas "
            f"take no write as new that comes as late as that. It may have happened, or may yet: repeat it "
            f"as {identity} when this node is not overloaded, or read",
            {peers.all[peers.me].name: "the write comes too late to be deferred"},
            identity,
        )

    def keep(self, request: Set | Delete, content: Content, record: Record) -> Written:
        """Stage hints of it for all its replicas; Overloaded where there is no room, InvalidRequest where its
        bucket was dropped. Returns what may be said once they are durable."""
        context, partition, identity = self._context, row_partition(content.row), self._identity
        if not identity.counts:
            raise Overloaded(_NOT_WHOLE)
        replicas = context.placement.quorums[partition][Level.ANY].replicas
        self._hints.defer(content.row, record, replicas)
        states = [number for each in replicas for number in (context.peers.number_of[each], _STATE)]
        known_by = Identity.of(content.proposal, record.blob).encode()
        return Written(
            request.id, OUTCOME_DEFERRED, 0, known_by, 1, 0, states, b"", partition, identity.store
        )

    def refuse(self, outbox: Outbox, request: Any, error: InvalidRequest | RequestFailed) -> None:
        """Say that it was neither begun nor kept, or that this is not known."""
        if (counted := OPERATIONS.get(type(request))) is not None:
            self._context.metrics.refused(counted, request.level, error.code)
        refuse(self._context, outbox, request.id, error)


class _Deferral(Operation):
    """One write: stamped, perhaps after a while, then kept, and answered once that is durable."""

    __slots__ = ("_because", "_content", "_context", "_outbox", "_owner", "_request", "_told")

    def __init__(
        self, context: Context, owner: DeferredWrites, outbox: Outbox, request: Set | Delete,
        content: Content, because: str,
    ) -> None:  # fmt: skip
        super().__init__(len(content.row) + len(content.value))
        self._context = context
        self._owner = owner
        self._outbox = outbox
        self._request = request
        self._content = content
        self._because = because
        self._told: Written | None = None  # what is to be said

    def begin(self, record: Record | None, now: Instant) -> None:
        """Keep it; `record`: of an earlier attempt."""
        context, content = self._context, self._content
        first, new = not self.ids, record is None
        if first:
            deadline = now.monotonic + self._request.timeout_ms / 1e3
            context.operations.alarm_at(context.operations.issue(self), deadline)
        try:
            record = record or context.stamper.record(context.digester, content, now)
        except NotYet:
            # Nothing of it is kept: it takes room of what is under way, and has to leave as much for others.
            if first and not context.operations.has_room_for_group(0, 0):
                self._end(Overloaded(CROWDED))
            else:
                context.stamper.park(self, partial(self.begin, None))
            return
        except ClockSkew as error:
            self._end(error)
            return
        try:
            told = self._owner.keep(self._request, content, record)
            self._told = told._replace(because=self._because)
        except (InvalidRequest, Overloaded) as error:
            if new:  # it was given to nothing: who is refused leaves no gap in the numbers
                context.stamper.take_back(content.row)
            self._end(error)
        else:
            # Whatever the setting: these hints are all that there is.
            context.group_commit.when_durable(self._durable)

    def _durable(self) -> None:
        if self.ids and self._told is not None:  # else its time was up before
            self._context.metrics.deferred(OPERATIONS[type(self._request)])
            self._outbox.put(self._told)
            self._context.operations.drop(self)

    def alarm(self, now: Instant) -> None:
        if self._told is None:
            self._end(self._context.stamper.timed_out(self, now))
            return
        identity = Identity.decode(self._told.identity)
        text = (
            f"timeout: the write is kept, to be done later, but the disk has not said in time that "
            f"this is durable; it may happen. Repeat it as {identity} (it is then the same write), or read"
        )
        self._end(WriteTimeout(text, 0, 1, identity))

    def _end(self, error: InvalidRequest | RequestFailed) -> None:
        self._owner.refuse(self._outbox, self._request, error)
        self._context.operations.drop(self)
