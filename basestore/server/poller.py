"""Poller: one task that hears all established connections of a node (epoll, level-triggered).

A task for each connection would cost a turn of the event loop for each that has something to say,
and another to tell the node's loop of it. Here everything that lies ready is read in one turn, and
`after` is called once: the node takes one step for all of it.

A turn also comes at a time that was asked for (`wake_at`), if none has come before: who watches all sockets
can as well watch the clock.

What comes from elsewhere, another thread included, *rings*: the bell (an eventfd, where the system has
them) is one more descriptor among the sockets, so it costs neither a task nor a turn of its own. However
often it is rung before a turn, that turn answers all of it.

Who has more to say than one read takes is read from again once all others were heard, ROUNDS_MAX times in a
turn: what is left to the system gets old where nobody sees, and nobody is to wait for a flood of others.

A turn must end soon, however much lies ready: who only reads gets nothing done, and what was read first grows
old (*receive livelock*: Mogul and Ramakrishnan, "Eliminating receive livelock", 1997). Once a turn has read
for READ_S_MAX it is `hurried`: those who can wait (clients) are left to the next turn, which begins with
others; other nodes are heard in each.

Owns which sockets are listened to, who is told, and when a turn is due. It only reads: a connection waits by
itself until it can be written to, which is rare. What the bytes mean is `link.py`'s.
"""

import math
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

Readable = Callable[[], bool]  # reads once; whether more may lie there that can wait for others
READ_S_MAX = 0.01
ROUNDS_MAX = 16
_ONE = (1).to_bytes(8, sys.byteorder)  # what an eventfd adds


class Poller:
    """Sockets and what to call when they can be read. What a call raises ends `run`. `partial`: somebody has
    read a part of a frame, since whoever watches over what is held has cleared it; `put_off`: how many were
    called in this turn and have left it to the next one."""

    def __init__(self) -> None:
        self.partial = False
        self._selector = selectors.DefaultSelector()
        if hasattr(os, "eventfd"):
            self._heard = self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._heard, self._bell = os.pipe()
        self._rung = False
        self._due_s = math.inf
        self._until_s = math.inf
        self._first = self.put_off = 0
        self._timer = trio.CancelScope()
        self._selector.register(self._heard, selectors.EVENT_READ, self._hear)

    def ring(self) -> None:
        """Let a turn follow soon. From any thread."""
        # Set first: a turn that has just begun clears it before it looks at what it was rung for.
        if not self._rung:
            self._rung = True
            os.write(self._bell, _ONE)

    def _hear(self) -> bool:
        os.read(self._heard, len(_ONE))
        self._rung = False
        return False

    @contextmanager
    def registered(self, connection: socket.socket, readable: Readable) -> Iterator[None]:
        """Watch a socket for the length of the block."""
        self._selector.register(connection, selectors.EVENT_READ, readable)
        try:
            yield
        finally:
            self.pause(connection)

    def pause(self, connection: socket.socket) -> None:
        """Watch it no more, until `resume`."""
        # A link may have paused its socket before its block ended.
        if connection in self._selector.get_map():
            self._selector.unregister(connection)

    def resume(self, connection: socket.socket, readable: Readable) -> None:
        """Watch it again."""
        if connection not in self._selector.get_map():
            self._selector.register(connection, selectors.EVENT_READ, readable)

    def wake_at(self, due_s: float) -> None:
        """Let a turn come at this moment, by `time.monotonic`, and at none that was asked for before."""
        if due_s != self._due_s:
            self._due_s = due_s
            self._timer.deadline = self._deadline()

    def _deadline(self) -> float:
        return trio.current_time() + self._due_s - time.monotonic()

    async def run(self, after: Callable[[], None]) -> None:
        """Call whom there is something to read for, then `after`; and `after` alone when it is time."""
        while True:
            with trio.CancelScope(deadline=self._deadline()) as self._timer:
                while True:
                    await trio.lowlevel.wait_readable(self._selector.fileno())
                    self._hear_all()
                    after()
            self._due_s = math.inf  # it is time; the next is still to be asked for
            after()

    def _hear_all(self) -> None:
        ready = self._selector.select(0)
        first = 0
        if self.put_off and ready:  # not always the same ones, where a turn does not get to all
            first = self._first % len(ready)
            ready = ready[first:] + ready[:first]
        self.put_off = 0
        self._until_s = time.monotonic() + READ_S_MAX
        again = [key.data for key, _ in ready if key.data()]
        if self.put_off:
            self._first = first + len(ready) - self.put_off
        for _ in range(1, ROUNDS_MAX):
            if not again or self.hurried:
                break
            again = [readable for readable in again if readable()]

    @property
    def hurried(self) -> bool:
        """Whether this turn has read for long enough."""
        return time.monotonic() > self._until_s

    def close(self) -> None:
        """Who rings from now on rings nothing: the bell's number may soon be another file's."""
        self._rung = True
        self._selector.close()
        os.close(self._heard)
        if self._bell != self._heard:
            os.close(self._bell)
