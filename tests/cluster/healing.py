"""Anti-entropy between real processes: what replicas have proven, after what was done to their disks.

    wiped    one node's disk is emptied: the others bring everything back, and `converged` proves it
    altered  one record is changed on one disk, behind its node's back: found, healed and counted
    deleted  keys are deleted while a node is down: no tombstone goes; then all go, and nothing comes back

`python -m tests.cluster.healing --keys 1000000` plays them at full size and prints how long each took.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rocksdict import Options, Rdict, WriteOptions

from basestore.cluster.placement import Placement
from basestore.consistency import Level
from basestore.metrics import Metrics
from basestore.results.nodes import NodeState
from basestore.storage.keyspace import DATA, DUE
from tests.cluster.processes import Cluster, NodeProcess, running
from tests.worlds.patience import eventually

BATCH = 500
SETTLE_S_MAX = 600.0
VALUE = b"v" * 100


def key(number: int) -> bytes:
    return b"key %d" % number


def _batches(count: int) -> Iterator[range]:
    return (range(start, min(count, start + BATCH)) for start in range(0, count, BATCH))


def load(cluster: Cluster, count: int) -> None:
    """So many records, each acknowledged by all replicas."""
    with cluster.nodes[0].store("all", timeout=cluster.config.timeout_ms_max / 1e3) as store:
        for numbers in _batches(count):
            receipts = store.set_many((key(number), VALUE) for number in numbers)
            failed = [receipt for receipt in receipts if isinstance(receipt, Exception)]
            assert not failed, failed[0]


def counted(node: NodeProcess, name: str) -> int:
    """What a node has counted since it was started."""
    with node.store() as store:
        return Metrics.of(store.node_counters().facts).counts[name]


def records(node: NodeProcess) -> int:
    """How many records a node holds, by its own count."""
    status: NodeState | None = node.status()
    return -1 if status is None or status.records is None else status.records


def tombstones(node: NodeProcess) -> int:
    """How many records a node, which does not run, holds that are due once they are stable."""
    return sum(1 for _ in _scan(node, DUE))


def _scan(node: NodeProcess, prefix: bytes) -> Iterator[bytes]:
    store = Rdict(str(node.directory), Options(raw_mode=True))
    try:
        rows = store.iter()
        rows.seek(prefix)
        while rows.valid() and rows.key().startswith(prefix):
            yield rows.key()
            rows.next()
        del rows
    finally:
        store.close()


def prove(cluster: Cluster) -> None:
    """All that was written by now is on all replicas, for good."""
    with cluster.nodes[-1].store() as store:
        found = store.converged(timeout=SETTLE_S_MAX)
    assert found.proven, found.obstacles


def wipe(cluster: Cluster, count: int) -> float:
    """The seconds that a node with an emptied disk takes until all is proven to be back."""
    _, n2, _ = cluster
    n2.stop()
    shutil.rmtree(n2.directory)
    begun_s = time.monotonic()
    n2.start()
    eventually(lambda: records(n2) == count and n2.says("up"), "n2 holds all records", SETTLE_S_MAX)
    prove(cluster)
    assert counted(n2, "records_taken") >= count
    for node in cluster:
        assert counted(node, "mismatches") == 0, node.name
    return time.monotonic() - begun_s


def alter(cluster: Cluster, number: int) -> float:
    """The seconds until a record that was altered on a disk is healed, once that is looked for."""
    _, n2, _ = cluster
    row = Placement.of(cluster.config).row(b"default", key(number))
    n2.stop()
    store = Rdict(str(n2.directory), Options(raw_mode=True))
    found = store.get(DATA + row)
    assert found is not None
    stored = bytearray(found)
    stored[-20] ^= 4
    options = WriteOptions()
    options.sync = True
    store.put(DATA + row, bytes(stored), options)
    store.close()
    n2.start()
    cluster.wait_linked()
    begun_s = time.monotonic()
    with n2.store(timeout=10) as client:
        client.repair(partition=int.from_bytes(row[:2]), full=True, timeout=SETTLE_S_MAX)
    eventually(lambda: counted(n2, "records_healed") == 1, "the record is healed and counted", SETTLE_S_MAX)
    with n2.store(Level.ONE) as client:
        assert client.get(key(number)).value == VALUE
    prove(cluster)
    return time.monotonic() - begun_s


def delete(cluster: Cluster, count: int) -> float:
    """Delete keys while n3 is down. The seconds, after it is back, until no tombstone is left anywhere."""
    n1, _, n3 = cluster
    n3.stop()
    before = records(n1)
    with n1.store("quorum", timeout=cluster.config.timeout_ms_max / 1e3) as store:
        for numbers in _batches(count):
            failed = [r for r in store.delete_many(map(key, numbers)) if isinstance(r, Exception)]
            assert not failed, failed[0]
    assert records(n1) == before - count
    time.sleep(2 * cluster.config.closed_lag_ms / 1e3)  # were it a matter of time, they would go now
    for node in cluster.nodes[:2]:
        assert counted(node, "records_purged") == 0, node.name
    n3.start()
    begun_s = time.monotonic()
    cluster.wait_linked()
    for node in cluster:
        eventually(partial(_has_purged, node, count), f"{node.name} purges all", SETTLE_S_MAX)
    seconds = time.monotonic() - begun_s
    for node in cluster:
        assert records(node) == before - count, node.name
    with n3.store(Level.ONE) as store:
        for numbers in _batches(count):
            found = store.get_many(map(key, numbers))
            assert not any(isinstance(result, Exception) or result.found for result in found)
    for node in cluster:
        node.stop()
    assert [tombstones(node) for node in cluster] == [0, 0, 0]
    return seconds


def _has_purged(node: NodeProcess, count: int) -> bool:
    return counted(node, "records_purged") >= count


def main() -> None:
    """Play all three and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--keys", type=int, default=100_000, help="records that are loaded [100000]")
    parser.add_argument("--deletes", type=int, default=100_000, help="keys that are deleted [100000]")
    options = parser.parse_args()
    if not 0 < options.deletes <= options.keys:
        parser.error("--deletes must be at least 1 and at most --keys")
    root = Path(tempfile.mkdtemp(prefix="basestore-healing-"))
    try:
        with running(root, timeout_s_max=10.0) as cluster:
            begun_s = time.monotonic()
            load(cluster, options.keys)
            print(f"loaded   {options.keys:,} records in {time.monotonic() - begun_s:.1f} s", flush=True)
            print(f"wiped    proven to be back after {wipe(cluster, options.keys):.1f} s", flush=True)
            print(f"altered  healed and proven after {alter(cluster, 7):.1f} s", flush=True)
            seconds = delete(cluster, options.deletes)
            print(f"deleted  {options.deletes:,} tombstones purged on all {seconds:.1f} s after n3 was back")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
