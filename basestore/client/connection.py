"""Client: a cluster from afar, on Trio and on asyncio (through anyio).

One connection to one node at a time, shared by all calls: what gathers while a frame is being sent
travels in the next one. If the connection breaks, calls under way raise ConnectionLost, and the
next call connects anew, to whichever endpoint answers first in the order given.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc

from basestore.client.arguments import TIMEOUT_S_DEFAULT, Consistency, check_endpoints
from basestore.client.calls import CONNECT_S_MAX, GRACE_S
from basestore.client.store import Store
from basestore.config import parse_address
from basestore.errors import MAY_HAVE_HAPPENED, ConnectionLost, InvalidRequest, Overloaded, Unreachable
from basestore.protocol.codec import Message
from basestore.protocol.frames import FrameReader, pack, pack_requests
from basestore.protocol.handshake import Hello, Welcome, welcomed
from basestore.protocol.limits import PROTOCOL, ProtocolError
from basestore.results.answers import ANSWERS
from repair.rule import Rule

PENDING_MAX = 4096
SWEEP_S = 0.25
RECEIVE_BYTES = 256 << 10
NOBODY = Welcome(PROTOCOL, b"", "", [], [])


class _Pending(Awaitable[Message]):
    """A request that was sent. Awaiting it gives the answer; a cancelled await forgets it."""

    __slots__ = ("_asked", "_event", "_request", "answer", "deadline", "sent")

    def __init__(self, asked: "dict[int, _Pending]", request: int, sent: float, deadline: float) -> None:
        self._asked = asked
        self._request = request
        self._event = anyio.Event()
        self.sent = sent
        self.deadline = deadline
        self.answer: Message | ConnectionLost | None = None
        asked[request] = self

    def resolve(self, answer: Message | ConnectionLost) -> None:
        self.answer = answer
        self._event.set()

    def forget(self) -> None:
        self._asked.pop(self._request, None)

    def __await__(self) -> Generator[Any, Any, Message]:
        return self._wait().__await__()

    async def _wait(self) -> Message:
        try:
            await self._event.wait()
        finally:
            self.forget()
        if self.answer is None or isinstance(self.answer, ConnectionLost):
            raise self.answer or ConnectionLost("the client was closed before the answer came")
        return self.answer


class _Connection:
    """One established connection and the requests under way on it."""

    def __init__(self, stream: anyio.abc.SocketStream, endpoint: str) -> None:
        self._stream = stream
        self.endpoint = endpoint
        self.frames = FrameReader()
        self.asked: dict[int, _Pending] = {}
        self._outgoing: list[Message] = []
        self._wake = anyio.Event()
        self._scope = anyio.CancelScope()
        self._heard = 0.0
        self.lost = False
        self.welcome = NOBODY

    def send(self, message: Message) -> None:
        self._outgoing.append(message)
        self._wake.set()

    async def introduce(self) -> None:
        """The handshake; ProtocolError when refused."""
        await self._stream.send(pack([Hello(PROTOCOL, b"", b"", "")]))
        messages: list[Message] = []
        while not messages:
            messages = self.frames.feed(await self._stream.receive(RECEIVE_BYTES))
        welcome = welcomed(messages[0])
        self.welcome = welcome

    async def run(self) -> None:
        """Send and receive until the connection ends; then fail what is under way."""
        reason = "the node closed the connection"
        try:
            async with anyio.create_task_group() as tasks:
                self._scope = tasks.cancel_scope
                tasks.start_soon(self._write, tasks.cancel_scope)
                reason = await self._read()
                tasks.cancel_scope.cancel()
        finally:
            self.lost = True
            text = f"the connection to {self.endpoint} was lost: {reason}. {MAY_HAVE_HAPPENED}"
            for pending in list(self.asked.values()):
                pending.resolve(ConnectionLost(text))
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(self._stream)

    async def _read(self) -> str:
        try:
            while True:
                data = await self._stream.receive(RECEIVE_BYTES)
                self._heard = time.monotonic()
                for message in self.frames.feed(data):
                    if isinstance(message, ANSWERS) and message.id in self.asked:
                        self.asked.pop(message.id).resolve(message)
        except anyio.EndOfStream:
            return "the node closed the connection"
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, ProtocolError) as error:
            return str(error) or "the network broke it"

    async def _write(self, scope: anyio.CancelScope) -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake = anyio.Event()
                while self._outgoing:
                    messages, self._outgoing = self._outgoing, []
                    for frame in pack_requests(messages):
                        await self._stream.send(frame)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            scope.cancel()

    def sweep(self, now: float) -> None:
        """Fail the requests whose answer is overdue. A node that has said nothing at all since such
        a request was sent has fallen silent: the next call looks for another."""
        for request, pending in list(self.asked.items()):
            if pending.deadline < now:
                if self._heard < pending.sent:
                    self.lost = True
                    self._scope.cancel()
                del self.asked[request]
                pending.resolve(
                    ConnectionLost(f"{self.endpoint} did not answer in time. {MAY_HAVE_HAPPENED}")
                )


async def _open(endpoint: str) -> _Connection:
    """Connect and introduce ourselves; whatever goes wrong, nothing stays open."""
    host, port = parse_address(endpoint)
    stream = await anyio.connect_tcp(host, port)
    connection = _Connection(stream, endpoint)
    try:
        await connection.introduce()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(stream)
        raise
    return connection


class _NetworkChannel:
    """The way to a cluster over whichever endpoint answers."""

    def __init__(self, endpoints: Sequence[str], tasks: anyio.abc.TaskGroup) -> None:
        self._endpoints = endpoints
        self._tasks = tasks
        self._lock = anyio.Lock()
        self._connection: _Connection | None = None
        self.closed = False
        self._next_id = 0
        self.members: Sequence[str] = []
        self.cluster = b""
        self.rules: Mapping[str, Rule] = {}

    async def ready(self) -> None:
        if self.closed:
            raise InvalidRequest("this store is closed; connect again")
        connection = self._connection
        if connection is None or connection.lost:
            async with self._lock:
                if self._connection is None or self._connection.lost:
                    await self._connect()

    async def _connect(self) -> None:
        reasons = []
        for endpoint in self._endpoints:
            try:
                with anyio.fail_after(CONNECT_S_MAX):
                    connection = await _open(endpoint)
            except (OSError, ProtocolError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
                reasons.append(f"{endpoint}: {error or 'no answer'}")
                continue
            self._connection = connection
            self.members = connection.welcome.members[::2]
            self.cluster = connection.welcome.cluster
            self.rules = connection.welcome.rules
            self._tasks.start_soon(connection.run)
            return
        raise Unreachable(
            f"no node could be reached ({'; '.join(reasons)}). Check that they run, or name other nodes "
            f"as endpoints"
        )

    def ask(self, make: Callable[[int], Message], timeout_s: float) -> _Pending:
        connection = self._connection
        assert connection is not None  # `ready` came first
        if len(connection.asked) >= PENDING_MAX:
            raise Overloaded(
                f"overloaded: {PENDING_MAX} requests are under way in this client; nothing was sent. "
                f"Wait for some of them"
            )
        self._next_id += 1
        message = make(self._next_id)
        sent = time.monotonic()
        pending = _Pending(connection.asked, self._next_id, sent, sent + timeout_s + GRACE_S)
        if connection.lost:
            pending.resolve(ConnectionLost(f"the connection to {connection.endpoint} was lost"))
        else:
            connection.send(message)
        return pending

    async def sweep(self) -> None:
        while True:
            await anyio.sleep(SWEEP_S)
            if self._connection is not None:
                self._connection.sweep(time.monotonic())


@asynccontextmanager
async def connect(
    endpoints: Sequence[str] | str,
    *,
    consistency: Consistency = "quorum",
    timeout: float = TIMEOUT_S_DEFAULT,
) -> AsyncIterator[Store]:
    """A store on a remote cluster, for the length of an `async with` block.

    endpoints  host:port of one node or several, in order of preference; any node serves any key
    timeout    seconds, for calls that say nothing else
    Raises InvalidRequest and Unreachable.
    """
    listed = check_endpoints(endpoints)
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            channel = _NetworkChannel(listed, tasks)
            store = Store(channel, consistency, timeout)
            await channel.ready()
            tasks.start_soon(channel.sweep)
            yield store
        except Exception as error:  # noqa: BLE001 - carried past the task group, which would wrap it
            failure = error
        channel.closed = True
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
