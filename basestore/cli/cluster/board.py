"""Board: what `basestore top` shows, made of what the nodes say of themselves. Pure, but for rich.

Rates and latencies are of the time between a node's last two samples, by that node's own clock. A
node that was started anew in between has none yet. It asks no node and draws nothing on the terminal itself:
`top.py` does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from basestore.cli import text
from basestore.cli.cluster.metadata import notes as of_group
from basestore.cli.cluster.metadata import summary
from basestore.metrics import DEGRADED, FAILURES, LEVELS, OPERATIONS, REPAIRS, Histogram, Metrics
from basestore.results.nodes import NodeState, Pressure

NONE = "-"
_WRITES = ("set", "delete")
_BEATEN = ("superseded", "lost")
_SELDOM = ("delete", "scan")
_AT_DOOR = ("offered", "admitted", "shed")
_CLIPPED = ("clipped_by_bucket", "clipped_by_key")
_DOOR_NOW = ("under_way", "requests_max", "window", "brownout")
_HEADINGS = {"set": "SET/S", "delete": "DEL/S", "get": "GET/S", "scan": "SCAN/S"}
COLUMNS_MIN = 80  # a narrower terminal is shown less
_STYLES = {"up": "green", "down": "bold red"}


@dataclass(frozen=True, slots=True)
class Sample:
    """What a node said at one moment. `metrics` is None when it did not answer; `seconds` by its clock."""

    state: NodeState
    opening: str = ""
    seconds: float = 0.0
    metrics: Metrics | None = None

    @classmethod
    def of(cls, state: NodeState) -> Self:
        """Read the facts of `Store.node_counters`; ValueError when they make no sense."""
        facts = state.facts
        return cls(state, facts.get("opening", ""), float(facts.get("seconds", "0")), Metrics.of(facts))


@dataclass(frozen=True, slots=True)
class View:
    """One node on the board. `span_s`: the time that `done` was counted in, None when there is none yet;
    `before`: what had come to its pressure when that began."""

    state: NodeState
    span_s: float | None = None
    done: Metrics = field(default_factory=Metrics)
    before: Pressure | None = None

    @classmethod
    def between(cls, earlier: Sample | None, later: Sample) -> Self:
        """What a node's last two samples tell."""
        if earlier is None or earlier.metrics is None or later.metrics is None:
            return cls(later.state)
        if earlier.opening != later.opening or later.seconds <= earlier.seconds:
            return cls(later.state)
        span_s, before = later.seconds - earlier.seconds, earlier.state.pressure
        return cls(later.state, span_s, later.metrics.since(earlier.metrics), before)

    @property
    def up(self) -> bool:
        return self.state.state == "up"

    def rate(self, count: int) -> float | None:
        """So many in a second."""
        return None if self.span_s is None else count / self.span_s

    def requests(self, operation: str) -> int:
        """Requests of an operation that were answered in the span."""
        return sum(sum(s.outcomes.values()) for name, _, s in self.done.series() if name == operation)

    def at_door(self, what: str) -> dict[str, float] | None:
        """How many requests a second were offered, admitted or shed, by class; None: that is not known."""
        pressure = self.state.pressure
        if pressure is None or self.before is None or self.span_s is None:
            return None
        earlier = getattr(self.before, what)
        return {kind: (n - earlier.get(kind, 0)) / self.span_s for kind, n in getattr(pressure, what).items()}

    def durations(self, *operations: str) -> Histogram:
        """How long they took, all levels together."""
        together = Histogram()
        for operation, _, series in self.done.series():
            if operation in operations:
                together.merge(series.durations)
        return together

    @property
    def failures(self) -> int:
        return sum(s.outcomes[failure] for _, _, s in self.done.series() for failure in FAILURES.values())

    @property
    def repairs(self) -> int:
        return sum(count for name, count in self.done.counts.items() if name.startswith(REPAIRS))

    def clipped(self, name: str) -> float | None:
        """How many requests a second were over a limit of buckets, or of keys."""
        return self.rate(self.done.counts[name])

    def as_json(self) -> dict[str, Any]:
        """As `basestore top -o json` prints it; null where nothing is known."""
        state = self.state
        down = state.state == "down"
        metadata = state.metadata
        return {
            "node": state.node,
            "endpoint": state.endpoint,
            "state": state.state,
            "reason": state.facts.get("reason", ""),
            "lossy": None if down else int(state.facts.get("lossy", "0")),
            "alive": None if down else state.alive,
            "records": state.records,
            "hints_for": None if down else _nonzero(state.hints),
            "debt_for": None if down else _nonzero(state.debt),
            "stable_lag_s": None if state.stable_lag_ms is None else state.stable_lag_ms / 1e3,
            "stalled_by": state.stalled_by,
            "metadata": None if metadata is None else metadata.as_json(),
            "requests_per_s": {name: _rounded(self.rate(self.requests(name))) for name in OPERATIONS},
            "latency_ms": {name: _quantiles(self.durations(name)) for name in OPERATIONS},
            "failed_per_s": _rounded(self.rate(self.failures)),
            "repairs_per_s": _rounded(self.rate(self.repairs)),
            **{f"{name}_per_s": _rounded(self.clipped(name)) for name in _CLIPPED},
            **self._door_json(),
        }

    def _door_json(self) -> dict[str, Any]:
        pressure, facts = self.state.pressure, self.state.facts
        rates = {
            f"{what}_per_s": None if (told := self.at_door(what)) is None else _all_rounded(told)
            for what in _AT_DOOR
        }
        now = {name: None if pressure is None else getattr(pressure, name) for name in _DOOR_NOW}
        deferred = {name: facts.get(name.replace("_", " ")) for name in ("deferred_hints", "deferred_bytes")}
        return rates | now | {name: None if text is None else int(text) for name, text in deferred.items()}


@dataclass(slots=True)
class _Line:
    """One operation at one level, all nodes together."""

    per_s: float = 0.0
    beaten_per_s: float = 0.0
    failed_per_s: float = 0.0
    degraded_per_s: float = 0.0
    durations: Histogram = field(default_factory=Histogram)
    ideal: Histogram = field(default_factory=Histogram)


def by_level(views: Iterable[View]) -> dict[tuple[str, str], _Line]:
    """What the cluster did, by operation and level."""
    lines: dict[tuple[str, str], _Line] = {}
    for view in views:
        for operation, level, series in view.done.series():
            if operation not in _WRITES and level == LEVELS[0] and not any(series.outcomes.values()):
                continue  # no read can ask for it: there is only when it would have been met
            line = lines.setdefault((operation, level), _Line())
            line.per_s += view.rate(sum(series.outcomes.values())) or 0.0
            line.beaten_per_s += view.rate(sum(series.outcomes.get(name, 0) for name in _BEATEN)) or 0.0
            line.failed_per_s += view.rate(sum(series.outcomes[name] for name in FAILURES.values())) or 0.0
            if operation == "get":
                line.degraded_per_s += view.rate(view.done.counts.get(DEGRADED + level, 0)) or 0.0
            line.durations.merge(series.durations)
            line.ideal.merge(series.ideal)
    order = {pair: at for at, pair in enumerate((o, level) for o in OPERATIONS for level in LEVELS)}
    return dict(sorted(lines.items(), key=lambda item: order.get(item[0], len(order))))


def board_json(views: Sequence[View]) -> dict[str, Any]:
    """One frame for machines."""
    levels = [
        {
            "operation": operation,
            "level": level,
            "requests_per_s": _rounded(line.per_s),
            "latency_ms": _quantiles(line.durations),
            "ideal_ms": _quantiles(line.ideal),
            "beaten_per_s": _rounded(line.beaten_per_s),
            "failed_per_s": _rounded(line.failed_per_s),
            "degraded_per_s": _rounded(line.degraded_per_s),
        }
        for (operation, level), line in by_level(views).items()
    ]
    return {"nodes": [view.as_json() for view in views], "levels": levels}


def board(views: Sequence[View], title: str, columns: int) -> RenderableType:
    """One frame for people, on a terminal with so many columns."""
    wide = columns >= COLUMNS_MIN
    up = sum(view.up for view in views)
    head = Text.assemble(("basestore top", "bold"), f"  {up} of {len(views)} nodes up  {title}  times in ms")
    states = [view.state for view in views]
    notes = [note for view in views if (note := _note(view, states)) is not None]
    group = summary(states)
    parts: list[RenderableType] = [
        head,
        Text(),
        _members(views, wide),
        *notes,
        *([Text(group)] if group else []),
        Text(),
        _requests(views, wide),
        Text(),
        _doors(views, wide),
        *_over_limits(views),
    ]
    lines = by_level(views)
    if lines:
        parts += [Text(), _levels(lines, wide), *_degraded(lines)]
    return Group(*parts)


class _Grid:
    """A table. Columns whose name ends with `<` are of words, others of numbers; those whose name begins with
    `~` are left out where it is not wide."""

    def __init__(self, wide: bool, *columns: str) -> None:
        self.table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        self._shown = [wide or not column.startswith("~") for column in columns]
        for column in compress(columns, self._shown):
            justify = "left" if column.endswith("<") else "right"
            self.table.add_column(column.strip("<~"), justify=justify, no_wrap=True)  # type: ignore[arg-type]

    def add_row(self, *cells: RenderableType) -> None:
        self.table.add_row(*compress(cells, self._shown))


def _members(views: Sequence[View], wide: bool) -> Table:
    table = _Grid(
        wide, "NODE<", "STATE<", "COUNTS ON<", "~RECORDS", "~REPAIRS/S", "PROVEN", "~DEBT", "HINTS FOR<"
    )
    names = [view.state.node for view in views]
    for view in views:
        state = view.state
        if state.state == "down":
            table.add_row(state.node, Text("down", _STYLES["down"]), *[NONE] * 6)
            continue
        missing = [name for name in names if name not in state.alive]
        counts = f"{len(names) - len(missing)} of {len(names)}"
        counts_on = Text(f"{counts}: not {' '.join(missing)}", "yellow") if missing else Text(counts)
        hints = "  ".join(f"{name} {count:,}" for name, count in _nonzero(state.hints).items())
        debt = sum(state.debt.values())
        table.add_row(
            state.node,
            Text(state.state, _STYLES.get(state.state, "yellow")),
            counts_on,
            NONE if state.records is None else f"{state.records:,}",
            _number(view.rate(view.repairs)),
            _proven(view),
            Text(f"{debt:,}", "yellow" if debt else ""),
            Text(hints or "none", "yellow" if hints else ""),
        )
    return table.table


def _proven(view: View) -> Text:
    """How long ago all that was written by then was proven to be everywhere, and who holds that back."""
    lag_ms, stalled_by = view.state.stable_lag_ms, view.state.stalled_by
    if lag_ms is None:
        return Text(NONE)
    stalled = f": waits for {' '.join(stalled_by)}" if stalled_by else ""
    return Text(f"{lag_ms / 1e3:,.0f}s ago{stalled}", "yellow" if stalled else "")


def _note(view: View, states: Sequence[NodeState]) -> Text | None:
    """Why a node does not count, what it may have lost, or what keeps it from the metadata group."""
    loss = [] if view.state.loss is None else [text.loss(*view.state.loss)]
    told = [view.state.facts.get("reason", ""), *loss, *of_group(view.state, states)]
    reason = "; ".join(filter(None, told))
    if not reason:
        return None
    return Text(f"{view.state.node} at {view.state.endpoint}: {reason}", "dim")


def _requests(views: Sequence[View], wide: bool) -> Table:
    rates = [f"~{_HEADINGS[name]}" if name in _SELDOM else _HEADINGS[name] for name in OPERATIONS]
    table = _Grid(wide, "NODE<", *rates, "FAILED/S", "WRITE P50", "P99", "READ P50", "P99")
    for view in views:
        failed = view.rate(view.failures)
        table.add_row(
            view.state.node,
            *(_number(view.rate(view.requests(operation))) for operation in OPERATIONS),
            Text(_number(failed), "red" if failed else ""),
            *_times(view.durations(*_WRITES)),
            *_times(view.durations("get")),
        )
    return table.table


def _doors(views: Sequence[View], wide: bool) -> Table:
    """What comes to each node, and what it does with it."""
    table = _Grid(
        wide, "NODE<", "OFFERED/S", "ADMITTED/S", "SHED/S", "UNDER WAY", "WINDOW", "~BROWNOUT", "~DEFERRED"
    )
    for view in views:
        pressure, deferred = view.state.pressure, int(view.state.facts.get("deferred hints", "0"))
        if pressure is None:
            table.add_row(view.state.node, *[NONE] * 7)
            continue
        offered, admitted, shed = (_sum(view.at_door(what)) for what in _AT_DOOR)
        full = pressure.busy >= pressure.requests_max
        table.add_row(
            view.state.node,
            _number(offered),
            _number(admitted),
            Text(_number(shed), "red" if shed else ""),
            Text(f"{pressure.busy:,} of {pressure.requests_max:,}", "yellow" if full else ""),
            NONE if pressure.window is None else f"{pressure.window:,}",
            Text(f"{pressure.brownout}", "yellow" if pressure.brownout else ""),
            Text(f"{deferred:,}", "yellow" if deferred else ""),
        )
    return table.table


def _over_limits(views: Sequence[View]) -> Iterable[Text]:
    """What a limit was in the way of: among failures nobody would see it."""
    for view in views:
        by_bucket, by_key = (_number(view.clipped(each)) for each in _CLIPPED)
        if any(map(view.clipped, _CLIPPED)):
            told = f"requests/s, refused or deferred: of buckets {by_bucket}, of keys {by_key}"
            yield Text(f"over a limit at {view.state.node}: {told}", "red")


def _sum(rates: dict[str, float] | None) -> float | None:
    return None if rates is None else sum(rates.values())


def _levels(lines: dict[tuple[str, str], _Line], wide: bool) -> Table:
    table = _Grid(
        wide, "OPERATION<", "LEVEL<", "ASKED/S", "~BEATEN/S", "FAILED/S", "P50", "P99", "~IDEAL P50", "~P99"
    )
    for (operation, level), line in lines.items():
        table.add_row(
            operation,
            level,
            _number(line.per_s),
            _number(line.beaten_per_s),
            Text(_number(line.failed_per_s), "red" if line.failed_per_s else ""),
            *_times(line.durations),
            *_times(line.ideal),
        )
    return table.table


def _degraded(lines: dict[tuple[str, str], _Line]) -> Iterable[Text]:
    for (_, level), line in lines.items():
        if line.degraded_per_s:
            yield Text(f"degraded to one: {_number(line.degraded_per_s)} reads/s at {level}", "yellow")


def _nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _number(value: float | None) -> str:
    """With the digits that matter."""
    if value is None:
        return NONE
    return "0" if value == 0 else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _times(histogram: Histogram) -> tuple[str, str]:
    """Its median and 99th percentile, in milliseconds."""
    times = (histogram.quantile(0.5), histogram.quantile(0.99))
    return tuple(NONE if time is None else f"{time * 1e3:.3g}" for time in times)  # type: ignore[return-value]


def _all_rounded(rates: dict[str, float]) -> dict[str, float]:
    return {name: round(rate, 3) for name, rate in rates.items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _quantiles(histogram: Histogram) -> dict[str, float | None]:
    times = {"p50": histogram.quantile(0.5), "p99": histogram.quantile(0.99)}
    return {name: None if time is None else round(time * 1e3, 3) for name, time in times.items()}
