"""Forward: stores of earlier forms become what this version reads, at their first opening.

    OLD_DATA + row                        records from before there were summaries: each gets its place in one
    OLD_LEAF + partition * 4096 + leaf    sums of leaves, before there was a summary log: each node gets a row

(Summaries without `floor` and `spilled` are read by `Summary.decode`.) Both go batch by batch, each of
which leaves a store that can be opened; so a crash meanwhile leaves the rest for the next opening.
"""

from itertools import groupby, islice

from basestore.errors import StorageBusy, StorageError
from basestore.replica.group_commit import GroupCommit
from basestore.replica.summaries import Summaries, due_of_stored
from basestore.storage.engine import DATA, NODE, OLD_DATA, OLD_LEAF, Batch, Engine
from repair.digest_tree import FANOUT, LEAVES, NODES, encode_node
from repair.version import HEAD_BYTES, RECORD_BYTES_MIN

_ROWS = 2000
_NODES = 100
_BUSY = "the store is too busy to be brought forward; start the node again"


def bring_leaves_forward(engine: Engine) -> int:
    """Before summaries are opened: rows of leaves become rows of nodes. Nobody waits for it and it changes
    nothing that is said of the store, so it does not go through the group commit. Returns how many nodes
    there were."""
    brought, cursor = 0, OLD_LEAF
    while batch := _leaves(engine, cursor):
        try:
            engine.apply(batch)
        except StorageBusy as busy:
            raise StorageError(_BUSY) from busy
        brought += sum(value is not None for value in batch.values())
        cursor = max(key for key in batch if key.startswith(OLD_LEAF)) + b"\0"
    return brought


def _leaves(engine: Engine, cursor: bytes) -> Batch:
    """The next nodes that are stored leaf by leaf, each whole."""
    stored = engine.scan(cursor, bytes((OLD_LEAF[0] + 1,)))
    sums = ((int.from_bytes(key[len(OLD_LEAF) :]), key, total) for key, total in stored)
    batch: dict[bytes, bytes | None] = {}
    for number, below in islice(groupby(sums, lambda each: each[0] // FANOUT), _NODES):
        leaves: dict[int, int] = {}
        for leaf, key, total in below:
            leaves[leaf % LEAVES] = int.from_bytes(total)
            batch[key] = None
        partition, node = divmod(number, NODES)
        batch[NODE + partition.to_bytes(2) + bytes((node,))] = encode_node(leaves, node)
    return batch


def bring_forward(group_commit: GroupCommit, summaries: Summaries) -> int:
    """Give the records of a store from before there were summaries their place in one, batch by batch;
    a crash meanwhile leaves the rest for the next opening. Returns how many there were."""
    engine = group_commit.engine
    brought, cursor, end = 0, OLD_DATA, bytes((OLD_DATA[0] + 1,))
    while rows := list(islice(engine.scan(cursor, end), _ROWS)):
        cursor = rows[-1][0] + b"\0"
        for key, blob in rows:
            row = key[len(OLD_DATA) :]
            if int.from_bytes(row[:2]) not in summaries.of:
                continue
            brought += 1
            group_commit.stage(key, None)
            if len(blob) < RECORD_BYTES_MIN:  # damaged: it will be found so, and healed
                group_commit.stage(DATA + row, blob)
                continue
            sequence = summaries.enter(row, blob[:HEAD_BYTES], b"", due_of_stored(blob), 0)
            group_commit.stage(DATA + row, blob + sequence)
        summaries.checkpoint(_nothing)
        summaries.write()
        staged, before = bool(group_commit.rows), group_commit.sequence
        group_commit.commit()
        if staged and group_commit.sequence == before:
            raise StorageError(_BUSY)
        engine.sync()
        group_commit.durable(group_commit.sequence)
    return brought


def _nothing(partition: int) -> int:
    """Nothing is proven yet to be held by others."""
    return 0
