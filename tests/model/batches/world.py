"""A world of six nodes, with two partitions on three of them each, and one of them on both; one seed is one
history.

Some are cut off from others for longer than the lag, so that what some of them begin at once is held in one
partition each, and not in the same; coordinators die, a disk is lost (one in a history: what a quorum holds
outlives that), clocks differ.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from tests.model.batches.batch import bring, write
from tests.model.batches.judge import Judge
from tests.model.batches.records import STAMPS, Record, State
from tests.model.batches.store import REPLICAS, Snapshot, Store, adopt
from tests.model.events import Events
from tests.model.laws import Violation, demand

NODES = 6
PARTITIONS = 2
KEYS = "ab"
LAG = 60
OLD = 40  # from when on a batch is gone on with by who holds it
SKEW_MAX = 15
WANTED = 16
LENGTH = 500


class Node:
    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.skew = world.random.randint(-world.skew_max, world.skew_max)
        self.last = 0

    def time(self) -> int:
        return self.world.now + self.skew

    def stamp(self, seen: int = 0) -> int:
        """Greater than this one, which it has met."""
        self.last = max(self.last + 1, self.time(), seen // STAMPS + 1)
        return self.last * STAMPS + self.number


class World(Events):
    def __init__(self, seed: int, counts: Counter[str]) -> None:
        super().__init__(f"batches {seed}", counts)
        self.now = 1000
        self.judge = Judge(counts, lambda: self.now)
        self.skew_max = self.random.choice((0, 1, SKEW_MAX))
        self.nodes = [Node(self, number) for number in range(NODES)]
        self.store_ids = 0
        self.stores = [
            [self.new_store(partition, place, whole=True) for place in range(REPLICAS)]
            for partition in range(PARTITIONS)
        ]
        self.is_over = False
        self.sides: list[set[int]] = []  # who is in none of them is on yet another
        self.cut_until = 0
        self.old = self.random.choice((5, OLD))
        self.patience = self.random.choice((25, 120))
        self.losing, self.doubling, self.late = self.random.choice(((1, 2, 2), (5, 6, 8), (10, 10, 15)))
        self.stalling = self.random.choice((0, 0.01, 0.03))
        self.cutting = self.random.choice((0, 1, 4))
        self.dying = self.random.choice((0.1, 0.4))

    def new_store(self, partition: int, place: int, *, whole: bool) -> Store:
        self.store_ids += 1
        return Store(self.judge, partition, place, self.store_ids, whole)

    def node_of(self, store: Store) -> Node:
        return self.nodes[2 * store.partition + store.place]

    def ids(self, partition: int) -> tuple[int, ...]:
        return tuple(store.id for store in self.stores[partition])

    def send(self, sender: Node, to: Node, arrive: Callable[[], None]) -> None:
        def get() -> None:
            if not self.is_cut(sender, to):
                arrive()

        if not self.is_cut(sender, to):
            self.transmit(get)

    def is_cut(self, one: Node, other: Node) -> bool:
        apart = any((one.number in side) != (other.number in side) for side in self.sides)
        return apart and self.now < self.cut_until

    # What happens.

    def run(self) -> None:
        ends = self.now + LENGTH
        for _ in range(WANTED):
            self.after(self.random.randint(0, LENGTH), self.want)
        for _ in range(self.cutting):
            self.after(self.random.randint(0, LENGTH), self.cut)
        if self.chance(0.6):
            self.after(self.random.randint(50, LENGTH - 200), self.wipe)
        self.after(5, self.tend)
        self.drain(ends + 300)
        self.is_over = True
        self.drain()
        self.calm()
        self.judge.end(self.stores)

    def want(self) -> None:
        node = self.random.choice(self.nodes)
        if self.chance(0.5):
            self.plain_write(node)
            return
        self.begin_batch(node, self.random.sample(range(PARTITIONS), self.random.choice((1, 2, 2))))

    def begin_batch(self, node: Node, partitions: Iterable[int]) -> None:
        rows = {each: {self.key(each): self.value() for _ in range(2)} for each in partitions}
        task = self.start(write(node, rows), lambda _: None)
        if self.chance(self.dying):
            self.counts["died"] += 1
            self.after(self.random.randint(1, 40), task.end)

    def key(self, partition: int) -> str:
        return f"{partition}{self.random.choice(KEYS)}"

    def value(self) -> int | None:
        return None if self.chance(0.4) else self.random.randrange(1 << 30)

    def plain_write(self, node: Node) -> None:
        partition = self.random.randrange(PARTITIONS)
        key, record = self.key(partition), Record(node.stamp(), self.value())
        for place in range(REPLICAS):
            store = self.stores[partition][place]
            self.send(node, self.node_of(store), partial(self.deliver, store, key, record))

    def deliver(self, store: Store, key: str, record: Record) -> None:
        if store.whole and store is self.stores[store.partition][store.place]:
            self.counts["written"] += store.write(key, record)

    def cut(self) -> None:
        """Some cannot reach the others for a while."""
        halves = ({0, 1, 2}, {0, 1}, {2, 3, 4})
        self.sides = [self.random.choice([*halves, {self.random.randrange(NODES)}])]
        self.cut_until = self.now + self.random.choice((20, 2 * LAG, 5 * LAG))
        self.counts["cut off for longer than the lag"] += self.cut_until > self.now + LAG
        if self.chance(0.3):
            self.sides = [{0, 1}, {3, 4}]
            for node in (self.nodes[0], self.nodes[3]):
                self.begin_batch(node, range(PARTITIONS))
            self.counts["begun at once, each in a partition of its own"] += 1

    def wipe(self) -> None:
        node = self.random.choice(self.nodes)
        self.counts["wiped"] += 1
        for stores in self.stores:
            for store in stores:
                if self.node_of(store) is node:
                    self.counts["wiped while held"] += bool(list(store.holds()))
                    self.judge.lose(store, [other for other in stores if other is not store])
                    stores[store.place] = self.new_store(store.partition, store.place, whole=self.is_whole())

    def is_whole(self) -> bool:
        """Whether a wiped store counts."""
        return False

    def tend(self) -> None:
        if self.is_over:
            return
        for stores in self.stores:
            for store in stores:
                self.tend_store(store)
            self.judge.look_at_stable(stores)
            if self.chance(0.6):
                self.open(*self.random.sample(stores, 2))
        self.after(self.random.randint(5, 15), self.tend)

    def tend_store(self, store: Store) -> None:
        node = self.node_of(store)
        if self.chance(0.5):
            store.close((node.time() - LAG) * STAMPS)
        store.settle(self.ids(store.partition))
        if self.chance(0.5):
            store.purge()
        for stamp, batch in list(store.batches.items()):
            is_old = node.time() - stamp // STAMPS > self.old
            if is_old and self.goes_on(store) and batch.state is not State.DONE and self.chance(0.1):
                self.start(bring(node, stamp, batch.partitions, refuses=True), lambda _: None)

    def goes_on(self, store: Store) -> bool:
        return store.whole

    def open(self, one: Store, other: Store) -> None:
        """Both snapshots are of now; they arrive later, or nothing comes of it."""
        if one.busy or other.busy or self.is_cut(self.node_of(one), self.node_of(other)):
            return
        if not (one.whole or other.whole):
            return
        adopt(one, other)
        shots = one.snapshot(), other.snapshot()
        one.busy = other.busy = True
        self.after(self.random.randint(2, 25), lambda: self.close(one, other, *shots))

    def close(self, one: Store, other: Store, mine: Snapshot, theirs: Snapshot) -> None:
        one.busy = other.busy = False
        stores, ids = self.stores[one.partition], self.ids(one.partition)
        cut = self.is_cut(self.node_of(one), self.node_of(other))
        if cut or stores[one.place] is not one or stores[other.place] is not other:
            return
        one.merge(mine, theirs, other.place, ids)
        other.merge(theirs, mine, one.place, ids)
        for store, peer in ((one, other), (other, one)):
            store.hear(peer.claims, ids)
        self.counts["exchanged"] += 1

    def calm(self) -> None:
        """Nothing fails any more: all comes to an end, and to the same."""
        self.losing, self.doubling, self.late, self.stalling, self.cut_until = 0, 0, 0, 0, 0
        began = self.now * STAMPS
        for _ in range(14):
            self.drain(self.now + 2 * LAG + 100)
            for stores in self.stores:
                self.calm_down(stores)
                self.judge.look_at_stable(stores)
            if self.least_stable() > began:
                break
        demand(self.least_stable() > began, "something holds stable for ever")

    def least_stable(self) -> int:
        return min(store.stable for stores in self.stores for store in stores)

    def calm_down(self, stores: list[Store]) -> None:
        for store in stores:
            store.close((self.node_of(store).time() - LAG) * STAMPS)
        for pair in ((0, 1), (1, 2), (0, 2)):
            self.open(*(stores[place] for place in pair))
            self.drain()
        for store in stores:
            store.settle(self.ids(store.partition))
            for stamp, batch in list(store.batches.items()):
                if batch.state is not State.DONE and self.goes_on(store):
                    left = bring(self.node_of(store), stamp, batch.partitions, refuses=True)
                    self.start(left, lambda _: None)
            self.drain()


def play(seed: int, counts: Counter[str]) -> Violation | None:
    """One history, counted."""
    try:
        World(seed, counts).run()
    except Violation as violation:
        return violation
    return None
