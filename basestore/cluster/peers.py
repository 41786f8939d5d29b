"""Peers: what this node knows of the other members, from links, heartbeats and identities.

A peer counts for levels (`alive`) when its link stands, its silence is not suspicious (`detector`),
both sides have exchanged what they know of each other's stores, and its store is whole. That only
decides what is worth asking and waiting for, never what is true.

One that keeps coming and going waits for a while before it counts again, so that not every return
sets deliveries and requests going that its next leave makes void. But only as long as every
partition has a quorum without it: what can be reached is not refused to save work.

Heartbeats also compare wall clocks; what follows from that is `clock_watch.py`'s affair. The answer to one
travels with the next own one, so that two nodes at rest wake each other no more often than they must, and is
told as if what it answers had been sent so much later: for how long it waited says nothing about the way.
The first on a link is answered at once, and so is one of a clock that was set, for nothing may be stamped by
it before.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from basestore.cluster.clock_watch import ClockWatch
from basestore.cluster.failure_detector import THRESHOLD, FailureDetector, Probation
from basestore.cluster.latency import Latency
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.instant import Instant
from basestore.protocol.codec import Message
from basestore.protocol.heartbeats import Ping, Pong
from basestore.protocol.limits import ProtocolError

PING_S = 0.5
PING_EARLY_S = 0.1  # so much earlier is soon enough: ticks come when they suit
SILENCE_S_MAX = 4.0  # however irregular the peer has been
ASLEEP_S = 2 * PING_S  # ticks come more often, of a node at rest too: one that misses so many did not run
INTRODUCE_S = 2.0
STEP_MS = 20  # a clock was set if it is off by more from where it was
HELD_SHARE = 0.999  # of the time an answer has waited: clocks run differently, and no way takes no time
USUAL_S = 0.1  # how long an answer takes, until more is known


@dataclass(slots=True)
class Peer:
    """One member as seen from here, this node itself included."""

    index: int
    number: int
    name: str
    outbox: Outbox
    linked: bool = False
    # Its store is new to us, or has confirmed all that we remember of it; and we remember it durably.
    introduced: bool = False
    remembered: bool = False  # it told what it remembers of us, and that fits
    noted: bool = False  # and that is the present opening of our store
    whole: bool = False
    wire: int = 0  # the highest version that it speaks; 0 until it says so on this link, and while silent
    level: int = 0  # the feature level that it has told
    takeable: bool = False  # its store may be a copy, and an operator may still take it as it is
    unanswered: tuple[int, float] | None = None  # its last heartbeat, by its clock, and when it came
    base_ms: float = math.inf  # its wall clock minus its monotonic one, when it was last answered at once
    brownout: int = 0  # how much it leaves out, as it said last
    told_epoch: int = 0  # what it says on this link it says as one that goes by this epoch
    leaving: bool = False  # it has said goodbye on this link: it still answers, and is asked nothing new
    detector: FailureDetector = field(default_factory=lambda: FailureDetector(PING_S, SILENCE_S_MAX))
    probation: Probation = field(default_factory=Probation)
    latency: Latency = field(default_factory=lambda: Latency(USUAL_S))  # of its answers to reads
    scan_latency: Latency = field(default_factory=lambda: Latency(USUAL_S))  # of those to shares of scans


class Peers:
    """All members by index; `alive[i]` is kept up to date for the coordinator's fast path.

    An index is a place among the members, who are sorted by number: good for arrays inside this node, and
    so that the lower index has the lower number. Whatever is sent or stored says the number instead:
    `number_of` and `index_of` translate, where a message is made or heard.
    """

    def __init__(
        self, members: Mapping[int, str], me: int, ready: set[Outbox], drift_ms_max: int, spare: int
    ) -> None:
        """`members`: their names by number, ascending. `spare`: how many members, whichever they are, no
        partition's quorum needs."""
        self.me = me
        self.spare = spare
        self.epoch = 0  # that this node goes by; that of the configuration too, where there is no other
        self.heard_epoch = 0  # the same, or a later one up to which nothing changes of what is asked here
        self.all_level = True  # all that are linked go by it, too
        self._ready = ready
        self.clock = ClockWatch(len(members), me, drift_ms_max)
        self.number_of = list(members)
        self.index_of = {number: index for index, number in enumerate(members)}
        self.all = [
            Peer(self.index_of[number], number, name, Outbox(ready)) for number, name in members.items()
        ]
        self.all[me].outbox = Outbox(ready, math.inf)  # emptied in every step; admission bounds it
        self.others = [peer for peer in self.all if peer.index != me]
        for peer in self.others:
            peer.outbox.close()
        self.alive = [False] * len(members)
        self.disk_behind = [False] * len(members)
        self.any_disk_behind = False
        self.distance = [int(index != me) for index in range(len(members))]  # whom to ask first, for reads
        self.all_alive = False
        self._ticked_s = math.inf
        self._ping_due_s = 0.0
        self._introduce_due_s = 0.0

    @property
    def backlog(self) -> int:
        """How many bytes wait to be sent to the one that takes least, of those that are alive."""
        return max((peer.outbox.bytes for peer in self.others if self.alive[peer.index]), default=0)

    def link(self, index: int, now: Instant) -> Outbox:
        """A link to the peer stands: a fresh outbox for it. The old one, if any, is closed."""
        peer = self.all[index]
        peer.outbox.close()
        peer.outbox = Outbox(self._ready)
        peer.linked, peer.leaving, peer.wire = True, False, 0
        self.tell_epoch(index, 0)
        peer.unanswered, peer.base_ms = None, math.inf
        peer.introduced = peer.remembered = peer.noted = peer.whole = False
        self.note_disk(index, False)
        peer.detector.restart(now.monotonic)
        self.judge(peer, now)
        return peer.outbox

    def unlink(self, index: int, outbox: Outbox, now: Instant) -> bool:
        """That link is gone. False when it had been replaced already."""
        peer = self.all[index]
        outbox.close()
        if peer.outbox is not outbox:
            return False
        peer.linked = peer.introduced = peer.remembered = peer.noted = peer.whole = False
        self.clock.forget(index)
        self.tell_epoch(index, 0)
        self.judge(peer, now)
        return True

    def tell_epoch(self, index: int, epoch: int) -> None:
        """What comes from a peer from now on is said as by one that goes by this epoch."""
        self.all[index].told_epoch = max(0, epoch)
        self._level()

    def adopt_epoch(self, epoch: int) -> None:
        """This node goes by it from now on."""
        self.epoch = self.all[self.me].told_epoch = max(0, epoch)
        self.heard_epoch = max(self.heard_epoch, self.epoch)
        self._level()

    @property
    def behind(self) -> bool:
        """Whether a peer goes by a later epoch than this node."""
        return any(peer.linked and peer.told_epoch > self.epoch for peer in self.others)

    def _level(self) -> None:
        self.all_level = all(peer.told_epoch == self.epoch for peer in self.others if peer.linked)

    def hears(self, index: int, now: Instant) -> bool:
        """Whether a peer's link stands, something of it has come lately, and it is not about to end."""
        peer = self.all[index]
        return peer.linked and not peer.leaving and peer.detector.phi(now.monotonic) < THRESHOLD

    def judge(self, peer: Peer, now: Instant) -> None:
        """Bring `alive` up to date for one peer."""
        index, now_s = peer.index, now.monotonic
        if index == self.me:
            return
        heard = self.hears(index, now)
        if not heard:
            peer.wire = 0
        reached = heard and peer.introduced and peer.remembered and peer.whole
        counted = self.alive[index]
        peer.probation.note(reached=reached, counted=counted, now_s=now_s)
        self.set_alive(
            index,
            # `count(False)` includes this peer: with more members away than can be spared some partition
            # lacks its quorum, so nobody who is reached is kept waiting.
            reached and (counted or peer.probation.over(now_s) or self.alive.count(False) > self.spare),
        )

    def set_alive(self, index: int, alive: bool) -> None:
        """Whether a member counts for levels; of this node itself, its own word."""
        if self.alive[index] != alive:
            self.alive[index] = alive
            self.all_alive = all(self.alive)

    def note_disk(self, index: int, behind: bool) -> None:
        """Whether the disk of a member keeps up: if not, it is asked last. Of this node's own the others are
        told at once."""
        if self.disk_behind[index] != behind:
            if index == self.me:
                self.ping_soon()
            self.disk_behind[index] = behind
            self.any_disk_behind = any(self.disk_behind)
            self.distance[index] += len(self.all) if behind else -len(self.all)

    def ping_soon(self) -> None:
        """The others should hear at once what a heartbeat says."""
        self._ping_due_s = 0.0

    def send(self, index: int, message: Message, size: int = SMALL_BYTES) -> bool:
        """Queue for a member; False when it has no link or too much waits for it."""
        return self.all[index].outbox.put(message, size)

    def check_known(self, numbers: Iterable[int]) -> None:
        """ProtocolError unless a peer speaks of members of this cluster."""
        if not self.index_of.keys() >= set(numbers):
            raise ProtocolError("a message names a member that this cluster does not have")

    @property
    def usual_s(self) -> float:
        """How long an answer usually takes at most: the 99th percentile of the median peer, the
        faster one of two, so that one slow peer does not make slowness usual."""
        return _median(peer.latency for peer in self.others if self.alive[peer.index])

    @property
    def usual_scan_s(self) -> float:
        """The same of a share of a scan."""
        return _median(peer.scan_latency for peer in self.others if self.alive[peer.index])

    def tick(self, now: Instant, heartbeat: Callable[[Instant], Ping]) -> list[int]:
        """Send heartbeats when due. Returns the peers that have just stopped being alive."""
        # Both before anybody is judged: a jump makes comparisons void, and after a pause of this node
        # everybody would look silent.
        if self.clock.tick(now):
            self.ping_soon()
        self._excuse_own_rest(now)
        if now.monotonic >= self._ping_due_s - PING_EARLY_S:
            self._ping_due_s = now.monotonic + PING_S
            ping = heartbeat(now)
            for peer in self.others:
                if peer.unanswered is not None:
                    sent_us, heard_s = peer.unanswered
                    held_us = int((now.monotonic - heard_s) * 1e6 * HELD_SHARE)
                    peer.outbox.put(Pong(sent_us + held_us, now.wall_ms))
                    peer.unanswered = None
                peer.outbox.put(ping)
        lost = []
        for peer in self.others:
            was = self.alive[peer.index]
            self.judge(peer, now)
            if was and not self.alive[peer.index]:
                lost.append(peer.index)
        return lost

    def _excuse_own_rest(self, now: Instant) -> None:
        """What peers said while this node did not run it may only be about to hear."""
        asleep_s = now.monotonic - self._ticked_s
        if asleep_s > ASLEEP_S:
            for peer in self.others:
                peer.detector.excuse(asleep_s, now.monotonic)
        self._ticked_s = now.monotonic

    def hear(self, index: int, now: Instant) -> None:
        """Something came from a peer: it lives."""
        peer = self.all[index]
        peer.detector.hear(now.monotonic)
        # Only who does not count is judged here: to be heard can make nobody suspicious.
        if not self.alive[index]:
            self.judge(peer, now)

    def goodbye(self, index: int, now: Instant) -> None:
        """A peer is about to end: it counts no more, though it may still answer."""
        self.all[index].leaving = True
        self.judge(self.all[index], now)

    def unintroduced(self, now: Instant) -> list[Peer]:
        """Linked peers with which identities should be exchanged again, for something was lost."""
        if now.monotonic < self._introduce_due_s:
            return []
        self._introduce_due_s = now.monotonic + INTRODUCE_S
        return [p for p in self.others if p.linked and not (p.introduced and p.remembered and p.noted)]

    def ping(self, index: int, message: Ping, now: Instant) -> None:
        """A heartbeat of a peer, which says whether its store is whole."""
        peer = self.all[index]
        # Until it is introduced its store may be an older one than what is remembered of it here: then a
        # heartbeat makes nobody whole whose identity, which came before, did not say so.
        peer.whole = message.whole and (peer.introduced or peer.whole)
        peer.wire, peer.level = message.wire, message.level
        peer.detector.beat(now.monotonic)
        self.note_disk(index, message.disk_behind)
        peer.brownout = message.brownout
        self.judge(peer, now)
        base_ms = message.wall_ms - message.sent_us / 1e3
        if abs(base_ms - peer.base_ms) > STEP_MS:
            peer.base_ms, peer.unanswered = base_ms, None
            peer.outbox.put(Pong(message.sent_us, now.wall_ms))
        else:
            peer.unanswered = message.sent_us, now.monotonic


def _median(latencies: Iterable[Latency]) -> float:
    known = sorted(latency.p99_s for latency in latencies)
    return known[(len(known) - 1) // 2] if known else USUAL_S
