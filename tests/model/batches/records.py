"""Records: what a store holds of keys and of batches. A stamp is a number; no two writes share one."""

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


class Answer(NamedTuple):
    """Of a store about a batch. `batch`: if there is one."""

    state: State
    place: int
    store: int
    stable: int
    batch: Batch | None = None
