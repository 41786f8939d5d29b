"""Judge: sees all rows, all clocks and who believes what, and says what must never be."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from tests.model.laws import demand
from tests.model.leases.register import Register, Row
from tests.model.leases.session import ENDED, Session

if TYPE_CHECKING:
    from tests.model.leases.world import World


@dataclass
class Shown:
    """An ephemeral key, while it stood there."""

    identity: int
    session: str
    began: float
    ended: float = inf


class Judge:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.counts = world.counts
        self.ended: dict[str, float] = {}  # sessions
        self.given: Counter[str] = Counter()  # the greatest token of a lock
        self.used: Counter[tuple[str, str]] = Counter()  # the greatest token of a lock that wrote in a row
        self.shown: defaultdict[str, list[Shown]] = defaultdict(list)

    def change(self, register: Register, before: Row) -> None:
        kind = {"s": self.change_session, "l": self.change_lock, "g": self.change_guarded}
        kind.get(register.name[0], self.change_ephemeral)(register, before)

    def change_session(self, register: Register, before: Row) -> None:
        if register.row.value == ENDED:
            owner = self.world.sessions[register.name]
            demand(not owner.believes(), "a session is ended in which its owner believes", owner.name)
            self.ended.setdefault(register.name, self.world.now)
        else:
            demand(before.value != ENDED, "a session that was ended is alive", register.name)

    def change_lock(self, register: Register, before: Row) -> None:
        name, lock = register.name, register.row.value
        if before.value is not None and before.value.session is not None:
            holder = self.world.sessions[before.value.session]
            demand(not self.holds(holder, name), "a lock goes from under who holds it", name)
        if lock is not None and lock.session is not None:
            self.counts["acquired"] += 1
            demand(lock.token > self.given[name], "tokens do not grow", name, lock.token)
            self.given[name] = lock.token

    def holds(self, session: Session, name: str) -> bool:
        return name in session.holds and session.believes()

    def hold(self, session: Session, name: str) -> None:
        """It has been told so."""
        both = [each for each in self.world.sessions.values() if self.holds(each, name)]
        demand(both == [session], "two hold a lock", name, len(both))

    def change_guarded(self, register: Register, before: Row) -> None:
        guarded = register.row.value
        if guarded is None or not guarded.lock:
            return
        lock, token = guarded.lock, guarded.token
        demand(token <= self.given[lock], "a token was taken that was never given out", lock, token)
        top = self.used[register.name, lock]
        demand(token >= top, "an earlier holder wrote after a later one", register.name, token, top)
        self.used[register.name, lock] = token
        self.counts["written under a fence"] += 1

    def fenced_off(self, session: Session, lock: str, token: int) -> None:
        holds = session.holds.get(lock, (0, 0))[1] == token and session.believes()
        demand(not holds, "who holds the lock is fenced off", lock, token)
        self.counts["fenced off"] += 1

    def change_ephemeral(self, register: Register, before: Row) -> None:
        shown, after = self.shown[register.name], register.row.value
        if after is None and before.value is not None:
            demand(before.value in self.ended, "a key of a living session is removed", register.name)
        if shown:
            shown[-1].ended = min(shown[-1].ended, self.world.now)
        if after is not None:
            shown.append(Shown(register.row.identity, after, self.world.now))

    def show(self, key: str, row: Row | None, begun: int) -> None:
        """A read that began then was told this."""
        self.counts["shown" if row else "not shown"] += 1
        for each in self.shown[key]:
            ended = min(each.ended, self.ended.get(each.session, inf))
            if row is None:
                there = each.began < begun and ended > self.world.now
                demand(not there, "a key was there all the time, and is not shown", key)
            elif each.identity == row.identity:
                demand(begun <= ended > each.began, "a key of an ended session is shown", key, each.session)
