"""Losses: where too few sources are left to recover from, that is said, and nothing is proven any more.

Covers `replica/losses.py`, what recovery finds lost, and what proofs, reads and operators are told.
"""

from collections.abc import Callable

import pytest

from basestore.client.session import Session
from basestore.cluster.outbox import Outbox
from basestore.consistency import Level
from basestore.errors import ReadTimeout, TooStale, VersionLost
from basestore.protocol.anti_entropy import KnownLosses, LossRow
from basestore.protocol.client import Get, Got
from basestore.protocol.heartbeats import StoreClaim
from basestore.repair.rule import Rule
from basestore.repair.version import COUNTER_BITS
from basestore.results.convergence import GONE, Convergence
from basestore.results.readers import read_result
from basestore.results.receipts import ReadResult, Receipt
from tests.worlds.following import converged, loss_accepted
from tests.worlds.world import WALL_MS, World


def now_ms(world: World) -> int:
    return WALL_MS + int(world.monotonic * 1000)


def recovered(world: World, *indices: int) -> None:
    world.run(4)
    assert [world.node(index).state for index in indices] == ["up"] * len(indices)


def lose(world: World, *indices: int) -> None:
    """These nodes come back with empty disks, and recover from what there is."""
    for index in indices:
        world.wipe(index)
    for index in indices:
        world.start(index)
    recovered(world, *indices)


def cut(world: World, index: int) -> None:
    """A node opens a store that says it has lost the end of its log."""
    world.crash(index)
    world.engines[index].loss = "the log was cut"
    world.start(index)
    del world.engines[index].loss
    recovered(world, index)


def unproven(found: Convergence) -> tuple[str, ...]:
    """It is not proven, at once, because of a loss: whose."""
    assert not found.proven
    assert not any(proof.proven for proof in found.partitions)
    losses = [each for each in found.obstacles if each.kind == "lost"]
    assert losses
    assert all(each.since_ms for each in losses)
    return tuple(name for each in losses for name in each.nodes)


def looks_of_a_session(world: World, seen: bytes) -> Callable[[], ReadResult]:
    """Reads of `k` at QUORUM in a session that has seen this version of it."""
    session = Session(bytes(16), {"default": Rule.LAST_WRITE_WINS})
    session.show("default", b"k", seen)

    def look() -> ReadResult:
        request = session.begin(Get(0, "default", b"k", Level.QUORUM, 1000, b"", True))
        call = world.ask(0, lambda number: request._replace(id=number))
        world.run(1.5)
        session.end(request, call.reply())
        return read_result(call.reply(), Level.QUORUM)

    return look


def look_bounded(world: World, key: str, level: Level, stale_ms: int = 0) -> ReadResult:
    call = world.ask(
        0, lambda r: Get(r, "default", key.encode(), level, 1000, b"", True, True, stale_ms), level
    )
    world.settle()
    return read_result(call.reply(), level)


def test_two_of_three_lost_disks_are_a_loss_until_it_is_accepted_and_again_when_they_are_lost_again() -> None:
    world = World(3, partitions=2, reconcile=True)
    world.run(2)
    receipts = [world.put(0, f"k{at}", "v", Level.ALL) for at in range(8)]
    lose(world, 1, 2)
    lost_ms = now_ms(world)
    found = converged(world, timeout_s=60)
    assert found.waited_s < 30, "no waiting changes it, so it says so at once"
    assert set(unproven(found)) <= {"n2", "n3"}
    obstacle = found.obstacles[0]
    assert obstacle.text.endswith("recovered from 1 of 2 sources needed")
    assert obstacle.since_ms is not None
    assert abs(obstacle.since_ms - lost_ms) < 10_000
    for receipt in receipts:
        assert not converged(world, receipt=receipt, timeout_s=60).proven

    for _ in range(2):  # it does not matter how often
        accepted = loss_accepted(world, 1)
        assert accepted.complete
        assert converged(world, timeout_s=60).proven
        assert all(converged(world, receipt=receipt).proven for receipt in receipts)
    lose(world, 0, 1)
    assert set(unproven(converged(world, 2))) <= {"n1", "n2"}
    assert loss_accepted(world).complete
    assert converged(world, timeout_s=60).proven


def test_a_clock_that_is_behind_puts_no_loss_before_what_was_lost() -> None:
    world = World(3)
    world.crash(2)
    receipt = world.put(0, "k", "v")
    assert receipt.version is not None
    world.wipe(0)
    world.wipe(1)
    world.skew_ms[0] = -3_600_000
    for index in (2, 0, 1):
        world.start(index)
    recovered(world, 0, 1)
    losses = world.node(0).losses.known(receipt.partition)
    assert len(losses) == 2
    assert min(row.upto for row in losses) >= receipt.version.stamp


def test_a_source_that_turns_out_to_be_an_old_copy_is_no_source() -> None:
    world = World(3)
    world.wipe(0)
    node = world.start(0)
    world.run(4)
    certificates = node.certificates
    assert certificates.last_exchange(0, 1) is not None
    node.identity.hear_claim(
        Outbox(set()), "n2", StoreClaim(bytes(16), bytes(8), 0, False, False, b"", False)
    )
    assert certificates.last_exchange(0, 1) is None


def test_what_is_written_after_a_loss_is_proven_by_its_receipt() -> None:
    world = World(3, partitions=1, reconcile=True)
    lose(world, 1, 2)
    world.run(10)
    receipt = world.put(0, "k", "v", Level.ALL)
    assert converged(world, receipt=receipt, timeout_s=60).proven
    assert not converged(world, timeout_s=60).proven


def test_whoever_is_left_says_it_and_after_a_restart_too() -> None:
    world = World(3, partitions=1, reconcile=True)
    lose(world, 1, 2)
    world.crash(1)
    world.crash(2)
    world.restart(0)
    assert unproven(converged(world, timeout_s=60))
    assert world.state(0).facts["lossy"] == "1"


def test_an_acceptance_reaches_a_node_that_was_away_and_outlives_restarts() -> None:
    world = World(3, partitions=1, reconcile=True)
    lose(world, 1, 2)
    world.run(5)
    world.crash(2)
    accepted = loss_accepted(world)
    assert accepted.complete
    assert set(accepted.unheard) == {"n3"}
    world.start(2)
    recovered(world, 2)
    for index in (0, 1):
        world.restart(index)
        recovered(world, index)
    assert [world.state(at).facts["lossy"] for at in range(3)] == ["0"] * 3
    assert converged(world, timeout_s=60).proven


def test_a_lone_store_whose_log_was_cut_proves_nothing() -> None:
    world = World(1, partitions=2)
    receipt = world.put(0, "k", "v")
    cut(world, 0)
    assert unproven(converged(world, timeout_s=60)) == ("n1",)
    assert not converged(world, receipt=receipt, timeout_s=60).proven
    loss = world.state(0).loss
    assert loss is not None
    assert loss[0] == 2
    assert loss[2] == "0 of 1"
    assert loss_accepted(world).complete
    assert world.state(0).loss is None
    assert converged(world, timeout_s=60).proven
    cut(world, 0)
    assert unproven(converged(world, timeout_s=60)) == ("n1",)


def test_with_one_replica_a_member_that_knew_an_earlier_store_says_so() -> None:
    world = World(3, replication=1, partitions=3, reconcile=True)
    world.run(2)
    assert converged(world, timeout_s=60).proven
    world.wipe(1)
    world.run(1)
    world.start(1)
    recovered(world, 1)
    assert not converged(world, timeout_s=60).proven
    assert world.state(1).loss is not None
    assert loss_accepted(world).complete
    assert converged(world, timeout_s=60).proven


@pytest.mark.parametrize("replicas", [2, 3])
def test_all_disks_cut_at_once_are_a_loss(replicas: int) -> None:
    world = World(replicas, partitions=1, reconcile=True)
    world.run(1)
    for index in range(replicas):
        world.crash(index)
    for index in range(replicas):
        world.engines[index].loss = "the log was cut"
        world.start(index)
        del world.engines[index].loss
    recovered(world, *range(replicas))
    assert not converged(world, timeout_s=60).proven
    assert loss_accepted(world).complete
    assert converged(world, timeout_s=60).proven


@pytest.mark.parametrize("replicas", [2, 3, 5])
def test_one_lost_disk_of_several_is_no_loss(replicas: int) -> None:
    world = World(replicas, replication=replicas, partitions=1, reconcile=True)
    receipt = world.put(0, "k", "v")
    lose(world, 0)
    assert converged(world, timeout_s=60).proven
    assert converged(world, receipt=receipt, timeout_s=60).proven


def test_a_write_of_fewer_than_a_quorum_is_not_proven_once_its_replica_has_lost_its_store() -> None:
    world = World(3, partitions=1, reconcile=True, hint_bytes_max=0)
    for other in (1, 2):
        world.part(0, other)
    receipt = world.put(0, "k", "v", Level.ONE)
    world.wipe(0)
    for other in (1, 2):
        world.cut.discard(frozenset((0, other)))
    world.start(0)
    recovered(world, 0)
    assert not world.look(0, "k").found
    found = converged(world, receipt=receipt, timeout_s=60)
    assert not found.proven
    assert [obstacle.text for obstacle in found.obstacles] == [GONE]


def test_no_first_write_is_final_while_a_loss_is_open() -> None:
    world = World(3, partitions=1, reconcile=True)
    world.put(0, "k", "v", Level.ALL, bucket="once")
    world.run(30)
    assert world.look(0, "k", bucket="once").final
    lose(world, 1, 2)
    world.run(30)

    def finals() -> list[bool | None]:
        looked = [world.look(at, "k", bucket="once").final for at in range(3)]
        lost: Receipt = world.put(0, "k", "w", bucket="once")
        return [*looked, lost.final]

    assert finals() == [False] * 4
    assert loss_accepted(world).complete
    assert finals() == [True] * 4


def test_how_stale_an_answer_is_nobody_can_tell_while_a_loss_is_open() -> None:
    world = World(3, partitions=1, reconcile=True)
    world.put(0, "k", "v", Level.ALL)
    lose(world, 1, 2)
    world.run(30)
    for level in (Level.ONE, Level.QUORUM, Level.ALL):
        assert look_bounded(world, "k", level).stale_by_at_most is None
    with pytest.raises(TooStale, match="accept the loss with `basestore repair --accept-loss`"):
        look_bounded(world, "k", Level.ONE, 60_000)
    assert loss_accepted(world).complete
    assert look_bounded(world, "k", Level.ONE, 60_000).stale_by_at_most is not None
    assert look_bounded(world, "k", Level.QUORUM).stale_by_at_most == 0


def test_a_session_keeps_its_floor_while_a_loss_is_open() -> None:
    """That all replicas hold a version, or a better one, is not told then."""
    world = World(3, partitions=1, reconcile=True)
    world.put(0, "k", "v", Level.ALL)
    lose(world, 1, 2)
    world.run(30)
    call = world.ask(0, lambda r: Get(r, "default", b"k", Level.QUORUM, 1000, b"", True, True, 0))
    world.settle()
    answer = call.reply()
    assert isinstance(answer, Got)
    assert answer.stable == 0


def test_losses_are_told_before_anything_else_is_said_on_a_link() -> None:
    world = World(3, partitions=1, reconcile=True)
    lose(world, 1, 2)
    world.log.clear()
    world.link(0, 1)
    world.settle()
    said = [sent.message for sent in world.log if sent.source == 0 and sent.target == 1]
    assert isinstance(said[0], KnownLosses)
    assert all(row.upto >> COUNTER_BITS > WALL_MS > row.accepted for row in said[0].rows)


@pytest.mark.parametrize("older", [True, False])
def test_a_session_is_told_once_that_what_it_has_seen_is_lost(older: bool) -> None:
    """Whether the replicas hold an older version or nothing. It has waited for ever before."""
    world = World(3, partitions=1, reconcile=True, hint_bytes_max=0)
    if older:
        world.put(2, "k", "old", Level.ALL)
    world.part(0, 2)
    world.part(1, 2)
    version = world.put(0, "k", "new").version
    assert version is not None
    world.wipe(0)
    world.wipe(1)
    for index in (0, 1):
        world.cut.discard(frozenset((index, 2)))
    for index in (0, 1):
        world.start(index)
    recovered(world, 0, 1)
    look = looks_of_a_session(world, version.encode())
    with pytest.raises(ReadTimeout):  # a proof is yet to come
        look()
    world.run(30)
    with pytest.raises(VersionLost, match=f"the version {version} that this session has seen is lost"):
        look()
    assert look().value == (b"old" if older else None)


@pytest.mark.parametrize("older", [True, False])
def test_a_session_is_told_so_too_where_a_quorum_never_had_it_and_nothing_need_be_accepted(
    older: bool,
) -> None:
    """What nobody holds and is stable was taken for purged: a write at ONE that went with its disk was shown
    as not there."""
    world = World(3, partitions=1, reconcile=True, hint_bytes_max=0)
    if older:
        world.put(2, "k", "old", Level.ALL)
    world.part(0, 1)
    world.part(0, 2)
    version = world.put(0, "k", "new", Level.ONE).version
    assert version is not None
    world.wipe(0)
    for index in (1, 2):
        world.cut.discard(frozenset((0, index)))
    world.start(0)
    recovered(world, 0)
    assert world.node(0).losses.all_open == []
    world.run(30)
    look = looks_of_a_session(world, version.encode())
    with pytest.raises(VersionLost, match=f"the version {version} that this session has seen is lost"):
        look()
    assert look().value == (b"old" if older else None)


def test_what_is_purged_after_a_loss_is_just_not_there() -> None:
    world = World(3, partitions=1, reconcile=True)
    lose(world, 0)
    world.run(30)
    call = world.delete(1, "k", Level.ALL)
    world.settle()
    version = call.receipt().version
    assert version is not None
    world.run(60)
    assert world.stored(1, "k") is None
    assert looks_of_a_session(world, version.encode())().found is False


@pytest.mark.parametrize(("count", "replication"), [(3, 3), (3, 2), (3, 1)])
def test_to_accept_the_loss_of_a_quorum_write_does_not_make_its_receipt_provable(
    count: int, replication: int
) -> None:
    world = World(count, replication=replication, reconcile=True)
    replicas = world.replicas("k")
    for other in replicas[replication // 2 + 1 :]:
        world.crash(other)
    receipt = world.put(replicas[0], "k", "v")
    for holder in replicas[: replication // 2 + 1]:
        world.wipe(holder)
    for index in range(count):
        if world.nodes[index] is None:
            world.start(index)
    recovered(world, *range(count))
    assert loss_accepted(world).complete
    world.run(30)
    assert converged(world).proven
    found = converged(world, receipt=receipt)
    assert not found.proven
    assert [obstacle.text for obstacle in found.obstacles] == [GONE]


def test_who_must_be_heard_before_a_loss_is_accepted_is_named_once_and_soon() -> None:
    world = World(3, replication=1, reconcile=True)
    world.run(5)
    world.crash(2)
    world.run(5)
    begun_s = world.monotonic
    done = loss_accepted(world, timeout_s=30.0)
    assert world.monotonic - begun_s < 10
    assert [(obstacle.kind, obstacle.nodes) for obstacle in done.obstacles] == [("down", ("n3",))]
    assert done.unheard == {}


def test_who_need_not_be_heard_before_a_loss_is_accepted_is_told_by_others() -> None:
    world = World(3, partitions=1, reconcile=True)
    lose(world, 0)
    world.crash(2)
    world.run(5)
    done = loss_accepted(world, timeout_s=30.0)
    assert done.complete
    assert list(done.unheard) == ["n3"]


@pytest.mark.parametrize("replication", [1, 2, 3])
@pytest.mark.parametrize("away_s", [0, 10])
def test_a_loss_after_clocks_were_ahead_covers_what_the_lost_node_went_on_to_write(
    replication: int, away_s: int
) -> None:
    world = World(3, replication=replication, reconcile=True, born=False)
    world.skew_ms = [3_600_000] * 3
    for index in range(3):
        world.start(index)
    world.run(10)
    at = world.replicas("k")[0]
    for other in {0, 1, 2} - {at}:
        world.crash(other)
    world.run(away_s)
    receipt = world.put(at, "k", "v", Level.ONE)
    world.wipe(at)
    world.skew_ms = [0] * 3
    for index in range(3):
        world.start(index, clock_is_right=True)
    world.run(20)
    loss_accepted(world)
    world.monotonic += 3700
    world.run(30)
    assert not converged(world, receipt=receipt, timeout_s=5).proven


def test_what_a_store_has_lost_of_what_it_is_given_later_accepts_nothing_that_is_open() -> None:
    world = World(3, partitions=2)
    world.wipe(0)
    world.start(0)
    recovered(world, 0)
    losses, number = world.node(0).losses, world.member(0).number
    assert not losses.open(0)
    row = LossRow(0, number, 2, 3, losses.store_upto + 1, 0)  # more were needed then
    losses.hear(Outbox(set()), KnownLosses([row], 0))
    assert losses.open(0)
    world.run(5)
    losses.note_store(world.now(0))
    for partition in range(2):
        losses.hold(partition)
    assert all(any(each.upto == losses.store_upto for each in losses.known(at)) for at in range(2))
    assert losses.open(0)
    assert not losses.open(1)
