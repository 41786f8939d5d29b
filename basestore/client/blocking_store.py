"""The blocking store: the calls of `Store`, for programs without an event loop.

A method is its signature and one line, as there; all threads share one connection (`blocking_channel.py`).
Beside the calls of `Store` it has two that ask every member at once, each over a connection of its own:
`status` and `hints`. It repeats nothing by itself, and imports neither Trio nor anyio.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from time import monotonic, sleep
from types import TracebackType
from typing import Self, TypeVar

from basestore.client.arguments import (
    Consistency,
    check_endpoints,
    patience,
    prefix_bytes,
    scope_of,
)
from basestore.client.at_once import at_once
from basestore.client.blocking_channel import AnyChannel, Channel, SessionChannel
from basestore.client.calls import Call, Calls, survey_call
from basestore.client.session import KEYS_MAX_DEFAULT, Session, revised
from basestore.errors import BasestoreError, InvalidRequest, Overloaded, RequestFailed, Unreachable
from basestore.protocol.handshake import MemberRow
from basestore.results.cluster_view import Following
from basestore.results.convergence import CONVERGED_S, Convergence, Proving
from basestore.results.explanation import Explanation
from basestore.results.hints import NodeHints
from basestore.results.loss import ACCEPT_S, AcceptedLoss, Accepting
from basestore.results.nodes import NodeState, down
from basestore.results.receipts import Item, ReadResult, Receipt
from basestore.results.repair import REPAIR_S, Repair, Repairing
from repair.version import Version

LEFT_S_MIN = 0.05  # for members to answer, when it took long to be told who they are
MANY_MAX = 256  # requests that are sent before the first answer is read

T = TypeVar("T")


class SyncStore:
    """Keys and values of a cluster, blocking. `Store` documents the calls; these are the same."""

    def __init__(self, channel: AnyChannel, consistency: Consistency, timeout: float | None) -> None:
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
        deadline = monotonic() + call.timeout_s
        if call.timeout_s > self._channel.timeout_s_max:
            ((call,), deadline) = self._within([call], deadline)
        answer = self._channel.ask([call.make], deadline)[0]
        if isinstance(answer, BasestoreError):
            raise answer
        return call.read(answer, self._channel.members)

    def _within(self, calls: Sequence[Call[T]], deadline: float) -> tuple[Sequence[Call[T]], float]:
        """These calls, and their deadline, as the cluster takes them, once that is known."""
        self._channel.welcome(deadline)
        calls = [call.within(self._channel.timeout_s_max) for call in calls]
        return calls, min(deadline, monotonic() + calls[0].timeout_s)

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
            deadline = monotonic() + chunk[0].timeout_s  # all calls of one method have the same timeout
            try:
                if chunk[0].timeout_s > self._channel.timeout_s_max:
                    chunk, deadline = self._within(chunk, deadline)
                answers = self._channel.ask([call.make for call in chunk], deadline)
            except Unreachable as error:  # so it is for all that follow, and each would wait for it
                return results + [error] * (len(calls) - start)
            except (InvalidRequest, Overloaded) as error:
                answers = [error] * len(chunk)
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
        welcome = self._channel.welcome(monotonic() + self._calls.timeout_s)
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
        return self._channel.welcome(monotonic() + self._calls.timeout_s).cluster.hex()

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

    def accept_loss(self, *, timeout: float = ACCEPT_S, partition: int | None = None) -> AcceptedLoss:
        """Accept that writes may be lost; `Store.accept_loss` says which."""
        return self._follow(Accepting(scope_of("default", None, partition), patience(timeout), monotonic()))

    def _follow(self, survey: Following[T], progress: Callable[[int, int], None] | None = None) -> T:
        """Ask until there is a result. A node that goes meanwhile is no reason to stop."""
        while (result := survey.result(monotonic())) is None:
            try:
                self._ask(survey_call(survey, monotonic()))
            except (RequestFailed, Unreachable) as error:
                survey.miss(error)
            if progress is not None:
                progress(*survey.progress)
            sleep(min(survey.pause_s, survey.left_s(monotonic())))
        return result

    def node_hints(self, *, replay: bool = False, late: bool = False) -> NodeHints:
        """The hints that the node this store talks to keeps. `replay` and `late` as in `Store.node_hints`."""
        return self._ask(self._calls.hints(replay, late))

    def hints(self, *, replay: bool = False, late: bool = False, node: str | None = None) -> list[NodeHints]:
        """The hints of every member of the cluster, or of the one called `node`, as `node_hints`; those
        that do not answer say why. InvalidRequest when no member is called so."""
        return self._each(
            lambda store: store.node_hints(replay=replay, late=late),
            lambda name, _, why: NodeHints(name, None, (), why),
            node,
        )

    def node_counters(self) -> NodeState:
        """`node_status` with further facts: all that the node has counted, by the names of `metrics`."""
        return self._ask(self._calls.counters())

    def node_status(self) -> NodeState:
        """What the node that this store talks to says of itself."""
        return self._ask(self._calls.status())

    def status(self) -> list[NodeState]:
        """Every member of the cluster, in its order; those that do not answer are `down`."""
        return self._each(SyncStore.node_status, down)

    def _each(
        self, ask: Callable[["SyncStore"], T], silent: Callable[[str, str, str], T], only: str | None = None
    ) -> list[T]:
        """What each member answers, or only the one of this name, all asked at once; of one that does not,
        what `silent` makes of its name, its endpoint and the reason. Unreachable when none says who the
        members are."""
        deadline = monotonic() + self._calls.timeout_s
        members = self._channel.welcome(deadline).members
        names = [member.name for member in members]
        if only is not None and only not in names:
            raise InvalidRequest(f"no node is called {only!r}; this cluster has {', '.join(names)}")

        def ask_one(member: MemberRow) -> T:
            try:
                timeout_s = max(LEFT_S_MIN, deadline - monotonic())
                with connect(member.address, consistency=self._calls.level, timeout=timeout_s) as store:
                    return ask(store)
            except (Unreachable, RequestFailed) as error:
                return silent(member.name, member.address, _silence(error))

        return at_once(ask_one, [member for member in members if only in (None, member.name)])


class SyncSession(SyncStore):
    """A store whose calls keep the promises of one session. Any number of threads may use it."""

    def __init__(
        self, channel: SessionChannel, seen: Session, consistency: Consistency, timeout: float
    ) -> None:
        super().__init__(channel, consistency, timeout)
        self._seen = seen
        self._within_session = channel

    @property
    def _lock(self) -> Lock:
        return self._within_session.lock  # another one in a process that was forked

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
    endpoints: Sequence[str] | str | None = None,
    *,
    consistency: Consistency = "quorum",
    timeout: float | None = None,
) -> SyncStore:
    """A store on a remote cluster. Use it in a `with` block, or `close` it; it connects when it is
    first used.

    endpoints, timeout   as of the asynchronous `connection.connect`
    Any number of threads may use it, and so may a process that was forked: it connects anew. At most 4,096
    requests are under way at once; one more raises Overloaded.
    """
    return SyncStore(Channel(check_endpoints(endpoints)), consistency, timeout)
