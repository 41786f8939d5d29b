"""Clients that ask for much and take nothing: they cost a bounded amount of memory, and nobody else."""

import time
from pathlib import Path

from basestore.consistency import Level
from basestore.messages import Get
from tests.cluster.processes import Cluster, eventually, running
from tests.cluster.wire import Wire

VALUES = 40
VALUE_BYTES = 500_000
GETS = 3000
READERS = 3
GROWTH_BYTES_MAX = 400 << 20
WATCH_S = 3.0


def _fill(cluster: Cluster) -> list[bytes]:
    keys = [b"big %d" % number for number in range(VALUES)]
    with cluster.nodes[0].store("all", timeout=20.0) as store:
        for key in keys:
            store.set(key, key * (VALUE_BYTES // len(key)))
    return keys


def _ask_without_end(wire: Wire, keys: list[bytes], level: Level) -> None:
    """Thousands of gets, in frames of 100, for as long as the node takes them."""
    wire.socket.settimeout(0.5)
    try:
        for start in range(0, GETS, 100):
            numbers = range(start, start + 100)
            wire.say(*(Get(i + 1, "default", keys[i % len(keys)], level.value, 60_000) for i in numbers))
    except TimeoutError:
        pass  # it has ceased to read


def test_readers_that_never_take_their_answers_cost_bounded_memory_and_hold_up_nobody(
    tmp_path: Path,
) -> None:
    with running(tmp_path, timeout_s_max=60.0) as cluster:
        keys = _fill(cluster)
        n1, n2, n3 = cluster
        before = max(node.rss_bytes() for node in cluster)
        wires = [Wire.greeted(n1) for _ in range(READERS)]
        for wire in wires:
            _ask_without_end(wire, keys, Level.ONE)
        with n1.store() as store:
            deadline = time.monotonic() + WATCH_S
            slowest_s, peak = 0.0, 0
            while time.monotonic() < deadline:
                begun = time.monotonic()
                store.set("small", "value")
                assert store.get("small").value == b"value"
                slowest_s = max(slowest_s, time.monotonic() - begun)
                peak = max(peak, *(node.rss_bytes() for node in cluster))
        print("GREEDY", slowest_s, (peak - before) >> 20, before >> 20)
        assert slowest_s < 2.0
        assert peak - before < GROWTH_BYTES_MAX
        assert n1.alive() == n2.alive() == n3.alive() == {"n1", "n2", "n3"}
        for wire in wires:
            wire.close()


def test_a_read_of_many_big_values_at_once_gets_them_all_and_breaks_no_link(tmp_path: Path) -> None:
    with running(tmp_path, timeout_s_max=60.0) as cluster:
        keys = _fill(cluster)
        n1, *_ = cluster
        for level in (Level.ONE, Level.QUORUM, Level.ALL):
            with n1.store(level, timeout=20.0) as store:
                begun = time.monotonic()
                results = store.get_many(keys * 5)
                print("MANY", level, time.monotonic() - begun)
            assert [str(result) for result in results if isinstance(result, Exception)] == []
        for node in cluster:
            assert "the link to" not in node.log
            assert "broke" not in node.log
