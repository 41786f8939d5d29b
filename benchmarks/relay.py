"""Relay: makes one node slow, by keeping back what it says to its peers.

Nodes that dial the relay's port reach the node that it was told of; what that node answers arrives
later by a delay. `python -m benchmarks.relay` is the relay's process: it prints its port, takes
orders on stdin, a JSON line each, [host, port, seconds of delay], and answers each with a line. It
ends when stdin does. `RelayProcess` is the other end of that.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import trio

from basestore.config import parse_address

CHUNK_BYTES = 64 << 10
QUEUE_CHUNKS = 1024
HOST = "127.0.0.1"


class RelayProcess:
    """A relay for the length of a block: it is killed, by its pid, at the end. `address` is where it
    listens."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.relay"],
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

    def lead_to(self, address: str, delay_s: float) -> None:
        """From now on the node there is what callers reach, and its answers take so much longer."""
        assert self._process.stdin is not None
        print(json.dumps([*parse_address(address), delay_s]), file=self._process.stdin, flush=True)
        self._heard()

    def _heard(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise OSError("the relay has ended")
        return line


# --- in the relay's process ----------------------------------------------------------------------


class Relay:
    """Where callers are led, and how late answers are."""

    def __init__(self) -> None:
        self._target = (HOST, 0)
        self._delay_s = 0.0

    async def run(self) -> None:
        """Carry until stdin ends."""
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, self._carry, 0)
            print(listeners[0].socket.getsockname()[1], flush=True)
            left = b""
            async for data in trio.lowlevel.FdStream(sys.stdin.fileno()):
                *lines, left = (left + data).split(b"\n")
                for line in lines:
                    host, port, self._delay_s = json.loads(line)
                    self._target = (host, port)
                    print("done", flush=True)
            nursery.cancel_scope.cancel()

    async def _carry(self, near: trio.SocketStream) -> None:
        """One connection, until either side ends it."""
        with suppress(OSError, trio.BrokenResourceError):  # a node that is not there, or no more
            async with await trio.open_tcp_stream(*self._target) as far, trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, near, far, lambda: 0.0, nursery.cancel_scope)
                nursery.start_soon(self._pass, far, near, lambda: self._delay_s, nursery.cancel_scope)

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

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            async with into:
                while data := await source.receive_some(CHUNK_BYTES):
                    await into.send((trio.current_time() + delay_s(), data))


if __name__ == "__main__":
    trio.run(Relay().run)
