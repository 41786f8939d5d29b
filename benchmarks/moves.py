"""Moves: what it costs that members join, are drained and are replaced, while everything is served.

The course is `moves_course.py`'s, who is struck meanwhile `moves_faults.py`'s, and what is made of what was
seen `moves_report.py`'s. Here are the command, and the figures in words.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click
import trio

from basestore import BasestoreError
from benchmarks.cluster import Cluster, ClusterFailed, start_cluster
from benchmarks.machine import interpreter, load_average
from benchmarks.moves_course import Plan, Say, measure
from benchmarks.moves_report import Found, Latencies

_LINE = re.compile(r"^\S+Z (WARNING|ERROR|CRITICAL) (.*)$|^(Traceback .*)$", re.MULTILINE)
_DIGITS = re.compile(r"\d+")
_LATENCIES = "requests  get p50     p99      x  set p50     p99      x      max  errors"


# --- the report ----------------------------------------------------------------------------------


def as_text(plan: Plan, found: Found) -> str:
    load = "no client, no faults" if plan.quiet else f"get and set at QUORUM, {plan.rate_per_s:g} a second"
    lines = [
        f"{interpreter()}, load {load_average()}",
        f"{plan.records:,} records, loaded at {found.loaded_per_s:,.0f} a second; {load}",
        "",
        *_latency_lines(found),
        "change         seconds  replicas    records  records/s",
        *(
            f"{each.change:<13} {each.seconds:>8.1f} {each.replicas:>9,} {each.records:>10,} "
            f"{each.records_per_s:>10,.0f}"
            for each in found.moved
        ),
        "",
    ]
    if found.bytes is not None:
        sent = found.bytes
        lines += [
            f"sent while moving  {sent.sent:,} bytes by all nodes together, heartbeats and all, is "
            f"{sent.to_had_to_move:.3f} times",
            f"had to move        {sent.had_to_move:,} bytes: row and record, {sent.record_bytes} bytes, "
            f"for each replica that came",
            f"idle               {sent.idle_bytes_per_s:,.0f} bytes a second, before anything moved",
            "",
        ]
    return "\n".join([*lines, *_account_lines(found)])


def _latency_lines(found: Found) -> Iterator[str]:
    """ms; x: p99 to that of the first phase."""
    if not found.phases:
        return
    yield f"phase          seconds  {_LATENCIES}"
    for each in found.phases:
        x = each.get_p99_to_quiet, each.set_p99_to_quiet
        yield f"{each.phase:<13} {each.seconds:>8.1f}  {_latencies(each.latencies, *x)}"
    yield ""
    yield f"5 s and more behind   at  back s  {_LATENCIES}"
    for row in found.disturbed:
        what = f"{row.what} {row.node} {row.stage}"
        yield f"{what:<16} {row.at_s:>7.1f} {row.back_s:>7.1f}  {_latencies(row.latencies, None, None)}"
    if found.not_done:
        yield f"not seen in time, and so not done: {', '.join(found.not_done)}"
    yield ""


def _latencies(of: Latencies, get_x: float | None, set_x: float | None) -> str:
    errors = " ".join(f"{kind} {times}" for kind, times in of.kinds.items()) or "0"
    return (
        f"{of.requests:>8,} {_number(of.get_p50_ms):>8} {_number(of.get_p99_ms):>7} {_number(get_x):>6} "
        f"{_number(of.set_p50_ms):>8} {_number(of.set_p99_ms):>7} {_number(set_x):>6} "
        f"{_number(of.max_ms):>8}  {errors}"
    )


def _account_lines(found: Found) -> Iterator[str]:
    checked = found.checked
    if checked is None:
        return
    yield f"lost               {checked.lost:,} of {checked.records:,} records, by reads of all at QUORUM"
    yield f"acknowledged       {checked.acknowledged:,} writes of {checked.keys_written:,} keys"
    yield f"altered            {checked.altered:,}; reads that went back {checked.went_back:,}"
    proven = "all is everywhere" if checked.converged else "NOT proven to be everywhere"
    yield f"converged          {proven}, after {checked.converged_s:.1f} s; {checked.copies:,} copies"
    for text, times in found.log_lines.items():
        yield f"nodes say          {times} times: {text}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 1000 else f"{value:.0f}"


def log_lines(logs: Sequence[str]) -> dict[str, int]:
    """What nodes have said at warning or worse, with an N for each number, and how often."""
    said = (match for log in logs for match in _LINE.finditer(log))
    texts = Counter(_DIGITS.sub("N", each[3] or f"{each[1]} {each[2]}")[:200] for each in said)
    return dict(texts.most_common())


# --- the command ---------------------------------------------------------------------------------


def run(plan: Plan, say: Say) -> Found:
    """ClusterFailed, BasestoreError, OSError."""
    with start_cluster(plan.parent, "sync") as cluster:
        try:
            found = trio.run(measure, plan, cluster, say)
        except BaseExceptionGroup as group:
            _say_logs(cluster, say)
            raise _first(group) from group
        found.log_lines = log_lines([cluster.log(place) for place in range(len(cluster.processes))])
    return found


def _say_logs(cluster: Cluster, say: Say) -> None:
    """What nodes have said, where the course was broken off."""
    for place in range(len(cluster.processes)):
        say(f"--- n{place + 1}\n{cluster.log(place)[-2000:]}")


def _first(error: BaseException) -> BaseException:
    """What a group is about."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@click.command("moves")
@click.option("--records", default=1_000_000, show_default=True, type=click.IntRange(100, 100_000_000),
              help="How many are loaded beforehand, of 100 bytes each.")  # fmt: skip
@click.option("--rate", default=100.0, show_default=True, type=click.FloatRange(1, 10_000),
              help="Requests a second, half of them writes.")  # fmt: skip
@click.option("--seconds", default=30.0, show_default=True, type=click.FloatRange(0.1, 600),
              help="Length of a window in which nothing moves.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No client and no faults: how many bytes are sent for the moves.")
@click.option("--replace", is_flag=True, help="A dead node of three is replaced by a fourth.")
@click.option("--plot", type=click.Path(dir_okay=False, writable=True, path_type=Path), metavar="FILE",
              help="Draw latencies, moves and faults, as .svg, .png or .pdf; needs matplotlib.")  # fmt: skip
@click.option("--directory", type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
              help="Where to make the stores.  [default: where temporary files go]")  # fmt: skip
@click.option("-o", "--output", default="text", show_default=True, type=click.Choice(["text", "json"]),
              help="How to print: tables, or an object.")  # fmt: skip
def moves_command(
    records: int, rate: float, seconds: float, quiet: bool, replace: bool, plot: Path | None,
    directory: Path | None, output: str,
) -> None:  # fmt: skip
    """What moves cost: three nodes become six and three others again, under load and faults.

    A client reads and writes at QUORUM at a steady rate that does not wait for answers. Three nodes join, one
    after the other; then the first three are drained and stopped. In each stage of the moves a member is
    killed and started again, and one stands still. In the end every record is read, and must be as it was
    last acknowledged.
    """
    draw = None if plot is None else _plotter()
    plan = Plan(records, rate, seconds, quiet, replace, directory)

    def say(text: str) -> None:
        click.echo(text, err=True)

    try:
        found = run(plan, say)
    except (ClusterFailed, BasestoreError, OSError) as failure:
        raise click.ClickException(str(failure)) from failure
    click.echo(json.dumps(asdict(found), indent=1) if output == "json" else as_text(plan, found))
    if draw is not None and plot is not None:
        draw(plot, found)


def _plotter() -> Callable[[Path, Found], None]:
    """Found out beforehand: a run is long."""
    try:
        from benchmarks.moves_plot import draw
    except ModuleNotFoundError as absent:
        raise click.UsageError(
            f"--plot needs {absent.name}, which is not installed: pip install matplotlib"
        ) from absent
    return draw
