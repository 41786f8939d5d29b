"""Open: which engine a node's store runs on.

The one place that knows them all: a new engine is a file beside this one, a line here, and its name in
`config`. Loads RocksDB only for a node that needs it.
"""

from basestore.config import NodeConfig
from basestore.storage.engine import Engine
from basestore.storage.memory import MemoryEngine


def open_engine(config: NodeConfig) -> Engine:
    """The engine that a node's configuration names; StorageError when it cannot be opened."""
    if config.engine == "memory":
        return MemoryEngine()
    from basestore.storage.rocks import RocksEngine  # only those who need it load RocksDB

    return RocksEngine(config.directory)
