"""In process: three real nodes in one process, and what each layer of theirs takes for a request.

Frames are carried by hand, encoded, between the nodes and a client; the clock moves by hand, and a sync is
done between steps. So what is measured is the nodes: no sockets, no Trio, no threads, no wait for a disk.
Requests come 64 to a frame, to one node, on keys drawn evenly. Time is that of the thread's processor: what
other processes take is not in it, nor what RocksDB's own threads do later.

    python -P benchmarks/in_process.py KEYS DIRECTORY

opens nodes in that directory, writes so many keys, and says so in a JSON line; then it reads orders on stdin,
a JSON line each, and answers each with one:

    ["write", 40]                   40 batches; or "memory" (a write to nodes on memory engines),
                                    "read_quorum", "read_one"
    {"layers": {...}, "all": 36.1}  microseconds a request: by layer, the mean over the quietest quarter of
                                    the batches, ten in a row at a time; and the sum of all layers, the
                                    mean over all of them

It is run by its path and imports nothing of its own package, so that another checkout can be measured with
it (`cost.py`): older ones have other names for what it needs, and lack some fields.
"""

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import basestore
from basestore.config import BUILT_IN, ClusterConfig, Member, NodeConfig
from basestore.node import Node
from basestore.storage.memory import MemoryEngine
from basestore.storage.rocks import RocksEngine

try:
    from basestore.instant import Instant
    from basestore.protocol.client import Get, Set
    from basestore.replica.identity import Fresh
    from basestore.transport.frames import FrameReader, pack
except ImportError:  # a checkout from before there were rooms
    from basestore.messages import Get, Set  # type: ignore[import-not-found, no-redef]
    from basestore.net.frames import FrameReader, pack  # type: ignore[import-not-found, no-redef]
    from basestore.peers import Instant  # type: ignore[import-not-found, no-redef]
    from basestore.standing import Fresh  # type: ignore[import-not-found, no-redef]

try:
    from basestore.protocol.envelopes import Sealed, seal
except ImportError:  # a checkout from before requests stood in envelopes
    try:
        from basestore.transport.frames import pack_requests as seal  # type: ignore[attr-defined, no-redef]
    except ImportError:
        from basestore.net.frames import pack_requests as seal  # type: ignore[no-redef]
    Sealed = None  # type: ignore[assignment, misc]

BATCH = 64
FILL_BATCH = 512
VALUE_BYTES = 100
WALL_MS = 1_760_000_000_000
BATCH_S = 0.002  # by which the clock moves on with each batch
TICK_S = 0.05
FILL_REST_S = 2.0
SPAN = 10  # batches that count together: behind one turn in ten of reads at ONE replicas are compared
QUIETEST = 4
TURNS_MAX = 1000
SEED = 1979
LINKS = ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1))
WRITE, READ = "write", "read"
ONE, QUORUM, ALL = 1, 2, 3
LOST = 2  # the first outcome of a write that is not well
KINDS = {"write": (WRITE, QUORUM), "memory": (WRITE, QUORUM), "read_quorum": (READ, QUORUM),
         "read_one": (READ, ONE)}  # fmt: skip
Durability = Literal["sync", "memory"]


class Three:
    """Three linked nodes and a client of the first. `spent`: nanoseconds by layer."""

    def __init__(self, engines: Sequence[Any], durability: Durability) -> None:
        members = tuple(_member(place) for place in (1, 2, 3))
        cluster = ClusterConfig(bytes(16), bytes(range(32)), members, 3, 64, dict(BUILT_IN))
        self.spent: Counter[str] = Counter()
        self._at_s = 1000.0
        self._tick_s = 0.0
        self._engines, self._waits = engines, durability == "sync"
        self._nodes = [
            self._open(NodeConfig(cluster, member.name, Path("nowhere"), durability), engine)
            for member, engine in zip(members, engines, strict=True)
        ]
        for place, engine in enumerate(engines):
            self._time_inside(_who(place), engine, "apply", "engine, a batch")
        if Sealed is not None:
            for part in ("admit", "settle"):
                self._time_inside(_who(0), self._nodes[0].intake, part, "intake")
        self._outboxes = {(a, b): self._nodes[a].link(b, self.now) for a, b in LINKS}
        self._readers = {way: FrameReader() for way in LINKS}
        self._client = self._nodes[0].open_client()
        self._requests, self._answers = FrameReader(), FrameReader()
        if Sealed is not None:
            self._requests.keep_sealed()
        self._settle()
        while not all(node.linked for node in self._nodes):
            self.pause(TICK_S)

    def _open(self, config: NodeConfig, engine: Any) -> Node:
        drawn = os.urandom(30)
        fresh = Fresh(drawn[:16], drawn[16:24], int.from_bytes(drawn[24:]))
        node = Node(config, engine, fresh, self.now, {})
        barrier = node.step(self.now)
        engine.sync()
        if barrier is not None:
            node.durable(barrier, self.now)
        return node

    def _time_inside(self, who: str, owner: Any, name: str, layer: str) -> None:
        """What a step calls there is a layer of its own, and no part of the step it is in."""
        call = getattr(owner, name)

        def timed(*arguments: Any) -> None:
            begun_ns = time.thread_time_ns()
            try:
                call(*arguments)
            finally:
                taken_ns = time.thread_time_ns() - begun_ns
                self.spent[f"{who}: {layer}"] += taken_ns
                self.spent[f"{who}: step"] -= taken_ns

        setattr(owner, name, timed)

    @property
    def now(self) -> Instant:
        return Instant(WALL_MS + int(self._at_s * 1000), self._at_s)

    def ask(self, requests: Sequence[Any]) -> None:
        """A frame of requests, until each is answered well and nothing moves any more."""
        self._at_s += BATCH_S
        heard: list[Any] = []
        for frame in seal(requests):
            heard += self._timed("requests read", self._requests.feed, frame)
        self._timed("coordinator: requests heard", self._hear, heard)
        answered = self._settle()
        assert answered == len(requests), f"{answered} good answers to {len(requests)} requests"
        if self._at_s >= self._tick_s:
            self._tick_s = self._at_s + TICK_S
            for node in self._nodes:
                self._timed("ticks", node.tick, self.now)
            self._settle()

    def _hear(self, heard: list[Any]) -> None:
        """Frames that are not opened; or, of a checkout from before there was an intake, requests."""
        if Sealed is None:
            refused = self._nodes[0].receive_client(self._client, heard, self.now)
            assert refused is None, f"refused: {refused}"
        else:
            assert self._nodes[0].intake.offer(self._client, heard, self.now), "no room for the requests"

    def pause(self, seconds: float) -> None:
        """Let time pass, and all that is done beside requests."""
        for _ in range(round(seconds / TICK_S)):
            self._at_s += TICK_S
            for node in self._nodes:
                node.tick(self.now)
            self._settle()

    def _timed(self, layer: str, call: Callable[..., Any], *arguments: Any) -> Any:
        begun_ns = time.thread_time_ns()
        result = call(*arguments)
        self.spent[layer] += time.thread_time_ns() - begun_ns
        return result

    def _settle(self) -> int:
        """Steps, syncs and frames until nothing moves. How many requests were answered well."""
        answered = 0
        for _ in range(TURNS_MAX):
            moved = False
            for place in range(3):
                moved |= self._step(place)
            while self._client.messages:
                frame = self._timed("answers encoded", pack, self._client.take())
                answered += sum(map(_done, self._answers.feed(frame)))
            for source, target in LINKS:
                moved |= self._carry(source, target)
            if not moved:
                return answered
        raise AssertionError("the nodes do not come to rest")

    def _step(self, place: int) -> bool:
        node, who = self._nodes[place], _who(place)
        barrier = self._timed(f"{who}: step", node.step, self.now)
        if barrier is not None:
            if self._waits:
                self._engines[place].sync()
            self._timed(f"{who}: after the sync", node.durable, barrier, self.now)
            self._timed(f"{who}: after the sync", node.step, self.now)
        node.ready.clear()
        # Of more than may be under way at once the rest waits for the next step.
        return barrier is not None or (Sealed is not None and node.intake.ready)

    def _carry(self, source: int, target: int) -> bool:
        outbox, back = self._outboxes[source, target], self._outboxes[target, source]
        way = "to replicas" if source == 0 else "to the coordinator" if target == 0 else "between replicas"
        moved = False
        while outbox.messages:
            moved = True
            frame = self._timed(f"{way}: encoded", pack, outbox.take())
            messages = self._timed(f"{way}: decoded", self._readers[source, target].feed, frame)
            refused = self._timed(
                f"{_who(target)}: messages heard", self._nodes[target].receive, source, back, messages,
                self.now,
            )  # fmt: skip
            assert refused is None, f"refused: {refused}"
        return moved


def _member(place: int) -> Member:
    fields = {"number": place, "name": f"n{place}", "address": f"127.0.0.1:{7400 + place}"}
    known = Member.__dataclass_fields__
    return Member(**{name: value for name, value in fields.items() if name in known})  # type: ignore[arg-type]


def _who(place: int) -> str:
    return "replicas" if place else "coordinator"


def _done(answer: Any) -> int:
    """How many requests it answers well: one, or all those that it names. That a write is superseded, by a
    later one in its own frame, is well."""
    if hasattr(answer, "ids"):
        return len(answer.ids)
    return int(getattr(answer, "found", getattr(answer, "outcome", LOST) < LOST))


def requests(kind: str, level: int, numbers: Sequence[int], first: int) -> list[Any]:
    """A frame's worth, fields by their names."""
    make: Any = Set if kind == WRITE else Get
    value = random.Random(first).randbytes(VALUE_BYTES)
    made = []
    for at, number in enumerate(numbers, first):
        fields = {
            "id": at, "bucket": "default", "key": b"key-%08d" % number, "value": value, "level": level,
            "timeout_ms": 5000, "ttl_ms": 0, "floor": b"", "repair": True, "version": b"",
            "identity": at.to_bytes(8),
        }  # fmt: skip
        made.append(make(**{name: fields[name] for name in make._fields if name in fields}))
    return made


class Bench:
    """Nodes that hold `keys` keys, and the requests that are put to them, each under an id of its own."""

    def __init__(self, engines: Sequence[Any], durability: Durability, keys: int) -> None:
        self._three = Three(engines, durability)
        self._keys = keys
        self._drawn = random.Random(SEED)
        self._first = 1
        for begin in range(0, keys, FILL_BATCH):
            self._ask(WRITE, ALL, range(begin, min(begin + FILL_BATCH, keys)))
        self._three.pause(FILL_REST_S)

    def measure(self, kind: str, level: int, batches: int) -> dict[str, Any]:
        """Microseconds a request, as the head of this file says."""
        taken = []
        for _ in range(max(1, batches // SPAN)):
            self._three.spent.clear()
            for _ in range(SPAN):
                self._ask(kind, level, [self._drawn.randrange(self._keys) for _ in range(BATCH)])
            taken.append(dict(self._three.spent))
        taken.sort(key=lambda spent: sum(spent.values()))
        quiet = taken[: max(1, len(taken) // QUIETEST)]
        layers = {layer: sum(spent.get(layer, 0) for spent in quiet) for layer in _layers(quiet)}
        return {
            "layers": {layer: ns / len(quiet) / SPAN / BATCH / 1e3 for layer, ns in layers.items()},
            "all": sum(sum(spent.values()) for spent in taken) / len(taken) / SPAN / BATCH / 1e3,
        }

    def _ask(self, kind: str, level: int, numbers: Sequence[int]) -> None:
        self._three.ask(requests(kind, level, numbers, self._first))
        self._first += len(numbers)


def _layers(taken: Sequence[dict[str, int]]) -> list[str]:
    """Each once, in the order in which they came."""
    return list(dict.fromkeys(layer for spent in taken for layer in spent))


def serve(keys: int, directory: Path) -> None:
    """Carry out orders until stdin ends."""
    begun = time.monotonic()
    engines = [RocksEngine(directory / f"n{number}") for number in (1, 2, 3)]
    durable = Bench(engines, "sync", keys)
    in_memory: Bench | None = None
    _say({"basestore": basestore.__file__, "fill_s": time.monotonic() - begun})
    for line in sys.stdin:
        name, batches = json.loads(line)
        if name == "memory" and in_memory is None:
            in_memory = Bench([MemoryEngine() for _ in range(3)], "memory", keys)
        bench = in_memory if name == "memory" and in_memory is not None else durable
        _say(bench.measure(*KINDS[name], batches))
    for engine in engines:
        engine.close()


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
