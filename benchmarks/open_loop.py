"""Open loop: writes are sent when they are due, whatever has become of earlier ones.

Of a closed loop, whose callers wait for their answers, a node is never asked for more than it does; of the
users of a website it is. So a write here has an *intended* time, and what counts is when its answer comes
after that, not after it was sent: who cannot send is late as well.

The generator shares the machine with the nodes that it measures, so it takes as little as it can: one
process, sockets that never block, frames of WRITES writes that are encoded beforehand. In those only ids and
proposals change, which stand in fixed places; of answers no more is read than what counts. What it takes is
measured all the same. `Counted` says what became of the writes whose intended time lies in the window.

Own clients keep to windows as the product's do (`transport/window.py`), hostile ones send all that is due. A
closed loop is here too, to find the peak: it keeps so many writes under way, as far as its window allows.
"""

import random
import select
import socket
import struct
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import cbor2

from basestore.config import parse_address
from basestore.consistency import Level
from basestore.errors import Overloaded
from basestore.protocol.client import Credit, Failed, Set, Shed, Written
from basestore.protocol.codec import encode
from basestore.protocol.envelopes import WRITE, enveloped
from basestore.protocol.groups import Stored, together
from basestore.protocol.handshake import CLIENT_HELLO, welcomed
from basestore.protocol.registry import FORMS, NUMBERS
from basestore.transport.frames import FrameReader, pack
from basestore.transport.window import WAIT_SHARE, Window
from benchmarks.accounting import cpu_ns_of

WRITES = 4  # of a frame
VALUE_BYTES = 100
POOL_FRAMES = 1024
DEADLINE_S = 0.5
DEADLINE_MS = 500
TICK_S = 0.001
DRAIN_S = 2 * DEADLINE_S
CONNECT_S_MAX = 30.0
RECEIVE_BYTES = 256 << 10
UNSENT_BYTES_MAX = 64 << 10  # encoded before the socket takes them
ID_FIRST = 1 << 40  # so that each id takes nine bytes
_HEAD_BYTES = 12
_LENGTH = struct.Struct(">I")
_IDS = struct.Struct(">" + "BQ" * WRITES)
_ID_BYTE, _PROPOSAL_BYTE = 0x1B, 0x48  # in CBOR: a number of 8 bytes, a string of 8 bytes
_WIDTHS = {number: len(form.types) for number, form in FORMS.items()}
_STORED, _WRITTEN, _FAILED, _SHED, _CREDIT = (
    NUMBERS[each] for each in (Stored, Written, Failed, Shed, Credit)
)


class LoadLost(Exception):
    """No connection to a node, or none that is left."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whoever asks from one address. `per_s`: writes a second, or 0 for a closed loop with so many
    `under_way`; `own`: keeps to windows."""

    source: str
    connections: int
    own: bool
    per_s: float = 0.0
    under_way: int = 0


@dataclass(slots=True)
class Counted:
    """What became of the writes of a tenant.

    due      intended in the window
    good_s   stored within DEADLINE_S of the intended time: after how long
    late     stored after that
    shed     refused, for there was too much to do
    failed   any other error
    unsent   its client held it back for want of room, a tenth of the deadline long; or the socket took
             nothing more until the deadline
    closed   connections that ended meanwhile, each with all that was due on it from then on
    """

    due: int = 0
    good_s: "array[float]" = field(default_factory=lambda: array("d"))
    late: int = 0
    shed: int = 0
    failed: int = 0
    unsent: int = 0
    closed: int = 0

    @property
    def lost(self) -> int:
        """Sent, and never answered."""
        return self.due - len(self.good_s) - self.late - self.shed - self.failed - self.unsent

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(
            self.due + other.due, self.good_s + other.good_s, self.late + other.late, self.shed + other.shed,
            self.failed + other.failed, self.unsent + other.unsent, self.closed + other.closed,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Driven:
    """What a run showed: by tenant; the window as it was, and what nodes and generator used in it."""

    tenants: list[Counted]
    window_s: float
    nodes_cpu_s: float
    generator_cpu_s: float


class Frames:
    """A pool of distinct frames of writes, which are given ids and proposals when they are sent."""

    def __init__(self, level: Level, seed: int) -> None:
        source = random.Random(seed)
        self._parts = [self._made(level, source, number) for number in range(POOL_FRAMES)]
        self._at = 0
        self._proposal = source.getrandbits(62)

    @staticmethod
    def _made(level: Level, source: random.Random, number: int) -> tuple[bytes, bytes, bytes]:
        """A payload, less ids and proposals."""
        proposals = [source.getrandbits(64).to_bytes(8, "big") for _ in range(WRITES)]
        sets = [
            Set(ID_FIRST + at, "default", b"key-%08d" % (number * WRITES + at), source.randbytes(VALUE_BYTES),
                level, DEADLINE_MS, 0, proposal)
            for at, proposal in enumerate(proposals)
        ]  # fmt: skip
        payload = encode(together(sets))
        head, rest = payload.split(_numbered(_ID_BYTE, ID_FIRST))
        middle, tail = rest.split(b"".join(b"\x48" + proposal for proposal in proposals))
        return head, middle, tail

    def frame(self, first: int) -> bytes:
        """The next one, with ids from this one on."""
        head, middle, tail = self._parts[self._at]
        self._at = (self._at + 1) % POOL_FRAMES
        self._proposal += WRITES
        ids, proposals = _numbered(_ID_BYTE, first), _numbered(_PROPOSAL_BYTE, self._proposal)
        return enveloped(b"".join((head, ids, middle, proposals, tail)), first, WRITES, DEADLINE_MS, WRITE)


def _numbered(byte: int, first: int) -> bytes:
    return _IDS.pack(byte, first, byte, first + 1, byte, first + 2, byte, first + 3)


class Lane:
    """One connection of a tenant, at place `place` of so many. `begin` and `end` bound the window, and
    `start` is when the first write of all is due."""

    def __init__(self, tenant: Tenant, place: int, endpoint: str, frames: Frames, counted: Counted) -> None:
        self._frames = frames
        self.counted = counted
        self._window = Window()
        self._windowed = tenant.own or not tenant.per_s
        self._patience_s = DEADLINE_S * (WAIT_SHARE if tenant.own else 1)
        self._interval_s = WRITES * tenant.connections / tenant.per_s if tenant.per_s else 0.0
        self._offset = place / tenant.connections
        self._quota = max(WRITES, tenant.under_way // tenant.connections)
        self._due = 0  # frames that were sent or given up
        self._intended = array("d")  # of the frames that were sent
        self.under_way = 0
        self._unsent = b""
        self._heard = bytearray()
        self.start = self.begin = self.end = 0.0
        self.socket, _ = greeted(endpoint, tenant.source)
        self.socket.setblocking(False)

    # --- sending ---------------------------------------------------------------------------------

    def send(self, now: float) -> None:
        """What is due by now."""
        batch: list[bytes] = []
        room = UNSENT_BYTES_MAX - len(self._unsent)
        while room > 0 and (intended := self._next(now)) is not None:
            frame = self._frames.frame(ID_FIRST + WRITES * len(self._intended))
            self._intended.append(intended)
            self.under_way += WRITES
            self._counts(intended)
            batch.append(frame)
            room -= len(frame)
        if batch or self._unsent:
            self._push(b"".join((self._unsent, *batch)))

    def _next(self, now: float) -> float | None:
        """The intended time of a frame that may be sent, if there is one."""
        full = self._windowed and self.under_way >= self._window.limit
        if not self._interval_s:
            return None if full or self.under_way >= self._quota or now >= self.end else now
        self.give_up(now - self._patience_s)
        intended = self.start + (self._due + self._offset) * self._interval_s
        if full or intended > now or intended >= self.end:
            return None
        self._due += 1
        return intended

    def give_up(self, before: float) -> None:
        """What was due before then, and could not be sent."""
        if not self._interval_s:
            return
        while (at := self.start + (self._due + self._offset) * self._interval_s) < min(before, self.end):
            self._due += 1
            if self._counts(at):
                self.counted.unsent += WRITES

    def _counts(self, intended: float) -> bool:
        """Whether a frame lies in the window; then it is counted as due."""
        if self.begin <= intended < self.end:
            self.counted.due += WRITES
            return True
        return False

    def _push(self, data: bytes) -> None:
        try:
            self._unsent = data[self.socket.send(data) :]
        except BlockingIOError:
            self._unsent = data

    # --- hearing ---------------------------------------------------------------------------------

    def hear(self, now: float) -> None:
        """ConnectionError once the other side has ended it."""
        heard = self._heard
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError
        heard += data
        start = 0
        while len(heard) - start >= _HEAD_BYTES:
            stop = start + _HEAD_BYTES + _LENGTH.unpack_from(heard, start)[0]
            if len(heard) < stop:
                break
            for run in cbor2.loads(bytes(heard[start + _HEAD_BYTES : stop])):
                self._answered(run, now)
            start = stop
        del heard[:start]

    def _answered(self, run: list[Any], now: float) -> None:
        kind = run[0]
        for at in range(1, len(run), _WIDTHS.get(kind) or len(run)):
            if kind == _STORED:
                self._stored(run[at], now)
            elif kind == _WRITTEN:
                self._stored([run[at]], now)
            elif kind == _SHED:
                self._shed(run[at], run[at + 2], now)
            elif kind == _CREDIT:
                self._window.told(run[at])
            elif kind == _FAILED and run[at + 1] == Overloaded.code:
                self._refused(run[at], 1, now)
            elif kind == _FAILED:
                self._ended(1)
                self.counted.failed += self._in_window(run[at])

    def _stored(self, ids: Sequence[int], now: float) -> None:
        counted, begin, end = self.counted, self.begin, self.end
        for each in ids:
            intended = self._intended[(each - ID_FIRST) // WRITES]
            if begin <= intended < end:
                if now - intended <= DEADLINE_S:
                    counted.good_s.append(now - intended)
                else:
                    counted.late += 1
        self._ended(len(ids))

    def _ended(self, count: int) -> None:
        self.under_way -= count
        self._window.answered(count)

    def _shed(self, ranges: Sequence[int], window: int, now: float) -> None:
        self._window.told(window)
        for first, count in zip(ranges[::2], ranges[1::2], strict=True):
            self._refused(first, count, now)

    def _refused(self, first: int, count: int, now: float) -> None:
        self._window.refused(now)
        self.under_way -= count
        if count == 1:
            self.counted.shed += self._in_window(first)
        else:
            for each in range(first, first + count):
                self.counted.shed += self._in_window(each)

    def _in_window(self, each: int) -> bool:
        return self.begin <= self._intended[(each - ID_FIRST) // WRITES] < self.end


def greeted(endpoint: str, source: str) -> tuple[socket.socket, FrameReader]:
    """A connection whose handshake is done, and what reads on behind that; LoadLost."""
    try:
        made = socket.create_connection(parse_address(endpoint), CONNECT_S_MAX, (source, 0))
        made.sendall(pack([CLIENT_HELLO]))
        frames = FrameReader()
        while (said := frames.first(made.recv(RECEIVE_BYTES))) is None:
            pass
        welcomed(said)
    except OSError as error:
        raise LoadLost(f"{endpoint} does not answer {source}: {error}") from error
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made, frames


def drive(
    tenants: Sequence[Tenant], endpoints: Sequence[str], pids: Sequence[int], frames: Frames,
    warm_up_s: float, window_s: float, watch: Callable[[], None] = lambda: None,
) -> Driven:  # fmt: skip
    """Let the tenants ask, each over connections of its own that lead to the endpoints in turn. `watch` is
    called at every tick."""
    counts = [Counted() for _ in tenants]
    with ExitStack() as stack:
        lanes = []
        for tenant, counted in zip(tenants, counts, strict=True):
            for place in range(tenant.connections):
                lane = Lane(tenant, place, endpoints[place % len(endpoints)], frames, counted)
                stack.enter_context(lane.socket)
                lanes.append(lane)
        start = time.monotonic()
        begin, end = start + warm_up_s, start + warm_up_s + window_s
        for lane in lanes:
            lane.start, lane.begin, lane.end = start, begin, end
        round_ = _Round(lanes)
        while time.monotonic() < begin:
            round_.turn(watch)
        before, nodes_ns, own_ns = time.monotonic(), cpu_ns_of(pids), time.process_time_ns()
        while time.monotonic() < end:
            round_.turn(watch)
        after, nodes_ns, own_ns = (
            time.monotonic(), cpu_ns_of(pids) - nodes_ns, time.process_time_ns() - own_ns
        )  # fmt: skip
        while time.monotonic() < end + DRAIN_S and any(lane.under_way for lane in round_.open.values()):
            round_.turn(watch)
        for lane in lanes:
            lane.give_up(end)
    return Driven(counts, after - before, nodes_ns / 1e9, own_ns / 1e9)


class _Round:
    """All lanes that are open, a turn at a time."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.open = {lane.socket.fileno(): lane for lane in lanes}
        self._poll = select.poll()
        for number in self.open:
            self._poll.register(number, select.POLLIN)

    def turn(self, watch: Callable[[], None]) -> None:
        """Sleep for a tick, for what gathers meanwhile costs less; then hear, then send."""
        time.sleep(TICK_S)
        for number, _ in self._poll.poll(0):
            self._guarded(number, self.open[number].hear)
        for number, lane in list(self.open.items()):
            self._guarded(number, lane.send)
        watch()
        if not self.open:
            raise LoadLost("the nodes have ended all connections")

    def _guarded(self, number: int, act: Callable[[float], None]) -> None:
        try:
            act(time.monotonic())
        except ConnectionError:
            self.open.pop(number).counted.closed += 1
            self._poll.unregister(number)
