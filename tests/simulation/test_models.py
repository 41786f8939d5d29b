"""The consistency models: each level keeps its promise, and the next weaker one does not make it.

The counter-examples are real histories, found by seed: judged as if its reads at ONE were QUORUM
reads, a history fails; the same history is right by what ONE promises.
"""

from collections.abc import Callable

import pytest

from basestore.consistency import Level
from tests.simulation import history as h
from tests.simulation.checkers import judge
from tests.simulation.history import Operation
from tests.simulation.plan import draw
from tests.simulation.world import World

SEEDS_MAX = 40


def reads_at_one(operation: Operation) -> bool:
    return operation.kind == h.GET and operation.level is Level.ONE


def writes_at_one(operation: Operation) -> bool:
    return operation.writes and operation.level in (Level.ONE, Level.ANY)


def judged_stronger(seed: int, weak: Callable[[Operation], bool]) -> set[str]:
    """What a good history lacks to be what it does not promise: its weak operations at QUORUM."""
    world = World(draw(seed))
    world.run()
    assert not world.violations
    for operation in world.history.operations:
        if weak(operation):
            operation.level = Level.QUORUM
    return {violation.check for violation in judge(world.history)}


@pytest.mark.parametrize(
    ("weak", "broken"),
    [
        (reads_at_one, "linearizable"),
        (reads_at_one, "monotonic reads"),
        (reads_at_one, "read your writes"),
        (writes_at_one, "linearizable"),
    ],
    ids=["eventual is not strong", "nor monotonic", "nor a session", "a write at one is not strong"],
)
def test_a_weaker_level_does_not_promise_what_a_stronger_one_does(
    weak: Callable[[Operation], bool], broken: str
) -> None:
    for seed in range(SEEDS_MAX):
        if broken in judged_stronger(seed, weak):
            return
    raise AssertionError(f"no history of {SEEDS_MAX} lacks it: the worlds are too mild")
