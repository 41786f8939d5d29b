"""Sessions across nodes: a world whose replicas differ, where a store at ONE would go back in time.

Covers `client/session.py` and what the coordinator does with its floors.
"""

from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any, NoReturn, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basestore.client.calls import Asking
from basestore.client.channel import Batch
from basestore.client.store import Store
from basestore.consistency import Level, Outcome
from basestore.errors import BasestoreError, InvalidRequest, ReadTimeout, SessionFull
from basestore.protocol.codec import Message
from basestore.protocol.groups import singly
from basestore.protocol.handshake import Meant, Rules
from basestore.protocol.replication import Apply
from basestore.repair.rule import Rule
from basestore.repair.version import Version
from basestore.results.receipts import Item, Receipt
from tests.worlds.world import Call, World

T = TypeVar("T")


class Way:
    """A channel to whichever node of a world `at` says."""

    def __init__(self, world: World, at: int = 0) -> None:
        self._world = world
        self.at = at
        self.members = world.names
        self.cluster = world.cluster.id
        self.rules = Rules(world.cluster.buckets.items())
        self.timeout_s_max = world.cluster.timeout_ms_max / 1e3

    async def addresses(self, deadline: float) -> NoReturn:
        raise NotImplementedError

    def elsewhere(self, member: Meant, timeout_s: float) -> NoReturn:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    async def ready(self, deadline: float) -> None:
        """Always."""

    async def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> Batch:
        """Lets the world's time pass until each answer is there."""
        batch = Batch(1, asking)
        requests = singly(batch.requests)
        calls = [self._world.ask(self.at, partial(numbered, request)) for request in requests]
        for request, call in zip(requests, calls, strict=True):
            batch.hear(self._answer(call)._replace(id=request.id))
        return batch

    def _answer(self, call: Call) -> Any:
        self._world.settle()
        for _ in range(100):
            if call.answer is not None:
                return call.answer
            self._world.run(0.05)
        raise AssertionError("a request was not answered")


def numbered(request: Any, number: int) -> Message:
    numbered: Message = request._replace(id=number)
    return numbered


def finish(story: Coroutine[Any, Any, T]) -> T:
    """Run what only ever waits for the world."""
    try:
        story.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits for something else")


async def listed(items: AsyncIterator[Item]) -> list[tuple[bytes, bytes]]:
    return [(item.key, item.value) async for item in items]


def only_at(world: World, *members: int) -> None:
    """From now on records from other nodes arrive at these replicas alone; reads pass."""
    world.lose = lambda sent: isinstance(sent.message, Apply) and sent.target not in members


def store_at(world: World, at: int) -> tuple[Way, Store]:
    way = Way(world, at)
    return way, Store(way, "one", timeout=1.0)


def split() -> tuple[World, Way, Store]:
    """Three replicas that all hold k=old; what is written from now on stays where it is written."""
    world = World(3)
    world.put(0, "k", "old", Level.ALL)
    only_at(world)
    return (world, *store_at(world, 0))


@pytest.mark.parametrize("other", [1, 2])
def test_what_was_written_at_one_node_is_read_at_another(other: int) -> None:
    async def story() -> None:
        _, way, store = split()
        async with store.session() as session:
            written = await session.set("k", "new")
            way.at = other
            assert (await store.get("k")).value == b"old"  # without the session
            result = await session.get("k")
            assert (result.value, result.version) == (b"new", written.version)
            assert [each.value for each in await gotten(session, "k", "k")] == [b"new", b"new"]

    finish(story())


async def gotten(store: Store, *keys: str) -> list[Any]:
    return list(await store.get_many(keys))


@pytest.mark.parametrize("level", ["one", "quorum", "all"])
@pytest.mark.parametrize("other", [1, 2])
def test_when_nobody_who_answers_has_it_the_read_fails_and_never_shows_the_old(
    other: int, level: str
) -> None:
    async def story() -> None:
        world, way, store = split()
        async with store.session() as session:
            await session.set("k", "new")
            world.isolate(0)
            way.at = other
            if level == "one":
                assert (await store.get("k")).value == b"old"
            with pytest.raises(ReadTimeout):
                await session.get("k", consistency=level)  # type: ignore[arg-type]
            assert isinstance((await gotten(session, "k"))[0], ReadTimeout)
            world.rejoin(0)
            world.run(3.0)  # n1 is heard of again
            assert (await session.get("k")).value == b"new"

    finish(story())


def test_a_delete_is_not_undone_at_another_node() -> None:
    async def story() -> None:
        _, way, store = split()
        async with store.session() as session:
            await session.delete("k")
            way.at = 1
            assert (await store.get("k")).found
            assert not (await session.get("k")).found

    finish(story())


def test_what_was_read_at_one_node_does_not_go_back_at_another() -> None:
    async def story() -> None:
        world, way, store = split()
        world.plant(2, "k", "new", world.stamp())
        async with store.session() as session:
            way.at = 2
            assert (await session.get("k")).value == b"new"
            way.at = 0
            assert (await store.get("k", repair=False)).value == b"old"
            assert (await session.get("k", repair=False)).value == b"new"
            assert world.values("k") == [b"old", b"old", b"new"]  # nothing was repaired

    finish(story())


def test_a_superseded_write_is_followed_by_reads_of_what_won() -> None:
    async def story() -> None:
        world, way, store = split()
        world.plant(0, "k", "newer", world.stamp(500))
        earlier = world.stamp(-500)
        async with store.session() as session:
            repeat = world.known(world.content("default", "k", b"mine"), earlier)
            receipt = await session.set("k", "mine", repeat=repeat, consistency="all", timeout=0.5)
            assert receipt.outcome is Outcome.SUPERSEDED
            way.at = 1
            assert (await session.get("k")).value == b"newer"

    finish(story())


def test_a_write_that_timed_out_binds_nothing() -> None:
    async def story() -> None:
        _, way, store = split()
        async with store.session() as session:
            with pytest.raises(BasestoreError):
                await session.set("k", "new", consistency="all", timeout=0.2)
            way.at = 1
            assert (await session.get("k")).value == b"old"

    finish(story())


def test_in_a_first_write_bucket_smaller_versions_are_newer() -> None:
    async def story() -> None:
        world = World(3, buckets={"orders": Rule.FIRST_WRITE_WINS})
        for bucket in ("once", "orders"):
            for at, name, offset in ((0, "first", -50), (1, "second", -40), (2, "second", -40)):
                world.plant(at, "k", name, world.stamp(offset), bucket=bucket)
        only_at(world)
        way, store = store_at(world, 1)
        for bucket in ("once", "orders"):
            async with store.session() as session:
                way.at = 1
                assert (await session.get("k", bucket=bucket)).value == b"second"
                way.at = 0
                assert (await session.get("k", bucket=bucket)).value == b"first"
                for way.at in (1, 2):
                    assert (await store.get("k", bucket=bucket)).value == b"second"
                    assert (await session.get("k", bucket=bucket)).value == b"first"

    finish(story())


def test_a_lost_first_write_is_followed_by_reads_of_the_first() -> None:
    async def story() -> None:
        world = World(3)
        world.plant(0, "k", "first", world.stamp(-50), bucket="once")
        only_at(world, 1)
        way, store = store_at(world, 0)
        async with store.session() as session:
            receipt = await session.set("k", "mine", bucket="once", consistency="quorum")
            assert receipt.outcome is Outcome.LOST
            way.at = 2
            assert not (await store.get("k", bucket="once", repair=False)).found
            assert (await session.get("k", bucket="once")).value == b"first"

    finish(story())


def test_a_token_takes_the_promise_along() -> None:
    async def story() -> None:
        _, way, store = split()
        async with store.session() as session:
            await session.set("k", "new")
            token = session.token
        way.at = 1
        assert (await store.get("k")).value == b"old"
        async with store.session(token) as resumed:
            assert (await resumed.get("k", repair=False)).value == b"new"
        async with store.session() as merged:
            assert (await merged.get("k", repair=False)).value == b"old"
            merged.merge(token)
            assert (await merged.get("k")).value == b"new"

    finish(story())


# --- scans -----------------------------------------------------------------------------------------


def test_a_scan_shows_what_the_session_wrote_changed_and_deleted() -> None:
    async def story() -> None:
        world = World(3)
        for key in ("a", "b", "c", "d", "z"):
            world.put(0, key, "old", Level.ALL)
        only_at(world)
        way, store = store_at(world, 0)
        async with store.session() as session:
            await session.set("b", "changed")
            await session.set("bb", "made")
            await session.delete("d")
            await session.set("x", "made")
            way.at = 1
            old = [(key, b"old") for key in (b"a", b"b", b"c", b"d", b"z")]
            assert await listed(store.scan()) == old
            new = [
                (b"a", b"old"), (b"b", b"changed"), (b"bb", b"made"), (b"c", b"old"), (b"x", b"made"),
                (b"z", b"old"),
            ]  # fmt: skip
            assert await listed(session.scan()) == new
            assert await listed(session.scan("b")) == new[1:3]
            for limit in range(8):
                assert await listed(session.scan(limit=limit)) == new[:limit]

    finish(story())


def test_a_scan_that_cannot_show_what_was_seen_fails() -> None:
    async def story() -> None:
        world, way, store = split()
        async with store.session() as session:
            await session.set("k", "new")
            world.isolate(0)
            way.at = 1
            with pytest.raises(ReadTimeout):
                await listed(session.scan())

    finish(story())


def test_what_a_scan_showed_does_not_go_back() -> None:
    async def story() -> None:
        world, way, store = split()
        world.plant(2, "k", "new", world.stamp())
        async with store.session() as session:
            way.at = 2
            assert await listed(session.scan()) == [(b"k", b"new")]
            way.at = 0
            assert (await session.get("k")).value == b"new"

    finish(story())


def test_what_is_written_while_a_page_is_shown_is_shown_as_written() -> None:
    async def story() -> None:
        world = World(3)
        for key in "abcd":
            world.put(0, key, "old", Level.ALL)
        _, store = store_at(world, 0)
        async with store.session() as session:
            shown = []
            async for item in session.scan():
                shown.append((item.key, item.value))
                if item.key == b"a":
                    await session.set("b", "new")
                    await session.delete("c")
            assert shown == [(b"a", b"old"), (b"b", b"new"), (b"d", b"old")]

    finish(story())


def test_a_scan_ends_before_it_shows_a_key_that_there_is_no_room_for() -> None:
    async def story() -> None:
        world = World(3)
        for key in "abcd":
            world.put(0, key, "old", Level.ALL)
        _, store = store_at(world, 0)
        async with store.session(keys_max=2) as session:
            shown = []

            async def show() -> None:
                async for item in session.scan():
                    shown.append(item.key)

            with pytest.raises(SessionFull):
                await show()
            assert shown == [b"a", b"b"]
            assert await listed(session.scan(limit=2)) == [(b"a", b"old"), (b"b", b"old")]

    finish(story())


# --- whatever happens ------------------------------------------------------------------------------

KEYS = ["a", "b", "c"]
steps = st.lists(
    st.tuples(
        st.sampled_from(["set", "get", "delete", "scan", "stranger", "hide", "show", "handover"]),
        st.integers(0, 2),
        st.sampled_from(KEYS),
        st.sampled_from(["default", "once"]),
    ),
    max_size=25,
)


class Judge:
    """Checks that what a session is shown never goes back, by the rule of each bucket."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes], Version] = {}

    def shown(self, bucket: str, key: bytes, version: Version | None) -> None:
        known = self._known.get((bucket, key))
        if known is not None:
            assert version is not None, "what was seen is gone"
            assert version <= known if bucket == "once" else version >= known, "time went back"
        if version is not None:
            self._known[bucket, key] = version

    def wrote(self, bucket: str, key: bytes, receipt: Receipt) -> None:
        told = receipt.version if receipt.outcome is Outcome.STORED else receipt.superseded_by
        known = self._known.get((bucket, key))
        assert told is not None
        if known is None or (told < known if bucket == "once" else told > known):
            self._known[bucket, key] = told

    def listed(self, bucket: str, items: list[Item]) -> None:
        assert [item.key for item in items] == sorted({item.key for item in items})
        for item in items:
            self.shown(bucket, item.key, item.version)


@settings(max_examples=300)
@given(steps)
def test_whatever_happens_a_session_at_one_never_goes_back(plan: list[tuple[str, int, str, str]]) -> None:
    """Three nodes; records pass between them only now and then, nodes fall silent and come back, and
    others write too. Each call of the session goes to any node."""

    async def play() -> None:
        world = World(3)
        only_at(world)
        way, store = store_at(world, 0)
        judge, token = Judge(), ""
        tokens: tuple[str, ...] = ()
        for part in parts(plan):
            async with store.session(*tokens) as session:
                for action, at, key, bucket in part:
                    way.at = at
                    await act(world, store if action == "stranger" else session, judge, action, key, bucket)
                token = session.token
            tokens = (token,)

    finish(play())


def parts(plan: list[tuple[str, int, str, str]]) -> list[list[tuple[str, int, str, str]]]:
    """The plan, cut where the session is handed over."""
    found: list[list[tuple[str, int, str, str]]] = [[]]
    for step in plan:
        if step[0] == "handover":
            found.append([])
        else:
            found[-1].append(step)
    return found


async def act(world: World, store: Store, judge: Judge, action: str, key: str, bucket: str) -> None:
    try:
        if action == "set":
            judge.wrote(bucket, key.encode(), await store.set(key, "v", bucket=bucket, timeout=0.2))
        elif action == "stranger":
            await store.set(key, "theirs", bucket=bucket, timeout=0.2)
        elif action == "delete":
            judge.wrote("default", key.encode(), await store.delete(key, timeout=0.2))
        elif action == "get":
            result = await store.get(key, bucket=bucket, timeout=0.2)
            judge.shown(bucket, key.encode(), result.version)
        elif action == "scan":
            judge.listed(bucket, [item async for item in store.scan(bucket=bucket, timeout=0.2)])
        else:
            place = KEYS.index(key)
            (world.isolate if action == "hide" else world.rejoin)(place)
            only_at(world, place)
    except (InvalidRequest, SessionFull):
        raise
    except BasestoreError:
        pass  # promises nothing


@pytest.mark.parametrize("together", [False, True])
def test_a_later_write_at_a_node_whose_clock_is_behind_wins_all_the_same(*, together: bool) -> None:
    async def story() -> None:
        world = World(3)
        world.skew_ms[0] = 1500
        world.run(3)
        way, store = store_at(world, 0)
        async with store.session() as session:
            for number in range(10):
                way.at = 0
                await session.set(f"{number}", "first", consistency="quorum")
                way.at = 1
                receipts: list[Receipt] = []
                if together:
                    written = await session.set_many([(f"{number}", "second")], consistency="quorum")
                    deleted = await session.delete_many([f"{number}"], consistency="quorum")
                    receipts += written.raise_for_errors() + deleted.raise_for_errors()
                else:
                    receipts += [await session.set(f"{number}", "second", consistency="quorum")]
                    receipts += [await session.delete(f"{number}", consistency="quorum")]
                assert [receipt.outcome for receipt in receipts] == [Outcome.STORED] * 2

    finish(story())
