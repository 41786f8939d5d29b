"""Patching: another function in the place of one of the model, or round it."""

from collections.abc import Callable
from typing import Any

from tests.model.patches import Patch
from tests.model.registers.store import Snapshot, Store


def patch(owner: Any, name: str, instead: Callable[..., Any]) -> Patch:
    return Patch(owner, name, lambda _: instead)


def around(owner: Any, name: str, made: Callable[[Any], Callable[..., Any]]) -> Patch:
    return Patch(owner, name, made)


def closed_only(self: Store, theirs: Snapshot) -> None:
    """Without the floor."""
    self.close(theirs.closed)
