"""Link: one connection, which carries messages as frames between a socket and the node.

    outbox -> pack -> unsent bytes -> socket        as far as the socket takes them; `run` sends the rest
    socket -> FrameReader -> messages -> hear       what `hear` gives back is kept, and nothing more is read

What an outbox holds is sent as one frame. While the socket takes no more, more gathers, and travels as the
next: that is the whole of batching, and the slower the other side is the larger its frames become.

A link keeps at most one frame that is not sent and what one read has brought; the outbox bounds the rest.
It knows nothing of who is at the other end nor of what the messages mean: that is for `connections`.
"""

import socket
from collections.abc import Callable
from typing import Any

import trio

from basestore.cluster.outbox import Outbox, weight
from basestore.config import parse_address
from basestore.errors import ConfigurationError
from basestore.protocol.codec import Decoder, Message
from basestore.protocol.groups import requests_in
from basestore.protocol.limits import WIRE_HIGHEST, ProtocolError
from basestore.server.poller import Poller, Readable
from basestore.transport.frames import HELLO_BYTES_MAX, FrameReader, Shut, nothing, pack

RECEIVE_BYTES = 64 << 10  # for a larger buffer the allocator asks the system each time
DIAL_S_MAX = 5.0
# Of a dead host a silent connection hears from keepalive probes (RFC 1122, 4.2.3.6): after 15 s without a
# word one every 5 s, three in all. One with bytes under way hears from TCP_USER_TIMEOUT (RFC 5482), in ms.
SOCKET_OPTIONS = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 15_000}
MESSAGE_BYTES_EXPECTED = 256 << 10
ROOM_MESSAGES_MIN = 8

Hear = Callable[[list[Any]], list[Any]]


class Ended(ConnectionError):
    """The other side has ended the connection, and lost nothing."""


class Signal:
    """An event that is heard once and then quiet again."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


class Link:
    """One connection. `sending_since`: when the frame under way began to wait for the socket, or None;
    `partial_since`: since when one that comes in has not ended, though all that lay there was read;
    `put_off`: something lies there now, and is read in a later turn. `host`: the address that it comes from;
    `version`: of the protocol, as the handshake has settled; `count`: is told the bytes of each frame from an
    outbox, if anybody wants to know.

    It takes the socket out of Trio's stream and writes to it bare and non-blocking: the node's step ends in
    a plain call, so that frames can leave at the end of the same turn. A stream's `send_all` would need a
    task to be scheduled for each link, and the frame would wait for that task's turn.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.host = _host(stream.socket)
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        _watch(self._socket)
        self._frames = FrameReader(HELLO_BYTES_MAX)
        self.version = WIRE_HIGHEST
        self._unsent = memoryview(b"")
        self._unheard: list[Any] = []
        self._ended: Exception | None = None
        self._stirred = Signal()
        self.scope = trio.CancelScope()
        self.sending_since: float | None = None
        self.partial_since: float | None = None
        self.put_off = False
        self._unheard_bytes = 0
        self._poller: Poller | None = None
        self._readable: Readable | None = None
        self._paused = False
        self._sealed = False
        self._message_bytes: float = MESSAGE_BYTES_EXPECTED
        self.count: Callable[[int], None] | None = None

    async def send(self, message: Message) -> None:
        """Send a frame of one message, in a handshake; ConnectionError when the other side is gone."""
        self._unsent = memoryview(pack([message]))
        self._push()
        await self._drain()

    def send_nowait(self, outbox: Outbox) -> None:
        """Send what the outbox holds, until the socket takes no more; `run` sends the rest."""
        # One frame under way at a time: what gathers behind it becomes the next, larger one.
        while outbox.messages and not self._unsent and self._ended is None:
            waiting_bytes = outbox.bytes
            messages = outbox.take()  # about one frame's worth; the loop sends what is left
            count = requests_in(messages)
            mean_bytes = (waiting_bytes - outbox.bytes) / count
            self._unsent = memoryview(pack(messages, self.version))
            if self.count is not None:
                self.count(len(self._unsent))
            self._push()
            self._message_bytes = (self._message_bytes + mean_bytes) / 2
        if self._unsent or self._unheard:
            self._stirred.set()

    def _push(self) -> None:
        """Hand bytes to the socket while it takes them. An error is kept for `run` to find: the node's
        step, which calls this, must not end because one of its connections has."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            self.end(ConnectionError(str(error)))

    async def _drain(self) -> None:
        """Until all that was begun is sent; raises what ended the connection."""
        while self._unsent and self._ended is None:
            await trio.lowlevel.wait_writable(self._socket)
            self._push()
        if self._ended is not None:
            raise self._ended

    def speak(self, version: int) -> None:
        """As the handshake has settled."""
        self.version = version
        self._frames.speak(version)

    def hear_out(self, frame_bytes_max: int) -> None:
        """Take frames of such a length from now on: the other side has proven who it is."""
        self._frames.frame_bytes_max = frame_bytes_max

    @property
    def decoder(self) -> Decoder:
        """Of what has come over it."""
        return self._frames.decoder

    def keep_sealed(self, shut: Shut = nothing) -> None:
        """What comes from now on stands in envelopes, and is handed on as it is."""
        self._frames.keep_sealed(shut)
        self._sealed = True

    async def run(
        self, outbox: Outbox, poller: Poller, hear: Hear, wake: Callable[[], None], frame_bytes_max: int
    ) -> None:
        """Carry messages both ways until the connection ends, which raises ConnectionError or
        ProtocolError. `hear` gives back what it cannot take yet; while it does, nothing is read.
        `wake` is called when something was heard outside of the poller's round."""
        self._frames.frame_bytes_max = frame_bytes_max
        self._keep(hear(self._frames.feed(b"")))  # what came with the end of the handshake

        def readable() -> bool:
            return self._read(poller, hear)

        self._poller, self._readable = poller, readable
        with poller.registered(self._socket, readable):
            if self._unheard:
                poller.pause(self._socket)
            # What lay in the outbox before this link was known to `Connections`.
            self.send_nowait(outbox)
            while True:
                await self._stirred.wait()
                self.sending_since = trio.current_time()
                await self._drain()
                self.sending_since = None
                self.send_nowait(outbox)
                # Room may have been made by what was just sent: offer again what was given back. The
                # poller hears this socket again only when all of it is taken (backpressure).
                if self._unheard:
                    self._keep(hear(self._unheard))
                    wake()
                    if not self._unheard and not self._paused:
                        poller.resume(self._socket, readable)

    def pause(self) -> None:
        """Read nothing until it is to `resume`: more comes in than is taken."""
        self._paused = True

    def resume(self) -> None:
        """Read again, if it is paused."""
        if self._paused:
            self._paused = False
            if self._poller and self._readable and not self._unheard and self._ended is None:
                self._poller.resume(self._socket, self._readable)

    def _read(self, poller: Poller, hear: Hear) -> bool:
        """Something lies ready: hear it. The end of the connection is kept for `run` to find. True if more
        may lie there, and what was read is only queued: it can be read on in this turn."""
        self.put_off = self._sealed and poller.hurried  # what lies there lies there in the next turn too
        if self.put_off:
            poller.put_off += 1
            return False
        try:
            data = self._receive()
            messages = self._frames.feed(data)
            more = len(data) == RECEIVE_BYTES  # may lie there: it is not the other side that is waited for
            if messages or more or self.partial_since is None:
                self.partial_since = trio.current_time() if self._frames.partial else None
            poller.partial |= self.partial_since is not None
            self._keep(hear(messages) if messages else messages)
        except (ConnectionError, ProtocolError) as error:
            self.end(error)
        if self._unheard or self._paused or self._ended is not None:
            poller.pause(self._socket)
            return False
        # Of a long frame little in a turn, for it is kept.
        return self._sealed and more and self._frames.partial <= RECEIVE_BYTES

    def _keep(self, unheard: list[Message]) -> None:
        """What was given back. Meanwhile the other side cannot end its frame."""
        self._unheard = unheard
        self._unheard_bytes = sum(map(weight, unheard))
        if unheard:
            self.partial_since = None
        elif self._frames.partial and self.partial_since is None:
            self.partial_since = trio.current_time()

    @property
    def held(self) -> int:
        """Bytes that it keeps: of what has come in and what goes out."""
        return self._frames.partial + self._unheard_bytes + len(self._unsent)

    def end(self, error: Exception) -> None:
        """It ends, for this reason, which `run` raises."""
        self._ended = error
        self._stirred.set()

    def _receive(self) -> bytes:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise ConnectionError(str(error)) from error
        if not data:
            # An end between two frames is how connections end; inside one something was lost.
            if self._frames.partial:
                raise ProtocolError("the stream ended inside a frame")
            raise Ended("the other side closed the connection")
        return data

    async def receive_one(self) -> Message:
        """The next message of a handshake; what came with it is heard later."""
        data = b""
        while (said := self._frames.first(data)) is None:
            await trio.lowlevel.wait_readable(self._socket)
            data = self._receive()
        return said

    def room(self, bytes_max: int) -> int:
        """How many messages of the size that was sent lately make so many bytes; a few at least."""
        return max(ROOM_MESSAGES_MIN, int(bytes_max / self._message_bytes))

    def close(self) -> None:
        # First: a task that waits for this socket must not find another one under the same number.
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        # At once: others may refer to this link for a while, in circles that only a collector finds.
        self._frames.forget()
        self._unheard, self._unheard_bytes, self._unsent = [], 0, memoryview(b"")


def _watch(connection: socket.socket) -> None:
    """Let the system notice that the other side has vanished without a word (a power cut, a cable)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in SOCKET_OPTIONS.items():
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _host(connection: trio.socket.SocketType) -> str:
    try:
        return str(connection.getpeername()[0])
    except OSError:  # it has gone again already
        return ""


async def dial(address: str) -> Link:
    """Connect; OSError when that fails."""
    with trio.fail_after(DIAL_S_MAX):
        try:
            host, port = parse_address(address)
            return Link(await trio.open_tcp_stream(host, port))
        except (ConfigurationError, ValueError) as error:  # what cannot be looked up
            raise OSError(str(error)) from error
