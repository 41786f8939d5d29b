"""Clients and strangers that come in too great a number, or keep back what they have begun: they cost a
bounded amount of memory and of slots, a few lines of log, and no member its link."""

import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from basestore.protocol.envelopes import WRITE, enveloped
from basestore.protocol.handshake import CLIENT_HELLO, Welcome
from basestore.server.slots import FILES_RESERVED, FRAME_S_MAX, HELD_BYTES_MAX
from basestore.transport.frames import CLIENT_FRAME_BYTES_MAX
from tests.cluster.floods import Strangers, many_files
from tests.cluster.processes import Cluster, NodeProcess, running
from tests.cluster.wire import Wire
from tests.worlds.patience import eventually

FILES = FILES_RESERVED + 100
STRANGERS = 80
HOLDERS = 120
CROWD = 2000
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


def test_a_member_restarts_among_thousands_that_say_nothing_or_call_themselves_by_its_name(
    tmp_path: Path,
) -> None:
    with many_files(CROWD + 512), running(tmp_path) as cluster:
        n1, _, n3 = cluster
        with Strangers(n3, CROWD, n1.name) as strangers:
            eventually(lambda: strangers.closed > CROWD, "strangers are closed and come again")
            eventually(partial(_sees, n3, n1.name), "n3 counts n1")
            assert "the link to n1 broke" not in n3.log
            n1.stop()
            n1.start()
            for node, other in ((n1, n3), (n3, n1)):
                eventually(partial(_sees, node, other.name), f"{node.name} counts {other.name} again")
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
