"""Clients and strangers that come in too great a number, or keep back what they have begun: they cost a
bounded amount of memory and of slots, a few lines of log, and no member its link."""

import resource
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from basestore.config import parse_address
from basestore.protocol.envelopes import WRITE, enveloped
from basestore.protocol.frames import CLIENT_FRAME_BYTES_MAX, pack
from basestore.protocol.handshake import CLIENT_HELLO, Welcome
from basestore.server.slots import FILES_RESERVED, FRAME_S_MAX, HELD_BYTES_MAX
from tests.cluster.processes import Cluster, NodeProcess, running
from tests.cluster.wire import Wire
from tests.worlds.patience import PATIENCE_S, eventually

FILES = FILES_RESERVED + 100
STRANGERS = 80
HOLDERS = 120
CROWD = 2000
AGAIN = 20  # of them, after each pause
PAUSE_S = 0.02
GROWTH_BYTES_MAX = HELD_BYTES_MAX + (150 << 20)
LOG_BYTES_MAX = 10_000


def _begun() -> bytes:
    """A frame of the greatest size, without its last byte."""
    return enveloped(bytes(CLIENT_FRAME_BYTES_MAX), 1, 1, 1000, WRITE)[:-1]


def test_members_find_their_place_at_a_node_that_clients_and_strangers_have_filled(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster, ExitStack() as stack:
        n1, n2, n3 = cluster
        n3.command = ("prlimit", f"--nofile={FILES}:{FILES}", "--", *n3.command)
        cluster.start()
        greeted = 0
        for _ in range(FILES):
            wire = stack.enter_context(Wire(n3))
            wire.say(CLIENT_HELLO)
            greeted += isinstance(wire.hear()[0], Welcome)
        assert 0 < greeted < FILES
        for _ in range(STRANGERS):
            stack.enter_context(Wire(n3))
        for node in (n1, n2):
            node.stop()
            node.start()
            eventually(partial(_sees, node, n3.name), f"{node.name} counts n3 again")
        assert len(n3.log) < LOG_BYTES_MAX
        assert "Traceback" not in n3.log


class Strangers(threading.Thread):
    """So many connections to a node that never end: who is closed comes again, a few hundred a second. Every
    other one calls itself by a member's name and goes no further."""

    def __init__(self, node: NodeProcess, count: int, name: str) -> None:
        super().__init__(name="strangers")
        self._address = parse_address(node.endpoint)
        self._said = pack([CLIENT_HELLO._replace(sender=name, nonce=bytes(16))])
        self._selector = selectors.DefaultSelector()
        self._stopped = threading.Event()
        self.came = 0
        self.closed = 0
        for _ in range(count):
            self._come()

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
                    if stranger.recv(1 << 16):  # a challenge
                        continue
                self._selector.unregister(stranger)
                stranger.close()
                self.closed += 1
                self._come()

    def stop(self) -> None:
        self._stopped.set()
        self.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may open as many as its strangers need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CROWD + 512
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_member_restarts_among_thousands_that_say_nothing_or_call_themselves_by_its_name(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as cluster:
        n1, _, n3 = cluster
        strangers = Strangers(n3, CROWD, n1.name)
        try:
            strangers.start()
            eventually(lambda: strangers.closed > CROWD, "strangers are closed and come again")
            assert _sees(n3, n1.name)
            assert "the link to n1 broke" not in n3.log
            n1.stop()
            n1.start()
            for node, other in ((n1, n3), (n3, n1)):
                eventually(partial(_sees, node, other.name), f"{node.name} counts {other.name} again")
        finally:
            strangers.stop()
        print(f"{strangers.came} strangers came")
        assert len(n3.log) < LOG_BYTES_MAX
        assert "Traceback" not in n3.log


def _sees(node: NodeProcess, name: str) -> bool:
    return name in node.alive()


def test_clients_that_keep_back_the_end_of_a_frame_stay_within_one_budget_and_do_not_stay_long(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as cluster, ExitStack() as stack:
        n1, *_ = cluster
        before, growth = n1.rss_bytes(), 0
        wires = []
        for _ in range(HOLDERS):
            wires.append(stack.enter_context(Wire.greeted(n1)))
            wires[-1].send(_begun())
            growth = max(growth, n1.rss_bytes() - before)
        print(f"{HOLDERS} times 4 MiB but a byte: {growth >> 20} MiB more at the most")
        assert growth < GROWTH_BYTES_MAX
        begun_s = time.monotonic()
        assert all(wire.closes() for wire in wires)
        assert time.monotonic() - begun_s < 3 * FRAME_S_MAX
        with n1.store() as store:
            store.set("k", "v", consistency="all")
        assert len(n1.log) < LOG_BYTES_MAX
