"""Reopening: how long a node takes to open a store of many records.

A process of its own writes the records to a node's store on RocksDB and ends: by a clean stop, or killed
by SIGKILL, with all that is synced still in the log. Copies of that store are then opened, each by a
fresh process, which says how long it took: RocksDB, which reads its log again, then the `Node` and its
first step, which is durable. The files are in the memory of the machine, for they were just written.

    python -m benchmarks.reopening write DIRECTORY KEYS PARTITIONS stop|kill
    python -m benchmarks.reopening open DIRECTORY KEYS PARTITIONS
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from basestore.config import PARTITIONS_DEFAULT
from basestore.storage.rocks import RocksEngine
from benchmarks.pair import apply_all, close_node, instant, open_node, two_members
from benchmarks.reconciling import Data, batches, share_tables

OPENINGS = 3
BATCH_ROWS = 256
AIM_S = 2.0
LATER_S = 10.0
WRITING_S_MAX = 3600.0

Say = Callable[[str], None]


class ReopeningFailed(Exception):
    """A store could not be written, or was not opened as it was. The text says why."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Seconds, medians: to open the engine, then the node; `total_s` of both."""

    keys: int
    partitions: int
    ended: str
    engine_s: float
    node_s: float
    total_s: float


def measure_reopening(keys: Sequence[int], parent: Path | None, say: Say) -> list[Opening]:
    """Stores of one partition and of as many as usual, stopped and killed. ReopeningFailed."""
    openings = []
    for count in keys:
        for partitions in (1, PARTITIONS_DEFAULT):
            for ended in ("stop", "kill"):
                say(f"{count:,} records in {partitions} partitions, {ended}")
                openings.append(_measure(count, partitions, ended, parent))
    return openings


def _measure(keys: int, partitions: int, ended: str, parent: Path | None) -> Opening:
    with TemporaryDirectory(prefix="basestore-reopen-", dir=parent) as directory:
        written, copy = Path(directory) / "written", Path(directory) / "copy"
        _run("write", written, keys, partitions, ended)
        times = []
        for _ in range(OPENINGS):
            shutil.copytree(written, copy, copy_function=share_tables)
            times.append(json.loads(_run("open", copy, keys, partitions)))
            shutil.rmtree(copy)
    engine_s, node_s = (round(statistics.median(column), 3) for column in zip(*times, strict=True))
    total_s = round(statistics.median(map(sum, times)), 3)
    return Opening(keys, partitions, ended, engine_s, node_s, total_s)


def _run(*words: object) -> str:
    command = [sys.executable, "-m", "benchmarks.reopening", *map(str, words)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=WRITING_S_MAX)
    if ran.returncode not in (0, -signal.SIGKILL):
        raise ReopeningFailed(f"{' '.join(command)} failed: {ran.stderr}")
    return ran.stdout


# --- the processes -------------------------------------------------------------------------------


def write_store(directory: Path, keys: int, partitions: int, ended: str) -> None:
    """Write as many records as a node would, and end in this way."""
    cluster, data = two_members(partitions), Data(partitions)
    node = open_node(cluster, 0, RocksEngine(directory), instant(0.0))
    for places in batches(range(keys), BATCH_ROWS):
        apply_all(node, data.records(places, instant(0.0).wall_ms), instant(0.0))
    if ended == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    close_node(node, instant(0.0))


def open_store(directory: Path, keys: int, partitions: int) -> tuple[float, float]:
    """Seconds to open the engine, and then the node. ReopeningFailed when it does not hold all."""
    cluster, moments = two_members(partitions), [time.perf_counter()]
    engine = RocksEngine(directory)
    moments.append(time.perf_counter())
    node = open_node(cluster, 0, engine, instant(LATER_S))
    moments.append(time.perf_counter())
    if node.summaries.records != keys or node.summaries.damaged:
        raise ReopeningFailed(f"{node.summaries.records:,} of {keys:,} records are counted")
    engine.close()
    return moments[1] - moments[0], moments[2] - moments[1]


def reopening_text(openings: Sequence[Opening]) -> str:
    """A table, and the aim."""
    lines = ["     keys partitions ended   engine s   node s   together s"]
    lines += [
        f"{each.keys:>9,} {each.partitions:>10} {each.ended:<6} {each.engine_s:>9.3f} {each.node_s:>8.3f} "
        f"{each.total_s:>12.3f}"
        for each in openings
    ]
    return "\n".join([*lines, f"to reach: at most {AIM_S:g} s for 1,000,000 records"])


if __name__ == "__main__":
    what, where, count, split, *how = sys.argv[1:]
    if what == "write":
        write_store(Path(where), int(count), int(split), *how)
    else:
        print(json.dumps(open_store(Path(where), int(count), int(split))))
