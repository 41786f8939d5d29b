"""Relay: a small TCP relay that can be told to misbehave. One process, all links of a cluster.

A *route* is a port that leads to an address: who calls himself `source` connects there to reach
`target`. Every connection has two directions, and each obeys the *way* that it goes: (source,
target), or (target, source). A way's shape says what happens to bytes:

    pass    they are carried, after a delay, at a rate
    garble  one bit of each chunk is another when it arrives, which TCP's sum may let pass
    hold    they wait, and arrive when that ends: what a short cut looks like through TCP
    drop    they are swallowed, the connection stays open. A stream with a hole is no TCP stream:
            when that ends, the connection is reset

The ends of connections (FIN, RST) are carried like bytes: behind a cut nobody learns that the other
side died. What is on its way is bounded (QUEUE_CHUNKS of CHUNK_BYTES a direction); who sends more
waits.

`python -m tests.cluster.relay ROUTES` takes one command a line from stdin, in JSON, and answers
each with a line; it ends when stdin does. `relayed.py` is the other end of that.
"""

import json
import math
import random
import socket
import struct
import sys
from collections import Counter, defaultdict
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import trio

CHUNK_BYTES = 16 << 10
QUEUE_CHUNKS = 8
CONNECT_S_MAX = 3.0
LINGER_NOT = struct.pack("ii", 1, 0)  # closing sends RST
PASS, GARBLE, HOLD, DROP = "pass", "garble", "hold", "drop"
RESET = b"reset"  # stands for the end of a stream by RST; b"" for its end by FIN


class Shape(NamedTuple):
    """What a way does. Each chunk takes `delay_s`, and up to `jitter_s` more; order is kept."""

    mode: str = PASS
    delay_s: float = 0.0
    jitter_s: float = 0.0
    bytes_per_s: float = math.inf


class Way:
    """From one name to another: its shape, and the directions of connections that go this way."""

    def __init__(self, counts: Counter[str]) -> None:
        self.shape = Shape()
        self.directions: set[Direction] = set()
        self.counts = counts
        self._reshaped = trio.Event()

    def reshape(self, shape: Shape) -> None:
        """Behave like this from now on. What was kept is carried, what has a hole is reset."""
        self.shape = shape
        self._reshaped.set()
        self._reshaped = trio.Event()
        if shape.mode != DROP:
            for direction in [d for d in self.directions if d.holed]:
                direction.connection.reset()
                self.counts["reset after a hole"] += 1

    def due(self) -> float:
        """When a chunk that comes in now goes out."""
        return trio.current_time() + self.shape.delay_s + random.random() * self.shape.jitter_s

    async def opened(self) -> None:
        """Until nothing is held any more."""
        while self.shape.mode == HOLD:
            await self._reshaped.wait()


class Direction:
    """One half of a connection."""

    def __init__(
        self, connection: "Connection", way: Way, source: trio.SocketStream, target: trio.SocketStream
    ) -> None:
        self.connection = connection
        self.holed = False
        self._way = way
        self._source = source
        self._target = target
        self._into, self._out_of = trio.open_memory_channel[tuple[float, bytes]](QUEUE_CHUNKS)

    async def run(self) -> None:
        """Carry bytes until they end."""
        self._way.directions.add(self)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._receive)
                await self._send()
        finally:
            self._way.directions.discard(self)

    def half_close(self) -> None:
        """End this direction towards its target, in the middle of it all; the other one goes on."""
        with suppress(OSError):
            self._target.socket.shutdown(socket.SHUT_WR)

    async def _receive(self) -> None:
        async with self._into:
            try:
                while data := await self._source.receive_some(CHUNK_BYTES):
                    await self._into.send((self._way.due(), data))
                end = b""
            except trio.BrokenResourceError:
                end = RESET
            await self._into.send((self._way.due(), end))

    async def _send(self) -> None:
        counts = self.connection.counts
        async for due, data in self._out_of:
            if due > trio.current_time():
                await trio.sleep_until(due)
            await self._way.opened()
            if self._way.shape.mode == DROP:
                counts["bytes swallowed"] += len(data)
                self.holed = True
            elif data is RESET:
                self.connection.reset()
            else:
                if data and self._way.shape.mode == GARBLE:
                    data = garbled(data)
                    counts["bits garbled"] += 1
                # Half-closed by a command, or gone: then its own end comes by the other direction.
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await (self._target.send_all(data) if data else self._target.send_eof())
                counts["bytes passed"] += len(data)
                if self._way.shape.bytes_per_s < math.inf:
                    await trio.sleep(len(data) / self._way.shape.bytes_per_s)
        if self.holed:
            await trio.sleep_forever()  # until the way is mended, which resets the connection


def garbled(data: bytes) -> bytes:
    """With one bit changed."""
    changed = bytearray(data)
    changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


class Connection:
    """A caller, whom he called, and what goes between them."""

    def __init__(self, near: trio.SocketStream, far: trio.SocketStream, there: Way, back: Way) -> None:
        self.counts = there.counts
        self._streams = (near, far)
        self._scope = trio.CancelScope()
        self.directions = (Direction(self, there, near, far), Direction(self, back, far, near))

    def reset(self) -> None:
        """End it, both sides hear RST."""
        for stream in self._streams:
            with suppress(OSError):
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self._scope.cancel()

    async def run(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                for direction in self.directions:
                    nursery.start_soon(direction.run)
        for stream in self._streams:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)


class Route:
    """One port that leads to an address, and the connections that came in there."""

    def __init__(self, port: int, address: tuple[str, int], there: Way, back: Way) -> None:
        self.connections: set[Connection] = set()
        self._port = port
        self._address = address
        self._ways = (there, back)
        self._refusing = False
        self._turned = trio.Event()

    def refuse(self, refusing: bool) -> None:
        """Whether who connects is turned away."""
        self._refusing = refusing
        self._turned.set()
        self._turned = trio.Event()

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take connections, unless they are refused: then the port stays ours, without an ear."""
        async with trio.open_nursery() as nursery:
            while True:
                with trio.socket.socket() as door:
                    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    await door.bind(("127.0.0.1", self._port))
                    turned = self._turned
                    if self._refusing:
                        await turned.wait()
                        continue
                    door.listen()
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    async with trio.open_nursery() as accepting:
                        accepting.start_soon(self._accept, door, nursery)
                        await turned.wait()
                        accepting.cancel_scope.cancel()

    async def _accept(self, door: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        while True:
            caller, _ = await door.accept()
            nursery.start_soon(self._carry, trio.SocketStream(caller))

    async def _carry(self, near: trio.SocketStream) -> None:
        counts = self._ways[0].counts
        try:
            with trio.fail_after(CONNECT_S_MAX):
                far = await trio.open_tcp_stream(*self._address)
        except (OSError, trio.TooSlowError):
            counts["connections to nobody"] += 1
            near.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            await near.aclose()
            return
        counts["connections"] += 1
        connection = Connection(near, far, *self._ways)
        self.connections.add(connection)
        await connection.run()
        self.connections.discard(connection)


class Relay:
    """All routes and ways. Each public method is a command."""

    def __init__(self, routes: list[list[Any]]) -> None:
        """`routes`: source, target, port, and the target's host and port."""
        self.totals: Counter[str] = Counter()
        self._ways: dict[tuple[str, str], Way] = defaultdict(partial(Way, self.totals))
        self.routes = {
            (source, target): Route(port, (host, far), self._ways[source, target], self._ways[target, source])
            for source, target, port, host, far in routes
        }

    def shape(self, source: str, target: str, *shape: Any) -> None:
        """Bytes from source to target meet this."""
        self._ways[source, target].reshape(Shape(*shape))

    def reset(self, source: str, target: str) -> None:
        """RST to both ends of every connection between the two."""
        for connection in self._between(source, target):
            connection.reset()
            self.totals["reset"] += 1

    def half_close(self, source: str, target: str) -> None:
        """FIN to the target on every connection between the two, as if the source had said it."""
        for direction in list(self._ways[source, target].directions):
            direction.half_close()
            self.totals["half-closed"] += 1

    def refuse(self, source: str, target: str, refusing: bool) -> None:
        """Whether new connections from source to target are refused."""
        self.routes[source, target].refuse(refusing)

    def counts(self) -> dict[str, int]:
        """What was carried and done so far."""
        return dict(self.totals)

    def _between(self, source: str, target: str) -> list[Connection]:
        routes = [self.routes.get(way) for way in ((source, target), (target, source))]
        return [connection for route in routes if route for connection in route.connections]

    async def run(self) -> None:
        """Serve until stdin ends."""
        async with trio.open_nursery() as nursery:
            for route in self.routes.values():
                await nursery.start(route.serve)
            print("ready", flush=True)
            left = b""
            async for data in trio.lowlevel.FdStream(sys.stdin.fileno()):
                *lines, left = (left + data).split(b"\n")
                for line in lines:
                    command, *arguments = json.loads(line)
                    print(json.dumps(getattr(self, command)(*arguments)), flush=True)
            nursery.cancel_scope.cancel()


async def main() -> None:
    await Relay(json.loads(sys.argv[1])).run()


if __name__ == "__main__":
    trio.run(main)
