"""Link: one connection on Trio, with its frames and its wake-up; the handshake of both sides.

A link's writer sleeps until it is woken, takes what its outbox holds and sends it as one frame.
Meanwhile more gathers: that is the whole of batching.
"""

import logging
from collections.abc import Callable
from typing import NoReturn

import trio

from basestore.config import ClusterConfig, differences, parse_address
from basestore.messages import PROTOCOL, Differs, Hello, Message, ProtocolError, Refused, Welcome
from basestore.net.frames import FRAME_BYTES_MAX, HELLO_BYTES_MAX, FrameReader, pack
from basestore.outbox import Outbox

RECEIVE_BYTES = 256 << 10
HANDSHAKE_S_MAX = 5.0
MESSAGE_BYTES_EXPECTED = 64 << 10
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
    """One connection. `sending_since` is the time when the present send began, or None."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._frames = FrameReader(HELLO_BYTES_MAX)
        self._early: list[Message] = []
        self.wake = Signal()
        self.sent = Signal()
        self.scope = trio.CancelScope()
        self.sending_since: float | None = None
        self.messages_sent = 0
        self._message_bytes: float = MESSAGE_BYTES_EXPECTED

    async def send(self, *messages: Message) -> None:
        """Send one frame; ConnectionError when the other side is gone."""
        try:
            await self._stream.send_all(pack(messages))
        except trio.BrokenResourceError as error:
            raise ConnectionError(str(error.__cause__ or error)) from error

    async def receive(self) -> list[Message]:
        """The messages of the next frames, or none at the end of the stream."""
        if self._early:
            messages, self._early = self._early, []
            return messages
        while True:
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except trio.BrokenResourceError as error:
                raise ConnectionError(str(error.__cause__ or error)) from error
            if not data:
                if self._frames.partial:
                    raise ProtocolError("the stream ended inside a frame")
                return []
            messages = self._frames.feed(bytes(data))
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

    async def write(self, outbox: Outbox) -> None:
        """Send what the outbox holds, each time the link is woken, until the connection ends."""
        while True:
            await self.wake.wait()
            while outbox.messages:
                self.sending_since = trio.current_time()
                waiting_bytes = outbox.bytes
                messages = outbox.take()
                mean_bytes = (waiting_bytes - outbox.bytes) / len(messages)
                await self.send(*messages)
                self.sending_since = None
                self.messages_sent += len(messages)
                self._message_bytes = (self._message_bytes + mean_bytes) / 2
            self.sent.set()

    def room(self, bytes_max: int) -> int:
        """How many messages of the size that was sent lately make so many bytes; a few at least."""
        return max(ROOM_MESSAGES_MIN, int(bytes_max / self._message_bytes))

    def close(self) -> None:
        self._stream.socket.close()


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
