"""The plan of faults: seeded, and no kind is forgotten."""

from tests.cluster.nemesis import KINDS, Plan

NAMES = {name for name, _ in KINDS}


def test_one_seed_is_one_plan() -> None:
    one, other, third = Plan(7, 3), Plan(7, 3), Plan(8, 3)
    assert one.draw(60) == other.draw(60)
    assert other.draw(60) != third.draw(60)


def test_every_kind_comes_before_one_comes_again_over_all_rounds() -> None:
    plan = Plan(1, 5)
    faults = [fault for _ in range(12) for fault in plan.draw(10.0)]
    for start in range(0, len(faults) - len(KINDS) + 1, len(KINDS)):
        assert {fault.kind for fault in faults[start : start + len(KINDS)]} == NAMES
    assert {fault.nodes[0] for fault in faults} == set(range(5))


def test_faults_come_in_order_of_time_and_within_it() -> None:
    times = [fault.at_s for fault in Plan(3, 3).draw(30.0)]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 30
