"""What all tests may use: transcripts, and `--update`, which writes them anew; and the order of the files."""

import fcntl
import gc
import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.worlds.transcripts import Transcribe, transcriber

# How long an example takes says more of the machine than of what is tested.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

TESTS = Path(__file__).parent

# The files that take longest begin first, so that no process is left with one of them at the end.
LONGEST = (
    "simulation/test_mutants.py",
    "simulation/test_worlds.py",
    "cluster/test_members.py",
    "cluster/test_registers.py",
    "basestore/client/test_deadlines.py",
    "cluster/test_demo.py",
    "benchmarks/test_serial_benchmark.py",
    "cluster/test_floods.py",
    "simulation/test_cases.py",
    "basestore/cli/cluster/test_converged.py",
    "cluster/test_topology.py",
    "basestore/cli/running/test_join.py",
    "cluster/test_full_disks.py",
    "model/test_model.py",
    "basestore/test_embedded.py",
    "basestore/drill/test_drills.py",
    "benchmarks/test_moves_benchmark.py",
    "cluster/test_healing.py",
    "crashes/test_flips.py",
    "test_style.py",
)


def pytest_configure() -> None:
    """Commands that tests start must hear Ctrl-C. A process that is started in the background of a script
    ignores it, and so would all that it starts in turn; but a handler is not inherited."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: tests of real processes wait more than they work."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {TESTS / path: rank for rank, path in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Who begins first has the files to itself: where none is cached it takes long to give all their
    assertions their messages, and the other processes then find what it has left."""
    with Path(__file__).open() as turn:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(turn, fcntl.LOCK_SH)
        return (yield)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Ten thousand tests live to the end: what looks for garbage need not look at them again and again."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write the transcripts of conversations anew")


@pytest.fixture
def transcript(request: pytest.FixtureRequest) -> Transcribe:
    """The transcript that this test is held against: see tests/worlds/transcripts.py."""
    name = request.node.originalname.removeprefix("test_")
    file = request.path.parent / "transcripts" / f"{name}.txt"
    return transcriber(file, update=request.config.getoption("--update"))
