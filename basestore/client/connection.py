"""Connection: a cluster from afar, on Trio and on asyncio (through anyio).

One connection to one node at a time, shared by all calls. What gathers while a frame is being sent travels in
the next one, so that a hundred calls at once cost a few frames. Before a request is given to a connection
that was quiet, what lies there is heard: a node that has closed it meanwhile costs no call. If the connection
breaks, calls under way raise ConnectionLost; those whose request had not been sent are asked anew, over the
next connection.

Calls that need a connection share one attempt to make it. It is a race (as in RFC 8305, "Happy Eyeballs"):
the endpoint that answered last begins, and each next one begins when the one before has failed, or has not
answered within a head start. A node that fell silent, or said that it goes, is left: it is the last to be
tried again, and may still answer what it was asked before.

It refuses to send anything twice: whether a write that got no answer may be repeated is the caller's to say.
"""

import math
import random
import select
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic

import anyio
import anyio.abc

from basestore.client.arguments import Consistency, check_endpoints
from basestore.client.calls import (
    CONNECT_S_MAX,
    GRACE_S,
    HEAD_START_S,
    ID_FIRST_MAX,
    PENDING_MAX,
    Asking,
    Calls,
    fitted,
)
from basestore.client.channel import (
    NO_CONNECTION,
    SILENT,
    Batch,
    Channel,
    Unsent,
    answered,
    late,
    lost,
    overdue,
    overfull,
    unreachable,
)
from basestore.client.owner import Owner, opening
from basestore.client.session import check_cluster
from basestore.client.store import Store
from basestore.config import parse_address
from basestore.errors import InvalidRequest
from basestore.protocol.codec import Message
from basestore.protocol.envelopes import seal
from basestore.protocol.frames import FrameReader, pack
from basestore.protocol.groups import singly
from basestore.protocol.handshake import Goodbye, Hello, Names, Welcome, welcomed
from basestore.protocol.limits import PROTOCOL, ProtocolError
from basestore.repair.rule import Rule

SWEEP_S = 0.1
RECEIVE_BYTES = 64 << 10  # for a larger buffer the allocator asks the system each time

Asked = dict[int, Batch]


class _Connection:
    """One connection whose handshake is done; `asked` is the table of its channel. `leaving`: it takes no
    more requests; `shunned`: its node is the last to be connected to again."""

    def __init__(
        self,
        stream: anyio.abc.SocketStream,
        frames: FrameReader,
        endpoint: str,
        welcome: Welcome,
        asked: Asked,
    ) -> None:
        self._stream = stream
        self._frames = frames
        self.endpoint = endpoint
        self.welcome = welcome
        self._asked = asked
        self._outgoing: list[Message] = []
        self._wake = anyio.Event()
        self._heard = 0.0
        self.leaving = self.shunned = False
        self._readable = select.poll()
        self._readable.register(stream.extra(anyio.abc.SocketAttribute.raw_socket), select.POLLIN)

    def send(self, requests: list[Message]) -> None:
        """All of a batch: so it is sent as a whole, or taken back as a whole."""
        if not self._outgoing:
            self._wake.set()
        self._outgoing += requests

    def stirs(self) -> bool:
        """Whether something lies there that was not heard yet: a late answer, or the end of it."""
        return bool(self._readable.poll(0))

    def leave(self) -> None:
        """Take no more requests. What has not been sent is asked elsewhere, what has may be answered yet."""
        self.leaving = self.shunned = True
        self._take_back()

    def _take_back(self) -> None:
        unsent, self._outgoing = singly(self._outgoing), []
        for request in unsent:
            batch = self._asked.pop(request.id, None)
            if batch is not None:
                batch.fail(request.id, Unsent())

    async def discard(self) -> None:
        """Close it, now."""
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(self._stream)

    async def run(self) -> None:
        """Send and receive until the connection ends; then fail what is under way."""
        reason = "the node closed the connection"
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, tasks.cancel_scope)
                tasks.start_soon(self._sweep, tasks.cancel_scope)
                reason = await self._read()
                tasks.cancel_scope.cancel()
        finally:
            self.leaving = True
            self._take_back()
            text = f"the connection to {self.endpoint} was lost: {reason}"
            for number, batch in overdue(self._asked, math.inf, self):
                batch.fail(number, lost(text, batch.request(number)))
            await self.discard()

    async def _read(self) -> str:
        """Hand on answers until the connection ends; returns why it did."""
        try:
            while True:
                data = await self._stream.receive(RECEIVE_BYTES)
                self._heard = monotonic()
                stray = answered(self._asked, self._frames.feed(data))
                if any(isinstance(message, Goodbye) for message in stray):
                    self.leave()
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
                    for frame in seal(messages):
                        await self._stream.send(frame)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            scope.cancel()

    async def _sweep(self, scope: anyio.CancelScope) -> None:
        """Fail the requests whose answer is overdue. A node that has said nothing at all since such a
        request was sent has fallen silent: the next call looks for another."""
        while True:
            await anyio.sleep(SWEEP_S)
            unanswered = overdue(self._asked, monotonic(), self)
            for number, batch in unanswered:
                batch.fail(number, late(self.endpoint, batch.request(number)))
            if any(self._heard < batch.sent for _, batch in unanswered):
                self.leave()
            if self.leaving and all(batch.way is not self for batch in self._asked.values()):
                scope.cancel()


async def _open(endpoint: str, asked: Asked, failures: dict[str, object]) -> _Connection:
    """Connect and shake hands, ProtocolError when refused; whatever goes wrong, nothing stays open. In
    `failures` stands meanwhile what it is if nothing more comes."""
    host, port = parse_address(endpoint)
    failures[endpoint] = NO_CONNECTION
    stream = await anyio.connect_tcp(host, port, happy_eyeballs_delay=HEAD_START_S)
    failures[endpoint] = SILENT
    try:
        await stream.send(pack([Hello(PROTOCOL, b"", b"", "")]))
        frames = FrameReader()
        while (said := frames.first(await stream.receive(RECEIVE_BYTES))) is None:
            pass
        return _Connection(stream, frames, endpoint, welcomed(said), asked)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(stream)
        raise


def _cause(error: BaseException) -> BaseException:
    """Of all addresses of a name anyio says only that they have failed: the error of the last one."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[-1]
    return cause if isinstance(cause, OSError) else error


class _Attempt:
    """An attempt to connect. `failures` by endpoint, so far; `failed`: one more of them has."""

    def __init__(self) -> None:
        self.failures: dict[str, object] = {}
        self.failed = anyio.Event()
        self.ended = anyio.Event()


class _NetworkChannel:
    """The way to a cluster over whichever endpoint answers."""

    def __init__(self, endpoints: Sequence[str], tasks: anyio.abc.TaskGroup) -> None:
        self._endpoints = list(dict.fromkeys(endpoints))  # in the order in which they are tried
        self._tasks = tasks
        self._owner = Owner()
        self._attempt: _Attempt | None = None
        self._connection: _Connection | None = None
        self.asked: Asked = {}
        self.closed = False
        self._next_id = random.randrange(ID_FIRST_MAX)
        self.members = Names()
        self.cluster = b""
        self.rules: Mapping[str, Rule] = {}
        self.addresses: Mapping[str, str] = {}
        self.timeout_s_max = 0.0

    def elsewhere(self, endpoint: str, timeout_s: float) -> AbstractAsyncContextManager[Channel]:
        return channel_to([endpoint], timeout_s)

    async def aclose(self) -> None:
        self.closed = True
        if self._connection is not None:
            self._connection.leave()
            await self._connection.discard()

    async def ready(self, deadline: float) -> None:
        self._owner.check()
        connection = self._connection
        # While others wait for answers, its reader is at work anyway.
        if connection is None or connection.leaving or (not self.asked and connection.stirs()):
            await self._connect(deadline)

    async def _connect(self, deadline: float) -> _Connection:
        connection = self._connection
        while connection is not None and not connection.leaving:
            if self.asked or not connection.stirs():
                return connection
            await anyio.lowlevel.checkpoint()  # it is its reader's turn
        if self.closed:
            raise InvalidRequest("this store is closed; connect again")
        attempt = self._attempt
        if attempt is None:
            attempt = self._attempt = _Attempt()
            head_start_s = min(HEAD_START_S, (deadline - monotonic()) / (len(self._endpoints) + 1))
            self._tasks.start_soon(self._race, attempt, max(0.0, head_start_s))
        with anyio.move_on_after(max(0.0, deadline - monotonic())):
            await attempt.ended.wait()
        connection = self._connection
        if connection is None or connection.leaving:
            raise unreachable(attempt.failures, self._endpoints)
        return connection

    async def _race(self, attempt: _Attempt, head_start_s: float) -> None:
        if self._connection is not None and self._connection.shunned:
            self._endpoints.remove(self._connection.endpoint)
            self._endpoints.append(self._connection.endpoint)
        try:
            async with anyio.create_task_group() as tasks:
                for endpoint in list(self._endpoints):
                    attempt.failed = anyio.Event()
                    tasks.start_soon(self._try, endpoint, attempt, tasks.cancel_scope)
                    with anyio.move_on_after(head_start_s):
                        await attempt.failed.wait()
        finally:
            self._attempt = None
            attempt.ended.set()

    async def _try(self, endpoint: str, attempt: _Attempt, scope: anyio.CancelScope) -> None:
        try:
            with anyio.fail_after(CONNECT_S_MAX):
                connection = await _open(endpoint, self.asked, attempt.failures)
        except (OSError, ProtocolError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
            if not isinstance(error, TimeoutError):  # which says less than what stands there
                attempt.failures[endpoint] = _cause(error)
            attempt.failed.set()
            return
        if scope.cancel_called or self.closed:  # another one was faster
            await connection.discard()
            return
        scope.cancel()
        self._endpoints.remove(endpoint)
        self._endpoints.insert(0, endpoint)
        self._connection = connection
        welcome = connection.welcome
        self.members, self.cluster, self.rules = welcome.names, welcome.cluster, welcome.rules
        self.timeout_s_max = welcome.timeout_ms_max / 1e3
        self.addresses = {member.name: member.address for member in welcome.members}
        self._tasks.start_soon(connection.run)

    async def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> Batch:
        self._owner.check()
        asked = self.asked
        # Before the table is entered: what is wrong with an argument leaves no entry behind.
        batch = Batch(self._next_id + 1, asking)
        self._next_id = batch.last
        while batch.untold:
            connection = self._connection
            # While others wait for answers, its reader is at work anyway.
            if connection is None or connection.leaving or (not asked and connection.stirs()):
                connection = await self._connect(deadline)
            if cluster:
                check_cluster(cluster, self.cluster)
            if len(asked) + batch.untold > PENDING_MAX:
                raise overfull()
            sent = monotonic()
            batch.requests, deadline = fitted(
                batch.requests, asking.timeout_s, self.timeout_s_max, deadline, sent
            )
            bell = self._owner.bell()
            batch.enter(asked, sent, deadline + GRACE_S, bell, connection)
            connection.send(batch.requests)
            try:
                await bell.wait()
            finally:
                if batch.untold:
                    batch.leave(asked)
            if not batch.failed or not batch.again():
                break
        return batch


@asynccontextmanager
async def channel_to(endpoints: Sequence[str], timeout_s: float) -> AsyncIterator[Channel]:
    """A way to the cluster of these endpoints, for the length of a block; Unreachable."""
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            channel = _NetworkChannel(endpoints, tasks)
            await channel.ready(monotonic() + timeout_s)
            yield channel
        except Exception as error:  # noqa: BLE001 - carried past the task group, which would wrap it
            failure = error
        channel.closed = True
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


@opening
@asynccontextmanager
async def connect(
    endpoints: Sequence[str] | str | None = None,
    *,
    consistency: Consistency = "quorum",
    timeout: float | None = None,
) -> AsyncIterator[Store]:
    """A store on a remote cluster, for the length of an `async with` block.

    endpoints  host:port of one node or several, in order of preference; any node serves any key. Without
               any: those that the environment names in BASESTORE_ENDPOINTS, or else 127.0.0.1:7400
    timeout    seconds, for calls that say nothing else, and for connecting: 5, or what the cluster takes if
               that is less. A call ends by then, whatever it waits for, or half a second later, with what a
               node has told of it by then
    At most 4,096 requests are under way at once; one more raises Overloaded. The store belongs to the event
    loop that it was made in. Raises InvalidRequest and Unreachable.
    """
    listed = check_endpoints(endpoints)
    calls = Calls(consistency, timeout)  # what is wrong with these is said before anything is done
    async with channel_to(listed, calls.timeout_s) as channel:
        yield Store(channel, consistency, timeout)
