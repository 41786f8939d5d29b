"""kill -9: what was acknowledged is there afterwards, whoever died."""

from pathlib import Path

from basestore.consistency import Level
from tests.cluster.load import Load
from tests.cluster.processes import running


def test_a_node_killed_under_load_loses_no_acknowledged_write_and_quorum_goes_on(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, n2, _ = cluster
        with Load(cluster, seed=1) as load:
            load.wait_for(500)
            n2.kill()
            load.wait_for(800)
        ledger = load.ledger
        assert ledger.complaints(n1, Level.QUORUM) == []
        n2.start()
        cluster.wait_linked()
        assert ledger.complaints(n2, Level.ALL) == []
        assert ledger.complaints(n2, Level.ONE) == []


def test_a_node_that_comes_back_under_load_joins_in_and_misses_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        *_, n3 = cluster
        with Load(cluster, seed=2) as load:
            load.wait_for(200)
            n3.kill()
            load.wait_for(200)
            n3.start()
            cluster.wait_linked()
            load.wait_for(200)
        assert load.ledger.complaints(n3, Level.ALL) == []


def test_killing_all_nodes_at_once_loses_no_acknowledged_write(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, _, n3 = cluster
        with Load(cluster, seed=3) as load:
            load.wait_for(600)
            cluster.kill_all()
        cluster.start()
        assert load.ledger.complaints(n1, Level.QUORUM) == []
        assert load.ledger.complaints(n3, Level.ALL) == []
