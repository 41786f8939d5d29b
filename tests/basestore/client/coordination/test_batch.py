"""Atomic batches as programs write them, on the three clients, with a node that answers as a cluster would.
Covers `client/coordination/batch.py`."""

from collections.abc import Iterator
from typing import Any

import pytest

from basestore.consistency import Level
from basestore.errors import InvalidRequest, OutcomeUnknown, Overloaded, Unavailable
from basestore.protocol.client import DELETE, SET
from basestore.protocol.limits import BATCH_BYTES_MAX, BATCH_KEYS_MAX
from basestore.repair.version import Identity
from tests.worlds.fake_batches import CHECK, GIVEN_UP, UNKNOWN, VERSION, Batches
from tests.worlds.fake_transactions import SERVING
from tests.worlds.fakes import FakeNode, fake
from tests.worlds.flavours import FLAVOURS, run

pytestmark = pytest.mark.parametrize("flavour", FLAVOURS)


@pytest.fixture
def batches() -> Batches:
    return Batches()


@pytest.fixture
def node(batches: Batches) -> Iterator[FakeNode]:
    with fake(SERVING, answer=batches) as server:
        yield server


class TestBatch:
    def test_it_is_sent_once_at_the_end(self, flavour: str, node: FakeNode, batches: Batches) -> None:
        async def body(store: Any) -> None:
            async with store.batch(atomic=True, consistency="all") as batch:
                batch.set("a", "1", ttl=2.0)
                batch.delete("b", bucket="cas")
                batch.set("c", "1")
                batch.set("c", "2")
                assert not batches.asked
            assert batch.receipt.level is Level.ALL
            assert batch.receipt.identity.version == VERSION
            assert list(batch.receipt.receipts) == [("default", b"a"), ("cas", b"b"), ("default", b"c")]
            with pytest.raises(InvalidRequest, match="has ended"):
                batch.set("d", "1")

        run(flavour, node.endpoint, body)
        (asked,) = batches.asked
        assert (asked.keys, asked.values, asked.ttls_ms) == (
            [b"a", b"b", b"c"],
            [b"1", b"", b"2"],
            [2000, 0, 0],
        )
        assert (asked.kinds, asked.buckets) == ([SET, DELETE, SET], ["default", "cas", "default"])
        assert (asked.level, asked.repeats) == (Level.ALL, False)

    def test_nothing_is_sent_of_a_block_that_raises_or_writes_nothing(
        self, flavour: str, node: FakeNode, batches: Batches
    ) -> None:
        async def body(store: Any) -> None:
            async def fail() -> None:
                async with store.batch(atomic=True) as batch:
                    batch.set("a", "1")
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await fail()
            async with store.batch(atomic=True) as batch:
                pass
            assert batch.receipt is None

        run(flavour, node.endpoint, body)
        assert not batches.asked

    def test_it_has_its_bounds(self, flavour: str, node: FakeNode, batches: Batches) -> None:
        async def body(store: Any) -> None:
            half = "v" * (BATCH_BYTES_MAX // 2)
            many = [(f"k{at}", "1") for at in range(BATCH_KEYS_MAX + 1)]
            for rows in (many, [("a", half), ("a", half), ("b", half)]):
                async with store.batch(atomic=True) as batch:
                    for key, value in rows[:-1]:
                        batch.set(key, value)
                    with pytest.raises(InvalidRequest, match="nothing of it was done"):
                        batch.set(*rows[-1])
                assert len(batches.asked[-1].keys) == len(dict(rows[:-1]))

        run(flavour, node.endpoint, body)

    def test_one_that_is_not_atomic_is_another_call(
        self, flavour: str, node: FakeNode, batches: Batches
    ) -> None:
        async def body(store: Any) -> None:
            with pytest.raises(InvalidRequest, match="use set_many or delete_many"):
                async with store.batch(atomic=False):
                    pass

        run(flavour, node.endpoint, body)

    def test_what_is_unknown_is_followed_by_what_the_error_names(
        self, flavour: str, node: FakeNode, batches: Batches
    ) -> None:
        batches.fails = [UNKNOWN, UNKNOWN]

        async def body(store: Any) -> None:
            repeat: Identity | str | None = None
            for _ in range(2):
                with pytest.raises(OutcomeUnknown) as failed:
                    async with store.batch(atomic=True, repeat=repeat) as batch:
                        batch.set("a", "1")
                assert not failed.value.definite
                assert failed.value.identity == Identity(batches.asked[0].identity, VERSION, CHECK)
                repeat = str(failed.value.identity)
            async with store.batch(atomic=True, repeat=repeat) as batch:
                batch.set("a", "1")
            assert batch.receipt.identity == failed.value.identity

        run(flavour, node.endpoint, body)
        assert [asked.repeats for asked in batches.asked] == [False, True, True]

    def test_that_a_repetition_is_refused_says_nothing_of_the_batch(
        self, flavour: str, node: FakeNode, batches: Batches
    ) -> None:
        batches.fails = [Overloaded("overloaded: nothing was done", 0.1), GIVEN_UP]
        known = Identity(b"proposal", VERSION, CHECK)

        async def body(store: Any) -> None:
            with pytest.raises(OutcomeUnknown, match="An earlier attempt may have been done") as failed:
                async with store.batch(atomic=True, repeat=known) as batch:
                    batch.set("a", "1")
            assert failed.value.identity == known
            with pytest.raises(Unavailable, match="was given up") as told:
                async with store.batch(atomic=True, repeat=known) as batch:
                    batch.set("a", "1")
            assert told.value.definite

        run(flavour, node.endpoint, body)

    def test_that_a_new_one_is_refused_is_definite(
        self, flavour: str, node: FakeNode, batches: Batches
    ) -> None:
        batches.fails = [Overloaded("overloaded: nothing was done", 0.1)]

        async def body(store: Any) -> None:
            with pytest.raises(Overloaded) as failed:
                async with store.batch(atomic=True) as batch:
                    batch.set("a", "1")
            assert failed.value.definite

        run(flavour, node.endpoint, body)

    def test_it_belongs_to_no_session(self, flavour: str, node: FakeNode, batches: Batches) -> None:
        async def body(store: Any) -> None:
            async with store.session() as session:
                with pytest.raises(InvalidRequest, match="belongs to no session"):
                    async with session.batch(atomic=True) as batch:
                        batch.set("a", "1")

        run(flavour, node.endpoint, body)
        assert not batches.asked
