"""Board: one frame of `basestore top`, as it is shown to people. Pure, but for rich.

What is shown is made by `samples.py`. It asks no node and draws nothing on the terminal itself: `top.py`
does.
"""

from collections.abc import Iterable, Sequence
from itertools import compress

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from basestore.cli import text
from basestore.cli.cluster.metadata import notes as of_group
from basestore.cli.cluster.metadata import summary
from basestore.cli.cluster.samples import AT_DOOR, CLIPPED, WRITES, Line, View, by_level, nonzero
from basestore.metrics import OPERATIONS, Histogram
from basestore.results.nodes import NodeState

NONE = "-"
_SELDOM = ("delete", "scan", "transaction", "batch")
_HEADINGS = {
    "set": "SET/S", "delete": "DEL/S", "get": "GET/S", "scan": "SCAN/S", "transaction": "TXN/S",
    "batch": "BATCH/S",
}  # fmt: skip
COLUMNS_MIN = 80  # a narrower terminal is shown less
_STYLES = {"up": "green", "down": "bold red"}


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
        *_registers(views, wide),
        *_watches(views),
    ]
    lines = by_level(views)
    if lines:
        parts += [Text(), _levels(lines, wide), *_degraded(lines)]
    return Group(*parts)


class _Grid:
    """A table. Columns whose name ends with `<` are of words, others of numbers; those whose name begins with
    `~` are left out where it is not wide."""

    def __init__(self, wide: bool, *columns: str, gap: int = 2) -> None:
        self.table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
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
        hints = "  ".join(f"{name} {count:,}" for name, count in nonzero(state.hints).items())
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
    table = _Grid(wide, "NODE<", *rates, "FAILED/S", "WRITE P50", "P99", "READ P50", "P99", gap=1)
    for view in views:
        failed = view.rate(view.failures)
        table.add_row(
            view.state.node,
            *(_number(view.rate(view.requests(operation))) for operation in OPERATIONS),
            Text(_number(failed), "red" if failed else ""),
            *_times(view.durations(*WRITES)),
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
        offered, admitted, shed = (_sum(view.at_door(what)) for what in AT_DOOR)
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
        by_bucket, by_key = (_number(view.clipped(each)) for each in CLIPPED)
        if any(map(view.clipped, CLIPPED)):
            told = f"requests/s, refused or deferred: of buckets {by_bucket}, of keys {by_key}"
            yield Text(f"over a limit at {view.state.node}: {told}", "red")


def _registers(views: Sequence[View], wide: bool) -> Iterable[RenderableType]:
    """Where any are used: how they are agreed on."""
    rows = [(view.state.node, rates) for view in views if (rates := view.registers) is not None]
    if not rows:
        return
    table = _Grid(wide, "NODE<", "REGISTERS/S", "ONE ROUND", "CONFLICTS/S", "~HELPS/S", "UNLEARNED",
                  "~INTENTS", "~LOCKS")  # fmt: skip
    for node, each in rows:
        share = NONE if each.one_round is None else f"{each.one_round:.0%}"
        table.add_row(
            node, _number(each.writes_per_s), share, _number(each.conflicts_per_s),
            _number(each.helps_per_s), f"{each.unlearned:,}",
            f"{each.intents:,}", f"{each.locks:,}",
        )  # fmt: skip
    yield from (Text(), table.table)


def _watches(views: Sequence[View]) -> Iterable[Text]:
    """Where any clients watch: how many, and how far behind they are."""
    for view in views:
        facts = view.state.facts
        if watchers := int(facts.get("watchers", "0")):
            lag_ms, behind = facts["watch lag ms"], int(facts["feed changes behind"])
            far = f"told all up to {int(lag_ms) / 1e3:.1f} s ago" if lag_ms else "nothing proven yet"
            told = f"{watchers:,} watchers, {far}; {behind:,} changes here not told yet"
            yield Text(f"watched at {view.state.node}: {told}")


def _sum(rates: dict[str, float] | None) -> float | None:
    return None if rates is None else sum(rates.values())


def _levels(lines: dict[tuple[str, str], Line], wide: bool) -> Table:
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


def _degraded(lines: dict[tuple[str, str], Line]) -> Iterable[Text]:
    for (_, level), line in lines.items():
        if line.degraded_per_s:
            yield Text(f"degraded to one: {_number(line.degraded_per_s)} reads/s at {level}", "yellow")


def _number(value: float | None) -> str:
    """With the digits that matter."""
    if value is None:
        return NONE
    return "0" if value == 0 else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _times(histogram: Histogram) -> tuple[str, str]:
    """Its median and 99th percentile, in milliseconds."""
    times = (histogram.quantile(0.5), histogram.quantile(0.99))
    return tuple(NONE if time is None else f"{time * 1e3:.3g}" for time in times)  # type: ignore[return-value]
