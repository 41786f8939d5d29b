"""The blocking store: the calls of `Store`, for programs without an event loop.

A method is its signature and one line, as there. One connection, one caller at a time
(`blocking_channel.py`): other threads wait for their turn; `set_many` and its kin send many requests before
they wait. Beside the calls of `Store` it has two that ask every member, each over a connection of its own:
`status` and `hints`. It repeats nothing by itself, and imports neither Trio nor anyio.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from types import TracebackType
from typing import Self, TypeVar

from basestore.client.arguments import (
    TIMEOUT_S_DEFAULT,
    Consistency,
    check_endpoints,
    patience,
    prefix_bytes,
    scope_of,
)
from basestore.client.blocking_channel import Channel, SessionChannel
from basestore.client.calls import Call, Calls, survey_call
from basestore.client.session import KEYS_MAX_DEFAULT, Session, revised
from basestore.errors import BasestoreError, InvalidRequest, RequestFailed, Unreachable
from basestore.results.cluster_view import Following
from basestore.results.convergence import CONVERGED_S, Convergence, Proving
from basestore.results.explanation import Explanation
from basestore.results.hints import NodeHints
from basestore.results.nodes import NodeState, down
from basestore.results.receipts import Item, ReadResult, Receipt
from basestore.results.repair import REPAIR_S, Repair, Repairing
from repair.version import Version

MANY_MAX = 256  # requests that are sent before the first answer is read

T = TypeVar("T")


class SyncStore:
    """Keys and values of a cluster, blocking. `Store` documents the calls; these are the same."""

    def __init__(self, channel: Channel | SessionChannel, consistency: Consistency, timeout: float) -> None:
        self._channel = channel
        self._calls = Calls(consistency, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The store is not used afterwards."""
        self._channel.close()

    def _ask(self, call: Call[T]) -> T:
        answer = self._channel.ask([call.make], call.timeout_s)[0]
        if isinstance(answer, BasestoreError):
            raise answer
        return call.read(answer, self._channel.members)

    def set(
        self,
        key: bytes | str,
        value: bytes | str,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        version: Version | str | None = None,
    ) -> Receipt:
        """Write a value. `ttl` in seconds; `version` repeats a write that timed out, as itself."""
        return self._ask(self._calls.set(key, value, bucket, consistency, ttl, timeout, version))

    def delete(
        self,
        key: bytes | str,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        version: Version | str | None = None,
    ) -> Receipt:
        """Delete a key. Deleting a key that is not there is no error."""
        return self._ask(self._calls.delete(key, bucket, consistency, timeout, version))

    def get(
        self,
        key: bytes | str,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        repair: bool = True,
        staleness: bool = False,
        max_staleness: float | None = None,
    ) -> ReadResult:
        """Read a value. A missing key is a result with `found` false. `Store.get` says what the arguments
        are."""
        return self._ask(self._calls.get(key, bucket, consistency, timeout, repair, staleness, max_staleness))

    def set_many(
        self,
        items: Iterable[tuple[bytes | str, bytes | str]],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> list[Receipt | BasestoreError]:
        """Write many values, each for itself, as `Store.set_many`."""
        return self._many(
            [self._calls.set(key, value, bucket, consistency, ttl, timeout) for key, value in items]
        )

    def delete_many(
        self,
        keys: Iterable[bytes | str],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
    ) -> list[Receipt | BasestoreError]:
        """Delete many keys, each for itself, as `Store.delete_many`."""
        return self._many([self._calls.delete(key, bucket, consistency, timeout) for key in keys])

    def get_many(
        self,
        keys: Iterable[bytes | str],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        repair: bool = True,
    ) -> list[ReadResult | BasestoreError]:
        """Read many keys, each for itself, as `Store.get_many`."""
        return self._many([self._calls.get(key, bucket, consistency, timeout, repair) for key in keys])

    def _many(self, calls: Sequence[Call[T]]) -> list[T | BasestoreError]:
        results: list[T | BasestoreError] = []
        for start in range(0, len(calls), MANY_MAX):
            chunk = calls[start : start + MANY_MAX]
            try:
                # All calls of one method have the same timeout.
                answers = self._channel.ask([call.make for call in chunk], chunk[0].timeout_s)
            except Unreachable as error:
                results += [error] * len(chunk)
                continue
            for call, answer in zip(chunk, answers, strict=True):
                try:
                    results.append(
                        answer
                        if isinstance(answer, BasestoreError)
                        else call.read(answer, self._channel.members)
                    )
                except (InvalidRequest, RequestFailed) as error:
                    results.append(error)
        return results

    def scan(
        self,
        prefix: bytes | str = b"",
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        limit: int | None = None,
        after: bytes | str = b"",
    ) -> Iterator[Item]:
        """The keys that start with `prefix`, in bytewise order, with their values."""
        cursor = self._calls.scan(prefix, bucket, consistency, timeout, limit, after)
        try:
            while not cursor.ended:
                for item in self._ask(cursor.page()):
                    yield cursor.show(item)
        except BasestoreError as error:
            cursor.name(error)
            raise

    @contextmanager
    def session(self, *tokens: str, keys_max: int = KEYS_MAX_DEFAULT) -> Iterator["SyncSession"]:
        """A session, for the length of a `with` block; `Store.session` says what it promises, and
        what the arguments are."""
        welcome = self._channel.welcome()
        seen = Session(welcome.cluster, welcome.rules, keys_max)
        for token in tokens:
            seen.merge(token)
        channel = SessionChannel(self._channel, seen)
        try:
            yield SyncSession(channel, seen, self._calls.level, self._calls.timeout_s)
        finally:
            channel.close()

    def cluster_id(self) -> str:
        """Which cluster this is, in hexadecimal digits; Unreachable."""
        return self._channel.welcome().cluster.hex()

    def _members(self) -> list[tuple[str, str]]:
        """Names and endpoints of the cluster's members; Unreachable."""
        return [(member.name, member.address) for member in self._channel.welcome().members]

    def explain(
        self, key: bytes | str, *, bucket: str = "default", timeout: float | None = None
    ) -> Explanation:
        """Why a key has the value it has, as `Store.explain`."""
        return self._ask(self._calls.explain(key, bucket, timeout))

    def converged(
        self,
        *,
        timeout: float = CONVERGED_S,
        key: bytes | str | None = None,
        bucket: str = "default",
        receipt: Receipt | None = None,
    ) -> Convergence:
        """Wait until it is proven that all that was written before this call is on all replicas, for good;
        true if it is. `Store.converged` says of what."""
        return self._follow(Proving(scope_of(bucket, key), receipt, patience(timeout), monotonic()))

    def repair(
        self,
        *,
        timeout: float = REPAIR_S,
        partition: int | None = None,
        full: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Repair:
        """Let all replicas compare what they hold, now; `Store.repair` says how."""
        scope = scope_of("default", None, partition)
        return self._follow(Repairing(scope, full, patience(timeout), monotonic()), progress)

    def _follow(self, survey: Following[T], progress: Callable[[int, int], None] | None = None) -> T:
        """Ask until there is a result. A node that goes meanwhile is no reason to stop."""
        while (result := survey.result(monotonic())) is None:
            try:
                self._ask(survey_call(survey, monotonic()))
            except (RequestFailed, Unreachable) as error:
                survey.miss(error)
            if progress is not None:
                progress(*survey.progress)
            sleep(survey.pause_s)
        return result

    def node_hints(self, *, replay: bool = False, late: bool = False) -> NodeHints:
        """The hints that the node this store talks to keeps. `replay` and `late` as in `Store.node_hints`."""
        return self._ask(self._calls.hints(replay, late))

    def hints(self, *, replay: bool = False, late: bool = False, node: str | None = None) -> list[NodeHints]:
        """The hints of every member of the cluster, or of the one called `node`, as `node_hints`; those
        that do not answer say why. InvalidRequest when no member is called so."""
        members = self._members()
        names = [name for name, _ in members]
        if node is not None and node not in names:
            raise InvalidRequest(f"no node is called {node!r}; this cluster has {', '.join(names)}")
        return self._each(
            [member for member in members if node is None or member[0] == node],
            lambda store: store.node_hints(replay=replay, late=late),
            lambda name, _, why: NodeHints(name, None, (), why),
        )

    def node_counters(self) -> NodeState:
        """`node_status` with further facts: all that the node has counted, by the names of `metrics`."""
        return self._ask(self._calls.counters())

    def node_status(self) -> NodeState:
        """What the node that this store talks to says of itself."""
        return self._ask(self._calls.status())

    def status(self) -> list[NodeState]:
        """Every member of the cluster, in its order; those that do not answer are `down`."""
        return self._each(self._members(), SyncStore.node_status, down)

    def _each(
        self,
        members: Sequence[tuple[str, str]],
        ask: Callable[["SyncStore"], T],
        silent: Callable[[str, str, str], T],
    ) -> list[T]:
        """What each of these members answers; of one that does not, what `silent` makes of its name, its
        endpoint and the reason."""
        told = []
        for name, endpoint in members:
            try:
                level, timeout_s = self._calls.level, self._calls.timeout_s
                with connect(endpoint, consistency=level, timeout=timeout_s) as store:
                    told.append(ask(store))
            except (Unreachable, RequestFailed) as error:
                told.append(silent(name, endpoint, _silence(error)))
        return told


class SyncSession(SyncStore):
    """A store whose calls keep the promises of one session. Any number of threads may use it."""

    def __init__(
        self, channel: SessionChannel, seen: Session, consistency: Consistency, timeout: float
    ) -> None:
        super().__init__(channel, consistency, timeout)
        self._seen = seen
        self._lock = channel.lock

    @property
    def token(self) -> str:
        """As `StoreSession.token`."""
        with self._lock:
            return self._seen.token

    def merge(self, token: str) -> None:
        """As `StoreSession.merge`."""
        with self._lock:
            self._seen.merge(token)

    def scan(
        self,
        prefix: bytes | str = b"",
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        limit: int | None = None,
        after: bytes | str = b"",
    ) -> Iterator[Item]:
        """As `StoreSession.scan`."""
        cursor = self._calls.scan(prefix, bucket, consistency, timeout, limit, after)

        def again(key: bytes) -> Call[ReadResult]:
            return self._calls.get(key, bucket, cursor.level, cursor.timeout_s)

        try:
            while not cursor.ended:
                # First, for when the page is read the cursor moves on.
                begin = cursor.after or b""
                items = self._ask(cursor.page())
                with self._lock:
                    doubtful = self._seen.doubtful(bucket, prefix_bytes(prefix), begin, cursor.after, items)
                results = self._many([again(key) for key in doubtful])
                for item in revised(items, doubtful, results):
                    for shown in self._as_seen(bucket, item, again):
                        yield cursor.show(shown)
                    if cursor.left <= 0:
                        break
        except BasestoreError as error:
            cursor.name(error)
            raise

    def _as_seen(self, bucket: str, item: Item, again: Callable[[bytes], Call[ReadResult]]) -> list[Item]:
        """An item of a page as it may be shown now: read again, if a newer version was seen meanwhile."""
        with self._lock:
            if not self._seen.behind(bucket, item):
                self._seen.show(bucket, item.key, item.version.encode())
                return [item]
        # Without the lock, for it waits; the channel shows the session what comes.
        return revised([item], [item.key], [self._ask(again(item.key))])


def _silence(error: Unreachable | RequestFailed) -> str:
    """Why a node does not answer, and what to do, on one short line."""
    if isinstance(error, Unreachable) and error.reasons:
        return f"does not answer: {error.reasons[-1]}. Start it: basestore serve --config FILE"
    return str(error)


def connect(
    endpoints: Sequence[str] | str, *, consistency: Consistency = "quorum", timeout: float = TIMEOUT_S_DEFAULT
) -> SyncStore:
    """A store on a remote cluster. Use it in a `with` block, or `close` it; it connects when it is
    first used.

    endpoints  host:port of one node or several, in order of preference; any node serves any key
    timeout    seconds, for calls that say nothing else
    """
    return SyncStore(Channel(check_endpoints(endpoints)), consistency, timeout)
