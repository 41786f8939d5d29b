"""Owner: from when a store can be used, by whom, and what becomes of it in a process that was forked.

`connect` and its kin return an `Opening`: a store as soon as `async with` has opened it, and none before. Who
uses it without is told so, by the name of what was called; else it would be told of an attribute that a
context manager does not have.

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
from contextlib import AbstractAsyncContextManager
from functools import wraps
from types import TracebackType
from typing import Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar

from basestore.errors import InvalidRequest

P = ParamSpec("P")
S = TypeVar("S")


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


class Event(Protocol):
    """Of Trio or of asyncio."""

    def set(self) -> object: ...

    async def wait(self) -> object: ...


class Owner:
    """The event loop that runs now. `bell`: makes an event of its kind, for a third of what anyio takes."""

    __slots__ = ("__weakref__", "_loop", "_running", "bell")

    bell: Callable[[], Event]

    def __init__(self) -> None:
        trio = sys.modules.get("trio")
        if trio is not None and trio.lowlevel.in_trio_run():
            self._running, self.bell = trio.lowlevel.current_trio_token, trio.Event
        else:
            import asyncio

            self._running, self.bell = asyncio.get_running_loop, asyncio.Event
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


class Opening(AbstractAsyncContextManager[S], Generic[S]):
    """A store that is opened by `async with`, and closed when the block ends."""

    def __init__(self, name: str, block: AbstractAsyncContextManager[S]) -> None:
        self._name = name
        self._block = block

    async def __aenter__(self) -> S:
        return await self._block.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._block.__aexit__(kind, error, trace)

    def __getattr__(self, attribute: str) -> NoReturn:
        call = f"basestore.{self.__dict__.get('_name')}(...)"
        raise AttributeError(
            f"{call} is no store yet, and has no {attribute!r}: write `async with {call} as store`, and use "
            f"`store` inside the block"
        )

    def __await__(self) -> Any:
        self.__getattr__("__await__")


def opening(call: Callable[P, AbstractAsyncContextManager[S]]) -> Callable[P, Opening[S]]:
    """For a function that returns a context manager."""

    @wraps(call)
    def opened(*args: P.args, **options: P.kwargs) -> Opening[S]:
        return Opening(call.__name__, call(*args, **options))

    return opened
