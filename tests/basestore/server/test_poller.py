"""The poller's turns: for what can be read, for what was rung, and for the time that was asked for."""

import math
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import pytest
import trio

from basestore.server import poller as polling
from basestore.server.poller import ROUNDS_MAX, Poller
from tests.worlds.patience import PATIENCE_S

pytestmark = pytest.mark.trio

LONG_S = 2 * PATIENCE_S


class Watched:
    """A poller at work. `turns`: the moments of its turns."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.turns: list[float] = []
        self.next_s: list[float] = []  # what the next turns ask for
        self._turned = trio.Event()

    def turn(self) -> None:
        self.turns.append(time.monotonic())
        if self.next_s:
            self.poller.wake_at(self.next_s.pop(0))
        self._turned.set()
        self._turned = trio.Event()

    async def wait(self, count: int) -> None:
        with trio.fail_after(PATIENCE_S):
            while len(self.turns) < count:
                await self._turned.wait()


@asynccontextmanager
async def watching() -> AsyncIterator[Watched]:
    watched = Watched()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.poller.run, watched.turn)
        yield watched
        nursery.cancel_scope.cancel()
    watched.poller.close()


async def test_a_turn_comes_at_the_time_that_was_asked_for_and_not_before() -> None:
    async with watching() as watched:
        due_s = time.monotonic() + 0.02
        watched.poller.wake_at(due_s)
        await watched.wait(1)
        assert watched.turns[0] >= due_s


async def test_a_turn_may_ask_for_the_next_again_and_again() -> None:
    async with watching() as watched:
        now = time.monotonic()
        watched.next_s = [now + 0.002 * number for number in range(1, 6)]
        watched.poller.wake_at(now)
        await watched.wait(6)


async def test_a_time_that_has_passed_is_due_at_once() -> None:
    async with watching() as watched:
        watched.next_s = [time.monotonic() - LONG_S]
        watched.poller.ring()
        await watched.wait(2)


async def test_an_earlier_time_takes_the_place_of_a_later_one() -> None:
    async with watching() as watched:
        watched.poller.wake_at(time.monotonic() + LONG_S)
        watched.poller.wake_at(time.monotonic() + 0.001)
        await watched.wait(1)


async def test_a_later_time_takes_the_place_of_an_earlier_one() -> None:
    async with watching() as watched:
        watched.poller.wake_at(time.monotonic() + 0.001)
        later_s = time.monotonic() + 0.02
        watched.poller.wake_at(later_s)
        await watched.wait(1)
        assert watched.turns[0] >= later_s


async def test_what_is_rung_many_times_before_a_turn_is_one_turn() -> None:
    async with watching() as watched:
        for _ in range(100):
            watched.poller.ring()
        await watched.wait(1)
        due_s = time.monotonic() + 0.02
        watched.poller.wake_at(due_s)
        await watched.wait(2)
        assert watched.turns[1] >= due_s


async def test_what_can_be_read_is_read_while_a_time_is_awaited() -> None:
    async with watching() as watched:
        watched.poller.wake_at(time.monotonic() + LONG_S)
        ours, theirs = socket.socketpair()
        heard: list[bytes] = []

        def readable() -> bool:
            heard.append(ours.recv(10))
            return False

        with ours, theirs, watched.poller.registered(ours, readable):
            theirs.send(b"hello")
            await watched.wait(1)
        assert heard == [b"hello"]


async def test_who_is_left_to_the_next_turn_is_heard_in_it() -> None:
    poller, heard, busy = Poller(), [], [False]

    def readable(number: int) -> bool:
        """In each turn there is time for one of them."""
        if busy[0]:
            poller.put_off += 1
        else:
            busy[0] = True
            heard.append(number)
        return False

    def turn() -> None:
        busy[0] = False
        if len(heard) == 6:
            nursery.cancel_scope.cancel()

    with ExitStack() as stack, trio.fail_after(PATIENCE_S):
        for number in range(3):
            near, far = (stack.enter_context(each) for each in socket.socketpair())
            far.send(b"x")  # it stays there
            stack.enter_context(poller.registered(near, partial(readable, number)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run, turn)
    poller.close()
    assert sorted(heard[:3]) == [0, 1, 2]
    assert heard[3:] == heard[:3]


async def test_who_has_more_to_say_is_read_again_once_all_others_were_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(polling, "READ_S_MAX", math.inf)
    poller, heard = Poller(), list[int]()
    left = {0: 2, 1: 2 * ROUNDS_MAX, 2: 1}

    def readable(number: int) -> bool:
        left[number] -= 1
        heard.append(number)
        return left[number] > 0

    with ExitStack() as stack, trio.fail_after(PATIENCE_S):
        for number in left:
            near, far = (stack.enter_context(each) for each in socket.socketpair())
            far.send(b"x")
            stack.enter_context(poller.registered(near, partial(readable, number)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run, nursery.cancel_scope.cancel)
    poller.close()
    assert sorted(heard[:3]) == [0, 1, 2]
    assert sorted(heard[3:5]) == [0, 1]
    assert heard[5:] == [1] * (ROUNDS_MAX - 2)
