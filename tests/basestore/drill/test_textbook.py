"""Textbook: what two-phase and three-phase commit do where nobody stops, and what each site makes of what it
is told."""

import pytest

from basestore.drill.clockwork import Chance, Clockwork
from basestore.drill.textbook import AFTER, BEFORE, Protocol, State

SEEDS = range(300)


def protocol(phases: int, seed: int = 1) -> Protocol:
    return Protocol(phases, Clockwork(), Chance(seed, "textbook"))


def voted(phases: int, seed: int) -> Protocol:
    """Both sites have, just now."""
    each = protocol(phases, seed)
    each.coordinator.begin()
    assert each.clockwork.run(lambda: all(site.state is State.VOTED for site in each.sites), 1.0)
    return each


@pytest.mark.parametrize("phases", [2, 3])
def test_it_commits_where_nobody_stops(phases: int) -> None:
    each = protocol(phases)
    each.coordinator.begin()
    each.rest(0.1)
    assert [site.state for site in each.sites] == [State.COMMITTED] * 2
    assert [site.value for site in each.sites] == [AFTER] * 2
    each.rest(10.0)
    assert [site.asked for site in each.sites] == [0, 0]


@pytest.mark.parametrize("phases", [2, 3])
def test_who_is_locked_answers_once_it_is_over(phases: int) -> None:
    each = protocol(phases)
    site = each.sites[0]
    site.read()
    assert [value for _, _, value in site.answered] == [BEFORE]
    each.coordinator.begin()
    each.clockwork.run(lambda: site.state is State.VOTED, 1.0)
    site.read()
    assert len(site.waiting) == 1
    each.rest(0.1)
    assert not site.waiting
    assert [value for _, _, value in site.answered] == [BEFORE, AFTER]


@pytest.mark.parametrize("phases", [2, 3])
def test_who_asks_is_told_of_the_end_by_who_knows(phases: int) -> None:
    each = protocol(phases)
    n2, n3 = each.sites
    each.coordinator.begin()
    each.clockwork.run(lambda: n2.state is n3.state is not State.WORKING, 1.0)
    each.clockwork.run(lambda: each.coordinator.decided is not None, 1.0)
    each.coordinator.stopped = True
    each.part(n3.name)  # what is on its way comes; what is said from now on does not
    each.rest(0.5)
    each.heal()
    each.rest(5.0)
    assert n2.state is n3.state is State.COMMITTED


@pytest.mark.parametrize(
    ("states", "two", "three"),
    [
        ({State.VOTED}, None, State.ABORTED),
        ({State.VOTED, State.WORKING}, State.ABORTED, State.ABORTED),
        ({State.PREPARED, State.VOTED}, None, State.COMMITTED),
        ({State.VOTED, State.ABORTED}, State.ABORTED, State.ABORTED),
        ({State.PREPARED, State.COMMITTED}, State.COMMITTED, State.COMMITTED),
    ],
)
def test_what_follows_from_what_is_known(states: set[State], two: State | None, three: State | None) -> None:
    assert protocol(2).end_of(states) is two
    assert protocol(3).end_of(states) is three


def test_a_coordinator_that_had_decided_says_so_when_it_is_back() -> None:
    each = protocol(2)
    each.coordinator.begin()
    each.clockwork.run(lambda: each.coordinator.decided is not None, 1.0)
    each.coordinator.stopped = True
    each.coordinator.recover()
    each.rest(0.1)
    assert each.coordinator.decided is State.COMMITTED
    assert {site.value for site in each.sites} == {AFTER}


def test_three_phase_commits_when_one_is_not_ready_in_time() -> None:
    """It takes it for stopped."""
    each = protocol(3)
    n2, n3 = each.sites
    each.coordinator.begin()
    each.clockwork.run(lambda: n2.state is n3.state is State.VOTED, 1.0)
    each.part(n3.name)
    each.rest(1.5)
    assert each.coordinator.decided is State.COMMITTED
    assert n2.state is State.COMMITTED


def test_two_phase_waits_whatever_the_delays_and_three_phase_does_not() -> None:
    """The coordinator stops behind the votes."""
    ends = {2: set[State](), 3: set[State]()}
    for seed in SEEDS:
        for phases, found in ends.items():
            each = voted(phases, seed)
            each.coordinator.stopped = True
            each.rest(20.0)
            found |= {site.state for site in each.sites}
    assert ends == {2: {State.VOTED}, 3: {State.ABORTED}}


def test_three_phase_splits_whatever_the_delays_and_two_phase_does_not() -> None:
    """The network parts behind the votes, and heals."""
    ends = {2: set[tuple[State, ...]](), 3: set[tuple[State, ...]]()}
    for seed in SEEDS:
        for phases, found in ends.items():
            each = voted(phases, seed)
            each.part("n3")
            each.rest(20.0)
            each.heal()
            each.rest(20.0)
            found.add(tuple(site.state for site in each.sites))
    both = (State.COMMITTED, State.COMMITTED)
    assert ends == {2: {both}, 3: {(State.COMMITTED, State.ABORTED)}}
