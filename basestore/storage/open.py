"""Open: which engine a node's store runs on.

The one place that knows them all: a new engine is a file beside this one, a line here, and its name in
`config`. Loads RocksDB only for a node that needs it.
"""

from basestore.config import NodeConfig
from basestore.errors import ConfigurationError
from basestore.storage.engine import Engine
from basestore.storage.memory import MemoryEngine

STORE_FILE = "CURRENT"  # of RocksDB, as long as there is a store


def open_engine(config: NodeConfig) -> Engine:
    """The engine that a node's configuration names; StorageError when it cannot be opened,
    ConfigurationError when it would not see the store that is there."""
    if config.engine == "memory":
        if (config.directory / STORE_FILE).exists():
            raise ConfigurationError(
                f"{config.directory} holds a store, and what it holds would not be seen with durability "
                f"{config.durability}. Set [node] durability back to sync or interval, or name another "
                f"directory"
            )
        return MemoryEngine()
    from basestore.storage.rocks import RocksEngine  # only those who need it load RocksDB

    return RocksEngine(config.directory)


def open_existing(config: NodeConfig) -> Engine:
    """The engine of a store that is there, for work on it while its node does not run; StorageError when it
    cannot be opened, or is in use; ConfigurationError when there is none."""
    if config.engine == "memory":
        raise ConfigurationError("a node without a disk has no store to work on: nothing was done")
    if not (config.directory / STORE_FILE).exists():
        raise ConfigurationError(
            f"there is no store in {config.directory}, so nothing was done: correct [node] directory, or "
            f"name the file of a node that has one"
        )
    return open_engine(config)
