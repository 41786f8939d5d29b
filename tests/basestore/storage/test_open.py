"""Which engine is opened over what a directory holds."""

from dataclasses import replace
from pathlib import Path

import pytest

from basestore.errors import ConfigurationError
from basestore.storage.memory import MemoryEngine
from basestore.storage.open import open_engine
from tests.worlds.configurations import GOOD, read


def test_no_engine_without_a_disk_is_opened_over_a_store(tmp_path: Path) -> None:
    config = replace(read(GOOD), directory=tmp_path / "n1")
    in_memory = replace(config, durability="memory")
    assert isinstance(open_engine(in_memory), MemoryEngine)
    open_engine(config).close()
    before = {path: path.stat() for path in config.directory.iterdir()}
    with pytest.raises(
        ConfigurationError, match=r"n1 holds a store.*durability memory.*back to sync or interval"
    ):
        open_engine(in_memory)
    assert {path: path.stat() for path in config.directory.iterdir()} == before
    open_engine(replace(config, durability="interval")).close()
