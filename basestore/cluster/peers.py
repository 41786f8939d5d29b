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

Who the members are is told with each topology that comes into use (`adopt`); this is the one owner of that,
and passes it on to the rooms that keep something by member (`watch`):

    n4 comes       a place behind all others; it is not linked, and not alive, before it is heard
    n2 leaves      its place stays, for messages and rows may name it; it counts for nothing, and is told so
                   on its link, which ends
    this node      itself has left: it has no others any more

One that was never heard counts like one that is away. So nothing rises, begins or is struck off by its
silence that waits for all members; and no quorum waits for it, for it holds nothing.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from basestore.cluster.clock_watch import ClockWatch
from basestore.cluster.failure_detector import THRESHOLD
from basestore.cluster.latency import Latency
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.cluster.peer import PING_S, USUAL_S, Peer
from basestore.instant import Instant
from basestore.protocol.codec import Message
from basestore.protocol.heartbeats import Ping, Pong
from basestore.protocol.limits import ProtocolError

PING_EARLY_S = 0.1  # so much earlier is soon enough: ticks come when they suit
ASLEEP_S = 2 * PING_S  # ticks come more often, of a node at rest too: one that misses so many did not run
INTRODUCE_S = 2.0
STEP_MS = 20  # a clock was set if it is off by more from where it was
HELD_SHARE = 0.999  # of the time an answer has waited: clocks run differently, and no way takes no time
FAREWELL_S = 2.0  # for so long the link of one that has left stands, for it to hear of that
FAR = 1 << 20  # in distance: whose disk is behind comes after all others


Come = Callable[[Peer], None]
Leave = Callable[[Peer, Instant], None]


class Peers:
    """All members by index, those that have left too; `alive[i]` is kept up to date for the coordinator's
    fast path. `present`: those that have not left, `others`: of these all but this node; `named`: by name, of
    two that had it the one that has not left.

    An index is a place among the members: good for arrays inside this node, for as long as it runs. Those
    that were there when it was opened are sorted by number, then come those that had left by then, and then,
    in turn, whoever comes. Whatever is sent or stored says the number instead: `number_of` and `index_of`
    translate, where a message is made or heard, of those that have left, too.
    """

    def __init__(
        self, members: Mapping[int, str], me: int, ready: set[Outbox], drift_ms_max: int, spare: int,
        formers: Mapping[int, str] | None = None,
    ) -> None:  # fmt: skip
        """`members`: their names by number, ascending. `spare`: how many members, whichever they are, no
        partition's quorum needs. `formers`: as `members`, those that have left."""
        self.me = me
        self.spare = spare
        self.epoch = 0  # that this node goes by; that of the configuration too, where there is no other
        self.heard_epoch = 0  # the same, or a later one up to which nothing changes of what is asked here
        self.all_level = True  # all that are linked go by it, too
        self._ready = ready
        self.clock = ClockWatch(len(members), me, drift_ms_max)
        self.number_of, self.index_of = list[int](), dict[int, int]()
        self.all, self.alive, self.disk_behind = list[Peer](), list[bool](), list[bool]()
        self.distance: list[int] = []  # whom to ask first, for reads
        self.any_disk_behind = self.all_alive = False
        for number, name in members.items():
            self._add(number, name)
        self.all[me].outbox = Outbox(ready, math.inf)  # emptied in every step; admission bounds it
        for number, name in (formers or {}).items():
            self._add(number, name).gone = True
            self.clock.add()
        self.last: float = math.inf  # the last number that was given, as far as is known
        self.unknowing: Callable[[], bool] = lambda: False  # it is not known here what the cluster is
        self._watchers: list[tuple[Come, Leave]] = []
        self.present, self.others, self.named = list[Peer](), list[Peer](), dict[str, Peer]()
        self._sort()
        self.dismissed_by = ""  # who says that this node has left, where its own log does not
        self._ticked_s = math.inf
        self._ping_due_s = 0.0
        self._introduce_due_s = 0.0

    # --- who the members are ---------------------------------------------------------------------

    def _add(self, number: int, name: str) -> Peer:
        """A place for it, behind all others."""
        index = len(self.all)
        peer = Peer(index, number, name, Outbox(self._ready))
        peer.outbox.close()
        self.number_of.append(number)
        self.index_of[number] = index
        self.all.append(peer)
        self.alive.append(False)
        self.disk_behind.append(False)
        self.distance.append(int(index != self.me))
        return peer

    def _sort(self) -> None:
        """Say anew who has not left."""
        self.present = [peer for peer in self.all if not peer.gone]
        self.others = [] if self.all[self.me].gone else [p for p in self.present if p.index != self.me]
        self.named = {peer.name: peer for peer in sorted(self.all, key=lambda peer: not peer.gone)}
        self._count_alive()

    def watch(self, come: Come = lambda peer: None, leave: Leave = lambda peer, now: None) -> None:
        """From now on tell these of each member that comes, and that has left, in the step in which it does;
        in the order in which they have asked. It may come as one that has left already."""
        self._watchers.append((come, leave))

    def adopt(self, members: Mapping[int, str], formers: Mapping[int, str], now: Instant) -> None:
        """From now on these are the members, by number, ascending, and those that have left. Whom a file
        names beyond the last number that was given, this node perhaps, has yet to come. First those leave
        that have, for who comes may have the name of one of them."""
        self.last = max([*members, *formers])
        for peer in [p for p in self.present if p.number not in members and p.number <= self.last]:
            self._part(peer, now)
        for number in [each for each in formers if each not in self.index_of]:
            self._come(number, formers[number], gone=True)
        for number, name in members.items():
            index = self.index_of.get(number)
            if index == self.me:
                self.all[index].gone = False  # as by a group that was rebuilt without what had come to pass
                self._sort()
            elif index is None or self.all[index].gone:
                self._come(number, name)

    def _come(self, number: int, name: str, *, gone: bool = False) -> None:
        peer = self._add(number, name)
        peer.gone = gone
        self.clock.add()
        self._sort()
        for come, _ in self._watchers:
            come(peer)

    def _part(self, peer: Peer, now: Instant) -> None:
        self.note_disk(peer.index, False)
        peer.gone, peer.wire, peer.level = True, 0, 0
        peer.farewell_s = now.monotonic + FAREWELL_S
        self.alive[peer.index] = False
        self._sort()
        self._level()
        for _, leave in self._watchers:
            leave(peer, now)

    def dismiss(self, by: int, now: Instant) -> None:
        """This node itself has left, as this member says."""
        if not self.left:
            self.dismissed_by = self.all[by].name
            self._part(self.all[self.me], now)

    def ends(self, now: Instant) -> list[int]:
        """Whose links are to end, for they have left, and had time to hear so; all, if this node has."""
        left = self.all[self.me].gone
        return [
            peer.index
            for peer in self.all
            if peer.linked and (left or (peer.gone and now.monotonic >= peer.farewell_s))
        ]

    def wanted(self, index: int) -> bool:
        """Whether a member is to be linked: neither has it left, nor this node."""
        return not (self.left or self.all[index].gone)

    def precedes(self, index: int) -> bool:
        """Whether a member has a lower number than this node: both see that alike, whatever their places."""
        return self.number_of[index] < self.number_of[self.me]

    def counts_by_clock(self, numbers: AbstractSet[int]) -> None:
        """The clocks of these members have a say."""
        self.clock.count({self.index_of[number] for number in numbers})

    @property
    def left(self) -> bool:
        """Whether this node itself has left the cluster."""
        return self.all[self.me].gone

    # --- links -----------------------------------------------------------------------------------

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
        return (
            peer.linked and not (peer.leaving or peer.gone) and peer.detector.phi(now.monotonic) < THRESHOLD
        )

    def judge(self, peer: Peer, now: Instant) -> None:
        """Bring `alive` up to date for one peer."""
        index, now_s = peer.index, now.monotonic
        if index == self.me or peer.gone:
            return
        heard = self.hears(index, now)
        if not heard:
            peer.wire = 0
        reached = heard and peer.introduced and peer.remembered and peer.whole
        counted = self.alive[index]
        peer.probation.note(reached=reached, counted=counted, now_s=now_s)
        self.set_alive(
            index,
            # `_away` includes this peer: with more members away than can be spared some partition may lack
            # its quorum, so nobody who is reached is kept waiting.
            reached and (counted or peer.probation.over(now_s) or self._away > self.spare),
        )

    @property
    def _away(self) -> int:
        """So many members do not count, those that were never heard among them."""
        return len(self.present) - self.alive.count(True)

    def set_alive(self, index: int, alive: bool) -> None:
        """Whether a member counts for levels; of this node itself, its own word."""
        alive = alive and not self.all[index].gone
        if self.alive[index] != alive:
            self.alive[index] = alive
            self._count_alive()

    def _count_alive(self) -> None:
        self.all_alive = not self.left and all(self.alive[peer.index] for peer in self.present)

    def note_disk(self, index: int, behind: bool) -> None:
        """Whether the disk of a member keeps up: if not, it is asked last. Of this node's own the others are
        told at once."""
        if self.disk_behind[index] != behind:
            if index == self.me:
                self.ping_soon()
            self.disk_behind[index] = behind
            self.any_disk_behind = any(self.disk_behind)
            self.distance[index] += FAR if behind else -FAR

    def ping_soon(self) -> None:
        """The others should hear at once what a heartbeat says."""
        self._ping_due_s = 0.0

    def send(self, index: int, message: Message, size: int = SMALL_BYTES) -> bool:
        """Queue for a member; False when it has no link or too much waits for it."""
        return self.all[index].outbox.put(message, size)

    def check_known(self, numbers: Iterable[int]) -> None:
        """ProtocolError where a peer speaks of members that this cluster neither has nor had. It may know
        some that this node has not heard of yet: a number that was not given here yet is none of those, nor
        is any before it is known here what the cluster is."""
        unknown = set(numbers) - self.index_of.keys()
        if unknown and not self.unknowing() and min(unknown) <= self.last:
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
