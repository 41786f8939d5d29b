"""Drills: which there are, and how one is played. A new one is a module with a `play`, and a line here.

cap           what each level answers while the network is parted (`cap.py`)
split-brain   two owners of one name, and who finds out (`split_brain.py`)
two-phase     who waits when the coordinator of a commit stops (`two_phase.py`)
three-phase   who decides when the network parts during a commit (`three_phase.py`)
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from basestore.drill import cap, split_brain, three_phase, two_phase
from basestore.drill.report import NotSo, Report
from basestore.drill.simulation import Simulation


class Drill(NamedTuple):
    """`summary`: what it shows, in one sentence; `nodes`: of so many."""

    summary: str
    nodes: int
    play: Callable[[Simulation, Report], None]


DRILLS: Final[Mapping[str, Drill]] = {
    "cap": Drill(cap.SUMMARY, cap.NODES, cap.play),
    "split-brain": Drill(split_brain.SUMMARY, split_brain.NODES, split_brain.play),
    "two-phase": Drill(two_phase.SUMMARY, two_phase.NODES, two_phase.play),
    "three-phase": Drill(three_phase.SUMMARY, three_phase.NODES, three_phase.play),
}


def play(name: str, seed: int) -> Report:
    """The same for the same seed, wherever it is played. Raises whatever a node raises: that is a bug."""
    drill, clock = DRILLS[name], list[Simulation]()
    report = Report(name, seed, lambda: clock[0].now_s if clock else 0.0)
    try:
        simulation = Simulation(drill.nodes, seed)
        clock.append(simulation)
        drill.play(simulation, report)
    except NotSo as error:
        report.failed = error
    return report
