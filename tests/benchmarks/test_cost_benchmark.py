"""The benchmark of the cost says what it should, whatever the figures are."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cost import KEYS, SCRIPT, CostFailed, Side, Slice, as_object, commit_of, ratio_table, table
from benchmarks.machine import interpreter
from tests.benchmarks.running import ROOT, run_benchmark

KINDS = ("write", "memory", "read_quorum", "read_one")
IN_A_REPOSITORY = (ROOT / ".git").exists() and shutil.which("git") is not None


def test_the_cost_is_one_object_with_each_kind_and_its_layers(tmp_path: Path) -> None:
    result = run_benchmark("cost", "--rounds", "1", "--directory", str(tmp_path), "-o", "json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert set(found) == {*KINDS, "all", "layers", "keys", "rounds", "interpreter", "load"}
    assert set(found["layers"]) == set(found["all"]) == set(KINDS)
    for kind in KINDS:
        assert found[kind] == pytest.approx(sum(found["layers"][kind].values()), abs=0.2)
        assert found[kind] > 0
    assert found["layers"]["write"]["replicas: engine, a batch"] > 0
    assert (found["keys"], found["rounds"], found["interpreter"]) == (KEYS, 1, interpreter())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not IN_A_REPOSITORY, reason="there is no history to take another commit from")
def test_another_commit_is_measured_in_turns_and_leaves_no_worktree(tmp_path: Path) -> None:
    options = ("--against", "HEAD", "--keys", str(KEYS + 500), "--rounds", "2")
    result = run_benchmark("cost", *options, "--directory", str(tmp_path), "-o", "json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["against"]["commit"] == commit_of("HEAD")
    assert set(found["against"]["ratios"]) == set(KINDS)
    for side in (found, found["against"]):
        assert side["growth"]["keys"] == KEYS + 500
        assert set(side["growth"]["ratios"]) == {"write", "read_quorum", "read_one"}
    assert list(tmp_path.iterdir()) == []
    worktrees = subprocess.run(
        ["git", "worktree", "list", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert str(tmp_path) not in worktrees.stdout


def test_the_script_measures_the_checkout_that_it_is_pointed_at(tmp_path: Path) -> None:
    """Wherever it lies itself: what else lies there is not taken for what it imports."""
    checkout, stores = tmp_path / "checkout", tmp_path / "stores"
    checkout.mkdir()
    stores.mkdir()
    (checkout / "basestore").symlink_to(ROOT / "basestore")
    done = subprocess.run(
        [sys.executable, "-P", str(SCRIPT), "64", str(stores)],
        input='["read_one", 2]\n', capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    filled, found = map(json.loads, done.stdout.splitlines())
    assert Path(filled["basestore"]).is_relative_to(checkout)
    layers = sum(found["layers"].values())
    assert layers > 0
    assert found["all"] >= layers * (1 - 1e-9)  # of so few batches both may be the same, but for rounding


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    for options in (["--keys", str(KEYS)], ["--rounds", "0"], ["--output", "rows"]):
        result = run_benchmark("cost", "--directory", str(tmp_path), *options)
        assert (result.returncode, result.stdout) == (2, "")
        assert "Error" in result.stderr


@pytest.mark.skipif(not IN_A_REPOSITORY, reason="there is no history to take another commit from")
def test_a_commit_that_is_not_there_is_named() -> None:
    with pytest.raises(CostFailed, match="no-such-commit"):
        commit_of("no-such-commit")


class Told(Side):
    """A side that was told what it measured, by kind: microseconds of its only layer in each round."""

    def __init__(self, name: str, keys: int, told: dict[str, list[float]]) -> None:
        self.name, self.keys = name, keys
        self.slices = {kind: [Slice({"ticks": us}, us + 1) for us in each] for kind, each in told.items()}


def test_a_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_medians() -> None:
    this = Told("this checkout", KEYS, {"write": [10.0, 90.0, 30.0]})
    other = Told("cd82d8f", KEYS, {"write": [20.0, 100.0, 40.0]})
    found = as_object([this, other])
    assert (found["write"], found["all"], found["layers"]) == (30, {"write": 31}, {"write": {"ticks": 30}})
    assert found["against"]["ratios"] == {"write": 0.75}
    assert found["against"]["write"] == 40


def test_many_keys_are_held_against_few_of_the_same_checkout() -> None:
    few, many = {"write": [10.0], "memory": [5.0]}, {"write": [13.0]}
    sides = [
        Told("this checkout", KEYS, few),
        Told("this checkout", 10 * KEYS, many),
        Told("cd82d8f", KEYS, {"write": [20.0], "memory": [10.0]}),
        Told("cd82d8f", 10 * KEYS, {"write": [52.0]}),
    ]
    found = as_object(sides)
    assert found["growth"]["ratios"] == {"write": 1.3}
    assert found["against"]["growth"]["ratios"] == {"write": 2.6}
    assert found["against"]["ratios"] == {"write": 0.5, "memory": 0.5}
    shown = [line.split() for line in ratio_table(sides).splitlines()[1:]]
    assert [line[-4:] for line in shown[1:]] == [
        ["0.50", "0.50", "-", "-"],
        ["1.30", "-", "-", "-"],
        ["0.25", "-", "-", "-"],
        ["2.60", "-", "-", "-"],
    ]


def test_a_table_has_a_line_for_each_layer_of_any_kind() -> None:
    side = Told("this checkout", KEYS, {kind: [1.0] for kind in KINDS})
    side.slices["write"] = [Slice({"answers encoded": 1.0, "coordinator: step": 2.0}, 4.0)]
    lines = table(side).splitlines()
    assert [line[:40].strip() for line in lines] == [
        "this checkout, 10,000 keys", "coordinator: step", "answers encoded", "ticks", "sum",
        "over all batches",
    ]  # fmt: skip
    assert lines[-2].split()[-4:] == ["3.00", "1.00", "1.00", "1.00"]
    assert all(len(line) <= 100 for line in lines)
