"""A cluster in a thread, and servers that misbehave, for tests of clients."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import trio

import basestore
import basestore.sync
from basestore.protocol.codec import Message
from basestore.protocol.envelopes import Sealed
from basestore.protocol.groups import singly
from basestore.protocol.handshake import BucketRow, Hello, MemberRow, Refused, Welcome
from basestore.protocol.limits import WIRE_HIGHEST, ProtocolError
from basestore.transport.frames import FrameReader, pack
from tests.worlds.patience import PATIENCE_S


class Cluster:
    """An embedded cluster that runs in a thread of its own."""

    def __init__(self, directory: Path, nodes: int = 3) -> None:
        self._directory = directory
        self._nodes = nodes
        self._started: SimpleQueue[list[str] | BaseException] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="cluster")
        self._thread.start()
        started = self._started.get(timeout=PATIENCE_S)
        if isinstance(started, BaseException):
            raise started
        self.endpoints = started

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            self._started.put(error)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        async with basestore.open_cluster(self._directory, self._nodes, durability="memory") as cluster:
            self._started.put(cluster.endpoints)
            await self._stop.wait()

    def stop(self) -> None:
        if self._thread.is_alive():
            trio.from_thread.run_sync(self._stop.set, trio_token=self._token)
            self._thread.join(timeout=PATIENCE_S)


@contextmanager
def cluster(directory: Path, nodes: int = 3) -> Iterator[Cluster]:
    running = Cluster(directory, nodes)
    try:
        yield running
    finally:
        running.stop()


Answer = Callable[[Any], Message | None]


class FakeNode:
    """A server on loopback that answers a hello as it is told to, and requests not at all, or by `answer`.

    greeting  what it says to a hello: a message, bytes, or None for nothing
    dies      close the connection at the first request that is not answered
    hangs_up  close the connection at the hello
    port      to listen on; 0 for any
    """

    def __init__(
        self, greeting: Message | bytes | None, *, dies: bool, hangs_up: bool, answer: Answer, port: int = 0
    ) -> None:
        self._greeting = greeting
        self._dies = dies
        self._hangs_up = hangs_up
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", port))
        self._deaf = False
        self._fillers: list[socket.socket] = []
        self.endpoint = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.heard: SimpleQueue[Any] = SimpleQueue()
        self.classes: list[int] = []  # that the envelopes named
        self._open: list[socket.socket] = []
        self.accepted_s: list[float] = []  # when, each
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            if self._deaf:
                connection.close()
                return
            self.accepted_s.append(time.monotonic())
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        reader, version = FrameReader(), WIRE_HIGHEST
        try:
            while data := connection.recv(65536):
                heard: list[Any] = []
                for each in reader.feed(data):
                    self.classes += [each.kind] if isinstance(each, Sealed) else []
                    heard += each.open(reader.decoder) if isinstance(each, Sealed) else [each]
                for message in singly(heard):
                    if isinstance(message, Hello):
                        reader.keep_sealed()
                        if self._hangs_up:
                            return
                        if isinstance(self._greeting, bytes):
                            connection.sendall(self._greeting)
                        elif self._greeting is not None:
                            connection.sendall(pack([self._greeting]))
                        if isinstance(self._greeting, Welcome):
                            version = self._greeting.version
                            reader.speak(version)
                    else:
                        self.heard.put(message)
                        answer = self._answer(message)
                        if answer is not None:
                            connection.sendall(pack([answer], version))
                        elif self._dies:
                            return
        except (OSError, ProtocolError):
            pass
        finally:
            connection.close()

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return len(self._open)

    def fall(self, fault: str) -> None:
        """What becomes of it from now on.

        refused     its connections end, and there are no others
        silent      its connections end; it takes others, and says nothing
        black hole  its connections end; nobody hears who wants another
        stopped     its connections stay, it takes others, and it says nothing on any
        """
        self._greeting, self._answer = None, lambda request: None
        if fault == "black hole":
            self._deaf = True
            socket.create_connection(self._server.getsockname()).close()
            self._threads[0].join(timeout=PATIENCE_S)
            self._server.listen(0)
            for _ in range(4):  # the system drops what does not fit into the queue
                self._fillers.append(socket.socket())
                self._fillers[-1].setblocking(False)
                self._fillers[-1].connect_ex(self._server.getsockname())
        if fault == "refused":
            self.stop()
        elif fault != "stopped":
            self.drop()

    def say(self, message: Message) -> None:
        """To all that are connected."""
        for connection in self._open:
            with suppress(OSError):  # it was dropped
                connection.sendall(pack([message]))

    def drop(self) -> None:
        """End all its connections."""
        for connection in list(self._open):  # not those that come meanwhile
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                connection.close()

    def stop(self) -> None:
        if self._server.fileno() >= 0:
            self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
        self.drop()
        for filler in self._fillers:
            filler.close()
        for thread in self._threads:
            thread.join(timeout=PATIENCE_S)


WELCOME = Welcome(
    WIRE_HIGHEST,
    bytes(16),
    "n1",
    5000,
    [MemberRow(0, "n1", "127.0.0.1:1")],
    [BucketRow("once", "first-write-wins")],
)


def placing(endpoints: Sequence[str], *addresses: str) -> Welcome:
    """What a node says which takes n1, n2, ... of the cluster of these endpoints to be at these addresses."""
    with basestore.sync.connect(endpoints) as store:
        cluster_id = bytes.fromhex(store.cluster_id())
    members = [MemberRow(at, f"n{at + 1}", address) for at, address in enumerate(addresses)]
    return WELCOME._replace(cluster=cluster_id, members=members)


@contextmanager
def fake(
    greeting: Message | bytes | None = WELCOME,
    *,
    dies: bool = False,
    hangs_up: bool = False,
    answer: Answer = lambda request: None,
    port: int = 0,
) -> Iterator[FakeNode]:
    node = FakeNode(greeting, dies=dies, hangs_up=hangs_up, answer=answer, port=port)
    try:
        yield node
    finally:
        node.stop()


REFUSED = Refused("no more clients today", "")
