"""A load of many writers, and the ledger of what each write was told.

Every writer owns its keys and overwrites them, so that a lost write shows as an old value. A write
that was STORED must be found by every later read at QUORUM, or else a write with a greater version
of which the ledger knows that it may have happened: SUPERSEDED, timeouts, broken connections.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

import basestore
from basestore import sync
from basestore.consistency import Level, Outcome
from basestore.errors import BasestoreError, Unreachable
from basestore.repair.version import Version
from basestore.results.receipts import ReadResult, Receipt
from tests.cluster.processes import Cluster, NodeProcess
from tests.cluster.working import Working
from tests.worlds.patience import eventually

KEYS_PER_WRITER = 25
BATCH = 6
TASKS = 6
TIMEOUT_S = 2.0
PAUSE_S = 0.02
VALUE_BYTES_MAX = 1500


@dataclass
class Ledger:
    """What is known of every key. `attempts` are the values that a later read may show; `errors`: how many
    writes have ended with which."""

    acknowledged: dict[bytes, tuple[Version, bytes]] = field(default_factory=dict)
    attempts: dict[bytes, set[bytes]] = field(default_factory=dict)
    stored: int = 0
    indeterminate: int = 0
    refused: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def note(self, key: bytes, value: bytes, result: Receipt | BasestoreError) -> None:
        """One write has ended."""
        if isinstance(result, BasestoreError):
            self.errors[type(result).__name__] += 1
        if isinstance(result, BasestoreError) and result.definite:
            self.refused += 1
            return
        self.attempts.setdefault(key, set()).add(value)
        if isinstance(result, BasestoreError) or result.outcome is not Outcome.STORED:
            self.indeterminate += 1
            return
        assert result.version is not None
        self.stored += 1
        known = self.acknowledged.get(key)
        if known is None or result.version > known[0]:
            self.acknowledged[key] = (result.version, value)

    def complaint(self, key: bytes, result: ReadResult | BasestoreError) -> str:
        """What is wrong with this read of a key, or the empty string."""
        version, value = self.acknowledged[key]
        if isinstance(result, BasestoreError):
            return f"{key!r}: {result}"
        if result.version is None or result.version < version:
            return f"{key!r}: {version} was acknowledged, {result.version} is what is read"
        if result.version == version and result.value != value:
            return f"{key!r}: another value under the acknowledged version"
        if result.value not in self.attempts[key]:
            return f"{key!r}: a value that nobody wrote, or that was refused"
        return ""

    def complaints(self, node: NodeProcess, level: Level) -> list[str]:
        """Read every acknowledged key at one node: what is wrong."""
        keys = sorted(self.acknowledged)
        with node.store(level) as store:
            results = store.get_many(keys)
        found = (self.complaint(key, result) for key, result in zip(keys, results, strict=True))
        return [complaint for complaint in found if complaint]


class Load(Working):
    """Writers in threads, for the length of a `with` block: at every node given, one blocking
    client that sends small batches, and one asynchronous client with several tasks."""

    def __init__(
        self, cluster: Cluster, nodes: Sequence[NodeProcess] = (), *, seed: int, level: Level = Level.QUORUM,
        rest_s: float = 0.0,
    ) -> None:  # fmt: skip
        """`rest_s`: of each writer, between its writes."""
        super().__init__()
        self.ledger = Ledger()
        self._rest_s = rest_s
        self._level = level
        works: list[Callable[[], None]] = []
        for node in nodes or cluster.nodes:
            others = [each.endpoint for each in nodes or cluster.nodes if each is not node]
            endpoints = [node.endpoint, *others]
            for kind, work in (("s", self._write_blocking), ("a", self._write_async)):
                draw = random.Random(f"{seed} {node.name} {kind}")
                works.append(partial(work, endpoints, f"{node.name}{kind}", draw))
        self._begin(works)

    @property
    def stored(self) -> int:
        """Writes acknowledged so far."""
        return self.ledger.stored

    def wait_for(self, writes: int) -> None:
        """Until so many more writes have been acknowledged."""
        goal = self.stored + writes
        eventually(lambda: self.stored >= goal or self._failures, f"{writes} more writes")

    def _items(self, name: str, draw: random.Random) -> Iterator[tuple[bytes, bytes]]:
        number = 0
        while True:
            number += 1
            key = f"{name}/{draw.randrange(KEYS_PER_WRITER)}".encode()
            yield key, f"{name} {number} ".encode() + draw.randbytes(draw.randrange(VALUE_BYTES_MAX))

    def _note(self, key: bytes, value: bytes, result: Receipt | BasestoreError) -> None:
        with self._lock:
            self.ledger.note(key, value, result)

    def _write_blocking(self, endpoints: list[str], name: str, draw: random.Random) -> None:
        items = self._items(name, draw)
        with sync.connect(endpoints, consistency=self._level, timeout=TIMEOUT_S) as store:
            while not self._stop.is_set():
                batch = dict(next(items) for _ in range(BATCH))  # a key once: its writes follow each other
                results = store.set_many(batch.items())
                for (key, value), result in zip(batch.items(), results, strict=True):
                    self._note(key, value, result)
                failed = all(isinstance(result, BasestoreError) for result in results)
                self._stop.wait(max(self._rest_s, PAUSE_S if failed else 0.0))

    def _write_async(self, endpoints: list[str], name: str, draw: random.Random) -> None:
        async def task(store: basestore.Store, number: int) -> None:
            items = self._items(f"{name}{number}", random.Random(f"{draw.random()}"))
            while not self._stop.is_set():
                key, value = next(items)
                try:
                    self._note(key, value, await store.set(key, value))
                    await trio.sleep(self._rest_s)
                except BasestoreError as error:
                    self._note(key, value, error)
                    await trio.sleep(PAUSE_S)

        async def main() -> None:
            while not self._stop.is_set():
                try:
                    async with (
                        basestore.connect(endpoints, consistency=self._level, timeout=TIMEOUT_S) as store,
                        trio.open_nursery() as nursery,
                    ):
                        for number in range(TASKS):
                            nursery.start_soon(task, store, number)
                except Unreachable:
                    await trio.sleep(PAUSE_S)

        trio.run(main)
