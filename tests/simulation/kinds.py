"""Kinds: the worlds that a seed may stand for: any, one whose clients ask for registers alone, one by one, or
for several of them at once, or one in which some watch."""

from collections.abc import Callable
from typing import NamedTuple

from tests.simulation.batch_worlds import BatchWorld, draw_batches
from tests.simulation.drawing import draw
from tests.simulation.lock_worlds import LockWorld, draw_locks
from tests.simulation.plan import Plan
from tests.simulation.register_worlds import RegisterWorld, draw_registers
from tests.simulation.transaction_worlds import TransactionWorld, draw_transactions
from tests.simulation.watch_worlds import WatchWorld, draw_watches
from tests.simulation.world import PlannedWorld


class Kind(NamedTuple):
    """`draw`: the plan of a seed."""

    draw: Callable[[int], Plan]
    world: type[PlannedWorld]


PLANNED = Kind(draw, PlannedWorld)
REGISTERS = Kind(draw_registers, RegisterWorld)
WATCHES = Kind(draw_watches, WatchWorld)
BATCHES = Kind(draw_batches, BatchWorld)
TRANSACTIONS = Kind(draw_transactions, TransactionWorld)
LOCKS = Kind(draw_locks, LockWorld)
