"""`degrade=` on the three clients: what is asked, what is refused before that, and what a result says."""

import math
from typing import Any

import pytest

from basestore.client.arguments import degrade_ms_of
from basestore.consistency import Level
from basestore.errors import ConnectionLost, InvalidRequest, Unavailable
from basestore.protocol.client import AS_ASKED, Failed, Get, Got
from basestore.protocol.codec import Message
from basestore.protocol.limits import STALE_MS_MAX
from tests.worlds.fakes import fake
from tests.worlds.flavours import FLAVOURS, run

BECAUSE = "1 of 3 replicas is alive"
flavours = pytest.mark.parametrize("flavour", FLAVOURS)


class Node:
    """One that answers every read as degraded, and notes what it was asked."""

    def __init__(self, stale_ms: int = 23_900) -> None:
        self.stale_ms = stale_ms
        self.asked: list[Get] = []

    def __call__(self, request: Message) -> Message | None:
        if not isinstance(request, Get):
            return None
        self.asked.append(request)
        told = False, 0, 0, 0, self.stale_ms, False, True, BECAUSE
        return Got(request.id, True, request.key, bytes(24), 0, 1, 1, *told)


@flavours
def test_a_degraded_answer_says_so_and_how_stale_it_may_be(flavour: str) -> None:
    node = Node()

    async def body(store: Any) -> None:
        result = await store.get("k", degrade=60)
        assert (result.value, result.degraded, result.because) == (b"k", True, BECAUSE)
        assert (result.level, result.stale_by_at_most) == (Level.ONE, 23.9)
        told = result.as_json()
        assert (told["degraded"], told["because"], told["stale_by_at_most_s"]) == (True, BECAUSE, 23.9)
        many = await store.get_many(["a", "b"], degrade=0.5)
        assert [(each.value, each.degraded) for each in many] == [(b"a", True), (b"b", True)]
        assert await store.get_many([], degrade=60) == []

    with fake(answer=node) as server:
        run(flavour, server.endpoint, body)
    assert [each.degrade_ms for each in node.asked] == [60_000, 500, 500]
    assert not any(each.tell for each in node.asked)


@flavours
def test_who_says_nothing_leaves_it_to_the_node_and_zero_forbids_it(flavour: str) -> None:
    node = Node()

    async def body(store: Any) -> None:
        await store.get("k")
        await store.get("k", degrade=0)
        await store.get("k", degrade=0, consistency="one")
        assert await store.exists("k")  # it could not say that it was degraded

    with fake(answer=node) as server:
        run(flavour, server.endpoint, body)
    assert [each.degrade_ms for each in node.asked] == [0, AS_ASKED, AS_ASKED, AS_ASKED]


@flavours
def test_a_degraded_answer_of_which_nobody_knows_how_stale_it_is_makes_no_sense(flavour: str) -> None:
    async def body(store: Any) -> None:
        with pytest.raises(ConnectionLost):
            await store.get("k", degrade=60)

    with fake(answer=Node(stale_ms=-1)) as server:
        run(flavour, server.endpoint, body)


@flavours
def test_an_error_says_all_that_its_node_said(flavour: str) -> None:
    text = "unavailable: 2 replicas are required and 1 is alive. A read at one will not do instead"

    async def body(store: Any) -> None:
        with pytest.raises(Unavailable) as failed:
            await store.get("k", degrade=60)
        assert str(failed.value) == text
        assert (failed.value.required, failed.value.alive) == (2, 1)

    def answer(request: Any) -> Message:
        return Failed(request.id, Unavailable.code, text, b"", ["2", "1", "0"])

    with fake(answer=answer) as server:
        run(flavour, server.endpoint, body)


@pytest.mark.parametrize(
    ("degrade", "text"),
    [
        (-1, "must be a positive number of seconds, not -1"),
        (math.nan, "must be a positive number of seconds, not nan"),
        (math.inf, "must be a positive number of seconds, not inf"),
        (True, "must be a positive number of seconds, not True"),
        (False, "must be a positive number of seconds, not False"),
        ("60s", "must be a positive number of seconds, not '60s'"),
        (STALE_MS_MAX / 1e3 + 1, "is too long; at most 31536000 s are allowed"),
    ],
)
@flavours
def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    flavour: str, degrade: Any, text: str
) -> None:
    node = Node()

    async def body(store: Any) -> None:
        with pytest.raises(InvalidRequest, match=text):
            await store.get("k", degrade=degrade)
        (refused,) = await store.get_many(["k"], degrade=degrade)
        assert text in str(refused)

    with fake(answer=node) as server:
        run(flavour, server.endpoint, body)
    assert node.asked == []


@flavours
def test_it_goes_with_no_level_that_has_nothing_below_it_nor_with_its_opposite(flavour: str) -> None:
    node = Node()

    async def body(store: Any) -> None:
        with pytest.raises(InvalidRequest, match="a read at one has nothing to be degraded to"):
            await store.get("k", degrade=60, consistency="one")
        with pytest.raises(InvalidRequest, match="a read at one has nothing to be degraded to"):
            await store.get("k", degrade=60, consistency="one", repair=False)
        with pytest.raises(InvalidRequest, match="level any is for writes"):
            await store.get("k", degrade=60, consistency="any")
        with pytest.raises(InvalidRequest, match="give up one of the two"):
            await store.get("k", degrade=60, max_staleness=2)

    with fake(answer=node) as server:
        run(flavour, server.endpoint, body)
    assert node.asked == []


def test_the_least_that_can_be_asked_is_a_millisecond() -> None:
    assert degrade_ms_of(1e-9, Level.QUORUM, None) == 1
    assert degrade_ms_of(STALE_MS_MAX / 1e3, Level.ALL, None) == STALE_MS_MAX
