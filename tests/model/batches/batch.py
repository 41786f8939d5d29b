"""Batch: all or nothing in the end, and who brings it there.

    hold      each partition that is written to gets its own rows, and the names of the others: at a quorum
              of its replicas, by a first delivery, before anything is applied anywhere
    commit    once all partitions hold it at a quorum: each store applies the rows that it holds
    done      once the rows are applied at a quorum of each partition: tombstones

Whoever holds one that is old goes on with it (`bring`). It asks all replicas of all its partitions:

    somebody has committed      so may all
    somebody is done            so are all: it goes
    held, not at a quorum       copies, to the others of that partition: who holds it vouches for them
    held by a quorum in all     commit
    in some partition all say   then nobody has committed, and nobody will: it goes everywhere
    that they never held it     (one that would still take it, or does not answer, is waited for)

What makes the last one final: whoever says so refuses it from then on, for it has closed its stamp, or has
been told to refuse it by who goes on with it. No vote, no consensus.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tests.model.batches.records import Answer, Batch, State, part_stamp
from tests.model.batches.store import QUORUM, REPLICAS, Store
from tests.model.events import Steps, Wait

if TYPE_CHECKING:
    from tests.model.batches.world import Node

ROUNDS_MAX = 6

Answers = dict[int, dict[int, Answer]]  # by partition and place


def ask(
    node: "Node",
    partitions: tuple[int, ...],
    request: Callable[[Store], Answer],
    enough: Callable[[Answers], bool] = lambda _: False,
) -> Steps[Answers]:
    """Of the replicas of each, until they have said enough, or all have, or for as long as is waited."""
    world, wait = node.world, Wait()
    answers: Answers = {each: {} for each in partitions}

    def hear(partition: int, answer: Answer) -> None:
        if not wait.is_over:
            answers[partition][answer.place] = answer
            if min(map(len, answers.values())) == REPLICAS or enough(answers):
                wait.give(answers)

    def arrive(partition: int, place: int) -> None:
        store = world.stores[partition][place]
        if store.whole:
            answer = request(store)
            world.send(world.node_of(store), node, lambda: hear(partition, answer))

    for each in partitions:
        for place in range(REPLICAS):
            to = world.node_of(world.stores[each][place])
            world.send(node, to, partial(arrive, each, place))
    world.after(world.patience, lambda: wait.give(answers))
    found: Answers = yield wait
    return found


def states(answers: dict[int, Answer], *wanted: State) -> list[Answer]:
    return [each for each in answers.values() if each.state in wanted]


def is_held(answers: dict[int, Answer]) -> bool:
    return len(states(answers, State.HELD, State.COMMITTED, State.DONE)) >= QUORUM


def is_never(answers: dict[int, Answer]) -> bool:
    """Nobody holds it, nor ever will."""
    return len(states(answers, State.NEVER)) == REPLICAS


def write(node: "Node", rows: dict[int, dict[str, int | None]]) -> Steps[None]:
    """The coordinator."""
    stamp, partitions = node.stamp(), tuple(sorted(rows))
    told = node.world.judge.begin(stamp, rows)
    parts = {each: Batch(State.HELD, stamp, rows[each], partitions) for each in partitions}
    answers = yield from ask(node, partitions, lambda store: store.hold(parts[store.partition]), may_commit)
    if may_commit(answers):
        told.outcome = "unknown"
        if (yield from commit(node, stamp, partitions)):
            told.answer("stored")
            yield from finish(node, stamp, partitions)
        return
    node.world.counts["not held by all in time"] += 1
    for _ in range(ROUNDS_MAX):
        yield node.world.random.randint(10, 60)
        outcome = yield from bring(node, stamp, partitions)
        if outcome is not None:
            told.answer(outcome)
            return


def may_commit(answers: Answers) -> bool:
    return all(is_held(each) for each in answers.values())


def commit(node: "Node", stamp: int, partitions: tuple[int, ...]) -> Steps[bool]:
    """Whether it is applied by a quorum of each."""
    answers = yield from ask(node, partitions, lambda store: store.commit(stamp), is_applied)
    return is_applied(answers)


def is_applied(answers: Answers) -> bool:
    return all(
        len(states(each, State.COMMITTED, State.DONE)) >= QUORUM or is_through(each)
        for each in answers.values()
    )


def is_through(answers: dict[int, Answer]) -> bool:
    """What is committed was held there: all that is not any more is done, and purged."""
    return len(states(answers, State.NEVER)) == REPLICAS


def finish(node: "Node", stamp: int, partitions: tuple[int, ...]) -> Steps[None]:
    done = node.stamp(stamp)
    yield from ask(node, partitions, lambda store: store.finish(stamp, done))


def bring(
    node: "Node", stamp: int, partitions: tuple[int, ...], *, refuses: bool = False
) -> Steps[str | None]:
    """One step towards the end. Says how it has ended, if it has; "unknown", if that cannot be told. Where it
    is old it is refused where it is not held."""
    look = Store.refuse if refuses else Store.ask
    answers = yield from ask(node, partitions, lambda store: look(store, stamp))
    found = [each for answered in answers.values() for each in answered.values()]
    if any(each.state is State.DONE for each in found):
        yield from finish(node, stamp, partitions)
        return "unknown"
    if any(each.state is State.COMMITTED for each in found) or may_commit(answers):
        if (yield from commit(node, stamp, partitions)):
            node.world.counts["committed by others"] += 1
            yield from finish(node, stamp, partitions)
            return "stored"
        return None
    if any(is_never(each) for each in answers.values()):
        node.world.counts["given up"] += 1
        yield from finish(node, stamp, partitions)
        return "not applied" if proves_nothing_was_purged(answers, stamp) else "unknown"
    yield from spread(node, stamp, answers)
    return None


def proves_nothing_was_purged(answers: Answers, stamp: int) -> bool:
    """Where a tombstone may be gone, so may the batch that it was of, with its rows applied."""
    return all(each.stable < part_stamp(stamp) for answered in answers.values() for each in answered.values())


def spread(node: "Node", stamp: int, answers: Answers) -> Steps[None]:
    """Copies to who does not hold it, where somebody does."""
    world = node.world

    def copy(store: Store, holder: Answer) -> None:
        assert holder.batch is not None
        if store.whole:
            vouched = is_vouched(holder.store, world.ids(store.partition))
            world.counts["copied"] += store.hold(holder.batch, vouched=vouched).state is State.HELD

    for partition, answered in answers.items():
        holders = states(answered, State.HELD)
        for each in states(answered, State.NONE, State.NEVER) if holders else ():
            store = world.stores[partition][each.place]
            world.send(node, world.node_of(store), partial(copy, store, holders[0]))
    yield world.random.randint(3, 10)


def is_vouched(holder: int, ids: tuple[int, ...]) -> bool:
    return holder in ids
