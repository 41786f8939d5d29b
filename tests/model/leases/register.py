"""Register: rows given as what they are proven to be. A compare names the identity that it replaces; what
leaves for a row may come late, or twice, and its answer never.

A write in two steps, as Paxos has it: who *prepares* is told what is there, and what it then has accepted
follows on that at once, or is refused, for somebody has prepared since.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.model.events import Steps, Wait

if TYPE_CHECKING:
    from tests.model.leases.world import World

PATIENCE = 25
NOTHING = 0  # the identity of what is not there


class Row(NamedTuple):
    identity: int = NOTHING
    value: Any = None


class Answered(NamedTuple):
    """`done`: it is there by this write; `row`: what is there."""

    done: bool
    row: Row
    ballot: int = 0


@dataclass
class Register:
    world: "World"
    name: str
    row: Row = field(default_factory=Row)
    promised: int = 0
    accepted: set[int] = field(default_factory=set)

    def read(self) -> Answered:
        return Answered(False, self.row)

    def compare(self, expected: int, identity: int, value: Any) -> Answered:
        """Once: a register applies no identity twice."""
        if identity in self.accepted:
            return Answered(self.row.identity == identity, self.row)
        if self.row.identity != expected:
            return Answered(False, self.row)
        self.promised = self.world.fresh()
        self.put(identity, value)
        return Answered(True, self.row)

    def prepare(self) -> Answered:
        self.promised = self.world.fresh()
        return Answered(True, self.row, self.promised)

    def accept(self, ballot: int, value: Any) -> Answered:
        if ballot in self.accepted:
            return Answered(True, self.row)
        if ballot != self.promised:
            return Answered(False, self.row)
        self.put(ballot, value)
        return Answered(True, self.row)

    def put(self, identity: int, value: Any) -> None:
        before, self.row = self.row, Row(identity, value)
        self.accepted.add(identity)
        self.world.judge.change(self, before)

    def purge(self) -> None:
        """A deleted row is as one that never was, but for late messages of old."""
        if self.row.value is None:
            self.row = Row()


def ask(world: "World", request: Any) -> Steps[Answered | None]:
    """None: no answer; it may be done, or come to be."""
    wait = Wait()

    def arrive() -> None:
        answered = request()
        world.transmit(lambda: wait.give(answered))

    world.transmit(arrive)
    world.after(PATIENCE, lambda: wait.give(None))
    answered: Answered | None = yield wait
    return answered


def read(world: "World", name: str) -> Steps[Row]:
    """Until it is answered."""
    while True:
        answered = yield from ask(world, world.register(name).read)
        if answered is not None:
            return answered.row
