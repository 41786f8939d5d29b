"""Network: links that keep their order, until they break and lose what was on its way.

Requests to acceptors may also come a second time, late and past the order of their link.
"""

from functools import partial
from typing import TYPE_CHECKING

from tests.model.registers.messages import Asked, Learn, Message

if TYPE_CHECKING:
    from tests.model.registers.world import World

MEAN_US = 3_000
SLOW_MEAN_US = 100_000
SLOW = 0.03
REPEATED = 0.02


class Network:
    """`loss`: how often a message finds its link breaking."""

    def __init__(self, world: "World", loss: float) -> None:
        self.world = world
        self.loss = loss
        self.lives: dict[tuple[int, int], int] = {}  # how often a link has broken
        self.last_us: dict[tuple[int, int], int] = {}  # when what was sent last comes
        self.deaf: set[int] = set()  # members that nobody reaches
        self.dumb: set[int] = set()  # members that reach nobody

    def send(self, sender: int, to: int, epoch: int, message: Message) -> None:
        world = self.world
        if sender == to:
            world.after(1, world.nodes[to].alive(lambda: world.nodes[to].receive(sender, epoch, message)))
            return
        if isinstance(message, Learn) and world.random.random() < world.forgetting:
            return  # its proposer died, or its link broke just before
        if world.random.random() < self.loss:
            self.cut_link(sender, to)
        pair = min(sender, to), max(sender, to)
        life = self.lives.get(pair, 0)
        due = max(self.last_us.get((sender, to), 0), world.now + self.delay_us()) + 1
        self.last_us[sender, to] = due

        def arrive() -> None:
            if self.lives.get(pair, 0) == life:
                self.deliver(sender, to, epoch, message)

        world.after(due - world.now, arrive)
        if isinstance(message, Asked | Learn) and self.loss and world.random.random() < REPEATED:
            late = world.random.randrange(1_000_000)
            world.after(due - world.now + late, lambda: self.deliver(sender, to, epoch, message))

    def delay_us(self) -> int:
        chance = self.world.random
        mean = SLOW_MEAN_US if chance.random() < SLOW else MEAN_US
        return int(chance.expovariate(1 / mean)) + 200

    def deliver(self, sender: int, to: int, epoch: int, message: Message) -> None:
        node = self.world.nodes[to]
        if node.up and sender not in self.dumb and to not in self.deaf:
            node.receive(sender, epoch, message)

    def cut_link(self, one: int, other: int) -> None:
        """It is there again at once, but what was on it is lost."""
        pair = min(one, other), max(one, other)
        self.lives[pair] = self.lives.get(pair, 0) + 1
        for who, peer in (pair, pair[::-1]):
            self.last_us.pop((who, peer), None)
            node = self.world.nodes[who]
            if node.up:
                self.world.after(1, node.alive(partial(node.linked, peer)))

    def cut_off(self, member: int) -> None:
        """All its links break, as it goes down or comes back."""
        for other in range(len(self.world.nodes)):
            if other != member:
                self.cut_link(member, other)
