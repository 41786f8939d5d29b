"""Ephemeral: keys that are there only as long as their session.

A read looks at the key, and then at its session: alive then, it was so when the key was read. The other way
round it might tell of a key that came late, and was never to be seen. Whoever meets one of an ENDED session
removes it, by compare: another may have taken its place.
"""

from typing import TYPE_CHECKING

from tests.model.events import Steps
from tests.model.leases.register import Row, ask
from tests.model.leases.register import read as read_row
from tests.model.leases.session import Session, is_ended

if TYPE_CHECKING:
    from tests.model.leases.world import World


def write(session: Session, key: str) -> Steps[None]:
    world = session.process.world
    register = world.register(key)
    prepared = yield from ask(world, register.prepare)
    if prepared is not None and session.believes():
        yield from ask(world, lambda: register.accept(prepared.ballot, session.name))


def read(world: "World", key: str) -> Steps[str | None]:
    begun = world.now
    row = yield from read_row(world, key)
    shown = None
    if row.value is not None:
        if (yield from is_visible(world, row)):
            shown = row.value
        else:
            yield from remove(world, key, row)
    world.judge.show(key, row if shown else None, begun)
    return shown


def is_visible(world: "World", row: Row) -> Steps[bool]:
    return not is_ended((yield from read_row(world, row.value)))


def remove(world: "World", key: str, row: Row) -> Steps[None]:
    register, fresh = world.register(key), world.fresh()
    answered = yield from ask(world, lambda: register.compare(replaced(register, row), fresh, None))
    world.counts["removed"] += answered is not None and answered.done


def replaced(register: object, row: Row) -> int:
    return row.identity
