"""Stores that lost something while their node was down: wiped, rolled back, cut, damaged, mixed up.
The node must find out, say so, refuse to count for anything, and come back with everything.

In every scenario n3 is down when n2 comes back, so that n2 has one peer: enough to find out, too few
to recover from. What n2 says of itself can then be looked at for as long as it takes.
"""

import os
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from basestore.config_file import load
from basestore.consistency import Level
from basestore.errors import Unavailable, Unreachable
from basestore.server.salvage import salvage
from tests.cluster.processes import Cluster, NodeProcess, reads_at, running
from tests.worlds.patience import eventually

KEYS = [b"key %d" % number for number in range(400)]
LOG_BLOCK_BYTES = 32 << 10
LOG_HEADER = struct.Struct("<IHB")
LAST_FRAGMENTS = (1, 4)  # a whole record, and the last fragment of one


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("lost")) as cluster:
        yield cluster


def _write(cluster: Cluster, value: bytes) -> None:
    """Every key anew, acknowledged by all three."""
    cluster.start()
    with cluster.nodes[0].store("all") as store:
        receipts = store.set_many((key, value + key) for key in KEYS)
    assert [str(receipt) for receipt in receipts if isinstance(receipt, Exception)] == []


def _come_back_forgetful(cluster: Cluster, reason: str) -> None:
    """n2, started beside n1 alone, says that it lost something and why, and counts for nothing;
    with n3 it recovers."""
    n1, n2, n3 = cluster
    n2.start()
    eventually(lambda: n2.state == "forgetful", "n2 knows that it has lost something")
    eventually(lambda: reason in n2.reason, "n2 says why")
    for node in (n1, n2):
        with node.store() as store, pytest.raises(Unavailable):
            store.get(KEYS[0])
    n3.start()
    cluster.wait_linked()


def _holds(node: NodeProcess, value: bytes) -> None:
    """This node's own replica has every key."""
    assert reads_at(node, KEYS, Level.ONE) == {key: value + key for key in KEYS}


def test_a_wiped_node_is_forgetful_until_it_has_everything_again(cluster: Cluster) -> None:
    _, n2, n3 = cluster
    _write(cluster, b"wiped ")
    n2.kill()
    n3.stop()
    shutil.rmtree(n2.directory)
    _come_back_forgetful(cluster, "n1 knew an earlier store of this node")
    _holds(n2, b"wiped ")


@pytest.mark.parametrize("stopped", [True, False], ids=["of a stopped node", "of a running node"])
def test_a_store_restored_from_an_earlier_copy_is_found_out(
    cluster: Cluster, tmp_path: Path, stopped: bool
) -> None:
    _, n2, n3 = cluster
    copy = tmp_path / "copy"
    _write(cluster, b"before the copy ")
    if stopped:
        n2.stop()
        shutil.copytree(n2.directory, copy)
        n2.start()
        cluster.wait_linked()
    else:
        n2.pause()
        shutil.copytree(n2.directory, copy)
        n2.resume()
        cluster.wait_linked()
    _write(cluster, b"after the copy ")
    n2.kill()
    n3.stop()
    shutil.rmtree(n2.directory)
    shutil.copytree(copy, n2.directory)
    _come_back_forgetful(cluster, "n1 remembers more than the store holds: it was rolled back")
    _holds(n2, b"after the copy ")


def _newest_log(node: NodeProcess) -> Path:
    return max(node.directory.glob("*.log"))


def _cut_inside_a_record(log: Path) -> None:
    os.truncate(log, log.stat().st_size - 5)


def _cut_at_a_record_end(log: Path) -> None:
    """Take whole records from the end: nothing in the log itself shows it (RocksDB's log format:
    blocks of 32 KiB; fragments of checksum 4, length 2, type 1, data)."""
    data = log.read_bytes()
    ends, at = [], 0
    while at + LOG_HEADER.size <= len(data):
        left = LOG_BLOCK_BYTES - at % LOG_BLOCK_BYTES
        if left < LOG_HEADER.size:
            at += left
            continue
        _, length, kind = LOG_HEADER.unpack_from(data, at)
        at += LOG_HEADER.size + length
        if kind in LAST_FRAGMENTS:
            ends.append(at)
    assert ends[-1] == len(data)
    os.truncate(log, ends[-4])
    (log.parent / "HELD").unlink()  # by which the node might know by itself


def _flip_a_bit(log: Path) -> None:
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 0x10
    log.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut_inside_a_record, "is damaged and was cut before the damage"),
        (_cut_at_a_record_end, "n1 remembers more than the store holds"),
        (_flip_a_bit, "is damaged and was cut before the damage"),
    ],
)
def test_a_node_whose_log_was_damaged_is_forgetful_and_the_cluster_loses_nothing(
    cluster: Cluster, damage: Callable[[Path], None], reason: str
) -> None:
    _, n2, n3 = cluster
    _write(cluster, b"logged ")
    n2.kill()
    n3.stop()
    damage(_newest_log(n2))
    _come_back_forgetful(cluster, reason)
    _holds(n2, b"logged ")


def _reads_until_it_ends(node: NodeProcess, value: bytes) -> Callable[[], bool]:
    """Asks the node for every key, and says whether it has ended by then. What it shows is right."""

    def ended() -> bool:
        with suppress(Unreachable), node.store("one") as store:
            for key, result in zip(KEYS, store.get_many(KEYS), strict=True):
                assert isinstance(result, Exception) or result.value == value + key
        return not node.running

    return ended


def test_a_node_with_a_damaged_table_never_serves_it_and_ends_naming_the_file(cluster: Cluster) -> None:
    """It meets the damage when it reads for a client, or RocksDB does before, when it merges tables:
    while the node starts, or at any time after."""
    n1, n2, _ = cluster
    _write(cluster, b"in a table ")
    n2.stop()  # which puts what its log held into a table
    table = next(path for path in n2.directory.glob("*.sst") if b"in a table " in path.read_bytes())
    data = bytearray(table.read_bytes())
    data[data.rindex(b"in a table ")] ^= 0x10
    table.write_bytes(data)
    n2.start()
    eventually(_reads_until_it_ends(n2, b"in a table "), "n2 has ended")
    assert n2.wait() == 3
    complaint = n2.log.splitlines()[-1]
    assert complaint.startswith(f"Error: the store {n2.directory} is damaged: ")
    assert complaint.count(table.name) == n2.log.count(table.name) == 1
    assert "serve --config FILE --salvage" in complaint
    assert reads_at(n1, KEYS, Level.QUORUM) == {key: b"in a table " + key for key in KEYS}
    assert " ranges could not be read" in salvage(load(n2.path))
    n2.start()
    cluster.wait_linked()
    _holds(n2, b"in a table ")


def test_a_store_without_its_manifest_is_refused_by_name_and_not_touched(cluster: Cluster) -> None:
    _, n2, _ = cluster
    _write(cluster, b"kept ")
    n2.stop()
    (manifest,) = n2.directory.glob("MANIFEST-*")
    aside = manifest.rename(n2.path.with_name("manifest aside"))
    n2.start()
    assert n2.wait() == 3
    assert f"the store {n2.directory}" in n2.log.splitlines()[-1]
    assert "Traceback" not in n2.log
    aside.rename(manifest)
    n2.start()
    cluster.wait_linked()
    _holds(n2, b"kept ")


def test_a_second_node_on_the_same_directory_is_refused_and_the_first_goes_on(cluster: Cluster) -> None:
    _, n2, _ = cluster
    _write(cluster, b"mine ")
    second = NodeProcess(n2.path.parent / "second", n2.config)
    second.start()
    try:
        assert second.wait() == 3
    finally:
        second.end()
    assert str(n2.directory) in second.log
    assert f"Process {n2.pid} uses it" in second.log
    assert "Traceback" not in second.log
    assert n2.state == "up"
    _holds(n2, b"mine ")


def test_a_node_pointed_at_another_nodes_directory_is_refused_by_both_names(cluster: Cluster) -> None:
    _, n2, n3 = cluster
    _write(cluster, b"n3's ")
    n2.stop()
    n3.stop()
    own = n2.config
    n2.configure(replace(own, directory=n3.directory))
    n2.start()
    assert n2.wait() == 2
    complaint = n2.log.splitlines()[-1]
    assert str(n3.directory) in complaint
    assert "this node: n2" in complaint
    assert "in the configuration, n3" in complaint
    n2.configure(own)
    cluster.start()
    for node in (n2, n3):
        _holds(node, b"n3's ")
