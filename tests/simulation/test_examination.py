"""The laws of a world at its end, on good counts and bad ones."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.simulation.examination import Examination
from tests.simulation.plan import Fault
from tests.simulation.scenes import Scene, record, version

FAULT = Fault(0.0, "crash", 1, 1, 1.0, 0.5)


def examination(scene: Scene) -> Examination:
    return Examination(scene.world, [])


@pytest.mark.parametrize(
    ("moved", "wrong"),
    [
        ({}, set()), ({"exchanges_same": 3, "records_purged": 2, "debts_ended": 1}, set()),
        ({"records_taken": 1}, {"quiet"}), ({"exchanges_full": 1}, {"quiet"}),
        ({"hints_created": 1}, {"quiet"}),
        ({"repairs_read_background": 1}, {"quiet"}),
    ],
)  # fmt: skip
def test_while_nobody_asks_anything_nothing_is_mended(moved: dict[str, int], wrong: set[str]) -> None:
    scene = Scene()
    old = Counter(records_taken=5, hints_created=5, exchanges_same=5)
    examination(scene).judge_rest(scene.world.machines[0], old, old + Counter(moved))
    assert scene.wrong() == wrong


@pytest.mark.parametrize(
    ("faults", "counter", "wrong"),
    [
        ((FAULT,), "mismatches", set()), ((), "mismatches", {"quiet"}), ((), "hints_late", {"quiet"}),
        ((), "hints_created", set()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("struck", [False, True])
def test_without_a_fault_nobody_counts_trouble(
    faults: tuple[Fault, ...], counter: str, wrong: set[str], struck: bool
) -> None:
    scene = Scene()
    scene.world.ambushes.struck = struck
    scene.world.plan = replace(scene.world.plan, faults=faults)
    counts = Counter({counter: 1})
    examination(scene).judge_rest(scene.world.machines[0], counts, counts)
    assert scene.wrong() == (set() if struck else wrong)


@pytest.mark.parametrize(
    ("held", "stores_lost", "late", "wrong"),
    [
        (None, 1, 0, set()), (1, 1, 0, set()), (2, 1, 0, {"sessions"}), (3, 1, 0, {"sessions"}),
        (None, 0, 0, {"sessions"}), (None, 0, 1, {"sessions"}), (None, 0, 2, set()),
    ],
)  # fmt: skip
def test_what_a_session_is_told_to_be_lost_nobody_holds_and_a_disk_was_lost_or_it_came_too_late(
    held: int | None, stores_lost: int, late: int, wrong: set[str]
) -> None:
    scene = Scene()
    scene.world.history.stores_lost = bool(stores_lost)
    if late:
        scene.world.history.late["default", "k"] = [version(late)]
    if held is not None:
        scene.put(scene.replicas()[1], record(held))
    examination(scene).judge_lost(scene.operation("get"), version(2))
    assert scene.wrong() == wrong
