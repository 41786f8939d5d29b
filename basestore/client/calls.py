"""Calls: what the methods of both stores have in common, which is everything but waiting.

A method of a store turns its arguments into a `Call`: how to make the request once a connection has given
it an id, how to read the answer, and how long to wait. The asynchronous store and the blocking one then
differ only in how they carry a call, and each of their methods is a signature and one line:

    return await self._ask(self._calls.increment(key, by, bucket, consistency, ttl, timeout, repeat))

What is wrong with an argument is an InvalidRequest before anything is sent: with a level or a timeout when
the call is made, with a key, a value or a bucket when its request is, so that of many calls at once each
fails for itself.

Pure, but that it draws what writes are known by: no clock, no socket, no event loop. Refuses to know what
carries a call.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from basestore.client.arguments import (
    ADDING,
    TIMEOUT_S_DEFAULT,
    UNCONDITIONAL,
    UNSET,
    Condition,
    Consistency,
    addend_of,
    bucket_of,
    bytes_of,
    condition_of,
    defers_of,
    delete_request,
    get_level_of,
    get_request,
    identity_of,
    key_bytes,
    level_of,
    set_request,
    timeout_ms_of,
    ttl_ms_of,
)
from basestore.client.coordination.transaction import Row, Write
from basestore.consistency import Level
from basestore.errors import InvalidRequest, Overloaded, RequestFailed
from basestore.leases import HOLDER_BYTES, LOCKS
from basestore.protocol.client import Commit, Committed
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Names
from basestore.protocol.limits import VALUE_BYTES_MAX
from basestore.protocol.operator import Counters, Explain, FinishUpgrade, HintsOf, Replay, Status
from basestore.repair.version import PROPOSAL_BYTES, Identity, Version
from basestore.results import moves
from basestore.results.answers import error_of
from basestore.results.cluster_view import SURVEY_MS, Following
from basestore.results.explanation import Explanation
from basestore.results.hints import NodeHints, node_hints
from basestore.results.nodes import NodeState, Upgrade, node_state, upgrade
from basestore.results.readers import fenced_receipt, read_result, receipt
from basestore.results.receipts import ReadResult, Receipt
from basestore.results.topology import (
    ClusterTopology,
    Decided,
    History,
    change_topology,
    cluster_history,
    cluster_topology,
    decided,
    read_history,
    read_topology,
)
from basestore.results.weighing import explanation
from basestore.transport.owner import in_children

if TYPE_CHECKING:
    from basestore.topology.changes import Change
    from basestore.topology.topology import Topology

T = TypeVar("T")
Make = Callable[[int], Message]
Members = Names

GRACE_S = 0.5  # after its time is up, in which a node's word of that may still come
LEFT_S_MIN = 0.05  # for members to answer, when it took long to be told who they are
SLACK_S = 0.01  # that a request may take to be sent, before the node is told of less time
ID_FIRST_MAX = 1 << 30  # ids begin at random below this, so that two owners of a socket never share one
PENDING_MAX = 4096  # requests under way in one store

# Of its own, that no program's `random.seed` makes two clients draw the same, nor a fork.
_RANDOM = random.Random()
in_children(_RANDOM.seed)
chance = _RANDOM.random


class Asking(Protocol):
    """What one caller asks together: so many requests, and how long the call may take."""

    @property
    def asks(self) -> int: ...

    @property
    def timeout_s(self) -> float: ...

    def requests(self, first: int, failed: dict[int, Exception]) -> list[Message]:
        """The requests, in groups or singly, with this id and those that follow; in `failed`, by their ids,
        why some cannot be made. InvalidRequest if that is so of the only one."""


class Call(NamedTuple, Generic[T]):
    """One request to a node, before it is sent.

    make       the request, with the id that the connection gives it; InvalidRequest when a key, a value or
               a bucket is wrong, and nothing is sent then
    read       what the method returns, out of the answer and the names of the cluster's members by their
               numbers; raises the error that the answer stands for
    timeout_s  how long the call may take, connecting included; whoever carries it tells the node what is left
               of that, and waits a little longer for its answer (GRACE_S)
    """

    make: Make
    read: Callable[[Message, Members], T]
    timeout_s: float
    asks: int = 1

    def requests(self, first: int, _: dict[int, Exception]) -> list[Message]:
        """As `Asking.requests`."""
        return [self.make(first)]


class StoreTimeout(float):
    """Seconds; of a call for which nobody has named a timeout."""


class Calls:
    """The calls of one store: arguments in, `Call`s out. A call that names no level or no timeout gets the
    store's."""

    def __init__(self, consistency: Consistency, timeout_s: float | None) -> None:
        self.level = level_of(consistency)
        self.timeout_s = StoreTimeout(TIMEOUT_S_DEFAULT) if timeout_s is None else timeout_s
        self._timeout_ms = timeout_ms_of(self.timeout_s)

    def level_of(self, consistency: Consistency | None) -> Level:
        """Of a call that names this one, or none."""
        return self.level if consistency is None else level_of(consistency)

    def time(self, timeout_s: float | None) -> tuple[float, int]:
        """In seconds, for the client; and in milliseconds, for the node."""
        if timeout_s is None:
            return self.timeout_s, self._timeout_ms
        return timeout_s, timeout_ms_of(timeout_s)

    def set(
        self,
        key: bytes | str,
        value: bytes | str,
        bucket: str,
        consistency: Consistency | None,
        ttl_s: float | None,
        timeout: float | None,
        repeat: Identity | str | None = None,
        defer: bool = False,
        condition: Condition = UNCONDITIONAL,
    ) -> Call[Receipt]:
        level = self.level if consistency is None else level_of(consistency)
        timeout_s, timeout_ms = self.time(timeout)
        identity = _identity(repeat)
        make = partial(
            set_request,
            key,
            value,
            bucket,
            level,
            timeout_ms,
            ttl_s,
            identity,
            repeat is not None,
            defers_of(defer),
            condition,
        )
        return Call(make, partial(_receipt, level, identity), timeout_s)

    def delete(
        self,
        key: bytes | str,
        bucket: str,
        consistency: Consistency | None,
        timeout: float | None,
        repeat: Identity | str | None = None,
        defer: bool = False,
        condition: Condition = UNCONDITIONAL,
    ) -> Call[Receipt]:
        level = self.level if consistency is None else level_of(consistency)
        timeout_s, timeout_ms = self.time(timeout)
        identity = _identity(repeat)
        make = partial(
            delete_request,
            key,
            bucket,
            level,
            timeout_ms,
            identity,
            repeat is not None,
            defers_of(defer),
            condition,
        )
        return Call(make, partial(_receipt, level, identity), timeout_s)

    def increment(
        self,
        key: bytes | str,
        by: int,
        bucket: str,
        consistency: Consistency | None,
        ttl_s: float | None,
        timeout: float | None,
        repeat: Identity | str | None,
    ) -> Call[Receipt]:
        return self.set(key, addend_of(by), bucket, consistency, ttl_s, timeout, repeat, condition=ADDING)

    def get(
        self,
        key: bytes | str,
        bucket: str,
        consistency: Consistency | None,
        timeout: float | None,
        repair: bool = True,
        staleness: bool = False,
        max_staleness: float | None = None,
        degrade: float | None = None,
    ) -> Call[ReadResult]:
        level = get_level_of(consistency, self.level, max_staleness)
        timeout_s, timeout_ms = self.time(timeout)
        make = partial(get_request, key, bucket, level, timeout_ms, repair, staleness, max_staleness, degrade)
        return Call(make, _RESULTS[level], timeout_s)

    def commit(self, rows: Sequence[Row], timeout: float | None) -> Call[list[Version]]:
        """The versions of what was written, in its order."""
        timeout_s, timeout_ms = self.time(timeout)
        buckets, keys, kinds, expected, values, ttls_ms = map(list, zip(*rows, strict=True))
        columns: Any = buckets, keys, kinds, expected, values, ttls_ms
        return Call(lambda request: Commit(request, timeout_ms, *columns), _versions, timeout_s)

    def fenced(self, rows: Sequence[Row], timeout: float | None) -> Call[Receipt]:
        """Of one write, with what it depends on."""
        return Call(self.commit(rows, timeout).make, fenced_receipt, self.time(timeout)[0])

    # --- of locks (`client/coordination/lease.py`) -------------------------------------------------

    def read_lock(self, name: bytes) -> Call[ReadResult]:
        return self.get(name, LOCKS, Level.SERIAL, None)

    def write_lock(self, name: bytes, row: bytes, version: Version | None) -> Call[Receipt]:
        """In the place of this version; None: of nothing."""
        condition = condition_of(UNSET if version is None else version, version is None, UNSET, False)
        return self.set(name, row, LOCKS, Level.SERIAL, None, None, condition=condition)

    def explain(self, key: bytes | str, bucket: str, timeout: float | None) -> Call[Explanation]:
        timeout_s, timeout_ms = self.time(timeout)
        return Call(
            lambda request: Explain(request, bucket_of(bucket), key_bytes(key), timeout_ms),
            lambda answer, members: explanation(answer, bucket, key_bytes(key), members),
            timeout_s,
        )

    def hints(self, replay: bool, late: bool, timeout: float | None = None) -> Call[NodeHints]:
        if late and not replay:
            raise InvalidRequest("late hints are written anew by a replay only; ask for that too")
        return Call(
            lambda request: Replay(request, late) if replay else HintsOf(request), node_hints,
            self.time(timeout)[0],
        )  # fmt: skip

    def status(self, timeout: float | None, as_is: bool = False) -> Call[NodeState]:
        return Call(lambda request: Status(request, as_is), _node_state, self.time(timeout)[0])

    def counters(self, timeout: float | None) -> Call[NodeState]:
        return Call(Counters, _node_state, self.time(timeout)[0])

    def finish_upgrade(self, timeout: float | None) -> Call[Upgrade]:
        return Call(FinishUpgrade, lambda answer, _: upgrade(answer), self.time(timeout)[0])

    def topology(self, mode: str, timeout: float | None) -> Call[ClusterTopology]:
        timeout_s, timeout_ms = self.time(timeout)
        return Call(read_topology(mode, timeout_ms), partial(cluster_topology, mode), timeout_s)

    def topology_history(self, after: int | None, limit: int, timeout: float | None) -> Call[History]:
        timeout_s, timeout_ms = self.time(timeout)
        return Call(read_history(after, limit, timeout_ms), cluster_history, timeout_s)

    def moves(self, timeout: float | None) -> Call[moves.ClusterMoves]:
        timeout_s, timeout_ms = self.time(timeout)
        return Call(moves.read_moves(timeout_ms), moves.cluster_moves, timeout_s)

    def whole_topology(self, timeout: float | None) -> Call["Topology"]:
        timeout_s, timeout_ms = self.time(timeout)
        return Call(read_topology("default", timeout_ms), moves.topology_of, timeout_s)

    def change(self, change: "Change", repeat: Identity | str | None, timeout: float | None) -> Call[Decided]:
        timeout_s, timeout_ms = self.time(timeout)
        identity = _identity(repeat)
        asked = change_topology(change, identity, timeout_ms, again=repeat is not None)
        return Call(asked, partial(decided, identity), timeout_s)


def place_of(bucket: str, key: bytes | str) -> tuple[str, bytes]:
    """A bucket, and a key of it."""
    return bucket_of(bucket), key_bytes(key)


def transacted(value: bytes | str, ttl_s: float | None) -> Write:
    """What a transaction is to write."""
    return Write(bytes_of("value", value, VALUE_BYTES_MAX), ttl_ms_of(ttl_s))


def _identity(repeat: Identity | str | None) -> bytes:
    """What a write is known by from now on: 8 random bytes, or what the one that it repeats was known by."""
    if repeat is None:
        return _RANDOM.getrandbits(8 * PROPOSAL_BYTES).to_bytes(PROPOSAL_BYTES)
    return identity_of(repeat)


def drawn_holder() -> bytes:
    """What whoever holds a lock is known by."""
    return _RANDOM.getrandbits(8 * HOLDER_BYTES).to_bytes(HOLDER_BYTES)


def drawn(count: int) -> list[bytes]:
    """What so many writes are known by."""
    size = PROPOSAL_BYTES * count
    bits = _RANDOM.getrandbits(8 * size).to_bytes(size)
    return [bits[at : at + PROPOSAL_BYTES] for at in range(0, size, PROPOSAL_BYTES)]


def _receipt(level: Level, identity: bytes, answer: Message, members: Members) -> Receipt:
    try:
        return receipt(answer, level, members)
    except RequestFailed as error:
        error.identity = error.identity or Identity.decode(identity)
        raise


def _versions(answer: Message, _: Members) -> list[Version]:
    if not isinstance(answer, Committed):
        raise error_of(answer)
    return [Version.decode(version) for version in answer.versions]


def _result(level: Level, answer: Message, _: Members) -> ReadResult:
    return read_result(answer, level)


_RESULTS = [partial(_result, level) for level in Level]  # levels count from 0


def _node_state(answer: Message, _: Members) -> NodeState:
    return node_state(answer)


def overfull() -> Overloaded:
    """The error when no more requests may wait and be under way in one store."""
    return Overloaded(
        f"overloaded: {PENDING_MAX} requests are under way in this store, and it takes no more at once; "
        f"nothing was sent. Wait for some of them, or share the work among several stores"
    )


def survey_call(survey: Following[T], sent_s: float) -> Call[None]:
    """The next page of a survey, sent at this moment of the client's clock."""
    timeout_s = StoreTimeout(min(SURVEY_MS / 1e3, survey.left_s(sent_s)))
    return Call(survey.request, lambda answer, members: survey.hear(answer, members, sent_s), timeout_s)


def fitted(
    requests: list[Message], timeout_s: float, timeout_s_max: float, deadline: float, now: float
) -> tuple[list[Message], float]:
    """The requests of a call as they are sent now, and its deadline. A node is told no more than is left.
    Where the cluster takes none that may last so long, who asked for no time gets what there is, and who did
    an InvalidRequest."""
    if timeout_s > timeout_s_max:
        if not isinstance(timeout_s, StoreTimeout):
            raise InvalidRequest(
                f"the timeout of {timeout_s:g} s is too long: this cluster takes at most {timeout_s_max:g} s "
                f"(timeout_ms_max)"
            )
        deadline = min(deadline, now + timeout_s_max)
    elif deadline - now >= timeout_s - SLACK_S:
        return requests, deadline
    left_ms = max(1, int((deadline - now) * 1e3))
    return [
        request._replace(timeout_ms=left_ms) if getattr(request, "timeout_ms", 0) > left_ms else request
        for request in requests
    ], deadline
