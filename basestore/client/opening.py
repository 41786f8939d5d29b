"""Opening: what `connect` and its kin return: a store as soon as `async with` has opened it, and none before.

Who uses it without is told so, by the name of what was called; else it would be told of an attribute that a
context manager does not have.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from types import TracebackType
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S")


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
