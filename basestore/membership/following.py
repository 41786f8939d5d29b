"""Following: how all members come to know what is decided, and under which epoch each of them speaks.

    link      At: my epoch                        before any request, once all members speak version 10
    At        is theirs later than mine?          Lacking: what came after this?
    Lacking   At, with entries                    or Base, where the log begins later, and then entries
    a topology comes into use                     At to all: what follows on the link is said under it; the
                                                  leader's brings the entries along

Links keep the order in which things were said, so what comes behind an At was said under that epoch, at no
cost to any other message. Two that follow different groups do not speak to each other: one of the two logs is
not the cluster's any more. Who has left the cluster is told so, with the entries by which it has.
"""

import math
from collections.abc import Callable
from typing import Any, Final

from basestore.cluster.feature_level import FeatureLevel
from basestore.cluster.outbox import Outbox, weight
from basestore.cluster.peer import Peer
from basestore.cluster.peers import Peers
from basestore.consensus.log import Snapshot
from basestore.consensus.messages import entries_of, rows_of
from basestore.consensus.voters import decode_voters, encode_voters
from basestore.instant import Instant
from basestore.membership.lineage import goes_over, hindrance, parted
from basestore.membership.metadata_group import MetadataGroup
from basestore.protocol.limits import ProtocolError
from basestore.protocol.membership import NOWHERE, At, Base, Lacking
from basestore.topology.topology import Topology

SINCE: Final = 10  # version of the wire, and so of the feature level, from which on there is a log
ASK_AGAIN_S: Final = 2.0


class Following:
    """Of one node. `told`: by member, what it has said on its present link; `lasting`: by member's number,
    whether its store is on a disk, as it has said last."""

    def __init__(
        self, group: MetadataGroup, peers: Peers, feature_level: FeatureLevel, *, lasting: bool
    ) -> None:
        """`lasting`: this node's store is on a disk."""
        self._group, self._peers, self._level = group, peers, feature_level
        self.told: dict[int, At] = {}
        self.lasting = {peers.number_of[peers.me]: lasting}
        self._greeted: dict[int, Outbox] = {}
        self._sent: dict[int, int] = {}  # up to which entry they were told, on the present link
        self._asked, self._asked_s = -1, -math.inf  # who was asked last for what is lacking, and when
        peers.watch(leave=self._dismiss)
        peers.unknowing = lambda: group.topology is None and not 0 < feature_level.level < SINCE
        self.handlers: dict[type, Callable[[int, Outbox, Any, Instant], None]] = {
            At: self._hear_at,
            Base: self._hear_base,
            Lacking: self._hear_lacking,
        }

    def lacks(self) -> bool:
        """Whether the cluster has a log, as a member has said on its present link, and this node none yet:
        then nobody knows here who holds what."""
        return self._group.topology is None and any(told.group for told in self.told.values())

    @property
    def spoken(self) -> bool:
        """Whether all members speak of the log by now."""
        return self._level.level >= SINCE

    def greet(self, member: int, outbox: Outbox) -> None:
        """A link stands."""
        self.lost(member)
        if self.spoken:
            outbox.put(self._at())
            self._greeted[member] = outbox

    def lost(self, member: int) -> None:
        """Its link is gone, and with it what was said on it."""
        self.told.pop(member, None)
        self._group.voters_of.pop(member, None)
        self._sent.pop(member, None)
        self._greeted.pop(member, None)
        self._heard_of(member)

    def tick(self, now: Instant) -> None:
        """Greet those whose links stood before all members could speak of a log; ask those again who have not
        answered."""
        if not self.spoken:
            return
        # Who was asked last, and has not answered, comes last.
        for peer in sorted(self._peers.others, key=lambda peer: peer.index == self._asked):
            if peer.linked and self._greeted.get(peer.index) is not peer.outbox:
                peer.outbox.put(self._at())
                self._greeted[peer.index] = peer.outbox
            elif peer.index in self.told:
                self._ask(peer.index, peer.outbox, now)

    def _dismiss(self, peer: Peer, now: Instant) -> None:
        """It has left, by the topology that is in use here: it should hear of that."""
        told = self.told.get(peer.index)
        if told is not None and told.group == self._group.group and not peer.outbox.closed:
            self._say(peer.index, peer.outbox, max(told.epoch, self._sent.get(peer.index, NOWHERE)))

    def tell(self) -> None:
        """What this node says of itself has changed: say At to all."""
        plain, leads = self._at(), self._group.raft is not None and self._group.raft.leads
        for peer in self._peers.others:
            if self._greeted.get(peer.index) is not peer.outbox:
                continue
            told = self.told.get(peer.index)
            if leads and told is not None and told.group == self._group.group:
                self._say(peer.index, peer.outbox, max(told.epoch, self._sent.get(peer.index, NOWHERE)))
            else:
                peer.outbox.put(plain, weight(plain))

    def _say(self, member: int, outbox: Outbox, after: int) -> None:
        """Say At, with the entries behind `after`: who gets none of them asks."""
        said = self._at(after)
        self._sent[member] = after + len(said.entries)
        outbox.put(said, weight(said))

    def _at(self, after: int = NOWHERE) -> At:
        """What to say of this node; with entries behind `after`, if it is an epoch whose next are here."""
        group, raft = self._group, self._group.raft
        held, first, entries = group.allegiance, 0, []
        if raft is not None and raft.log.base.last <= after < group.epoch:
            first = after + 1
            entries = rows_of(raft.log.batch(first)[: group.epoch - after])
        known = held.group if group.topology is not None else b""
        lasting = self.lasting[self._peers.number_of[self._peers.me]]
        return At(
            known, held.formers, group.voter, lasting, held.barred, held.follows, group.epoch,
            group.term_at(group.epoch), first, entries,
        )  # fmt: skip

    # --- what is heard ---------------------------------------------------------------------------

    def _hear_at(self, member: int, outbox: Outbox, said: At, now: Instant) -> None:
        """ProtocolError when a member follows another group."""
        group, name = self._group, self._peers.all[member].name
        if self._is_other(said):
            own = group.allegiance
            if not goes_over(own, said) and not goes_over(said, own):
                raise ProtocolError(parted(name, said, own))
            self._heard_of(member)
        elif said.group == group.group:
            self._check_history(name, said.epoch, said.term)
        self.told[member] = said
        self._regard(member, said)
        self.lasting[self._peers.number_of[member]] = said.lasting
        if said.entries and group.raft is not None and said.group == group.group:
            group.raft.decide(said.first, entries_of(said.entries), now.monotonic)
            self._heard_of(member)
        self._ask(member, outbox, now)

    def _check_history(self, name: str, epoch: int, term: int) -> None:
        """ProtocolError where a member of the same group goes by another history than this node."""
        own = self._group.term_at(epoch) if epoch <= self._group.decided else 0
        if own and term and own != term:
            raise ProtocolError(
                f"{name} and this node have different entries at epoch {epoch} of the same metadata group: "
                f"the disk of one of the two was set back while nobody was there who could tell. See "
                f"`basestore topology history` of both, stop the one whose history is wrong, move its "
                f"directory away, and start it: it recovers from the others"
            )

    def _is_other(self, said: At) -> bool:
        """Whether a member follows another group than this node."""
        return bool(said.group and self._group.group) and said.group != self._group.group

    def _regard(self, member: int, said: At) -> None:
        """What a member says goes by this. One that is about to come over goes by nothing yet that is known
        here, and of raft nothing is said between two groups."""
        group, other = self._group, self._is_other(said)
        if other:
            group.voters_of.pop(member, None)
        else:
            group.voters_of[member] = said.voter
        comes = other and not goes_over(group.allegiance, said)
        self._peers.tell_epoch(member, NOWHERE if comes else said.epoch)

    def _ask(self, member: int, outbox: Outbox, now: Instant) -> None:
        """What this node lacks, of one who has it, unless that was asked just now, of whomever."""
        told = self.told[member]
        if self._is_other(told) and not goes_over(self._group.allegiance, told):
            return
        decided = self._group.decided if told.group == self._group.group else NOWHERE
        if told.epoch > decided and now.monotonic - self._asked_s >= ASK_AGAIN_S:
            self._asked, self._asked_s = member, now.monotonic
            outbox.put(Lacking(decided, self._group.term_at(decided)))

    def _heard_of(self, member: int) -> None:
        """What was asked of it is here, or does not come: others may be asked."""
        if member == self._asked:
            self._asked_s = -math.inf

    def _hear_lacking(self, member: int, outbox: Outbox, said: Lacking, now: Instant) -> None:
        raft, held = self._group.raft, self._group.allegiance
        if raft is None or self._group.topology is None:
            return
        self._check_history(self._peers.all[member].name, said.epoch, said.term)
        after, base = said.epoch, raft.log.base
        if after < base.last or after == NOWHERE:
            voters = encode_voters(base.voters)
            whole = Base(held.group, held.formers, base.last, base.term, voters, base.state)
            outbox.put(whole, weight(whole))
            after = base.last
        if after < self._group.epoch:
            self._say(member, outbox, after)

    def _hear_base(self, member: int, outbox: Outbox, said: Base, now: Instant) -> None:
        group, held = self._group, self._group.allegiance
        self._heard_of(member)
        group.check_snapshot(said)
        over = goes_over(held, said)
        try:
            if over and (hindered := hindrance(group.topology, Topology.decode(said.state))):
                raise ProtocolError(
                    f"this node was to go over to the metadata group of {self._peers.all[member].name}, and "
                    f"cannot: {hindered}"
                )
            snapshot = Snapshot(said.last, said.term, decode_voters(said.voters), said.state)
            if group.raft is None or over:
                group.follow(said.group, said.formers, snapshot, now)
                for each, told in self.told.items():
                    self._regard(each, told)
            elif said.group == group.group:
                group.raft.install(snapshot, now.monotonic)
        except ValueError as error:
            raise ProtocolError(f"a topology is told that cannot be read: {error}") from error
