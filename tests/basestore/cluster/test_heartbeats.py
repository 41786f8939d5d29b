"""Heartbeats are answered beside the next own one, and clocks compared as if they were answered at once."""

import pytest

from basestore.cluster.outbox import Outbox
from basestore.cluster.peer import PING_S
from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.protocol.codec import Message
from basestore.protocol.heartbeats import Ping, Pong
from tests.worlds.world import World

OTHER = 1
WALL_MS = 1_760_000_000_000


def at(seconds: float) -> Instant:
    return Instant(WALL_MS + round(seconds * 1e3), seconds)


def beat(seconds: float, ahead_ms: int = 0) -> Ping:
    """A heartbeat of a peer whose clock is ahead of this one by so much."""
    wall_ms = WALL_MS + round(seconds * 1e3) + ahead_ms
    return Ping(round(seconds * 1e6), wall_ms, True, bytes(8), 1, [], False, 0, 0, 0)


class Pair:
    """This node's view of one peer, and what is put for it."""

    def __init__(self) -> None:
        self.peers = Peers({1: "n1", 2: "n2"}, 0, set[Outbox](), 2000, 0)
        self.link()

    def link(self) -> None:
        self.outbox = self.peers.link(OTHER, at(0.0))

    def hears(self, seconds: float, ahead_ms: int = 0) -> list[Message]:
        self.peers.ping(OTHER, beat(seconds, ahead_ms), at(seconds))
        return self.outbox.take()

    def ticks(self, seconds: float) -> list[Message]:
        self.peers.tick(at(seconds), lambda now: beat(now.monotonic))
        return self.outbox.take()


def test_the_first_heartbeat_on_a_link_is_answered_at_once() -> None:
    pair = Pair()
    assert pair.hears(1.0) == [Pong(1_000_000, at(1.0).wall_ms)]
    assert pair.hears(1.5) == []
    pair.link()
    assert [type(each) for each in pair.hears(2.0)] == [Pong]


def test_a_heartbeat_of_a_clock_that_was_set_is_answered_at_once() -> None:
    pair = Pair()
    pair.hears(1.0)
    assert pair.hears(1.5, ahead_ms=5) == []
    assert [type(each) for each in pair.hears(2.0, ahead_ms=1500)] == [Pong]
    assert pair.hears(2.5, ahead_ms=1500) == []


def test_the_answer_goes_with_the_next_heartbeat_as_if_it_had_not_waited() -> None:
    pair = Pair()
    pair.hears(1.0)
    pair.ticks(1.1)
    pair.hears(1.2)
    pong, ping = pair.ticks(1.1 + PING_S)
    assert isinstance(ping, Ping)
    assert isinstance(pong, Pong)
    assert pong.wall_ms == at(1.1 + PING_S).wall_ms
    assert 0 <= 1.1 + PING_S - pong.sent_us / 1e6 < 0.001  # never less than the way has taken
    assert [type(each) for each in pair.ticks(1.1 + 2 * PING_S)] == [Ping], "once is enough"


@pytest.mark.parametrize("ahead_ms", [-700, 0, 900])
def test_clocks_are_compared_as_well_as_if_answers_came_at_once(ahead_ms: int) -> None:
    world = World(3)
    world.skew_ms[1] += ahead_ms
    world.run(5)
    offset_ms = world.node(0).peers.clock.offsets[1]
    assert offset_ms is not None
    assert abs(offset_ms - ahead_ms) <= 20
