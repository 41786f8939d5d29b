"""Newcomer: whether this node's member is surely new: before this node was opened it was given nothing.

A store that others do not know to be the first of its member is *forgetful*, and waits until no request is
under way any more that may count on an answer of its former life (`anti_entropy/recovery.py`). Of a member
that has just been added there is none: it has held no partition, so it has acknowledged nothing. Then to
wait is of no use, and who joins would be given nothing meanwhile.

This node's own topology does not tell, for it may be old: its disk was wiped, say, and it has come as far as
where it was added once. So the leader is asked, once it is sure that it leads, up to which entry one must
have read:

    opened                     asked: 12
    my topology is of 12       by that I am joining: no entry up to 12 has given me anything
    entry 13 gives me some     that was after I was opened: of this opening they are unfit until filled

Asks nobody while the store counts anyway.
"""

from typing import Final

from basestore.errors import Overloaded, RequestFailed
from basestore.instant import Instant
from basestore.membership.asking import Asking
from basestore.membership.metadata_group import MetadataGroup
from basestore.replica.identity import State, StoreIdentity
from basestore.topology.changes import Standing

ASK_S: Final = 2.0
NONE: Final = -1


class Newcomer:
    """Of one node."""

    def __init__(self, group: MetadataGroup, identity: StoreIdentity, asking: Asking) -> None:
        self._group, self._identity, self._asking = group, identity, asking
        self._asked = False
        self._doubts = NONE  # of the store, by which that was said; a later one is another matter

    def is_new(self) -> bool:
        """Whether that is known by now."""
        return self._doubts == self._identity.doubts

    def tick(self, now: Instant) -> None:
        """Ask, where it matters and may be so."""
        waits = self._identity.state is State.FORGETFUL and not (self.is_new() or self._asked)
        if waits and self._joins:
            try:
                self._asking.read(ASK_S, self._end, now, lease=False)
            except Overloaded:
                return
            self._asked = True

    @property
    def _joins(self) -> bool:
        """Whether it is given nothing by the topology that is in use here."""
        topology = self._group.topology
        me = topology.member(self._group.me.number) if topology is not None else None
        return me is not None and me.standing is Standing.JOINING

    def _end(self, error: RequestFailed | None, now: Instant) -> None:
        """All that was decided before it was asked is in use here, or nobody could say."""
        self._asked = False
        self._doubts = self._identity.doubts if error is None and self._joins else NONE
