"""Fence: a write that goes through only for who holds a lock, by its token.

    prepare the row     whoever prepares after this refuses what comes of it
    look at the lock    its row holds this very token, and a session
    accept              directly on what was there

Between the look and the acceptance nobody else can have written: the next holder, whose look comes later, has
prepared later. So once a write of a later token is there none of an earlier one follows, though nothing is
remembered in the row: not what was deleted and purged, not by who writes without a fence.

`remembering` saves the look: the row keeps the lock and the token of the last fenced write. The same token
again needs none, a lower one is refused at once, anything else is looked up: what is remembered is a cache,
and may be lost. Alone it would not do: a token that was never given out would be the greatest for ever, and
what is purged is forgotten.
"""

from typing import TYPE_CHECKING, NamedTuple

from tests.model.events import Steps
from tests.model.leases.register import Answered, Register, Row, ask, read

if TYPE_CHECKING:
    from tests.model.leases.world import World


class Guarded(NamedTuple):
    value: int
    lock: str = ""
    token: int = 0


def write(world: "World", name: str, lock: str, token: int, *, deletes: bool = False) -> Steps[str]:
    """As a coordinator does it, after the client has gone if need be."""
    register = world.register(name)
    early = yield from look_early(world, lock, token)
    for _ in range(3):
        prepared = yield from ask(world, register.prepare)
        if prepared is None:
            continue
        if not early and not (yield from admits(world, prepared.row, lock, token)):
            return "fenced off"
        value = None if deletes else Guarded(world.fresh(), lock, token)
        answered = yield from accept(world, register, prepared, value)
        if answered is None:
            return "unknown"
        if answered.done:
            return "stored"
    return "contended"


def accept(world: "World", register: Register, prepared: Answered, value: object) -> Steps[Answered | None]:
    return (yield from ask(world, lambda: register.accept(prepared.ballot, value)))


def look_early(world: "World", lock: str, token: int) -> Steps[bool]:
    """Before anything is promised: proves nothing."""
    return False
    yield 0


def admits(world: "World", row: Row, lock: str, token: int) -> Steps[bool]:
    known = row.value
    if world.remembering and known is not None and known.lock == lock and known.token >= token:
        world.counts["told by what is remembered"] += 1
        return bool(known.token == token)
    return (yield from look(world, lock, token))


def look(world: "World", lock: str, token: int) -> Steps[bool]:
    found = (yield from read(world, lock)).value
    return found is not None and found.session is not None and found.token == token
