"""Metrics: what is counted, how it is carried, and how Prometheus reads it."""

import ast
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import basestore
from basestore.consistency import Level
from basestore.errors import InvalidRequest, OutcomeUnknown, Overloaded, RequestFailed, VersionLost, revive
from basestore.metrics import BOUNDS_S, COUNTERS, FAILURES, LEVELS, OPERATIONS, Histogram, Metrics
from basestore.observe.prometheus import Exposition
from basestore.protocol.operator import Counters
from tests.worlds.deferring import defer
from tests.worlds.world import World

seconds = st.floats(0, 20)


def rendered(world: World, at: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What a scrape of a node shows: samples by name and labels."""
    node = world.node(at)
    text = b"".join(Exposition(node.metrics, node.report.gauges(), {"node": node.name}).render()).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_counter_that_is_not_listed_is_an_error() -> None:
    with pytest.raises(KeyError):
        Metrics().count("hints_eaten")


def test_every_listed_counter_is_counted_somewhere() -> None:
    sources = [
        p for p in Path(basestore.__file__).parent.rglob("*.py") if p.stem not in ("metrics", "prometheus")
    ]
    said = {
        node.value
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(COUNTERS) <= said


def test_levels_and_failures_are_those_that_requests_know() -> None:
    assert [level.name.lower() for level in Level] == list(LEVELS)
    for code, name in FAILURES.items():
        details = ["0", "0"] if code not in (OutcomeUnknown.code, VersionLost.code) else []
        kind = type(revive(code, "", None, details))
        assert issubclass(kind, RequestFailed | InvalidRequest)
        assert re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() == name


def test_a_refusal_at_a_level_that_does_not_exist_is_counted_apart() -> None:
    metrics = Metrics()
    for level in (-1, len(LEVELS), 1 << 64):
        metrics.refused("set", level, InvalidRequest.code)
    [(operation, level_name, series)] = metrics.series()
    assert (operation, level_name, series.outcomes["invalid_request"]) == ("set", "invalid", 3)


@given(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(Level), seconds)), st.integers(0, 30))
def test_what_was_counted_since_is_the_rest(requests: list[tuple[str, Level, float]], split: int) -> None:
    def counted(part: list[tuple[str, Level, float]]) -> Metrics:
        metrics = Metrics()
        for operation, level, took in part:
            metrics.refused(operation, level, Overloaded.code)
            metrics.answered(operation, level, "read_timeout", took)
            metrics.reached(operation, [level], took)
            metrics.count("hints_created", 2)
        return metrics

    def numbers(metrics: Metrics) -> dict[str, str]:
        """All but the sums of floats."""
        facts = metrics.facts().items()
        return {name: text.partition(" ")[2] if " " in text else text for name, text in facts}

    later, earlier = counted(requests), counted(requests[:split])
    assert numbers(later.since(earlier)) == numbers(counted(requests[split:]))


@pytest.mark.parametrize(
    "facts", [{"count hints_created": "x"}, {"durations set one": "1.0 2"}, {"requests get all found": ""}]
)
def test_facts_that_make_no_sense_are_refused(facts: dict[str, str]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        Metrics.of(facts)


def test_facts_of_a_newer_node_are_passed_over() -> None:
    assert Metrics.of({"count hints_folded": "3", "requests set sometimes stored": "1"}).facts() == {}


@given(st.lists(seconds, min_size=1, max_size=60), st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_a_quantile_lies_in_the_bucket_of_the_time_it_stands_for(times: list[float], share: float) -> None:
    histogram = Histogram()
    for time in times:
        histogram.add(time)
    exact = sorted(times)[max(0, math.ceil(share * len(times)) - 1)]
    found = histogram.quantile(share)
    assert found is not None
    upper = next((bound for bound in BOUNDS_S if bound >= exact), BOUNDS_S[-1])
    lower = max((bound for bound in BOUNDS_S if bound < upper), default=0.0)
    assert lower <= found <= upper


@given(st.lists(seconds, max_size=30))
def test_what_was_encoded_is_decoded(times: list[float]) -> None:
    histogram = Histogram()
    for time in times:
        histogram.add(time)
    decoded = Histogram.decode(histogram.encode())
    assert (decoded.counts, decoded.seconds) == (histogram.counts, histogram.seconds)


def test_what_the_facts_tell_is_what_was_counted() -> None:
    world = World(3)
    world.put(0, "k", "v")
    world.look(0, "k", Level.ONE)
    metrics = world.node(0).metrics
    assert Metrics.of(metrics.facts()).facts() == metrics.facts()
    assert Metrics.of({}).facts() == {}


def test_requests_are_counted_by_operation_level_and_outcome() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    world.look(0, "k")
    world.look(0, "absent", Level.ONE)
    world.delete(0, "k")
    world.settle()
    world.scan(0)
    world.settle()
    shown = rendered(world, 0)
    for operation, level, outcome in (
        ("set", "all", "stored"), ("get", "quorum", "found"), ("get", "one", "missing"),
        ("delete", "quorum", "stored"), ("scan", "quorum", "page"),
    ):  # fmt: skip
        labels = (("level", level), ("operation", operation), ("outcome", outcome))
        assert shown["basestore_requests_total", labels] == 1


def test_what_is_deferred_is_counted_and_what_of_it_waits_is_shown() -> None:
    world = World(3)
    for other in (1, 2):
        world.hold(0, other)
    defer(world, 0)
    defer(world, 0, "other", None)
    world.settle()
    shown = rendered(world, 0)
    for operation in ("set", "delete"):
        labels = (("level", "any"), ("operation", operation), ("outcome", "deferred"))
        assert shown["basestore_requests_total", labels] == 1
    assert shown["basestore_deferred_hints", ()] == 6
    assert shown["basestore_deferred_bytes", ()] == world.node(0).hints.deferred_bytes > 0


def test_what_is_refused_before_anything_is_done_is_counted_too() -> None:
    world = World(3)
    world.stop(1)
    world.stop(2)
    world.settle()
    world.set(0, "k", "v")
    world.settle()
    labels = (("level", "quorum"), ("operation", "set"), ("outcome", "unavailable"))
    assert rendered(world, 0)["basestore_requests_total", labels] == 1


def test_a_write_at_one_tells_when_quorum_and_all_would_have_been_met() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ONE)
    for level in ("one", "quorum", "all"):
        labels = (("level", level), ("operation", "set"))
        assert rendered(world, 0)["basestore_ideal_level_seconds_count", labels] == 1


def test_hints_and_repairs_are_counted_by_what_became_of_them() -> None:
    world = World(3, hint_bytes_max=300)
    world.stop(2)
    world.settle()
    for number in range(5):
        world.put(0, f"k{number}", "v" * 50)
    counts = world.node(0).metrics.counts
    assert (counts["hints_created"], counts["hints_refused"]) == (2, 3)
    assert counts["debt_marks"] >= 1
    world.start(2)
    world.run(3)
    assert counts["hints_delivered"] == 2
    world.plant(1, "k0", "new", world.stamp())
    world.look(0, "k0", Level.ALL)
    assert counts["repairs_read_blocking"] >= 1
    shown = rendered(world, 0)
    assert all(any(name.startswith("basestore_") for name, _ in shown) for _ in COUNTERS)


def test_gauges_tell_of_each_other_member() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    world.put(0, "k", "v")
    world.freeze(0)
    world.set(0, "l", "v")
    world.settle()
    shown = world.node(0).report.gauges()
    n2, n3 = shown.peers
    assert (n2.name, n2.alive, n2.linked, n2.hints, n2.oldest_hint_ms) == ("n2", True, True, 0, None)
    assert (n3.name, n3.alive, n3.linked) == ("n3", False, False)
    assert n3.hints >= 1
    assert n3.hint_bytes > 0
    assert n3.oldest_hint_ms is not None
    assert abs(n3.oldest_hint_ms - world.now(0).wall_ms) < 5000
    assert shown.durable_lag >= 1
    assert shown.unsynced_bytes > 0
    assert (shown.state, shown.whole) == ("up", True)


def test_the_counters_of_a_node_contain_its_status() -> None:
    world = World(3)
    world.put(0, "k", "v")
    call = world.ask(0, Counters)
    world.settle()
    state, status = call.state(), world.state(0)
    assert (state.node, state.state, state.records) == (status.node, status.state, status.records)
    assert status.facts.items() <= state.facts.items()
    assert Metrics.of(state.facts).facts() == world.node(0).metrics.facts()
    assert float(state.facts["seconds"]) == world.monotonic


ABBREVIATIONS = {"s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "pct", "percent", "milliseconds"}
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "gauge": ("",)}


def test_the_names_keep_prometheus_rules() -> None:
    """Those that promtool checks: help for each family, base units in full, `_total` for counters and
    for nothing else, no name that tells its type, no family twice."""
    world = World(3)
    for level in (Level.ONE, Level.ALL):
        world.put(0, "k", "v", level)
        world.look(0, "k", level)
    node = world.node(0)
    text = b"".join(Exposition(node.metrics, node.report.gauges(), {"node": node.name}).render()).decode()
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    assert text.endswith("\n")
    for family in families:
        words = family.name.split("_")
        assert words[0] in ("basestore", "process")
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", family.name)
        assert family.documentation.endswith(".")
        assert family.type in SUFFIXES, family.name
        assert not {*words} & {"gauge", "counter", "histogram", "metric", *ABBREVIATIONS}, family.name
        if family.type != "counter":
            assert not family.name.endswith("_total")
        assert {s.name.removeprefix(family.name) for s in family.samples} <= {*SUFFIXES[family.type]}
        for sample in family.samples:
            assert not {*sample.labels} & {"job", "instance"}  # Prometheus sets these


def test_the_buckets_of_a_histogram_add_up() -> None:
    world = World(3)
    world.put(0, "k", "v")
    metrics = world.node(0).metrics
    for took in (0.0, 0.0001, 0.004, 9.0, 100.0):
        metrics.answered("get", Level.ONE, "found", took)
    shown = rendered(world, 0)
    buckets = {
        float(labels["le"]): count
        for (name, pairs), count in shown.items()
        if name == "basestore_request_duration_seconds_bucket"
        and (labels := dict(pairs))["operation"] == "get"
    }
    assert list(buckets.values()) == sorted(buckets.values())
    assert (buckets[0.0001], buckets[0.003], buckets[0.005], buckets[10.0], buckets[math.inf]) == (
        2,
        2,
        3,
        4,
        5,
    )
    where = (("level", "one"), ("operation", "get"))
    assert shown["basestore_request_duration_seconds_count", where] == 5
    assert shown["basestore_request_duration_seconds_sum", where] == pytest.approx(109.0041)
