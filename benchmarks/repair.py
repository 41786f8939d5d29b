"""Repair: the command that measures it, and what it prints.

    exchanges   what two replicas say to each other for a difference of d in n records (`reconciling.py`),
               beside what other ways would have said (`rivals.py`)
    cost       what the summaries add to each write (`writing_cost.py`)
    reopen     how long a node takes to open a large store (`reopening.py`)

The aims are for the bytes of metadata: at most 88 where nothing differs, 480 for 100 and 20,000 for 10,000
losses at random among the writes since an old certificate, and 200 for one run of losses, however
old the certificate is.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from basestore.errors import BasestoreError
from benchmarks.pair import PairFailed
from benchmarks.reconciling import Cell, Found, Pattern, measure, plan_cells
from benchmarks.reopening import ReopeningFailed, measure_reopening, reopening_text
from benchmarks.report import ExchangeRow
from benchmarks.rivals import limit_bytes, whole_set_bytes
from benchmarks.writing_cost import cost_text, measure_cost

KEYS_MAX = 10_000_000
COST_PAIRS = 90  # so many that the summary log is flushed three times
OUTAGE_AIM_BYTES = 200
AIMS_BYTES = {100: 480, 10_000: 20_000}  # by losses at random
SAME_AIM_BYTES = 88  # 80, and the tag of the seats in both words, which is never 0 under a topology

_HEADINGS = (
    "                                   metadata       entry round                        CPU  certified",
    "      keys      lost which  since     bytes       bytes trips      rows unneeded       ms         s",
)
_RIVAL_HEADINGS = (
    "                                   metadata    to   bytes of metadata elsewhere           limit",
    "      keys      lost which  since     bytes reach     tree, 8    tree, 16  whole set      8 d ratio",
)


def make_row(found: Found) -> ExchangeRow:
    cell = found.cell
    limit = limit_bytes(cell.differences)
    return ExchangeRow(
        cell.keys, cell.differences, cell.pattern, cell.since, found.kind, found.metadata_bytes,
        found.entry_bytes, found.frames, found.round_trips, found.records_sent, found.unneeded_rows,
        found.cpu_ms, found.certified_s, found.tree_8_bytes, found.tree_16_bytes,
        whole_set_bytes(cell.keys, cell.differences), limit,
        round(found.metadata_bytes / limit, 3) if limit else None, aim_bytes(cell),
    )  # fmt: skip


def aim_bytes(cell: Cell) -> int | None:
    """The most that the metadata should take, where an aim was set."""
    if not cell.differences:
        return SAME_AIM_BYTES
    if cell.pattern == "outage":
        return OUTAGE_AIM_BYTES
    return AIMS_BYTES.get(cell.differences)


def table(rows: Sequence[ExchangeRow]) -> str:
    return "\n".join([
        *_HEADINGS, *map(_line, rows), "", *_RIVAL_HEADINGS, *map(_rival_line, rows), "",
        "lost: records that one of two replicas lacks; since: when the last certificate was made; !: missed;",
        "rows: entries sent; tree: a digest tree, 16 children, 65,536 leaves, sums of 8 or 16 bytes;",
        "whole set: 8 bytes a record; ratio: metadata to the limit of a set that is known by 64-bit hashes",
    ])  # fmt: skip


def _name(row: ExchangeRow) -> str:
    return f"{row.keys:>10,} {row.differences:>9,} {row.pattern:<6} {row.certificate:<6}"


def _line(row: ExchangeRow) -> str:
    return (
        f"{_name(row)} {row.metadata_bytes:>8,} {row.entry_bytes:>11,} {row.round_trips:>5} "
        f"{row.records_sent:>9,} {row.unneeded_rows:>8,} {row.cpu_ms:>8,.0f} {row.certified_s:>9.3f}"
    )


def _rival_line(row: ExchangeRow) -> str:
    aim = "" if row.aim_bytes is None else f"{row.aim_bytes:,}"
    missed = "!" if row.aim_bytes is not None and row.metadata_bytes > row.aim_bytes else " "
    ratio = "-" if row.ratio is None else f"{row.ratio:.3f}" if row.ratio < 10 else f"{row.ratio:.1f}"
    return (
        f"{_name(row)} {row.metadata_bytes:>8,} {aim:>6}{missed} {row.tree_8_bytes:>10,} "
        f"{row.tree_16_bytes:>11,} {row.whole_set_bytes:>10,} {row.limit_bytes:>8,} {ratio:>5}"
    )


# --- the command ---------------------------------------------------------------------------------


def _numbers(least: int, most: int) -> Callable[[click.Context, click.Parameter, str], list[int]]:
    """A callback that reads whole numbers between commas."""

    def read(_context: click.Context, _parameter: click.Parameter, text: str) -> list[int]:
        words = [word.strip() for word in text.split(",")]
        for word in words:
            if not (word.isascii() and word.isdigit() and least <= int(word) <= most):
                raise click.BadParameter(f"{word!r} is not a number from {least} to {most}")
        return list(dict.fromkeys(map(int, words)))

    return read


@click.command("repair")
@click.option("--keys", default="100000,1000000", show_default=True, callback=_numbers(1, KEYS_MAX),
              help="Numbers of records that both replicas hold, or should.")  # fmt: skip
@click.option("--differences", default="0,1,100,10000", show_default=True, callback=_numbers(0, KEYS_MAX),
              help="Numbers of records that one of them lacks.")  # fmt: skip
@click.option("--pattern", default="both", show_default=True,
              type=click.Choice(["random", "outage", "both"]),
              help="Which records are lacking: any, or those of one stretch of time.")  # fmt: skip
@click.option("--cost", is_flag=True, help="Measure instead what the summaries add to a write.")
@click.option("--reopen", is_flag=True, help="Measure instead how long a store of --keys takes to open.")
@click.option("--plot", type=click.Path(dir_okay=False, writable=True, path_type=Path), metavar="FILE",
              help="Draw the bytes of metadata too, as .svg, .png or .pdf; needs matplotlib.")  # fmt: skip
@click.option("--directory", type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
              help="Where to make the stores.  [default: where temporary files go]")  # fmt: skip
@click.option("-o", "--output", default="text", show_default=True, type=click.Choice(["text", "json"]),
              help="How to print: tables, or a list of rows.")  # fmt: skip
def repair_command(
    keys: list[int],
    differences: list[int],
    pattern: str,
    cost: bool,
    reopen: bool,
    plot: Path | None,
    directory: Path | None,
    output: str,
) -> None:
    """What anti-entropy costs: for a difference, on each write, and when a store is opened.

    Two real nodes run in this process, without sockets. Bytes are those of the messages of exchanges as
    they are encoded into the frames between them, both ways; frame headers are not counted. Bytes and
    round trips hardly change from run to run; times are this machine's.
    """
    if cost + reopen + (plot is not None) > 1:
        raise click.UsageError("--cost, --reopen and --plot are for runs of their own")
    try:
        if cost:
            costs = measure_cost(COST_PAIRS, directory, _say)
            _print(costs, cost_text(costs), output)
        elif reopen:
            openings = measure_reopening(keys, directory, _say)
            _print(openings, reopening_text(openings), output)
        else:
            _exchanges(plan_cells(keys, differences, _patterns(pattern)), plot, directory, output)
    except (PairFailed, ReopeningFailed, BasestoreError) as failure:
        raise click.ClickException(str(failure)) from failure


def _patterns(word: str) -> list[Pattern]:
    return [each for each in ("random", "outage") if word in (each, "both")]


def _exchanges(cells: Sequence[Cell], plot: Path | None, directory: Path | None, output: str) -> None:
    if not cells:
        raise click.UsageError("no more than half of the records can be lacking")
    draw = None if plot is None else _plotter()
    rows = [make_row(found) for found in measure(cells, directory, _say)]
    _print(rows, table(rows), output)
    if draw is not None and plot is not None:
        draw(plot, rows)


def _plotter() -> Callable[[Path, Sequence[ExchangeRow]], None]:
    """Found before anything is measured."""
    try:
        from benchmarks.plot import draw
    except ModuleNotFoundError as absent:
        raise click.ClickException(
            f"--plot needs {absent.name}, which is not installed: pip install matplotlib"
        ) from absent
    return draw


def _say(text: str) -> None:
    click.echo(text, err=True)


def _print(rows: Sequence[Any], text: str, output: str) -> None:
    click.echo(json.dumps([asdict(row) for row in rows], indent=1) if output == "json" else text)
