"""Helping: what becomes of somebody's intent that is in the way, and of old rows of transactions.

    COMMITTED   the intent's record takes the row, under the intent's identity
    ABORTED     the old record stands again, under its own identity
    gone        likewise, without asking further: had it been committed, no intent of it would be left, and
                whoever resolves compares on that very intent
    open        wait while it is young; then write ABORTED

*Wait-die*: who holds intents and meets one of an older transaction gives up at once; of a younger one, it
waits for its decision or ends it. So those that wait for each other are never a circle.
"""

from typing import TYPE_CHECKING

from tests.model.events import Steps
from tests.model.transactions.deciding import delete, end, look
from tests.model.transactions.records import Ballot, Decision, Intent, Verdict

if TYPE_CHECKING:
    from tests.model.transactions.world import Node

YOUNG = 60  # as long as an intent is that, by anybody's clock, its coordinator may be about to decide


def meet(node: "Node", key: str, intent: Intent, mine: Ballot | None = None) -> Steps[bool]:
    """`mine`: of the transaction that holds intents itself. False: it has to give way."""
    world = node.world
    decision = yield from look(node, intent.transaction)
    if decision is not None and is_undecided(decision):
        if is_young(node, intent):
            if mine is not None and must_give_way(mine, intent.transaction):
                world.counts["gave way to an older one"] += 1
                return False
            world.counts["waited for a younger one"] += mine is not None
            ends = mine is not None and world.chance(0.2)
            if not ends:
                yield from wait_for(node, intent.transaction, mine)
                return True
        decision = yield from end(node, intent.transaction)
    if decision is not None and not is_undecided(decision):
        yield from resolve(node, key, intent, decision)
    return True


def is_undecided(decision: Decision) -> bool:
    return decision.verdict in (Verdict.OPEN, Verdict.FORGOTTEN)


def is_young(node: "Node", intent: Intent) -> bool:
    return node.time() - intent.transaction.stamp < YOUNG


def must_give_way(mine: Ballot, theirs: Ballot) -> bool:
    return theirs < mine


def wait_for(node: "Node", other: Ballot, mine: Ballot | None) -> Steps[None]:
    if mine is not None:
        node.world.judge.wait(mine, other)
    yield node.world.random.randint(2, 12)
    if mine is not None:
        node.world.judge.wait_no_more(mine)


def resolve(node: "Node", key: str, intent: Intent, decision: Decision) -> Steps[None]:
    yield node.world.random.randint(0, 5)
    node.world.counts["rolled back by a tombstone"] += (
        decision.verdict is Verdict.GONE and node.world.rows.rows[key].intent == intent
    )
    if decision.verdict is Verdict.COMMITTED:
        node.world.rows.resolve(key, intent, intent.identity)
    else:
        roll_back(node, key, intent)


def roll_back(node: "Node", key: str, intent: Intent) -> None:
    node.world.rows.resolve(key, intent, intent.old)


def clean(node: "Node", row: Ballot, decision: Decision) -> Steps[None]:
    """Deletes the row once nothing is left to be resolved by it. ABORTED may go at any time: what is gone is
    rolled back as well."""
    if decision.verdict is Verdict.COMMITTED:
        for key in decision.keys:
            yield 1
            found = node.world.rows.rows[key].intent
            if found is not None and found.transaction == row:
                yield from resolve(node, key, found, decision)
    yield from delete(node, row, decision)


def sweep(node: "Node", row: Ballot) -> Steps[None]:
    """Of an old row that an acceptor holds."""
    decision = yield from look(node, row)
    if decision is not None and decision.verdict in (Verdict.COMMITTED, Verdict.ABORTED):
        node.world.counts["swept"] += 1
        yield from clean(node, row, decision)
