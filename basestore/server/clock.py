"""Clock: this machine's clocks, as the Instant that a node is told. A node's other parts ask no clock.

The wall clock may be set, even back: it is for stamps alone, and the node watches it. Whatever lasts or is
due is measured by the monotonic clock, the same that Trio's timers use.
"""

import time

from basestore.instant import Instant


def instant() -> Instant:
    """Now."""
    return Instant(time.time_ns() // 1_000_000, time.monotonic())
