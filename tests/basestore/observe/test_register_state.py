"""How a node stands as an acceptor of registers, as facts, as gauges and in words.

Covers `observe/register_state.py`, and what `cli/cluster/status.py` says of it.
"""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from basestore.cli.cluster.status import UNLEARNED_MS, row
from basestore.observe.prometheus import Exposition
from basestore.protocol.replication import Prepare
from basestore.results.nodes import NodeState
from tests.worlds.batches import Scene, holds
from tests.worlds.registers import RegisterWorld
from tests.worlds.unlearned import accepted_by, unfinished
from tests.worlds.world import World

NAMES = ("rows_unlearned", "rows_unlearned_age_seconds", "partitions_barred")


def shown(world: World, at: int) -> list[float]:
    """The gauges, in the order of their names."""
    node = world.node(at)
    page = b"".join(Exposition(node.metrics, node.report.gauges(), {"node": node.name}).render()).decode()
    families = text_string_to_metric_families(page)
    told = {sample.name: sample.value for family in families for sample in family.samples}
    return [told[f"basestore_register_{name}"] for name in NAMES]


def notes(state: NodeState) -> str:
    state.facts.pop("feature level")  # of which a node in a world says no wire
    return str(row(state)[-1])


def leave(world: RegisterWorld, key: str) -> None:
    """A write that all accept, and nobody learns, or finishes later."""
    unfinished(world)
    accepted_by(world, key, "left", 0, 1, 2)


def test_where_nothing_is_wrong_nothing_is_said_and_machines_are_told_so() -> None:
    world = RegisterWorld()
    world.put_register(0, "k", "v")
    world.run(2)
    state = world.state(0)
    assert notes(state) == ""
    told = state.as_json()
    assert told["register_rows_unlearned"] == told["register_partitions_barred"] == 0
    assert told["register_rows_unlearned_age_ms"] is None
    assert shown(world, 0) == [0, 0, 0]


def test_a_cluster_without_a_topology_has_no_acceptors_and_lacks_none() -> None:
    world = World()
    world.run(2)
    assert notes(world.state(0)) == ""
    assert shown(world, 0) == [0, 0, 0]


def test_what_is_accepted_and_not_learned_is_told_by_how_long_it_waits() -> None:
    world = RegisterWorld()
    leave(world, "k")
    index = world.home("k")
    world.run(2)
    rows, age_s, barred = shown(world, index)
    assert (rows, barred) == (1, 0)
    assert age_s == pytest.approx(2, abs=0.2)
    assert notes(world.state(index)) == ""  # that is usual for a moment
    world.run(UNLEARNED_MS / 1e3)
    assert notes(world.state(index)).startswith(
        "1 register with a write that is accepted here and not learned"
    )
    told = world.state(index).as_json()
    assert told["register_rows_unlearned"] == 1
    assert told["register_rows_unlearned_age_ms"] >= UNLEARNED_MS


def test_of_what_waits_since_an_earlier_start_the_time_since_this_one_counts() -> None:
    world = RegisterWorld()
    leave(world, "k")
    world.run(100)
    index = world.home("k")
    world.restart(index)
    world.node(index).registers.acceptors.finish = lambda row, now: None
    world.run(3)
    rows, age_s, _ = shown(world, index)
    assert rows == 1
    assert 2 < age_s < 10


def test_who_is_left_with_something_for_want_of_others_finishes_it_once_they_are_back() -> None:
    world = RegisterWorld(reconcile=True)
    home, *others = world.replicas("k", "cas")
    leave(world, "k")
    for index in others:
        world.stop(index)
    world.run(1)
    world.restart(home)
    world.run(UNLEARNED_MS / 1e3 + 5)
    assert "Start the members that are down" in notes(world.state(home))
    for index in others:
        world.start(index)
    world.run(10)
    assert shown(world, home) == [0, 0, 0]
    assert notes(world.state(home)) == ""


def test_whose_store_was_lost_says_so_until_it_is_taken_in() -> None:
    world = RegisterWorld(reconcile=True)
    world.put_register(0, "k", "v")
    world.settle()
    index = (world.home("k") + 1) % 3
    world.wipe(index)
    world.start(index)
    seating = world.node(index).certificates.seating
    held = len(seating.seats)
    world.until(lambda: bool(seating.stores))
    assert shown(world, index) == [0, 0, held]
    assert not seating.out  # nobody has barred it yet, but it knows that it is bound to another store
    world.until(lambda: bool(seating.out))
    assert shown(world, index) == [0, 0, held]
    told = notes(world.state(index))
    assert f"no acceptor of registers in {held} partitions, for its store is another than before" in told
    assert world.state(index).as_json()["register_partitions_barred"] == held
    world.until(lambda: shown(world, index)[2] == 0, 60)
    assert "no acceptor" not in notes(world.state(index))


def test_requests_of_registers_are_counted_by_how_they_went() -> None:
    world = RegisterWorld()
    home = world.home("k")
    other = (home + 1) % 3
    for value in ("1", "2", "3"):
        world.put_register(other, "k", value)
    counts, forwards = world.node(home).metrics.counts, world.node(other).metrics.counts
    assert (counts["register_ballots"], counts["register_skips"], counts["register_forwards"]) == (1, 2, 0)
    assert (forwards["register_ballots"], forwards["register_forwards"]) == (0, 3)
    acceptors, row = world.node(other).registers.acceptors, world.row("k", "cas")
    outbox = world.node(other).peers.all[other].outbox
    acceptors.prepare(other, outbox, Prepare(1, row, b"\0" * 15 + b"\1", 0), world.now(other))
    assert forwards["register_conflicts"] == 1


def test_what_is_left_of_atomic_batches_is_told_once_it_lies_for_long() -> None:
    scene = Scene()
    world, (alone, *others) = scene.world, scene.replicas(scene.first)
    at = next(each for each in scene.replicas(scene.second) if each not in (scene.at, alone))
    scene.begin(lambda sent: holds(scene.first)(sent) and sent.target in others, 0.1)
    scene.die()
    world.crash(alone)
    assert "atomic batches" not in notes(world.state(at))
    world.run(UNLEARNED_MS / 1e3)
    assert "1 part of atomic batches unfinished, for 15s: " in notes(world.state(at))
    world.start(alone)
    world.over()
    assert "atomic batches" not in notes(world.state(at))
