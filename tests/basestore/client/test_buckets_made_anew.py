"""Buckets that are dropped and made anew while clients work, over real sockets and inside a node: nothing of
the old one shows, and a session waits for none of it.

Every test runs on Trio, on asyncio and with the blocking client; the embedded store, on Trio alone.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import basestore
import basestore.sync
from basestore import InvalidRequest, Level, Outcome
from basestore.errors import NoLeader
from basestore.repair.rule import Rule
from tests.worlds.fakes import Cluster, cluster
from tests.worlds.flavours import FLAVOURS, Blocking, run
from tests.worlds.patience import PATIENCE_S, POLL_S

LEVELS = (Level.ONE, Level.QUORUM, Level.ALL)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


async def created(store: Any, name: str, **options: Any) -> int:
    """Create a bucket as soon as the metadata group is complete; the epoch."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            try:
                epoch: int = (await store.create_bucket(name, **options)).epoch
                return epoch
            except NoLeader:
                await anyio.sleep(POLL_S)
            except InvalidRequest as error:
                if "not complete" not in str(error):
                    raise
                await anyio.sleep(POLL_S)


async def at_epoch(store: Any, epoch: int) -> None:
    """Wait until the node that is asked goes by this epoch."""
    with anyio.fail_after(PATIENCE_S):
        while True:
            if (await store.topology("stale")).epoch >= epoch:
                return
            await anyio.sleep(POLL_S)


async def shows_nothing(store: Any, bucket: str) -> None:
    for level in LEVELS:
        assert not (await store.get("k", bucket=bucket, consistency=level)).found
        assert not any(read.found for read in await store.get_many(["k", "other"], bucket=bucket))
    assert [item async for item in store.scan(bucket=bucket)] == []


async def story(store: Any, others: list[Any], bucket: str) -> None:
    """A bucket is filled, dropped and made anew under another rule, while a session is open and others are
    connected all along."""
    await created(store, bucket)
    async with store.session() as session:
        for key in ("k", "other"):
            await session.set(key, "old", bucket=bucket, consistency="all")
        assert (await session.get("k", bucket=bucket)).value == b"old"
        before = session.token
        dropped = (await store.drop_bucket(bucket)).epoch
        for each in (session, store):
            with pytest.raises(InvalidRequest, match=f"dropped at epoch {dropped}|no bucket"):
                await each.get("k", bucket=bucket)
            with pytest.raises(InvalidRequest):
                await each.set("k", "v", bucket=bucket)
        epoch = await created(store, bucket, rule=Rule.FIRST_WRITE_WINS)
        await shows_nothing(session, bucket)
        for other in others:
            await at_epoch(other, epoch)
            await shows_nothing(other, bucket)
            # What the session knows of the old one: it must not be waited for, on any way.
            async with other.session(before) as late:
                await shows_nothing(late, bucket)
        assert (await session.set("k", "new", bucket=bucket)).outcome is Outcome.STORED
        assert (await session.set("k", "newer", bucket=bucket)).outcome is Outcome.LOST
        after = session.token
    for other in others:
        for token in (before, after):
            async with other.session(token) as late:
                late.merge(before)  # which says less than is known here
                assert (await late.get("k", bucket=bucket)).value == b"new"
                assert not (await late.get("other", bucket=bucket)).found
                assert [item.key async for item in late.scan(bucket=bucket)] == [b"k"]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_over_sockets_nothing_of_the_old_shows(running: Cluster, flavour: str) -> None:
    async def body(store: Any) -> None:
        async with connected(running.endpoints, flavour) as others:
            await story(store, [store, *others], f"carts {flavour}")

    run(flavour, running.endpoints[0], body)


@asynccontextmanager
async def connected(endpoints: list[str], flavour: str) -> AsyncIterator[list[Any]]:
    """A store at each node, connected before anything changes."""
    if flavour == "sync":
        with (
            basestore.sync.connect(endpoints[1]) as second,
            basestore.sync.connect(endpoints[2]) as third,
        ):
            yield [Blocking(second), Blocking(third)]
    else:
        async with basestore.connect(endpoints[1]) as second, basestore.connect(endpoints[2]) as third:
            yield [second, third]


@pytest.mark.trio
async def test_inside_a_node_nothing_of_the_old_shows(tmp_path: Path) -> None:
    async with basestore.open_cluster(tmp_path, durability="memory") as nodes:
        await story(nodes, list(nodes.nodes), "carts")


@pytest.mark.trio
async def test_a_cluster_of_one_node_that_is_opened_again_knows_which_bucket_it_has(tmp_path: Path) -> None:
    async with basestore.open_cluster(tmp_path, 1) as node:
        await story(node, [node], "carts")
        async with node.session() as session:
            assert (await session.get("k", bucket="carts")).value == b"new"
            token = session.token
    async with basestore.open_cluster(tmp_path, 1) as node, node.session(token) as session:
        assert (await session.get("k", bucket="carts")).value == b"new"
        assert not (await session.get("other", bucket="carts")).found
