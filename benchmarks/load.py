"""Load: the client process, and the handle by which the measuring program drives it.

`python -m benchmarks.load` reads orders on stdin, a JSON line each, and answers each with a JSON
line: `Preload` writes the keys, `Run` keeps a number of callers busy for a while and gives a
`Measured`. The callers are a closed loop: each waits for its answer before it asks again. Callers
of one process share its connection, as those of an application would, and what they ask at the
same time travels in one frame; with several connections, each leads to a node in turn and the
callers are spread over them. More connections mean smaller batches, so a result means little
without their number. One caller alone has nothing to share: it uses the blocking client, as a script
would. A call of `set_many` or `get_many` is for `batch` keys; what is counted, but for latencies, is keys.

The process accounting of the nodes is read here, at the very marks that begin and end the window.
"""

import gc
import itertools
import json
import random
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

import trio

import basestore
import basestore.sync
from basestore import BasestoreError, Level, Outcome, ReadResult, Receipt, Store
from basestore.sync import SyncStore
from benchmarks.accounting import cpu_ns_of

VALUE_BYTES = 100
VALUES = 1000
KEYS_DEFAULT = 100_000
PRELOAD_BATCH = 512
ERROR_PAUSE_S = 0.01
Result = Receipt | ReadResult | BasestoreError
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Preload:
    """Write every key once, at level ALL."""

    endpoints: Sequence[str]
    keys: int


@dataclass(frozen=True, slots=True)
class Run:
    """Keep `clients` callers busy: first to warm up, then for the measured window. `batch`: keys a call."""

    endpoints: Sequence[str]
    pids: Sequence[int]
    operation: str
    level: str
    clients: int
    connections: int
    batch: int
    keys: int
    seed: int
    warm_up_s: float
    window_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run showed.

    operations    that ended well within the window, superseded ones among them; each key of a batch
    latencies_ns  of every call that was under way in the window and ended well, whenever it
                  ended: one that stalls past the window counts
    server_cpu_ns of all nodes, and `client_cpu_ns` of the load process, within the window
    errors        by kind and text, of operations that ended in the window or later
    """

    window_ns: int
    operations: int
    superseded: int
    latencies_ns: list[int]
    server_cpu_ns: int
    client_cpu_ns: int
    errors: dict[str, int]

    def __add__(self, other: "Measured") -> "Measured":
        """Two windows as one."""
        return Measured(
            self.window_ns + other.window_ns,
            self.operations + other.operations,
            self.superseded + other.superseded,
            self.latencies_ns + other.latencies_ns,
            self.server_cpu_ns + other.server_cpu_ns,
            self.client_cpu_ns + other.client_cpu_ns,
            dict(Counter(self.errors) + Counter(other.errors)),
        )


class LoadFailed(Exception):
    """The load process has ended; what it had to say is on stderr."""


class LoadProcess:
    """A load process for the length of a block: it is killed, by its pid, at the end."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def preload(self, order: Preload) -> float:
        """Seconds that it took."""
        began = time.monotonic()
        self._ask("preload", order)
        return time.monotonic() - began

    def run(self, order: Run) -> Measured:
        return Measured(**self._ask("run", order))

    def _ask(self, name: str, order: Preload | Run) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps([name, asdict(order)]), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise LoadFailed(f"the load process has ended with {self._process.wait()}")
        return json.loads(answer)


# --- in the load process -------------------------------------------------------------------------


def key(number: int) -> bytes:
    return b"key-%08d" % number


def values(seed: int) -> list[bytes]:
    """Values that do not compress."""
    source = random.Random(seed)
    return [source.randbytes(VALUE_BYTES) for _ in range(VALUES)]


async def preload(order: Preload) -> None:
    pool = itertools.cycle(values(0))
    async with basestore.connect(order.endpoints, consistency=Level.ALL, timeout=TIMEOUT_S) as store:
        for start in range(0, order.keys, PRELOAD_BATCH):
            numbers = range(start, min(start + PRELOAD_BATCH, order.keys))
            for outcome in await store.set_many([(key(number), next(pool)) for number in numbers]):
                if isinstance(outcome, BasestoreError):
                    raise outcome


@dataclass(slots=True)
class _Log:
    """What the callers note: when a call began and ended of which something ended well, and for how many
    keys it did; when a write ended that was superseded; and the errors since `errors` was last cleared."""

    spans: "array[int]" = field(default_factory=lambda: array("q"))
    done: "array[int]" = field(default_factory=lambda: array("q"))
    superseded: "array[int]" = field(default_factory=lambda: array("q"))
    errors: Counter[str] = field(default_factory=Counter)
    stopped: bool = False

    def note(self, began: int, ended: int, results: Sequence[Result]) -> bool:
        """A call. Whether any of it ended well, which a read does not that finds no key that was written."""
        done = 0
        for result in results:
            if isinstance(result, BasestoreError):
                self.errors[f"{type(result).__name__}: {result}"] += 1
            elif isinstance(result, ReadResult) and not result.found:
                self.errors["a key that was written was not found"] += 1
            else:
                done += 1
                if isinstance(result, Receipt) and result.outcome is Outcome.SUPERSEDED:
                    self.superseded.append(ended)
        if done:
            self.spans.append(began)
            self.spans.append(ended)
            self.done.append(done)
        return done > 0

    def measured(self, begin: "_Mark", end: "_Mark") -> Measured:
        operations = 0
        latencies_ns = []
        for began, ended, done in zip(self.spans[::2], self.spans[1::2], self.done, strict=True):
            if began < end.at_ns and ended > begin.at_ns:
                latencies_ns.append(ended - began)
                operations += done if ended <= end.at_ns else 0
        return Measured(
            end.at_ns - begin.at_ns,
            operations,
            sum(begin.at_ns < at <= end.at_ns for at in self.superseded),
            latencies_ns,
            end.server_ns - begin.server_ns,
            end.client_ns - begin.client_ns,
            dict(self.errors),
        )


@dataclass(frozen=True, slots=True)
class _Mark:
    """The clocks at one end of the window."""

    at_ns: int
    server_ns: int
    client_ns: int


def _mark(pids: Sequence[int]) -> _Mark:
    return _Mark(time.perf_counter_ns(), cpu_ns_of(pids), time.process_time_ns())


def _operation(store: Store | SyncStore, order: Run, source: random.Random) -> Callable[[], Any]:
    """One call on random keys, to be made again and again."""
    draw, keys, level = source.random, order.keys, Level[order.level.upper()]
    each = range(order.batch)
    if order.operation == "read":
        return lambda: store.get(key(int(draw() * keys)), consistency=level)
    if order.operation == "get_many":
        return lambda: store.get_many([key(int(draw() * keys)) for _ in each], consistency=level)
    pool = itertools.cycle(values(source.getrandbits(32)))
    if order.operation == "set_many":
        return lambda: store.set_many(
            [(key(int(draw() * keys)), next(pool)) for _ in each], consistency=level
        )
    return lambda: store.set(key(int(draw() * keys)), next(pool), consistency=level)


async def _call(log: _Log, operation: Callable[[], Awaitable[Any]]) -> None:
    """One caller, until the log says stop."""
    clock = time.perf_counter_ns
    while not log.stopped:
        began = clock()
        try:
            result = await operation()
        except BasestoreError as error:
            result = error
        if not log.note(began, clock(), result if isinstance(result, list) else (result,)):
            await trio.sleep(ERROR_PAUSE_S)


def run_alone(order: Run) -> Measured:
    """One caller, with the blocking client."""
    log = _Log()
    with basestore.sync.connect(list(order.endpoints), timeout=TIMEOUT_S) as store:
        operation = _operation(store, order, random.Random(order.seed))
        _call_until(time.perf_counter_ns() + int(order.warm_up_s * 1e9), log, operation)
        log = _Log()
        begin = _mark(order.pids)
        _call_until(begin.at_ns + int(order.window_s * 1e9), log, operation)
        return log.measured(begin, _mark(order.pids))


def _call_until(end_ns: int, log: _Log, operation: Callable[[], Any]) -> None:
    clock = time.perf_counter_ns
    while (began := clock()) < end_ns:
        try:
            result = operation()
        except BasestoreError as error:
            result = error
        if not log.note(began, clock(), result if isinstance(result, list) else (result,)):
            time.sleep(ERROR_PAUSE_S)


async def run(order: Run) -> Measured:
    log = _Log()
    source = random.Random(order.seed)
    async with AsyncExitStack() as stack:
        stores = []
        for number in range(min(order.connections, order.clients)):
            first = number % len(order.endpoints)
            endpoints = [*order.endpoints[first:], *order.endpoints[:first]]
            stores.append(await stack.enter_async_context(basestore.connect(endpoints, timeout=TIMEOUT_S)))
        async with trio.open_nursery() as nursery:
            for store, _ in zip(itertools.cycle(stores), range(order.clients), strict=False):
                operation = _operation(store, order, random.Random(source.random()))
                nursery.start_soon(_call, log, operation)
            await trio.sleep(order.warm_up_s)
            log.errors.clear()
            begin = _mark(order.pids)
            await trio.sleep(order.window_s)
            end = _mark(order.pids)
            log.stopped = True
    return log.measured(begin, end)


def main() -> None:
    """Carry out orders until stdin ends."""
    gc.freeze()
    for line in sys.stdin:
        name, fields = json.loads(line)
        if name == "preload":
            trio.run(preload, Preload(**fields))
            answer: Any = None
        else:
            order = Run(**fields)
            answer = asdict(run_alone(order) if order.clients == 1 else trio.run(run, order))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
