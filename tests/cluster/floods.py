"""Floods: many connections that ask without end, and the polite client beside them, which is another tenant
for it comes from another address.

What is measured is counted, in answers and bytes: a node that is slow is slow to all of them.
"""

import resource
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

import pytest

from basestore.config import parse_address
from basestore.consistency import Level
from basestore.errors import Overloaded
from basestore.protocol.client import Credit, Failed, Get, Got, Set, Shed, Written
from basestore.protocol.codec import Message
from basestore.protocol.handshake import CLIENT_HELLO, Renewed
from basestore.transport.frames import FrameReader, pack
from tests.cluster.processes import NodeProcess
from tests.cluster.wire import Wire
from tests.worlds.patience import PATIENCE_S, eventually

POLITE_HOST: Final = "127.0.0.2"
PAUSE_S: Final = 0.02
AGAIN: Final = 20  # strangers, after each pause
RECEIVE_BYTES: Final = 1 << 16


@contextmanager
def many_files(needed: int) -> Iterator[None]:
    """This process, and those that it starts, may open so many; or the test is skipped."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this process may open {hard} files, and {needed} are needed: ulimit -Hn")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def refused_in(message: Message) -> int:
    """Of how many requests this says that nothing was done, for there were too many."""
    if isinstance(message, Shed):
        return sum(message.ranges[1::2])
    return isinstance(message, Failed) and message.code == Overloaded.code


class _Running(threading.Thread):
    """What goes on for the length of a `with` block, until it is `_stopped`."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self.join()
        self._end()
        if error is None:
            self._judge()

    def _end(self) -> None:
        """Close what it has opened."""
        raise NotImplementedError

    def _judge(self) -> None:
        """Fail if it has met what it must not."""


class Strangers(_Running):
    """So many connections to a node that never end, for the length of a `with` block: who is closed comes
    again, a few hundred a second. They say nothing; with a `name`, every other one calls itself by this
    member's and goes no further."""

    def __init__(self, node: NodeProcess, count: int, name: str = "") -> None:
        super().__init__(name="strangers")
        self._address = parse_address(node.endpoint)
        self._said = pack([CLIENT_HELLO._replace(sender=name, nonce=bytes(16))]) if name else b""
        self._selector = selectors.DefaultSelector()
        self.came = 0
        self.closed = 0
        for _ in range(count):
            self._come()

    def _end(self) -> None:
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _come(self) -> None:
        stranger = socket.create_connection(self._address, PATIENCE_S)
        self._selector.register(stranger, selectors.EVENT_READ)
        self.came += 1
        if self.came % 2:
            stranger.sendall(self._said)

    def run(self) -> None:
        while not self._stopped.wait(PAUSE_S):
            for key, _ in self._selector.select(0)[:AGAIN]:
                stranger: Any = key.fileobj
                with suppress(ConnectionResetError):
                    if stranger.recv(RECEIVE_BYTES):  # a challenge
                        continue
                self._selector.unregister(stranger)
                stranger.close()
                self.closed += 1
                self._come()


def drip(begun: Sequence[tuple[Wire, bytes]]) -> None:
    """Go on with what was begun on these connections, a byte at a time on each, until all of them are closed
    by the node."""
    with selectors.DefaultSelector() as selector:
        for wire, rest in begun:
            selector.register(wire.socket, selectors.EVENT_READ, iter(rest))
        deadline = time.monotonic() + PATIENCE_S
        while left := list(selector.get_map().values()):
            assert time.monotonic() < deadline, f"{len(left)} connections still drip"
            for key in left:
                connection: Any = key.fileobj
                try:
                    connection.send(bytes([next(key.data)]))
                except ConnectionError:
                    selector.unregister(connection)
            for key, _ in selector.select(PAUSE_S):
                connection = key.fileobj
                try:
                    _received(connection)
                except ConnectionError:
                    selector.unregister(connection)


class Polite(_Running):
    """A client that asks one thing after the other for the length of a `with` block. What is refused it asks
    again; that anything else than an answer or a refusal comes fails the test."""

    def __init__(self, node: NodeProcess, level: Level, timeout_ms: int) -> None:
        super().__init__(name="polite")
        self._wire = Wire.greeted(node, POLITE_HOST)
        self._write = Set(1, "default", b"polite", b"heard", level.value, timeout_ms, 0, b"")
        self._read = Get(1, "default", b"polite", level.value, timeout_ms, b"", True)
        self.answered = 0
        self.refused = 0
        self.failures: list[str] = []

    def _end(self) -> None:
        self._wire.close()

    def _judge(self) -> None:
        assert not self.failures, self.failures[0]

    def run(self) -> None:
        wanted: list[Any] = [self._write, self._read]
        while not (self._stopped.is_set() or self.failures):
            self._wire.say(wanted[0])
            try:
                heard = self._answer()
            except TimeoutError:
                self.failures.append("no answer")
                return
            if refused_in(heard):
                self.refused += 1
                self._stopped.wait(PAUSE_S)
            elif isinstance(heard, Written) or (isinstance(heard, Got) and heard.value == b"heard"):
                self.answered += 1
                wanted.reverse()
            else:
                self.failures.append(str(heard))

    def _answer(self) -> Message:
        while True:
            for message in self._wire.hear() or [Failed(0, 0, "it was closed", b"", [])]:
                if not isinstance(message, Credit):
                    return message

    def wait_for(self, answers: int) -> None:
        """Until it has heard so many more."""
        goal = self.answered + answers
        eventually(lambda: self.answered >= goal or self.failures, f"{answers} more answers")


class Flood(_Running):
    """Connections of clients that say the same frame over and over for the length of a `with` block, as fast
    as it is taken, and heed no window. `deaf`: they hear nothing, their sockets fill. `sent`: bytes;
    `written`, `refused`: requests; `others`: answers of other kinds; `closed`: connections that ended."""

    def __init__(self, node: NodeProcess, frames: Sequence[bytes], *, deaf: bool = False) -> None:
        super().__init__(name="flood")
        self._selector = selectors.DefaultSelector()
        self._deaf = deaf
        self.sent = self.written = self.refused = self.closed = 0
        self.others: Counter[str] = Counter()
        self._wires = [Wire.greeted(node) for _ in frames]
        events = selectors.EVENT_WRITE if deaf else selectors.EVENT_WRITE | selectors.EVENT_READ
        for wire, frame in zip(self._wires, frames, strict=True):
            wire.socket.setblocking(False)
            self._selector.register(wire.socket, events, _Pouring(frame))

    def _end(self) -> None:
        for wire in self._wires:
            wire.close()
        self._selector.close()

    def run(self) -> None:
        while not self._stopped.is_set():
            for key, events in self._selector.select(PAUSE_S):
                connection: Any = key.fileobj
                try:
                    if events & selectors.EVENT_READ:
                        self._hear(key.data.reader.feed(_received(connection)))
                    if events & selectors.EVENT_WRITE:
                        self.sent += key.data.pour(connection)
                except ConnectionError:
                    self._selector.unregister(connection)
                    self.closed += 1

    def _hear(self, messages: Sequence[Message]) -> None:
        for message in messages:
            if isinstance(message, Written):
                self.written += 1
            elif refused := refused_in(message):
                self.refused += refused
            elif not isinstance(message, Credit | Renewed):
                self.others[str(message)[:300]] += 1


class _Pouring:
    """Where one connection stands in its frame."""

    def __init__(self, frame: bytes) -> None:
        self.reader = FrameReader()
        self._frame = self._left = memoryview(frame)

    def pour(self, connection: Any) -> int:
        count: int = connection.send(self._left)
        self._left = self._left[count:] or self._frame
        return count


def _received(connection: Any) -> bytes:
    data: bytes = connection.recv(RECEIVE_BYTES)
    if not data:
        raise ConnectionResetError
    return data
