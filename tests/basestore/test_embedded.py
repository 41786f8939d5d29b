"""Embedded nodes: a start that fails, at whatever step, leaves nothing locked and raises what is documented.

Each test starts again in the same process, without the garbage collector's help.
"""

import errno
import gc
import os
import shutil
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import basestore
from basestore.client.calls import PENDING_MAX
from basestore.config import BucketOptions
from basestore.config_file import load
from basestore.errors import ConfigurationError, LeftCluster, NoLeader, StorageError
from basestore.node import Node
from basestore.protocol.envelopes import REQUESTS_MAX
from basestore.server import connections
from basestore.server import service as services
from basestore.server.connections import Connections
from basestore.server.local_cluster import config_path, prepare_cluster
from basestore.server.poller import Poller
from basestore.server.service import Service
from basestore.storage.engine import Engine
from basestore.storage.rocks import RocksEngine
from tests.worlds.deferring import receive
from tests.worlds.patience import PATIENCE_S

pytestmark = pytest.mark.trio

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def opens(directory: Path) -> None:
    async with basestore.open_cluster(directory) as cluster:
        await cluster.set("k", "v")
        assert (await cluster.get("k")).value == b"v"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A directory with a cluster that was started and stopped."""
    trio.run(opens, tmp_path)
    return tmp_path


async def test_a_cluster_of_which_nobody_asks_anything_closes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its members go on telling each other that they live."""
    monkeypatch.setattr(connections, "GOODBYE_S_MAX", PATIENCE_S)
    with trio.fail_after(PATIENCE_S):
        await opens(tmp_path)


class Broken(Exception):
    """A bug."""


@pytest.mark.parametrize("member", [0, 1, 2])
async def test_a_port_that_is_taken_is_a_configuration_error(made: Path, member: int) -> None:
    host, port = prepare_cluster(made, 3, None, "sync")[member].member.address.rsplit(":", 1)
    with socket.create_server((host, int(port))):
        with pytest.raises(ConfigurationError, match="cannot listen"):
            await opens(made)
        with pytest.raises(ConfigurationError, match="cannot listen"):
            async with basestore.open_node(config_path(made, f"n{member + 1}")):
                pass
    await opens(made)


@pytest.mark.parametrize("member", [1, 2])
async def test_a_store_that_does_not_open_is_a_storage_error(made: Path, member: int) -> None:
    opened = []

    def fail(config: basestore.NodeConfig) -> Engine:
        opened.append(config.name)
        if len(opened) > member:
            raise StorageError("no disk")
        return RocksEngine(config.directory)

    with patch.object(services, "open_engine", fail), pytest.raises(StorageError, match="no disk"):
        await opens(made)
    assert len(opened) == member + 1
    await opens(made)


@pytest.mark.parametrize(
    ("owner", "step"),
    [(Service, "_open_node"), (Service, "_listen"), (Connections, "dial_forever"),
     (Poller, "run")],
)  # fmt: skip
async def test_whatever_step_of_a_start_fails_the_next_start_succeeds(
    made: Path, owner: type, step: str
) -> None:
    def fail(*arguments: object) -> None:
        raise Broken(step)

    # private: each step of a start is made to fail in turn
    with patch.object(owner, step, fail), pytest.raises((Broken, BaseExceptionGroup)) as raised:
        await opens(made)
    assert step in repr(raised.value)
    await opens(made)


async def test_a_metrics_port_that_is_taken_leaves_nothing_open(made: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        path = config_path(made, "n1")
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        before = path.read_text()
        path.write_text(before + f'metrics = "{taken}"\n')
        with pytest.raises(ConfigurationError, match="cannot show its metrics"):
            await opens(made)
        path.write_text(before)
    await opens(made)


async def test_a_block_that_fails_or_is_cancelled_closes_everything(made: Path) -> None:
    with pytest.raises(Broken):
        async with basestore.open_cluster(made):
            raise Broken
    for _ in range(2):
        with trio.CancelScope() as scope:
            async with basestore.open_cluster(made) as cluster:
                scope.cancel()
                await cluster.set("a", "b")
    scope = trio.CancelScope()
    scope.cancel()
    with scope:
        await opens(made)
    await opens(made)


async def test_a_relative_path_survives_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with basestore.open_cluster("relative") as cluster:
        os.chdir("/")
        await cluster.set("a", "b")
    assert (tmp_path / "relative" / "n1").is_dir()
    monkeypatch.chdir(tmp_path)
    config = load("relative/n1.toml")
    os.chdir("/")
    assert config.directory == tmp_path / "relative" / "n1"
    assert 'directory = "n1"' in (tmp_path / "relative" / "n1.toml").read_text()


async def test_a_disk_that_fills_while_it_opens_is_told_as_such(made: Path) -> None:
    def full(engine: Engine) -> None:
        raise StorageError(os.strerror(errno.ENOSPC))

    with patch.object(RocksEngine, "sync", full), pytest.raises(StorageError, match="No space left"):
        await opens(made)
    await opens(made)


async def test_a_directory_that_was_copied_opens_by_a_word_only_and_then_at_once(tmp_path: Path) -> None:
    await opens(tmp_path / "data")
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    with pytest.raises(StorageError, match=r"may be old copies.*as_is=True"):
        await opens(tmp_path / "copy")
    async with basestore.open_cluster(tmp_path / "copy", as_is=True) as cluster:
        assert (await cluster.get("k")).text == "v"
        assert not any(state.loss for state in await cluster.status())
    await opens(tmp_path / "copy")  # from then on it lies where it was written


async def test_an_embedded_node_defers_what_it_is_asked_to_if_it_has_too_much_to_do(tmp_path: Path) -> None:
    taken_up, busy = Node.receive_client, True

    def receive_if_busy(*asked: Any) -> Any:
        return (receive if busy else taken_up)(*asked)

    with patch.object(Node, "receive_client", receive_if_busy):
        async with basestore.open_cluster(tmp_path) as cluster:
            with trio.fail_after(PATIENCE_S):
                while not all(state.facts["feature level"] for state in await cluster.status()):
                    pass  # it is durable a moment after the nodes have met
            kept = await cluster.set("k", "v", consistency="any", defer=True)
            gone = await cluster.delete("other", consistency="any", defer=True)
            many = await cluster.set_many([("a", "1"), ("b", "2")], consistency="any", defer=True)
            none = await cluster.delete_many(["c", "d"], consistency="any", defer=True)
            async with basestore.connect(cluster.endpoints) as store:
                remote = await store.set("remote", "v", consistency="any", defer=True)
            receipts = [kept, gone, remote, *many.raise_for_errors(), *none.raise_for_errors()]
            assert {receipt.outcome for receipt in receipts} == {basestore.Outcome.DEFERRED}
            with pytest.raises(basestore.InvalidRequest, match="defer must be True or False"):
                await cluster.set("k", "v", defer="yes")  # type: ignore[arg-type]
            busy = False
            receipt = await cluster.set("later", "v", consistency="any", defer=True)
            assert receipt.outcome is basestore.Outcome.STORED


async def test_an_embedded_node_keeps_to_its_limits_as_any_other(tmp_path: Path) -> None:
    config = replace(
        prepare_cluster(tmp_path, 1, None, None)[0], bucket_options={"once": BucketOptions(requests_per_s=3)}
    )
    async with basestore.open_node(config) as node:
        await node.wait_linked()
        results = await node.get_many([f"k{number}" for number in range(8)], bucket="once")
        assert sum(isinstance(each, basestore.Overloaded) for each in results) == 5
        assert not any(isinstance(each, Exception) for each in await node.get_many(["k"] * 8))


async def test_of_an_embedded_node_too_no_more_is_asked_at_once_than_a_store_takes(tmp_path: Path) -> None:
    silent = patch.object(Node, "receive_client", lambda *_: None)  # and who waits for room does so for long
    with silent, patch("basestore.embedded.WAIT_SHARE", 1.0):
        async with basestore.open_cluster(tmp_path) as cluster, trio.open_nursery() as nursery:
            for _ in range(PENDING_MAX // REQUESTS_MAX):  # one lot is under way, the others wait for it
                nursery.start_soon(cluster.get_many, ["k"] * REQUESTS_MAX)
            await wait_all_tasks_blocked()
            with pytest.raises(basestore.Overloaded, match=f"{PENDING_MAX} requests are under way in this"):
                await cluster.get("one more")
            nursery.cancel_scope.cancel()


# --- members that come and leave -------------------------------------------------------------------


async def moved(store: basestore.Store, left: str = "") -> None:
    """Until all is where it is planned to be, nobody is about to leave, and this member has left."""
    with trio.fail_after(PATIENCE_S):
        done = False
        while not done:
            try:
                members, moves = (await store.topology()).members, await store.moves()
            except basestore.Overloaded as busy:
                await trio.sleep(busy.retry_after)
                continue
            done = moves.done and {each.standing for each in members} <= {"member", "left"}
            done = done and left in ("", *(each.name for each in members if each.standing == "left"))


async def decided(change: Callable[[], Awaitable[T]]) -> T:
    """What has become of it, once there is a leader to ask."""
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                return await change()
            except NoLeader:
                pass


async def test_a_node_joins_is_given_its_share_and_another_leaves_while_all_is_served(tmp_path: Path) -> None:
    rows = {f"key {number}": f"value {number}" for number in range(50)}
    async with basestore.open_cluster(tmp_path) as cluster:
        (await cluster.set_many(list(rows.items()))).raise_for_errors()
        for key in ("moves.at_once_to", "moves.at_once_from"):  # in one go
            await decided(lambda key=key: cluster.set_setting(key, "64"))  # type: ignore[misc]
        node = await decided(lambda: cluster.join(zone="east", weight=2))
        assert node.name == "n4"
        assert [each.name for each in cluster.nodes] == ["n1", "n2", "n3", "n4"]
        assert node.endpoint in cluster.endpoints
        await moved(cluster)
        told = await node.topology()
        (member,) = [each for each in told.members if each.name == "n4"]
        assert (member.zone, member.weight, member.standing) == ("east", 2, "member")
        assert any("n4" in seats.replicas for seats in told.partitions)
        assert (tmp_path / "n4.toml").stat().st_mode & 0o077 == 0
        with pytest.raises(basestore.InvalidRequest, match="a member is called 'n4' already"):
            await cluster.join("n4")
        await cluster.drain("n2")
        await moved(cluster, left="n2")
        told = await node.topology()
        assert {name for seats in told.partitions for name in seats.replicas} == {"n1", "n3", "n4"}
        assert {key: (await node.get(key, consistency="all")).text for key in rows} == rows
        assert cluster.nodes[1].name == "n2"
        with pytest.raises(basestore.Unavailable, match="has left the cluster"):
            await cluster.nodes[1].get("key 1")
    async with basestore.open_cluster(tmp_path) as again:  # who has left is not run
        assert [each.name for each in again.nodes] == ["n1", "n3", "n4"]
        assert (await again.get("key 1", consistency="all")).text == "value 1"


async def test_a_name_that_a_member_has_is_refused_and_no_file_is_written(tmp_path: Path) -> None:
    async with basestore.open_cluster(tmp_path, nodes=1) as cluster:
        await decided(cluster.topology)
        with pytest.raises(basestore.InvalidRequest, match="a member is called 'n1' already"):
            await decided(lambda: cluster.join("n1"))
        assert [name for name in os.listdir(tmp_path) if name.endswith(".toml")] == ["n1.toml"]
        assert len(cluster.nodes) == 1


async def test_who_was_removed_while_it_was_down_ends_the_opening_of_its_cluster(tmp_path: Path) -> None:
    async with basestore.open_cluster(tmp_path, nodes=4) as cluster:
        with trio.fail_after(PATIENCE_S):
            while len((await decided(lambda: cluster.topology("consistent"))).voters) < 3:
                pass  # until the group is complete, it changes nothing that not all of them know
    configs = [load(tmp_path / f"n{number}.toml") for number in (1, 2, 4)]
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(basestore.open_node(config)) for config in configs]
        await decided(lambda: nodes[0].remove_dead("n3"))
        await moved(nodes[0], left="n3")
        async with basestore.open_node(tmp_path / "n3.toml") as removed:
            with trio.fail_after(PATIENCE_S), pytest.raises(LeftCluster, match="that this node has left"):
                await removed.wait_linked()
