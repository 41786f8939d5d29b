"""Registers of real nodes: whoever dies, forgets, or stands still, each write happens once, or not at all,
and its writer is told which."""

import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from basestore.errors import ReadTimeout
from tests.cluster.dying import MOMENTS, dies_at, lacks, mortal
from tests.cluster.members import come, leave, wait_moved
from tests.cluster.processes import Cluster, NodeProcess
from tests.cluster.register_end import epoch_of, finals, wait_bound, wait_same, wait_taken_in
from tests.cluster.register_load import BUCKET, RegisterLoad
from tests.worlds.patience import eventually

KEYS_MAX = 1000
KEYS = [f"{kind} {number}" for kind in ("chain", "counter") for number in range(3)]


@contextmanager
def loaded(cluster: Cluster, keys: Sequence[str], seed: int) -> Iterator[RegisterLoad]:
    """A cluster under load, all of whose outcomes are looked at in the end."""
    with RegisterLoad([node.endpoint for node in cluster], keys, seed=seed) as load:
        load.wait_for(30)
        yield load
        cluster.wait_linked()
    for node in cluster:
        assert load.ledger.complaints(finals(node, load.ledger.keys)) == []


def keys_of(home: NodeProcess, cluster: Cluster) -> list[str]:
    """A few keys that this node writes."""
    names = [f"{kind} {number}" for number in range(KEYS_MAX) for kind in ("chain", "counter")]
    return [name for name in names if cluster.replicas(name.encode(), BUCKET)[0] is home][:4]


@pytest.mark.parametrize("moment", MOMENTS)
def test_who_proposes_is_killed_again_and_again(tmp_path: Path, moment: str) -> None:
    with Cluster(tmp_path) as cluster:
        n1 = cluster.nodes[0]
        mortal(n1)
        n1.start(dies_at(moment, after=30))
        cluster.start()
        with loaded(cluster, keys_of(n1, cluster), seed=1) as load:
            assert n1.wait() == -signal.SIGKILL
            n1.start(dies_at(moment, after=0))
            assert n1.wait() == -signal.SIGKILL
            n1.start()
            load.wait_for(10)


def test_an_acceptor_whose_store_is_lost_counts_again_once_it_is_taken_in(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        n1, n2, n3 = cluster
        cluster.start()
        cluster.wait_founded()
        wait_bound(n1, cluster.nodes)
        with loaded(cluster, KEYS, seed=2) as load:
            n2.stop()
            shutil.rmtree(n2.directory)
            epoch = epoch_of(n1)
            n2.start()
            load.wait_for(30)
            wait_taken_in(n1, n2, epoch)
            load.wait_for(30)
            n3.stop()
            load.wait_for(30)  # by n1 and n2
            n3.start()
            load.wait_for(30)
        wait_same(cluster, load.ledger.keys)


def test_a_store_that_is_lost_does_not_count_before_all_that_it_had_accepted_is_finished(
    tmp_path: Path,
) -> None:
    """n1 and n2 have accepted it, and only n2 knows that they have. Once n2 has recovered, it holds all that
    n1 and n3 do; but that is nothing of it, for n1 has not learned it."""
    with Cluster(tmp_path) as cluster:
        n1, n2, n3 = cluster
        for node, less in ((n1, "finishing"), (n2, "telling")):
            mortal(node)
            node.start(lacks(less))
        cluster.start()
        cluster.wait_founded()
        wait_bound(n1, cluster.nodes)
        key = keys_of(n2, cluster)[0]
        n3.stop()
        eventually(lambda: n2.alive() == {"n1", "n2"}, "n3 does not count")
        with n2.store() as store:
            assert store.set(key, "v", bucket=BUCKET, if_absent=True)
        n2.kill()
        shutil.rmtree(n2.directory)
        epoch = epoch_of(n1)
        n3.start()
        n2.start()
        eventually(lambda: n2.says("up"), "n2 has recovered")
        eventually(lambda: n3.alive() == {"n1", "n2", "n3"}, "n2 counts")
        n1.pause()
        eventually(lambda: n3.alive() == {"n2", "n3"}, "n1 does not count")
        with n3.store() as store, pytest.raises(ReadTimeout):
            store.get(key, bucket=BUCKET)
        n1.kill()
        n1.start()
        wait_taken_in(n3, n2, epoch)
        for node in cluster:
            assert finals(node, [key]) == {key: b"v"}


@pytest.mark.parametrize("paused", [0, 2])
def test_a_node_stands_still_for_a_while(tmp_path: Path, paused: int) -> None:
    with Cluster(tmp_path) as cluster:
        node, other = cluster.nodes[paused], cluster.nodes[1]
        cluster.start()
        with loaded(cluster, keys_of(cluster.nodes[0], cluster), seed=3) as load:
            for _ in range(2):
                node.pause()
                load.wait_for(20)  # the first of them wait until the others know
                eventually(lambda: node.name not in other.alive(), f"{node.name} does not count")
                load.wait_for(20)
                node.resume()
                load.wait_for(20)
                cluster.wait_linked()


def test_seats_move_to_a_member_that_comes_and_from_one_that_leaves(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        n1, n2, _ = cluster
        cluster.start()
        cluster.wait_founded()
        with loaded(cluster, KEYS, seed=4) as load:
            n4 = come(cluster, "n4")
            cluster.wait_linked()
            load.wait_for(30)
            wait_moved(n4)
            load.wait_for(30)
            leave(n1, n2)
            load.wait_for(30)
            n1.stop()
            cluster.nodes.remove(n1)
            load.wait_for(30)
