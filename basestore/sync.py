"""The blocking client: the same calls without an event loop. Imports neither Trio nor anyio.

One connection, one caller at a time (a lock guards it); `set_many` and `get_many` send many
requests before they wait. If the connection breaks, the call raises ConnectionLost, and the next
one connects anew, to whichever endpoint answers first in the order given.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

from basestore import requests
from basestore.config import parse_address
from basestore.consistency import Level
from basestore.errors import (
    MAY_HAVE_HAPPENED,
    BasestoreError,
    ConnectionLost,
    InvalidRequest,
    RequestFailed,
    Unreachable,
)
from basestore.messages import PROTOCOL, Hello, Message, ProtocolError, Refused, Status, Welcome
from basestore.net.frames import FrameReader, pack, pack_requests
from basestore.requests import (
    CONNECT_S_MAX,
    GRACE_S,
    PAGE_LIMIT,
    TIMEOUT_S_DEFAULT,
    Consistency,
    check_endpoints,
)
from basestore.results import (
    ANSWERS,
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
from repair.version import Version

MANY_MAX = 256
RECEIVE_BYTES = 256 << 10

T = TypeVar("T")
Make = Callable[[int], Message]


class _Connection:
    """A connection whose handshake is done. Any error closes it."""

    def __init__(self, endpoint: str) -> None:
        """Connect; OSError or ProtocolError when that fails."""
        self.endpoint = endpoint
        self._frames = FrameReader()
        self._socket = socket.create_connection(parse_address(endpoint), CONNECT_S_MAX)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.cluster = b""
        self.members: list[tuple[str, str]] = []

    def introduce(self) -> None:
        """The handshake. OSError, ProtocolError."""
        self._socket.sendall(pack([Hello(PROTOCOL, b"", b"", "")]))
        self._early: list[Message] = []
        deadline = time.monotonic() + CONNECT_S_MAX
        while not self._early:
            self._early = self._receive(deadline)
        welcome = self._early.pop(0)
        if isinstance(welcome, Refused):
            raise ProtocolError(welcome.reason)
        if not isinstance(welcome, Welcome):
            raise ProtocolError("it does not answer a hello with a welcome")
        self.cluster = welcome.cluster
        self.members = list(zip(welcome.members[::2], welcome.members[1::2], strict=True))

    def send(self, messages: Sequence[Message], timeout_s: float) -> None:
        self._socket.settimeout(timeout_s)
        for frame in pack_requests(messages):
            self._socket.sendall(frame)

    def receive(self, deadline: float) -> list[Message]:
        """The next messages; TimeoutError at the deadline."""
        if self._early:
            early, self._early = self._early, []
            return early
        return self._receive(deadline)

    def _receive(self, deadline: float) -> list[Message]:
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("it did not answer in time")
            self._socket.settimeout(left_s)
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionError("it closed the connection")
            messages = self._frames.feed(data)
            if messages:
                return messages

    def close(self) -> None:
        self._socket.close()


class SyncStore:
    """Keys and values of a cluster, blocking. `Store` documents the calls; these are the same."""

    def __init__(self, endpoints: Sequence[str] | str, consistency: Consistency, timeout: float) -> None:
        self._endpoints = check_endpoints(endpoints)
        self._level = requests.level_of(consistency)
        self._timeout_s = timeout
        requests.timeout_ms_of(timeout)
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._closed = False
        self._next_id = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The store is not used afterwards."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> _Connection:
        """The connection, made if need be; Unreachable."""
        if self._closed:
            raise InvalidRequest("this store is closed; connect again")
        if self._connection is not None:
            return self._connection
        reasons = []
        for endpoint in self._endpoints:
            try:
                connection = _Connection(endpoint)
                try:
                    connection.introduce()
                except BaseException:
                    connection.close()
                    raise
            except (OSError, ProtocolError) as error:
                reasons.append(f"{endpoint}: {error}")
                continue
            self._connection = connection
            return connection
        raise Unreachable(
            f"no node could be reached ({'; '.join(reasons)}). Check that they run, or name other nodes "
            f"as endpoints"
        )

    def _level_of(self, consistency: Consistency | None) -> Level:
        return self._level if consistency is None else requests.level_of(consistency)

    def _read_level_of(self, consistency: Consistency | None) -> Level:
        return requests.read_level_of(self._level if consistency is None else consistency)

    def _ask(self, makes: Sequence[Make], timeout_s: float) -> list[Message | BasestoreError]:
        """Send requests together and collect their answers, in order."""
        results: dict[int, Message | BasestoreError] = {}
        with self._lock:
            first = self._next_id + 1
            batch: dict[int, Message] = {}
            for number, make in enumerate(makes, first):
                try:
                    batch[number] = make(number)
                except InvalidRequest as error:
                    results[number] = error
            self._next_id += len(makes)
            if batch:
                self._exchange(batch, results, timeout_s)
        return [results[number] for number in range(first, first + len(makes))]

    def _exchange(
        self, batch: dict[int, Message], results: dict[int, Message | BasestoreError], timeout_s: float
    ) -> None:
        connection = self._connected()
        waiting = set(batch)
        deadline = time.monotonic() + timeout_s + GRACE_S
        try:
            connection.send(list(batch.values()), timeout_s + GRACE_S)
            while waiting:
                for message in connection.receive(deadline):
                    if isinstance(message, ANSWERS) and message.id in waiting:
                        waiting.discard(message.id)
                        results[message.id] = message
        except BaseException as error:
            self._disconnect()  # answers to what was sent must not meet later requests
            if not isinstance(error, OSError | ProtocolError):
                raise
            text = f"{connection.endpoint} was lost: {error}. {MAY_HAVE_HAPPENED}"
            results.update(dict.fromkeys(waiting, ConnectionLost(text)))

    def _one(self, make: Make, timeout_s: float) -> Message:
        answer = self._ask([make], timeout_s)[0]
        if isinstance(answer, BasestoreError):
            raise answer
        return answer

    def _names(self) -> list[str]:
        return [] if self._connection is None else [name for name, _ in self._connection.members]

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
        timeout_ms = requests.timeout_ms_of(timeout_s)
        answer = self._one(
            lambda request: requests.set_request(
                request, key, value, bucket, level, timeout_ms, ttl, version
            ),
            timeout_s,
        )
        return receipt(answer, level, self._names())

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
        timeout_ms = requests.timeout_ms_of(timeout_s)
        answer = self._one(
            lambda request: requests.delete_request(request, key, bucket, level, timeout_ms, version),
            timeout_s,
        )
        return receipt(answer, level, self._names())

    def get(
        self,
        key: bytes | str,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
    ) -> ReadResult:
        """Read a value. A missing key is a result with `found` false."""
        level = self._read_level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = requests.timeout_ms_of(timeout_s)
        answer = self._one(
            lambda request: requests.get_request(request, key, bucket, level, timeout_ms), timeout_s
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
        timeout_ms = requests.timeout_ms_of(timeout_s)

        def make(key: bytes | str, value: bytes | str) -> Make:
            return lambda request: requests.set_request(
                request, key, value, bucket, level, timeout_ms, ttl, None
            )

        makes = [make(key, value) for key, value in items]
        return self._many(makes, timeout_s, lambda answer: receipt(answer, level, self._names()))

    def get_many(
        self,
        keys: Iterable[bytes | str],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
    ) -> list[ReadResult | BasestoreError]:
        """Read many keys, each for itself. In the order of `keys`: its result, or the error of the
        one that failed."""
        level = self._read_level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = requests.timeout_ms_of(timeout_s)

        def make(key: bytes | str) -> Make:
            return lambda request: requests.get_request(request, key, bucket, level, timeout_ms)

        return self._many([make(key) for key in keys], timeout_s, lambda answer: read_result(answer, level))

    def _many(
        self, makes: Sequence[Make], timeout_s: float, read: Callable[[Message], T]
    ) -> list[T | BasestoreError]:
        results: list[T | BasestoreError] = []
        for start in range(0, len(makes), MANY_MAX):
            chunk = makes[start : start + MANY_MAX]
            try:
                answers = self._ask(chunk, timeout_s)
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
        timeout_ms = requests.timeout_ms_of(timeout_s)

        def make(after: bytes, size: int) -> Make:
            return lambda request: requests.scan_request(
                request, prefix, after, size, bucket, level, timeout_ms
            )

        after: bytes | None = b""
        while after is not None and (limit is None or limit > 0):
            size = PAGE_LIMIT if limit is None else min(limit, PAGE_LIMIT)
            items, after = page(self._one(make(after, size), timeout_s))
            yield from items[:limit]
            if limit is not None:
                limit -= len(items)

    def cluster_id(self) -> str:
        """Which cluster this is, in hexadecimal digits; Unreachable."""
        with self._lock:
            return self._connected().cluster.hex()

    def node_status(self) -> NodeState:
        """What the node that this store talks to says of itself."""
        return node_state(self._one(Status, self._timeout_s))

    def status(self) -> list[NodeState]:
        """Every member of the cluster, in its order; those that do not answer are `down`."""
        with self._lock:
            members = self._connected().members
        states = []
        for name, endpoint in members:
            try:
                with SyncStore(endpoint, self._level, self._timeout_s) as store:
                    states.append(store.node_status())
            except (Unreachable, RequestFailed) as error:
                states.append(down(name, endpoint, str(error)))
        return states


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
    return SyncStore(endpoints, consistency, timeout)
