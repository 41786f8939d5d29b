"""Members of a real cluster that come and leave while it serves: whom it links, and whom it refuses."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from basestore import sync
from basestore.config import Member
from basestore.consistency import Level
from basestore.errors import NoLeader, Unavailable
from basestore.results.topology import Decided
from tests.cluster.processes import Cluster, NodeProcess, reads_at
from tests.worlds.patience import eventually
from tests.worlds.ports import free_ports

ROWS = {b"key %d" % number: b"value %d" % number for number in range(50)}


@contextmanager
def growing(root: Path, nodes: int = 3) -> Iterator[Cluster]:
    """A cluster that holds ROWS, and takes members in."""
    with Cluster(root, nodes) as cluster:
        cluster.start()
        cluster.wait_founded()
        with cluster.nodes[0].store(Level.ALL) as store:
            store.set_many(list(ROWS.items()))
        yield cluster


def numbers(node: NodeProcess) -> dict[str, int]:
    with node.store() as store:
        return {each.name: each.number for each in store.topology("stale").members if each.standing != "left"}


def come(cluster: Cluster, name: str, *, start: bool = True) -> NodeProcess:
    """Add a member, and start it with a file that names all of them."""
    first, address = cluster.nodes[0], f"127.0.0.1:{free_ports(1)}"
    ask(first, lambda store: store.add_member(name, address))
    eventually(lambda: name in numbers(first), f"{name} is a member")
    known = numbers(first)
    members = [node.config.member for node in cluster if node.name in known]
    config = replace(first.config.cluster, members=(*members, Member(known[name], name, address)))
    root = first.path.parent
    node = NodeProcess(
        root, replace(first.config, cluster=config, name=name, directory=root / f"{name} {known[name]}")
    )
    cluster.nodes.append(node)
    if start:
        node.start()
    return node


def wait_moved(node: NodeProcess) -> None:
    def done() -> bool:
        with node.store() as store:
            return store.moves().done

    eventually(done, "all is where it is planned to be")


def ask(at: NodeProcess, change: Callable[[sync.SyncStore], Decided]) -> None:
    """Have it decided, once there is a leader."""

    def is_decided() -> bool:
        try:
            with at.store() as store:
                change(store)
        except NoLeader:
            return False
        return True

    eventually(is_decided, "it is decided")


def leave(node: NodeProcess, at: NodeProcess) -> None:
    ask(at, lambda store: store.drain(node.name))
    eventually(lambda: node.name not in numbers(at), f"{node.name} has left")


def test_a_member_comes_is_given_its_share_leaves_and_comes_anew(tmp_path: Path) -> None:
    with growing(tmp_path) as cluster:
        n4 = come(cluster, "n4")
        cluster.wait_linked()
        eventually(lambda: (state := n4.status()) is not None and bool(state.records), "n4 is filled")
        wait_moved(n4)
        assert reads_at(n4, list(ROWS), Level.ALL) == ROWS
        with n4.store() as store:
            assert len(store.set(b"at n4", b"v").replicas) == 3
        # A client that has connected before learns of it, and where it is.
        with sync.connect(cluster.nodes[0].endpoint) as store:
            assert {state.node for state in store.status()} == {"n1", "n2", "n3", "n4"}

        leave(n4, cluster.nodes[1])
        eventually(lambda: n4.says("left"), "n4 knows that it has left")
        assert n4.log.count("n4: this node has left the cluster") == 1
        with n4.store() as store, pytest.raises(Unavailable, match=r"has left the cluster.* Ask n1 at 127"):
            store.get(b"at n4")
        n4.stop()
        cluster.nodes.remove(n4)
        cluster.wait_linked()
        n4.start()
        assert n4.wait() != 0
        assert "n4, number 4, has left the cluster, by epoch" in n4.log

        again = come(cluster, "n4")
        cluster.wait_linked()
        wait_moved(again)
        assert numbers(again)["n4"] == 5
        assert reads_at(again, list(ROWS), Level.ALL) == ROWS


def test_who_was_removed_while_it_was_down_is_refused_when_it_comes_back(tmp_path: Path) -> None:
    with growing(tmp_path, 4) as cluster:
        n1, n2 = cluster.nodes[:2]
        n1.stop()
        ask(n2, lambda store: store.remove_dead("n1"))
        eventually(lambda: "n1" not in numbers(n2), "n1 has left")
        n1.start()
        words = "n2 refuses: n1 has left the cluster, and its store holds nothing that the cluster needs"
        eventually(lambda: words in n1.log, "n1 is told that it has left")
        assert "n1 was refused: n1 has left the cluster" in n2.log
        assert n1.says("starting")
        assert reads_at(n2, list(ROWS), Level.ALL) == ROWS


def test_who_is_another_under_the_name_of_a_member_is_refused(tmp_path: Path) -> None:
    with growing(tmp_path) as cluster:
        n1 = cluster.nodes[0]
        n4 = come(cluster, "n4", start=False)
        own = n4.config
        members = [replace(each, number=9) if each.name == "n4" else each for each in own.cluster.members]
        n4.configure(replace(own, cluster=replace(own.cluster, members=tuple(members))))
        n4.start()
        words = "it says that it is n4, number 9, and number 4 has that name in the cluster"
        eventually(lambda: words in n1.log, "n1 has seen that its number is another")
        n4.stop()
        n4.configure(replace(own, cluster=replace(own.cluster, id=bytes(16))))
        shutil.rmtree(n4.directory)
        n4.start()
        eventually(lambda: "has not proven that it holds this cluster's key" in n1.log, "n1 refuses it")
        assert n4.says("starting")
        n4.stop()
        n4.configure(own)
        shutil.rmtree(n4.directory)
        n4.start()
        cluster.wait_linked()
        wait_moved(n4)
        assert reads_at(n4, list(ROWS), Level.ALL) == ROWS


def test_one_node_grows_to_three_and_loses_the_first(tmp_path: Path) -> None:
    with growing(tmp_path, 1) as cluster:
        n1 = cluster.nodes[0]
        n2, n3 = come(cluster, "n2"), come(cluster, "n3")
        cluster.wait_linked()
        wait_moved(n1)
        ask(n1, lambda store: store.set_replication(3))
        wait_moved(n1)
        ask(n2, lambda store: store.set_replication(2))
        wait_moved(n2)
        leave(n1, n2)
        eventually(lambda: n1.says("left"), "n1 knows that it has left")
        n1.stop()
        cluster.nodes.remove(n1)
        cluster.wait_linked()
        assert reads_at(n3, list(ROWS), Level.ALL) == ROWS
        with n3.store(Level.ALL) as store:
            assert len(store.set(b"without the first", b"v").replicas) == 2
