"""What all tests may use: transcripts, and `--update`, which writes them anew; and the order of the files."""

import gc
import os
import signal
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
    "simulation/test_worlds.py",
    "cluster/test_healing.py",
    "basestore/cli/cluster/test_converged.py",
    "test_style.py",
    "simulation/test_models.py",
    "cluster/test_lost_stores.py",
    "cluster/test_registers.py",
    "cluster/test_soak.py",
    "cluster/test_floods.py",
    "simulation/test_verdicts.py",
    "simulation/test_mutants.py",
    "cluster/test_demo.py",
    "cluster/test_interval_durability.py",
    "cluster/test_namespaces.py",
    "basestore/cli/running/test_up.py",
    "benchmarks/test_serial_benchmark.py",
    "benchmarks/test_handoff_benchmark.py",
    "benchmarks/test_repair_benchmark.py",
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
