"""Register systems: ours and etcd, as `serial` asks them: what there is to ask, and clients that ask it.

Each client has a key of its own, and a connection; or all share one key. A key of ours has a home, the first
of its replicas, which writes it; who asks another node is forwarded. etcd has one leader for all keys. So
clients that are to ask at home connect to the node whose key they were given, or to the leader, and the
others to the next node.

What is written again and again may be cheaper than what was not written lately: rows of the latter kind are
`records` of their own, which are gone through in turn and not begun anew with each window.
"""

import itertools
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from basestore import __version__, sync
from basestore.config import CLOSED_MARGIN_MS
from basestore.server.local_cluster import HOST
from benchmarks.closed_loop import (
    Answer,
    Connected,
    LoopFailed,
    Operation,
    asking,
    comparing,
    contending,
    run,
)
from benchmarks.cluster import NODES, POLL_S, Cluster
from benchmarks.etcd import Etcd
from benchmarks.load import values
from benchmarks.open_loop import LoadLost, greeted
from benchmarks.register_wires import REGISTERS, EtcdWire, LockWire, OurWire

SET_ALONE, SET = "set, QUORUM, alone", "set, QUORUM"
COMPARE, COMPARE_AWAY, COMPARE_OLD = "compare, at home", "compare, elsewhere", "compare, old row"
INCREMENT, GET_SERIAL, GET_QUORUM = "increment, at home", "get, SERIAL", "get, QUORUM"
TXN, TXN_AWAY, RANGE = "txn, at the leader", "txn, elsewhere", "range, at the leader"
ADDS, LOOPS, TXN_LOOPS = "increment", "read, compare", "range, txn"
TRANSACTIONS: Final = {f"transaction, {count} key{'s' * (count > 1)}": count for count in (1, 2, 5)}
RENEWAL = "lease renewal"
OURS_OWN: Final = (
    SET_ALONE, SET, COMPARE, COMPARE_AWAY, COMPARE_OLD, INCREMENT, GET_SERIAL, GET_QUORUM, *TRANSACTIONS,
    RENEWAL,
)  # fmt: skip
ETCDS_OWN: Final = (TXN, TXN_AWAY, RANGE)
KEYS: Final = 300  # to be given to clients: enough for each of them at home
FILL_CLIENTS: Final = 48
READY_S_MAX: Final = 60.0
CONNECT_S_MAX: Final = 10.0
ONE_KEY: Final = frozenset((ADDS, LOOPS, TXN_LOOPS))  # asked of one key by all
SHARED: Final = b"shared-%d"
FIRST: Final = b"0"

Make = Callable[[bytes, bytes], Operation]  # of a key and a value


class RegisterSystem(Protocol):
    """What is measured. `own`: what is asked of keys of one's own; `shared`: of one key by all."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def own(self) -> tuple[str, ...]: ...
    @property
    def shared(self) -> tuple[str, ...]: ...
    @property
    def pids(self) -> list[int]: ...

    def fill(self) -> None:
        """Write each key once. LoopFailed."""

    def clients(self, asked: str, count: int) -> list[Connected]:
        """So many, who ask that without end. LoopFailed."""

    def check(self) -> None:
        """ClusterFailed or CannotMeasure if a process has ended by itself."""


def _dealt(keys: Sequence[bytes], count: int) -> Sequence[bytes]:
    """One each to so many clients; LoopFailed if there are too few."""
    if len(keys) < count:
        raise LoopFailed(f"{len(keys)} keys are too few for {count} clients")
    return keys[:count]


def _endless(make: Make, keys: Iterator[bytes]) -> Iterator[Operation]:
    return map(make, keys, itertools.cycle(values(KEYS)))


def _named(prefix: bytes, count: int) -> list[bytes]:
    return [b"%b-%08d" % (prefix, number) for number in range(count)]


# --- ours ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class OurRegisters:
    """Three nodes. `held`: what keys were answered last; `keys`, `sums`: by the place of the node at which
    they are at home, and `old` likewise, without end; `old_at_s`: when replicas have closed
    themselves to what was in time when that was written."""

    cluster: Cluster
    records: int
    name: str = "basestore"
    version: str = __version__
    own: tuple[str, ...] = OURS_OWN
    shared: tuple[str, ...] = (ADDS, LOOPS)
    held: dict[bytes, Answer] = field(default_factory=dict)
    keys: list[list[bytes]] = field(default_factory=list)
    sums: list[list[bytes]] = field(default_factory=list)
    old: list[Iterator[bytes]] = field(default_factory=list)
    old_at_s: float = 0.0

    @property
    def pids(self) -> list[int]:
        return self.cluster.pids

    def check(self) -> None:
        self.cluster.check()

    def fill(self) -> None:
        """Once there is a bucket for it, and there are acceptors."""
        first, lag_s = self._ready()
        keys, sums = _named(b"key", KEYS), _named(b"sum", KEYS)
        old = _named(b"old", self.records)
        self._write_all([*old, *keys, *sums], OurWire.compare_absent)
        self.old_at_s = time.monotonic() + lag_s
        self._write_all(keys, OurWire.write)

        def at_home(keys: Sequence[bytes]) -> list[list[bytes]]:
            homes: list[list[bytes]] = [[] for _ in range(NODES)]
            for key in keys:
                homes[first[self.held[key].partition]].append(key)
            return homes

        self.keys, self.sums = at_home(keys), at_home(sums)
        self.held |= {b"lock-" + key: Answer() for key in keys}
        self.old = [itertools.cycle(each) for each in at_home(old)]

    def _ready(self) -> tuple[list[int], float]:
        """Once a register is served: the place of the first replica of each partition, and after how many
        seconds replicas close themselves to a write."""
        deadline = time.monotonic() + READY_S_MAX
        with sync.connect(self.cluster.endpoints, timeout=CONNECT_S_MAX) as store:
            while not (any(each.name == REGISTERS for each in store.buckets()) and self._serves()):
                if time.monotonic() > deadline:
                    raise LoopFailed(f"no node has served a register within {READY_S_MAX:g} s")
                self.check()
                time.sleep(POLL_S)
            told = store.topology()
            lag_ms = told.timeout_ms_max + 2 * told.drift_ms_max + CLOSED_MARGIN_MS
            return [int(seats.replicas[0][1:]) - 1 for seats in told.partitions], lag_ms / 1e3

    def _serves(self) -> bool:
        """Whether a compare comes to an end at each node, well or not."""
        served: list[Answer] = []

        def probe(wire: OurWire) -> Operation:
            served.append((yield wire.compare(b"probe", b"", FIRST)))

        run([self._client(place, lambda wire: iter((probe(wire),))) for place in range(NODES)])
        return not any(answer.error for answer in served)

    def _write_all(self, keys: Sequence[bytes], request: Callable[[OurWire, bytes, bytes], bytes]) -> None:
        """What the first of them was answered is remembered."""

        def write(wire: OurWire, key: bytes) -> Operation:
            answer = yield request(wire, key, FIRST if key.startswith(b"sum") else next(pool))
            if answer.error:
                raise LoopFailed(f"a first write has failed: {answer.error}")
            self.held.setdefault(key, answer)

        pool, left = itertools.cycle(values(self.records)), iter(keys)
        run([
            self._client(place % NODES, lambda wire: (write(wire, key) for key in left))
            for place in range(FILL_CLIENTS)
        ])  # fmt: skip

    def clients(self, asked: str, count: int) -> list[Connected]:
        turns = [place % NODES for place in range(count)]
        if asked in self.shared:
            key = SHARED % self.shared.index(asked)
            return [self._asker(place, asked, itertools.repeat(key)) for place in turns]
        if asked == COMPARE_OLD:
            time.sleep(max(0.0, self.old_at_s - time.monotonic()))
            return [self._asker(place, asked, self.old[place]) for place in turns]
        homes = [iter(_dealt(of, turns.count(at))) for at, of in enumerate(self._of(asked))]
        away = asked == COMPARE_AWAY
        return [self._asker((at + away) % NODES, asked, itertools.repeat(next(homes[at]))) for at in turns]

    def _of(self, asked: str) -> list[list[bytes]]:
        return self.sums if asked == INCREMENT else self.keys

    def _asker(self, place: int, asked: str, keys: Iterator[bytes]) -> Connected:
        make = LockWire if asked == RENEWAL else OurWire
        return self._client(place, lambda wire: _endless(self._made(asked, wire), keys), make)

    def _client(
        self, place: int, operations: Callable[[OurWire], Iterator[Operation]], make: type[OurWire] = OurWire
    ) -> Connected:
        try:
            connection, frames = greeted(self.cluster.endpoints[place], HOST)
        except LoadLost as error:
            raise LoopFailed(str(error)) from error
        wire = make(frames)
        return connection, wire, operations(wire)

    def _made(self, asked: str, wire: OurWire) -> Make:
        if asked in TRANSACTIONS:
            others = range(1, TRANSACTIONS[asked])
            return lambda key, value: asking(
                lambda: wire.transact([key, *(b"%b/%d" % (key, other) for other in others)], value)
            )
        made: dict[str, Make] = {
            RENEWAL: lambda key, value: comparing(wire, b"lock-" + key, self.held, value),
            SET_ALONE: lambda key, value: asking(lambda: wire.write_alone(key, value)),
            SET: lambda key, value: asking(lambda: wire.write(key, value)),
            COMPARE: lambda key, value: comparing(wire, key, self.held, value),
            COMPARE_AWAY: lambda key, value: comparing(wire, key, self.held, value),
            COMPARE_OLD: lambda key, value: comparing(wire, key, self.held, value),
            INCREMENT: lambda key, value: asking(lambda: wire.add(key)),
            GET_SERIAL: lambda key, value: asking(lambda: wire.read(key)),
            GET_QUORUM: lambda key, value: asking(lambda: wire.read_quorum(key)),
            ADDS: lambda key, value: asking(lambda: wire.add(key)),
            LOOPS: lambda key, value: contending(wire, key, value),
        }
        return made[asked]


# --- etcd ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class EtcdRegisters:
    """Three members of etcd."""

    etcd: Etcd
    records: int
    version: str
    name: str = "etcd"
    own: tuple[str, ...] = ETCDS_OWN
    shared: tuple[str, ...] = (TXN_LOOPS,)
    held: dict[bytes, Answer] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        return self.etcd.pids

    def check(self) -> None:
        self.etcd.servers.check()

    def fill(self) -> None:
        """As many keys as ours."""
        names = *_named(b"key", KEYS), *_named(b"sum", KEYS), *_named(b"old", self.records)
        self.held = dict.fromkeys(names, Answer())
        left, leader = iter(names), self.etcd.leader()
        run([self._asker(leader, TXN, left) for _ in range(FILL_CLIENTS)])

    def clients(self, asked: str, count: int) -> list[Connected]:
        if asked in self.shared:
            return [self._asker(at % NODES, asked, itertools.repeat(SHARED % 0)) for at in range(count)]
        place = (self.etcd.leader() + (asked == TXN_AWAY)) % NODES
        return [
            self._asker(place, asked, itertools.repeat(key)) for key in _dealt(_named(b"key", KEYS), count)
        ]

    def _asker(self, place: int, asked: str, keys: Iterator[bytes]) -> Connected:
        return self._client(place, lambda wire: _endless(self._made(asked, wire), keys))

    def _client(self, place: int, operations: Callable[[EtcdWire], Iterator[Operation]]) -> Connected:
        address = HOST, self.etcd.servers.ports[place]
        try:
            connection = socket.create_connection(address, CONNECT_S_MAX)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire = EtcdWire(f"{HOST}:{address[1]}")
            connection.sendall(wire.opening())
        except OSError as error:
            raise LoopFailed(f"etcd does not answer: {error}") from error
        return connection, wire, operations(wire)

    def _made(self, asked: str, wire: EtcdWire) -> Make:
        made: dict[str, Make] = {
            TXN: lambda key, value: comparing(wire, key, self.held, value),
            TXN_AWAY: lambda key, value: comparing(wire, key, self.held, value),
            RANGE: lambda key, value: asking(lambda: wire.read(key)),
            TXN_LOOPS: lambda key, value: contending(wire, key, value),
        }
        return made[asked]
