"""Instant: a moment, as the state machine is told of it. Nobody below `server` reads a clock."""

from typing import NamedTuple


class Instant(NamedTuple):
    """A moment, as an argument: `wall_ms` since 1970 for stamps, `monotonic` seconds for deadlines."""

    wall_ms: int
    monotonic: float
