"""Patches: how a rule is left out of the model, from outside."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock


class Patch(NamedTuple):
    """`name` of `owner` becomes `made(what it was)`."""

    owner: Any
    name: str
    made: Callable[[Any], Any]


class Breakage(NamedTuple):
    name: str
    patches: list[Patch]
    corrupt: bool = False


def constant(owner: Any, name: str, value: object) -> Patch:
    """A method that always returns this."""
    return Patch(owner, name, lambda _: lambda *_args, **_kinds: value)


def instead(owner: Any, name: str, other: Callable[..., Any]) -> Patch:
    """Another function in its place."""
    return Patch(owner, name, lambda _: other)


@contextmanager
def broken(breakage: Breakage | None) -> Iterator[None]:
    """The model without this rule."""
    with ExitStack() as stack:
        for owner, name, made in breakage.patches if breakage else ():
            stack.enter_context(mock.patch.object(owner, name, made(owner.__dict__[name])))
        yield
