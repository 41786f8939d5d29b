"""Transactions, leases and fences as programs write them, on the three clients, with a node that answers as a
cluster would. Covers `client/coordination/async_lease.py`, `sync_lease.py`, `lock_view.py`, and what stores
make of them.
"""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import basestore
from basestore import sync
from basestore.client.coordination import async_lease, sync_lease
from basestore.client.coordination.lease import boot_s
from basestore.errors import (
    Conflict,
    FencedOff,
    InvalidRequest,
    LeaseLost,
    LockHeld,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
)
from basestore.protocol.client import DELETE, HELD, HOLDS_NOTHING, READ, SET, Commit, Get, Set
from tests.worlds.fake_transactions import SERVING, TransactionRegisters, renews
from tests.worlds.fakes import FakeNode, fake
from tests.worlds.flavours import ASYNC, FLAVOURS, Blocking
from tests.worlds.patience import PATIENCE_S, eventually

flavours = pytest.mark.parametrize("flavour", FLAVOURS)
async_flavours = pytest.mark.parametrize("flavour", ASYNC)
SHORT_S = 0.5  # the shortest lease
Body = Callable[[Any], Awaitable[None]]


@pytest.fixture
def registers() -> TransactionRegisters:
    return TransactionRegisters()


@pytest.fixture
def node(registers: TransactionRegisters) -> Iterator[FakeNode]:
    with fake(SERVING, answer=registers) as server:
        yield server


class _Awaited:
    """What a block of the blocking client is for, with calls that an asynchronous one has."""

    def __init__(self, within: Any) -> None:
        self._within = within

    def __getattr__(self, name: str) -> Any:
        return getattr(self._within, name)

    async def get(self, *args: Any, **options: Any) -> Any:
        return self._within.get(*args, **options)


class _Lease(_Awaited):
    async def set(self, *args: Any, **options: Any) -> Any:
        return self._within.set(*args, **options)

    async def delete(self, *args: Any, **options: Any) -> Any:
        return self._within.delete(*args, **options)


class _Blocks(Blocking):
    """A blocking store whose blocks can be written as those of the others."""

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[Any]:
        with self._store.transaction(**options) as transaction:
            yield _Awaited(transaction)

    @asynccontextmanager
    async def lease(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        with self._store.lease(*args, **options) as lease:
            yield _Lease(lease)


def run(flavour: str, node: FakeNode, body: Body) -> None:
    async def main() -> None:
        if flavour == "sync":
            with sync.connect(node.endpoint) as blocking:
                await body(_Blocks(blocking))
        else:
            async with basestore.connect(node.endpoint) as store:
                await body(store)

    anyio.run(main, backend="trio" if flavour == "sync" else flavour)


def asked(registers: TransactionRegisters, kind: type) -> list[Any]:
    return [request for request in registers.asked if isinstance(request, kind)]


class TestTransaction:
    @flavours
    def test_it_is_sent_once_at_the_end_and_tells_the_versions(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        read = registers.put("cas", b"a", b"1")

        async def body(store: Any) -> None:
            async with store.transaction() as t:
                assert (await t.get("a")).value == b"1"
                assert not (await t.get("none")).found
                t.set("a", "2", ttl=60)
                t.delete(b"b", bucket="cas")
                assert not asked(registers, Commit)
                assert (t.committed, t.version("a")) == (False, None)
            assert t.committed
            assert t.version("a") == registers.held["cas", b"a"].known
            assert t.version("none") is None

        run(flavour, node, body)
        (commit,) = asked(registers, Commit)
        assert commit.keys == [b"a", b"b", b"none"]
        assert commit.kinds == [SET, DELETE, READ]
        assert commit.expected == [read.encode(), b"", HOLDS_NOTHING]
        assert commit.ttls_ms == [60_000, 0, 0]
        assert all(request.level == basestore.Level.SERIAL for request in asked(registers, Get))

    @flavours
    def test_what_its_block_raises_is_raised_and_nothing_is_sent(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        raised = ValueError("of the block")

        async def body(store: Any) -> None:
            begun: list[Any] = []

            async def work() -> None:
                async with store.transaction() as t:
                    begun.append(t)
                    t.set("a", "2")
                    raise raised

            with pytest.raises(ValueError, match="of the block") as caught:
                await work()
            assert caught.value is raised
            with pytest.raises(InvalidRequest, match="has ended"):
                begun[0].set("a", "3")
            assert not begun[0].committed

        run(flavour, node, body)
        assert not registers.asked

    @flavours
    @pytest.mark.parametrize(
        ("error", "definite"),
        [(Conflict("conflict: told"), True), (OutcomeUnknown("unknown: told", None, None), False)],
        ids=["conflict", "unknown"],
    )
    def test_what_it_is_told_is_raised_behind_it(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters, error: Any, definite: bool
    ) -> None:
        registers.instead[Commit] = [error]

        async def body(store: Any) -> None:
            with pytest.raises(type(error), match="told") as caught:
                async with store.transaction() as t:
                    t.set("a", "2")
            assert caught.value.definite is definite
            assert (t.committed, t.version("a")) == (False, None)

        run(flavour, node, body)

    @flavours
    def test_what_has_read_one_key_alone_asks_nobody_whether_that_holds(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        async def body(store: Any) -> None:
            async with store.transaction() as t:
                assert not await t.get("a")
            assert t.committed

        run(flavour, node, body)
        assert not asked(registers, Commit)

    @flavours
    def test_a_session_has_none(self, flavour: str, node: FakeNode) -> None:
        async def body(store: Any) -> None:
            async with store.session() as session:
                with pytest.raises(InvalidRequest, match="nothing was done"):
                    async with session.transaction():
                        pass

        run(flavour, node, body)


class TestLease:
    @flavours
    def test_it_is_held_for_the_length_of_the_block(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        async def body(store: Any) -> None:
            for token in (1, 2):
                async with store.lease("jobs", owner="me", seconds=8) as lease:
                    held = registers.lock()
                    assert held is not None
                    assert (held.owner, held.token, held.lease_ms) == ("me", token, 8000)
                    assert held.holder
                    assert (lease.name, lease.token) == (b"jobs", token)
                    assert 0 < lease.remaining <= 6.0
                held = registers.lock()
                assert held is not None
                assert (held.holder, held.token) == (b"", token)

        run(flavour, node, body)

    @flavours
    def test_what_its_block_raises_is_raised_as_it_is_and_it_is_given_back(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        raised = ValueError("of the block")

        async def body(store: Any) -> None:
            with pytest.raises(ValueError, match="of the block") as caught:
                async with store.lease("jobs"):
                    raise raised
            assert caught.value is raised

        run(flavour, node, body)
        held = registers.lock()
        assert held is not None
        assert not held.holder

    @flavours
    def test_who_does_not_wait_is_told_who_has_it(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        registers.take("n7")

        async def body(store: Any) -> None:
            with pytest.raises(LockHeld, match=r"is held, by n7.*nothing was done"):
                async with store.lease("jobs", wait=0):
                    raise AssertionError("it was not to be had")

        run(flavour, node, body)
        assert not asked(registers, Set)

    @flavours
    def test_ephemeral_keys_stand_in_its_row_and_go_with_it(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        async def body(store: Any) -> None:
            async with store.lease("jobs") as lease:
                for key in ("here", "there", "here"):
                    await lease.set(key, "me")
                held = registers.lock()
                assert held is not None
                assert sorted(held.keys) == [("cas", b"here"), ("cas", b"there")]
                await lease.delete("there")
                held = registers.lock()
                assert held is not None
                assert held.keys == (("cas", b"here"),)
                assert registers.held["cas", b"there"].value is None
                assert registers.held["cas", b"here"].value == b"me"
            assert registers.held["cas", b"here"].value is None

        run(flavour, node, body)
        last = asked(registers, Commit)[-1]  # in one transaction with the row of the lock
        assert last.kinds == [SET, DELETE]
        assert last.keys == [b"jobs", b"here"]
        assert last.expected[0]

    @flavours
    def test_that_it_cannot_be_given_back_is_no_error_of_the_block(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        async def body(store: Any) -> None:
            async with store.lease("jobs"):
                registers.instead[Set] = [Unavailable.because("unavailable")]

        run(flavour, node, body)
        held = registers.lock()
        assert held is not None
        assert held.holder

    @flavours
    def test_who_holds_locks_can_be_listed(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        registers.take("n7", seconds=30, name=b"other")

        async def body(store: Any) -> None:
            async with store.lease("jobs", owner="me") as lease:
                await lease.set("here", "1")
                first, second = await store.locks()
            assert (first.name, first.owner, first.token, first.fence) == (b"jobs", "me", 1, "jobs:1")
            assert first.keys == (("cas", b"here"),)
            assert (second.name, second.owner, second.seconds) == (b"other", "n7", 30.0)
            assert [view.name for view in await store.locks()] == [b"other"]  # jobs is free
            assert first.as_json()["ephemeral"] == [{"bucket": "cas", "key": "here"}]

        run(flavour, node, body)


class TestLeaseThatIsLost:
    @async_flavours
    def test_its_block_is_cancelled_once_another_has_it(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        async def body(store: Any) -> None:
            cancelled: list[bool] = []

            async def work() -> None:
                async with store.lease("jobs", seconds=SHORT_S):
                    registers.take("n7")
                    try:
                        await anyio.sleep_forever()
                    finally:
                        cancelled.append(True)

            with anyio.fail_after(PATIENCE_S), pytest.raises(LeaseLost, match="held by n7 now"):
                await work()
            assert cancelled

        run(flavour, node, body)
        held = registers.lock()
        assert held is not None
        assert held.owner == "n7"  # what another has is not given back

    @async_flavours
    def test_its_block_is_cancelled_once_it_was_not_renewed_in_time(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        registers.deaf = renews

        async def body(store: Any) -> None:
            with anyio.fail_after(PATIENCE_S), pytest.raises(LeaseLost, match="could not be renewed"):
                async with store.lease("jobs", seconds=SHORT_S) as lease:
                    await anyio.sleep_forever()
            assert lease.remaining == 0.0

        run(flavour, node, body)

    @async_flavours
    def test_renewals_that_fail_are_made_again_while_there_is_time(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        async def body(store: Any) -> None:
            async with store.lease("jobs", seconds=6.0):  # it is renewed after 2 s, and believed in for 4.5
                registers.instead[Set] = [Overloaded("overloaded"), Unavailable.because("unavailable")]
                with anyio.fail_after(PATIENCE_S):
                    await anyio.to_thread.run_sync(
                        eventually, lambda: len(asked(registers, Set)) >= 4, "renewed"
                    )

        run(flavour, node, body)
        held = registers.lock()
        assert held is not None
        assert not held.holder

    @async_flavours
    def test_who_cancels_from_outside_has_his_way_and_it_is_given_back(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        async def body(store: Any) -> None:
            with anyio.CancelScope() as scope:
                async with store.lease("jobs"):
                    scope.cancel()
                    await anyio.sleep_forever()
                raise AssertionError("what is cancelled went on")
            assert scope.cancelled_caught

        run(flavour, node, body)
        held = registers.lock()
        assert held is not None
        assert not held.holder

    @flavours
    @pytest.mark.parametrize("own", [False, True], ids=["it ends", "it raises"])
    def test_a_block_that_has_not_heard_of_it_is_told_at_its_end(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters, own: bool
    ) -> None:
        """Nothing is renewed meanwhile. What it raises itself goes on."""

        async def body(store: Any) -> None:
            async def work() -> None:
                async with store.lease("jobs"):
                    registers.take("n7")
                    if own:
                        raise ValueError("its own")

            with pytest.raises(ValueError if own else LeaseLost, match="own" if own else "held by n7 now"):
                await work()

        run(flavour, node, body)
        held = registers.lock()
        assert held is not None
        assert held.owner == "n7"

    @flavours
    @pytest.mark.parametrize("own", [False, True], ids=["it ends", "it raises"])
    def test_a_block_that_lets_nothing_else_run_is_told_at_its_end(
        self, flavour: str, node: FakeNode, monkeypatch: pytest.MonkeyPatch, own: bool
    ) -> None:
        """For longer than the lease is believed in, as by a machine that is asleep."""

        async def body(store: Any) -> None:
            async def work() -> None:
                async with store.lease("jobs", seconds=10):
                    for module in (async_lease, sync_lease):
                        monkeypatch.setattr(module, "boot_s", lambda: boot_s() + 8.0)
                    if own:
                        raise ValueError("its own")

            with pytest.raises(ValueError if own else LeaseLost, match="own" if own else "not be renewed"):
                await work()

        run(flavour, node, body)

    @pytest.mark.parametrize("how", ["taken", "silent"])
    def test_a_thread_finds_out_by_asking_and_at_the_end(
        self, node: FakeNode, registers: TransactionRegisters, how: str
    ) -> None:
        told = "held by n7 now" if how == "taken" else "could not be renewed"
        if how == "silent":
            registers.deaf = renews
        with sync.connect(node.endpoint, timeout=0.3) as store:
            lease = store.lease("jobs", seconds=SHORT_S)

            def work() -> None:
                with lease:
                    lease.check()
                    if how == "taken":
                        registers.take("n7")
                    assert lease.ended.wait(PATIENCE_S)
                    assert lease.remaining == 0.0
                    for use in (lease.check, lambda: lease.set("here", "1")):
                        with pytest.raises(LeaseLost, match=told):
                            use()

            with pytest.raises(LeaseLost, match=told):
                work()
        assert not asked(registers, Commit)
        assert not [thread for thread in threading.enumerate() if thread.name == "basestore lease"]

    def test_what_a_thread_raises_goes_before_that_it_was_lost(
        self, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        def work() -> None:
            with sync.connect(node.endpoint) as store, store.lease("jobs", seconds=SHORT_S) as lease:
                registers.take("n7")
                assert lease.ended.wait(PATIENCE_S)
                raise ValueError("of the block")

        with pytest.raises(ValueError, match="of the block"):
            work()


class TestFence:
    @flavours
    def test_a_write_is_done_only_while_the_lock_is_held_for_it(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        async def work(store: Any) -> None:
            async with store.lease("jobs") as lease:
                receipt = await store.set("k", "1", bucket="cas", fence=lease)
                assert receipt
                assert receipt.version == registers.held["cas", b"k"].known
                assert await store.set("k", "2", bucket="cas", fence="jobs:1", if_version=receipt.version)
                with pytest.raises(Conflict):
                    await store.delete("k", bucket="cas", fence=lease, if_version=receipt.version)
                registers.take()
                for write in (store.set("k", "3", bucket="cas", fence=lease),
                              store.delete("k", bucket="cas", fence="jobs:1")):  # fmt: skip
                    with pytest.raises(FencedOff, match="nothing was done"):
                        await write
                assert await store.delete("k", bucket="cas", fence="jobs:2")

        async def body(store: Any) -> None:
            with pytest.raises(LeaseLost):
                await work(store)

        run(flavour, node, body)
        assert asked(registers, Commit)[0].kinds == [SET, HELD]
        assert registers.held["cas", b"k"].value is None

    @flavours
    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"fence": "jobs"}, "LOCK:TOKEN"),
            ({"fence": 7}, "a fence is a lease"),
            ({"fence": "jobs:1", "if_value": "1"}, "depends on no value"),
            ({"fence": "jobs:1", "repeat": "5e1f0c3a9b7d2468"}, "neither be repeated"),
            ({"fence": "jobs:1", "defer": True}, "nor deferred"),
        ],
    )
    def test_what_cannot_be_fenced_is_not_sent(
        self, flavour: str, node: FakeNode, registers: TransactionRegisters, options: Any, told: str
    ) -> None:
        async def body(store: Any) -> None:
            with pytest.raises(InvalidRequest, match=told):
                await store.set("k", "1", bucket="cas", **options)

        run(flavour, node, body)
        assert not registers.asked
