"""Transaction: reads, lays its intents, validates what it only read, decides, answers, resolves.

Its ballot b0 is drawn before the first intent is laid, and names its row. As long as COMMITTED has not left,
nobody can commit it: it may roll back by itself, and say that nothing was done, without writing a decision.
Once it has left, only the row knows.

A blind write names what it replaces, too: what it finds when it is laid. One that named nothing could be laid
again by a late message over what came after it.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.model.events import Steps, Wait
from tests.model.transactions.deciding import propose
from tests.model.transactions.helping import clean, meet, resolve, roll_back
from tests.model.transactions.records import Ballot, Decision, Intent, Verdict
from tests.model.transactions.rows import Answered

if TYPE_CHECKING:
    from tests.model.transactions.judge import Told
    from tests.model.transactions.world import Node

PATIENCE = 20
LAYS_MAX = 12
DEADLINE = 150


class Plan(NamedTuple):
    """`reads`: keys, some of which are written; `blind`: those that are written without having been read."""

    reads: str
    writes: str
    blind: str


@dataclass
class Running:
    node: "Node"
    plan: Plan
    told: "Told"
    begun: int
    ballot: Ballot | None = None
    laid: dict[str, Intent] = field(default_factory=dict)

    @property
    def is_late(self) -> bool:
        return self.node.world.now - self.begun > DEADLINE


def read(running: Running, key: str, *, single: bool = False) -> Steps[int | None]:
    """A foreign intent has to be out of the way. None: not in time."""
    node = running.node
    while not running.is_late:
        yield node.world.random.randint(1, 4)
        row = node.world.rows.rows[key]
        if row.intent is None:
            return row.identity
        through = read_through(row.intent, single=single)
        if through is not None:
            return through
        yield from meet(node, key, row.intent)
    return None


def read_through(intent: Intent, *, single: bool) -> int | None:
    return None


def transaction(running: Running) -> Steps[None]:
    node, plan, told = running.node, running.plan, running.told
    for key in node.world.shuffled(plan.reads):
        found = yield from read(running, key, single=len(plan.reads) == 1 and not plan.blind)
        if found is None:
            told.answer("conflict")
            return
        told.reads[key] = found
    writes = plan.writes + plan.blind
    if not writes and len(plan.reads) == 1:
        told.answer("read")
        return
    if writes:
        running.ballot = node.stamp()
    if not (yield from prepare(running, writes)):
        yield from give_up(running)
    elif not writes:
        told.answer("committed")
    else:
        yield from commit(running)


def prepare(running: Running, writes: str) -> Steps[bool]:
    """Locks what it writes, then looks again at what it has only read."""
    return (yield from lay_all(running, writes)) and (yield from validate(running))


def lay_all(running: Running, writes: str) -> Steps[bool]:
    for key in running.node.world.shuffled(writes):
        if not (yield from lay(running, key)):
            return False
    return True


def lay(running: Running, key: str) -> Steps[bool]:
    """Until it is laid for sure, or may not be, or there is no more time: then it may come yet."""
    node, mine = running.node, running.ballot
    assert mine is not None
    identity = running.told.writes.setdefault(key, node.world.judge.fresh())
    for _ in range(LAYS_MAX):
        if running.is_late:
            return False
        yield 1
        row = node.world.rows.rows[key]
        if row.intent is not None and row.intent.transaction == mine:
            running.laid[key] = row.intent
            return True
        if row.intent is not None:
            if not (yield from meet(node, key, row.intent, mine)):
                return False
            continue
        old = running.told.reads.get(key, row.identity)
        if old != row.identity and not ignores(running, key):
            return False
        intent = Intent(mine, identity, old)
        answered = yield from send_lay(node, key, intent)
        if answered is not None and answered.stored:
            running.laid[key] = intent
            return True
    return False


def ignores(running: Running, key: str) -> bool:
    return False


def send_lay(node: "Node", key: str, intent: Intent) -> Steps[Answered | None]:
    """None: no answer; it may come yet."""
    world, wait = node.world, Wait()

    def arrive() -> None:
        answered = world.rows.lay(key, intent)
        world.transmit(lambda: wait.give(answered))

    world.transmit(arrive)
    world.after(PATIENCE, lambda: wait.give(None))
    answered: Answered | None = yield wait
    return answered


def validate(running: Running) -> Steps[bool]:
    node, plan = running.node, running.plan
    for key in plan.reads:
        if key in plan.writes:
            continue
        while True:
            yield node.world.random.randint(1, 3)
            row = node.world.rows.rows[key]
            if row.intent is None:
                break
            if running.is_late or not (yield from meet(node, key, row.intent, running.ballot)):
                return False
        if row.identity != running.told.reads[key]:
            return False
    return True


def give_up(running: Running) -> Steps[None]:
    """COMMITTED was not proposed: nothing can come of it."""
    running.told.answer("conflict")
    for key, intent in running.laid.items():
        yield 1
        roll_back(running.node, key, intent)


def commit(running: Running) -> Steps[None]:
    row = running.ballot
    assert row is not None
    committed = yield from decide(running, row)
    if committed is None:
        running.told.answer("unknown")
        return
    running.told.answer("committed" if committed else "aborted by others")
    verdict = Verdict.COMMITTED if committed else Verdict.ABORTED
    yield from conclude(running, row, Decision(verdict, row, row, keys="".join(running.laid)))


def decide(running: Running, row: Ballot) -> Steps[bool | None]:
    return (yield from propose(running.node, row, "".join(running.laid)))


def conclude(running: Running, row: Ballot, decision: Decision) -> Steps[None]:
    """Behind the answer. What it does not get done others do."""
    for key, intent in running.laid.items():
        yield from resolve(running.node, key, intent, decision)
    if decision.verdict is Verdict.COMMITTED:
        yield from clean(running.node, row, decision)
