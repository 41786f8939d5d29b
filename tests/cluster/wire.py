"""A client that speaks frames by hand: it can say what no client says, and fall silent."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from basestore.config import parse_address
from basestore.protocol.codec import Message, encode
from basestore.protocol.envelopes import class_of, enveloped, timeout_of
from basestore.protocol.groups import requests_in
from basestore.protocol.handshake import CLIENT_HELLO, Renewed, Welcome
from basestore.transport.frames import FrameReader, pack
from tests.cluster.processes import NodeProcess
from tests.worlds.patience import PATIENCE_S


def sealed(*messages: Any) -> bytes:
    """One frame of anything at all, in an envelope that fits as well as one can."""
    first = getattr(messages[0], "id", 0)
    at = first if 0 <= first < 1 << 64 else 0
    return enveloped(encode(messages), at, requests_in(messages), timeout_of(messages), class_of(messages[0]))


class Wire:
    """One connection to a node. `host`: the address of this machine from which it comes, if it matters."""

    def __init__(self, node: NodeProcess, host: str = "") -> None:
        source = (host, 0) if host else None
        self.socket = socket.create_connection(parse_address(node.endpoint), PATIENCE_S, source)
        self._frames = FrameReader()
        self._sealing = False

    @classmethod
    def greeted(cls, node: NodeProcess, host: str = "") -> Self:
        """One whose handshake, as a client, is done."""
        wire = cls(node, host)
        wire.say(CLIENT_HELLO)
        (welcome,) = wire.hear()
        assert isinstance(welcome, Welcome)
        wire.seals()
        return wire

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def seals(self) -> None:
        """From now on what it says stands in envelopes, as a client's requests do."""
        self._sealing = True

    def say(self, *messages: Message) -> None:
        """One frame."""
        self.send(sealed(*messages) if self._sealing else pack(messages))

    def send(self, data: bytes) -> None:
        """Bytes as they are. That the node has closed its side already is seen by who hears."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def hear(self) -> Sequence[Message]:
        """The next messages, or none when the node has closed the connection; not what it says unasked, of
        buckets and members that are new."""
        while True:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                return []
            if not data:
                return []
            if messages := [each for each in self._frames.feed(data) if not isinstance(each, Renewed)]:
                return messages

    def closes(self) -> bool:
        """Whether the node closes the connection, saying nothing more."""
        return not self.hear()

    def close(self) -> None:
        self.socket.close()
