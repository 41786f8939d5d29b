"""Crash states: where in a recording the power is cut, and what is left then.

Families: `honest`, the disk keeps what it has synced; `lying`, from some moment on it says that it
syncs and does not. A state is named by its family, its cut, the fate of what was not synced and a
seed, so each can be built again.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cbor2

from tests.crashes.filesystem import Fate, FileSystem
from tests.crashes.recording import Kind, Operation, paths_of

HONEST = "honest"
LYING = "lying"
LYING_SHARE = 0.2
LIES_OPERATIONS_MAX = 1500


class State(NamedTuple):
    """One directory that a power cut could leave. `place` says what was going on, `cut` how many
    operations had happened, `lies_from` after how many of these the disk began to lie."""

    family: str
    place: str
    cut: int
    fate: Fate
    lies_from: int
    files: dict[str, bytes]

    @property
    def digest(self) -> bytes:
        """Equal for states that do not differ but in RocksDB's own text log."""
        hashed = hashlib.blake2b(digest_size=16)
        for name, content in self.files.items():
            if not name.startswith("LOG"):
                hashed.update(repr((name, len(content))).encode() + content)
        return hashed.digest()

    def __str__(self) -> str:
        lies = f", lying from {self.lies_from}" if self.family == LYING else ""
        return f"{self.family}, cut {self.place} at {self.cut}{lies}, what was unsynced {self.fate.value}"


def kind_of(name: str) -> str:
    """What a file is for: log, table, manifest, current, options, identity, config, lock, text."""
    if name.endswith(".log"):
        return "log"
    if name.endswith(".sst"):
        return "table"
    if name.endswith(".blob"):
        return "blob"
    if name.startswith("LOG"):
        return "text"
    for prefix in ("MANIFEST", "CURRENT", "OPTIONS", "IDENTITY", "LOCK", "LOST"):
        if name.startswith(prefix):
            return prefix.lower()
    return "temporary" if name.endswith(".dbtmp") else "config"


def places(operations: Sequence[Operation]) -> dict[str, list[int]]:
    """Where a cut is of interest: by what was going on, after how many operations."""
    found: dict[str, list[int]] = {}

    def add(place: str, cut: int) -> None:
        found.setdefault(place, []).append(cut)

    for index, operation in enumerate(operations):
        if operation.kind is Kind.NOTE and cbor2.loads(operation.data)[0] == "acked":
            add("after an acknowledgement", index + 1)
    numbered = [(i, operation) for i, operation in enumerate(operations) if operation.kind is not Kind.NOTE]
    for (index, _), (name, operation) in zip(numbered, paths_of(operations), strict=True):
        kind = kind_of(name)
        if kind == "text" or not name:
            continue
        if operation.kind is Kind.WRITE:
            add(f"after a write to a {kind}", index + 1)
        elif operation.kind is Kind.SYNC_BEGIN and not operation.directory:
            add(f"during the sync of a {kind}", index + 1)
        elif operation.kind is Kind.SYNC_END and not operation.directory:
            add(f"after the sync of a {kind}", index + 1)
        elif operation.kind is Kind.RENAME:
            add(f"after a rename to {kind_of(operation.target)}", index + 1)
        elif operation.kind is Kind.CREATE:
            add(f"after the creation of a {kind}", index + 1)
        elif operation.kind is Kind.UNLINK:
            add(f"after the removal of a {kind}", index + 1)
    found["anywhere"] = list(range(len(operations) + 1))
    return found


def draw(operations: Sequence[Operation], count: int, seed: int) -> Iterator[State]:
    """`count` different states, in the order of their cuts within a round."""
    chance = random.Random(seed)
    table = places(operations)
    seen: set[bytes] = set()
    while len(seen) < count:
        wanted = []
        for _ in range(count - len(seen)):
            place = chance.choice(sorted(table))
            wanted.append((chance.choice(table[place]), place, chance.choice(list(Fate)), chance.random()))
        disk, played = FileSystem(), 0
        for cut, place, fate, share in sorted(wanted, key=lambda one: one[0]):
            disk.play(operations[played:cut])
            played = cut
            state = State(HONEST, place, cut, fate, cut, disk.cut(fate, chance))
            if share < LYING_SHARE:
                state = lying(operations, state, chance)
            if state.digest not in seen:
                seen.add(state.digest)
                yield state


def lying(operations: Sequence[Operation], state: State, chance: random.Random) -> State:
    """The same cut of a disk that had begun to lie some time before."""
    lies_from = max(0, state.cut - chance.randint(1, LIES_OPERATIONS_MAX))
    disk = FileSystem()
    disk.play(operations[:lies_from])
    disk.play(operations[lies_from : state.cut], syncs=False)
    return state._replace(family=LYING, lies_from=lies_from, files=disk.cut(state.fate, chance))
