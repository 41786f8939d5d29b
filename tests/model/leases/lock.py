"""Lock: a register that names a session and a token; taken where it is free, or its session is ENDED.

The *token* is one more than the one before. Who releases a lock leaves the token there: the row is not
deleted, so tokens grow with every holder, whoever's clock and whichever message was late. An acquisition
whose answer is lost is looked after until it is known, or the session goes: else a lock may be held by a
session that lives on and does not know.
"""

from typing import TYPE_CHECKING, NamedTuple

from tests.model.events import Steps
from tests.model.leases.register import Row, ask, read
from tests.model.leases.session import Session, leave, outlast

if TYPE_CHECKING:
    from tests.model.leases.world import World

TRIES_MAX = 6


class Lock(NamedTuple):
    session: str | None
    token: int


def acquire(session: Session, name: str) -> Steps[bool]:
    world = session.process.world
    for _ in range(TRIES_MAX):
        if not session.believes():
            return False
        row = yield from read(world, name)
        free = row.value is None or row.value.session is None
        if not free and not (yield from is_left(session, row.value.session)):
            continue
        if (yield from take(session, name, row)):
            return True
    return False


def is_left(session: Session, other: str) -> Steps[bool]:
    return (yield from outlast(session.process, other))


def take(session: Session, name: str, seen: Row) -> Steps[bool]:
    """Whether it is held, for sure, and the session is believed in."""
    world = session.process.world
    register, identity = world.register(name), world.fresh()
    lock = Lock(session.name, next_token(world, seen))
    while not session.is_over:
        answered = yield from ask(world, lambda: register.compare(seen.identity, identity, lock))
        if answered is not None:
            if answered.done:
                yield from enter(session, name, identity, lock.token)
            return answered.done and session.believes()
        world.counts["an acquisition is unknown"] += 1
        if forgets(session):
            return False
    return False


def enter(session: Session, name: str, identity: int, token: int) -> Steps[None]:
    """It is held. Who does not believe in its session any more when it hears that leaves it: else the lock
    may stay with one that is renewed after all."""
    if not session.believes():
        yield from leave(session)
        return
    session.holds[name] = identity, token
    session.process.world.judge.hold(session, name)


def next_token(world: "World", seen: Row) -> int:
    return 1 if seen.value is None else seen.value.token + 1


def forgets(session: Session) -> bool:
    return False


def release(session: Session, name: str) -> Steps[None]:
    """It is not held from here on; whoever has lost it changes nothing. Until it is known: else the lock may
    stay with a session that lives on."""
    world = session.process.world
    identity, token = session.holds.pop(name)
    register, fresh = world.register(name), world.fresh()
    while not session.is_over:
        held = over(register.row, identity)
        answered = yield from ask(world, lambda: register.compare(held, fresh, released(token)))  # noqa: B023
        if answered is not None:
            world.counts["released"] += answered.done
            world.counts["released what was lost"] += not answered.done
            return


def over(row: Row, identity: int) -> int:
    """What a release replaces: its own acquisition."""
    return identity


def released(token: int) -> Lock | None:
    return Lock(None, token)
