"""What all stores share beside keys and values: truth, many at once, questions to nodes, and their ends."""

from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import basestore
from basestore.errors import InvalidRequest
from tests.worlds.fakes import Cluster, cluster
from tests.worlds.flavours import FLAVOURS, run


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


flavours = pytest.mark.parametrize("flavour", FLAVOURS)


@flavours
def test_a_mapping_gives_its_items_and_a_str_is_no_list_of_keys(running: Cluster, flavour: str) -> None:
    async def body(store: Any) -> None:
        for mapping in ({"k1": "first", b"k2": "second"}, UserDict({"k1": "first", "k2": "second"})):
            receipts = await store.set_many(mapping)
            assert [bool(receipt) for receipt in receipts] == [True, True]
        assert [(await store.get(key)).text for key in ("k", "k1", "k2")] == [None, "first", "second"]
        await store.set_many([(letter, "precious") for letter in "abc"])
        for wrong in ("abc", b"abc", bytearray(b"abc"), 7, None):
            for call in (store.delete_many, store.get_many, store.set_many):
                with pytest.raises(InvalidRequest, match=r"wanted, as a list of them|is not iterable"):
                    await call(wrong)
        assert [result.text for result in await store.get_many(set("a"))] == ["precious"]
        assert [result.text for result in await store.get_many(iter("abc"))] == ["precious"] * 3

    run(flavour, running.endpoints, body)


@flavours
@pytest.mark.parametrize("wrong", [("a", "b", "c"), "k1", b"k1", ("a",), 7, {"a", "b"}])
def test_what_is_no_pair_is_named_by_its_place_and_nothing_is_written(
    running: Cluster, flavour: str, wrong: Any
) -> None:
    async def body(store: Any) -> None:
        with pytest.raises(InvalidRequest, match="number 1 of the items, counted from 0, is "):
            await store.set_many([(f"first {flavour} {wrong}", "v"), wrong])
        assert not await store.exists(f"first {flavour} {wrong}")

    run(flavour, running.endpoints, body)


@flavours
def test_truth_says_found_and_stored(running: Cluster, flavour: str) -> None:
    async def body(store: Any) -> None:
        key = f"truth {flavour}"
        assert not await store.get(key)
        assert not await store.exists(key)
        first = await store.set(key, "", bucket="once")
        assert first
        assert await store.get(key, bucket="once")  # an empty value is one
        assert await store.exists(key, bucket="once")
        lost = await store.set(key, "late", bucket="once")
        assert not lost
        assert lost.superseded_by == first.version
        assert (await store.get(key, bucket="once")).text == ""
        await store.set(key, b"\xff")
        with pytest.raises(UnicodeDecodeError):
            _ = (await store.get(key)).text

    run(flavour, running.endpoints, body)


@flavours
def test_errors_among_many_are_raised_on_request(running: Cluster, flavour: str) -> None:
    async def body(store: Any) -> None:
        fine = await store.set_many({"a": "1", "b": "2"})
        assert fine.raise_for_errors() == fine
        mixed = await store.set_many([("a", "1"), ("", "no key"), ("b", 7)])
        with pytest.raises(ExceptionGroup, match=r"2 of 3 calls failed \(counted from 0: 1, 2\)") as raised:
            mixed.raise_for_errors()
        assert list(raised.value.exceptions) == list(mixed)[1:]

    run(flavour, running.endpoints, body)


@flavours
def test_all_stores_ask_one_node_and_all(running: Cluster, flavour: str) -> None:
    async def body(store: Any) -> None:
        assert 0 < await store.ping() < 5
        told = await store.status()
        assert [(state.node, state.state) for state in told] == [("n1", "up"), ("n2", "up"), ("n3", "up")]
        assert [state.endpoint for state in told] == running.endpoints

    run(flavour, running.endpoints, body)


@pytest.mark.parametrize("flavour", ["trio", "asyncio"])
def test_a_store_that_was_closed_says_so(running: Cluster, flavour: str) -> None:
    async def body(store: Any) -> None:
        await store.set("k", "v")
        await store.aclose()
        for _ in range(2):
            with pytest.raises(InvalidRequest, match="this store is closed"):
                await store.get("k")
        assert all(isinstance(result, InvalidRequest) for result in await store.get_many(["k"]))
        await store.aclose()

    run(flavour, running.endpoints, body)


def test_a_store_that_was_never_opened_says_how(tmp_path: Path) -> None:
    for opening in (
        basestore.connect("127.0.0.1:1"), basestore.open_cluster(tmp_path), basestore.open_node(tmp_path),
    ):  # fmt: skip
        store: Any = opening
        with pytest.raises(AttributeError, match=r"write `async with basestore\..*\(\.\.\.\) as store`"):
            store.set("k", "v")
    assert not list(tmp_path.iterdir())


def test_an_embedded_store_has_the_same_calls(tmp_path: Path) -> None:
    async def story() -> None:
        async with basestore.open_cluster(tmp_path, durability="memory") as store:
            assert await store.set("k", "v")
            assert await store.exists("k")
            assert await store.ping() < 5
            assert [state.state for state in await store.status()] == ["up"] * 3
            await store.aclose()
            with pytest.raises(InvalidRequest, match="this store is closed"):
                await store.get("k")
            assert (await store.nodes[1].get("k")).text == "v"
        with pytest.raises(InvalidRequest, match="this store is closed"):
            await store.nodes[1].get("k")

    trio.run(story)


@flavours
def test_an_error_names_the_write_that_it_is_about(running: Cluster, flavour: str) -> None:
    async def body(store: Any) -> None:
        with pytest.raises(basestore.OutcomeUnknown) as unknown:
            await store.set(f"never {flavour}", "v", repeat="0123456789abcdef")
        identity = unknown.value.identity
        assert identity is not None
        assert str(identity) == "0123456789abcdef"
        assert await store.set(f"never {flavour}", "v", bucket="once", repeat=identity)
        again = await store.set(f"never {flavour}", "v", bucket="once", repeat=identity)
        assert again.identity.proposal == identity.proposal

    run(flavour, running.endpoints, body)
