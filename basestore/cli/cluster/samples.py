"""Samples: what `basestore top` makes of what the nodes say of themselves. Pure.

Rates and latencies are of the time between a node's last two samples, by that node's own clock. A
node that was started anew in between has none yet. How they are drawn: `board.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from basestore.cli.cluster.register_rates import RegisterRates
from basestore.metrics import DEGRADED, FAILURES, LEVELS, OPERATIONS, REPAIRS, Histogram, Metrics
from basestore.results.nodes import NodeState, Pressure

WRITES = ("set", "delete")
AT_DOOR = ("offered", "admitted", "shed")
CLIPPED = ("clipped_by_bucket", "clipped_by_key")
_BEATEN = ("superseded", "lost")
_DOOR_NOW = ("under_way", "requests_max", "window", "brownout")


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

    @property
    def registers(self) -> RegisterRates | None:
        """What it does with registers; None: nothing, or that is not known."""
        return RegisterRates.of(self.state.facts, self.done, self.span_s)

    def as_json(self) -> dict[str, Any]:
        """As `basestore top -o json` prints it; null where nothing is known."""
        state, registers = self.state, self.registers
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
            "hints_for": None if down else nonzero(state.hints),
            "debt_for": None if down else nonzero(state.debt),
            "stable_lag_s": None if state.stable_lag_ms is None else state.stable_lag_ms / 1e3,
            "stalled_by": state.stalled_by,
            "metadata": None if metadata is None else metadata.as_json(),
            "requests_per_s": {name: _rounded(self.rate(self.requests(name))) for name in OPERATIONS},
            "latency_ms": {name: _quantiles(self.durations(name)) for name in OPERATIONS},
            "failed_per_s": _rounded(self.rate(self.failures)),
            "repairs_per_s": _rounded(self.rate(self.repairs)),
            **{f"{name}_per_s": _rounded(self.clipped(name)) for name in CLIPPED},
            "registers": None if registers is None else registers.as_json(),
            **self._door_json(),
        }

    def _door_json(self) -> dict[str, Any]:
        pressure, facts = self.state.pressure, self.state.facts
        rates = {
            f"{what}_per_s": None if (told := self.at_door(what)) is None else _all_rounded(told)
            for what in AT_DOOR
        }
        now = {name: None if pressure is None else getattr(pressure, name) for name in _DOOR_NOW}
        deferred = {name: facts.get(name.replace("_", " ")) for name in ("deferred_hints", "deferred_bytes")}
        return rates | now | {name: None if text is None else int(text) for name, text in deferred.items()}


@dataclass(slots=True)
class Line:
    """One operation at one level, all nodes together."""

    per_s: float = 0.0
    beaten_per_s: float = 0.0
    failed_per_s: float = 0.0
    degraded_per_s: float = 0.0
    durations: Histogram = field(default_factory=Histogram)
    ideal: Histogram = field(default_factory=Histogram)


def by_level(views: Iterable[View]) -> dict[tuple[str, str], Line]:
    """What the cluster did, by operation and level."""
    lines: dict[tuple[str, str], Line] = {}
    for view in views:
        for operation, level, series in view.done.series():
            if operation not in WRITES and level == LEVELS[0] and not any(series.outcomes.values()):
                continue  # no read can ask for it: there is only when it would have been met
            line = lines.setdefault((operation, level), Line())
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


def nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _all_rounded(rates: dict[str, float]) -> dict[str, float]:
    return {name: round(rate, 3) for name, rate in rates.items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _quantiles(histogram: Histogram) -> dict[str, float | None]:
    times = {"p50": histogram.quantile(0.5), "p99": histogram.quantile(0.99)}
    return {name: None if time is None else round(time * 1e3, 3) for name, time in times.items()}
