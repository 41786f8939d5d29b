"""The protocol of leases with one of its rules left out."""

from typing import Any

from tests.model.leases import ephemeral, fence, lock, session
from tests.model.leases.register import Register, Row, ask, read
from tests.model.leases.session import ENDED, Session
from tests.model.leases.world import Process, World
from tests.model.patches import Breakage, Patch, constant, instead


def value(owner: Any, name: str, other: int) -> Patch:
    return Patch(owner, name, lambda _: other)


def from_the_answer(self: Session, identity: int, answered: int) -> None:
    self.identity = identity
    self.since = answered


def counts_unknown(self: Session, sent: int) -> None:
    if self.identity:
        self.since = max(self.since, sent)


def alive_is_renewed(renew: Any) -> Any:
    def made(self: Session) -> Any:
        asked = self.process.clock()
        row = yield from read(self.process.world, self.name)
        if row.identity == self.identity != 0:
            self.since = max(self.since, asked)
        yield from renew(self)

    return made


def revives(register_compare: Any) -> Any:
    """Who renews takes whatever is there."""

    def made(self: Register, expected: int, identity: int, value: Any) -> Any:
        if self.name[0] == "s" and value != ENDED:
            expected = self.row.identity
        return register_compare(self, expected, identity, value)

    return made


def suspended(self: Process) -> int:
    """The clock stands still while the machine is suspended: every tenth of the time."""
    pauses = self.world.now // (10 * session.LEASE) * session.LEASE
    return self.offset + (self.world.now - pauses) * self.rate // 1000


def from_the_question(asked: int, answered: int) -> int:
    return asked + session.OUTLASTED


def whatever_is_there(register: Register, seen: Row) -> int:
    return register.row.identity


def takes_without_ending(self: Session, other: str) -> Any:
    world = self.process.world
    before = yield from read(world, other)
    yield self.process.ticks(session.OUTLASTED)
    after = yield from read(world, other)
    return session.is_ended(after) or before == after


def whoever_holds(row: Row, identity: int) -> int:
    return row.identity


def token_of_its_clock(world: World, seen: Row) -> int:
    """That of the identity under which it was proposed: each process draws from a block of its own."""
    return world.fresh() // 8 + world.random.choice((0, 2))


def is_over_by_silence(self: Session, other: str) -> Any:
    yield self.process.ticks(session.OUTLASTED)
    return True


def looks_before(world: World, name: str, token: int) -> Any:
    """Once, and before anything is promised."""
    return (yield from fence.look(world, name, token))


def looks_at_nothing(world: World, row: Row, name: str, token: int) -> Any:
    yield 0
    return True


def remembers_only(world: World, row: Row, name: str, token: int) -> Any:
    yield 0
    known = row.value
    return known is None or known.lock != name or known.token <= token


def remembers_and_knows(world: World, row: Row, name: str, token: int) -> Any:
    """And whether the token was ever given out."""
    given = token <= world.judge.given[name]
    return given and (yield from remembers_only(world, row, name, token))


def remembers_all(world: World, row: Row, name: str, token: int) -> Any:
    """Likewise, and even what was purged, or written over without a fence."""
    yield 0
    tops = [top for (_, each), top in world.judge.used.items() if each == name]
    return token <= world.judge.given[name] and all(token >= top for top in tops)


def cache_beats_look(world: World, row: Row, name: str, token: int) -> Any:
    known = row.value
    if known is not None and known.token >= token:
        return bool(known.token == token)
    return (yield from fence.look(world, name, token))


def free_is_given(world: World, name: str, token: int) -> Any:
    found = (yield from read(world, name)).value
    return found is not None and found.token >= token


def without_promise(world: World, register: Register, prepared: Any, value: object) -> Any:
    def request() -> Any:
        ballot = register.prepare().ballot
        return register.accept(ballot, value)

    return (yield from ask(world, request))


def lately_alive(is_visible: Any) -> Any:
    """Who was seen alive some time ago is taken for alive."""

    def made(world: World, row: Row) -> Any:
        if world.now - world.seen_alive.get(row.value, -1000) < session.LEASE:
            yield 0
            return True
        alive = yield from is_visible(world, row)
        if alive:
            world.seen_alive[row.value] = world.now
        return alive

    return made


def visible(world: World, row: Row) -> Any:
    yield 0
    return True


BREAKAGES = [
    # Sessions.
    Breakage("a renewal counts from its answer", [instead(session, "count", from_the_answer)]),
    Breakage("a renewal counts whose answer is lost", [instead(session, "unknown", counts_unknown)]),
    Breakage("what is found alive is renewed", [Patch(session, "renew", alive_is_renewed)]),
    Breakage("the owner believes for longer than others wait", [value(session, "BELIEVED", 140)]),
    Breakage("others wait for less than the owner believes", [value(session, "OUTLASTED", 60)]),
    Breakage("others wait from when they asked", [instead(session, "wait_until", from_the_question)]),
    Breakage("a session is ended without a compare", [instead(session, "expected", whatever_is_there)]),
    Breakage("what is ended is renewed", [Patch(Register, "compare", revives)]),
    Breakage("clocks stand still in a pause", [instead(Process, "clock", suspended)]),
    # Locks.
    Breakage("a lock is taken without ending the session", [instead(lock, "is_left", takes_without_ending)]),
    Breakage("a lock is taken after some time", [instead(lock, "is_left", is_over_by_silence)]),
    Breakage("nobody ends the sessions of others", [value(session, "OUTLASTED", 1 << 20)]),
    Breakage("a release names nothing", [instead(lock, "over", whoever_holds)]),
    Breakage("a release deletes the row", [constant(lock, "released", None)]),
    Breakage("the token is that of a clock", [instead(lock, "next_token", token_of_its_clock)]),
    Breakage("an acquisition that is unknown is forgotten", [constant(lock, "forgets", True)]),
    Breakage("who hears too late that it holds a lock goes on", [instead(lock, "leave", lambda _: iter(()))]),
    # Fences.
    Breakage("no fence", [instead(fence, "admits", looks_at_nothing)]),
    Breakage("looks before it prepares", [instead(fence, "look_early", looks_before)]),
    Breakage("accepts without having prepared", [instead(fence, "accept", without_promise)]),
    Breakage("nothing but the row is looked at", [instead(fence, "admits", remembers_only)]),
    Breakage("nothing but the row, and what was given out", [instead(fence, "admits", remembers_and_knows)]),
    Breakage(
        "nothing but the row, and what was given out, and the row forgets nothing",
        [instead(fence, "admits", remembers_all)],
    ),
    Breakage("tokens of different locks are compared", [instead(fence, "admits", cache_beats_look)]),
    Breakage("what was given out once is enough", [instead(fence, "look", free_is_given)]),
    # Ephemeral keys.
    Breakage("a key is shown whatever became of its session", [instead(ephemeral, "is_visible", visible)]),
    Breakage("who was alive lately is taken for alive", [Patch(ephemeral, "is_visible", lately_alive)]),
    Breakage("a key is removed without a compare", [instead(ephemeral, "replaced", whatever_is_there)]),
]
