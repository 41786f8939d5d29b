"""The consistency models: each keeps its promise, and the next weaker one does not make it.

strong      QUORUM or ALL, reads and writes: each key is a linearizable register
monotonic   a client's reads at QUORUM or ALL never go back
eventual    ONE: what was acknowledged is known to all in the end, and all replicas are equal

The counter-examples are real histories, found by seed: judged as if its operations at ONE were at
QUORUM, a history fails; the same history is right by what ONE promises.
"""

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from basestore.consistency import Level
from tests.simulation import history as h
from tests.simulation.checkers import acts_of, judge
from tests.simulation.drawing import draw_plain
from tests.simulation.history import History, Operation
from tests.simulation.registers import atomic
from tests.simulation.world import PlannedWorld

SEEDS_MAX = 120
SEEDS = (3, 7, 20)  # no store is lost: with it goes what only ONE replica held


def reads_at_one(operation: Operation) -> bool:
    return operation.kind == h.GET and operation.level is Level.ONE


def writes_at_one(operation: Operation) -> bool:
    return operation.writes and operation.level in (Level.ONE, Level.ANY)


def played(seed: int) -> History:
    world = PlannedWorld(draw_plain(seed)[0])
    world.run()
    assert not world.violations
    return world.history


history_of = cache(played)  # for those that only look: the same histories show different things


@cache
def judged_stronger(seed: int, weak: Callable[[Operation], bool]) -> frozenset[str]:
    """What a good history lacks to be what it does not promise: its weak operations at QUORUM."""
    history = played(seed)  # and altered here
    for operation in history.operations:
        if weak(operation):
            operation.level, operation.strong = Level.QUORUM, True
    return frozenset(violation.check for violation in judge(history))


def registers(history: History) -> Iterator[list[Operation]]:
    """The operations of each last-write key."""
    keys = {op.key for op in history.operations if op.bucket == "default" and op.kind != h.SCAN}
    for key in sorted(keys):
        yield [op for op in history.operations if op.key == key and op.kind != h.SCAN]


@pytest.mark.parametrize("seed", SEEDS)
def test_strong_each_key_is_a_linearizable_register(seed: int) -> None:
    for operations in registers(history_of(seed)):
        writers = {op.version: op for op in operations if op.writes and op.version}
        assert atomic(acts_of(operations, writers)) == ""


@pytest.mark.parametrize("seed", SEEDS)
def test_monotonic_no_client_reads_an_older_version_than_before(seed: int) -> None:
    compared = 0
    for operations in registers(history_of(seed)):
        for client in {op.client for op in operations}:
            reads = [
                op for op in operations
                if op.client == client and op.kind == h.GET and op.outcome == h.FOUND and op.strong
            ]  # fmt: skip
            for read in reads:
                seen = [other.version for other in reads if other.end < read.start]
                assert read.version >= max(seen, default=b"")
                compared += len(seen)
    assert compared > 100


@pytest.mark.parametrize("seed", SEEDS)
def test_eventual_what_was_acknowledged_at_one_is_known_in_the_end(seed: int) -> None:
    for operations in registers(history_of(seed)):
        ends = [
            op for op in operations if op.level is Level.ALL and op.kind == h.GET and op.outcome == h.FOUND
        ]
        last = max(ends, key=lambda op: op.start)
        for op in operations:
            if op.outcome == h.STORED:
                assert last.version >= op.version


@pytest.mark.parametrize(
    ("weak", "broken", "first_seed"),
    [
        (reads_at_one, "linearizable", 3),
        (reads_at_one, "monotonic reads", 155),
        (reads_at_one, "read your writes", 148),
        (writes_at_one, "linearizable", 3),
    ],
    ids=["eventual is not strong", "nor monotonic", "nor a session", "a write at one is not strong"],
)
def test_a_weaker_level_does_not_promise_what_a_stronger_one_does(
    weak: Callable[[Operation], bool], broken: str, first_seed: int
) -> None:
    """From the first seed that is known to show it: every change of the worlds moves it."""
    for seed in range(first_seed, first_seed + SEEDS_MAX):
        if broken in judged_stronger(seed, weak):
            return
    raise AssertionError(f"no history of {SEEDS_MAX} lacks it: the worlds are too mild")
