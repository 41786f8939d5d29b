"""A node whose address changes in its own file only: the others find it, and tell clients where it is."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

import basestore
from basestore import sync
from basestore.config import NodeConfig
from tests.cluster.processes import Cluster, NodeProcess, running
from tests.worlds.patience import PATIENCE_S, eventually
from tests.worlds.ports import free_ports


def moved(config: NodeConfig, address: str) -> NodeConfig:
    """The same node, at another address by its own file."""
    members = [
        replace(member, address=address) if member.name == config.name else member
        for member in config.cluster.members
    ]
    return replace(config, cluster=replace(config.cluster, members=tuple(members)))


def _told(node: NodeProcess, name: str) -> str:
    """Where a client of this node learns that a member is."""
    with node.store() as store:
        return {state.node: state.endpoint for state in store.status()}[name]


@pytest.mark.parametrize("name", ["n1", "n2", "n3"])
def test_a_node_that_has_moved_is_found_by_those_whose_files_do_not_know_it(
    tmp_path: Path, name: str
) -> None:
    """n1 opens the connections to the others and tells where it is; n3 is dialled, so it has to ask."""
    with running(tmp_path) as cluster:
        mover = next(node for node in cluster if node.name == name)
        others = [node for node in cluster if node is not mover]
        before = mover.endpoint
        stayed = {other.name: other.store() for other in others}
        for store in stayed.values():
            store.get("k")
        mover.stop()
        mover.configure(moved(mover.config, f"127.0.0.1:{free_ports(1)}"))
        mover.start()
        cluster.wait_linked()
        assert before != mover.endpoint
        for other in others:
            eventually(partial(_tells, other, name, mover.endpoint), f"{other.name} tells where {name} is")
            assert f"{name} says that its address is {mover.endpoint}" in other.log
            assert "another cluster configuration" not in other.log
            with other.store("all") as store:
                assert store.set("k", other.name).acknowledged == 3
            with stayed[other.name] as store:
                assert {state.node: state.endpoint for state in store.status()}[name] == mover.endpoint
                assert [state.state for state in store.status()] == ["up"] * 3
        # It comes back to where it was.
        mover.stop()
        mover.configure(moved(mover.config, before))
        mover.start()
        cluster.wait_linked()
        for other in others:
            eventually(partial(_tells, other, name, before), f"{other.name} tells that {name} is back")


def _tells(node: NodeProcess, name: str, address: str) -> bool:
    return _told(node, name) == address


def test_a_member_that_tells_an_address_of_another_is_still_the_one_that_was_found(tmp_path: Path) -> None:
    with running(tmp_path) as cluster:
        n1, n2, n3 = cluster
        before = n3.endpoint
        n3.stop()
        members = [
            replace(member, address={"n3": n1.endpoint, "n1": f"127.0.0.1:{free_ports(1)}"}[member.name])
            if member.name != "n2"
            else member
            for member in n3.config.cluster.members
        ]
        of_n3 = replace(n3.config.cluster, members=tuple(members))
        n3.configure(replace(n3.config, listen=before, cluster=of_n3))
        n3.start()
        cluster.wait_linked([n1, n2])
        eventually(lambda: {"n3"} <= n1.alive() & n2.alive(), "n3 is linked")
        for other in (n1, n2):
            with other.store() as store:
                assert [(state.node, state.state, state.endpoint) for state in store.status()] == [
                    ("n1", "up", n1.endpoint),
                    ("n2", "up", n2.endpoint),
                    ("n3", "up", before),
                ]


@pytest.mark.trio
async def test_an_embedded_node_asks_a_member_where_it_is_by_now(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        n1, n2, n3 = cluster
        n2.start()
        n3.configure(moved(n3.config, f"127.0.0.1:{free_ports(1)}"))
        n3.start()
        async with basestore.open_node(n1.config) as store:
            with trio.fail_after(PATIENCE_S):
                await store.wait_linked()
            states = await store.status()
            assert [(state.node, state.state) for state in states] == [
                ("n1", "up"),
                ("n2", "up"),
                ("n3", "up"),
            ]
            assert states[2].endpoint == n3.endpoint


def test_a_node_listens_where_it_is_told_to_and_is_reached_at_its_address(tmp_path: Path) -> None:
    with Cluster(tmp_path, hosts=["127.0.0.1", "127.0.0.2", "127.0.0.1"]) as cluster:
        n1, n2, _ = cluster
        port = n2.endpoint.split(":")[1]
        n2.configure(replace(n2.config, listen=f"0.0.0.0:{port}"))
        cluster.start()
        assert f"n2 listens on 0.0.0.0:{port}" in n2.log
        assert _told(n1, "n2") == _told(n2, "n2") == f"127.0.0.2:{port}"
        status = n2.status()
        assert status is not None
        assert status.endpoint == f"127.0.0.2:{port}"
        assert status.facts["listen"] == f"0.0.0.0:{port}"
        with sync.connect(f"127.0.0.3:{port}", consistency="all") as store:
            assert store.set("k", "v").acknowledged == 3
