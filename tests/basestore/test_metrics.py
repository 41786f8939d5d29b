"""Metrics: what is counted, how it is carried, and how Prometheus reads it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from basestore.consistency import Level
from basestore.gauges import gauges
from basestore.metrics import BOUNDS_S, COUNTERS, Histogram, Metrics
from basestore.scrape import Scrape
from tests.basestore.world import World

seconds = st.floats(0, 20)


def rendered(world: World, at: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What a scrape of a node shows: samples by name and labels."""
    node = world.node(at)
    text = b"".join(Scrape(node.metrics, gauges(node), {"node": node.name}).render()).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_counter_that_is_not_listed_is_an_error() -> None:
    with pytest.raises(KeyError):
        Metrics().count("hints_eaten")


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
