"""Drill: the command that plays a simulation of a whole cluster, and prints what it shows.

Owns the words around it, and how its report looks. What is played, and what must be so, is `drill`'s.
"""

import json
import re
import textwrap
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.options import Target, command, share

if TYPE_CHECKING:
    from basestore.drill.report import Act, Report

SEED_DEFAULT = 1
WIDTH = 100
_INDENT = "   "
_UNIT = re.compile(r"(\d) (m?s)\b")


@command("drill")
@click.argument("name", type=click.Choice(["cap", "split-brain", "two-phase", "three-phase"]))
@click.option(
    "--seed", type=int, default=SEED_DEFAULT, help="Another one, another course of events. [default: 1]"
)
@share("output")
def drill_command(target: Target, name: str, seed: int) -> int:
    """Watch what a cluster answers when things go wrong, in a simulation.

    The nodes are real, and run in this process; their network, clocks and disks are simulated, so that it
    takes a moment, touches nothing, and is the same for the same seed wherever it is played. Every line is
    of this very run.

    \b
    cap           what each level answers on both sides of a network that has parted, and after it
    split-brain   two clients that both take themselves for the leader: which buckets let them
    two-phase     who waits when the coordinator of a commit stops: by the textbook, and here
    three-phase   who decides when the network parts during a commit: by the textbook, and here

    Ends with 0 if all that is claimed (=>) was so in this run, and with 70 if something was not.

    \b
    Example:
        basestore drill cap
        basestore drill split-brain --seed 7 -o json | jq .acts
    """
    from basestore.drill.drills import play

    report = play(name, seed)
    click.echo(json.dumps(report.as_json(), indent=2) if target.json else shown(report))
    if report.failed is not None:
        exits.say_error(report.failed)
        return exits.BUG
    return exits.DONE


def shown(report: "Report") -> str:
    """All of it, for people."""
    from basestore.drill.drills import DRILLS

    drill = DRILLS[report.drill]
    head = (
        f"{drill.summary} {drill.nodes} real nodes in one process, n1 to n{drill.nodes}; time is simulated, "
        f"and all chance is of seed {report.seed}."
    )
    lines = textwrap.wrap(head, WIDTH)
    for number, act in enumerate(report.acts, 1):
        lines += ["", f"{number}. {act.title} (at {act.at_s:.2f} s)", *_lines(act)]
    if report.failed is None:
        lines += [
            "",
            f"All {len(report.claims)} claims (=>) were so, in {report.seconds:.2f} simulated seconds.",
        ]
    return "\n".join(lines)


def _lines(act: "Act") -> list[str]:
    from basestore.drill.report import Claim, Table

    lines: list[str] = []
    for each in act.shown:
        if isinstance(each, Table):
            rows = [[asked, *(answer.cell for answer in row)] for asked, row in each.rows.items()]
            lines += textwrap.indent(text.table(["", *each.header], rows), _INDENT).split("\n")
        elif isinstance(each, Claim):
            lines += _wrapped(f"{each.claim}: {each.found}", f"{_INDENT}=> ")
        else:
            lines += _wrapped(each.text, _INDENT)
    return lines


def _wrapped(words: str, first: str) -> list[str]:
    """A number and its unit stay together."""
    whole = _UNIT.sub("\\1\xa0\\2", words)
    lines = textwrap.wrap(
        whole, WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False
    )
    return [line.replace("\xa0", " ") for line in lines]
