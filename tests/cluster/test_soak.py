"""Real processes under faults for a short while; and what the checkers say when something is wrong."""

from functools import partial
from pathlib import Path

import pytest

from basestore.consistency import Level
from tests.cluster.relayed import RelayedCluster
from tests.cluster.soak import Soak, text
from tests.simulation import history as h
from tests.simulation.checkers import judge
from tests.simulation.history import History, Operation


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Soak:
    """One that has run."""
    soak = Soak(tmp_path_factory.mktemp("soak"), nodes=3, seed=1)
    soak.run(10.0)
    return soak


def test_nodes_that_are_killed_paused_and_cut_off_keep_every_promise(soak: Soak) -> None:
    """How much a run of a few seconds meets depends on the machine; `python -m tests.cluster` insists."""
    assert not soak.report.violations, text(soak.report)
    for name in ("set QUORUM stored", "get QUORUM found", "Unavailable"):
        assert soak.report.counts[name]


def test_a_run_that_meets_too_little_fails(soak: Soak) -> None:
    report = Soak(soak.report.directory, nodes=3, seed=1).report
    report.seconds = soak.report.seconds
    assert report.failed
    assert any("faults" in shortfall for shortfall in report.shortfalls)


def overwritten(history: History) -> tuple[Operation, Operation]:
    """A write that was stored, and the read at the end that shows a later one."""
    key = "r0/hot0"
    about = [op for op in history.operations if op.key == key]
    read = [op for op in about if op.kind == h.GET and op.level is Level.ALL and op.outcome == h.FOUND][-1]
    writes = (op for op in about if op.kind == h.SET and op.strong and op.outcome == h.STORED)
    return next(op for op in writes if op.version < read.version), read


def test_a_read_that_finds_an_old_value_is_found_out(soak: Soak) -> None:
    write, read = overwritten(soak.history)
    truth = read.version, read.value
    read.version, read.value = write.version, write.value
    checks = {violation.check for violation in judge(soak.history)}
    read.version, read.value = truth
    assert "linearizable" in checks
    assert not list(judge(soak.history))


def test_a_value_that_was_changed_on_the_way_is_found_out(soak: Soak) -> None:
    _, read = overwritten(soak.history)
    truth = read.value
    read.value = b"corrupt"
    checks = {violation.check for violation in judge(soak.history)}
    read.value = truth
    assert checks == {"phantoms"}


def test_nodes_that_take_one_replica_for_a_quorum_are_found_out(tmp_path: Path) -> None:
    soak = Soak(tmp_path, nodes=3, seed=2, make=partial(RelayedCluster, program="tests.cluster.credulous"))
    report = soak.run(20.0, round_s=5.0)
    assert {"linearizable", "lost writes", "reads go back"} & {each.check for each in report.violations}
    assert list(tmp_path.glob("*.jsonl")), "the history is kept"
