"""Caller: one connection of a client, as the intake sees it; and whose it is.

Owns the count of what is under way for it: a request is, from when the node begins it until its answer is put
into the outbox. What waits to be opened, or cannot be begun yet for the caller takes no answers, is not.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from basestore.cluster.outbox import Outbox
from basestore.intake.fair_queue import Waiting
from basestore.protocol.codec import Decoder
from basestore.protocol.limits import WINDOW_FIRST

ROOM_MAX = 1 << 30

Opened = tuple[int, list[Any], int]  # a frame's class, its requests, and their bytes


@dataclass(slots=True, eq=False)
class Tenant:
    """Who shares a queue and a share of what may be under way: a user, or else an address. `callers`: how
    many of its connections are open; `under_way`: requests, and `bytes`: of these."""

    name: str
    callers: int = 0
    under_way: int = 0
    bytes: int = 0

    def holds_less(self, requests: int, size: int) -> bool:
        """Whether less than that is under way of it; one request always may be."""
        return self.under_way < max(1, requests) and self.bytes < size


def unbounded() -> int:
    """As much room as anybody wants."""
    return ROOM_MAX


@dataclass(slots=True, eq=False)
class Caller:
    """`room`: for how many answers there is room on its way; `asked`: how many requests were begun;
    `begun`: of these, by class, as far as they are under way, the oldest first, and their bytes; `rest`: what
    there is no room for yet of a frame that was opened; `behind`: frames that come after it; `bytes`: what
    is not opened; `lost`: requests to be told that nothing was done, first ids and numbers in turn."""

    outbox: Outbox
    tenant: Tenant
    decoder: Decoder
    room: Callable[[], int] = unbounded
    asked: int = 0
    answered: int = 0
    bytes: int = 0
    heard_s: float = -math.inf
    window: int = WINDOW_FIRST
    begun: deque[tuple[int, int, int]] = field(default_factory=deque)
    rest: Opened = (0, [], 0)
    behind: deque[Waiting] = field(default_factory=deque)
    lost: list[int] = field(default_factory=list)

    @property
    def under_way(self) -> int:
        return self.asked - self.outbox.answered

    @property
    def clogged(self) -> bool:
        """Whether something of it was let in, and waits for room for its answers."""
        return bool(self.rest[1] or self.behind)

    @property
    def held(self) -> int:
        """What it has here that is not begun yet, opened or not, in bytes."""
        return self.bytes + self.rest[2]

    def lose(self, first: int, asks: int) -> None:
        """Nothing was done of these."""
        lost = self.lost
        if lost and lost[-2] + lost[-1] == first:
            lost[-1] += asks
        else:
            lost += (first, asks)
