"""The detector: laws of phi, a slow twin, what several rhythms cost, and who has to wait."""

import math
import random
import statistics
from collections.abc import Callable, Iterator
from itertools import accumulate, islice, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.cluster.failure_detector import (
    CALM_S,
    DEVIATION_PERIODS_MIN,
    GAP_MEANS_MAX,
    THRESHOLD,
    WAIT_S_MAX,
    WINDOW,
    FailureDetector,
    Probation,
)
from basestore.cluster.peer import PING_S, SILENCE_S_MAX

TICK_S = 0.05
gaps = st.lists(st.floats(0, 10), max_size=3 * WINDOW)


def fed(gaps_s: list[float], scale: int = 1) -> tuple[FailureDetector, float]:
    """A detector that has heard heartbeats with these gaps, and the time of the last one."""
    detector = FailureDetector(PING_S * scale, SILENCE_S_MAX * scale)
    now_s = 100.0 * scale
    detector.restart(now_s)
    detector.beat(now_s)
    for gap_s in gaps_s:
        now_s += gap_s * scale
        detector.beat(now_s)
    return detector, now_s


def tolerated_s(detector: FailureDetector, now_s: float) -> float:
    """The silence from `now_s` on after which the peer counts as gone, to a tick."""
    ticks = (now_s + TICK_S * number for number in range(1000))
    return next(tick_s for tick_s in ticks if detector.phi(tick_s) >= THRESHOLD) - now_s


class TestLaws:
    @given(gaps, st.lists(st.floats(0, 1), max_size=30))
    def test_phi_never_falls_while_the_peer_is_silent(self, gaps_s: list[float], steps: list[float]) -> None:
        detector, now_s = fed(gaps_s)
        phis = [detector.phi(time_s) for time_s in accumulate([now_s, *steps])]
        assert phis == sorted(phis)
        assert phis[0] >= 0

    @given(gaps)
    def test_phi_is_certain_after_the_longest_silence_and_doubtful_after_the_shortest(
        self, gaps_s: list[float]
    ) -> None:
        detector, now_s = fed(gaps_s)
        assert detector.phi(now_s + SILENCE_S_MAX + 0.001) == math.inf
        assert detector.phi(now_s + 2.4 * PING_S) < THRESHOLD

    # Not up to the longest silence itself: on which side of that a sum of floats falls is chance.
    @given(st.lists(st.integers(0, 10_000), max_size=150), st.integers(0, 3999), st.integers(2, 60))
    def test_phi_does_not_depend_on_the_unit_of_time(
        self, gaps_ms: list[int], silence_ms: int, scale: int
    ) -> None:
        gaps_s, silence_s = [ms / 1000 for ms in gaps_ms], silence_ms / 1000
        one, one_s = fed(gaps_s)
        other, other_s = fed(gaps_s, scale)
        phi = other.phi(other_s + silence_s * scale)
        assert one.phi(one_s + silence_s) == pytest.approx(phi, rel=1e-2, abs=1e-3)

    @given(gaps, st.floats(0, SILENCE_S_MAX - 0.01))
    def test_running_sums_say_what_the_window_says(self, gaps_s: list[float], silence_s: float) -> None:
        detector, now_s = fed(gaps_s)
        window = [PING_S] * WINDOW
        for gap_s in gaps_s:
            mean_s = max(sum(window[-WINDOW:]) / WINDOW, PING_S)
            window.append(min(gap_s, GAP_MEANS_MAX * mean_s))
        latest = window[-WINDOW:]
        mean_s = max(statistics.fmean(latest), PING_S)
        deviation_s = max(statistics.pstdev(latest), PING_S * DEVIATION_PERIODS_MIN)
        likely = 1 - statistics.NormalDist(mean_s, deviation_s).cdf(silence_s)
        expected = -math.log10(likely) if likely > 1e-9 else None
        if expected is not None:  # beyond, the twin's subtraction has no digits left
            assert detector.phi(now_s + silence_s) == pytest.approx(expected, rel=1e-3, abs=1e-3)

    @given(gaps, st.lists(st.integers(0, 1000), min_size=WINDOW, max_size=WINDOW))
    def test_what_is_older_than_the_window_is_forgotten(self, before: list[float], latest: list[int]) -> None:
        """Gaps are whole milliseconds here, and short enough to be taken as they are."""
        one, one_s = fed([*before, *(ms / 1000 for ms in latest)])
        other, other_s = fed([ms / 1000 for ms in latest])
        for silence_s in (0.3, 0.9, 1.5):
            assert one.phi(one_s + silence_s) == pytest.approx(other.phi(other_s + silence_s), rel=1e-3)

    def test_any_message_ends_a_silence_and_only_heartbeats_make_a_rhythm(self) -> None:
        detector, now_s = fed([PING_S] * WINDOW)
        before_s = tolerated_s(detector, now_s)
        for _ in range(10_000):
            now_s += 0.001
            detector.heard_s = now_s
        assert tolerated_s(detector, now_s) == pytest.approx(before_s)

    def test_what_passes_while_this_node_rests_is_nobodys_silence(self) -> None:
        detector, now_s = fed([PING_S] * 5)
        detector.excuse(30.0, now_s + 30.2)
        assert detector.phi(now_s + 30.2) < 1
        detector.beat(now_s + 30.4)
        assert tolerated_s(detector, now_s + 30.4) < 1.3

    def test_an_excuse_does_not_reach_into_the_future(self) -> None:
        detector, now_s = fed([PING_S] * 5)
        detector.heard_s = now_s + 30.1  # heard before the first tick after the rest
        detector.excuse(30.0, now_s + 30.2)
        assert tolerated_s(detector, now_s + 30.2) < 1.3

    def test_no_gap_spans_two_links(self) -> None:
        detector, now_s = fed([PING_S] * 5)
        detector.restart(now_s + 1000)
        detector.beat(now_s + 1000.1)
        assert tolerated_s(detector, now_s + 1000.1) < 1.3


def regular(chance: random.Random) -> Iterator[float]:
    return repeat(0.0)


def jittered(chance: random.Random) -> Iterator[float]:
    return (abs(chance.gauss(0, 0.1)) for _ in repeat(0))


def bursty(chance: random.Random) -> Iterator[float]:
    """Every tenth heartbeat is held up until shortly before the next."""
    return (0.45 if number % 10 == 0 else 0.0 for number, _ in enumerate(repeat(0)))


def paused(chance: random.Random) -> Iterator[float]:
    """It rests for 300 ms every three seconds or so."""
    return (0.3 if chance.random() < PING_S / 3 else 0.0 for _ in repeat(0))


def lossy(chance: random.Random) -> Iterator[float]:
    """One in ten is lost, and sent again after 200 ms, 400 ms, ..., as TCP does."""
    return (0.2 * (2 ** int(-math.log10(1 - chance.random())) - 1) for _ in repeat(0))


def far(chance: random.Random) -> Iterator[float]:
    """A slow and crowded way: half a second, often more."""
    return (0.5 + chance.expovariate(1 / 0.4) for _ in repeat(0))


Delays = Callable[[random.Random], Iterator[float]]


@pytest.mark.parametrize(
    ("delays", "tolerated_s_max", "false_alarms_max"),
    [
        (regular, 1.25, 0),
        (jittered, 1.25, 0),
        (bursty, 1.7, 0),
        (paused, 1.5, 0),
        (lossy, 1.3, 10),
        (far, 3.0, 20),
    ],
)
def test_rhythms_and_what_they_cost(delays: Delays, tolerated_s_max: float, false_alarms_max: int) -> None:
    """An hour of heartbeats, 7200 of them, and nothing else: how often a living peer is taken for
    dead, and how long a dead one for alive, in the median."""
    chance = random.Random(7)
    detector = FailureDetector(PING_S, SILENCE_S_MAX)
    arrivals, latest_s = [], 0.0
    for number, delay_s in enumerate(islice(delays(chance), int(3600 / PING_S))):
        latest_s = max(latest_s, number * PING_S + delay_s)  # links keep order
        arrivals.append(latest_s)
    detector.restart(0.0)
    false_alarms, tolerated = 0, []
    for number, arrival_s in enumerate(arrivals):
        false_alarms += detector.phi(arrival_s) >= THRESHOLD
        detector.beat(arrival_s)
        if number % 100 == 99:
            tolerated.append(tolerated_s(detector, arrival_s))
    assert statistics.median(tolerated) <= tolerated_s_max
    assert false_alarms <= false_alarms_max


def test_one_long_outage_does_not_dull_the_ear() -> None:
    detector, now_s = fed([PING_S] * WINDOW + [60.0])
    assert tolerated_s(detector, now_s) < 1.3


def test_a_peer_that_becomes_slow_is_taken_for_dead_a_few_times_and_then_known() -> None:
    detector, now_s = fed([PING_S] * WINDOW)
    false_alarms = []
    for _ in range(WINDOW):
        now_s += 2.0
        false_alarms.append(detector.phi(now_s) >= THRESHOLD)
        detector.beat(now_s)
    assert sum(false_alarms) <= 10
    assert not any(false_alarms[10:])


class TestProbation:
    def flap(self, probation: Probation, times: int, now_s: float, *, up_s: float = 0.3) -> list[float]:
        """Lost and found again; how long it had to wait each time."""
        waits = []
        for _ in range(times):
            probation.note(reached=False, counted=True, now_s=now_s)
            probation.note(reached=True, counted=False, now_s=now_s)
            waits.append(probation.wait_s)
            now_s += waits[-1] + up_s
        return waits

    def joined(self) -> Probation:
        probation = Probation()
        probation.note(reached=True, counted=False, now_s=0.0)
        return probation

    def test_the_first_return_is_at_once_and_later_ones_wait_longer_and_longer(self) -> None:
        probation = self.joined()
        assert probation.over(0.0)
        assert self.flap(probation, 9, 10.0) == [0, 0.5, 1, 2, 4, 8, 8, 8, 8]

    def test_it_must_be_reached_without_a_break(self) -> None:
        probation = self.joined()
        self.flap(probation, 2, 10.0)
        probation.note(reached=True, counted=False, now_s=20.0)
        probation.note(reached=False, counted=False, now_s=20.3)
        probation.note(reached=True, counted=False, now_s=20.4)
        assert not probation.over(20.8)
        assert probation.over(20.9)
        assert probation.wait_s == 0.5  # to come and go without having counted makes it no longer

    def test_a_calm_minute_wipes_the_slate(self) -> None:
        for calm_s, wait_s in ((CALM_S - 10, WAIT_S_MAX), (CALM_S + 1, 0.0)):
            probation = self.joined()
            self.flap(probation, 8, 10.0, up_s=0.0)
            assert self.flap(probation, 1, 10.0 + 31.5 + calm_s) == [wait_s]

    def test_who_comes_and_goes_without_counting_has_no_calm_minute(self) -> None:
        probation = self.joined()
        self.flap(probation, 8, 10.0)
        for number in range(1000):
            now_s = 50.0 + number * 0.3
            probation.note(reached=number % 2 == 0, counted=False, now_s=now_s)
            assert probation.wait_s == WAIT_S_MAX


def test_a_node_that_always_ticks_late_still_finds_a_silent_peer() -> None:
    detector = FailureDetector(0.5, 4.0)
    detector.hear(100.0)
    now = 100.0
    while detector.phi(now) < THRESHOLD:
        now += 0.6
        detector.excuse(0.6, now)
        assert now < 110.0
