"""Connection: one connection of an asynchronous store, on Trio and on asyncio (through anyio).

It is shared by all calls. What gathers while a frame is being sent travels in the next one, so that a hundred
calls at once cost a few frames. Before a request is given to a connection that was quiet, what lies there is
heard: a node that has closed it meanwhile costs no call. If the connection breaks, calls under way raise
ConnectionLost; those whose request had not been sent are asked anew, over the next connection.

A window bounds what is under way on it; what there is no room for waits here. It refuses to connect anew:
that is its channel's (`network_channel.py`).
"""

import math
import select
from collections.abc import Callable, Mapping
from time import monotonic

import anyio
import anyio.abc

from basestore.client.channel import Batch, Unsent, hear, overdue
from basestore.config import parse_address
from basestore.errors import ConfigurationError
from basestore.protocol.codec import Message
from basestore.protocol.envelopes import seal
from basestore.protocol.groups import singly
from basestore.protocol.handshake import ANYBODY, Meant, Renewed, Welcome, welcomed
from basestore.protocol.limits import ProtocolError
from basestore.results.answers import late, lost
from basestore.transport.dialling import HEAD_START_S
from basestore.transport.endpoints import NO_CONNECTION, SILENT, crowded
from basestore.transport.frames import FrameReader, pack
from basestore.transport.owner import Event
from basestore.transport.window import Window

SWEEP_S = 0.1
RECEIVE_BYTES = 64 << 10  # for a larger buffer the allocator asks the system each time


async def room_in(
    window: Window,
    table: Mapping[int, Batch],
    batch: Batch,
    bell: Event,
    waits_s: float,
    endpoint: str,
    ended: Callable[[], bool],
) -> bool:
    """Until a window has room for a batch, which is to be sent at once then, beside those in the table; false
    when it has `ended` meanwhile, Overloaded when there is none in this time."""
    waiting = window.join(batch.untold, batch.size, bell)
    try:
        with anyio.move_on_after(waits_s):
            await bell.wait()
        if ended():
            return False
        if not waiting.let_in:
            raise crowded(endpoint, window, waits_s)
        window.enter(waiting)
        return True
    finally:
        if not waiting.over:
            window.part(waiting)
            window.let_in(len(table))


class Connection:
    """One connection whose handshake is done; `asked`: the table of what is under way on it. `leaving`: it
    takes no more requests; `shunned`: its node is the last to be connected to again; `bulk`: nothing on it is
    urgent."""

    def __init__(
        self, stream: anyio.abc.SocketStream, frames: FrameReader, endpoint: str, welcome: Welcome
    ) -> None:
        self._stream = stream
        self._frames = frames
        self.endpoint = endpoint
        self.welcome, self.rules, self.names = welcome, welcome.rules, welcome.names
        self.version = welcome.version
        frames.speak(self.version)
        self.bulk = False
        self.asked: dict[int, Batch] = {}
        self.window = Window()
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

    async def room(self, batch: Batch, bell: Event, waits_s: float) -> bool:
        """Until there is room for a batch, which is to be sent at once then; false when the connection ends,
        Overloaded when there is none in this time."""
        return await room_in(
            self.window, self.asked, batch, bell, waits_s, self.endpoint, lambda: self.leaving
        )

    def let_in(self) -> None:
        """Those who wait, as far as there is room."""
        if self.window.line:
            self.window.let_in(len(self.asked))

    def stirs(self) -> bool:
        """Whether something lies there that was not heard yet: a late answer, or the end of it. That is of
        interest if it was quiet: while others wait for answers, its reader is at work anyway."""
        return bool(self._readable.poll(0))

    def leave(self) -> None:
        """Take no more requests. What has not been sent is asked elsewhere, what has may be answered yet."""
        self.leaving = self.shunned = True
        self._take_back()

    def _take_back(self) -> None:
        self.window.turn_away()
        unsent, self._outgoing = singly(self._outgoing), []
        for request in unsent:
            batch = self.asked.pop(request.id, None)
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
            for number, batch in overdue(self.asked, math.inf):
                batch.fail(number, lost(text, batch.request(number)))
            await self.discard()

    async def _read(self) -> str:
        """Hand on answers until the connection ends; returns why it did."""
        try:
            while True:
                data = await self._stream.receive(RECEIVE_BYTES)
                self._heard = monotonic()
                said = self._frames.feed(data)
                if hear(said, self.asked, self.window, self.endpoint, self._heard, self._renew):
                    self.leave()
                self.let_in()
        except anyio.EndOfStream:
            return "the node closed the connection"
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, ProtocolError) as error:
            return str(error) or "the network broke it"

    def _renew(self, said: Renewed) -> None:
        self.welcome = self.welcome.renewed(said)
        self.rules, self.names = self.welcome.rules, self.welcome.names

    async def _write(self, scope: anyio.CancelScope) -> None:
        try:
            while True:
                await self._wake.wait()
                # A new event before the messages are taken: what is added from now on sets this one.
                self._wake = anyio.Event()
                while self._outgoing:  # what came while the last frames were being sent
                    messages, self._outgoing = self._outgoing, []
                    for frame in seal(messages, self.version, bulk=self.bulk):
                        await self._stream.send(frame)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            scope.cancel()

    async def _sweep(self, scope: anyio.CancelScope) -> None:
        """Fail the requests whose answer is overdue. A node that has said nothing at all since such a
        request was sent has fallen silent: the next call looks for another."""
        while True:
            await anyio.sleep(SWEEP_S)
            unanswered = overdue(self.asked, monotonic())
            for number, batch in unanswered:
                batch.fail(number, late(self.endpoint, batch.request(number)))
            if any(self._heard < batch.sent for _, batch in unanswered):
                self.leave()
            if self.leaving and not self.asked:
                scope.cancel()


async def open_connection(endpoint: str, failures: dict[str, object], meant: Meant = ANYBODY) -> Connection:
    """Connect and shake hands; ProtocolError when refused, or answered by another than was meant. Whatever
    goes wrong, nothing stays open. In `failures` stands meanwhile what it is if nothing more comes."""
    failures[endpoint] = NO_CONNECTION
    try:
        host, port = parse_address(endpoint)
        stream = await anyio.connect_tcp(host, port, happy_eyeballs_delay=HEAD_START_S)
    except (ConfigurationError, ValueError) as error:  # what a node has told need be no address
        raise OSError(str(error)) from error
    failures[endpoint] = SILENT
    try:
        await stream.send(pack([meant.hello]))
        frames = FrameReader()
        while (said := frames.first(await stream.receive(RECEIVE_BYTES))) is None:
            pass
        return Connection(stream, frames, endpoint, welcomed(said, meant))
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(stream)
        raise
