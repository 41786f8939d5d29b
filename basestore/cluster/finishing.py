"""Finishing: who has learned all that it had accepted of a partition before its seats, or acceptors, changed.

An acceptor may hold what it has accepted, and what nobody has learned yet. Replicas do not compare it.
So an exchange with it proves that nothing accepted is missing only if it had
*finished* before: all that it had accepted under earlier epochs it has learned. It says so when it comes to
be so, on each new link, and now and then again; links keep the order in which things are said:

    epoch 40          partition 7: n4 comes for n3, joint
    n1 finishes       Finished(7, 40) to n2, n3 and n4
    n4 -> n1          Syn, an exchange: what it proves counts, for it was begun behind that word

What is said is durable. It is said only of partitions whose seats are moving, or of which a member is barred:
in the steady state of none. With it goes a *floor*: the greatest ballot that the member has promised or
accepted there, or the floor that it was told itself. Who hears it takes no ballot up to that any more. Else a
promise could be forgotten by a majority, as one member after the other comes to another store, or gives up
its seat: who promised it is gone, and who takes his place knows nothing of it.

Nor does an exchange prove it with a member that runs on another store than the one it is bound to: that may
have forgotten what it had accepted, and is barred soon.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from basestore.cluster.outbox import Outbox, weight
from basestore.cluster.peers import Peers
from basestore.cluster.seating import Seating
from basestore.instant import Instant
from basestore.protocol.limits import SERIAL_SINCE
from basestore.protocol.membership import Finished, FinishedRow

LOOK_S: Final = 0.1
AGAIN_S: Final = 5.0  # a full outbox takes nothing
ROWS_MAX: Final = 1024  # of one message

WhenDurable = Callable[[Callable[[], object]], None]


class Finishing:
    """Of one node, and what it has heard of others. `unfinished(partition, since)`: whether this node holds
    something accepted before that epoch, and not learned; `floor(partition)` and `raise_floor(partition,
    ballot)`: its floor; `acceptor_of(member)`: by which id a member accepts, if that is known; `level`: the
    feature level; `news`: how often something was heard."""

    def __init__(
        self, seating: Seating, peers: Peers, when_durable: WhenDurable, store_of: Callable[[int], bytes]
    ) -> None:
        """`store_of`: the store that a member is known to run on."""
        self.seating, self._peers, self._when_durable = seating, peers, when_durable
        self.unfinished: Callable[[int, int], bool] = lambda partition, since: True  # until it is known
        self.floor: Callable[[int], bytes] = lambda partition: b""
        self.raise_floor: Callable[[int, bytes], None] = lambda partition, ballot: None
        self.level: Callable[[], int] = lambda: 0
        self.acceptor_of = store_of
        self.news = 0
        self._own: dict[int, int] = {}  # what this node has finished: since which epoch
        self._owed: dict[int, dict[int, None]] = {}  # partitions of which a member is to be told
        self._links: dict[int, Outbox] = {}  # on which members were told
        self._heard: dict[int, dict[int, tuple[int, float]]] = {}  # by member and partition: since, and when
        self._due_s = self._again_s = 0.0

    @property
    def asked(self) -> bool:
        """Whether members say it at all."""
        return self.level() >= SERIAL_SINCE

    # --- what is known ---------------------------------------------------------------------------

    def own(self, partition: int, store: bytes) -> bool:
        """Whether what this node, running on this store, holds is all that it had accepted."""
        if not self.asked:
            return True
        since = self.seating.since(partition) or 0
        return self._is_bound(self._peers.me, store) and not self.unfinished(partition, since)

    def proves(self, partition: int, member: int, store: bytes, begun_s: float) -> bool:
        """Whether an exchange with this store of a member, begun then, brought all that it had accepted."""
        if not self.asked:
            return True
        since, heard_s = self._heard.get(member, {}).get(partition, (-1, 0.0))
        # In the same moment either may have come first.
        finished = since == self.seating.since(partition) and heard_s < begun_s
        return finished and self._is_bound(member, store)

    def _is_bound(self, member: int, store: bytes) -> bool:
        """One that is bound to none has accepted nothing."""
        return self.seating.stores.get(member, b"") in (b"", store)

    # --- what is said ----------------------------------------------------------------------------

    def hear(self, member: int, outbox: Outbox, said: Finished, now: Instant) -> None:
        """A member's word. The first of an epoch counts: what has been finished stays so. It is known once
        its floor is durable here."""

        def know() -> None:
            for partition, since, _ in said.rows:
                if heard.get(partition, (-1, 0.0))[0] < since:
                    heard[partition] = since, now.monotonic
                    self.news += 1

        heard = self._heard.setdefault(member, {})
        for partition, _, floor in said.rows:
            self.raise_floor(partition, floor)
        self._when_durable(know)

    def tick(self, now: Instant) -> None:
        """See what is finished by now, and tell those who have not heard of it."""
        changing = self.seating.changing if self.asked else ()
        if not changing:
            self._own, self._owed, self._links = {}, {}, {}
            return
        if now.monotonic < self._due_s:
            return
        self._due_s = now.monotonic + LOOK_S
        self._look(changing)
        if now.monotonic >= self._again_s:
            self._links, self._again_s = {}, now.monotonic + AGAIN_S
        for peer in self._peers.others:
            if peer.linked and peer.outbox.version >= SERIAL_SINCE:
                self._tell(peer.index, peer.outbox)

    def _look(self, changing: set[int]) -> None:
        seating, known = self.seating, self._own
        self._own = {at: seating.since(at) or 0 for at in changing if known.get(at) == seating.since(at)}
        for at in changing - self._own.keys():
            since = seating.since(at) or 0
            if not self.unfinished(at, since):
                self._own[at] = since
                for other in seating.others[at]:
                    self._owed.setdefault(other, {})[at] = None

    def _tell(self, member: int, outbox: Outbox) -> None:
        others = self.seating.others
        if self._links.get(member) is not outbox:
            self._links[member] = outbox
            self._owed[member] = dict.fromkeys(at for at in self._own if member in others[at])
        owed = self._owed.pop(member, {})
        rows = [FinishedRow(at, self._own[at], self.floor(at)) for at in owed if at in self._own]
        for first in range(0, len(rows), ROWS_MAX):
            said = Finished(rows[first : first + ROWS_MAX])
            self._when_durable(partial(outbox.put, said, weight(said)))
