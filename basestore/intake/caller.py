"""Caller: one connection of a client, as the intake sees it; and whose it is.

Owns the count of what is under way for it: a request is, from when the node begins it until its answer is put
into the outbox. What waits to be opened, or cannot be begun yet for the caller takes no answers, is not.

What was asked first need not be answered first: a get may wait for a member that is paused, and a status
behind it not. So each class has a *lane*, through which its answers go, and is counted there.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.intake.fair_queue import Waiting
from basestore.protocol.codec import Decoder, Message
from basestore.protocol.envelopes import BULK
from basestore.protocol.limits import WINDOW_FIRST

ROOM_MAX = 1 << 30
DEFERRED = BULK + 1  # what is kept for later takes no room, and has a lane of its own

Opened = tuple[int, list[Any], int]  # a frame's class, its requests, and their bytes


@dataclass(slots=True, eq=False)
class Tenant:
    """Who shares a queue and a share of what may be under way: a user, or else an address. `callers`: how
    many of its connections are open, or have something under way; `under_way`: requests that need room, and
    `bytes`: of these; `admin`: what operators ask; `shed`: not collected yet (`most_shed.py`)."""

    name: str
    callers: int = 0
    under_way: int = 0
    bytes: int = 0
    admin: int = 0
    shed: int = 0

    def holds_less(self, requests: int, size: int) -> bool:
        """Whether less than that is under way of it; one request always may be."""
        return self.under_way < max(1, requests) and self.bytes < size


def unbounded() -> int:
    """As much room as anybody wants."""
    return ROOM_MAX


class Lane(Outbox):
    """The way to a caller's outbox for the answers to requests of one class. `under_way`: of these, how many
    belong together, the oldest first, and their bytes; `answered`: how many requests ever, and `settled`: of
    these, how many were taken off."""

    __slots__ = ("answered", "outbox", "settled", "under_way")

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.answered = self.settled = 0
        self.under_way: deque[tuple[int, int]] = deque()

    def put(self, message: Message, size: int = SMALL_BYTES, answers: int = 1) -> bool:
        """Into the caller's outbox, and counted here whether or not somebody is left to take it."""
        self.answered += answers
        return self.outbox.put(message, size, answers)

    def release(self) -> None:
        self.answered += 1

    @property
    def closed(self) -> bool:  # type: ignore[override]
        return self.outbox.closed

    @property
    def version(self) -> int:  # type: ignore[override]
        return self.outbox.version

    @property
    def roomy(self) -> bool:
        return self.outbox.roomy

    def settle(self) -> tuple[int, int]:
        """Take off what was answered since: how many requests, and their bytes."""
        ended = left = self.answered - self.settled
        ended_bytes = 0
        self.settled = self.answered
        while left > 0 and self.under_way:
            count, size = self.under_way[0]
            if left < count:
                part = size * left // count
                self.under_way[0] = count - left, size - part
                return ended, ended_bytes + part
            self.under_way.popleft()
            left -= count
            ended_bytes += size
        return ended, ended_bytes


@dataclass(slots=True, eq=False)
class Caller:
    """`room`: for how many answers there is room on its way; `asked`: how many requests were begun;
    `lanes`: by class; `rest`: what there is no room for yet of a frame that was opened; `behind`: frames that
    come after it; `bytes`: what is not opened; `heard_s`: when it asked last; `window`: what it was told;
    `lost`: requests to be told that nothing was done, first ids and numbers in turn."""

    outbox: Outbox
    tenant: Tenant
    decoder: Decoder
    room: Callable[[], int] = unbounded
    asked: int = 0
    bytes: int = 0
    heard_s: float = -math.inf
    window: int = WINDOW_FIRST
    lanes: dict[int, Lane] = field(default_factory=dict)
    rest: Opened = (0, [], 0)
    behind: deque[Waiting] = field(default_factory=deque)
    lost: list[int] = field(default_factory=list)

    def lane(self, kind: int) -> Lane:
        """For the answers to requests of one class, or DEFERRED; made when it is first asked for."""
        lane = self.lanes.get(kind)
        if lane is None:
            lane = self.lanes[kind] = Lane(self.outbox)
        return lane

    @property
    def under_way(self) -> int:
        return self.asked - sum([lane.answered for lane in self.lanes.values()])

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
