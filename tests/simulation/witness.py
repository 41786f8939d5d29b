"""Witness: what can only be judged on the spot, with the disks in view.

A receipt's word on a replica is held against that replica's disk: applied means that its disk holds
the record, or a better one, durably, at the moment the receipt leaves; hinted, that the coordinator's
disk holds the hint, or the replica the record. And no node answers after the deadline it was given.
"""

from collections import Counter
from typing import TYPE_CHECKING

from basestore.consistency import ReplicaState
from basestore.messages import Message, Written
from basestore.placement import row_partition
from basestore.storage.engine import DATA, HINT
from repair.rule import Rule
from repair.version import VERSION_BYTES
from tests.simulation.history import Operation

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import World

SLACK_S = 0.16
APPLIED, SUPERSEDED, HINTED = ReplicaState.APPLIED, ReplicaState.SUPERSEDED, ReplicaState.HINTED


class Witness:
    """Judges every answer as it leaves its node."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._asked: dict[int, tuple[float, int]] = {}
        self.counts: Counter[str] = world.counts

    def asked(self, machine: "Machine", operation: Operation) -> None:
        """A node has taken up a request."""
        self._asked[operation.requests[-1] << 20 | operation.number] = (
            self._world.clockwork.now, machine.pauses
        )  # fmt: skip

    def answered(self, machine: "Machine", operation: Operation, message: Message) -> None:
        """A node answers."""
        request: int = message.id  # type: ignore[union-attr]
        asked = self._asked.pop(request << 20 | operation.number, None)
        if asked is not None and asked[1] == machine.pauses:
            late = self._world.clockwork.now - asked[0] - operation.timeout_ms / 1e3
            if late > SLACK_S:
                self._world.blame("deadlines", f"{operation} was answered {late:.3f} s after its deadline")
        if isinstance(message, Written) and self._world.history.sync and message.replicas:
            self._judge(machine, operation, message)

    def _judge(self, machine: "Machine", operation: Operation, written: Written) -> None:
        world = self._world
        row = world.placement.row(operation.bucket.encode(), operation.key.encode())
        rule = world.rules[operation.bucket]
        if tuple(written.replicas[::2]) != world.placement.replicas[row_partition(row)]:
            world.blame("receipts", f"{operation}: the receipt names the wrong replicas")
        counted = 0
        for replica, state in zip(written.replicas[::2], written.replicas[1::2], strict=True):
            counted += state == APPLIED
            holder = world.machines[replica]
            if holder.impaired:
                continue
            held = holder.disk.durable(DATA + row)
            if state == APPLIED and not self._holds(rule, held, written.version):
                world.blame("receipts", f"{operation}: n{replica + 1} has not applied it: {_short(held)}")
            elif state == SUPERSEDED and not self._holds(rule, held, written.version):
                world.blame("receipts", f"{operation}: n{replica + 1} holds nothing better: {_short(held)}")
            elif state == HINTED and not machine.impaired:
                name = world.names[replica].encode()
                hint = machine.disk.durable(HINT + len(name).to_bytes(2) + name + row)
                kept = None if hint is None else hint[1:]
                if not self._holds(rule, kept, written.version) and not self._holds(
                    rule, held, written.version
                ):
                    world.blame("receipts", f"{operation}: no hint for n{replica + 1} is durable")
        if counted != written.acknowledged:
            world.blame("receipts", f"{operation}: {written.acknowledged} acknowledged, {counted} named")

    @staticmethod
    def _holds(rule: Rule, blob: bytes | None, version: bytes) -> bool:
        """Whether a record is that version or beats it."""
        if blob is None:
            return False
        held = blob[:VERSION_BYTES]
        return held == version or rule.beats(held, version)


def _short(blob: bytes | None) -> str:
    return "nothing" if blob is None else blob[:VERSION_BYTES].hex("-", 8)
