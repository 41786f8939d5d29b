"""Durability `interval`: acknowledged before the sync. A clean stop keeps a node whole; a kill does not,
and the node knows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from basestore.consistency import Level, Outcome
from basestore.errors import Unavailable
from tests.cluster.load import Load
from tests.cluster.processes import Cluster, reads_at, running
from tests.worlds.patience import eventually

KEYS = [b"key %d" % number for number in range(300)]
REASON = "not stopped cleanly under durability interval"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("interval"), durability="interval") as cluster:
        yield cluster


def _write(cluster: Cluster, value: bytes) -> None:
    cluster.start()
    with cluster.nodes[0].store("all") as store:
        receipts = store.set_many((key, value + key) for key in KEYS)
    assert [str(receipt) for receipt in receipts if isinstance(receipt, Exception)] == []


def test_a_node_that_was_stopped_cleanly_comes_back_whole_with_one_peer_alone(cluster: Cluster) -> None:
    n1, n2, n3 = cluster
    _write(cluster, b"stopped ")
    n2.stop()
    n3.stop()
    n2.start()
    cluster.wait_linked([n1, n2])  # a forgetful node would have to wait for n3
    assert reads_at(n2, KEYS, Level.QUORUM) == {key: b"stopped " + key for key in KEYS}
    n3.start()
    cluster.wait_linked()


def test_a_killed_node_comes_back_forgetful_and_recovers_with_the_others(cluster: Cluster) -> None:
    n1, n2, n3 = cluster
    _write(cluster, b"killed ")
    n2.kill()
    n3.stop()
    n2.start()
    eventually(lambda: n2.state == "forgetful", "n2 knows that it may have lost something")
    status = n2.status()
    assert status is not None
    assert REASON in status.facts["reason"]
    with n1.store() as store, pytest.raises(Unavailable):
        store.get(KEYS[0])
    n3.start()
    cluster.wait_linked()
    assert reads_at(n2, KEYS, Level.ONE) == {key: b"killed " + key for key in KEYS}


def test_a_killed_node_that_is_killed_again_before_it_has_recovered_stays_forgetful(cluster: Cluster) -> None:
    _, n2, n3 = cluster
    _write(cluster, b"twice ")
    n2.kill()
    n3.stop()
    for _ in range(2):
        n2.start()
        eventually(lambda: n2.state == "forgetful", "n2 knows that it may have lost something")
        n2.stop()  # cleanly even: what was lost before stays lost
    n2.start()
    eventually(lambda: n2.state == "forgetful", "n2 still knows it")
    n3.start()
    cluster.wait_linked()
    assert reads_at(n2, KEYS, Level.ONE) == {key: b"twice " + key for key in KEYS}


def test_three_nodes_killed_at_once_under_load_come_back_to_service(tmp_path: Path) -> None:
    with running(tmp_path, durability="interval") as cluster:
        n1, *_ = cluster
        with Load(cluster, seed=9) as load:
            load.wait_for(600)
            cluster.kill_all()
        for node in cluster:
            node.start()
        cluster.wait_forgetful()
        cluster.wait_linked()
        with n1.store("all") as store:
            assert store.set("after", "the crash").outcome is Outcome.STORED
            assert store.get("after").value == b"the crash"
        # the processes died, the machine did not: what they had written is on the disk
        assert load.ledger.complaints(n1, Level.QUORUM) == []
