"""Records: what a store holds of keys and of batches. A stamp is a number; no two rows share one. A part has
one too, below those of its rows: the same in each partition, and batches that begin at once share theirs."""

from enum import IntEnum
from typing import NamedTuple

STAMPS = 8  # of a tick: one a node


class Record(NamedTuple):
    """`value` None: a tombstone."""

    stamp: int
    value: int | None


class State(IntEnum):
    """Of a batch at a store, each beats those before it."""

    NONE = 0  # it was not here, and may come
    NEVER = 1  # it is not here, and would not be taken any more
    HELD = 2
    COMMITTED = 3  # its rows are applied here
    DONE = 4  # a tombstone: they are in all partitions, or nowhere


class Batch(NamedTuple):
    """What a partition keeps of a batch: its own rows, and who else has some. `done`: the tombstone's
    stamp."""

    state: State
    stamp: int
    rows: dict[str, int | None]
    partitions: tuple[int, ...]
    done: int = 0


def part_stamp(stamp: int) -> int:
    """Of each part of the batch whose rows have this stamp."""
    return stamp // STAMPS * STAMPS - 1


class Answer(NamedTuple):
    """Of a store about a batch. `batch`: if there is one."""

    state: State
    place: int
    store: int
    stable: int
    batch: Batch | None = None
