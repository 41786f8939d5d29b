"""Convergence: it is proven that all replicas hold the same for good, or said what stands in the way."""

from dataclasses import replace
from typing import Any

import pytest

from basestore.client.arguments import patience, scope_of
from basestore.consistency import Level
from basestore.errors import ConnectionLost, InvalidRequest
from basestore.observe.prometheus import Exposition
from basestore.protocol.codec import encode
from basestore.protocol.operator import Status, Survey, Surveyed, Told, Unheard
from basestore.protocol.replication import Apply, Hinted
from basestore.results.cluster_view import ClusterView
from basestore.results.convergence import Proving
from tests.worlds.following import converged, follow, names
from tests.worlds.late_hints import hints, keep_late, rejoin
from tests.worlds.world import World, number_of


def kinds(world: World, **options: object) -> dict[str, tuple[str, ...]]:
    found = converged(world, timeout_s=12.0, **options)  # type: ignore[arg-type]
    assert not found.proven
    return {obstacle.kind: obstacle.nodes for obstacle in found.obstacles}


def test_what_was_written_before_the_call_is_proven_to_be_everywhere() -> None:
    world = World(3, reconcile=True)
    versions = [world.put(at % 3, f"k{at}", "v").version for at in range(20)]
    found = converged(world)
    assert found.proven
    assert not found.obstacles
    assert [proof.partition for proof in found.partitions] == [0, 1, 2, 3]
    for proof in found.partitions:
        assert proof.replicas == ("n1", "n2", "n3")
        assert proof.stable >= max(version.stamp for version in versions if version)
        assert proof.digest is not None
        assert set(proof.certificates) == {("n1", "n2"), ("n1", "n3"), ("n2", "n3")}
        assert None not in proof.certificates.values()
    assert sum(proof.count for proof in found.partitions) == 20
    assert all(None not in world.values(f"k{at}") for at in range(20))


def test_it_is_no_sooner_than_writes_are_closed() -> None:
    world = World(3, reconcile=True)
    found = converged(world)
    assert found.waited_s > world.cluster.closed_lag_ms / 1e3


def test_a_write_that_missed_a_replica_is_brought_before_it_is_proven() -> None:
    world = World(3, reconcile=True, hint_bytes_max=0)
    world.crash(2)
    world.run(3)
    world.put(0, "k", "v")
    world.start(2)
    world.run(1)
    assert converged(world).proven
    assert world.values("k") == [b"v"] * 3


def test_a_cluster_larger_than_its_replication_is_proven_by_any_node() -> None:
    world = World(7, replication=3, partitions=16, reconcile=True)
    for at in range(30):
        world.put(at % 7, f"k{at}", "v")
    found = converged(world, at=6)
    assert found.proven
    assert len(found.partitions) == 16
    assert all(len(proof.replicas) == 3 and len(proof.certificates) == 3 for proof in found.partitions)


def test_many_partitions_come_page_by_page() -> None:
    world = World(3, partitions=600, reconcile=True)
    found = converged(world, timeout_s=60.0)
    assert found.proven
    assert len(found.partitions) == 600


def test_one_key_is_a_matter_of_its_partition() -> None:
    world = World(3, reconcile=True)
    world.put(0, "k", "v")
    found = converged(world, at=1, key="k")
    assert found.proven
    assert [proof.partition for proof in found.partitions] == [int.from_bytes(world.row("k")[:2])]


def test_a_receipt_is_proven_once_its_version_is_stable() -> None:
    world = World(3, reconcile=True)
    receipt = world.put(0, "k", "v")
    assert receipt.version is not None
    found = converged(world, key="k", receipt=receipt)
    assert found.proven
    assert found.stamp == receipt.version.stamp
    again = converged(world, key="k", receipt=receipt)
    assert again.waited_s < 0.5


def test_a_write_that_was_beaten_is_settled_by_what_beat_it() -> None:
    world = World(3, reconcile=True)
    first = world.put(0, "k", "ada", bucket="once")
    lost = world.put(1, "k", "bob", bucket="once")
    found = converged(world, key="k", bucket="once", receipt=lost)
    assert first.version is not None
    assert found.proven
    assert found.stamp == first.version.stamp


def test_a_single_replica_proves_by_itself() -> None:
    world = World(1, reconcile=True)
    world.put(0, "k", "v")
    assert converged(world).proven


def test_a_node_that_is_down_is_named() -> None:
    world = World(3, reconcile=True)
    world.crash(2)
    world.run(3)
    found = converged(world, timeout_s=12.0)
    (obstacle,) = found.obstacles
    assert (obstacle.kind, obstacle.nodes, obstacle.partitions) == ("down", ("n3",), (0, 1, 2, 3))
    assert "n3 does not answer: there is no link to it" in obstacle.text
    assert found.waited_s >= 12.0


def test_when_no_replica_of_a_partition_answers_those_who_are_down_are_named() -> None:
    world = World(4, replication=1, partitions=8, reconcile=True)
    world.crash(3)
    world.run(3)
    found = converged(world, timeout_s=12.0)
    held = {p for p, replicas in enumerate(world.placement.replicas) if replicas == (3,)}
    (obstacle,) = found.obstacles
    assert (obstacle.kind, obstacle.nodes, set(obstacle.partitions)) == ("down", ("n4",), held)


def test_a_pair_that_cannot_talk_is_named() -> None:
    world = World(3, reconcile=True)
    world.run(2)
    world.part(0, 1)
    found = converged(world, at=2, timeout_s=20.0)
    (obstacle,) = found.obstacles
    assert (obstacle.kind, obstacle.nodes) == ("no certificate", ("n1", "n2"))
    assert obstacle.text == "no certificate between n1 and n2"


def test_memory_is_never_proven_and_that_is_said_at_once() -> None:
    world = World(3, durability="memory", reconcile=True)
    found = converged(world)
    assert {obstacle.kind for obstacle in found.obstacles} == {"memory"}
    assert found.waited_s < 1.0


def test_only_copies_are_named_with_who_keeps_them() -> None:
    world = World(4, reconcile=True)
    keeper = world.outsider("k")
    world.lose = lambda sent: sent.source == keeper and isinstance(sent.message, Apply | Hinted)
    call = world.set(keeper, "k", "v", Level.ANY)
    world.run(1)
    assert call.receipt()
    assert kinds(world, key="k") == {"only copies": (f"n{keeper + 1}",)}
    world.lose = lambda _: False
    assert converged(world, key="k").proven
    assert world.stored(world.replicas("k")[0], "k") is not None


def test_what_members_that_are_not_heard_may_keep_is_not_covered_and_that_is_said() -> None:
    world = World(4, reconcile=True)
    keeper = keep_late(world)
    found = converged(world, at=world.replicas("k")[0], key="k")
    assert found.proven
    assert found.unheard == {f"n{keeper + 1}": "there is no link to it"}
    (caveat,) = found.caveats
    assert "hints of writes at any that it may keep are not covered" in caveat
    assert found.as_json()["caveats"] == [caveat]
    assert found.as_json()["unheard"] == found.unheard


def test_hints_that_come_too_late_are_named_until_they_are_decided() -> None:
    world = World(4, reconcile=True)
    keeper = keep_late(world)
    rejoin(world, keeper)
    found = converged(world, key="k", timeout_s=12.0)
    assert not found
    (obstacle,) = found.obstacles
    assert (obstacle.kind, obstacle.nodes) == ("late hints", (f"n{keeper + 1}",))
    assert "basestore hints replay --late" in obstacle.text
    hints(world, keeper, replay=True, late=True)
    world.run(1)
    assert converged(world, key="k").proven


def test_hints_that_only_their_keeper_has_are_named_though_proofs_have_passed_them_by() -> None:
    world = World(4, reconcile=True)
    keeper = keep_late(world)
    world.lose = lambda sent: sent.source == keeper and isinstance(sent.message, Hinted)
    rejoin(world, keeper)
    assert kinds(world, key="k") == {"only copies": (f"n{keeper + 1}",)}


def test_a_receipt_of_a_write_that_no_replica_had_applied_proves_nothing() -> None:
    world = World(4, reconcile=True)
    keeper = world.outsider("k")
    for replica in world.replicas("k"):
        world.part(keeper, replica)
    world.run(2)
    call = world.set(keeper, "k", "v", Level.ANY)
    world.run(20)
    receipt = call.receipt()
    assert not receipt.applied
    found = converged(world, at=world.replicas("k")[0], receipt=receipt)
    (obstacle,) = found.obstacles
    assert (obstacle.kind, found.proven) == ("unapplied", False)
    assert "`basestore explain` its key" in obstacle.text
    assert found.waited_s < 1.0


def test_other_writes_that_came_too_late_are_no_matter_of_a_receipt() -> None:
    world = World(4, reconcile=True)
    keeper = keep_late(world)
    receipt = world.put(world.replicas("k")[0], "k", "w")
    rejoin(world, keeper)
    assert converged(world, receipt=receipt).proven


def test_a_receipt_is_a_matter_of_its_partition_whatever_the_others_do() -> None:
    world = World(3, reconcile=True)
    receipt = world.put(0, "k", "v")
    found = converged(world, receipt=receipt)
    assert found
    assert [proof.partition for proof in found.partitions] == [receipt.partition]
    assert receipt.partition == int.from_bytes(world.row("k")[:2])
    assert receipt.as_json()["partition"] == receipt.partition


def test_a_key_that_is_not_that_of_the_receipt_is_refused() -> None:
    world = World(3, reconcile=True)
    receipt = world.put(0, "k", "v")
    other = next(key for key in "abcdefg" if world.row(key)[:2] != world.row("k")[:2])
    with pytest.raises(InvalidRequest, match="so of another key"):
        converged(world, key=other, receipt=receipt)


def test_the_result_is_true_if_it_is_proven() -> None:
    world = World(3, reconcile=True)
    assert not converged(world, timeout_s=1.0)
    assert converged(world)


def test_clocks_that_are_not_trusted_are_named() -> None:
    world = World(3, reconcile=True)
    world.skew_ms[1] = 60_000
    world.run(3)
    assert kinds(world)["clock"] == ("n2",)


def test_before_it_can_be_proven_it_is_a_matter_of_time() -> None:
    found = converged(World(3), timeout_s=3.0)
    (obstacle,) = found.obstacles
    assert (obstacle.kind, obstacle.nodes) == ("waiting", ())
    assert "a proof follows the writes by 6 s" in obstacle.text


def test_once_it_could_be_proven_exchanges_run_at_once() -> None:
    """Not in turn: here no round would ever come."""
    assert converged(World(3)).proven


def test_nonsense_is_refused_with_advice() -> None:
    world = World(3)
    call = world.ask(0, lambda request: Survey(request, "default", b"", 4, 0, -1, False, [], 1000))
    world.settle()
    with pytest.raises(InvalidRequest, match=r"no partition 4; this cluster has 4, counted from 0"):
        ClusterView().hear(call.reply(), {0: "n1"}, 0.0)
    with pytest.raises(InvalidRequest, match="counted from 0"):
        scope_of("default", None, -1)
    with pytest.raises(InvalidRequest, match="not both"):
        scope_of("default", "k", 1)
    with pytest.raises(InvalidRequest, match="timeout"):
        patience(-1)


@pytest.mark.parametrize(
    "change",
    [
        {"told": [Told(number_of(0), b"x")]},
        {"told": [Told(number_of(0), encode([Status(1)]))]},
        {"told": [Told(0, b"")]},
        {"unheard": [Unheard(0, "why")]},
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_with_advice(change: dict[str, Any]) -> None:
    world = World(3)
    call = world.ask(0, lambda request: Survey(request, "default", b"", -1, 0, -1, False, [], 1000))
    world.settle()
    answer = call.answer
    assert isinstance(answer, Surveyed)
    with pytest.raises(ConnectionLost, match="check its version"):
        ClusterView().hear(answer._replace(**change), world.cluster.names, 0.0)


# --- what a node says of its lag --------------------------------------------------------------------


def test_a_node_says_how_far_its_proofs_are_behind_and_who_holds_them_back() -> None:
    world = World(3, reconcile=True)
    facts = world.state(0).facts
    assert (facts["stable lag ms"], facts["unproven"], facts["stalled by"]) == ("", "4", "")
    assert converged(world).proven
    facts = world.state(0).facts
    assert (facts["unproven"], facts["stalled by"]) == ("0", "")
    assert world.cluster.closed_lag_ms < int(facts["stable lag ms"]) < world.cluster.closed_lag_ms + 5000
    world.crash(2)
    world.run(80)
    shown = world.node(0).report.gauges()
    assert shown.lag.stalled_by == ("n3",)
    assert shown.lag.stable_lag_ms is not None
    assert shown.lag.stable_lag_ms > 80_000
    text = b"".join(Exposition(world.node(0).metrics, shown, {}).render()).decode()
    assert 'basestore_stalls{peer="n3"} 1.0' in text
    assert 'basestore_stalls{peer="n2"} 0.0' in text
    assert f"basestore_stable_lag_seconds {shown.lag.stable_lag_ms / 1e3}" in text
    assert "basestore_open_exchanges 0.0" in text
    assert 'basestore_exchanges_total{kind="same"}' in text


def test_a_node_that_is_heard_only_later_moves_the_moment_beyond_what_it_may_have_seen() -> None:
    world = World(3, reconcile=True)
    world.crash(2)
    world.run(3)
    proving = Proving(scope_of("default", None), None, 40.0, world.monotonic)
    stamps = []
    for again in range(2):
        if again:
            world.start(2)
            world.run(1)
        call = world.ask(0, proving.request)
        world.settle()
        assert call.answer is not None
        proving.hear(call.answer, names(world), world.monotonic)
        # private: what has to be proven is told to nodes only
        stamps.append(proving._stamp)
    ahead_ms = (stamps[1] >> 16) - world.now(2).wall_ms
    assert ahead_ms >= world.cluster.drift_ms_max
    assert follow(world, proving).proven


def test_a_new_cluster_of_one_node_to_which_nothing_was_written_is_proven() -> None:
    world = World(1, reconcile=True)
    world.run(1)
    found = converged(world, timeout_s=2)
    assert found.proven
    assert found.stamp == 0
    world.put(0, "key", "v")
    assert not converged(world, timeout_s=1).proven
    assert converged(world).proven


def test_a_receipt_of_another_cluster_is_refused_by_name() -> None:
    world = World(3, reconcile=True)
    receipt = replace(world.put(0, "k", "v"), cluster=b"another cluster!")
    with pytest.raises(InvalidRequest, match=f"cluster {receipt.cluster.hex()}, and this is cluster 0000"):
        converged(world, receipt=receipt)
