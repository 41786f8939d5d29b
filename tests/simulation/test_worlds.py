"""Whole worlds: a fixed range of seeds, the same in every process, and the faults they must meet."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.drawing import draw
from tests.simulation.exercise import MINIMUMS, shortfalls
from tests.simulation.marches import march
from tests.simulation.minimise import fails, minimise
from tests.simulation.mutants import switched_on
from tests.simulation.mutations import mutant_named
from tests.simulation.outcome import play, play_plan
from tests.simulation.plan import Reduction
from tests.simulation.world import PlannedWorld
from tests.worlds.disk import Disk

ROOT = Path(__file__).parents[2]
SEEDS = range(152, 172)  # of those that the README's range plays as well


def test_a_fixed_range_of_worlds_keeps_every_promise_and_meets_enough_trouble() -> None:
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        outcome = play(seed)
        assert not outcome.violations, f"python -m tests.simulation --seed {seed} --trace"
        counts += outcome.counts
    assert shortfalls(counts, len(SEEDS)) == []


@pytest.mark.parametrize("seed", [3, 18])
def test_one_seed_is_one_history_in_every_process(seed: int) -> None:
    traces = {play(seed).trace, play(seed).trace}
    for hash_seed in ("0", "1", "4711"):
        ran = subprocess.run(
            [sys.executable, "-c", f"from tests.simulation.outcome import play; print(play({seed}).trace)"],
            capture_output=True, check=True, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )  # fmt: skip
        traces.add(ran.stdout.strip())
    assert len(traces) == 1


def test_recording_changes_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", "5", "--seconds", "1.2", "--trace"],
        capture_output=True, check=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert play(5, Reduction(seconds=1.2)).trace in ran.stdout
    assert " > " in ran.stdout


def test_a_fault_less_does_not_reshuffle_the_clients() -> None:
    plan = draw(6)
    less = plan.reduced(Reduction(faults=()))
    assert less.clients == plan.clients
    assert less.machines == plan.machines


def test_a_world_that_is_well_does_not_fail() -> None:
    assert not fails(1, Reduction(faults=(), clients=(0,), seconds=1.0), "lost writes")


def test_where_rounds_are_hastened_all_replicas_compare_with_each_other_all_the_time() -> None:
    plan = draw(5)
    alike = (plan.machines[0]._replace(offset_ms=0, rate=1.0),) * 7
    world = PlannedWorld(
        replace(plan, hasty=True, rounds=True, faults=(), machines=alike, replication=5, partitions=4)
    )
    for machine in world.machines:
        machine.start()
    for calm in (False, True):  # in a calm world clocks tick at greater steps
        world.network.calm = calm
        world.clockwork.run(world.clockwork.now + 5.0)
        since_ms = world.true_ms
        world.clockwork.run(world.clockwork.now + 20.0)
        for machine in world.machines:
            assert machine.node is not None
            for partition in machine.node.certificates.others:
                held = machine.node.certificates.certificates(partition)
                assert len(held) == world.plan.replication - 1
                assert all(each.made_ms > since_ms for each in held.values())


def test_what_is_left_of_a_failing_world_still_fails_and_is_small() -> None:
    bug = mutant_named("a read that believes the first reply")
    steps: list[Reduction] = []
    with switched_on(bug):
        check = play(0).violations[0].check
        kept = minimise(0, check, steps.append)
        assert fails(0, kept, check)
    assert not fails(0, kept, check)
    assert steps[-1] == kept
    assert kept.operations is not None
    assert len(kept.operations) <= 40
    assert len(kept.faults or ()) < len(draw(0).faults)


@pytest.mark.parametrize("seed", [1, 2])
def test_members_come_and_leave_in_a_row_until_nobody_is_there_that_was_in_the_beginning(seed: int) -> None:
    plan = march(seed, 5)
    outcome = play_plan(plan)
    assert not outcome.violations, f"python -m tests.simulation --seed {seed} --march 5"
    assert outcome.counts["members: added"] >= 5
    assert outcome.counts["members: left"] >= 5
    assert outcome.operations > 1000


def test_several_processes_play_what_one_plays() -> None:
    alone, together = (
        json.loads(
            subprocess.run(
                [sys.executable, "-m", "tests.simulation", "--seeds", "7..11", "--jobs", jobs, "-o", "json"],
                capture_output=True, check=True, text=True, cwd=ROOT,
            ).stdout
        )
        for jobs in ("1", "2")
    )  # fmt: skip
    for name in ("seeds", "operations", "violations", "trace", "simulated_hours"):
        assert alone[name] == together[name]
    assert alone["seeds"] == 5  # more than one process is handed at once
    assert alone["operations_per_s"] > 0


def test_a_mild_range_fails() -> None:
    assert len(shortfalls(Counter(), 1000)) == len(MINIMUMS)


def test_a_power_cut_keeps_what_was_synced_and_a_prefix_of_the_rest() -> None:
    for kept in range(4):
        disk = Disk()
        disk.apply({b"a": b"0", b"b": b"0"})
        disk.sync()
        disk.apply({b"a": b"1"})
        disk.apply({b"a": None, b"c": b"2"})
        disk.apply({b"b": b"3"})
        assert disk.durable(b"a") == b"0"
        assert disk.copy() == {b"a": b"0", b"b": b"0"}
        disk.cut(kept)
        states = [
            {b"a": b"0", b"b": b"0"},
            {b"a": b"1", b"b": b"0"},
            {b"b": b"0", b"c": b"2"},
            {b"b": b"3", b"c": b"2"},
        ]
        assert dict(disk.scan(b"", b"z")) == states[kept]


def test_a_sync_makes_durable_what_was_applied_before_it_began() -> None:
    disk = Disk()
    disk.apply({b"a": b"1"})
    began = len(disk.pending)
    disk.apply({b"a": b"2"})
    disk.settle(began)
    assert disk.durable(b"a") == b"1"
    disk.cut(0)
    assert disk.get(b"a") == b"1"
