"""Clients: closed loops on the public clients, blocking and asynchronous, that write down what they
were told, in a history such as the simulation's checkers judge.

A `Caller` is one loop without its IO: what to ask next, and what the answer means. All clients live
in this process, so `time.monotonic` is one clock for all. A write that may have happened is
repeated with its version now and then, perhaps at another node: it stays the same operation.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Self, TypedDict

import anyio

import basestore
from basestore import sync
from basestore.consistency import Level, Outcome
from basestore.errors import (
    BasestoreError,
    ConnectionLost,
    InvalidRequest,
    ReadTimeout,
    RequestFailed,
    WriteTimeout,
)
from basestore.repair.version import Identity
from basestore.results.receipts import Item, ReadResult, Receipt
from tests.simulation import history as h
from tests.simulation import workload
from tests.simulation.clockwork import Stream
from tests.simulation.workload import draw

# Not "brief" and "lone": what of their keys is purged meanwhile only the disks can tell.
WORKLOADS = tuple(name for name in workload.WORKLOADS if name not in ("brief", "lone"))
LOOP_S = 0.008  # mean pause between two requests of a loop
BACK_OFF_S = 0.03
REPEATS_MAX = 3
TASKS = 3  # of an asynchronous client
BLOCKING = 2  # blocking clients a node
VALUE_BYTES_MAX = 3000
OUTCOMES = {Outcome.STORED: h.STORED, Outcome.SUPERSEDED: h.SUPERSEDED, Outcome.LOST: h.LOST}

Answer = Receipt | ReadResult | list[Item] | BasestoreError


class WriteOptions(TypedDict):
    """What a write is asked with."""

    bucket: str
    consistency: Level
    timeout: float
    repeat: Identity | None


class ReadOptions(TypedDict):
    """What a read or scan is asked with."""

    bucket: str
    consistency: Level
    timeout: float


def write_options(op: h.Operation) -> WriteOptions:
    identity = Identity.decode(op.identity) if op.identity else None
    return {**read_options(op), "repeat": identity}


def read_options(op: h.Operation) -> ReadOptions:
    return {"bucket": op.bucket, "consistency": op.level, "timeout": op.timeout_ms / 1e3}


def ask(store: sync.SyncStore, op: h.Operation) -> Answer:
    """Carry an operation out with the blocking client."""
    try:
        if op.kind == h.SET:
            return store.set(op.key, op.value, ttl=op.ttl_ms / 1e3 or None, **write_options(op))
        if op.kind == h.DELETE:
            return store.delete(op.key, **write_options(op))
        if op.kind == h.GET:
            return store.get(op.key, **read_options(op))
        return list(store.scan(op.key, limit=op.limit, **read_options(op)))
    except BasestoreError as error:
        return error


async def ask_async(store: basestore.Store, op: h.Operation) -> Answer:
    """Carry an operation out with the asynchronous client."""
    try:
        if op.kind == h.SET:
            return await store.set(op.key, op.value, ttl=op.ttl_ms / 1e3 or None, **write_options(op))
        if op.kind == h.DELETE:
            return await store.delete(op.key, **write_options(op))
        if op.kind == h.GET:
            return await store.get(op.key, **read_options(op))
        return [item async for item in store.scan(op.key, limit=op.limit, **read_options(op))]
    except BasestoreError as error:
        return error


class Recorder:
    """A history that many threads write, and what its operations amount to. Its keys begin with
    `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.history = h.History()
        self.prefix = prefix
        self.counts: Counter[str] = Counter()
        self.violations: list[h.Violation] = []
        self._begun_s = time.monotonic()
        self._lock = threading.Lock()

    @property
    def now_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begun_s

    def begin(self, client: int, kind: str, bucket: str, key: str, level: Level) -> h.Operation:
        """An operation that begins now."""
        with self._lock:
            op = self.history.begin(client, kind, bucket, key, level)
        op.start = self.now_s
        return op

    def end(self, op: h.Operation, outcome: str) -> None:
        """It ends now."""
        op.end = self.now_s
        op.outcome = outcome
        with self._lock:
            self.counts[f"{op.kind} {op.level.name} {outcome}"] += 1

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def take(self, op: h.Operation, answer: Answer) -> bool:
        """Write down an answer. False when it tells the version of a write that may have happened:
        then the caller says whether it is repeated, or has ended."""
        if isinstance(answer, Receipt):
            if answer.version is not None:
                op.version, op.stamped = answer.version.encode(), True
            self.end(op, OUTCOMES[answer.outcome])
        elif isinstance(answer, ReadResult):
            op.found, op.value = answer.found, answer.value or b""
            op.version = b"" if answer.version is None else answer.version.encode()
            op.expires_ms = answer.expires_ms or 0
            self.end(op, h.FOUND)
        elif isinstance(answer, list):
            op.page = [(item.key.decode(), item.value, item.version.encode()) for item in answer]
            op.cursor = answer[-1].key if len(answer) == op.limit else None  # there may be more
            self.end(op, h.FOUND)
        else:
            return self._fail(op, answer)
        return True

    def _fail(self, op: h.Operation, error: BasestoreError) -> bool:
        self.count(type(error).__name__)
        if isinstance(error, InvalidRequest):
            self.violations.append(h.Violation("answers", f"{op}: {error}"))
        if not op.writes:
            self.end(op, h.FAILED)
            return True
        if isinstance(error, RequestFailed) and error.version is not None:
            op.version, op.stamped = error.version.encode(), True
            op.identity = error.identity.encode() if error.identity else b""
            return False
        if error.definite or isinstance(error, ReadTimeout):  # a first write that failed while it read
            self.end(op, h.TIMEOUT if op.stamped else h.REFUSED)
            return True
        op.stamped = True
        self.end(op, h.GONE if isinstance(error, ConnectionLost) else h.FAILED)
        return True


class Caller:
    """One loop: draws operations, has them recorded. `home`: the node it asks; it moves about."""

    def __init__(
        self, recorder: Recorder, seed: int, number: int, home: int, nodes: int, *, roams: bool
    ) -> None:
        self.home = home
        self._recorder = recorder
        self._stream = Stream(seed, f"client {recorder.prefix}{number}")
        self._number = number
        self._nodes = nodes
        self._roams = roams
        self._workload = WORKLOADS[number] if number < len(WORKLOADS) else self._stream.pick(WORKLOADS)
        self._all_levels = self._stream.chance(0.3)

    def next(self) -> h.Operation:
        """What to ask now."""
        stream, recorder = self._stream, self._recorder
        request = draw(stream, self._workload, self._all_levels, recorder.now_s)
        key = recorder.prefix + request.key
        op = recorder.begin(self._number, request.kind, request.bucket, key, request.level)
        op.timeout_ms = 150 + stream.below(1050)
        op.ttl_ms = request.ttl_ms
        if op.kind == h.SET:
            size = stream.below(VALUE_BYTES_MAX) if stream.chance(0.1) else 0
            op.value = b"%d.%s" % (op.number, b"x" * size)
        elif op.kind == h.SCAN:
            op.limit = 3 + stream.below(20)
        return op

    def take(self, op: h.Operation, answer: Answer) -> bool:
        """Whether the operation has ended; if not, it is to be asked again."""
        if self._roams and (self._stream.chance(0.1) or isinstance(answer, BasestoreError)):
            self.home = self._stream.below(self._nodes)
        if self._recorder.take(op, answer):
            return True
        if op.attempts <= REPEATS_MAX and self._stream.chance(0.6):
            self._recorder.count("repeated with its version")
            return False
        self._recorder.end(op, h.TIMEOUT if isinstance(answer, WriteTimeout) else h.FAILED)
        return True

    def pause_s(self, op: h.Operation) -> float:
        """How long to wait after that."""
        turned_away = op.outcome in (h.REFUSED, h.FAILED, h.GONE)
        return self._stream.exponential(BACK_OFF_S if turned_away else LOOP_S)


class Clients:
    """All clients of a cluster, in threads, for the length of a `with` block."""

    def __init__(self, recorder: Recorder, doors: Sequence[str], seed: int) -> None:
        self._recorder = recorder
        self._doors = doors
        self._seed = seed
        self._stopping = threading.Event()
        self._callers = 0
        works: list[Callable[[], None]] = []
        for node in range(len(doors)):
            works += [self._blocking(node) for _ in range(BLOCKING)]
            works.append(self._asynchronous(node, "trio" if node % 2 else "asyncio"))
        self._threads = ThreadPoolExecutor(len(works), "client")
        self._works = works
        self._futures: list[Future[None]] = []

    def __enter__(self) -> Self:
        self._futures = [self._threads.submit(work) for work in self._works]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._threads.shutdown()
        if error is None:
            for future in self._futures:
                future.result()

    def _caller(self, home: int, *, roams: bool) -> Caller:
        self._callers += 1
        return Caller(self._recorder, self._seed, self._callers - 1, home, len(self._doors), roams=roams)

    def _blocking(self, node: int) -> Callable[[], None]:
        caller = self._caller(node, roams=True)

        def work() -> None:
            with ExitStack() as stack:
                stores = [stack.enter_context(sync.connect(door)) for door in self._doors]
                while not self._stopping.is_set():
                    op = caller.next()
                    ended = False
                    while not ended:
                        op.node = caller.home
                        op.attempts += 1
                        ended = caller.take(op, ask(stores[caller.home], op))
                    self._stopping.wait(caller.pause_s(op))

        return work

    def _asynchronous(self, node: int, backend: str) -> Callable[[], None]:
        """Several callers share a connection, to whichever node answers first."""
        callers = [self._caller(node, roams=False) for _ in range(TASKS)]
        endpoints = [*self._doors[node:], *self._doors[:node]]

        async def loop(store: basestore.Store, caller: Caller) -> None:
            while not self._stopping.is_set():
                op = caller.next()
                ended = False
                while not ended:
                    op.node = caller.home
                    op.attempts += 1
                    ended = caller.take(op, await ask_async(store, op))
                await anyio.sleep(caller.pause_s(op))

        async def work() -> None:
            while not self._stopping.is_set():
                try:
                    async with basestore.connect(endpoints) as store, anyio.create_task_group() as tasks:
                        for caller in callers:
                            tasks.start_soon(loop, store, caller)
                except basestore.Unreachable:
                    await anyio.sleep(BACK_OFF_S)

        return lambda: anyio.run(work, backend=backend)
