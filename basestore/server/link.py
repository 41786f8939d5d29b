"""Link: one connection on Trio, with its frames and its wake-up; the handshake of both sides.

What an outbox holds is sent as one frame. While the socket takes no more, more gathers, and travels
as the next: that is the whole of batching.
"""

import socket
from collections.abc import Callable
from typing import NoReturn

import trio

from basestore.cluster.outbox import Outbox
from basestore.config import ClusterConfig, differences, parse_address
from basestore.protocol.codec import Message
from basestore.protocol.frames import HELLO_BYTES_MAX, FrameReader, pack
from basestore.protocol.handshake import Differs, Hello, Refused, Welcome
from basestore.protocol.limits import PROTOCOL, ProtocolError
from basestore.server.poller import Poller

RECEIVE_BYTES = 256 << 10
HANDSHAKE_S_MAX = 5.0
SOCKET_OPTIONS = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 15_000}
MESSAGE_BYTES_EXPECTED = 256 << 10
ROOM_MESSAGES_MIN = 8
NAME_CHARACTERS_SHOWN = 64

Hear = Callable[[list[Message]], list[Message]]


class PeerRefused(ProtocolError):
    """Who called itself a node was refused. An operator should know."""


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
    """One connection. `sending_since`: when the frame under way began to wait for the socket, or None.

    It works on the bare socket: when a step of the node ends, frames are sent at once, without
    another task's turn, as far as the socket takes them.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        _watch(self._socket)
        self._frames = FrameReader(HELLO_BYTES_MAX)
        self._early: list[Message] = []
        self._unsent = memoryview(b"")
        self._unheard: list[Message] = []
        self._ended: Exception | None = None
        self._stirred = Signal()
        self.scope = trio.CancelScope()
        self.sending_since: float | None = None
        self.messages_sent = 0
        self._message_bytes: float = MESSAGE_BYTES_EXPECTED

    async def send(self, *messages: Message) -> None:
        """Send one frame, in a handshake; ConnectionError when the other side is gone."""
        self._unsent = memoryview(pack(messages))
        self._push()
        await self._drain()

    def send_nowait(self, outbox: Outbox) -> None:
        """Send what the outbox holds, until the socket takes no more; `run` sends the rest."""
        while outbox.messages and not self._unsent and self._ended is None:
            waiting_bytes = outbox.bytes
            messages = outbox.take()
            mean_bytes = (waiting_bytes - outbox.bytes) / len(messages)
            self._unsent = memoryview(pack(messages))
            self._push()
            self.messages_sent += len(messages)
            self._message_bytes = (self._message_bytes + mean_bytes) / 2
        if self._unsent or self._unheard:
            self._stirred.set()

    def _push(self) -> None:
        """Hand bytes to the socket while it takes them. An error is kept for `run` to find."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._end(ConnectionError(str(error)))

    async def _drain(self) -> None:
        """Until all that was begun is sent; raises what ended the connection."""
        while self._unsent and self._ended is None:
            await trio.lowlevel.wait_writable(self._socket)
            self._push()
        if self._ended is not None:
            raise self._ended

    async def run(
        self, outbox: Outbox, poller: Poller, hear: Hear, wake: Callable[[], None], frame_bytes_max: int
    ) -> None:
        """Carry messages both ways until the connection ends, which raises ConnectionError or
        ProtocolError. `hear` gives back what it cannot take yet; while it does, nothing is read.
        `wake` is called when something was heard outside of the poller's round."""
        self._frames.frame_bytes_max = frame_bytes_max
        self._unheard, self._early = hear(self._early), []

        def readable() -> None:
            self._read(poller, hear)

        with poller.registered(self._socket, readable):
            if self._unheard:
                poller.pause(self._socket)
            self.send_nowait(outbox)
            while True:
                await self._stirred.wait()
                self.sending_since = trio.current_time()
                await self._drain()
                self.sending_since = None
                self.send_nowait(outbox)
                if self._unheard:
                    self._unheard = hear(self._unheard)
                    wake()
                    if not self._unheard:
                        poller.resume(self._socket, readable)

    def _read(self, poller: Poller, hear: Hear) -> None:
        """Something lies ready: hear it. The end of the connection is kept for `run` to find."""
        try:
            messages = self._take()
            self._unheard = hear(messages) if messages else messages
        except (ConnectionError, ProtocolError) as error:
            self._end(error)
        if self._unheard or self._ended is not None:
            poller.pause(self._socket)

    def _end(self, error: Exception) -> None:
        self._ended = error
        self._stirred.set()

    def _take(self) -> list[Message]:
        """The messages whose frames are complete by now; ConnectionError at the end."""
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            raise ConnectionError(str(error)) from error
        if not data:
            if self._frames.partial:
                raise ProtocolError("the stream ended inside a frame")
            raise ConnectionError("the other side closed the connection")
        return self._frames.feed(data)

    async def receive_one(self) -> Message:
        """The first message, in a handshake; what came with it is heard later."""
        while not self._early:
            await trio.lowlevel.wait_readable(self._socket)
            self._early = self._take()
        return self._early.pop(0)

    def room(self, bytes_max: int) -> int:
        """How many messages of the size that was sent lately make so many bytes; a few at least."""
        return max(ROOM_MESSAGES_MIN, int(bytes_max / self._message_bytes))

    def close(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


def _watch(connection: socket.socket) -> None:
    """Let the system notice that the other side has vanished without a word (a power cut, a cable)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in SOCKET_OPTIONS.items():
        option = getattr(socket, name, None)  # not every system has all of them
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def dial(address: str) -> Link:
    """Connect; OSError when that fails."""
    host, port = parse_address(address)
    with trio.fail_after(HANDSHAKE_S_MAX):
        return Link(await trio.open_tcp_stream(host, port))


async def introduce(link: Link, config: ClusterConfig, name: str, peer: str) -> None:
    """The dialling node's side: say hello; ProtocolError when refused, naming what differs."""
    await link.send(Hello(PROTOCOL, config.id, config.digest, name))
    answer = await link.receive_one()
    if isinstance(answer, Refused):
        if not answer.configuration:
            raise ProtocolError(f"{peer} refuses: {answer.reason}")
        await link.send(Differs(config.canonical()))
        raise ProtocolError(_difference(config, peer, answer.configuration))
    if not isinstance(answer, Welcome) or answer.sender != peer:
        raise ProtocolError(f"who answers at {peer}'s address is not {peer}; check the addresses")


async def admit(link: Link, config: ClusterConfig, name: str, may_dial: Callable[[str], bool]) -> str:
    """The accepting side: hear the hello and answer it. Returns the node's name, or "" for a
    client; ProtocolError when it was refused."""
    hello = await link.receive_one()
    if not isinstance(hello, Hello):
        await _refuse(link, "", "the first message must be a hello")
    if hello.protocol != PROTOCOL:
        reason = f"protocol version {hello.protocol} is not spoken here, only {PROTOCOL}; upgrade"
        await _refuse(link, hello.sender, reason)
    if hello.cluster not in (b"", config.id) or (hello.sender and not hello.cluster):
        reason = f"this is a node of cluster {config.id.hex()}, not of {hello.cluster.hex()}"
        await _refuse(link, hello.sender, reason)
    if hello.digest not in (b"", config.digest) or (hello.sender and not hello.digest):
        reason = "the cluster configurations differ"
        await link.send(Refused(reason, config.canonical() if hello.sender else ""))
        if hello.sender:
            answer = await link.receive_one()
            if isinstance(answer, Differs):
                raise PeerRefused(_difference(config, hello.sender, answer.configuration))
        raise ProtocolError(reason)
    if hello.sender and not may_dial(hello.sender):
        await _refuse(link, hello.sender, f"{hello.sender!r} is not a member that dials {name}")
    members = [word for member in config.members for word in (member.name, member.address)]
    buckets = [word for name, rule in sorted(config.buckets.items()) for word in (name, rule.value)]
    await link.send(Welcome(PROTOCOL, config.id, name, members, buckets))
    return hello.sender


async def _refuse(link: Link, sender: str, reason: str) -> NoReturn:
    await link.send(Refused(reason, ""))
    if sender:
        raise PeerRefused(f"{sender[:NAME_CHARACTERS_SHOWN]} was refused: {reason}")
    raise ProtocolError(reason)


def _difference(config: ClusterConfig, peer: str, theirs: str) -> str:
    listed = "; ".join(differences(config.canonical(), theirs))
    return f"{peer} has another cluster configuration: {listed}. Make both files agree and restart"
