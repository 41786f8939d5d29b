"""Instant: a moment, as the state machine is told of it. Nobody below `server` reads a clock.

Two clocks, because they answer different questions: the wall clock is for stamps and may be set, even back;
the monotonic one is for whatever lasts or is due.
"""

from typing import NamedTuple


class Instant(NamedTuple):
    """A moment, as an argument: `wall_ms` since 1970 for stamps, `monotonic` seconds for deadlines."""

    wall_ms: int
    monotonic: float
