"""Stage: the shortest histories in which one rule is all that helps; in most a disk is lost."""

from collections import Counter

from tests.model.batches import batch
from tests.model.batches.records import STAMPS, Batch, Record, State
from tests.model.batches.store import Store
from tests.model.batches.world import World
from tests.model.laws import demand

BATCH = 1100 * STAMPS
LATER = 1200 * STAMPS
LATEST = 1300 * STAMPS


class Script(World):
    """Nothing happens by itself."""

    def __init__(self) -> None:
        super().__init__(0, Counter())
        self.losing, self.doubling, self.late, self.stalling, self.is_over = 0, 0, 0, 0, True
        self.told = self.judge.begin(BATCH, {0: {"0a": 1, "0b": 2}, 1: {"1a": 3}})

    def part(self, partition: int) -> Batch:
        return Batch(State.HELD, BATCH, self.told.rows[partition], (0, 1))

    def commit(self, stores: list[Store]) -> None:
        for store in stores:
            store.hold(self.part(store.partition))
            store.commit(BATCH)

    def lose(self, place: int) -> Store:
        stores = self.stores[0]
        stores[place] = self.new_store(0, place, whole=False)
        return stores[place]

    def meet(self, *pairs: tuple[int, int]) -> None:
        for pair in pairs:
            self.open(*(self.stores[0][place] for place in pair))
            self.drain()

    def close_all(self, stamp: int) -> None:
        for store in self.stores[0]:
            store.close(stamp)

    def settle_all(self) -> None:
        for _ in range(2):
            self.meet((0, 1), (1, 2), (0, 2))
            for store in self.stores[0]:
                store.settle(self.ids(0))
                store.purge()

    def end(self) -> None:
        self.commit(self.stores[1])
        self.settle_all()
        for stores in self.stores:
            self.judge.look_at_stable(stores)
            for store in stores:
                store.finish(BATCH, 1 << 40)
        self.judge.end(self.stores)


def who_held_it_first_is_lost() -> None:
    """a takes it in time, b and c have closed it, and have copies; it is committed elsewhere; a's disk is
    lost. What b and c tell of what they have closed is all that keeps stable below it."""
    script = Script()
    a, b, c = script.stores[0]
    for store in (b, c):
        store.close(LATER)
    for store, vouched in ((a, False), (b, True), (c, True)):
        assert store.hold(script.part(0), vouched=vouched).state is State.HELD
    script.commit(script.stores[1])
    script.lose(0)
    script.settle_all()
    script.close_all(LATEST)
    script.settle_all()
    script.commit(script.stores[0])
    script.end()


def a_copy_of_who_is_lost_comes_late() -> None:
    """a has it alone, and sends copies; its disk is lost; all say that they will never hold it, and its
    client is told so. Then the copies are there."""
    script = Script()
    script.stores[0][0].hold(script.part(0))
    holder = script.stores[0][0].id
    script.lose(0)
    script.meet((0, 1), (0, 2))
    script.close_all(LATER)
    answers = {store.place: store.ask(BATCH) for store in script.stores[0]}
    assert batch.is_never(answers)
    script.told.answer("not applied")
    for store in script.stores[0]:
        store.hold(script.part(0), vouched=batch.is_vouched(holder, script.ids(0)))
    for store in script.stores[1]:
        store.hold(script.part(1))
    held = {each: {store.place: store.ask(BATCH) for store in script.stores[each]} for each in (0, 1)}
    if batch.may_commit(held):
        script.commit(script.stores[0])
        script.end()


def who_comes_back_has_not_what_was_purged() -> None:
    """It is committed, and not yet done; one of its rows is deleted, and the tombstone purged; c's disk is
    lost, and gets the batch from a."""
    script = Script()
    script.commit(script.stores[0])
    for store in script.stores[0]:
        store.write("0a", Record(LATER, None))
    script.close_all(LATEST)
    script.settle_all()
    assert all("0a" not in store.rows for store in script.stores[0])
    script.lose(2)
    script.meet((0, 2), (1, 2))
    script.settle_all()
    script.end()


def only_one_took_it_in_time() -> None:
    """b and c have closed it before it came; copies bring it to a quorum all the same."""
    script = Script()
    a, b, c = script.stores[0]
    for store in (b, c):
        store.close(LATER)
    a.hold(script.part(0))
    for store in script.stores[1]:
        store.hold(script.part(1))
    for _ in range(2):
        script.start(batch.bring(script.nodes[0], BATCH, (0, 1)), lambda _: None)
        script.drain()
    demand(script.told.committed == {0, 1}, "what one holds comes to no end", script.told.committed)


STAGED = {
    "copies are taken as first deliveries": only_one_took_it_in_time,
    "only closed is held, not what is told of it": who_held_it_first_is_lost,
    "copies are not vouched for": a_copy_of_who_is_lost_comes_late,
    "rows are applied below stable": who_comes_back_has_not_what_was_purged,
}
