"""`python -m tests.cluster.dying_batches serve ...`: a node that ends itself as by kill -9, at a moment that
it is told, of the first atomic batch that its client asks it for.

    DIES_AT       which moment
                  "begun"        nothing of it was asked of anybody
                  "one holds"    one replica has said that it holds its part; all were asked to
                  "all held"     a quorum of each partition holds it, and nothing is applied
                  "one applied"  one has said that its part is applied; all were asked to
                  "all applied"  a quorum of each has; its client was not told, nor is it over

Without it it is a node like any other.
"""

import os
import sys
from typing import Any, Final

from basestore.batches.course import Course
from basestore.batches.round import Round
from basestore.cli import main as command
from basestore.protocol.groups import COMMITTED, HELD
from tests.cluster.dying import die
from tests.cluster.processes import SERVE, NodeProcess

BEGUN, ONE_HOLDS, ALL_HELD, ONE_APPLIED, ALL_APPLIED = MOMENTS = (
    "begun", "one holds", "all held", "one applied", "all applied",
)  # fmt: skip
STEPS: Final = {BEGUN: "hold", ALL_HELD: "commit", ALL_APPLIED: "finish"}
SAID: Final = {ONE_HOLDS: HELD, ONE_APPLIED: COMMITTED}


def mortal(node: NodeProcess) -> None:
    """Have it run by this program from its next start on."""
    node.command = (sys.executable, "-m", "tests.cluster.dying_batches", *SERVE)


def install(moment: str) -> None:
    """Die at it."""
    if moment in STEPS:

        def reached(course: Course, *_: Any, **more: Any) -> None:
            die()

        setattr(Course, STEPS[moment], reached)
        return
    hears, state = Round.part_told, SAID[moment]

    def told(asked: Round, member: int, answer: Any, now: Any) -> None:
        if answer.state == state:
            die()
        hears(asked, member, answer, now)

    Round.part_told = told  # type: ignore[assignment, method-assign]


def main() -> None:
    """The command; its node dies as it is told."""
    if "DIES_AT" in os.environ:
        install(os.environ["DIES_AT"])
    command()


if __name__ == "__main__":
    main()
