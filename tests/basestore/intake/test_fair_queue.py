"""Whose turn it is among tenants, and how long what waits may wait."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from basestore.intake.fair_queue import (
    BURST_S,
    DEBTS_MAX,
    STANDING_WAIT_S_MAX,
    WAIT_S_MAX,
    FairQueue,
    Waiting,
)
from basestore.protocol.envelopes import READ, Unsealed


def frame(asks: int = 1, timeout_ms: int = 5000) -> Unsealed:
    return Unsealed(0, asks, timeout_ms, READ, [], 0)


def put(queue: FairQueue, tenant: str, asks: int = 1, at_s: float = 0.0, timeout_ms: int = 5000) -> None:
    queue.put(tenant, Waiting(tenant, frame(asks, timeout_ms), at_s))


def taken(queue: FairQueue, count: int, barred: Any = ()) -> list[str]:
    """Whose frames come next."""
    found = (queue.take(lambda tenant: tenant not in barred) for _ in range(count))
    return [waiting.caller for waiting in found if waiting is not None]


def test_who_was_served_least_is_next_however_much_others_ask() -> None:
    queue = FairQueue()
    for _ in range(100):
        put(queue, "greedy", 4)
    put(queue, "polite", 4)
    assert "polite" in taken(queue, 2)


def test_requests_count_and_not_frames() -> None:
    queue = FairQueue()
    for _ in range(100):
        put(queue, "large", 10)
        put(queue, "small", 1)
    served = Counter(taken(queue, 55))
    assert 45 <= served["small"] <= 51
    assert 4 <= served["large"] <= 10


def test_what_a_tenant_was_served_beyond_its_turn_is_remembered_while_others_wait() -> None:
    queue = FairQueue()
    put(queue, "a", 100)
    for _ in range(20):
        put(queue, "b", 10)
    served = taken(queue, 1)
    for _ in range(10):  # whenever "a" has been served it asks for as much again
        if served[-1] == "a":
            put(queue, "a", 100)
        served += taken(queue, 1)
    assert served.count("a") <= 2


def test_whoever_is_barred_keeps_its_place() -> None:
    queue = FairQueue()
    put(queue, "barred")
    put(queue, "other")
    assert taken(queue, 1, barred={"barred"}) == ["other"]
    assert taken(queue, 1, barred={"barred"}) == []
    assert taken(queue, 1) == ["barred"]


def test_a_burst_may_wait_and_a_standing_queue_may_not() -> None:
    queue = FairQueue()
    put(queue, "t", at_s=0.0)
    put(queue, "t", at_s=0.05)
    assert not list(queue.overdue(WAIT_S_MAX - 0.001))
    late = list(queue.overdue(WAIT_S_MAX + 0.001))
    assert [waiting.read_s for waiting in late] == [0.0, 0.05]  # it has stood, so the second is late too
    put(queue, "t", at_s=1.0)  # it was empty: a burst again
    assert not list(queue.overdue(1.0 + BURST_S - 0.001))


def test_one_tenants_queue_is_not_held_against_another() -> None:
    queue = FairQueue()
    for number in range(10):
        put(queue, "greedy", at_s=number / 20)
    put(queue, "polite", at_s=0.45)
    late = list(queue.overdue(0.5))
    assert {waiting.caller for waiting in late} == {"greedy"}


def test_what_has_waited_half_of_its_time_is_lost() -> None:
    queue = FairQueue()
    put(queue, "t", timeout_ms=10)
    assert not list(queue.overdue(0.004))
    assert len(list(queue.overdue(0.006))) == 1


def test_who_is_gone_waits_no_more() -> None:
    queue = FairQueue()
    put(queue, "t", 3)
    put(queue, "u", 4)
    assert len(list(queue.drop("t", "t"))) == 1
    assert queue.asks == 4
    assert taken(queue, 2) == ["u"]
    assert not list(queue.drop("nobody", "nobody"))


def test_strangers_from_many_addresses_leave_nothing_behind() -> None:
    queue = FairQueue()
    for _ in range(2):
        put(queue, "steady", 1000)
    for number in range(2 * DEBTS_MAX):
        put(queue, f"stranger {number}")
        queue.take(lambda tenant: tenant != "steady")
    assert len(queue._debts) <= DEBTS_MAX  # private: the bound of what is remembered is what is tested


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 300), st.booleans()), max_size=60))
def test_everything_that_was_put_is_taken_once_or_refused(steps: list[tuple[str, int, bool]]) -> None:
    queue, left, now_s = FairQueue(), 0, 0.0
    for tenant, asks, takes in steps:
        now_s += 0.01
        put(queue, tenant, asks, now_s)
        left += asks
        if takes:
            waiting = queue.take(lambda _: True)
            left -= waiting.frame.asks if waiting else 0
        else:
            left -= sum(late.frame.asks for late in queue.overdue(now_s))
        assert queue.asks == left
    while (waiting := queue.take(lambda _: True)) is not None:
        left -= waiting.frame.asks
    assert left == queue.asks == 0
    assert not queue.others("nobody")


def test_a_tenant_that_never_ceases_is_refused_by_the_age_of_what_is_next() -> None:
    queue, refused = FairQueue(), 0
    for step in range(100):
        now_s = step * 0.01
        put(queue, "t", at_s=now_s)
        put(queue, "t", at_s=now_s)
        refused += len(list(queue.overdue(now_s)))
        queue.take(lambda _: True)
    waits = 99 * 0.01 - queue.take(lambda _: True).read_s  # type: ignore[union-attr]
    assert refused > 50
    assert waits <= STANDING_WAIT_S_MAX + 1e-9
