"""The RocksDB engine on a disk that fills up and is made larger, for test_full_disks. Prints what came of it.

python -m tests.worlds.filled_store DIRECTORY MEMTABLE_BYTES
"""

import json
import random
import sys
from contextlib import suppress
from pathlib import Path

from basestore.errors import StorageBusy, StorageError, StorageFull
from basestore.storage import rocks
from basestore.storage.engine import Engine
from basestore.storage.rocks import RocksEngine
from tests.worlds.patience import eventually
from tests.worlds.small_disk import grow, mount

ROW_BYTES = 20_000
REFUSALS = 30


def _row(number: int) -> dict[bytes, bytes | None]:
    return {b"p%06d" % number: random.Random(number).randbytes(ROW_BYTES)}


def _takes(engine: Engine, number: int) -> bool:
    """Whether a row is taken, or refused for lack of room. A mere stall is waited for."""
    taken: list[bool] = []

    def offer() -> bool:
        try:
            engine.apply(_row(number))
        except StorageFull:
            taken.append(False)
        except StorageBusy:
            return False
        else:
            taken.append(True)
        return True

    eventually(offer, "the store stalls no more")
    engine.sync()
    return taken[0]


def _held(engine: Engine) -> int:
    """How many rows there are; each must hold what was stored."""
    rows = list(engine.scan(b"p", b"q"))
    assert all(_row(number) == {key: value} for number, (key, value) in enumerate(rows))
    return len(rows)


def _opening(directory: Path) -> str:
    """What is said of an opening."""
    try:
        RocksEngine(directory).close()
    except StorageError as error:
        return str(error)
    return ""


def _fill(disk: Path) -> Path:
    """Somebody else's file takes all that is left."""
    other = disk / "other"
    with suppress(OSError), other.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return other


def main(disk: Path, memtable_bytes: int) -> dict[str, object]:
    rocks.MEMTABLE_BYTES = rocks.MEMTABLE_BYTES_MIN = memtable_bytes
    mount(disk, "12m")
    store = disk / "store"
    engine = RocksEngine(store)
    taken = 0
    while _takes(engine, taken):
        taken += 1
    refused = sum(not _takes(engine, taken) for _ in range(REFUSALS))
    held_when_full = _held(engine)
    grow(disk, "100m")
    eventually(lambda: _takes(engine, taken), "there is room again")
    more = taken + 1
    other = _fill(disk)
    while _takes(engine, more):
        more += 1
    engine.close()
    opening = _opening(store)
    other.unlink()
    engine = RocksEngine(store)
    report = {
        "taken": taken, "refused": refused, "held when full": held_when_full, "opening": opening,
        "more": more, "loss": engine.loss, "held": _held(engine),
    }  # fmt: skip
    engine.close()
    return report


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
