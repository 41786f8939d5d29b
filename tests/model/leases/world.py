"""A world of processes with clocks of their own, which pause between any two steps; one seed is one
history."""

from collections import Counter
from typing import Any

from tests.model.events import Events, Steps, Task
from tests.model.laws import Violation, demand
from tests.model.leases import ephemeral, fence
from tests.model.leases.judge import Judge
from tests.model.leases.lock import acquire, release
from tests.model.leases.register import Register
from tests.model.leases.session import LEASE, Session, keep

PROCESSES = 4
LENGTH = 20 * LEASE
RATE = 50  # thousandths that a clock may be fast or slow
LOCKS = ("l0", "l1")
GUARDED = ("g0", "g1")
EPHEMERAL = ("e0", "e1")


class Process:
    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.rate = 1000 + world.random.randint(-RATE, RATE)
        self.offset = world.random.randrange(100_000)
        self.tasks: list[Task] = []
        self.is_dead = False

    def clock(self) -> int:
        """Monotonic; it goes on in a pause."""
        return self.offset + self.world.now * self.rate // 1000

    def ticks(self, by_clock: int) -> int:
        return -(-by_clock * 1000 // self.rate)

    def start(self, steps: Steps[Any]) -> None:
        self.tasks.append(self.world.start(steps, lambda _: None))

    def begin(self) -> Session:
        session = self.world.new_session(self)
        self.start(keep(session))
        return session

    def die(self) -> None:
        self.world.counts["died"] += 1
        self.is_dead = True
        for task in self.tasks:
            task.end()


class World(Events):
    def __init__(self, seed: int, counts: Counter[str]) -> None:
        super().__init__(f"leases {seed}", counts)
        self.number = 0
        self.identities = 0
        self.registers: dict[str, Register] = {}
        self.sessions: dict[str, Session] = {}
        self.judge = Judge(self)
        self.is_over = False
        self.seen_alive: dict[str, int] = {}  # of a breakage
        self.remembering = self.chance(0.5)
        self.losing, self.doubling, self.late = self.random.choice(((1, 2, 2), (5, 6, 8), (10, 10, 20)))
        self.stalling = self.random.choice((0, 0.01, 0.04))
        self.processes = [Process(self, number) for number in range(PROCESSES)]

    def fresh(self) -> int:
        self.identities += 1
        return self.identities

    def register(self, name: str) -> Register:
        return self.registers.setdefault(name, Register(self, name))

    def new_session(self, process: Process) -> Session:
        name = f"s{len(self.sessions)}"
        self.sessions[name] = Session(process, name)
        return self.sessions[name]

    def run(self) -> None:
        for process in self.processes:
            process.start(self.live(process))
            if self.chance(0.4):
                self.after(self.random.randint(2 * LEASE, LENGTH), process.die)
        self.after(20, self.purge)
        self.drain(self.now + LENGTH)
        self.is_over = True
        self.calm()

    def purge(self) -> None:
        for name in GUARDED + EPHEMERAL:
            if self.chance(0.3):
                self.register(name).purge()
        if not self.is_over:
            self.after(self.random.randint(10, 40), self.purge)

    # What processes do.

    def live(self, process: Process) -> Steps[None]:
        while not self.is_over:
            session = process.begin()
            while not session.is_over and not self.is_over:
                yield self.random.randint(1, 30)
                if session.believes():
                    yield from self.random.choice((self.work, self.work, self.show, self.cheat))(session)

    def work(self, session: Session) -> Steps[None]:
        lock = self.random.choice(LOCKS)
        if not (yield from acquire(session, lock)):
            return
        token = session.holds[lock][1] if lock in session.holds else 0
        for _ in range(self.random.randint(1, 4)):
            yield self.random.choice((1, 5, 40))
            if session.believes():
                yield from self.write(session, lock, token)
        if lock in session.holds:
            yield from release(session, lock)

    def write(self, session: Session, lock: str, token: int) -> Steps[None]:
        """It believes, and may pause before the write comes to anything, or give it up, or be gone; its
        coordinator goes on by itself."""
        name, done = self.random.choice(GUARDED), []

        def then(outcome: str) -> None:
            done.append(outcome)
            if outcome == "fenced off":
                self.judge.fenced_off(session, lock, token)

        self.start(fence.write(self, name, lock, token, deletes=self.chance(0.3)), then)
        for _ in range(self.random.choice((2, 40))):
            if done or not session.believes():
                return
            yield 5

    def cheat(self, session: Session) -> Steps[None]:
        """A token that was never given out, or that of another lock; or a write without any."""
        lock, name = self.random.choice(LOCKS), self.random.choice(GUARDED)
        if self.chance(0.5):
            token = self.judge.given[lock] + self.random.randint(1, 3)
            outcome = yield from fence.write(self, name, lock, token)
            self.counts["a token that was never given out is refused"] += outcome == "fenced off"
            return
        register = self.register(name)
        yield 1
        register.accept(register.prepare().ballot, self.unfenced(register))

    def unfenced(self, register: Register) -> object:
        return fence.Guarded(self.fresh())

    def show(self, session: Session) -> Steps[None]:
        key = self.random.choice(EPHEMERAL)
        if self.chance(0.5):
            yield from ephemeral.write(session, key)
        else:
            yield from ephemeral.read(self, key)

    # In the end.

    def calm(self) -> None:
        """Who lives keeps its session, and has released what it knows that it holds; an heir gets all."""
        self.drain(self.now + 10 * LEASE)
        self.losing, self.doubling, self.late, self.stalling = 0, 0, 0, 0
        got: list[str] = []
        heir = Process(self, PROCESSES)
        heir.start(self.inherit(heir, got))
        self.drain(self.now + 30 * LEASE)
        demand(sorted(got) == sorted(LOCKS), "a lock is kept by nobody who knows", got)
        for key in EPHEMERAL:
            self.start(ephemeral.read(self, key), lambda _: None)
        self.drain(self.now + LEASE)

    def inherit(self, heir: Process, got: list[str]) -> Steps[None]:
        session = heir.begin()
        while not session.believes():
            yield 5
        for lock in LOCKS:
            for _ in range(4):
                if lock not in got and (yield from acquire(session, lock)):
                    got.append(lock)


def play(seed: int, counts: Counter[str]) -> Violation | None:
    """One history, counted."""
    try:
        World(seed, counts).run()
    except Violation as violation:
        return violation
    return None
