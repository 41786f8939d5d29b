"""One recording for all tests of this package, and the process that opens stores."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crashes.campaign import Workplace, quick_directory
from tests.crashes.opener import Opener
from tests.crashes.recording import Operation, Recorder

BURSTS = 100
SEED = 1


@pytest.fixture(scope="session")
def crash_root() -> Iterator[Path]:
    with quick_directory() as place:
        yield Path(place)


@pytest.fixture(scope="session")
def recorded(crash_root: Path) -> tuple[list[Operation], Path]:
    """The operations of a load, and the directory that it left."""
    store = crash_root / "store"
    return Recorder(crash_root).record(store, "tests.crashes.load", SEED, BURSTS), store


@pytest.fixture(scope="session")
def operations(recorded: tuple[list[Operation], Path]) -> list[Operation]:
    return recorded[0]


@pytest.fixture(scope="session")
def workplace(crash_root: Path) -> Iterator[Workplace]:
    with Opener() as opener:
        yield Workplace(crash_root, opener)
