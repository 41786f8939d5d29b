"""A dead node is replaced under its own name, as the README says, with real processes."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.processes import NodeProcess, running
from tests.worlds.patience import eventually
from tests.worlds.ports import free_ports

KEYS = [b"key %d" % number for number in range(20)]


def names(node: NodeProcess, address: str) -> bool:
    return f"{address} zone='' " in node.log


@pytest.mark.parametrize("dead", [0, 2], ids=["dials", "is dialled"])
def test_both_sides_name_the_new_address_and_a_restart_of_the_others_ends_it(
    tmp_path: Path, dead: int
) -> None:
    with running(tmp_path) as cluster:
        cluster.start()
        with cluster.nodes[0].store("all") as store:
            store.set_many((key, b"v") for key in KEYS)
        node = cluster.nodes[dead]
        others = [each for each in cluster if each is not node]
        node.kill()
        shutil.rmtree(node.directory)
        address = f"127.0.0.1:{free_ports(1)}"
        members = tuple(
            replace(member, address=address) if member.name == node.name else member
            for member in node.config.cluster.members
        )
        for each in cluster:
            each.configure(replace(each.config, cluster=replace(each.config.cluster, members=members)))
        node.endpoint = address
        node.start()
        for each in cluster:
            eventually(partial(names, each, address), f"{each.name} names the address")
        assert node.state == "starting"
        for each in others:
            each.stop()
        for each in others:
            each.start()
        cluster.wait_linked()
        with node.store("one") as store:
            assert [store.get(key).value for key in KEYS] == [b"v"] * len(KEYS)
