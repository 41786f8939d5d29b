"""`python -m benchmarks`: a command for each thing that is measured.

Data goes to stdout; progress, notes and errors go to stderr.
"""

import signal
import sys
from types import FrameType

import click

from benchmarks.beside import beside_command
from benchmarks.cost import cost_command
from benchmarks.handoff import handoff_command
from benchmarks.idle import idle_command
from benchmarks.levels import levels_command
from benchmarks.moves import moves_command
from benchmarks.overload import overload_command
from benchmarks.repair import repair_command
from benchmarks.serial import serial_command
from benchmarks.speculation import speculation_command
from benchmarks.topology import topology_command
from benchmarks.watch import watch_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """Measure basestore on this machine: real node processes on loopback, and a separate client; `cost`,
    `repair` and half of `idle` measure nodes in one process, `beside` other servers too."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, _frame: FrameType | None) -> None:
    """End by way of the blocks that end the nodes."""
    sys.exit(128 + number)


group.add_command(levels_command)
group.add_command(cost_command)
group.add_command(handoff_command)
group.add_command(speculation_command)
group.add_command(repair_command)
group.add_command(idle_command)
group.add_command(beside_command)
group.add_command(overload_command)
group.add_command(topology_command)
group.add_command(moves_command)
group.add_command(serial_command)
group.add_command(watch_command)

if __name__ == "__main__":
    group(prog_name="python -m benchmarks")
