"""Elsewhere: the design that was not taken, as a breakage. The record of a batch lies on the replicas of one
partition, all rows in it; whoever holds it names the partitions of its rows and its stamp in heartbeats, as
for only copies, and their replicas hold closed below it as long as they hear of it, and for the lag after.
Rows are ordinary writes, and copies where they come too late.

It needs one heartbeat in time, for ever. Where those who hold the record are cut off from the replicas of a
row for longer than the lag, these close, and settle, and purge; then a row of it can come in no more, though
others are applied and seen. To wait for who does not answer would stop closed stamps wherever a node is down.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

from tests.model.batches import world
from tests.model.batches.batch import ask, finish, states
from tests.model.batches.records import Batch, Record, State
from tests.model.batches.store import QUORUM, REPLICAS, Store
from tests.model.events import Steps, Wait
from tests.model.patches import Patch, instead

if TYPE_CHECKING:
    from tests.model.batches.world import Node, World

NAMED_FOR = world.LAG


def write(node: "Node", rows: dict[int, dict[str, int | None]]) -> Steps[None]:
    stamp, home = node.stamp(), min(rows)
    told = node.world.judge.begin(stamp, rows)
    every = {key: value for each in rows.values() for key, value in each.items()}
    record = Batch(State.HELD, stamp, every, tuple(sorted(rows)))
    answers = yield from ask(node, (home,), lambda store: store.hold(record))
    told.outcome = "unknown"
    if len(states(answers[home], State.HELD)) >= QUORUM and (yield from write_rows(node, record)):
        told.answer("stored")
        yield from finish(node, stamp, (home,))


def write_rows(node: "Node", record: Batch) -> Steps[bool]:
    """Whether each is on a quorum, or settled there."""
    world, wait = node.world, Wait()
    done: dict[int, set[int]] = {partition: set() for partition in record.partitions}

    def arrive(store: Store) -> None:
        if store.whole:
            for key, value in record.rows.items():
                if int(key[0]) == store.partition:
                    row = Record(record.stamp, value)
                    if store.write(key, row) or store.write(key, row, vouched=True):
                        world.judge.commit(record.stamp, store.partition)
            world.send(world.node_of(store), node, lambda: hear(store))

    def hear(store: Store) -> None:
        done[store.partition].add(store.place)
        if min(map(len, done.values())) >= QUORUM:
            wait.give(None)

    for partition in record.partitions:
        for place in range(REPLICAS):
            store = world.stores[partition][place]
            world.send(node, world.node_of(store), partial(arrive, store))
    world.after(world.patience, lambda: wait.give(None))
    yield wait
    return min(map(len, done.values())) >= QUORUM


def bring(node: "Node", stamp: int, partitions: tuple[int, ...], *, refuses: bool = False) -> Steps[None]:
    home = partitions[0]
    answers = yield from ask(node, (home,), lambda store: store.ask(stamp))
    held = states(answers[home], State.HELD)
    if states(answers[home], State.DONE) or (
        held and held[0].batch and (yield from write_rows(node, held[0].batch))
    ):
        yield from finish(node, stamp, (home,))


def naming(tend_store: Any) -> Any:
    """Who holds records names them to all, once in a while."""

    def made(self: "World", store: Store) -> None:
        node = self.node_of(store)
        for held in [each for each in store.batches.values() if each.state is State.HELD]:
            for partition in held.partitions:
                for other in self.stores[partition]:
                    self.send(node, self.node_of(other), partial(hear_name, other, held.stamp, self))
        tend_store(self, store)

    return made


def hear_name(store: Store, stamp: int, world: "World") -> None:
    store.judge.named[store.id, stamp] = world.now


def held_by_name(self: Store) -> list[int]:
    own = [held.stamp for held in self.batches.values() if held.state is State.HELD]
    now = self.judge.now
    named = [
        stamp
        for (store, stamp), heard in self.judge.named.items()
        if store == self.id and now() - heard < NAMED_FOR
    ]
    return [stamp - 1 for stamp in own + named]


ELSEWHERE = [
    instead(world, "write", write),
    instead(world, "bring", bring),
    Patch(world.World, "tend_store", naming),
    instead(Store, "holds", held_by_name),
]
