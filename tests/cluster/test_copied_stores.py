"""Stores that were copied, moved or opened under other settings, with real files and processes."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from basestore.config import Member
from basestore.errors import Unavailable
from tests.cluster.processes import Cluster, running
from tests.worlds.patience import eventually
from tests.worlds.ports import free_ports

KEYS = [b"key %d" % number for number in range(20)]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("copied")) as cluster:
        yield cluster


def test_a_backup_is_not_vouched_for_by_a_node_that_was_down_since(cluster: Cluster) -> None:
    n1, n2, n3 = cluster
    cluster.start()
    with n1.store("all") as store:
        store.set_many((key, b"old") for key in KEYS)
    n2.kill()
    n1.stop()
    backup = n1.directory.with_name("backup")
    shutil.copytree(n1.directory, backup)
    n1.start()
    eventually(lambda: n1.alive() == {"n1", "n3"}, "n1 and n3 are up")
    with n3.store() as store:
        assert all(receipt.acknowledged == 2 for receipt in store.set_many((key, b"new") for key in KEYS))  # type: ignore[union-attr]
    n1.kill()
    n3.kill()
    shutil.rmtree(n1.directory)
    shutil.copytree(backup, n1.directory)
    n1.start()
    n2.start()
    eventually(lambda: n1.state == "forgetful" and n2.state == "starting", "n1 knows that it is a copy")
    for node in (n1, n2):
        with node.store() as store, pytest.raises(Unavailable):
            store.get(KEYS[0])
    n3.start()
    cluster.wait_linked()
    n3.kill()
    with n2.store() as store:
        assert [store.get(key).value for key in KEYS] == [b"new"] * len(KEYS)


def test_stores_that_are_moved_all_at_once_are_taken_as_they_are_by_one_command(cluster: Cluster) -> None:
    n1, n2, _ = cluster
    cluster.start()
    with n1.store("all") as store:
        store.set_many((key, b"v") for key in KEYS)
    for node in cluster:
        node.stop()
        shutil.copytree(node.directory, node.directory.with_name(f"{node.name} moved"))
        node.configure(replace(node.config, directory=node.directory.with_name(f"{node.name} moved")))
    n1.start()
    n2.start()
    eventually(lambda: "basestore repair --as-is" in n1.reason, "n1 says what to do")
    eventually(lambda: "basestore repair --as-is" in n2.reason, "n2 says what to do")
    command = [sys.executable, "-m", "basestore", "repair", "--as-is", "-e", n1.endpoint]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "taken as they are: n1 and n2\n", "")
    with n1.store() as store:
        assert [store.get(key).value for key in KEYS] == [b"v"] * len(KEYS)
    n2.stop()
    n2.directory.rename(n2.directory.with_name("n2"[::-1]))  # a directory that is renamed is no copy
    n2.configure(replace(n2.config, directory=n2.directory.with_name("n2"[::-1])))
    n2.start()
    eventually(lambda: n2.state == "up", "n2 is up")


def test_a_changed_list_of_members_changes_nothing_and_is_named(
    cluster: Cluster,
) -> None:
    cluster.start()
    cluster.wait_founded()  # until then who the members are is what the files say, and must not change
    with cluster.nodes[0].store("all") as store:
        store.set_many((key, b"v") for key in KEYS)
    for node in cluster:
        node.stop()
    config = cluster.nodes[0].config
    n4 = Member(90, "n4", f"127.0.0.1:{free_ports(1)}")
    members = (*config.cluster.members[:2], n4)
    for node in cluster.nodes[:2]:
        node.configure(replace(node.config, cluster=replace(node.config.cluster, members=members)))
        node.start()
    cluster.wait_linked(cluster.nodes[:2])
    with cluster.nodes[0].store("quorum") as store:
        eventually(lambda: store.get(KEYS[0]).value == b"v", "both are up, and go by the members of the log")
    for node in cluster.nodes[:2]:
        assert "member 90, n4, is only in the file" in node.log
