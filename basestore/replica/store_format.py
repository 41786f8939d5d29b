"""Store format: the number of the form in which a store keeps its rows, as a fact in the store itself.

It is written with a store's first batch and read before anything else. A store of another number, or one
that has rows and no number, is refused by name: what stands there would be misread. Nothing is converted
here. The number goes up with every change of what a key or a value looks like.
"""

from basestore.config import NodeConfig
from basestore.errors import StorageError
from basestore.replica.group_commit import GroupCommit
from basestore.storage import keyspace

FORMAT = 2
FORMAT_KEY = keyspace.fact("format")
_BYTES = 4


def settle_format(group_commit: GroupCommit, config: NodeConfig) -> bool:
    """Whether the store is new: the number is then staged. StorageError where a store has another, or
    none."""
    engine = group_commit.engine
    stored = engine.get(FORMAT_KEY)
    if stored is not None:
        found = f"has format {int.from_bytes(stored)}"
        if int.from_bytes(stored) == FORMAT:
            return False
    elif next(engine.scan(b"", b"\xff"), None) is None:
        group_commit.stage(FORMAT_KEY, FORMAT.to_bytes(_BYTES))
        return True
    else:
        found = "says no format"
    raise StorageError(
        f"the store in {config.directory} {found}; this version reads format {FORMAT}. Start the version "
        f"that wrote it; or, if the other nodes hold what it held (`basestore status` shows them up), move "
        f"the directory away and start again: the node will recover from them"
    )
