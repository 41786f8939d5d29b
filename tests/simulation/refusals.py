"""Refusals: what must hold of requests that are turned away, where more is offered than can be done.

What a node has shed was never opened; what was refused for certain is on no disk at any moment, be it as a
record or as a hint; and no version was given out for it, for the numbers that a node gives out are all of
writes that somebody was told of, or sent, or that stand on a disk. What was not opened by its deadline is not
opened any more, unless it may be kept for later. And when all is quiet nothing is under way for anybody.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from basestore.cluster.outbox import Outbox
from basestore.protocol.client import Failed, Shed, Written
from basestore.protocol.codec import Message
from basestore.protocol.envelopes import DEFERRABLE, Sealed, Skimmed, seal
from basestore.repair.version import origin_of
from basestore.storage.engine import Batch
from basestore.transport.frames import FrameReader, Shut, nothing
from tests.simulation import history as h
from tests.simulation import stored as s

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

QUIET_S_MAX = 3.0
ASKS_S_MAX = 15.0
SHOWN_MAX = 8
LIES = 1 << 62  # where numbers of operations end
ORIGIN = slice(8, 16)
DATA, HINT = s.DATA[0], s.HINT[0]


class Watched:
    """A frame that says when it is opened. As `Sealed` to who takes it in."""

    __slots__ = (
        "_machine",
        "_opened",
        "_read_s",
        "_refusals",
        "asks",
        "first",
        "kind",
        "sealed",
        "size",
        "timeout_ms",
    )

    def __init__(self, refusals: "Refusals", machine: "Machine", opened: set[int], frame: Sealed) -> None:
        self.first, self.asks, self.timeout_ms, self.kind = frame[:4]
        self.size = frame.size
        self._refusals = refusals
        self._machine = machine
        self._opened = opened
        self.sealed = frame
        self._read_s = machine.instant().monotonic

    def open(self, decoder: Any) -> list[Any]:
        waited_s = self._machine.instant().monotonic - self._read_s
        self._opened.update(range(self.first, self.first + self.asks))
        self._refusals.opened(self._machine, self, waited_s)
        return self.sealed.open(decoder)


class Refusals:
    """Of one world."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._opened: dict[Outbox, set[int]] = {}  # by who asks
        self._on_disk: dict[int, str] = {}  # numbers of operations, and where each was first
        self._origins: dict[int, bytes] = {}  # of the lives that machines have now
        self._numbers: dict[tuple[bytes, bytes], set[int]] = {}  # given out, by origin and partition

    # --- at the door -------------------------------------------------------------------------

    def frames(
        self, machine: "Machine", outbox: Outbox, asked: Sequence[Message], shut: Shut = nothing
    ) -> list[Any]:
        """What a client sends, in the order in which it asked, as frames: such as follow on each other
        together. Of classes that are `shut` what a node keeps of them."""
        return [self.frame(machine, outbox, data, shut) for data in seal(asked)]

    def frame(self, machine: "Machine", outbox: Outbox, data: bytes, shut: Shut = nothing) -> Any:
        """One, as it stands on the wire."""
        opened = self._opened.setdefault(outbox, set())
        reader = FrameReader()
        reader.keep_sealed(shut)
        (sealed,) = reader.feed(data)
        self._world.counts["offered"] += sealed.asks
        if isinstance(sealed, Skimmed):
            self._world.counts["skimmed"] += sealed.asks
            return sealed
        return Watched(self, machine, opened, sealed)

    def opened(self, machine: "Machine", frame: Watched, waited_s: float) -> None:
        """A frame is about to be."""
        self._world.counts["opened"] += frame.asks
        late = frame.timeout_ms and waited_s * 1e3 > frame.timeout_ms
        if late and not frame.kind & DEFERRABLE:
            text = (
                f"n{machine.index + 1} opens a frame after {waited_s:.3f} s, which had {frame.timeout_ms} ms"
            )
            self._world.blame("late frames", text)

    def told(self, machine: "Machine", outbox: Outbox, messages: list[Message]) -> None:
        """A node answers who asks there."""
        opened = self._opened.get(outbox, set())
        for message in messages:
            if isinstance(message, Shed):
                for first, count in zip(message.ranges[::2], message.ranges[1::2], strict=True):
                    self._world.counts["shed unopened"] += count
                    if not opened.isdisjoint(range(first, first + count)):
                        text = f"n{machine.index + 1} has opened what it sheds: {message}"
                        self._world.blame("refusals", text)

    def started(self, machine: "Machine", incarnation: int) -> None:
        """A life begins: its versions are of an origin of their own."""
        self._origins[machine.index] = origin_of(machine.config.member.number, incarnation).to_bytes(8)

    # --- what is left of it ------------------------------------------------------------------

    def written(self, machine: "Machine", batch: Batch) -> None:
        """A batch is about to be applied to a disk."""
        for key, value in batch.items():
            if value is None or key[0] not in (DATA, HINT):
                continue
            hinted = key[0] == HINT
            record = s.hinted_record(value) if hinted else value[: -s.SEQUENCE]
            number = number_of(record)
            if number == LIES:
                text = f"n{machine.index + 1} keeps what a liar has said: {key!r}"
                self._world.blame("envelopes", text)
            elif number >= 0 and number not in self._on_disk:
                self._on_disk[number] = f"as a {'hint' if hinted else 'record'} on n{machine.index + 1}"
            self._see(s.hinted_row(key)[1] if hinted else key[1:], record[: s.VERSION])

    def answered(self, operation: h.Operation, message: Message) -> None:
        """A node names a version."""
        if isinstance(message, Written | Failed) and message.version and operation.writes:
            self._see(self._world.row(operation.bucket, operation.key), message.version)

    def sent(self, row: bytes, record: bytes) -> None:
        """A node sends a record to another."""
        self._see(row, record[: s.VERSION])

    def _see(self, row: bytes, version: bytes) -> None:
        """A version was given out."""
        self._numbers.setdefault((version[ORIGIN], row[:2]), set()).add(int.from_bytes(version[16:]))

    # --- in the end --------------------------------------------------------------------------

    def judge(self) -> None:
        """Nothing is asked any more."""
        for operation in self._world.history.operations:
            if operation.outcome == h.REFUSED and operation.writes:
                where = self._on_disk.get(operation.number)
                if where is not None:
                    self._world.blame("refusals", f"{operation} was refused, and has stood {where}")
        lives = {origin: index for index, origin in self._origins.items()}
        for (origin, partition), numbers in self._numbers.items():
            if origin in lives and len(numbers) != max(numbers):  # what went with a life nobody knows
                gone = sorted(set(range(1, max(numbers))) - numbers)
                text = (
                    f"n{lives[origin] + 1} gave out numbers in {int.from_bytes(partition)} that no write has"
                )
                self._world.blame("refusals", f"{text}: {gone[:SHOWN_MAX]}, of {max(numbers)}")

    def judge_quiet(self) -> None:
        """Nothing is under way at any node, nor waits, nor counts as if it did."""
        world = self._world
        end = world.clockwork.now + ASKS_S_MAX
        while world.clockwork.now < end and world.is_asked():
            world.clockwork.run(world.clockwork.now + 0.25)
        end = world.clockwork.now + QUIET_S_MAX
        while world.clockwork.now < end and any(map(_left, world.machines)):
            world.clockwork.run(world.clockwork.now + 0.25)
        for machine in world.machines:
            left = _left(machine)
            if left:
                world.blame("under way", f"n{machine.index + 1} has nothing to do, and counts {left}")
            if world.plan.requests_max and machine.node is not None:
                world.counts["shed by the intake"] += sum(machine.node.intake.shed)
                world.counts["begun by the intake"] += sum(machine.node.intake.begun)


def _left(machine: "Machine") -> str:
    """What an intake has not settled; empty if that is nothing."""
    if machine.node is None:
        return ""
    intake = machine.node.intake
    if not (any(intake.room.under_way) or intake.waiting or intake.unopened_bytes) and intake.at_rest:
        return ""
    waiting = f"{intake.waiting} waiting, {intake.unopened_bytes} bytes unopened"
    return f"{intake.room.under_way} under way, {waiting}"


def number_of(record: bytes) -> int:
    """Of the operation that wrote a record; -1 if it does not say, LIES if that is nobody's."""
    proposal, at = s.proposal_of(record), s.RECORD_MIN
    if proposal:
        return int.from_bytes(proposal) - 1
    value = record[at:]
    if value == b"lie":
        return LIES
    number, _, _ = value.partition(b".")
    return int(number) if number.isdigit() else -1
