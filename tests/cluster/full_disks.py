"""Nodes on small disks that fill up at the same pace, for test_full_disks. Prints what came of it.

    python -m tests.cluster.full_disks DIRECTORY NODES DISK_MIB RESERVE_MIB

Without a reserve it shows what RocksDB makes of a disk that has no room left at all.
"""

import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread

from basestore.errors import BasestoreError, Overloaded, RequestFailed
from basestore.storage.rocks_full import room_at
from tests.cluster.processes import Cluster, NodeProcess
from tests.worlds.patience import eventually
from tests.worlds.small_disk import grow, mount

VALUE_BYTES = 60_000
REFUSALS = 20
LOOK_S = 0.005
WRITES_MAX = 3000

# This node's own disk is at its reserve, or at its end before it was looked at; or those of others are.
SHORT = ("is nearly full", "is full", "the disks of some are full")


FULL, AGAIN = "the disk has no room: ", "the disk is there again"


def _value(number: int) -> bytes:
    return random.Random(number).randbytes(VALUE_BYTES)  # no disk makes less of it


def _fill(
    cluster: Cluster, stored: dict[str, bytes], kind: type[RequestFailed]
) -> tuple[Counter[str], list[str]]:
    """Write until many writes in a row are refused for want of room; a node looks at its disk now
    and then, and until it knows what its peers have seen, one of them may refuse what it took. The kinds of
    refusals, and what the last ones said."""
    kinds: Counter[str] = Counter()
    texts: list[str] = []
    said = ""
    with cluster.nodes[0].store() as store:
        for number in range(WRITES_MAX):
            try:
                store.set(f"k{number}", _value(number))
                stored[f"k{number}"] = _value(number)
                texts = []
            except RequestFailed as error:
                kinds[type(error).__name__] += 1
                said = str(error)
                so = isinstance(error, kind) and any(word in said for word in SHORT)
                texts = [*texts, said] if so else []
            if len(texts) == REFUSALS:
                return kinds, texts
    raise AssertionError(f"no {REFUSALS} writes in a row are refused with {SHORT}: {kinds}; at last {said}")


@contextmanager
def _lowest(directory: Path) -> Iterator[list[int]]:
    """The least room that there was for a moment, once the block has ended."""
    seen, ended = [room_at(directory).free], Event()

    def look() -> None:
        while not ended.wait(LOOK_S):
            seen[0] = min(seen[0], room_at(directory).free)

    looking = Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        ended.set()
        looking.join()


def _lost(node: NodeProcess, stored: dict[str, bytes]) -> list[str]:
    with node.store() as store:
        return [key for key, value in stored.items() if store.get(key).value != value]


def _takes(node: NodeProcess) -> bool:
    try:
        with node.store("all") as store:
            store.set("after", b"v")
    except BasestoreError:
        return False
    return True


def _tells(node: NodeProcess, words: str) -> bool:
    return words in node.log


def _telling(cluster: Cluster, words: str) -> NodeProcess:
    """The first node whose log says so."""
    eventually(lambda: any(_tells(node, words) for node in cluster), f"a node tells {words!r}")
    return next(node for node in cluster if _tells(node, words))


def main(root: Path, nodes: int, disk: int, reserve: int) -> dict[str, object]:
    stored: dict[str, bytes] = {}
    with Cluster(root, nodes) as cluster:
        for node in cluster:
            mount(node.directory, f"{disk}m")
            node.configure(replace(node.config, disk_reserve_bytes=reserve << 20))
        cluster.start()
        with _lowest(cluster.nodes[0].directory) as lowest:
            kinds, texts = _fill(cluster, stored, Overloaded if reserve else RequestFailed)
        full = None if reserve else _telling(cluster, FULL)
        running = [node.running for node in cluster]
        lost_when_full = [_lost(node, stored) for node in cluster]
        if reserve:
            for node in cluster:
                node.stop()
            cluster.start()  # there is room for that
        for node in cluster:
            grow(node.directory, f"{8 * disk}m")
        for node in cluster:
            eventually(partial(_takes, node), f"{node.name} takes writes again")
        if full is not None:
            eventually(partial(_tells, full, AGAIN), f"{full.name} tells that there is room again")
        return {
            "stored": len(stored), "lowest": lowest[0], "kinds": kinds, "texts": texts, "running": running,
            "lost when full": lost_when_full, "lost": [_lost(node, stored) for node in cluster],
            "logs": [node.log for node in cluster],
        }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *map(int, sys.argv[2:]))))
