"""Cost: what each layer of the nodes takes for a request; in two checkouts, and with few keys and many.

Owns the processes that measure (`in_process.py`, one for each checkout and number of keys), the order in
which they do so, and the worktree in which another commit is checked out. A round is one slice of each kind
of request in each process, one after the other, and whoever begins changes: what the machine does meanwhile
hits all. A figure is that of the round with the median sum; a ratio is the median of those of the rounds.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from benchmarks.in_process import BATCH, KINDS, VALUE_BYTES
from benchmarks.machine import interpreter, load_average

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "in_process.py"
PREFIX = "basestore-benchmark-"
KEYS = 10_000
KEYS_MAX = 10_000_000
ROUNDS_DEFAULT = 21
ROUNDS_MAX = 1000
ROUNDS_S_MAX = 110.0  # then no further round is begun
SLICE_BATCHES = 40
GROWTH_KINDS = ("write", "read_quorum", "read_one")  # a million keys thrice in memory are too many
HEADINGS = {"write": "write", "memory": "memory", "read_quorum": "read quorum", "read_one": "read one"}
Say = Callable[[str], None]


class CostFailed(Exception):
    """A process that measures has ended, or another commit cannot be had. Says what to do."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What a process measured in one go, in microseconds a request: `layers` of the quietest quarter of its
    batches, `all_us` over all of them."""

    layers: dict[str, float]
    all_us: float

    @property
    def sum_us(self) -> float:
        return sum(self.layers.values())


class Side:
    """A checkout whose nodes hold so many keys, and a process that measures it. `slices`: by kind."""

    def __init__(self, name: str, checkout: Path, keys: int, directory: Path) -> None:
        self.name = name
        self.keys = keys
        self.slices: dict[str, list[Slice]] = {kind: [] for kind in _kinds(keys)}
        self._checkout = checkout
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(SCRIPT), str(keys), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            start_new_session=True,
        )

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_filled(self) -> float:
        """Seconds that it took to write all keys; CostFailed."""
        began = self._answer()
        if not Path(began["basestore"]).is_relative_to(self._checkout):
            raise CostFailed(
                f"{self.name}: measured would be {began['basestore']}, which is another checkout"
            )
        return float(began["fill_s"])

    def measure(self, kind: str) -> None:
        """One more slice; CostFailed."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # that it has ended is found out just below
            print(json.dumps([kind, SLICE_BATCHES]), file=self._process.stdin, flush=True)
        found = self._answer()
        self.slices[kind].append(Slice(found["layers"], found["all"]))

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise CostFailed(f"{self.name}: its process has ended with {code}; it has said above why")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _kinds(keys: int) -> tuple[str, ...]:
    return tuple(KINDS) if keys == KEYS else GROWTH_KINDS


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: this checkout and, if it is not None, `against`; with KEYS keys and, if it is not
    None, with `keys`. `parent` is where stores and checkouts are made, or None."""

    against: str | None
    keys: int | None
    rounds: int
    parent: Path | None


def measure(plan: Plan, say: Say) -> tuple[list[Side], int]:
    """Sides with what they measured, this checkout before the other, few keys before many; and the number of
    rounds that were made. CostFailed."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix=PREFIX, dir=plan.parent)))
        checkouts = {"this checkout": ROOT}
        if plan.against is not None:
            commit = commit_of(plan.against)
            checkouts[commit] = stack.enter_context(checked_out(commit, directory / "checkout"))
        sides: list[Side] = []
        for name, checkout in checkouts.items():
            for keys in (KEYS,) if plan.keys is None else (KEYS, plan.keys):
                stores = directory / str(len(sides))
                stores.mkdir()
                side = Side(name, checkout, keys, stores)
                stack.callback(side.end)
                say(f"{name}: {keys:,} keys written in {side.wait_filled():.1f} s")
                sides.append(side)
        return sides, _rounds(sides, plan.rounds, say)


def _rounds(sides: Sequence[Side], rounds: int, say: Say) -> int:
    """So many, or as many as are begun in the time there is. How many."""
    for side in sides:
        for kind in side.slices:
            side.measure(kind)  # to warm up
            side.slices[kind].clear()
    deadline = time.monotonic() + ROUNDS_S_MAX
    for number in range(rounds):
        if number and time.monotonic() > deadline:
            say(f"only {number} rounds: the time is up")
            return number
        for kind in KINDS:
            for side in sides if number % 2 else reversed(sides):
                if kind in side.slices:
                    side.measure(kind)
    return rounds


# --- another commit ------------------------------------------------------------------------------


def commit_of(name: str) -> str:
    """The short hash of a commit of this repository; CostFailed."""
    done = _git("rev-parse", "--short", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if done.returncode:
        reason = done.stderr.strip() or "it is none of this repository's; fetch it first"
        raise CostFailed(f"no commit {name!r}: {reason}")
    return done.stdout.strip()


@contextmanager
def checked_out(commit: str, directory: Path) -> Iterator[Path]:
    """A worktree with that commit, for the length of the block; CostFailed."""
    try:
        done = _git("worktree", "add", "--detach", "--quiet", str(directory), commit)
        if done.returncode:
            raise CostFailed(f"{commit} cannot be checked out: {done.stderr.strip()}")
        yield directory
    finally:
        _git("worktree", "remove", "--force", str(directory))


def _git(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    except FileNotFoundError as absent:
        raise CostFailed("--against needs git, which is not installed") from absent


# --- what is said --------------------------------------------------------------------------------


def middle(slices: Sequence[Slice]) -> Slice:
    """The one whose sum is the median; of an even number, the lower of the two."""
    return sorted(slices, key=lambda each: each.sum_us)[(len(slices) - 1) // 2]


def ratio(side: Side, other: Side, kind: str) -> float | None:
    """The median over all rounds of what `side` takes to what `other` takes; None unless both measured it."""
    if kind not in side.slices or kind not in other.slices:
        return None
    pairs = zip(side.slices[kind], other.slices[kind], strict=True)
    return round(statistics.median(one.sum_us / two.sum_us for one, two in pairs), 3)


def figures(side: Side) -> dict[str, Any]:
    """Microseconds by kind, as sum, over all batches, and by layer."""
    found = {kind: middle(slices) for kind, slices in side.slices.items()}
    return {
        **{kind: round(each.sum_us, 2) for kind, each in found.items()},
        "all": {kind: round(each.all_us, 2) for kind, each in found.items()},
        "layers": {
            kind: {layer: round(us, 2) for layer, us in each.layers.items()} for kind, each in found.items()
        },
    }


def ratios(side: Side, other: Side) -> dict[str, float]:
    found = {kind: ratio(side, other, kind) for kind in side.slices}
    return {kind: each for kind, each in found.items() if each is not None}


def as_object(sides: Sequence[Side]) -> dict[str, Any]:
    """The first side's figures; below `growth` those with more keys and their ratios to those with few; below
    `against` the same of the other checkout, and the ratios of this one to it."""
    by_name = {side.name: [each for each in sides if each.name == side.name] for side in sides}
    (this, *_), *others = by_name.values()
    made = [_checkout_object(each) for each in by_name.values()]
    if others:
        made[0]["against"] = {"commit": others[0][0].name, **made[1], "ratios": ratios(this, others[0][0])}
    return made[0]


def _checkout_object(sides: Sequence[Side]) -> dict[str, Any]:
    few = sides[0]
    made = {"keys": few.keys, **figures(few)}
    for many in sides[1:]:
        made["growth"] = {"keys": many.keys, **figures(many), "ratios": ratios(many, few)}
    return made


def table(side: Side) -> str:
    """A side's figures, a line each layer."""
    found = {kind: middle(slices) for kind, slices in side.slices.items()}
    layers = dict.fromkeys(layer for each in found.values() for layer in each.layers)
    lines = [_line(f"{side.name}, {side.keys:,} keys", [HEADINGS[kind] for kind in KINDS])]
    for layer in sorted(layers, key=_place):
        shown = [found[kind].layers.get(layer) if kind in found else None for kind in KINDS]
        lines.append(_line(layer, map(_number, shown)))
    lines.append(_line("sum", (_number(found[k].sum_us if k in found else None) for k in KINDS)))
    lines.append(_line("over all batches", (_number(found[k].all_us if k in found else None) for k in KINDS)))
    return "\n".join(lines)


def _place(layer: str) -> int:
    """In the order in which a request meets them, as far as that can be said."""
    order = (
        "requests read", "coordinator: requests", "coordinator: intake", "coordinator: step",
        "coordinator: engine", "coordinator: after", "to replicas", "replicas: messages", "replicas: step",
        "replicas: engine", "replicas: after", "to the coordinator", "coordinator: messages", "answers",
        "ticks",
    )  # fmt: skip
    found = (place for place, start in enumerate(order) if layer.startswith(start))
    return next(found, len(order))


def ratio_table(sides: Sequence[Side]) -> str:
    """Every side to the one it is held against: of the other checkout, or with few keys."""
    lines = []
    for side in sides:
        for other in sides:
            if other.keys == side.keys and other is not side and side.name == sides[0].name:
                lines.append((f"to {other.name}, {side.keys:,} keys", side, other))
            if other.name == side.name and other.keys < side.keys:
                lines.append((f"{side.name}, {side.keys:,} keys to {other.keys:,}", side, other))
    if not lines:
        return ""
    heading = _line("ratios", [HEADINGS[kind] for kind in KINDS])
    made = [_line(text, (_number(ratio(one, two, kind)) for kind in KINDS)) for text, one, two in lines]
    return "\n".join(["", heading, *made])


def _line(text: str, cells: Any) -> str:
    return f"{text:<46}" + "".join(f"{cell:>13}" for cell in cells)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


# --- the command ---------------------------------------------------------------------------------


@click.command("cost")
@click.option("--against", metavar="COMMIT", help="Measure that commit as well, in turns with this checkout.")
@click.option("--keys", type=click.IntRange(KEYS + 1, KEYS_MAX),
              help=f"Measure with so many keys as well, in turns with {KEYS:,}.")  # fmt: skip
@click.option("--rounds", default=ROUNDS_DEFAULT, show_default=True, type=click.IntRange(1, ROUNDS_MAX),
              help=f"Rounds, whose median is said; none is begun after {ROUNDS_S_MAX:.0f} s.")  # fmt: skip
@click.option("--directory", type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
              help="Where to make the stores.  [default: where temporary files go]")  # fmt: skip
@click.option("-o", "--output", default="text", show_default=True, type=click.Choice(["text", "json"]),
              help="How to print: tables, or one object.")  # fmt: skip
def cost_command(
    against: str | None, keys: int | None, rounds: int, directory: Path | None, output: str
) -> None:
    """Processor time of the nodes' layers for a write and a read, in process.

    Three real nodes run in one process: no sockets, no Trio, no threads, no wait for a disk. Requests come 64
    to a frame, to one node; values of 100 bytes, keys drawn evenly. Writes and reads are at QUORUM but for
    `read one`; stores are RocksDB's but for `memory`. Microseconds a request, of all nodes together, are
    means over the quietest quarter of a slice's batches. Only ratios of one run say something.
    """
    before = load_average()
    try:
        sides, made = measure(Plan(against, keys, rounds, directory), _say)
    except CostFailed as failure:
        raise click.ClickException(str(failure)) from failure
    machine = {"interpreter": interpreter(), "load": before}
    if output == "json":
        click.echo(json.dumps({**as_object(sides), "rounds": made, **machine}, indent=1))
        return
    click.echo(
        f"three nodes in one process, {BATCH} requests a frame, values of {VALUE_BYTES} bytes\n"
        f"processor µs a request, of the median of {made} rounds\n"
        f"{machine['interpreter']}; load of the machine before: {before:.2f}\n"
    )
    click.echo("\n\n".join(map(table, sides)))
    click.echo(ratio_table(sides))


def _say(text: str) -> None:
    click.echo(text, err=True)
