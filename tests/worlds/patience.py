"""Patience: how long a test waits for another process before it says that what it waits for never comes.

No test bets on the speed of the machine: it waits for what it wants to see, and this bound only ends tests
that hang. What may take long on a machine that is busy is never the failure that a test is about.
"""

import time
from collections.abc import Callable

PATIENCE_S = 120.0
POLL_S = 0.01  # short: some tests catch a command in the middle of its work


def eventually(condition: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
    """Poll until the condition holds; AssertionError that says what did not come about."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(POLL_S)
