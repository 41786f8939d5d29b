"""Disks that fail a sync, lose power, or lie: nothing is acknowledged that is not on them. Or hang: then the
others go on without."""

import http.client
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from basestore.consistency import Level, Outcome
from basestore.errors import Overloaded, RequestFailed, Unreachable
from tests.cluster.disk import Disk, compile_shim
from tests.cluster.load import Ledger, Load
from tests.cluster.processes import Cluster, NodeProcess, reads_at
from tests.worlds.patience import PATIENCE_S, eventually
from tests.worlds.ports import free_ports

BATCH = 20
SYNCS = 60
LARGE = 4096  # bytes of a value that nothing else comes near


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shim(tmp_path_factory.mktemp("shim"))


def _write_until_it_dies(node: NodeProcess) -> Ledger:
    """Small batches at one node, the last one of `LARGE` values: its disk does not survive it."""
    ledger = Ledger()
    with node.store(timeout=2.0) as store:
        for number in range(SYNCS + 1):
            value = b"%d" % number if number < SYNCS else random.randbytes(LARGE)
            items = [(b"key %d" % (number % 50 * BATCH + i), value) for i in range(BATCH)]
            for (key, _), result in zip(items, store.set_many(items), strict=True):
                ledger.note(key, value, result)
    return ledger


def test_a_failed_sync_stops_the_node_with_exit_3_and_nothing_it_did_not_sync_was_acknowledged(
    tmp_path: Path, shim: Path
) -> None:
    with Cluster(tmp_path, nodes=1) as cluster:
        (n1,) = cluster
        disk = Disk(n1, shim)
        disk.start_node(fail_grown=BATCH * LARGE // 2)
        eventually(lambda: n1.state == "up", "n1 is up")
        ledger = _write_until_it_dies(n1)
        assert ledger.stored > BATCH
        assert ledger.indeterminate >= BATCH  # those that the failed sync was to cover
        assert n1.wait() == 3
        assert "Input/output error" in n1.log
        assert str(n1.directory) in n1.log
        assert "Traceback" not in n1.log
        disk.cut_power()
        n1.start()
        eventually(lambda: n1.state == "up", "n1 is up again")
        assert ledger.complaints(n1, Level.ALL) == []


def test_a_cluster_outlives_one_failing_disk_and_keeps_every_acknowledged_write(
    tmp_path: Path, shim: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        n1, n2, n3 = cluster
        n1.start()
        n3.start()
        Disk(n2, shim).start_node(fail_after=SYNCS * 2)
        cluster.wait_linked()
        with Load(cluster, seed=5) as load:
            assert n2.wait() == 3
            load.wait_for(300)
        assert "Input/output error" in n2.log
        n2.start()
        cluster.wait_linked()
        assert load.ledger.complaints(n1, Level.QUORUM) == []
        assert load.ledger.complaints(n2, Level.ALL) == []


def test_a_power_cut_of_all_nodes_at_once_loses_no_acknowledged_write(tmp_path: Path, shim: Path) -> None:
    with Cluster(tmp_path) as cluster:
        disks = [Disk(node, shim) for node in cluster]
        for disk in disks:
            disk.start_node()
        cluster.wait_linked()
        with Load(cluster, seed=6) as load:
            load.wait_for(600)
            cluster.kill_all()
        for disk in disks:
            disk.cut_power()
        cluster.start()
        assert load.ledger.complaints(cluster.nodes[0], Level.QUORUM) == []
        assert load.ledger.complaints(cluster.nodes[2], Level.ALL) == []


def test_a_disk_that_lied_about_its_syncs_is_found_out_by_the_peers_and_refilled(
    tmp_path: Path, shim: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        n1, n2, n3 = cluster
        n1.start()
        n3.start()
        disk = Disk(n2, shim)
        disk.start_node(lie_after=SYNCS)
        cluster.wait_linked()
        with Load(cluster, seed=7) as load:
            eventually(lambda: disk.syncs >= SYNCS, "n2's disk has begun to lie")
            load.wait_for(300)
        n2.kill()
        n3.kill()
        assert disk.cut_power() > 0
        (n2.directory / "HELD").unlink()  # or it would perhaps know by itself
        n2.start()
        eventually(lambda: n2.state == "forgetful", "n2 knows that it has lost something")
        status = n2.status()
        assert status is not None
        assert "n1 remembers more than the store holds" in status.facts["reason"]
        n3.start()
        cluster.wait_linked()
        assert load.ledger.complaints(n2, Level.ONE) == []


def _refusal(node: NodeProcess) -> Overloaded | None:
    """How a node refuses a write, if it does so before anything is done."""
    with node.store(timeout=1.0) as store:
        try:
            store.set("at it", "v")
        except Overloaded as error:
            return error
        except RequestFailed:
            return None
    return None


def _ready(address: str) -> int:
    """The status of a node's readiness page."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_hanging_disk_holds_nobody_up_is_shown_and_its_node_comes_back_by_itself(
    tmp_path: Path, shim: Path
) -> None:
    with Cluster(tmp_path) as cluster:
        n1, n2, n3 = cluster
        n1.start()
        n2.start()
        disk, pages = Disk(n3, shim), f"127.0.0.1:{free_ports(1)}"
        n3.configure(replace(n3.config, metrics=pages))
        disk.start_node()
        cluster.wait_linked()
        assert _ready(pages) == 200
        with n1.store(timeout=1.0) as store:
            keys = [b"%03d" % number for number in range(200)]
            store.set_many([(key, b"old") for key in keys], consistency="all")
            disk.hang()
            for round in range(40):  # 4 s or so: it is not known from the beginning
                assert store.set(keys[round], "new").outcome is Outcome.STORED
                assert store.get(keys[round]).value == b"new"
                assert [item.key for item in store.scan()] == keys
                time.sleep(0.1)
            eventually(lambda: _refusal(n3) is not None, "n3 refuses to coordinate writes")
            with pytest.raises(Overloaded, match=r"\(n3\)"):
                store.set("needs it", "v", consistency="all")
        status = n3.status()
        assert status is not None
        assert status.facts["disk"].startswith("no sync has ended for")
        assert "the disk hangs: no sync has ended" in n3.log
        assert _ready(pages) == 503
        with n3.store(timeout=1.0) as store:
            assert store.get(keys[0]).value == b"new"
            assert [item.key for item in store.scan()] == keys
        disk.recover()
        eventually(lambda: _refusal(n3) is None, "n3 takes writes again")
        eventually(lambda: n1.hints()["n3"] == 0, "the hints are delivered")
        assert reads_at(n3, keys[:40], Level.ONE) == dict.fromkeys(keys[:40], b"new")
        assert "the disk is there again" in n3.log
        assert _ready(pages) == 200


def test_writes_to_a_node_without_a_disk_are_refused_or_lost_but_never_acknowledged(
    tmp_path: Path, shim: Path
) -> None:
    with Cluster(tmp_path, nodes=1) as cluster:
        (n1,) = cluster
        Disk(n1, shim).start_node(fail_after=0)
        assert n1.wait() == 3
        assert "Input/output error" in n1.log
        with n1.store(timeout=1.0) as store, pytest.raises((Unreachable, RequestFailed)):
            store.set("key", "value")
