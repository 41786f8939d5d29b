"""Registry: what a mutant is, and the list of all."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest.mock import patch

from tests.simulation.plan import Plan

Patch = AbstractContextManager[Any]

LOST = {"lost writes", "read your writes", "linearizable", "reads go back", "monotonic reads", "deletes"}
STALE = LOST | {"scans", "two winners"}


class Mutant(NamedTuple):
    """`expected`: the checkers of which one must complain. `suits`: the worlds that are apt to show
    it."""

    name: str
    expected: set[str]
    patches: Callable[[], list[Patch]]
    suits: Callable[[Plan], bool] = lambda plan: True


MUTANTS: list[Mutant] = []
SURVIVORS: dict[str, str] = {}


def of(*themes: str) -> Callable[[Plan], bool]:
    """Worlds of these themes."""
    return lambda plan: plan.theme in themes


def mutant(name: str, expected: set[str], target: Any, attribute: str, *themes: str) -> Callable[[Any], Any]:
    """Register a wrong function in place of `target.attribute`."""

    def register(wrong: Any) -> Any:
        suits = of(*themes) if themes else Mutant._field_defaults["suits"]
        MUTANTS.append(Mutant(name, expected, lambda: [patch.object(target, attribute, wrong)], suits))
        return wrong

    return register
