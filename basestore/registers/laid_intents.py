"""Laid intents: which rows of this store hold an intent of a transaction (`repair/intents.py`).

They are settled within moments, by the transaction's coordinator or by who meets them; what stays was left by
a coordinator that has died, on rows that nobody asks for. So that these are found it is stored, in the same
batch, that a row holds one. What it says is a reason to look, no more: the record of the row tells.

Owns that list, in memory and in the store.
"""

from basestore.repair.version import is_intent
from basestore.replica.group_commit import GroupCommit
from basestore.replica.replica import Replica
from basestore.rows import row_bucket
from basestore.storage import keyspace
from basestore.topology.buckets import PARTS


class LaidIntents:
    """Of one store. `rows`: those that were laid longest ago first."""

    def __init__(self, replica: Replica, group_commit: GroupCommit) -> None:
        self._group_commit = group_commit
        self.rows: dict[bytes, None] = {}
        replica.laid = lambda row, blob: self.note(row, is_intent(blob))
        for key, _ in group_commit.scan(*keyspace.intents()):
            if row_bucket(row := keyspace.row_of(key)) != PARTS:  # those of batches are others' (`batches`)
                self.rows[row] = None

    def note(self, row: bytes, lies: bool) -> None:
        """The row holds one from now on, or none."""
        if lies:
            self.rows.pop(row, None)
            self.rows[row] = None
            self._group_commit.stage(keyspace.intent(row), b"")
        elif self.rows.pop(row, self) is None:
            self._group_commit.stage(keyspace.intent(row), None)
