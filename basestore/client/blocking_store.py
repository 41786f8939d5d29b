"""The blocking client: the same calls without an event loop. Imports neither Trio nor anyio.

One connection, one caller at a time (`blocking_channel.py`); `set_many` and its kin send many requests
before they wait.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from types import TracebackType
from typing import Self, TypeVar

from basestore.client import calls
from basestore.client.blocking_channel import Channel, Make, SessionChannel
from basestore.client.calls import PAGE_LIMIT, TIMEOUT_S_DEFAULT, Consistency, check_endpoints
from basestore.client.session import KEYS_MAX_DEFAULT, Session, revised
from basestore.consistency import Level
from basestore.errors import BasestoreError, InvalidRequest, RequestFailed, Unreachable
from basestore.protocol.codec import Message
from basestore.protocol.operator import Counters, Status
from basestore.results.cluster_view import Following
from basestore.results.convergence import CONVERGED_S, Convergence, Proving, settled_by
from basestore.results.explanation import Explanation, explanation
from basestore.results.hints import NodeHints, node_hints
from basestore.results.receipts import (
    Item,
    NodeState,
    ReadResult,
    Receipt,
    down,
    node_state,
    page,
    read_result,
    receipt,
)
from basestore.results.repair import REPAIR_S, Repair, Repairing
from repair.version import Version

MANY_MAX = 256

T = TypeVar("T")


class SyncStore:
    """Keys and values of a cluster, blocking. `Store` documents the calls; these are the same."""

    def __init__(self, channel: Channel | SessionChannel, consistency: Consistency, timeout: float) -> None:
        self._channel = channel
        self._level = calls.level_of(consistency)
        self._timeout_s = timeout
        calls.timeout_ms_of(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The store is not used afterwards."""
        self._channel.close()

    def _level_of(self, consistency: Consistency | None) -> Level:
        return self._level if consistency is None else calls.level_of(consistency)

    def _read_level_of(self, consistency: Consistency | None) -> Level:
        return calls.read_level_of(self._level if consistency is None else consistency)

    def _one(self, make: Make, timeout_s: float) -> Message:
        answer = self._channel.ask([make], timeout_s)[0]
        if isinstance(answer, BasestoreError):
            raise answer
        return answer

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
        level = self._level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)
        answer = self._one(
            lambda request: calls.set_request(request, key, value, bucket, level, timeout_ms, ttl, version),
            timeout_s,
        )
        return receipt(answer, level, self._channel.members)

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
        level = self._level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)
        answer = self._one(
            lambda request: calls.delete_request(request, key, bucket, level, timeout_ms, version),
            timeout_s,
        )
        return receipt(answer, level, self._channel.members)

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
        """Read a value. A missing key is a result with `found` false. With `repair` false, which only a
        read at ONE may be, replicas that are found to differ are left as they are. `staleness`: say in
        `stale_by_at_most` how stale the answer may be. `max_staleness`, seconds: read at ONE, and at QUORUM
        if that answer may be staler; TooStale when that cannot be done."""
        level = calls.get_level_of(consistency, self._level, max_staleness)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)
        answer = self._one(
            lambda request: calls.get_request(
                request, key, bucket, level, timeout_ms, b"", repair, staleness, max_staleness
            ),
            timeout_s,
        )
        return read_result(answer, level)

    def set_many(
        self,
        items: Iterable[tuple[bytes | str, bytes | str]],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> list[Receipt | BasestoreError]:
        """Write many values, each for itself. In the order of `items`: its receipt, or the error of
        the one that failed. `timeout` is for each."""
        level = self._level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)

        def make(key: bytes | str, value: bytes | str) -> Make:
            return lambda request: calls.set_request(
                request, key, value, bucket, level, timeout_ms, ttl, None
            )

        makes = [make(key, value) for key, value in items]
        return self._many(makes, timeout_s, lambda answer: receipt(answer, level, self._channel.members))

    def delete_many(
        self,
        keys: Iterable[bytes | str],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
    ) -> list[Receipt | BasestoreError]:
        """Delete many keys, each for itself. In the order of `keys`: its receipt, or the error of
        the one that failed."""
        level = self._level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)

        def make(key: bytes | str) -> Make:
            return lambda request: calls.delete_request(request, key, bucket, level, timeout_ms, None)

        makes = [make(key) for key in keys]
        return self._many(makes, timeout_s, lambda answer: receipt(answer, level, self._channel.members))

    def get_many(
        self,
        keys: Iterable[bytes | str],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        repair: bool = True,
    ) -> list[ReadResult | BasestoreError]:
        """Read many keys, each for itself. In the order of `keys`: its result, or the error of the
        one that failed."""
        level = self._read_level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)

        def make(key: bytes | str) -> Make:
            return lambda request: calls.get_request(request, key, bucket, level, timeout_ms, repair=repair)

        return self._many([make(key) for key in keys], timeout_s, lambda answer: read_result(answer, level))

    def _many(
        self, makes: Sequence[Make], timeout_s: float, read: Callable[[Message], T]
    ) -> list[T | BasestoreError]:
        results: list[T | BasestoreError] = []
        for start in range(0, len(makes), MANY_MAX):
            chunk = makes[start : start + MANY_MAX]
            try:
                answers = self._channel.ask(chunk, timeout_s)
            except Unreachable as error:
                results += [error] * len(chunk)
                continue
            for answer in answers:
                try:
                    results.append(answer if isinstance(answer, BasestoreError) else read(answer))
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
    ) -> Iterator[Item]:
        """The keys that start with `prefix`, in bytewise order, with their values."""
        level = self._read_level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        after: bytes | None = b""
        while after is not None and (limit is None or limit > 0):
            items, after = self._page(prefix, after, limit, bucket, level, timeout_s)
            yield from items[:limit]
            if limit is not None:
                limit -= len(items)

    def _page(
        self,
        prefix: bytes | str,
        after: bytes,
        limit: int | None,
        bucket: str,
        level: Level,
        timeout_s: float,
    ) -> tuple[list[Item], bytes | None]:
        """One page of a scan, and where to go on, None at the end."""
        timeout_ms = calls.timeout_ms_of(timeout_s)
        size = PAGE_LIMIT if limit is None else min(limit, PAGE_LIMIT)
        answer = self._one(
            lambda request: calls.scan_request(request, prefix, after, size, bucket, level, timeout_ms),
            timeout_s,
        )
        return page(answer)

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
            yield SyncSession(channel, seen, self._level, self._timeout_s)
        finally:
            channel.close()

    def cluster_id(self) -> str:
        """Which cluster this is, in hexadecimal digits; Unreachable."""
        return self._channel.welcome().cluster.hex()

    def _members(self) -> list[tuple[str, str]]:
        """Names and endpoints of the cluster's members; Unreachable."""
        members = self._channel.welcome().members
        return list(zip(members[::2], members[1::2], strict=True))

    def explain(
        self, key: bytes | str, *, bucket: str = "default", timeout: float | None = None
    ) -> Explanation:
        """Why a key has the value it has: what each replica holds, which record wins and by what, and
        the hints for it. Nothing is repaired, nothing changes."""
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)
        answer = self._one(lambda request: calls.explain_request(request, key, bucket, timeout_ms), timeout_s)
        return explanation(answer, bucket, calls.key_bytes(key), self._channel.members)

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
        scope, patience = calls.scope_of(bucket, key), calls.patience(timeout)
        settled_by(receipt)
        members = [name for name, _ in self._members()]
        return self._follow(Proving(members, scope, receipt, patience, monotonic()))

    def repair(
        self,
        *,
        timeout: float = REPAIR_S,
        partition: int | None = None,
        full: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Repair:
        """Let all replicas compare what they hold, now; `Store.repair` says how."""
        scope, patience = calls.scope_of("default", None, partition), calls.patience(timeout)
        members = [name for name, _ in self._members()]
        return self._follow(Repairing(members, scope, full, patience, monotonic()), progress)

    def _follow(self, survey: Following[T], progress: Callable[[int, int], None] | None = None) -> T:
        """Ask until there is a result. A node that goes meanwhile is no reason to stop."""
        while (result := survey.result(monotonic())) is None:
            sent_s = monotonic()
            try:
                survey.hear(self._one(survey.request, calls.SURVEY_MS / 1e3), sent_s)
            except (RequestFailed, Unreachable) as error:
                survey.miss(error)
            if progress is not None:
                progress(*survey.progress)
            sleep(survey.pause_s)
        return result

    def node_hints(self, *, replay: bool = False, late: bool = False) -> NodeHints:
        """The hints that the node this store talks to keeps. `replay` and `late` as in `Store.node_hints`."""
        answer = self._one(calls.hints_request(replay, late), self._timeout_s)
        return node_hints(answer, self._channel.members)

    def hints(self, *, replay: bool = False, late: bool = False, node: str | None = None) -> list[NodeHints]:
        """The hints of every member of the cluster, or of the one called `node`, as `node_hints`; those
        that do not answer say why. InvalidRequest when no member is called so."""
        members = self._members()
        names = [name for name, _ in members]
        if node is not None and node not in names:
            raise InvalidRequest(f"no node is called {node!r}; this cluster has {', '.join(names)}")
        found = []
        for name, endpoint in members:
            if node is None or name == node:
                try:
                    with connect(endpoint, consistency=self._level, timeout=self._timeout_s) as store:
                        found.append(store.node_hints(replay=replay, late=late))
                except (Unreachable, RequestFailed) as error:
                    found.append(NodeHints(name, None, (), _silence(error)))
        return found

    def node_counters(self) -> NodeState:
        """`node_status` with further facts: all that the node has counted, by the names of `metrics`."""
        return node_state(self._one(Counters, self._timeout_s))

    def node_status(self) -> NodeState:
        """What the node that this store talks to says of itself."""
        return node_state(self._one(Status, self._timeout_s))

    def status(self) -> list[NodeState]:
        """Every member of the cluster, in its order; those that do not answer are `down`."""
        members = self._members()
        states = []
        for name, endpoint in members:
            try:
                with connect(endpoint, consistency=self._level, timeout=self._timeout_s) as store:
                    states.append(store.node_status())
            except (Unreachable, RequestFailed) as error:
                states.append(down(name, endpoint, _silence(error)))
        return states


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
    ) -> Iterator[Item]:
        """As `StoreSession.scan`."""
        level = self._read_level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        encoded = calls.prefix_bytes(prefix)
        after: bytes | None = b""
        while after is not None and (limit is None or limit > 0):
            begin = after
            items, after = self._page(prefix, begin, limit, bucket, level, timeout_s)
            with self._lock:
                doubtful = self._seen.doubtful(bucket, encoded, begin, after, items)
            results = self.get_many(doubtful, bucket=bucket, consistency=level, timeout=timeout_s)
            for item in revised(items, doubtful, results)[:limit]:
                for shown in self._as_seen(item, bucket, level, timeout_s):
                    yield shown
                    limit = None if limit is None else limit - 1

    def _as_seen(self, item: Item, bucket: str, level: Level, timeout_s: float) -> list[Item]:
        """An item of a page as it may be shown now: read again, if a newer version was seen meanwhile."""
        with self._lock:
            if not self._seen.behind(bucket, item):
                self._seen.show(bucket, item.key, item.version.encode())
                return [item]
        again = self.get(item.key, bucket=bucket, consistency=level, timeout=timeout_s)
        return revised([item], [item.key], [again])


def _silence(error: Unreachable | RequestFailed) -> str:
    """Why a node does not answer, and what to do, on one short line."""
    if isinstance(error, Unreachable) and error.reasons:
        return f"does not answer: {error.reasons[-1]}. Start it: basestore serve --config FILE"
    return str(error)


def connect(
    endpoints: Sequence[str] | str,
    *,
    consistency: Consistency = "quorum",
    timeout: float = TIMEOUT_S_DEFAULT,
) -> SyncStore:
    """A store on a remote cluster. Use it in a `with` block, or `close` it; it connects when it is
    first used.

    endpoints  host:port of one node or several, in order of preference; any node serves any key
    timeout    seconds, for calls that say nothing else
    """
    return SyncStore(Channel(check_endpoints(endpoints)), consistency, timeout)
