"""Closed loop: clients that each have a connection of their own, and one request under way on it.

What a client asks, and what it makes of the answers, is an *operation*: a generator that yields requests as
they go over the wire and is sent their answers. One thread drives all
clients, with blocking sockets of which only those are read that are ready, for it shares the machine with the
servers. It knows no system: what a request looks like is said by a `Wire` (`register_wires.py`).

    read   -> version 7, "a"
    compare 7, write "b" -> lost: version 9, "c"       another client was faster
    compare 9, write "b" -> done                       the operation ends, at its second attempt
"""

import select
import socket
import time
from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from benchmarks.accounting import cpu_ns_of

RECEIVE_BYTES = 64 << 10
DRAIN_S_MAX = 10.0
SILENT_S_MAX = 60.0  # of all clients together: then whoever is asked is taken for dead


class LoopFailed(Exception):
    """A server has ended a connection, or answers nothing any more."""


class Answer(NamedTuple):
    """What a request was told. `lost`: a compare found another version; `version` and `value` are what is
    there now, as far as the answer says; `error`: why nothing else is known. `partition`: of the key, where
    there are such."""

    lost: bool = False
    version: bytes = b""
    value: bytes = b""
    error: str = ""
    partition: int = -1


class Refused(Exception):
    """An answer said that the request has failed."""


Operation = Generator[bytes, Answer, None]


class Wire(Protocol):
    """What one connection says. What it owes the other side besides goes out with the next request."""

    def compare(self, key: bytes, version: bytes, value: bytes) -> bytes:
        """A request to write if the key has this version; none: if it is not there."""

    def read(self, key: bytes) -> bytes:
        """A linearizable read."""

    def heard(self, data: bytes) -> Iterable[Answer]:
        """What has come in; LoopFailed where it makes no sense."""


# --- operations ----------------------------------------------------------------------------------


def asking(request: Callable[[], bytes]) -> Operation:
    """One request, made when it is sent."""
    yield from _answered(request())


def comparing(wire: Wire, key: bytes, held: dict[bytes, Answer], value: bytes) -> Operation:
    """A compare on the version that the write before has returned, on a key that nobody else writes."""
    answer = held[key] = yield from _answered(wire.compare(key, held[key].version, value))
    if answer.lost:
        raise Refused("lost, on a key that nobody else writes")


def contending(wire: Wire, key: bytes, value: bytes) -> Operation:
    """Read, compare, and compare again with what a lost compare was told, until it is not lost."""
    answer = (yield from _answered(wire.read(key)))._replace(lost=True)
    while answer.lost:
        answer = yield from _answered(wire.compare(key, answer.version, value))


def _answered(request: bytes) -> Generator[bytes, Answer, Answer]:
    answer = yield request
    if answer.error:
        raise Refused(answer.error)
    return answer


# --- clients -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Log:
    """What all clients note: when an operation that ended well had begun and ended; how many compares were
    lost; what errors said; and whether nothing more is to be asked, within an operation either."""

    began: "array[int]" = field(default_factory=lambda: array("q"))
    ended: "array[int]" = field(default_factory=lambda: array("q"))
    lost: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    stopped: bool = False


class Client:
    """One connection, and the operations that are put to it one after the other."""

    def __init__(
        self, connection: socket.socket, wire: Wire, operations: Iterator[Operation], log: Log
    ) -> None:
        self.connection, self._wire, self._operations, self._log = connection, wire, operations, log
        self._operation: Operation | None = None
        self._began = 0

    @property
    def idle(self) -> bool:
        return self._operation is None

    def begin(self) -> None:
        """The next operation, if there is one and the log does not say stop."""
        self._operation = None if self._log.stopped else next(self._operations, None)
        if self._operation is not None:
            self._began = time.perf_counter_ns()
            self.connection.sendall(next(self._operation))

    def hear(self) -> None:
        """Something lies there: read it, and go on. LoopFailed."""
        try:
            data = self.connection.recv(RECEIVE_BYTES)
        except OSError as error:
            raise LoopFailed(f"a connection is broken: {error}") from error
        if not data:
            raise LoopFailed("a server has ended a connection")
        for answer in self._wire.heard(data):
            self._go_on(answer)

    def _go_on(self, answer: Answer) -> None:
        if self._operation is None:
            raise LoopFailed("a server answers what it was not asked")
        self._log.lost += answer.lost
        try:
            request = self._operation.send(answer)
            if not self._log.stopped:
                self.connection.sendall(request)
                return
        except StopIteration:
            self._log.began.append(self._began)
            self._log.ended.append(time.perf_counter_ns())
        except Refused as refused:
            self._log.errors[str(refused)] += 1
        self.begin()


@dataclass(frozen=True, slots=True)
class Window:
    """What a measured window showed. Operations are those that ended well within it, latencies theirs;
    `lost`: compares that were, of whatever operation; `errors` by text, of what ended in it or behind it."""

    window_ns: int
    latencies_ns: list[int]
    lost: int
    server_cpu_ns: int
    client_cpu_ns: int
    errors: dict[str, int]

    @property
    def operations(self) -> int:
        return len(self.latencies_ns)


Connected = tuple[socket.socket, Wire, Iterator[Operation]]


def measure(clients: Sequence[Connected], pids: Sequence[int], warm_up_s: float, window_s: float) -> Window:
    """Keep them busy, and measure the window behind the warm-up. Their connections are closed. LoopFailed."""
    with ExitStack() as stack:
        log, loop = Log(), _Loop(stack, clients)
        loop.begin(log)
        loop.turn_for(warm_up_s)
        log.errors.clear()
        lost = log.lost
        begun, servers_ns, own_ns = time.perf_counter_ns(), cpu_ns_of(pids), time.process_time_ns()
        loop.turn_for(window_s)
        ended, servers_ns, own_ns = (
            time.perf_counter_ns(), cpu_ns_of(pids) - servers_ns, time.process_time_ns() - own_ns
        )  # fmt: skip
        lost, log.stopped = log.lost - lost, True
        loop.drain(DRAIN_S_MAX)
    spans = zip(log.began, log.ended, strict=True)
    latencies_ns = [at - since for since, at in spans if begun < at <= ended]
    return Window(ended - begun, latencies_ns, lost, servers_ns, own_ns, dict(log.errors))


def run(clients: Sequence[Connected]) -> Log:
    """Until their operations have come to an end. Their connections are closed. LoopFailed."""
    with ExitStack() as stack:
        log, loop = Log(), _Loop(stack, clients)
        loop.begin(log)
        loop.drain(None)
    return log


class _Loop:
    """All clients, a turn at a time."""

    def __init__(self, stack: ExitStack, clients: Sequence[Connected]) -> None:
        self._connected = clients
        self._clients: dict[int, Client] = {}
        self._poll = select.poll()
        for connection, _, _ in clients:
            stack.enter_context(connection)
            self._poll.register(connection, select.POLLIN)

    def begin(self, log: Log) -> None:
        for connection, wire, operations in self._connected:
            client = self._clients[connection.fileno()] = Client(connection, wire, operations, log)
            client.begin()

    def turn_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0:
            self._turn(left_s)

    def drain(self, seconds: float | None) -> None:
        """Until nothing is under way; LoopFailed if that takes so long, or nobody answers."""
        end = None if seconds is None else time.monotonic() + seconds
        while not all(client.idle for client in self._clients.values()):
            if not self._turn(SILENT_S_MAX) or (end is not None and time.monotonic() > end):
                raise LoopFailed("requests are not answered any more")

    def _turn(self, seconds: float) -> bool:
        """Hear whoever has something to say, for so long at most. Whether anybody had."""
        ready = self._poll.poll(seconds * 1e3)
        for number, _ in ready:
            self._clients[number].hear()
        return bool(ready)
