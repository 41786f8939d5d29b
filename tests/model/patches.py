"""Patches: how a rule is left out of the model, from outside."""

from collections.abc import Callable
from typing import Any, NamedTuple


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
