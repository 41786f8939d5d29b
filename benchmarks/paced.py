"""Paced: a client that asks at a steady rate, whatever becomes of what it has asked before.

So a node that stalls does not slow its client down and thereby hide that it stalls, and the machine
is never loaded to its limits: what is measured is what an application that is not in a hurry sees.
Requests come at random moments (a Poisson process), for a fixed beat could fall in with the beats
of the nodes. They go to the given nodes in turn, all at QUORUM.

The ledger knows the newest version of each key that the client was told of. A read that was begun
after that must show it, or a newer one.
"""

import random
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Protocol

import trio

import basestore
from basestore import BasestoreError, Outcome, Store, Version
from benchmarks.load import TIMEOUT_S, values
from benchmarks.report import percentile_ms

OLDEST = Version(0, 0, 0)


class Ledger:
    """The newest version of each key, as far as one client knows. `went_back` counts the reads that
    were shown an older one, or nothing."""

    def __init__(self) -> None:
        self.versions: dict[bytes, Version] = {}
        self.went_back = 0

    def note(self, key: bytes, version: Version | None) -> None:
        """A quorum holds this version, or a newer one."""
        if version is not None and version > self.versions.get(key, OLDEST):
            self.versions[key] = version

    def judge(self, key: bytes, floor: Version, shown: Version | None) -> None:
        """A read at QUORUM that was begun when `floor` was known was shown this."""
        self.went_back += (shown or OLDEST) < floor
        self.note(key, shown)

    def floor(self, key: bytes) -> Version:
        """What a read that is begun now must show at least."""
        return self.versions.get(key, OLDEST)

    async def write(self, store: Store, key: bytes, value: bytes) -> None:
        """Write at QUORUM, and remember what was acknowledged."""
        receipt = await store.set(key, value)
        if receipt.outcome is Outcome.STORED:
            self.note(key, receipt.version)

    async def read(self, store: Store, key: bytes) -> None:
        """Read at QUORUM, and judge what was shown."""
        floor = self.floor(key)
        self.judge(key, floor, (await store.get(key)).version)


class Notes(Protocol):
    """Where a client notes what became of its requests; moments as `perf_counter_ns` has them."""

    def note(self, began_ns: int, ended_ns: int, *, writes: bool) -> None: ...

    def fail(self, began_ns: int, ended_ns: int, error: BasestoreError) -> None: ...


@dataclass(slots=True)
class Samples:
    """What one or more windows showed: the times of requests that ended well, and the errors."""

    reads_ns: "array[int]" = field(default_factory=lambda: array("q"))
    writes_ns: "array[int]" = field(default_factory=lambda: array("q"))
    errors: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Samples") -> "Samples":
        return Samples(
            self.reads_ns + other.reads_ns, self.writes_ns + other.writes_ns, self.errors + other.errors
        )

    def note(self, began_ns: int, ended_ns: int, *, writes: bool) -> None:
        (self.writes_ns if writes else self.reads_ns).append(ended_ns - began_ns)

    def fail(self, began_ns: int, ended_ns: int, error: BasestoreError) -> None:
        self.errors[f"{type(error).__name__}: {error}"] += 1

    def read_ms(self, share: float) -> float | None:
        return percentile_ms(sorted(self.reads_ns), share)

    def write_ms(self, share: float) -> float | None:
        return percentile_ms(sorted(self.writes_ns), share)

    def any_ms(self, share: float) -> float | None:
        """Of reads and writes together."""
        return percentile_ms(sorted(self.reads_ns + self.writes_ns), share)


def ratio(part: float | None, whole: float | None) -> float | None:
    """Their quotient, if both can be said."""
    return round(part / whole, 2) if part and whole else None


@asynccontextmanager
async def connections(endpoints: Sequence[str]) -> AsyncIterator[list[Store]]:
    """A store on each of these nodes."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(basestore.connect(endpoint, timeout=TIMEOUT_S))
            for endpoint in endpoints
        ]


class PacedClient:
    """Asks `stores` in turn for `keys`, at `rate_per_s`; the share `writes` of it are writes."""

    def __init__(
        self,
        stores: Sequence[Store],
        keys: Sequence[bytes],
        ledger: Ledger,
        rate_per_s: float,
        writes: float,
    ) -> None:
        self.stores = stores
        self._keys = keys
        self.ledger = ledger
        self._rate_per_s = rate_per_s
        self._writes = writes
        self._source = random.Random(len(keys))
        self._values = values(len(keys))

    async def ask_for(self, seconds: float) -> Samples:
        """One window."""
        stop = trio.Event()
        samples = Samples()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.ask_until, stop, samples)
            await trio.sleep(seconds)
            stop.set()
        return samples

    async def ask_until(self, stop: trio.Event, samples: Notes) -> None:
        """Ask until told to stop, and wait for the last answers."""
        due = trio.current_time()
        number = 0
        async with trio.open_nursery() as nursery:
            while not stop.is_set():
                due += self._source.expovariate(self._rate_per_s)
                await trio.sleep_until(due)
                number += 1
                nursery.start_soon(self._ask, self.stores[number % len(self.stores)], samples)

    async def _ask(self, store: Store, samples: Notes) -> None:
        key = self._source.choice(self._keys)
        writes = self._source.random() < self._writes
        began = perf_counter_ns()
        try:
            if writes:
                await self.ledger.write(store, key, self._source.choice(self._values))
            else:
                await self.ledger.read(store, key)
        except BasestoreError as error:
            samples.fail(began, perf_counter_ns(), error)
        else:
            samples.note(began, perf_counter_ns(), writes=writes)
