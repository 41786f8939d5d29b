"""What a client does while its node is busy: what the node sheds is Overloaded at once, and what it would
shed is not sent.

Covers the window in `client/connection.py`, `network_channel.py`, `blocking_connection.py` and
`blocking_channel.py`; and what `channel.py` makes of `Shed`.
"""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given
from hypothesis import strategies as st

import basestore
import basestore.sync
from basestore import BasestoreError, ConnectionLost, InvalidRequest, Overloaded
from basestore.client.calls import PENDING_MAX, Call
from basestore.client.channel import Batch, shed
from basestore.protocol.client import Credit, Failed, Get, Got, Set, Shed, Written
from basestore.protocol.codec import Message
from basestore.protocol.envelopes import ADMIN, BULK, READ, WRITE
from basestore.protocol.limits import VALUE_BYTES_MAX, WIRE_LOWEST
from basestore.protocol.operator import Fact, NodeStatus, Status
from basestore.repair.version import IDENTITY_BYTES
from basestore.sync import SyncStore
from tests.worlds.fakes import WELCOME, FakeNode, fake
from tests.worlds.flavours import ASYNC, FLAVOURS, run
from tests.worlds.patience import PATIENCE_S, eventually


def served(request: Any) -> Message:
    """As a node that has nothing else to do."""
    if isinstance(request, Set):
        return Written(request.id, 0, 0, request.identity.ljust(IDENTITY_BYTES, b"\0"), 1, 1, [], b"", 0)
    if isinstance(request, Get):
        return Got(request.id, False, b"", b"", 0, 1, 1, False, 0)
    assert isinstance(request, Status)
    return NodeStatus(request.id, [Fact("node", "n1"), Fact("state", "up")])


def counts(store: Any) -> tuple[int, ...]:
    """All that a store counts of what waits and is under way; all is 0 once all has ended."""
    # private: what a client counts concerns nobody, unless it is wrong
    channel = store._channel
    window = channel.connection.window
    if isinstance(store, SyncStore):
        return len(channel.connection.under_way), window.size, window.granted, window.held
    return len(channel.connection.asked), window.size, window.granted, window.held, channel.pending


@given(
    st.lists(st.tuples(st.integers(0, 30) | st.integers(0, 1 << 64), st.integers(0, 9) | st.just(1 << 70))),
    st.sets(st.integers(1, 30)),
)
def test_what_is_shed_is_what_lies_in_a_range(ranges: list[tuple[int, int]], asked: set[int]) -> None:
    def make(number: int) -> Message:
        return Get(number, "default", b"k", 1, 1000, b"", True)

    table: dict[int, Batch] = {}
    batches = {number: Batch(number, Call(make, lambda answer, _: None, 1.0)) for number in asked}
    for batch in batches.values():
        batch.enter(table, 0.0, 1.0)
    shed(table, Shed([each for pair in ranges for each in pair], 250, 9), "n1:7400")
    named = {number for number in asked if any(at <= number < at + count for at, count in ranges)}
    assert table.keys() == asked - named
    for number, batch in batches.items():
        assert (number in batch.failed) == (number in named)
    for number in named:
        error = batches[number].failed[number]
        assert isinstance(error, Overloaded)
        assert error.retry_after == 0.25


def test_a_million_ranges_cost_no_more_than_they_are_long() -> None:
    table: dict[int, Batch] = {}

    def make(number: int) -> Message:
        return Get(number, "default", b"k", 1, 1000, b"", True)

    kept = 1 << 40
    for number in [*range(1, 4096), kept]:
        Batch(number, Call(make, lambda answer, _: None, 1.0)).enter(table, 0.0, 1.0)
    looked = 0

    class Counted(dict[int, Batch]):
        def pop(self, *arguments: Any) -> Any:
            nonlocal looked
            looked += 1
            return super().pop(*arguments)

    shed(Counted(table), Shed([0, 1 << 30] * 10_000, 1, 1), "n1:7400")
    assert looked == 4095


@pytest.mark.parametrize("flavour", FLAVOURS)
class TestShed:
    def test_it_is_overloaded_and_says_when_to_try_again(self, flavour: str) -> None:
        with fake(answer=lambda request: Shed([0, 1 << 63], 350, 7)) as node:

            async def body(store: Any) -> None:
                with pytest.raises(Overloaded, match=r"nothing was done. Try again in 0.35 s") as caught:
                    await store.set("k", "v")
                assert (caught.value.definite, caught.value.retry_after) == (True, 0.35)
                results = await store.set_many([(f"k{n}", "v") for n in range(300)])
                assert [type(result) for result in results] == [Overloaded] * 300

            run(flavour, node.endpoint, body)

    def test_a_refusal_of_one_request_may_say_so_too(self, flavour: str) -> None:
        with fake(answer=lambda request: Failed(request.id, 3, "too much", b"", ["1500"])) as node:

            async def body(store: Any) -> None:
                with pytest.raises(Overloaded, match=r"^too much$") as caught:
                    await store.get("k")
                assert caught.value.retry_after == 1.5

            run(flavour, node.endpoint, body)


class Callers:
    """Callers of one store, each of which waits for its answer in a thread or a task of its own."""

    def __init__(self, store: Any, start: Callable[..., Future[Any]]) -> None:
        self.store = store
        self._start = start

    def ask(self, call: str, *arguments: Any, **options: Any) -> Future[Any]:
        return self._start(getattr(self.store, call), *arguments, **options)

    def status(self) -> None:
        """What is never held back. What was asked before is sent by then, if it ever is."""
        self.ask("node_status").result(PATIENCE_S)


@contextmanager
def callers(flavour: str, endpoints: Any, **options: Any) -> Iterator[Callers]:
    if flavour == "sync":
        with basestore.sync.connect(endpoints, **options) as blocking, ThreadPoolExecutor(64) as threads:
            yield Callers(blocking, threads.submit)
        return
    with (
        start_blocking_portal(flavour) as portal,
        portal.wrap_async_context_manager(basestore.connect(endpoints, **options)) as store,
    ):

        def start(call: Callable[..., Any], *arguments: Any, **asked: Any) -> Future[Any]:
            return portal.start_task_soon(partial(call, *arguments, **asked))

        yield Callers(store, start)


class Desk:
    """Answers for a fake node: those to what an operator asks at once, to all else when it is told to."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def __call__(self, request: Any) -> Message | None:
        if isinstance(request, Status):
            return served(request)
        self.kept.append(request)
        return None


@contextmanager
def narrow(flavour: str, window: int) -> Iterator[tuple[FakeNode, Desk, Callers]]:
    """Callers that know that their node takes so many requests at once."""
    desk = Desk()
    with (
        fake(WELCOME._replace(timeout_ms_max=600_000), answer=desk) as node,
        callers(flavour, node.endpoint, timeout=PATIENCE_S) as asking,
    ):
        asking.status()
        node.say(Credit(window))
        asking.status()  # the answer comes behind the credit
        yield node, desk, asking


def waits(asking: Callers, count: int) -> None:
    """Until so many requests wait."""
    eventually(lambda: counts(asking.store)[3] == count, f"{count} requests wait: {counts(asking.store)}")


def comes(desk: Desk, count: int) -> None:
    """Until the node has heard so many."""
    eventually(lambda: len(desk.kept) == count, f"{count} requests come, not {len(desk.kept)}")


def at_rest(store: Any) -> None:
    eventually(lambda: not any(counts(store)), f"nothing is under way: {counts(store)}")


@pytest.mark.parametrize("flavour", FLAVOURS)
class TestWindow:
    def test_what_has_no_room_is_sent_when_there_is_some_and_in_order(self, flavour: str) -> None:
        with narrow(flavour, 2) as (node, desk, asking):
            asked = []
            for number in range(6):
                asked.append(asking.ask("get", f"{number}"))
                comes(desk, min(number + 1, 2))
                waits(asking, max(0, number - 1))
            asking.status()
            assert [request.key for request in desk.kept] == [b"0", b"1"]
            node.say(served(desk.kept[1]))
            comes(desk, 3)
            node.say(served(desk.kept[0]))
            comes(desk, 4)
            assert [request.key for request in desk.kept[2:]] == [b"2", b"3"]
            for number in (2, 3):
                node.say(served(desk.kept[number]))
            comes(desk, 6)
            for number in (4, 5):
                node.say(served(desk.kept[number]))
            assert not any(call.result(PATIENCE_S).found for call in asked)
            at_rest(asking.store)

    def test_there_is_room_within_a_tenth_of_the_timeout_or_nothing_is_sent(self, flavour: str) -> None:
        with narrow(flavour, 1) as (node, desk, asking):
            first = asking.ask("set", "a", "v")
            comes(desk, 1)
            began = monotonic()
            second = asking.ask("set", "b", "v", timeout=2.0)
            with pytest.raises(Overloaded, match=r"takes 1 requests at once.*nothing was sent"):
                second.result(PATIENCE_S)
            assert monotonic() - began >= 0.2
            node.say(served(desk.kept[0]))
            assert first.result(PATIENCE_S)
            asking.status()
            assert len(desk.kept) == 1
            at_rest(asking.store)

    def test_a_lot_larger_than_the_window_goes_as_one_frame(self, flavour: str) -> None:
        with narrow(flavour, 1) as (node, desk, asking):
            lot = asking.ask("set_many", [(f"{n}", "v") for n in range(300)])
            comes(desk, 256)
            asking.status()
            for request in desk.kept[:256]:
                node.say(served(request))
            comes(desk, 300)
            for request in desk.kept[256:]:
                node.say(served(request))
            assert all(lot.result(PATIENCE_S).raise_for_errors())
            at_rest(asking.store)

    def test_no_more_than_a_mebibyte_is_under_way_but_always_one_request(self, flavour: str) -> None:
        with narrow(flavour, 256) as (node, desk, asking):
            asking.ask("set", "a", b"v" * VALUE_BYTES_MAX, timeout=60)
            comes(desk, 1)
            behind = asking.ask("set", "b", b"v", timeout=60)
            waits(asking, 1)
            asking.status()
            assert len(desk.kept) == 1
            node.say(served(desk.kept[0]))
            comes(desk, 2)
            node.say(served(desk.kept[1]))
            assert behind.result(PATIENCE_S)
            at_rest(asking.store)

    def test_who_waits_asks_the_next_node_when_the_connection_ends(self, flavour: str) -> None:
        with narrow(flavour, 1) as (node, desk, asking):
            first = asking.ask("set", "a", "v")
            comes(desk, 1)
            others = [asking.ask("set", f"{n}", "v") for n in range(5)]
            waits(asking, 5)
            node.drop()
            with pytest.raises(ConnectionLost):
                first.result(PATIENCE_S)
            comes(desk, 6)  # it was told of no window yet
            for request in desk.kept[1:]:
                node.say(served(request))
            assert all(call.result(PATIENCE_S) for call in others)
            at_rest(asking.store)

    def test_a_refusal_halves_what_is_under_way(self, flavour: str) -> None:
        with narrow(flavour, 4) as (node, desk, asking):
            first = asking.ask("get", "a")
            comes(desk, 1)
            node.say(Shed([desk.kept[0].id, 1], 10, 4))
            with pytest.raises(Overloaded):
                first.result(PATIENCE_S)
            for number in range(2):
                asking.ask("get", f"{number}")
            comes(desk, 3)
            waiting = asking.ask("get", "c")
            waits(asking, 1)
            for request in desk.kept[1:]:
                node.say(served(request))
            comes(desk, 4)
            node.say(served(desk.kept[3]))
            assert not waiting.result(PATIENCE_S).found
            at_rest(asking.store)

    def test_more_than_may_wait_is_refused_at_once(self, flavour: str) -> None:
        with narrow(flavour, 1) as (node, desk, asking):
            lots = [asking.ask("set_many", [(f"{n}", "v") for n in range(256)]) for _ in range(16)]
            waits(asking, PENDING_MAX - 256)
            with pytest.raises(Overloaded, match="4096 requests are under way in this store"):
                asking.ask("get", "one too many").result(PATIENCE_S)
            node.say(Credit(PENDING_MAX))
            comes(desk, PENDING_MAX)
            node.drop()
            assert all(len(lot.result(PATIENCE_S)) == 256 for lot in lots)
            at_rest(asking.store)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("bulk", [False, True])
def test_what_is_not_urgent_says_so_on_the_envelope(flavour: str, bulk: bool) -> None:
    with fake(answer=served) as node, callers(flavour, node.endpoint, bulk=bulk) as asking:
        asking.ask("set", "k", "v").result(PATIENCE_S)
        asking.ask("get", "k").result(PATIENCE_S)
        asking.status()
        assert node.classes == ([BULK, BULK, ADMIN] if bulk else [WRITE, READ, ADMIN])


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_an_older_node_has_no_words_for_is_not_sent(flavour: str) -> None:
    older = WELCOME._replace(version=WIRE_LOWEST)
    with fake(older, answer=served) as node, callers(flavour, node.endpoint) as asking:
        with pytest.raises(InvalidRequest, match=r"`defer` needs 9; nothing was sent"):
            asking.ask("set", "k", "v", consistency="any", defer=True).result(PATIENCE_S)
        assert not asking.ask("exists", "k").result(PATIENCE_S)
        assert node.classes == [READ]
        at_rest(asking.store)


@pytest.mark.parametrize("flavour", ASYNC)
def test_who_is_cancelled_while_it_waits_holds_up_nobody(flavour: str) -> None:
    with narrow(flavour, 1) as (node, desk, asking):
        first, second = asking.ask("get", "a"), asking.ask("get", "b")
        comes(desk, 1)
        waits(asking, 1)
        second.cancel()
        third = asking.ask("get", "c")
        eventually(lambda: counts(asking.store)[4] == 2, "the second is gone")
        first.cancel()
        comes(desk, 2)
        node.say(served(desk.kept[1]))
        assert not third.result(PATIENCE_S).found
        assert desk.kept[1].key == b"c"
        at_rest(asking.store)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("seed", range(4))
def test_whatever_becomes_of_calls_nothing_stays_behind(flavour: str, seed: int) -> None:
    """Answers, refusals, silence, windows, cancelled callers and lost connections, in any order."""
    drawn = random.Random(seed)
    lock = threading.Lock()

    def answer(request: Any) -> Message | None:
        if isinstance(request, Status):
            return served(request)
        with lock:
            kind = drawn.random()
            if kind < 0.5:
                return served(request)
            if kind < 0.7:
                return Shed([request.id - drawn.randrange(9), drawn.randrange(20)], 5, drawn.randrange(40))
            if kind < 0.8:
                return Credit(drawn.randrange(12))
            return None

    with fake(WELCOME, answer=answer) as node, callers(flavour, node.endpoint, timeout=5) as asking:
        calls: list[Future[Any]] = []
        for round_ in range(12):
            for number in range(20):
                timeout = drawn.choice([0.05, 0.3])
                if drawn.random() < 0.2:
                    lot = [(f"{n}", "v") for n in range(drawn.randrange(1, 40))]
                    calls.append(asking.ask("set_many", lot, timeout=timeout))
                else:
                    calls.append(asking.ask("get", f"{number}", timeout=timeout))
                if drawn.random() < 0.1:
                    drawn.choice(calls).cancel()
            if round_ % 4 == 3:
                node.drop()
            asking.ask("node_status").exception(PATIENCE_S)  # it may have been lost with the connection
        for call in calls:
            if not call.cancelled():
                error = call.exception(PATIENCE_S)
                assert error is None or isinstance(error, BasestoreError), error
        at_rest(asking.store)
