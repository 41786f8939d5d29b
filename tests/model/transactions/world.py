"""A world of four coordinators and three acceptors: one seed is one history."""

from collections import Counter

from tests.model.events import Events
from tests.model.laws import Violation, demand
from tests.model.transactions.acceptor import Acceptor, settle
from tests.model.transactions.clients import begin
from tests.model.transactions.helping import YOUNG, meet, sweep
from tests.model.transactions.judge import Judge
from tests.model.transactions.records import Ballot, Verdict
from tests.model.transactions.rows import KEYS, Rows

LAG = 80  # of closed stamps behind the clock; far below what messages may take
SKEW_MAX = 30
WANTED = 26
DIES = 0.12


class Node:
    """A coordinator, with a clock that goes wrong by a constant, and passes what it has seen."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.skew = world.random.randint(-SKEW_MAX, SKEW_MAX)
        self.last = 0

    def time(self) -> int:
        return self.world.now + self.skew

    def stamp(self) -> Ballot:
        self.last = max(self.last + 1, self.time())
        return Ballot(self.last, self.number)

    def observe(self, ballot: Ballot) -> None:
        self.last = max(self.last, ballot.stamp)


class World(Events):
    def __init__(self, seed: int, counts: Counter[str]) -> None:
        super().__init__(f"transactions {seed}", counts)
        self.now = 1000
        self.judge = Judge(self)
        self.rows = Rows(self.judge)
        self.nodes = [Node(self, number) for number in range(1, 5)]
        self.acceptors = [Acceptor(number, self.random.randint(-SKEW_MAX, SKEW_MAX)) for number in range(3)]
        self.is_over = False
        self.losing, self.doubling, self.late = self.random.choice(((1, 2, 2), (4, 6, 8), (8, 12, 20)))
        self.stalling = self.random.choice((0, 0.004, 0.02))
        self.hurry = self.random.choice((4, 12, 30))

    def shuffled(self, keys: str) -> str:
        return "".join(self.random.sample(keys, len(keys)))

    def run(self) -> None:
        for number in range(WANTED):
            self.after(self.random.randint(0, self.hurry * WANTED) + number % 2, self.want)
        self.after(5, self.tend)
        self.drain(self.now + self.hurry * WANTED + 400)
        self.is_over = True
        self.drain()
        self.calm()
        self.judge.judge()

    def want(self) -> None:
        task = self.start(begin(self), lambda _: None)
        if self.chance(DIES):
            self.counts["died"] += 1
            self.after(self.random.randint(1, 60), task.end)

    def tend(self) -> None:
        """What acceptors do by themselves, and what is swept."""
        if self.is_over:
            return
        for acceptor in self.acceptors:
            if self.chance(0.7):
                acceptor.close(self.now + acceptor.skew - LAG)
            if self.chance(0.5):
                self.counts["purged"] += acceptor.purge()
        if self.chance(0.4):
            settle(self.acceptors)
        held = self.held()
        if held and self.chance(0.5):
            row = self.random.choice(held)
            node = self.random.choice(self.nodes)
            if self.chance(0.3) or node.time() - row.stamp > YOUNG:
                self.start(sweep(node, row), lambda _: None)
        self.after(self.random.randint(4, 20), self.tend)

    def held(self) -> list[Ballot]:
        return sorted({row for acceptor in self.acceptors for row in (*acceptor.accepted, *acceptor.learned)})

    def calm(self) -> None:
        """Whoever comes later finds nothing locked, and leaves no row of a transaction behind."""
        self.losing, self.doubling, self.late, self.stalling = 0, 0, 0, 0
        for _ in range(3):
            self.drain(self.now + YOUNG + 2 * SKEW_MAX)
            for key in KEYS:
                intent = self.rows.rows[key].intent
                if intent is not None:
                    self.start(meet(self.nodes[0], key, intent), lambda _: None)
            self.drain()
            for row in self.held():
                self.start(sweep(self.nodes[1], row), lambda _: None)
            self.drain()
            settle(self.acceptors)
        for key in KEYS:
            demand(self.rows.rows[key].intent is None, "a key stays locked", key)
        for acceptor in self.acceptors:
            for row, decision in acceptor.learned.items():
                demand(decision.verdict is Verdict.GONE, "the row of a transaction stays", row)


def play(seed: int, counts: Counter[str]) -> Violation | None:
    """One history, counted."""
    try:
        World(seed, counts).run()
    except Violation as violation:
        return violation
    return None
