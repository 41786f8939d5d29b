"""Owner: to whom a store belongs, and what becomes of it in a process that was forked.

A connection carries the requests of one process: were two to read from it, each would get answers to what the
other asked. So what holds connections is told of a fork, in the child, before anything else runs there:

    blocking store       drops the connection it inherited and begins anew; the parent's goes on
    asynchronous store   belongs to one event loop, which does not go on in the child; it says so

A store of one event loop is of no use to another one either, nor to another thread. Refuses to carry on there
in silence: what would wake a waiting call up belongs to the loop that made it.
"""

import os
import sys
import weakref
from collections.abc import Callable
from typing import Protocol

from basestore.errors import InvalidRequest


class Inherited(Protocol):
    """What must know of a fork."""

    def after_fork(self) -> None:
        """Called in the child, in its only thread; another one may have held any lock."""


_inherited: "weakref.WeakSet[Inherited]" = weakref.WeakSet()


def tell_of_forks(thing: Inherited) -> None:
    """Call its `after_fork` in each process that is forked off while it lives."""
    _inherited.add(thing)


def in_children(work: Callable[[], object]) -> None:
    """Do this first in each process that is forked off from now on."""
    if hasattr(os, "register_at_fork"):  # not where there is no fork
        os.register_at_fork(after_in_child=work)


def _forked() -> None:
    for thing in list(_inherited):
        thing.after_fork()


in_children(_forked)


class Owner:
    """The event loop that runs now."""

    __slots__ = ("__weakref__", "_loop", "_running")

    def __init__(self) -> None:
        trio = sys.modules.get("trio")
        if trio is not None and trio.lowlevel.in_trio_run():
            self._running = trio.lowlevel.current_trio_token
        else:
            import asyncio

            self._running = asyncio.get_running_loop
        self._loop: object = self._running()
        tell_of_forks(self)

    def after_fork(self) -> None:
        self._loop = object()  # nobody's

    def check(self) -> None:
        """InvalidRequest unless the loop that runs now is the owner."""
        try:
            if self._running() is self._loop:
                return
        except RuntimeError:  # none of its kind runs here
            pass
        raise InvalidRequest(
            "this store belongs to another event loop, thread or process, and works only there; nothing was "
            "sent. Connect again here, or call it from its own loop (asyncio.run_coroutine_threadsafe, "
            "trio.from_thread.run)"
        )
