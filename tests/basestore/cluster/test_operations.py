"""Operations: answers find whose they are; what is asked once ends once."""

import math
from typing import Any

import pytest

from basestore.cluster.operations import (
    ANSWERS,
    NO_ANSWER,
    OPERATIONS_MAX,
    SLOTS_PER_S,
    Once,
    Operation,
    Operations,
)
from basestore.instant import Instant
from basestore.protocol.replication import Held, Rejected, Superseded

NOW = Instant(1_760_000_000_000, 100.0)


class Asking(Operation):
    """Notes what it hears, and ends when room is needed."""

    def __init__(self, operations: Operations) -> None:
        super().__init__(10)
        self.operations = operations
        self.heard: list[tuple[int, Any]] = []

    def held(self, member: int, answer: Held, now: Instant) -> None:
        self.heard.append((member, answer))

    def applied(self, member: int, answer: int, now: Instant) -> None:
        self.heard.append((member, answer))

    def relieve(self, now: Instant) -> None:
        self.operations.drop(self)


def test_an_answer_goes_to_whoever_has_asked_and_to_nobody_else() -> None:
    operations = Operations(7)
    first, second = Asking(operations), Asking(operations)
    operations.issue(first)
    answer = Held(operations.issue(second), b"", 0)
    operations.answer(2, answer, NOW)
    assert (first.heard, second.heard) == ([], [(2, answer)])
    operations.drop(second)
    operations.answer(2, answer, NOW)
    assert second.heard == [(2, answer)]


def test_acknowledgements_of_many_operations_come_in_one_message() -> None:
    operations = Operations(7)
    first, second = Asking(operations), Asking(operations)
    ids = [operations.issue(first), operations.issue(second), operations.issue(first)]
    operations.applied(1, [*ids, 99], NOW)
    assert first.heard == [(1, ids[0]), (1, ids[2])]
    assert second.heard == [(1, ids[1])]


@pytest.mark.parametrize("name", sorted(ANSWERS.values()))
def test_an_answer_that_is_not_expected_does_nothing(name: str) -> None:
    assert getattr(Operation(0), name)(1, None, NOW) is None


class TestOnce:
    def setup_method(self) -> None:
        self.operations = Operations(7)
        self.ends: list[Any] = []
        self.once = Once(self.operations, 10, 2, lambda answer, now: self.ends.append(answer))
        self.id = self.operations.issue(self.once)

    def test_the_first_answer_ends_it(self) -> None:
        answer = Superseded(self.id, b"head")
        self.operations.answer(2, answer, NOW)
        self.operations.answer(2, Held(self.id, b"", 0), NOW)
        self.operations.lost(2, NOW)
        assert self.ends == [answer]
        assert (self.operations.count, self.operations.bytes) == (0, 0)

    def test_the_loss_of_its_member_ends_it_and_that_of_another_does_not(self) -> None:
        self.operations.lost(1, NOW)
        assert self.ends == []
        self.operations.lost(2, NOW)
        assert self.ends == [None]

    def test_silence_is_a_refusal(self) -> None:
        self.operations.alarm_at(self.id, NOW.monotonic + 1)
        assert not self.operations.tick(NOW)
        assert self.operations.tick(NOW._replace(monotonic=NOW.monotonic + 2))
        assert self.ends == [Rejected(self.id, NO_ANSWER, True)]


def test_from_half_of_what_is_allowed_on_those_that_linger_make_room() -> None:
    operations = Operations(7)
    askings = [Asking(operations) for _ in range(OPERATIONS_MAX)]
    for asking in askings:
        operations.issue(asking)
    assert not operations.idle
    assert not operations.has_room(1, NOW)
    operations.linger(askings[3])
    assert operations.has_room(1, NOW)
    assert operations.count == OPERATIONS_MAX - 1


class Repeating(Operation):
    """Asks for a second alarm when the first one sounds, at a time that may have passed by then."""

    def __init__(self, operations: Operations, second_s: float) -> None:
        super().__init__(0)
        self.operations = operations
        self.second_s = second_s
        self.sounded = 0

    def alarm(self, now: Instant) -> None:
        self.sounded += 1
        if self.sounded == 1:
            self.operations.alarm_at(self.ids[0], self.second_s)


@pytest.mark.parametrize("others", [0, 2, 1000])
def test_an_alarm_asked_for_at_a_past_time_by_a_late_one_sounds_with_the_next_tick(others: int) -> None:
    operations = Operations(7)
    operations.tick(NOW)
    for far in range(others):
        operations.alarm_at(operations.issue(Asking(operations)), NOW.monotonic + 100 + far)
    repeating = Repeating(operations, NOW.monotonic + 0.5)
    operations.alarm_at(operations.issue(repeating), NOW.monotonic + 0.1)
    operations.tick(NOW._replace(monotonic=NOW.monotonic + 1))
    operations.tick(NOW._replace(monotonic=NOW.monotonic + 1.01))
    assert repeating.sounded == 2


def test_nobody_wakes_for_the_alarm_of_what_has_ended() -> None:
    operations = Operations(7)
    ending, staying = Asking(operations), Asking(operations)
    soon_s, late_s = NOW.monotonic + 0.1, NOW.monotonic + 5
    operations.alarm_at(operations.issue(staying), late_s)
    operations.alarm_at(operations.issue(ending), soon_s)
    assert soon_s <= operations.alarm_due_s <= soon_s + 2 / SLOTS_PER_S
    operations.drop(ending)
    assert late_s <= operations.alarm_due_s <= late_s + 2 / SLOTS_PER_S
    operations.drop(staying)
    assert operations.alarm_due_s == math.inf


def test_an_alarm_that_shares_its_time_with_one_that_has_ended_is_due_all_the_same() -> None:
    operations = Operations(7)
    staying = Repeating(operations, NOW.monotonic + 9)
    before, behind = Asking(operations), Asking(operations)
    at_s = NOW.monotonic + 0.1
    for each in (before, staying, behind):
        operations.alarm_at(operations.issue(each), at_s)
    operations.drop(before)
    operations.drop(behind)
    assert operations.alarm_due_s <= at_s + 2 / SLOTS_PER_S
    assert operations.tick(NOW._replace(monotonic=operations.alarm_due_s))
    assert staying.sounded == 1
