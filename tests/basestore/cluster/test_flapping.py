"""Peers that die, come back, and come and go: when it is noticed, and what it sets going.

Covers `cluster/peers.py` and `failure_detector.py`.
"""

from typing import NamedTuple

import pytest

from basestore.cluster import failure_detector
from basestore.cluster.operations import Operations
from basestore.consistency import Level, Outcome, ReplicaState
from basestore.errors import Unavailable
from basestore.instant import Instant
from basestore.protocol.codec import Message
from basestore.protocol.replication import Apply, Hinted
from tests.worlds.world import TICK_S, Call, World

WRITES = 1200  # a minute of ticks
FLAP_TICKS = 6  # 300 ms


def until_lost(world: World, at: int, peer: int) -> float:
    """How long it takes a node to notice that a peer is gone."""
    began_s = world.monotonic
    while world.node(at).peers.alive[peer]:
        world.run(TICK_S)
        assert world.monotonic < began_s + 10
    return world.monotonic - began_s


class TestNoticing:
    @pytest.mark.parametrize("phase", range(5))
    @pytest.mark.parametrize("busy", [False, True])
    def test_a_silent_peer_is_noticed_after_about_a_second(self, phase: int, busy: bool) -> None:
        world = World(3)
        world.run(10 + phase * 0.1)
        for _ in range(20 if busy else 0):
            world.run(TICK_S)
            world.put(0, "k", "v", Level.ALL)
        world.isolate(2)
        assert 0.6 <= until_lost(world, 0, 2) <= 1.3
        assert world.node(0).peers.alive == world.node(1).peers.alive == [True, True, False]

    def test_a_node_that_rested_takes_nobody_for_dead_and_hints_nothing(self) -> None:
        world = World(3)
        world.run(5)
        world.isolate(0)
        world.set(0, "k", "v", timeout_s=1.0)
        world.settle()
        world.monotonic += 0.9  # node 0 does not run, nor does anybody else
        world.run(TICK_S)
        assert world.node(0).peers.alive == [True] * 3
        assert world.node(0).hints.count(2) == 0
        world.rejoin(0)
        world.run(1)
        assert world.values("k") == [b"v"] * 3

    def test_a_dead_peer_is_noticed_all_the_same_after_a_rest(self) -> None:
        world = World(3)
        world.run(5)
        world.isolate(2)
        world.monotonic += 30
        assert 1.0 <= until_lost(world, 0, 2) <= 1.5

    def test_a_peer_on_a_slow_way_is_known_to_be_slow(self) -> None:
        world = World(3)
        lost = []
        for _ in range(20):
            world.hold(2, 0)
            world.run(1.7)
            world.release(2, 0)
            lost.append(not world.node(0).peers.alive[2])
            world.run(0.3)
        assert sum(lost[:10]) < 10
        assert not any(lost[10:])
        world.hold(2, 0)
        assert until_lost(world, 0, 2) <= 4.1


def copies(world: World, kind: type[Message]) -> int:
    """How many records were sent to node 2 in this kind of message."""
    return sum(isinstance(sent.message, kind) for sent in world.log if sent.target == 2)


class Counted(NamedTuple):
    """What a minute of flapping set going at the two that stayed: how often they lost the peer, how
    many operations were told so, copies and hints that were sent to it, hints that are kept."""

    losses: int
    told: int
    sent: int
    delivered: int
    kept: int


class Flapping:
    """A world in which node 2 comes and goes while nodes 0 and 1 are asked to write all the time. A
    `mute` one goes each time before it has answered anything but introductions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, mute: bool) -> None:
        self.world = World(3)
        self.calls: list[Call] = []
        self._mute = mute
        self._told = 0
        lost = Operations.lost

        def count_lost(operations: Operations, member: int, now: Instant) -> None:
            self._told += sum(1 for _ in operations.each())
            lost(operations, member, now)

        monkeypatch.setattr(Operations, "lost", count_lost)
        self.world.run(1)

    def flap(self) -> None:
        """The peer goes, or comes back."""
        world = self.world
        for other in (0, 1):
            if (2, other) in world.links:
                world.unlink(2, other)
                world.release(2, other)
            else:
                world.link(2, other)
                world.settle()
                if self._mute:
                    world.hold(2, other)

    def minute(self) -> Counted:
        """A minute of it: a write every 50 ms at each of the two others, at QUORUM."""
        world = self.world
        losses, were = 0, [True, True]
        for number in range(WRITES):
            if number % FLAP_TICKS == 0:
                self.flap()
            self.calls += [world.set(at, f"{at} {number}", "v") for at in (0, 1)]
            alive = [world.node(at).peers.alive[2] for at in (0, 1)]
            losses += sum(was and not now for was, now in zip(were, alive, strict=True))
            were = alive
            world.run(TICK_S)
        kept = sum(world.node(at).hints.count(2) for at in (0, 1))
        return Counted(losses, self._told, copies(world, Apply), copies(world, Hinted), kept)

    def recover(self) -> None:
        """It is there for good."""
        if (2, 0) in self.world.links:
            self.flap()
        self._mute = False
        self.flap()
        self.world.run(15)


class TestFlapping:
    @pytest.mark.parametrize("mute", [False, True])
    def test_a_peer_that_comes_and_goes_sets_nothing_going_and_misses_nothing(
        self, monkeypatch: pytest.MonkeyPatch, mute: bool
    ) -> None:
        flapping = Flapping(monkeypatch, mute=mute)
        counted = flapping.minute()
        assert counted.losses == 4  # two at each: the first return was free
        assert counted.told + counted.sent + counted.delivered <= 100
        assert counted.kept <= 2 * WRITES
        assert {call.receipt().outcome for call in flapping.calls} == {Outcome.STORED}
        flapping.recover()
        world = flapping.world
        assert all(world.values(f"{at} {number}") == [b"v"] * 3 for at in (0, 1) for number in range(WRITES))
        assert world.node(0).hints.count(2) == world.node(1).hints.count(2) == 0
        assert copies(world, Hinted) <= 2 * WRITES + counted.delivered  # each once from now on

    def test_if_it_counted_at_once_every_return_would_send_what_the_next_leave_makes_void(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(failure_detector, "WAIT_S_MAX", 0.0)
        counted = Flapping(monkeypatch, mute=True).minute()
        assert counted.losses == 200
        assert counted.told > WRITES
        assert counted.sent + counted.delivered > 2 * WRITES
        assert counted.kept > 1.9 * WRITES  # and nothing was gained

    def test_a_restart_is_not_held_against_a_node_and_neither_is_one_more_for_long(self) -> None:
        world = World(3)
        world.restart(2)
        world.settle()
        assert all(node.linked for node in world.running)
        world.restart(2)
        world.settle()
        with pytest.raises(Unavailable):
            world.put(0, "k", "v", Level.ALL)
        receipt = world.put(0, "k", "v")
        assert receipt.replicas["n3"] is ReplicaState.HINTED
        world.run(0.7)
        assert all(node.linked for node in world.running)
        assert world.put(0, "k", "w", Level.ALL).outcome is Outcome.STORED

    def test_nobody_waits_whom_a_quorum_needs(self) -> None:
        world = World(3)
        for _ in range(20):
            for peer in (1, 2):
                world.unlink(0, peer)
            world.run(0.1)
            for peer in (1, 2):
                world.link(0, peer)
            world.settle()
            assert world.put(0, "k", "v").outcome is Outcome.STORED
            assert world.look(0, "k").value == b"v"
        assert world.node(0).peers.alive.count(True) == 2

    def test_who_waits_counts_at_once_when_another_goes(self) -> None:
        world = World(3)
        for _ in range(5):
            world.unlink(0, 2)
            world.link(0, 2)
            world.settle()
        assert world.node(0).peers.alive == [True, True, False]
        world.stop(1)
        world.run(TICK_S)
        assert world.node(0).peers.alive == [True, False, True]
        assert world.put(0, "k", "v").outcome is Outcome.STORED

    def test_every_partition_keeps_its_quorum_however_many_come_and_go(self) -> None:
        world = World(5, replication=3, partitions=16)
        for _ in range(5):
            for peer in (1, 2, 3, 4):
                world.unlink(0, peer)
                world.link(0, peer)
            world.settle()
        assert world.node(0).peers.alive.count(False) == 1
        for number in range(64):
            assert world.put(0, f"{number}", "v").outcome is Outcome.STORED
