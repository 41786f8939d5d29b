"""Transactions that have come so far, and no further: their coordinator has died, or is heard no more."""

from basestore.protocol.client import Committed
from basestore.repair.compare_and_set import Condition
from basestore.transactions.transaction import Phase
from tests.worlds.transactions import Step, TransactionWorld
from tests.worlds.world import Call

TURNS_MAX = 400


def key_at(world: TransactionWorld, home: int, number: int = 0) -> str:
    """A key that this node writes, while all are alive; another one for each number."""
    return [key for key in map(chr, range(ord("a"), ord("z"))) if world.home(key) == home][number]


def come_to(world: TransactionWorld, at: int, phase: Phase) -> None:
    """Turn by turn, until a transaction of this node is there."""
    for _ in range(TURNS_MAX):
        if any(each.phase is phase for each in world.node(at).transactions.open):
            return
        world.turn()
    raise AssertionError(f"none comes to be {phase.value}")


def begun(world: TransactionWorld, at: int, phase: Phase, *steps: Step, timeout_s: float = 2.0) -> Call:
    """One that has come so far; nothing that its node says from then on is on its way yet."""
    call = world.transact(at, *steps, timeout_s=timeout_s)
    come_to(world, at, phase)
    return call


def left(world: TransactionWorld, at: int, phase: Phase, *steps: Step) -> None:
    """One whose coordinator has died so far on. `DECIDE`: all its intents are laid, nothing is decided."""
    begun(world, at, phase, *steps)
    world.crash(at)
    world.settle()


def left_unheard(world: TransactionWorld, at: int, phase: Phase, *steps: Step) -> None:
    """One whose coordinator has fallen silent so far on, and whom the others believe to be alive yet."""
    begun(world, at, phase, *steps)
    silence(world, at)
    world.settle()


def answered_and_left(world: TransactionWorld, at: int, *steps: Step) -> list[bytes]:
    """It was told to be committed; and then its coordinator has died, before any intent was settled. It is
    the home of none of these rows."""
    world.lose = lambda sent: getattr(sent.message, "condition", 0) == Condition.SETTLE.value
    call = world.transact(at, *steps)
    for _ in range(TURNS_MAX):
        world.turn()
        if call.done:
            break
    answer = call.reply()
    assert isinstance(answer, Committed)
    world.crash(at)
    world.lose = lambda sent: False
    assert world.intents()
    return answer.versions


def silence(world: TransactionWorld, at: int) -> None:
    """Nothing that it says is heard until it may `speak`."""
    for other in range(len(world.nodes)):
        world.hold(at, other)


def speak(world: TransactionWorld, at: int) -> None:
    for other in range(len(world.nodes)):
        world.release(at, other)
