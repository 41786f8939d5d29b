"""Failure detector: how sure a peer's silence makes us that it is gone, and when it may count again. Pure.

After Hayashibara, Defago, Yared and Katayama, "The phi accrual failure detector" (SRDS 2004): keep
the latest gaps between heartbeats, and ask how likely a regular peer, going by their mean and
deviation, is to be silent for as long as now. phi is minus the decimal logarithm of that: at 8, one
such silence in a hundred million would be a false alarm if gaps were normally distributed. So a
link that is always late earns patience, and a steady one is found out early.

Where this goes its own way:

    rhythm   Only heartbeats are sampled, for only they have a rhythm. Any message ends a silence, but
             a thousand a second do not make a second without any look like death.
    floors   The mean is never taken to be less than the period, the deviation never less than a
             quarter of it: at phi 8 that forgives a heartbeat that is 1.4 periods late, whatever the history.
    outages  A gap weighs at most three means: one long outage does not dull the ear, while a link
             whose gaps grow raises the mean, and by it what the next gap may weigh.
    pauses   Of this node itself: while it did not run, nobody was silent (`excuse`).

`Probation` keeps a peer that comes and goes from being counted, and lost again, every time. Neither sends or
reads a clock; what else a peer needs to count is `peers.py`'s affair.
"""

import math
from collections import deque

THRESHOLD = 8.0
WINDOW = 100
DEVIATION_PERIODS_MIN = 0.25
EXCUSES_MAX = 3
GAP_MEANS_MAX = 3
CALM_S = 60.0
WAIT_S_MIN = 0.5
WAIT_S_MAX = 8.0
LOSSES_MAX = 6  # more do not lengthen the wait


class FailureDetector:
    """One peer's heartbeats. Time never goes back; gaps are kept in whole microseconds, so that the
    running sums stay exact."""

    __slots__ = (
        "_beat_s",
        "_excuses",
        "_gaps_us",
        "_period_us",
        "_silence_s_max",
        "_squares",
        "_sum_us",
        "heard_s",
    )

    def __init__(self, period_s: float, silence_s_max: float) -> None:
        """A peer that should beat every `period_s`: its gaps are taken to have been that, but it is gone
        until something of it is heard. A silence longer than `silence_s_max` is death whatever has been."""
        self._period_us = round(period_s * 1e6)
        self._silence_s_max = silence_s_max
        self._gaps_us = deque([self._period_us] * WINDOW)
        self._sum_us = self._period_us * WINDOW
        self._squares = self._period_us**2 * WINDOW
        self._beat_s: float | None = None
        self.heard_s = -math.inf
        self._excuses = 0

    def restart(self, now_s: float) -> None:
        """A new link: silence begins here, and no gap spans two links."""
        self.hear(now_s)
        self._beat_s = None

    def hear(self, now_s: float) -> None:
        """Something of the peer has come."""
        self.heard_s = now_s
        self._excuses = 0

    def beat(self, now_s: float) -> None:
        """A heartbeat has come."""
        self.hear(now_s)
        if self._beat_s is not None:
            self._sample(round((now_s - self._beat_s) * 1e6))
        self._beat_s = now_s

    def _sample(self, gap_us: int) -> None:
        # Bounded by the mean before this gap: else a long outage would excuse itself.
        gap_us = min(gap_us, GAP_MEANS_MAX * max(self._sum_us // WINDOW, self._period_us))
        oldest_us = self._gaps_us.popleft()
        self._gaps_us.append(gap_us)
        self._sum_us += gap_us - oldest_us
        self._squares += gap_us**2 - oldest_us**2

    def excuse(self, seconds: float, now_s: float) -> None:
        """This node did not run for so long, until now: nobody was silent meanwhile. But a peer of which
        nothing came pause after pause is silent."""
        self._excuses += 1
        if self._excuses > EXCUSES_MAX:
            return
        # Moved on, not set to now: what the peer had been silent for before the pause still counts.
        self.heard_s = min(now_s, self.heard_s + seconds)
        if self._beat_s is not None:
            self._beat_s = min(now_s, self._beat_s + seconds)

    def phi(self, now_s: float) -> float:
        """How sure it is that the peer is gone: 0 and more, infinite when there is no doubt left. It
        never falls while the peer is silent."""
        silence_s = now_s - self.heard_s
        if silence_s > self._silence_s_max:
            return math.inf
        # Of whole numbers, so the difference never comes out below 0, as it might with floats.
        variance = (self._squares * WINDOW - self._sum_us**2) / WINDOW**2
        deviation_us = max(math.sqrt(variance), DEVIATION_PERIODS_MIN * self._period_us)
        mean_us = max(self._sum_us / WINDOW, self._period_us)
        likely = math.erfc((silence_s * 1e6 - mean_us) / deviation_us / math.sqrt(2)) / 2
        return -math.log10(likely) if likely > 0 else math.inf


class Probation:
    """Whether a peer that can be reached has to wait until it counts again. After the first loss it
    does not; after more of them it must have been reached without a break for half a second, then
    for one, two, ... eight. After a minute without trouble its losses are forgotten."""

    __slots__ = ("_losses", "_reached", "_since_s", "_troubled_s")

    def __init__(self) -> None:
        self._losses = 0
        self._reached = False
        self._since_s = -math.inf
        self._troubled_s = -math.inf

    def note(self, *, reached: bool, counted: bool, now_s: float) -> None:
        """Whether the peer can be reached now; `counted`: whether it has counted so far, so that its
        end is a loss. To go without having counted costs nobody anything, but it is no calm either."""
        if reached == self._reached:
            return
        self._reached = reached
        if now_s - self._troubled_s >= CALM_S:
            self._losses = 0
        if reached:
            self._since_s = now_s
        else:
            self._troubled_s = now_s
            self._losses = min(self._losses + counted, LOSSES_MAX)

    @property
    def wait_s(self) -> float:
        """For how long it must have been reached."""
        return min(WAIT_S_MIN * 2.0 ** (self._losses - 2), WAIT_S_MAX) if self._losses > 1 else 0.0

    def over(self, now_s: float) -> bool:
        """Whether it has waited long enough."""
        return now_s - self._since_s >= self.wait_s
