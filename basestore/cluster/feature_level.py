"""Feature level: the version of the wire that every member speaks, and that none may fall behind again. What
is stored in a form that older releases cannot read is stored from its level on only.

    all at 8         level 8     n1, n2 and n3 are started anew with a release that speaks 9, one by one
    9, 9, 9          level 8     each of them may still go back to 8
    an operator      level 9     `basestore upgrade finish`; who speaks no more than 8 is not let in now

Each store keeps the level; it is in force once it is durable, and never falls. Heartbeats tell it, and what
each member speaks. Only the word of an operator raises it, and only while all members are up and speak more:
who is away may come back as the release that it was. Once one member says that it has risen the others
follow.

A store that is new knows no level: it takes over what any other tells. Only where no member knows any, for
all their stores are new, and once all have been heard, is it what all speak.

A member that has come, and was never heard, is not known to speak anything: an operator's word raises nothing
before it is there. One that has left hinders nobody.

Owns the level, and its rise. The row is kept by `replica/store_facts.py`, which also refuses to open a store
of a level that this node does not speak.
"""

from collections.abc import Callable
from functools import partial

from basestore.cluster.peers import Peers
from basestore.protocol.heartbeats import Ping
from basestore.protocol.limits import ProtocolError

Keep = Callable[[int, Callable[[], None]], None]


class FeatureLevel:
    """Of one node. `level`: in force here; 0 while none is known. `highest`: that this node speaks."""

    def __init__(self, stored: int, highest: int, peers: Peers, keep: Keep) -> None:
        """`keep(level, then)`: store it, and call `then` once that is durable."""
        self.level = self._kept = stored
        self.highest = highest
        self._peers = peers
        self._keep = keep

    @property
    def told(self) -> tuple[int, int]:
        """What a heartbeat says: the highest version that this node speaks, and the level."""
        return self.highest, self.level

    def hear(self, name: str, message: Ping) -> None:
        """A member's heartbeat; ProtocolError where one of the two has been left behind. Those who connect
        later are told so by the handshake."""
        level = max(self.level, message.level)
        for each, speaks in ((self._peers.all[self._peers.me].name, self.highest), (name, message.wire)):
            if speaks < level:
                raise ProtocolError(
                    f"the cluster's feature level is {level}, and {each} speaks no version above {speaks}: "
                    f"upgrade it, or raise its wire_highest"
                )

    def tick(self) -> None:
        """Follow the others; or begin, where all stores are new, and all members are heard."""
        others = self._peers.others
        told = max((peer.level for peer in others), default=0)
        if told or not self._kept:
            self._rise(told or min([self.highest, *(peer.wire for peer in others)]))

    def finish(self) -> tuple[int, list[str]]:
        """An operator says that all members are upgraded: rise to what they speak. Returns the level that
        holds then, and who hinders that it rises; it is to be told once it is durable."""
        behind = self.behind(max([self.highest, *(peer.wire for peer in self._peers.others)]))
        if not behind:
            self._rise(self.highest)
        return self.level if behind else self._kept, behind

    def behind(self, version: int) -> list[str]:
        """Who is not known to speak this version now, a text each."""
        peers = self._peers
        texts = []
        for peer in peers.present:
            speaks = self.highest if peer.index == peers.me else peer.wire
            if not speaks:
                texts.append(f"{peer.name} is not reached, and may come back as an older release")
            elif speaks < version:
                texts.append(f"{peer.name} speaks no version above {speaks}")
        return texts

    def lacks(self, version: int) -> str:
        """Why nothing that this version brought may be stored yet; empty if it may."""
        if self.level >= version:
            return ""
        behind = "; ".join(self.behind(version)) or "all nodes speak it by now"
        return (
            f"the cluster's feature level is {self.level or 'not known yet'}, and this needs {version} "
            f"({behind}). Once all nodes run a release that speaks it, and none is kept from that by "
            f"`wire_highest` in its file: `basestore upgrade finish`"
        )

    def _rise(self, level: int) -> None:
        if level > self._kept:
            self._kept = level
            self._keep(level, partial(self._in_force, level))

    def _in_force(self, level: int) -> None:
        self.level = level
        self._peers.ping_soon()
