"""Link: one connection on Trio, with its frames and its wake-up; the handshake of both sides.

What an outbox holds is sent as one frame. While the socket takes no more, more gathers, and travels
as the next: that is the whole of batching.
"""

import logging
import socket
from collections.abc import Callable
from typing import NoReturn

import trio

from basestore.config import ClusterConfig, differences, parse_address
from basestore.messages import PROTOCOL, Differs, Hello, Message, ProtocolError, Refused, Welcome
from basestore.net.frames import FRAME_BYTES_MAX, HELLO_BYTES_MAX, FrameReader, pack
from basestore.outbox import Outbox

RECEIVE_BYTES = 256 << 10
HANDSHAKE_S_MAX = 5.0
MESSAGE_BYTES_EXPECTED = 256 << 10
ROOM_MESSAGES_MIN = 8
NAME_CHARACTERS_SHOWN = 64

log = logging.getLogger("basestore")


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
    """One connection. `sending_since` is the time since which the other side takes nothing, or None.

    It works on the bare socket: when a step of the node ends, frames are sent at once, without
    another task's turn, as far as the socket takes them.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        self._frames = FrameReader(HELLO_BYTES_MAX)
        self._early: list[Message] = []
        self._unsent = memoryview(b"")
        self._broken: OSError | None = None
        self._blocked = Signal()
        self.sent = Signal()
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
        """Send what the outbox holds, until the socket takes no more; `write` sends the rest."""
        while outbox.messages and not self._unsent and self._broken is None:
            waiting_bytes = outbox.bytes
            messages = outbox.take()
            mean_bytes = (waiting_bytes - outbox.bytes) / len(messages)
            self._unsent = memoryview(pack(messages))
            self._push()
            self.messages_sent += len(messages)
            self._message_bytes = (self._message_bytes + mean_bytes) / 2
        if self._unsent or self._broken is not None:
            self._blocked.set()
        else:
            self.sent.set()

    def _push(self) -> None:
        """Hand bytes to the socket while it takes them. An error is kept for whoever waits."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._broken = error

    async def _drain(self) -> None:
        """Until all that was begun is sent; ConnectionError when the other side is gone."""
        while self._unsent and self._broken is None:
            await trio.lowlevel.wait_writable(self._socket)
            self._push()
        if self._broken is not None:
            raise ConnectionError(str(self._broken)) from self._broken

    async def write(self, outbox: Outbox) -> None:
        """Send what could not be sent at once, whenever there is such, until the connection ends."""
        while True:
            await self._blocked.wait()
            self.sending_since = trio.current_time()
            await self._drain()
            self.sending_since = None
            self.send_nowait(outbox)

    async def receive(self) -> list[Message]:
        """The messages of the next frames, or none at the end of the stream."""
        if self._early:
            messages, self._early = self._early, []
            return messages
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionError(str(error)) from error
            if not data:
                if self._frames.partial:
                    raise ProtocolError("the stream ended inside a frame")
                return []
            messages = self._frames.feed(data)
            if messages:
                return messages

    async def receive_one(self) -> Message:
        """The first message, in a handshake; what came with it waits for `receive`."""
        messages = await self.receive()
        if not messages:
            raise ConnectionError("the other side closed the connection")
        self._early = messages[1:]
        return messages[0]

    def established(self) -> None:
        """The handshake is done: full frames are allowed."""
        self._frames.frame_bytes_max = FRAME_BYTES_MAX

    def room(self, bytes_max: int) -> int:
        """How many messages of the size that was sent lately make so many bytes; a few at least."""
        return max(ROOM_MESSAGES_MIN, int(bytes_max / self._message_bytes))

    def close(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


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
    link.established()


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
    await link.send(Welcome(PROTOCOL, config.id, name, members))
    link.established()
    return hello.sender


async def _refuse(link: Link, sender: str, reason: str) -> NoReturn:
    await link.send(Refused(reason, ""))
    if sender:
        raise PeerRefused(f"{sender[:NAME_CHARACTERS_SHOWN]} was refused: {reason}")
    raise ProtocolError(reason)


def _difference(config: ClusterConfig, peer: str, theirs: str) -> str:
    listed = "; ".join(differences(config.canonical(), theirs))
    return f"{peer} has another cluster configuration: {listed}. Make both files agree and restart"
