"""Clients that ask for much, and those that take nothing of it: they cost a bounded amount of memory,
and nobody else."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import basestore
from basestore.consistency import Level
from basestore.errors import Overloaded
from basestore.protocol.client import Get
from tests.cluster.processes import Cluster, running
from tests.cluster.wire import Wire
from tests.worlds.patience import eventually

VALUES = 40
VALUE_BYTES = 500_000
GETS = 3000
GROWTH_BYTES_MAX = 400 << 20
WATCH_S = 2.5
SMALL_S_MAX = 20.0
TIMEOUT_S_MAX = 60.0
KEYS = [b"big %d" % number for number in range(VALUES)]


def _value(key: bytes) -> bytes:
    return key * (VALUE_BYTES // len(key))


def _fill(cluster: Cluster) -> None:
    with cluster.nodes[0].store("all", timeout=TIMEOUT_S_MAX) as store:
        for key in KEYS:
            store.set(key, _value(key))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of big values."""
    with running(tmp_path_factory.mktemp("many"), timeout_s_max=TIMEOUT_S_MAX) as cluster:
        _fill(cluster)
        yield cluster


def _ask_without_end(wire: Wire, level: Level) -> None:
    """Thousands of gets, in frames of 100, for as long as the node takes them."""
    wire.socket.settimeout(0.5)
    with contextlib.suppress(TimeoutError):  # it has ceased to read, which is its right
        for start in range(0, GETS, 100):
            numbers = range(start, start + 100)
            wire.say(
                *(Get(i + 1, "default", KEYS[i % VALUES], level.value, 60_000, b"", True) for i in numbers)
            )


def test_readers_that_never_take_their_answers_cost_bounded_memory_and_hold_up_nobody(
    tmp_path: Path,
) -> None:
    with running(tmp_path, timeout_s_max=TIMEOUT_S_MAX) as cluster, contextlib.ExitStack() as stack:
        _fill(cluster)
        n1, *_ = cluster
        before = {node.name: node.rss_bytes() for node in cluster}
        for level in (Level.ONE, Level.QUORUM, Level.ALL):
            _ask_without_end(stack.enter_context(Wire.greeted(n1)), level)
        growth = 0
        with n1.store(timeout=SMALL_S_MAX) as store:  # gigabytes of answers would take longer
            deadline = time.monotonic() + WATCH_S
            while time.monotonic() < deadline:
                store.set("small", "value")
                assert store.get("small").value == b"value"
                growth = max(growth, *(node.rss_bytes() - before[node.name] for node in cluster))
        assert growth < GROWTH_BYTES_MAX
        cluster.wait_linked()
        for node in cluster:
            assert "the link to" not in node.log  # none was given up to get rid of what was too much


@pytest.mark.parametrize("level", [Level.ONE, Level.QUORUM, Level.ALL], ids=lambda level: level.name)
def test_a_client_that_reads_hundreds_of_big_values_at_once_gets_them_all(
    many: Cluster, level: Level
) -> None:
    with many.nodes[0].store(level, timeout=TIMEOUT_S_MAX) as store:
        results = store.get_many(KEYS * 5)
    for key, result in zip(KEYS * 5, results, strict=True):
        assert not isinstance(result, Exception), result
        assert result.value == _value(key)


def test_a_client_that_writes_a_hundred_big_values_at_once_stores_them_all_without_a_hint(
    many: Cluster,
) -> None:
    n1, *_ = many
    items = [(b"written %d" % number, b"w" * 1_000_000) for number in range(100)]

    async def write() -> None:
        left = items
        async with basestore.connect(n1.endpoint, timeout=TIMEOUT_S_MAX) as store:
            while left:
                receipts = await store.set_many(left)
                failed = [receipt for receipt in receipts if isinstance(receipt, Exception)]
                assert [str(error) for error in failed if not isinstance(error, Overloaded)] == []
                left = [item for item, r in zip(left, receipts, strict=True) if isinstance(r, Overloaded)]

    trio.run(write)  # a slow disk may refuse some for the moment
    eventually(lambda: not any(n1.hints().values()), "no hint is left")
    assert "the link to" not in n1.log


def test_a_program_that_embeds_a_node_reads_a_hundred_big_values_at_once(tmp_path: Path) -> None:
    async def read() -> list[object]:
        async with basestore.open_cluster(tmp_path, 1) as store:
            for key in KEYS:
                await store.set(key, _value(key))
            return list(await store.get_many(KEYS * 3, consistency="one"))

    results = trio.run(read)
    assert [str(result) for result in results if isinstance(result, Exception)] == []


def test_a_connection_used_to_small_values_survives_a_burst_of_big_ones(many: Cluster) -> None:
    n1, *_ = many
    with n1.store("one", timeout=TIMEOUT_S_MAX) as store:
        store.set_many((b"small %d" % number, b"s") for number in range(1000))
        for _ in range(5):
            store.get_many(b"small %d" % number for number in range(1000))
        results = store.get_many(KEYS * 5)
        refused = [result for result in results if isinstance(result, Exception)]
        assert all(isinstance(error, Overloaded) for error in refused), refused[0]
        for key, result in zip(KEYS * 5, results, strict=True):
            if not isinstance(result, Exception):
                assert result.value == _value(key)
        again = store.get_many(KEYS)  # by now it knows how big they are
        assert [str(result) for result in again if isinstance(result, Exception)] == []
