"""Window: how many requests a connection should have under way, and who waits until there is room.

A node that is asked for more than it can do sheds what is too much; whoever sends less beforehand loses
nothing. So a connection keeps to a window, the smaller of two:

    told    what the node says (`Credit`, `Shed`); 256 until it has said anything
    own     AIMD (additive increase, multiplicative decrease: Chiu, Jain 1989): half of what it was at a
            refusal, but not twice within HALVING_S, for what was under way is refused together; one more for
            each window of answers, until the node's word is all that holds

and to 1 MiB of keys and values. One thing may always be under way, whatever its size. A lot of requests that
are sent together enters whole as soon as fewer than the window are under way, as at the node:

    told 256, 250 under way    a lot of 64 enters; the next one waits
    58 answered                256 under way: it waits still
    one more answered          255: it enters, and who came behind it waits
    refused                    own is 128: nobody enters until fewer than that are under way

Who waits is let in in order, and counts from then on (`granted`), though it enters a moment later. What is
under way is the owner's to know, who has the table of it. Pure: times are arguments.
"""

import math
from collections import deque
from typing import Final, Protocol

from basestore.protocol.limits import WINDOW_FIRST

WINDOW_MAX: Final = 1 << 16  # whatever a node says
BYTES_MAX: Final = 1 << 20  # of keys and values
HALVING_S: Final = 0.1
WAIT_SHARE: Final = 0.1  # of a call's timeout, in which there must be room for it


class Bell(Protocol):
    """Wakes who waits: an event of Trio or of asyncio, or a lock."""

    def set(self) -> object: ...


class Waiting:
    """One that waits: so many requests of this size. `let_in`: they count from now on; `over`: it waits no
    more, for it has entered, or gone, or the connection has ended."""

    __slots__ = ("asks", "bell", "let_in", "over", "size")

    def __init__(self, asks: int, size: int, bell: Bell) -> None:
        self.asks = asks
        self.size = size
        self.bell = bell
        self.let_in = self.over = False


class Window:
    """Of one connection.

    limit    how many requests may be under way
    size     bytes of those that are, which its owner adds and takes off, or were let in
    granted  requests that were let in, and have not entered
    held     requests that wait
    """

    __slots__ = ("_halved_s", "_own", "_told", "granted", "held", "limit", "line", "size")

    def __init__(self) -> None:
        self._told = self.limit = WINDOW_FIRST
        self._own = math.inf
        self._halved_s = -math.inf
        self.size = self.granted = self.held = 0
        self.line: deque[Waiting] = deque()

    # --- how wide it is ----------------------------------------------------------------------

    def told(self, window: int) -> None:
        """The node has said so."""
        self._told = max(1, min(window, WINDOW_MAX))
        self._hold()

    def refused(self, now_s: float) -> None:
        """The node has refused something."""
        if now_s - self._halved_s >= HALVING_S:
            self._halved_s = now_s
            self._own = max(1.0, self.limit / 2)
            self._hold()

    def answered(self, count: int) -> None:
        """So many have been answered, and not refused."""
        if self._own != math.inf:
            self._own += count / self._own
            self._hold()

    def _hold(self) -> None:
        if self._own >= self._told:
            self._own = math.inf
        self.limit = int(min(self._told, self._own))

    # --- who enters --------------------------------------------------------------------------

    def takes(self, under_way: int, size: int) -> bool:
        """Whether what comes now may be sent at once."""
        # As in `let_in`, but written out: this is on the way of every request.
        return (
            under_way + self.granted < self.limit
            and not self.line
            and (not self.size or self.size + size <= BYTES_MAX)
        )

    def join(self, asks: int, size: int, bell: Bell) -> Waiting:
        """Wait at the end of the line. Whoever does calls `enter` once the bell has been rung, or `part`."""
        waiting = Waiting(asks, size, bell)
        self.line.append(waiting)
        self.held += asks
        return waiting

    def let_in(self, under_way: int) -> None:
        """Let in, in order, those for whom there is room."""
        while self.line and under_way + self.granted < self.limit:
            waiting = self.line[0]
            if self.size and self.size + waiting.size > BYTES_MAX:
                break
            self.line.popleft()
            self.held -= waiting.asks
            self.granted += waiting.asks
            self.size += waiting.size
            waiting.let_in = True
            waiting.bell.set()

    def enter(self, waiting: Waiting) -> None:
        """One that was let in is in the table from now on."""
        self.granted -= waiting.asks
        waiting.over = True

    def part(self, waiting: Waiting) -> None:
        """It does not enter: nobody waits for it any more, or the connection has ended."""
        if waiting.over:
            return
        waiting.over = True
        if waiting.let_in:
            self.granted -= waiting.asks
            self.size -= waiting.size
        else:
            self.line.remove(waiting)
            self.held -= waiting.asks

    def turn_away(self) -> None:
        """The connection takes nothing more: whoever waits is to know."""
        while self.line:
            waiting = self.line[0]
            self.part(waiting)
            waiting.bell.set()
