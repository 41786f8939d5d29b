"""A load of registers: writers that share few keys, and write down what they were told.

A write whose outcome is not known is repeated as itself, at any node, until it is known, or is said to be
unknown for good. So what happens to nodes meanwhile is no excuse: each write happens once, or not at all.
"""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypedDict

import trio

import basestore
from basestore import sync
from basestore.errors import (
    BasestoreError,
    ConnectionLost,
    OutcomeUnknown,
    RequestFailed,
    Unreachable,
)
from basestore.repair.version import Identity, Version
from basestore.results.receipts import ReadResult, Receipt
from tests.cluster.register_ledger import NOT_MADE, NOTHING, STORED, Ledger, Shown, Write, is_counter
from tests.cluster.working import Working
from tests.worlds.patience import PATIENCE_S, eventually

BUCKET = "cas"
TASKS = 3
BLOCKING = 2
PAUSE_S = 0.02
TIMEOUTS_S = (0.3, 1.5)
READS_SHARE = 0.15
CLAIMS_SHARE = 0.15
CLAIM_WRITES = 12  # tries for one claim, before the next is made
UNKNOWN_MAX = 3  # times in a row that nothing is found of a write: then it may be under way for ever

Answer = Receipt | ReadResult | BasestoreError


class Options(TypedDict, total=False):
    """What a write is asked with."""

    bucket: str
    timeout: float
    repeat: Identity | None
    if_version: Version | str
    if_absent: bool
    if_value: bytes | str


@dataclass(slots=True)
class Request:
    """What to ask. `write`: None for a read."""

    key: str
    begun: float
    timeout: float
    write: Write | None = None
    condition: str = ""
    version: Version | None = None
    repeat: Identity | None = None
    unknown: int = 0  # in a row

    @property
    def options(self) -> Options:
        options: Options = {"bucket": BUCKET, "timeout": self.timeout, "repeat": self.repeat}
        if self.condition == "if_version":
            assert self.version is not None
            options["if_version"] = self.version
        elif self.condition == "if_value":
            assert self.write is not None
            assert self.write.over is not None
            options["if_value"] = self.write.over
        elif self.condition == "if_absent":
            options["if_absent"] = True
        return options


class Claims:
    """Keys that are written once. Each is tried for by many."""

    def __init__(self, prefix: str) -> None:
        self._prefix, self._tries = prefix, 0

    def next(self) -> str:
        self._tries += 1
        return f"claim {self._prefix}{self._tries // CLAIM_WRITES}"


class Writer:
    """One loop, without its IO."""

    def __init__(self, ledger: Ledger, name: str, keys: Sequence[str], claims: Claims, seed: int) -> None:
        self._ledger, self._name, self._keys, self._claims = ledger, name, keys, claims
        self._draw = random.Random(f"{seed} {name}")
        self._number = 0
        self._known: dict[str, tuple[Version | None, bytes]] = {}

    def next(self) -> Request:
        """What to ask now."""
        draw = self._draw
        key = self._claims.next() if draw.random() < CLAIMS_SHARE else draw.choice(self._keys)
        request = Request(key, time.monotonic(), draw.uniform(*TIMEOUTS_S))
        claims, known = key.startswith("claim"), self._known.get(key)
        if not claims and (draw.random() < READS_SHARE or not (is_counter(key) or known)):
            return request
        self._number += 1
        version, over = known or (None, NOTHING)
        value = b"" if is_counter(key) else f"{self._name} {self._number}".encode()
        if not is_counter(key):
            request.condition = (
                draw.choice(("if_version", "if_value")) if over and not claims else "if_absent"
            )
            request.version = version
            over = NOTHING if claims else over
        request.write = Write(self._name, key, value, over, request.begun)
        self._ledger.begin(request.write)
        return request

    def node(self, nodes: int) -> int:
        """Which to ask."""
        return self._draw.randrange(nodes)

    def take(self, request: Request, answer: Answer) -> bool:
        """Whether that is all; if not, it is to be asked again."""
        write, now = request.write, time.monotonic()
        if isinstance(answer, ReadResult):
            self._look(request, answer.version if answer.found else None, answer.value or NOTHING, now)
            return True
        if isinstance(answer, BasestoreError):
            self._ledger.counts[f"{'write' if write else 'read'} {type(answer).__name__}"] += 1
            return write is None or self._fail(request, write, answer, now)
        assert write is not None
        self._ledger.counts[f"{write.key.split()[0]} {answer.outcome.value}"] += 1
        write.ended, write.version = now, answer.version
        if answer:
            write.outcome = STORED
            if is_counter(write.key):
                write.value = answer.value or b""
            self._known[write.key] = (answer.version, write.value)
        else:
            write.outcome, write.lost_to = NOT_MADE, answer.value or NOTHING
            self._look(request, answer.superseded_by, answer.value or NOTHING, now)
        return True

    def _look(self, request: Request, version: Version | None, value: bytes, now: float) -> None:
        self._ledger.show(Shown(request.key, value, version, request.begun, now))
        self._known[request.key] = (version, value)

    def _fail(self, request: Request, write: Write, error: BasestoreError, now: float) -> bool:
        if error.definite and request.repeat is None:
            write.outcome, write.ended = NOT_MADE, now
            return True
        if isinstance(error, RequestFailed) and not error.definite:
            assert error.identity is not None, f"of no identity: {error!r}"
            request.repeat = error.identity
        if isinstance(error, OutcomeUnknown):
            request.unknown += 1
            if error.found is not None or request.unknown >= UNKNOWN_MAX:
                self._ledger.counts["unknown for good"] += 1
                self._known.pop(write.key, None)
                return True
        elif not isinstance(error, Unreachable | ConnectionLost):
            request.unknown = 0
        assert now < request.begun + PATIENCE_S, f"it is never known what became of it: {write}; {error!r}"
        self._ledger.counts["repeated as itself"] += 1
        return False


def ask(store: sync.SyncStore, request: Request) -> Answer:
    """With the blocking client."""
    write = request.write
    try:
        if write is None:
            return store.get(request.key, bucket=BUCKET, timeout=request.timeout)
        if is_counter(write.key):
            options = request.options
            return store.increment(
                write.key, bucket=BUCKET, timeout=options["timeout"], repeat=options["repeat"]
            )
        return store.set(write.key, write.value, **request.options)
    except BasestoreError as error:
        return error


async def ask_async(store: basestore.Store, request: Request) -> Answer:
    """With the asynchronous client."""
    write = request.write
    try:
        if write is None:
            return await store.get(request.key, bucket=BUCKET, timeout=request.timeout)
        if is_counter(write.key):
            return await store.increment(
                write.key, bucket=BUCKET, timeout=request.timeout, repeat=request.repeat
            )
        return await store.set(write.key, write.value, **request.options)
    except BasestoreError as error:
        return error


class RegisterLoad(Working):
    """Writers in threads, for the length of a `with` block, which ends when it is known of every write what
    became of it. Half of them block, half are tasks of an asynchronous client."""

    def __init__(self, endpoints: Sequence[str], keys: Sequence[str], *, seed: int, claims: str = "") -> None:
        """`claims`: how the names begin of what is claimed."""
        super().__init__()
        self.ledger = Ledger()
        self._endpoints = list(endpoints)
        self.stored = 0
        claimed = Claims(claims)

        def writer(name: str) -> Writer:
            return Writer(self.ledger, name, keys, claimed, seed)

        works: list[Callable[[], None]] = [self._blocking(writer(f"s{at}")) for at in range(BLOCKING)]
        works.append(self._asynchronous([writer(f"a{at}") for at in range(TASKS)]))
        self._begin(works)

    def wait_for(self, writes: int) -> None:
        """Until so many more writes have been stored."""
        goal = self.stored + writes
        eventually(lambda: self.stored >= goal or self._failures, f"{writes} more writes")

    def _failed(self) -> None:
        self._stop.set()

    def _next(self, writer: Writer) -> Request:
        with self._lock:
            return writer.next()

    def _take(self, writer: Writer, request: Request, answer: Answer) -> bool:
        """Whether that is all."""
        with self._lock:
            ended = writer.take(request, answer)
            self.stored += ended and is_stored(request)
        return ended

    def _blocking(self, writer: Writer) -> Callable[[], None]:
        def work() -> None:
            with ExitStack() as stack:
                stores = [stack.enter_context(sync.connect(each)) for each in self._endpoints]
                while not self._stop.is_set():
                    request = self._next(writer)
                    while not self._take(writer, request, ask(stores[writer.node(len(stores))], request)):
                        time.sleep(PAUSE_S)
                    self._stop.wait(0.0 if is_stored(request) else PAUSE_S)

        return work

    def _asynchronous(self, writers: Sequence[Writer]) -> Callable[[], None]:
        async def loop(store: basestore.Store, writer: Writer) -> None:
            while not self._stop.is_set():
                request = self._next(writer)
                ended = False
                while not ended:
                    await trio.sleep(PAUSE_S * (request.repeat is not None))
                    ended = self._take(writer, request, await ask_async(store, request))
                await trio.sleep(0.0 if is_stored(request) else PAUSE_S)

        async def main() -> None:
            async with basestore.connect(self._endpoints) as store, trio.open_nursery() as nursery:
                for writer in writers:
                    nursery.start_soon(loop, store, writer)

        return lambda: trio.run(main)


def is_stored(request: Request) -> bool:
    return request.write is not None and request.write.outcome == STORED
