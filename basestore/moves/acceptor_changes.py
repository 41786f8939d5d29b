"""Acceptor changes: which store each member is bound to, and who is taken in, as the leader sees to it.

    a store counts       its member is bound to it (SetMember); if it was bound to another it is barred in all
                         that it holds, for what it had accepted is gone
    barred, complete     what those that are not barred have accepted it has by now, as it reports: TakeIn

A store that is on no disk accepts nothing, so a member that has always run on such is bound to none. The rest
of the cluster waits for none of this: reads and writes of other buckets ask who is whole, not who is bound.
Once members can be acceptors there are the buckets, too, that are built in and need them.

Chooses what is to be proposed; when, and that it is one entry at a time, is `conductor.py`'s affair.
"""

from collections.abc import Callable, Mapping
from typing import Final

from basestore.cluster.feature_level import FeatureLevel
from basestore.cluster.peers import Peers
from basestore.cluster.seating import in_turn
from basestore.config import BUILT_IN_LATER, BucketOptions
from basestore.protocol.limits import SERIAL_SINCE
from basestore.repair.moving import Report, complete
from basestore.repair.seats import Seats
from basestore.topology.changes import Change, CreateBucket, SetMember, Standing, TakeIn, options_list
from basestore.topology.topology import BUCKETS_MAX, MemberEntry, Topology

ROWS_MAX: Final = 256  # of one entry, and so many partitions are looked at at once
_RUNNING: Final = frozenset((Standing.JOINING, Standing.MEMBER, Standing.DRAINING))
_NO_OPTIONS: Final = options_list(BucketOptions())

Reports = Callable[[int, Seats], Mapping[int, Report]]


class AcceptorChanges:
    """As one node sees them, whether it leads or not."""

    def __init__(
        self, peers: Peers, store_of: Callable[[int], bytes], level: FeatureLevel, lasting: Mapping[int, bool]
    ) -> None:
        """`store_of`: the store that a member is known to run on; `lasting`: by member's number, whether that
        is on a disk."""
        self._peers, self._known_store, self._level, self._lasting = peers, store_of, level, lasting
        self._last = -1  # the last partition that was looked at

    def next(self, topology: Topology, reports: Reports) -> Change | None:
        """What is to be decided next, if anything is. `topology`: the latest; `reports`: what those who hold
        a partition say of it."""
        if self._level.level < SERIAL_SINCE:
            return None
        return self._binding(topology) or self._taking_in(topology, reports) or self._making(topology)

    def _binding(self, topology: Topology) -> SetMember | None:
        """One that runs on a store that it is not bound to."""
        for member in topology.members:
            store = self._store_of(member) if member.standing in _RUNNING else b""
            # One that has come to a store on no disk has forgotten as well.
            if store not in (b"", member.store) and (member.store or self._lasting.get(member.number)):
                return SetMember(member.number, store=store)
        return None

    def _store_of(self, member: MemberEntry) -> bytes:
        """That it is known to run on, if that counts; else nothing."""
        index = self._peers.index_of.get(member.number)
        return b"" if index is None or not self._peers.alive[index] else self._known_store(index)

    def _taking_in(self, topology: Topology, reports: Reports) -> TakeIn | None:
        """As many as are complete, of the partitions whose turn it is."""
        rows = list[list[int]]()
        for at in in_turn(topology.barred, self._last, ROWS_MAX):
            self._last = at
            seats, barred = topology.seats[at], topology.barred[at]
            told = reports(at, seats)
            members = [
                each
                for each in sorted(barred)
                if each in told and complete(each, told[each], seats, topology.dead, barred)
            ]
            if members:
                rows.append([at, *members])
        return TakeIn(rows) if rows else None

    def _making(self, topology: Topology) -> CreateBucket | None:
        """A bucket that is built in, unless one of its name is there, or was."""
        known = topology.buckets.keys() | {each.name for each in topology.dropped}
        lacking = [name for name in BUILT_IN_LATER if name not in known]
        if not lacking or len(topology.buckets) >= BUCKETS_MAX:
            return None
        return CreateBucket(lacking[0], BUILT_IN_LATER[lacking[0]].value, _NO_OPTIONS)
