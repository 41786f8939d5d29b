"""A dead node is replaced under its own name, as the README says, with real processes."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster.processes import running
from tests.worlds.ports import free_ports

KEYS = [b"key %d" % number for number in range(20)]


@pytest.mark.parametrize("dead", [0, 2], ids=["dials", "is dialled"])
def test_the_others_find_the_new_machine_and_nothing_is_restarted(tmp_path: Path, dead: int) -> None:
    with running(tmp_path) as cluster:
        with cluster.nodes[0].store("all") as store:
            store.set_many((key, b"v") for key in KEYS)
        node = cluster.nodes[dead]
        pids = {each.name: each.pid for each in cluster}
        node.kill()
        shutil.rmtree(node.directory)
        members = tuple(
            replace(member, address=f"127.0.0.1:{free_ports(1)}") if member.name == node.name else member
            for member in node.config.cluster.members
        )
        node.configure(replace(node.config, cluster=replace(node.config.cluster, members=members)))
        node.start()
        cluster.wait_linked()
        with node.store("one") as store:
            assert [store.get(key).value for key in KEYS] == [b"v"] * len(KEYS)
        assert all((each.pid == pids[each.name]) == (each is not node) for each in cluster)
