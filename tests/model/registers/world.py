"""A world of members, clients and faults: one seed is one history.

It goes on for some simulated seconds, with quiet phases in which what is unfinished stays so, and is then
calm: nothing fails any more, what was begun ends, and the judge looks at all of it.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence

from tests.model.registers.clients import Client
from tests.model.registers.judge import Judge, Violation
from tests.model.registers.leader import Leader
from tests.model.registers.messages import Message
from tests.model.registers.network import Network
from tests.model.registers.node import Node
from tests.model.registers.topology import Bind, Change, Entry, Seat, Stage, TakeIn, founded, needed

LIVELY_US = 2_500_000
CALM_US = 8_000_000  # at most
TICK_US = 10_000
PAUSE_US = 100_000


class World:
    """`replicas` of the members have a seat at first, `spares` have none; drawn if not given."""

    def __init__(self, seed: int, counts: Counter[str], replicas: int = 0, spares: int = 0) -> None:
        self.random = chance = random.Random(seed)
        self.counts = counts
        self.now = 1_000_000
        self.ends = self.now + LIVELY_US
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.made = self.stores = self.starts = 0
        self.lively, self.is_over = True, False
        self.quiet_until = 0
        replicas = replicas or chance.choice((3, 3, 3, 3, 5, 5, 4, 2, 1))
        spares = spares or chance.choice((1, 1, 2))
        self.log = [founded(range(replicas))]
        self.judge = Judge(self)
        self.draw()
        self.network = Network(self, chance.choice((0, 0.005, 0.02)))
        skew_us = chance.choice((2_000, 30_000, 150_000, 400_000))
        skews = [500_000 + chance.randrange(-skew_us, skew_us) for _ in range(replicas + spares)]
        self.nodes = [Node(self, number, skew) for number, skew in enumerate(skews)]
        self.leader = Leader(self)
        self.clients = [Client(self, number) for number in range(chance.choice((2, 4, 6)))]

    def draw(self) -> None:
        """How this world is, as far as it goes on so: like any, or one in which tombstones go, or members."""
        chance = self.random
        self.draw_again()
        self.syncing_us = chance.choice((300, 3_000))
        self.losing = chance.choice((0, 0.1, 0.4))  # answers to clients
        self.forgetting = chance.choice((0, 0.3, 0.95))  # to tell acceptors what was chosen
        self.deleting, self.hushed = chance.choice((0.1, 0.3)), chance.choice((0, 0.02))
        self.crashing, self.wiping = chance.choice((0, 0.01, 0.03)), chance.choice((0, 0.01, 0.04))
        self.isolating, self.moving = chance.choice((0.004, 0.03)), chance.choice((0, 0.02, 0.1))
        self.disastrous = chance.random() < 0.25
        self.exchanging, self.sweeping = (
            chance.choice((0.2, 0.6, 2.5)),
            chance.choice((0.05, 0.2)),
        )  # in a tick
        self.lag_us = chance.choice((5_000, 60_000, 400_000))  # of closed behind the clock: it is in the way
        self.old_us = chance.choice((150_000, 800_000))  # so long may something be accepted and not learned
        self.deciding_us = chance.choice((3_000, 10_000, 60_000))
        mood = chance.randrange(4)
        if mood == 0:
            self.deleting, self.hushed, self.lag_us, self.exchanging = 0.6, 0.05, 5_000, 2.5
            self.crashing = self.wiping = self.isolating = self.moving = 0.0
        elif mood == 1:
            self.wiping, self.isolating, self.moving = (
                chance.choice((0.02, 0.1)),
                0.05,
                chance.choice((0.05, 0.5)),
            )
            self.forgetting, self.exchanging, self.sweeping = 0.95, 2.5, 0.05
            self.deciding_us = 3_000

    # Time, and what happens at it.

    def after(self, us: int, act: Callable[[], None]) -> None:
        self.made += 1
        heapq.heappush(self.events, (self.now + us, self.made, act))

    def run(self) -> None:
        for client in self.clients:
            client.again()
        self.after(1, self.tick)
        end = self.ends + CALM_US
        while self.now < end and not (self.is_over and self.judge.is_calm()):
            pause = self.now + PAUSE_US
            while self.events[0][0] <= pause:
                self.now, _, act = heapq.heappop(self.events)
                act()
            self.now = pause
        self.judge.end()

    def new_store(self) -> int:
        self.stores += 1
        return self.stores

    def new_origin(self, number: int) -> int:
        """Of a start of a node: no other has it."""
        self.starts += 1
        return self.starts * 16 + number

    def sync_us(self) -> int:
        return 50 + self.random.randrange(self.syncing_us)

    def think_us(self) -> int:
        return int(self.random.expovariate(1 / self.thinking_us))

    def send(self, sender: int, to: int, epoch: int, message: Message) -> None:
        self.network.send(sender, to, epoch, message)

    def home(self) -> Node:
        """Where writes are sent, if it is there."""
        seats = [self.nodes[number] for number in sorted(self.log[-1].old)]
        return next((node for node in seats if node.up), seats[0])

    def append(self, entry: Entry, change: Change) -> None:
        """An entry is decided."""
        before = self.log[-1]
        if isinstance(change, TakeIn) or (before.stage is Stage.JOINT and entry.stage is Stage.STILL):
            self.judge.look_at_loss(before)
        self.log.append(entry)
        if isinstance(change, TakeIn):
            self.counts["taken in"] += len(change.members)
        elif isinstance(change, Seat):
            moved = entry.stage is Stage.STILL and entry.old == before.new
            self.counts["moved" if moved and before.stage is Stage.JOINT else entry.stage.value] += 1
        elif isinstance(change, Bind) and entry.since == entry.epoch:
            self.counts["barred"] += 1
            self.counts["barred in a move"] += entry.stage is not Stage.STILL
            self.counts["two barred"] += len(entry.barred) > 1
        for node in self.nodes:
            if self.random.random() < 0.6:
                self.tell(node, entry.epoch)

    def tell(self, node: Node, epoch: int) -> None:
        self.after(self.network.delay_us(), lambda: self.learn(node, epoch))

    def learn(self, node: Node, epoch: int) -> None:
        if node.up and node.number not in self.network.deaf:
            node.catch_up(epoch)

    # What goes on by itself.

    def tick(self) -> None:
        self.after(TICK_US, self.tick)
        chance = self.random
        if self.lively and self.now > self.ends:
            self.calm()
        for node in self.nodes:
            if not node.up:
                continue
            if chance.random() < 0.1:
                node.tend()
            if chance.random() < self.sweeping:
                node.sweep()
            if chance.random() < 0.15:
                self.learn(node, len(self.log) - 1)
        exchanges = self.exchanging if self.lively else 2
        for _ in range(int(exchanges) + (chance.random() < exchanges % 1)):
            self.exchange()
        if chance.random() < 0.5:
            self.leader.act()
        if self.lively:
            self.fail()

    def exchange(self) -> None:
        one, other = self.random.sample(self.nodes, 2)
        if one.up and other.up:
            one.exchanges.open(other.number)

    def calm(self) -> None:
        self.lively, self.is_over = False, True
        self.network.loss = 0
        self.lag_us = max(self.lag_us, 200_000)  # or it closes what is on its way
        self.sweeping = 0.2
        self.network.deaf.clear()
        self.network.dumb.clear()
        self.forgetting = 0
        for node in self.nodes:
            self.start(node)

    # Faults.

    def fail(self) -> None:
        chance = self.random
        if chance.random() < self.hushed and self.now > self.quiet_until:
            self.quiet_until = self.now + chance.choice((100_000, 300_000, 600_000))
        if chance.random() < 0.005:
            self.draw_again()
        if chance.random() < self.crashing:
            self.crash(chance.choice(self.nodes))
        if chance.random() < self.wiping:
            self.wipe(self.nodes[self.pick(range(len(self.nodes)))])
        if chance.random() < self.isolating and not self.network.deaf | self.network.dumb:
            self.isolate(self.nodes[self.pick(range(len(self.nodes)))])

    def pick(self, members: Sequence[int]) -> int:
        """One by lot, more often one that has accepted what it has not learned."""
        able = [each for each in members if self.nodes[each].store.unlearned()]
        return self.random.choice(able if able and self.random.random() < 0.5 else members)

    def draw_again(self) -> None:
        self.thinking_us = self.random.choice((3_000, 20_000, 100_000))
        self.routed = self.random.choice((0, 0.7, 0.95))

    def crash(self, node: Node) -> None:
        if not node.up:
            return
        self.counts["crash"] += 1
        node.crash()
        self.network.cut_off(node.number)
        self.after(self.random.choice((10_000, 100_000, 400_000)), lambda: self.start(node))

    def start(self, node: Node) -> None:
        if not node.up:
            node.up = True
            self.network.cut_off(node.number)

    def wipe(self, node: Node) -> None:
        """Unless that may lose what a quorum has, in a world where that does not happen."""
        if not node.up or not (self.disastrous or self.can_spare(node)):
            return
        self.counts["wiped"] += 1
        node.wipe()
        self.network.cut_off(node.number)
        self.after(self.random.choice((10_000, 100_000)), lambda: self.start(node))

    def can_spare(self, node: Node) -> bool:
        entry = self.log[-1]
        left = {
            each for each in entry.old - entry.barred if self.nodes[each].store.id == entry.stores.get(each)
        }
        return len(left - {node.number}) >= needed(entry.old)

    def isolate(self, node: Node) -> None:
        self.counts["cut off"] += 1
        deaf, dumb = self.random.choice(((True, True), (True, False), (False, True)))
        self.network.deaf |= {node.number} if deaf else set()
        self.network.dumb |= {node.number} if dumb else set()

        def heal() -> None:
            self.network.deaf.discard(node.number)
            self.network.dumb.discard(node.number)
            self.network.cut_off(node.number)

        self.after(self.random.choice((50_000, 300_000, 800_000)), heal)


def play(seed: int, counts: Counter[str]) -> Violation | None:
    """One history, counted."""
    try:
        World(seed, counts).run()
    except Violation as violation:
        return violation
    return None
