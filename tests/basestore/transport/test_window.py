"""How many requests a connection has under way: the laws of the window, over all that may happen to it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from basestore.protocol.limits import WINDOW_FIRST
from basestore.transport.window import (
    BYTES_MAX,
    HALVING_S,
    WINDOW_MAX,
    Waiting,
    Window,
)


class Bell:
    """Counts how often it was rung."""

    def __init__(self) -> None:
        self.rung = 0

    def set(self) -> None:
        self.rung += 1


class Connection(RuleBasedStateMachine):
    """A window and the table of its owner. `sent`: requests and bytes of what is under way; `waiting`: who
    waits, in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window()
        self.sent: list[tuple[int, int]] = []
        self.waiting: list[Waiting] = []
        self.said = WINDOW_FIRST
        self.now_s = 0.0

    @property
    def under_way(self) -> int:
        return sum(asks for asks, _ in self.sent)

    def step(self) -> None:
        """Who was let in enters, in order."""
        self.window.let_in(self.under_way)
        for waiting in list(self.waiting):
            if waiting.let_in:
                assert waiting is self.waiting[0]
                self.waiting.remove(waiting)
                self.window.enter(waiting)
                self.sent.append((waiting.asks, waiting.size))

    @rule(asks=st.integers(1, 256), size=st.integers(0, BYTES_MAX + 9))
    def ask(self, asks: int, size: int) -> None:
        room = not self.waiting and self.under_way < self.window.limit
        room = room and (not self.window.size or self.window.size + size <= BYTES_MAX)
        assert self.window.takes(self.under_way, size) == room
        if room:
            self.window.size += size
            self.sent.append((asks, size))
        else:
            self.waiting.append(self.window.join(asks, size, Bell()))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        asks, size = self.sent.pop(data.draw(st.integers(0, len(self.sent) - 1)))
        self.window.size -= size
        self.window.answered(asks)
        self.step()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        waiting = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        self.window.part(waiting)
        self.window.part(waiting)  # twice is as good as once
        self.step()

    @rule(passed_s=st.sampled_from([0.0, HALVING_S / 2, HALVING_S]))
    def refuse(self, passed_s: float) -> None:
        self.now_s += passed_s
        self.window.refused(self.now_s)

    @rule(window=st.integers(-1, 2 * WINDOW_MAX))
    def tell(self, window: int) -> None:
        self.said = max(1, min(window, WINDOW_MAX))
        self.window.told(window)
        self.step()

    @rule()
    def end_of_it(self) -> None:
        """The connection ends: whoever waits is rung, and counts no more."""
        bells = [waiting.bell for waiting in self.waiting]
        self.window.turn_away()
        assert all(isinstance(bell, Bell) and bell.rung == 1 for bell in bells)
        self.waiting.clear()

    @invariant()
    def counts_are_right(self) -> None:
        assert 1 <= self.window.limit <= self.said
        assert self.window.granted == 0
        assert self.window.size == sum(size for _, size in self.sent)
        assert self.window.held == sum(waiting.asks for waiting in self.waiting)
        assert list(self.window.line) == self.waiting

    @invariant()
    def nobody_waits_where_there_is_nothing_to_wait_for(self) -> None:
        assert self.sent or not self.waiting

    def teardown(self) -> None:
        while self.sent:
            self.window.size -= self.sent.pop()[1]
            self.step()
        assert not self.waiting
        assert (self.window.size, self.window.granted, self.window.held) == (0, 0, 0)


TestConnection = Connection.TestCase
TestConnection.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(st.floats(0.0, 0.2), max_size=50))
def test_it_halves_once_in_a_hundred_milliseconds(pauses: list[float]) -> None:
    window, now_s, halved_s = Window(), 1.0, -1.0
    window.told(WINDOW_MAX)
    for pause in pauses:
        now_s += pause
        before = window.limit
        window.refused(now_s)
        halves = now_s - halved_s >= HALVING_S
        assert window.limit == (max(1, before // 2) if halves else before)
        halved_s = now_s if halves else halved_s


@pytest.mark.parametrize("told", [1, 2, 100, 1000])
def test_it_grows_by_one_a_window_until_the_nodes_word_is_all_that_holds(told: int) -> None:
    window = Window()
    window.told(told)
    window.refused(1.0)
    assert window.limit == max(1, told // 2)
    rounds = 0
    while window.limit < told:
        rounds += 1
        before = window.limit
        for _ in range(before):
            window.answered(1)
        assert before <= window.limit <= before + 1
    assert told // 2 - 1 <= rounds <= told
    window.told(2 * told)  # nothing of its own is left
    assert window.limit == 2 * told


def test_a_lot_that_is_larger_than_the_window_enters_whole() -> None:
    window = Window()
    window.told(3)
    assert window.takes(2, 10)
    assert not window.takes(3, 10)
    lot = window.join(256, 10, Bell())
    window.let_in(2)
    assert lot.let_in
    assert window.granted == 256


def test_what_was_let_in_counts_before_it_has_entered() -> None:
    window = Window()
    window.told(1)
    first, second = window.join(1, 0, Bell()), window.join(1, 0, Bell())
    window.let_in(0)
    window.let_in(0)
    assert (first.let_in, second.let_in) == (True, False)
    window.part(first)
    window.let_in(0)
    assert second.let_in


def test_nobody_comes_in_ahead_of_who_was_let_in() -> None:
    window = Window()
    window.told(1)
    first = window.join(1, 0, Bell())
    window.let_in(0)
    assert first.let_in
    assert not window.takes(0, 0)
    window.part(first)
    assert window.takes(0, 0)
