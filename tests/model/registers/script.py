"""Script: a world in which nothing happens by chance, for `stage`. What is sent waits until it is
delivered."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable

from tests.model.registers.decision import Attempt, Kind, Wish
from tests.model.registers.judge import Era
from tests.model.registers.messages import Asked, Learn, Message
from tests.model.registers.operations import BACK_OFF_US, Result, write
from tests.model.registers.topology import Bind, Change, Seat, Stage, apply
from tests.model.registers.world import World

KEY = 0
ROUNDS_MAX = 200


class Script(World):
    """Who is to write again does so at once; what becomes durable does so too, unless it is `slow`."""

    def __init__(self, replicas: int, spares: int) -> None:
        self.wire: defaultdict[tuple[int, int], deque[tuple[int, Message]]] = defaultdict(deque)
        self.slow = False
        self.untold: set[int] = set()  # who are not told what was chosen
        super().__init__(0, Counter(), replicas, spares)
        self.now = 10_000_000
        self.lag_us, self.old_us = 400_000, 800_000
        for node in self.nodes:
            node.skew_us = 0
            self.decide(Bind(node.number, node.store.id))
        self.everybody = range(len(self.nodes))
        self.catch_up(*self.everybody)

    def sync_us(self) -> int:
        return 2 * BACK_OFF_US if self.slow else 0

    def after(self, us: int, act: Callable[[], None]) -> None:
        if us <= BACK_OFF_US:
            act()

    def send(self, sender: int, to: int, epoch: int, message: Message) -> None:
        if not isinstance(message, Learn) or to not in self.untold:
            self.wire[sender, to].append((epoch, message))

    def deliver(self, *among: int, wanted: type | None = None) -> None:
        """All that these say to each other, until they are silent; of requests only those `wanted`."""
        for _ in range(ROUNDS_MAX):
            links = [link for link in sorted(self.wire) if self.wire[link] and {*among} >= {*link}]
            if not links:
                return
            for link in links:
                self.deliver_one(*link, wanted)
        raise AssertionError("they never fall silent")

    def deliver_one(self, sender: int, to: int, wanted: type | None = None) -> None:
        epoch, message = self.wire[sender, to].popleft()
        if wanted is None or not isinstance(message, Asked) or isinstance(message.request, wanted):
            self.nodes[to].receive(sender, epoch, message)

    def lose(self) -> None:
        """What is on its way."""
        self.wire.clear()

    def decide(self, change: Change) -> None:
        entry = apply(self.log[-1], change)
        assert entry is not None, change
        self.log.append(entry)

    def catch_up(self, *members: int) -> None:
        for member in members:
            self.nodes[member].catch_up(len(self.log) - 1)
        self.deliver(*members)

    def certify(self, *pairs: tuple[int, int]) -> None:
        """These exchange, and tell the leader."""
        for one, other in pairs:
            self.nodes[one].exchanges.open(other)
            self.deliver(one, other)
        for node in self.nodes:
            self.leader.hear(node)

    def seat(self, stage: Stage, old: Iterable[int], new: Iterable[int], *aware: int) -> None:
        """The next stage is decided, and these know."""
        self.decide(Seat(stage, frozenset(old), frozenset(new), self.log[-1].since))
        self.catch_up(*aware)

    def write(self, member: int, value: int | None = 1) -> list[Result | None]:
        """Begins it; the result is there once it has one."""
        results: list[Result | None] = []
        node = self.nodes[member]
        self.now += 1_000
        wish = Wish(KEY, Kind.SET, self.judge.new_proposal(), value)
        node.run(write(node, Attempt(wish)), results.append)
        return results

    def bar(self, member: int, *aware: int) -> None:
        """Its new store is bound, and barred."""
        node = self.nodes[member]
        node.wipe()
        node.up = True
        self.decide(Bind(member, node.store.id))
        self.catch_up(member, *aware)

    def judge_all(self) -> None:
        Era(self.judge, KEY, 0, self.now + 1).judge()
