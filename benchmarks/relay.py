"""Relay: makes one node slow, by keeping back what it says to its peers; and counts what goes by.

Nodes that dial the relay's port reach the node that it was told of; what that node answers arrives
later by a delay, and what it is told too, if that is wanted. `python -m benchmarks.relay` is the relay's
process: it prints its port, takes orders on stdin, a JSON line each, and answers each with a line:

    [host, port, seconds of delay of what it is told, and of what it answers]   "done"
    []                                                                          what has gone by, `Carried`

It ends when stdin does. `RelayProcess` is the other end of that.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import trio

from basestore.config import parse_address
from basestore.protocol import groups, replication
from basestore.transport.frames import FrameReader

CHUNK_BYTES = 64 << 10
QUEUE_CHUNKS = 1024
HOST = "127.0.0.1"
LOOK_INTO = "look"
HEAD_BYTES = 12  # of a frame, which begin with the length of the rest
LENGTH_BYTES = 4
COUNTED = (replication.__name__, groups.__name__)  # messages of other conversations are not for requests


@dataclass(frozen=True, slots=True)
class Carried:
    """What has gone by, both ways: bytes in all. Of a relay that looks into what our nodes say, also how many
    messages there were by kind, of those that requests are served with, and the bytes of their frames."""

    bytes: int
    messages: dict[str, int]
    message_bytes: int

    def since(self, before: "Carried") -> "Carried":
        kinds = dict(Counter(self.messages) - Counter(before.messages))
        return Carried(self.bytes - before.bytes, kinds, self.message_bytes - before.message_bytes)

    def __add__(self, other: "Carried") -> "Carried":
        kinds = dict(Counter(self.messages) + Counter(other.messages))
        return Carried(self.bytes + other.bytes, kinds, self.message_bytes + other.message_bytes)


NOTHING = Carried(0, {}, 0)


class RelayProcess:
    """A relay for the length of a block: it is killed, by its pid, at the end. `address` is where it
    listens."""

    def __init__(self, *, looks: bool = False) -> None:
        """`looks`: into what goes by, which is what our nodes say."""
        self._words = [LOOK_INTO] if looks else []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.relay", *self._words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.address = f"{HOST}:{self._heard()}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def lead_to(self, address: str, delay_s: float, told_delay_s: float = 0.0) -> None:
        """From now on the node there is what callers reach, and its answers take so much longer, and what it
        is told so much."""
        self._ask([*parse_address(address), told_delay_s, delay_s])

    def carried(self) -> Carried:
        return Carried(*self._ask([]))

    def _ask(self, order: list[object]) -> Any:
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return json.loads(self._heard())

    def _heard(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise OSError("the relay has ended")
        return line


# --- in the relay's process ----------------------------------------------------------------------


class Relay:
    """Where callers are led, how late things are, and what has gone by."""

    def __init__(self, *, looks: bool) -> None:
        self._target = (HOST, 0)
        self._told_delay_s = self._delay_s = 0.0
        self._looks = looks
        self._bytes = 0
        self._seen = NOTHING

    async def run(self) -> None:
        """Carry until stdin ends."""
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, self._carry, 0)
            print(listeners[0].socket.getsockname()[1], flush=True)
            left = b""
            async for data in trio.lowlevel.FdStream(sys.stdin.fileno()):
                *lines, left = (left + data).split(b"\n")
                for line in lines:
                    print(json.dumps(self._obey(json.loads(line))), flush=True)
            nursery.cancel_scope.cancel()

    def _obey(self, order: list[Any]) -> object:
        if not order:
            return [self._bytes, self._seen.messages, self._seen.message_bytes]
        host, port, self._told_delay_s, self._delay_s = order
        self._target = (host, port)
        return "done"

    async def _carry(self, near: trio.SocketStream) -> None:
        """One connection, until either side ends it."""
        with suppress(OSError, trio.BrokenResourceError):  # a node that is not there, or no more
            async with await trio.open_tcp_stream(*self._target) as far, trio.open_nursery() as nursery:
                scope = nursery.cancel_scope
                nursery.start_soon(self._pass, near, far, lambda: self._told_delay_s, scope)
                nursery.start_soon(self._pass, far, near, lambda: self._delay_s, scope)

    async def _pass(
        self,
        source: trio.SocketStream,
        target: trio.SocketStream,
        delay_s: Callable[[], float],
        scope: trio.CancelScope,
    ) -> None:
        """One direction, in order."""
        into, out_of = trio.open_memory_channel[tuple[float, bytes]](QUEUE_CHUNKS)

        async def send() -> None:
            async for due, data in out_of:
                await trio.sleep_until(due)
                await target.send_all(data)
            scope.cancel()

        frames, partial = FrameReader(), b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            async with into:
                while data := await source.receive_some(CHUNK_BYTES):
                    self._bytes += len(data)
                    if self._looks:
                        partial = self._look(frames, partial + data)
                    await into.send((trio.current_time() + delay_s(), bytes(data)))

    def _look(self, frames: FrameReader, data: bytes) -> bytes:
        """Count what is in the frames that are complete. The rest."""
        start = 0
        while len(data) - start >= HEAD_BYTES:
            stop = start + HEAD_BYTES + int.from_bytes(data[start : start + LENGTH_BYTES])
            if len(data) < stop:
                break
            messages = frames.feed(data[start:stop])
            kinds = Counter(type(each).__name__ for each in messages if type(each).__module__ in COUNTED)
            if kinds:
                self._seen += Carried(0, dict(kinds), stop - start)
            start = stop
        return data[start:]


if __name__ == "__main__":
    trio.run(Relay(looks=LOOK_INTO in sys.argv[1:]).run)
