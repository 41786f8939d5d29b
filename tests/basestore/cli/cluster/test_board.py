"""What `basestore top` makes of what nodes say: rates, times, and what cannot be known."""

import pytest
from rich.console import Console

from basestore.cli.cluster.board import board
from basestore.cli.cluster.samples import Sample, View, board_json, by_level
from basestore.consistency import Level
from basestore.errors import InvalidRequest
from basestore.protocol.operator import Counters
from basestore.results.nodes import down
from tests.worlds.world import World


def sample(world: World, at: int) -> Sample:
    """What a node says now."""
    call = world.ask(at, Counters)
    world.settle()
    return Sample.of(call.state())


def test_rates_are_of_the_time_between_two_samples() -> None:
    world = World(3)
    world.put(0, "before", "v")
    earlier = sample(world, 0)
    for number in range(6):
        world.put(0, f"k{number}", "v")
    world.look(0, "k1", Level.ONE)
    world.run(2.0)
    view = View.between(earlier, sample(world, 0))
    shown = view.as_json()
    assert view.span_s == pytest.approx(2.0)
    others = dict.fromkeys(("delete", "scan", "transaction", "batch"), 0.0)
    assert shown["requests_per_s"] == {"set": 3.0, "get": 0.5, **others}
    assert shown["failed_per_s"] == 0.0
    assert shown["latency_ms"]["scan"] == {"p50": None, "p99": None}
    assert by_level([view, view])["set", "quorum"].per_s == pytest.approx(6.0)


def test_of_one_sample_there_are_no_rates_yet() -> None:
    world = World(3)
    world.put(0, "k", "v")
    shown = View.between(None, sample(world, 0)).as_json()
    assert shown["state"] == "up"
    assert shown["requests_per_s"]["set"] is None
    assert shown["repairs_per_s"] is None


def test_a_node_that_was_started_anew_has_no_rates_yet() -> None:
    world = World(3)
    for number in range(5):
        world.put(0, f"k{number}", "v")
    earlier = sample(world, 0)
    world.restart(0)
    world.run(2.0)
    later = sample(world, 0)
    assert later.state.state == "up"
    assert View.between(earlier, later).as_json()["requests_per_s"]["set"] is None
    world.run(1.0)
    assert View.between(later, sample(world, 0)).as_json()["requests_per_s"]["set"] == 0.0


def test_failures_hints_and_debts_are_seen() -> None:
    world = World(3, hint_bytes_max=300)
    earlier = sample(world, 0)
    world.stop(2)
    world.settle()
    for number in range(5):
        world.put(0, f"k{number}", "v" * 50)
    world.set(0, "k", "v", Level.ALL)
    world.run(1.0)
    view = View.between(earlier, sample(world, 0))
    shown = view.as_json()
    assert shown["alive"] == ["n1", "n2"]
    assert shown["failed_per_s"] == 1.0
    assert shown["hints_for"] == {"n3": 2}
    assert shown["debt_for"]["n3"] >= 1
    assert by_level([view])["set", "all"].failed_per_s == pytest.approx(1.0)


def test_of_a_node_that_is_down_only_the_reason_is_known() -> None:
    world = World(3)
    gone = Sample(down("n3", "127.0.0.1:7402", "it does not answer"))
    for earlier, later in ((sample(world, 0), gone), (gone, gone), (None, gone)):
        shown = View.between(earlier, later).as_json()
        assert (shown["state"], shown["reason"]) == ("down", "it does not answer")
        assert (shown["alive"], shown["records"], shown["hints_for"]) == (None, None, None)
    assert View.between(gone, sample(world, 0)).as_json()["requests_per_s"]["set"] is None
    assert board_json([View.between(None, gone)])["levels"] == []


def test_of_reads_no_level_is_shown_at_which_there_are_none() -> None:
    world = World(3)
    earlier = sample(world, 0)
    world.put(0, "k", "v")
    world.look(0, "k")
    world.run(1.0)
    view = View.between(earlier, sample(world, 0))
    shown = by_level([view])
    assert ("set", "any") in shown  # when it would have been met
    assert {level for operation, level in shown if operation == "get"} == {"one", "quorum"}
    # Who asks for it all the same, with a client of their own, is refused; that is seen.
    view.done.refused("get", Level.ANY.value, InvalidRequest.code)
    assert by_level([view])["get", "any"].failed_per_s > 0


def test_what_is_proven_is_told_by_its_age() -> None:
    said = sample(World(3), 0)
    said.state.facts["stable lag ms"] = "25400"
    console = Console(width=160)
    with console.capture() as shown:
        console.print(board([View.between(None, said)], "now", 160))
    assert " 25s ago " in shown.get()


def test_reads_that_were_degraded_are_shown() -> None:
    world = World(3)
    earlier = sample(world, 0)
    world.look(0, "k")
    # how it came to that is told elsewhere
    world.node(0).metrics.count("reads_degraded_quorum", 6)
    world.run(2.0)
    view = View.between(earlier, sample(world, 0))
    told = {line["level"]: line["degraded_per_s"] for line in board_json([view])["levels"]}
    assert told.pop("quorum") == 3.0
    assert set(told.values()) == {0.0}
    console = Console(width=80, record=True)
    console.print(board([view], "", 80))
    assert "degraded to one: 3.0 reads/s at quorum" in console.export_text()
