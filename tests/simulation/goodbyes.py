"""Goodbyes: machines that end in the orderly way, as `basestore.server.connections` ends a node.

Everybody who is connected is told. What was asked before is answered, as far as that takes little time; what
is asked later is refused for certain. Then the node ends, and comes back after a while.
"""

from typing import TYPE_CHECKING

from basestore.protocol.handshake import Goodbye
from basestore.server.connections import GOODBYE_S_MAX, QUIET_S

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

LOOK_S = 0.05


def say_goodbye(machine: "Machine", back_s: float) -> None:
    """It begins to end, and is back so long after it has ended."""
    if machine.node is None or machine.paused or machine.leaving:
        return
    clockwork = machine.world.clockwork
    machine.world.counts["goodbye said"] += 1
    machine.tell_all(Goodbye(f"{machine.node.name} stops; ask another node"))
    clockwork.after(QUIET_S, _part, machine, machine.life, clockwork.now + GOODBYE_S_MAX, back_s)


def _part(machine: "Machine", life: int, until_s: float, back_s: float) -> None:
    """All is quiet, or it has waited long enough."""
    clockwork = machine.world.clockwork
    if machine.life != life or machine.node is None:
        return
    if machine.paused or (machine.awaited and clockwork.now < until_s):
        clockwork.after(LOOK_S, _part, machine, life, until_s, back_s)
        return
    machine.world.counts["goodbye awaited by some for too long"] += machine.awaited
    machine.stop()
    clockwork.after(back_s, machine.start)
