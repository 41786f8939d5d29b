"""Seven nodes, three replicas a key: who coordinates is often no replica."""

from collections.abc import Iterator

import pytest

from basestore.consistency import Level, Outcome, ReplicaState
from basestore.errors import Unavailable
from tests.cluster.processes import Cluster, reads_at, running
from tests.worlds.patience import eventually

KEYS = [b"key %d" % number for number in range(280)]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("seven"), 7) as cluster:
        yield cluster


def test_every_node_serves_every_key(cluster: Cluster) -> None:
    written = {}
    for number, node in enumerate(cluster):
        with node.store() as store:
            mine = KEYS[number::7]
            receipts = store.set_many((key, key + b" at " + node.name.encode()) for key in mine)
        for key, receipt in zip(mine, receipts, strict=True):
            assert not isinstance(receipt, Exception), receipt
            assert set(receipt.replicas) == {replica.name for replica in cluster.replicas(key)}
            written[key] = key + b" at " + node.name.encode()
    for node in cluster:
        assert reads_at(node, KEYS, Level.QUORUM) == written
        assert reads_at(node, KEYS, Level.ALL) == written


def test_with_two_nodes_down_most_keys_go_on_and_the_others_are_refused_for_certain(
    cluster: Cluster,
) -> None:
    *others, n6, n7 = cluster
    with others[0].store("all") as store:
        store.set_many((key, b"before") for key in KEYS)
    n6.kill()
    n7.kill()
    cluster.wait_linked(others)
    eventually(lambda: all(not {"n6", "n7"} & node.alive() for node in others), "n6 and n7 count no more")
    doomed = {key for key in KEYS if {n6, n7} <= set(cluster.replicas(key))}
    assert 0 < len(doomed) < len(KEYS) / 3
    for node in others:
        with node.store() as store:
            receipts = store.set_many((key, b"written at " + node.name.encode()) for key in KEYS)
        for key, receipt in zip(KEYS, receipts, strict=True):
            if key in doomed:
                assert isinstance(receipt, Unavailable), receipt
                assert (receipt.required, receipt.alive, receipt.definite) == (2, 1, True)
            else:
                assert not isinstance(receipt, Exception), receipt
                assert receipt.outcome is Outcome.STORED
    n6.start()
    n7.start()
    cluster.wait_linked()
    expected = {key: b"before" if key in doomed else b"written at n5" for key in KEYS}
    assert reads_at(n7, KEYS, Level.ALL) == expected


def test_a_write_at_any_outlives_its_coordinator_when_no_replica_of_its_key_is_alive(
    cluster: Cluster,
) -> None:
    n1, *_ = cluster
    key = next(key for key in KEYS if n1 not in cluster.replicas(key))
    replicas = cluster.replicas(key)
    names = {replica.name for replica in replicas}
    for replica in replicas:
        replica.kill()
    eventually(lambda: not names & n1.alive(), "no replica counts")
    with n1.store() as store:
        with pytest.raises(Unavailable, match="2 replicas are required and 0 are alive"):
            store.set(key, "at quorum")
        receipt = store.set(key, "the only copy", consistency="any")
    assert receipt.outcome is Outcome.STORED
    assert receipt.acknowledged == 0
    assert receipt.replicas == dict.fromkeys(names, ReplicaState.HINTED)
    assert {name for name, hints in n1.hints().items() if hints} == names
    n1.kill()
    n1.start()
    eventually(lambda: n1.status() is not None, "n1 answers again")
    assert {name for name, hints in n1.hints().items() if hints} == names
    first, *rest = replicas
    first.start()
    eventually(lambda: n1.hints()[first.name] == 0, f"the hint for {first.name} is delivered")
    assert reads_at(first, [key], Level.ONE) == {key: b"the only copy"}
    for replica in rest:
        replica.start()
    cluster.wait_linked()
    eventually(lambda: not any(n1.hints().values()), "all hints are delivered")
    for replica in replicas:
        assert reads_at(replica, [key], Level.ONE) == {key: b"the only copy"}
