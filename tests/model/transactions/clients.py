"""Clients: transactions, and plain gets, sets and compares beside them."""

from typing import TYPE_CHECKING

from tests.model.events import Steps, Wait
from tests.model.transactions.helping import meet
from tests.model.transactions.judge import Told
from tests.model.transactions.rows import KEYS, Answered
from tests.model.transactions.transaction import PATIENCE, Plan, Running, transaction

if TYPE_CHECKING:
    from tests.model.transactions.world import Node, World

BLIND_SHARE = 0.2
REPEATS_MAX = 3


def begin(world: "World") -> Steps[None]:
    """Somebody wants something."""
    node = world.random.choice(world.nodes)
    kind = world.random.random()
    told = Told(world.judge, world.now)
    if kind < 0.6:
        return transaction(Running(node, plan(world), told, world.now))
    key = world.random.choice(KEYS)
    if kind < 0.75:
        return transaction(Running(node, Plan(key, "", ""), told, world.now))
    expected = None
    if kind < 0.9:
        row = world.rows.rows[key]
        expected = row.intent.old if row.intent is not None and world.chance(0.7) else row.identity
        if world.chance(0.2):
            expected = world.random.choice(world.judge.chain[key])
    return write(node, told, key, expected)


def plan(world: "World") -> Plan:
    keys = world.shuffled(KEYS)[: world.random.choice((1, 2, 2, 3))]
    if len(keys) > 1 and world.chance(0.2):
        return Plan(keys, "", "")
    blind = "".join(key for key in keys if world.chance(BLIND_SHARE))
    reads = "".join(key for key in keys if key not in blind)
    return Plan(reads, reads[: world.random.randint(0 if blind else 1, len(reads))] if reads else "", blind)


def write(node: "Node", told: Told, key: str, expected: int | None) -> Steps[None]:
    """Until it is stored or lost, or has to give up: then it may come yet."""
    world, repeats = node.world, 0
    identity = told.writes[key] = world.judge.fresh()
    told.expected = expected
    if expected is not None:
        told.reads[key] = expected
    while repeats < REPEATS_MAX and world.now - told.begun < 300:
        answered = yield from send_write(node, key, identity, expected)
        if answered is None:
            repeats += 1
        elif answered.blocked is not None:
            yield from meet(node, key, answered.blocked)
        elif answered.stored:
            told.answer("stored")
            return
        else:
            told.reads[key] = answered.identity
            told.answer("lost")
            return
    told.answer("unknown")


def send_write(node: "Node", key: str, identity: int, expected: int | None) -> Steps[Answered | None]:
    world, wait = node.world, Wait()

    def arrive() -> None:
        answered = world.rows.write(key, identity, expected)
        world.transmit(lambda: wait.give(answered))

    world.transmit(arrive)
    world.after(PATIENCE, lambda: wait.give(None))
    answered: Answered | None = yield wait
    return answered
