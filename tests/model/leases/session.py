"""Session: a register that its owner renews, by compare, and that anybody may end who has seen it unchanged
for long enough.

    owner     believes in it for 0.75 of the lease from when it *sent* the last renewal that is known to have
              been applied; every renewal has its own identity, so one whose answer was lost is known when a
              later one is refused by it
    others    read it, wait for 1.25 of the lease from when the answer is there, by their own clock, and
              compare what they have read with ENDED

With clocks that differ in rate by a tenth, 0.75 of one is over before 1.25 of another: the renewal was sent
before it was applied, and that before it was read. Nobody looks at the clock of another. ENDED is for ever.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.model.events import Steps
from tests.model.leases.register import NOTHING, Row, ask, read

if TYPE_CHECKING:
    from tests.model.leases.world import Process

LEASE = 100
BELIEVED = 75
OUTLASTED = 125


class Alive(NamedTuple):
    owner: int
    renewals: int


ENDED = "ended"


@dataclass(eq=False)
class Session:
    """At its owner. `since`: from when its last renewal counts, by the owner's clock; `sent`: each
    renewal."""

    process: "Process"
    name: str
    since: int = -1 << 40
    identity: int = NOTHING
    renewals: int = 0
    is_over: bool = False
    sent: dict[int, int] = field(default_factory=dict)
    holds: dict[str, tuple[int, int]] = field(default_factory=dict)  # locks: identity and token

    def believes(self) -> bool:
        return not self.is_over and self.process.clock() < self.since + BELIEVED


def is_ended(row: Row) -> bool:
    """One that is not there is treated alike: names are not used again."""
    return row.value is None or row.value == ENDED


def keep(session: Session) -> Steps[None]:
    """From its beginning until it is lost or left."""
    process = session.process
    while not session.is_over:
        yield from renew(session)
        if session.identity != NOTHING and not session.believes():
            break
        yield process.ticks(LEASE // 3 if session.identity != NOTHING else 5)
    yield from leave(session)


def renew(session: Session) -> Steps[None]:
    world = session.process.world
    identity = world.fresh()
    session.renewals += 1
    session.sent[identity] = sent = session.process.clock()
    value, register = Alive(session.process.number, session.renewals), world.register(session.name)
    answered = yield from ask(world, lambda: register.compare(session.identity, identity, value))
    if answered is None:
        world.counts["a renewal is unknown"] += 1
        unknown(session, sent)
    elif answered.row.value == ENDED:
        session.is_over = True
        world.counts["lost"] += 1
    elif answered.row.identity in session.sent:
        world.counts["a renewal is known later"] += not answered.done
        count(session, answered.row.identity, session.process.clock())


def count(session: Session, identity: int, answered: int) -> None:
    """It is applied. It counts from when it was sent."""
    session.identity = identity
    session.since = max(session.since, session.sent[identity])


def unknown(session: Session, sent: int) -> None:
    """It counts for nothing, until it is known."""


def leave(session: Session) -> Steps[None]:
    """It believes no more, and then says so, if it can."""
    session.is_over = True
    session.holds.clear()
    world = session.process.world
    register, identity = world.register(session.name), world.fresh()
    yield from ask(world, lambda: register.compare(session.identity, identity, ENDED))


def outlast(process: "Process", name: str) -> Steps[bool]:
    """Whether it is ended, by now or by this."""
    world = process.world
    register, identity = world.register(name), world.fresh()
    asked = process.clock()
    seen = yield from read(world, name)
    if is_ended(seen):
        return True
    yield process.ticks(max(0, wait_until(asked, process.clock()) - process.clock()))
    answered = yield from ask(world, lambda: register.compare(expected(register, seen), identity, ENDED))
    world.counts["ended by others"] += answered is not None and answered.done
    return answered is not None and is_ended(answered.row)


def wait_until(asked: int, answered: int) -> int:
    return answered + OUTLASTED


def expected(register: object, seen: Row) -> int:
    return seen.identity
