"""Disks that hang: noticed, told, stepped back from, and forgotten when they are there again."""

import pytest

from basestore.config import Syncs
from basestore.consistency import Level, Outcome, ReplicaState
from basestore.errors import Overloaded
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.protocol.operator import Explain
from basestore.protocol.replication import Apply, Read, ReadRange
from basestore.replica.group_commit import GroupCommit
from basestore.replica.sync_watch import STUCK_S, SyncWatch
from basestore.storage.memory import MemoryEngine
from tests.worlds.world import World

TICK_S = 0.05


class Disk:
    """One whose syncs take as long as the test says, under a group commit and its watch."""

    def __init__(self, syncs: Syncs = "always") -> None:
        self.group_commit = GroupCommit(MemoryEngine(), b"", waits=syncs == "always")
        self.metrics = Metrics()
        self._watch = SyncWatch(self.group_commit, self.metrics, syncs)
        self._now_s = 0.0
        self._number = 0

    def write(self, sync_s: float) -> bool:
        """Store something that is durable after so long; whether the disk was held to be stuck meanwhile."""
        self._number += 1
        self.group_commit.stage(b"k", b"%d" % self._number)
        self.group_commit.commit()
        barrier, stuck = self.group_commit.sequence, False
        for _ in range(round(sync_s / TICK_S)):
            self.tick(TICK_S)
            stuck |= self.group_commit.full
        self.group_commit.durable(barrier)
        self.tick(TICK_S)
        assert not self.group_commit.full
        return stuck

    def tick(self, seconds: float) -> None:
        self._now_s += seconds
        self._watch.tick(Instant(0, self._now_s))


def hanging(world: World, at: int) -> None:
    """Let a node's disk hang, with something stored, until the node and the others know."""
    world.freeze(at)
    world.set(at, "unsynced", "v")
    world.run(STUCK_S + 1)
    assert world.node(at).group_commit.stuck_s > STUCK_S


@pytest.mark.parametrize("sync_s", [0.05, 0.5, 1.0, 1.8])
def test_a_disk_that_is_slow_but_ends_its_syncs_is_not_stuck(sync_s: float) -> None:
    disk = Disk()
    assert not any(disk.write(sync_s) for _ in range(50))


def test_a_sync_that_takes_far_longer_than_usual_is_noticed_each_time() -> None:
    disk = Disk()
    for _ in range(3):
        assert not any(disk.write(0.1) for _ in range(200))
        assert disk.write(60)
    assert disk.metrics.counts["disk_stalls"] == 3


def test_where_syncs_are_made_once_a_second_that_second_is_no_delay() -> None:
    assert not any(map(Disk("interval").write, [STUCK_S + 0.9] * 9))
    assert Disk("interval").write(STUCK_S + 1.2)


def test_a_pause_of_the_node_is_not_taken_for_a_hanging_disk() -> None:
    disk = Disk()
    disk.write(0.1)
    disk.group_commit.stage(b"k", b"v")
    disk.group_commit.commit()
    for _ in range(5):
        disk.tick(30)
    assert not disk.group_commit.full


def test_an_idle_node_is_not_stuck() -> None:
    disk = Disk()
    disk.write(0.1)
    for _ in range(200):
        disk.tick(TICK_S)
    assert not disk.group_commit.full


def test_it_refuses_to_coordinate_writes_definitely_and_still_reads() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    hanging(world, 2)
    call = world.set(2, "k", "w")
    world.settle()
    with pytest.raises(Overloaded, match="at another node") as refused:
        call.receipt()
    assert refused.value.definite
    assert world.look(2, "k").value == b"v"
    assert world.look(2, "k", Level.ALL).value == b"v"
    assert world.look(2, "unsynced").value == b"v"  # as the others hold it
    scan = world.scan(2)
    world.settle()
    assert [item.key for item in scan.page()[0]] == [b"k", b"unsynced"]


def test_others_go_on_at_once_and_keep_hints_that_it_takes_when_it_is_back() -> None:
    world = World(3)
    hanging(world, 2)
    receipt = world.put(0, "k", "v")
    assert receipt.outcome is Outcome.STORED
    assert world.node(0).operations.count == 0  # nobody waits for it
    assert receipt.replicas["n3"] is not ReplicaState.APPLIED
    assert world.state(0).hints["n3"] >= 1
    scan = world.scan(0)
    world.settle()
    assert [item.key for item in scan.page()[0]] == [b"k", b"unsynced"]
    world.thaw(2)
    world.run(3)
    assert world.values("k") == [b"v"] * 3
    assert world.state(0).hints["n3"] == 0
    assert world.put(2, "k", "w", Level.ALL).outcome is Outcome.STORED
    assert world.node(0).peers.any_disk_behind is False


@pytest.mark.parametrize("at", [0, 1])
def test_it_is_asked_last(at: int) -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    hanging(world, 2)
    world.put(at, "k", "w")
    world.scan(at)
    world.settle()
    assert [sent.target for sent in world.sent(ReadRange)] == [1 - at]
    assert world.look(at, "k").value == b"w"
    assert [sent.target for sent in world.sent(Read)] == [1 - at, 2]  # to be compared, after the answer


def test_a_write_that_would_need_it_is_refused_before_anything_is_sent() -> None:
    world = World(3)
    hanging(world, 2)
    sent = len(world.sent(Apply))
    call = world.set(0, "k", "v", Level.ALL)
    world.settle()
    with pytest.raises(Overloaded, match=r"3 replicas are required.*\(n3\)") as refused:
        call.receipt()
    assert refused.value.definite
    assert len(world.sent(Apply)) == sent
    assert world.values("k") == [None] * 3


def test_others_hear_at_once_that_it_is_there_again() -> None:
    world = World(3)
    hanging(world, 2)
    assert world.node(0).peers.disk_behind == [False, False, True]
    world.thaw(2)
    world.run(0.1)
    assert world.put(0, "k", "v", Level.ALL).outcome is Outcome.STORED


def test_with_one_replica_what_is_durable_is_still_read_and_writes_are_refused() -> None:
    world = World(1)
    world.put(0, "k", "v")
    hanging(world, 0)
    assert world.look(0, "k").value == b"v"
    call = world.set(0, "k", "w")
    world.settle()
    with pytest.raises(Overloaded):
        call.receipt()
    world.thaw(0)
    world.settle()
    world.node(0).tick(world.now(0))
    assert world.look(0, "unsynced").value == b"v"
    assert world.put(0, "k", "w").outcome is Outcome.STORED


def test_status_says_so_for_as_long_as_it_lasts() -> None:
    world = World(3)
    assert world.state(2).facts["disk"] == ""
    hanging(world, 2)
    assert world.state(2).facts["disk"].startswith("no sync has ended for ")
    assert world.state(0).facts["disk"] == ""
    gauges = world.node(2).report.gauges()
    assert gauges.disk_behind
    assert gauges.stuck_s > STUCK_S
    world.thaw(2)
    world.run(0.1)
    assert world.state(2).facts["disk"] == ""
    assert not world.node(2).report.gauges().disk_behind


def test_explain_does_not_wait_for_it() -> None:
    world = World(3)
    hanging(world, 2)
    world.put(0, "k", "v")
    call = world.ask(0, lambda request: Explain(request, "default", b"k", 1000))
    world.settle()
    assert call.done
