"""Connection: a cluster from afar, on Trio and on asyncio (through anyio).

One connection to one node at a time, shared by all calls. What gathers while a frame is being sent travels in
the next one, so that a hundred calls at once cost a few frames. If the connection breaks, calls under way
raise ConnectionLost, and the next call connects anew, to whichever endpoint answers first in the order given.

It refuses to send anything twice: whether a write that got no answer may be repeated is the caller's to say.
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.abc

from basestore.client.arguments import TIMEOUT_S_DEFAULT, Consistency, check_endpoints
from basestore.client.calls import CONNECT_S_MAX, GRACE_S, Make
from basestore.client.channel import Pending, answered, lost, overdue, unreachable
from basestore.client.store import Store
from basestore.config import parse_address
from basestore.errors import ConnectionLost, InvalidRequest, Overloaded
from basestore.protocol.codec import Message
from basestore.protocol.frames import FrameReader, pack, pack_requests
from basestore.protocol.handshake import Hello, Welcome, welcomed
from basestore.protocol.limits import PROTOCOL, ProtocolError
from repair.rule import Rule

PENDING_MAX = 4096
SWEEP_S = 0.25
RECEIVE_BYTES = 256 << 10


class _Connection:
    """One connection whose handshake is done, and the requests under way on it."""

    def __init__(
        self, stream: anyio.abc.SocketStream, frames: FrameReader, endpoint: str, welcome: Welcome
    ) -> None:
        self._stream = stream
        self._frames = frames
        self.endpoint = endpoint
        self.welcome = welcome
        self.asked: dict[int, Pending] = {}
        self._outgoing: list[Message] = []
        self._wake = anyio.Event()
        self._scope = anyio.CancelScope()
        self._heard = 0.0
        self.lost = False

    def send(self, message: Message) -> None:
        self._outgoing.append(message)
        self._wake.set()

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
            text = f"the connection to {self.endpoint} was lost: {reason}"
            for pending in list(self.asked.values()):
                pending.resolve(lost(text, pending.request))
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(self._stream)

    async def _read(self) -> str:
        """Hand on answers until the connection ends; returns why it did."""
        try:
            while True:
                data = await self._stream.receive(RECEIVE_BYTES)
                self._heard = time.monotonic()
                answered(self.asked, self._frames.feed(data))
        except anyio.EndOfStream:
            return "the node closed the connection"
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, ProtocolError) as error:
            return str(error) or "the network broke it"

    async def _write(self, scope: anyio.CancelScope) -> None:
        try:
            while True:
                await self._wake.wait()
                # A new event before the messages are taken: what is added from now on sets this one.
                self._wake = anyio.Event()
                while self._outgoing:  # what came while the last frames were being sent
                    messages, self._outgoing = self._outgoing, []
                    for frame in pack_requests(messages):
                        await self._stream.send(frame)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            scope.cancel()

    def sweep(self, now: float) -> None:
        """Fail the requests whose answer is overdue. A node that has said nothing at all since such
        a request was sent has fallen silent: the next call looks for another."""
        for pending in overdue(self.asked, now):
            if self._heard < pending.sent:
                self.lost = True
                self._scope.cancel()
            pending.resolve(lost(f"{self.endpoint} did not answer in time", pending.request))


async def _open(endpoint: str) -> _Connection:
    """Connect and shake hands, ProtocolError when refused; whatever goes wrong, nothing stays open."""
    host, port = parse_address(endpoint)
    stream = await anyio.connect_tcp(host, port)
    try:
        await stream.send(pack([Hello(PROTOCOL, b"", b"", "")]))
        frames = FrameReader()
        messages: list[Message] = []
        while not messages:
            messages = frames.feed(await stream.receive(RECEIVE_BYTES))
        return _Connection(stream, frames, endpoint, welcomed(messages[0]))
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(stream)
        raise


class _NetworkChannel:
    """The way to a cluster over whichever endpoint answers."""

    def __init__(self, endpoints: Sequence[str], tasks: anyio.abc.TaskGroup) -> None:
        self._endpoints = endpoints
        self._tasks = tasks
        self._lock = anyio.Lock()
        self._connection: _Connection | None = None
        self.closed = False
        self._next_id = 0
        self.members: Mapping[int, str] = {}
        self.cluster = b""
        self.rules: Mapping[str, Rule] = {}

    async def ready(self) -> None:
        if self.closed:
            raise InvalidRequest("this store is closed; connect again")
        connection = self._connection
        if connection is None or connection.lost:
            async with self._lock:  # another call may have connected while this one waited
                if self._connection is None or self._connection.lost:
                    await self._connect()

    async def _connect(self) -> None:
        failures: dict[str, object] = {}
        for endpoint in self._endpoints:
            try:
                with anyio.fail_after(CONNECT_S_MAX):
                    connection = await _open(endpoint)
            except (OSError, ProtocolError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
                failures[endpoint] = error if str(error) else "no answer"
                continue
            self._connection = connection
            self.members = connection.welcome.names
            self.cluster = connection.welcome.cluster
            self.rules = connection.welcome.rules
            self._tasks.start_soon(connection.run)
            return
        raise unreachable(failures)

    def ask(self, make: Make, timeout_s: float) -> Pending:
        connection = self._connection
        assert connection is not None  # `ready` came first
        if len(connection.asked) >= PENDING_MAX:
            raise Overloaded(
                f"overloaded: {PENDING_MAX} requests are under way in this client; nothing was sent. "
                f"Wait for some of them"
            )
        self._next_id += 1
        # Before the table is entered: what is wrong with an argument leaves no entry behind.
        message = make(self._next_id)
        sent = time.monotonic()
        pending = Pending(connection.asked, message, anyio.Event(), sent, sent + timeout_s + GRACE_S)
        if connection.lost:  # since `ready`
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
    endpoints: Sequence[str] | str, *, consistency: Consistency = "quorum", timeout: float = TIMEOUT_S_DEFAULT
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
