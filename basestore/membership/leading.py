"""Leading: who founds the metadata group, and who its voters are to be.

A cluster has no log until all members can speak of one (feature level 10). Then the member with the lowest
number founds it alone, as its only voter, once

    its store counts, and has never been forgetful         else it may have forgotten a group
    every other member has said, on its present link,      who is not heard may know of one
    that it knows of no group
    each member with a lower number has said that it must  so that only one founds; where all must not, none
    not found any (`barred`)                               remembers anything, and the lowest does

and takes in others, one at a time: as a learner, which is fed the log; once that has all, as a voter. It
decides what users ask for from when there are as many as are wanted: an odd number, five at most, in as many
zones as there are (`topology/founding.py`). So one way to change voters serves for founding, for a store that
was lost, and for a member that is away: one that nobody has heard for REPLACED_S gives place to another, if
there is one, for to take in another voter moves no data.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Final

from basestore.cluster.peers import Peers
from basestore.config import NodeConfig
from basestore.consensus.raft import Raft
from basestore.consensus.voters import Voter, majority
from basestore.instant import Instant
from basestore.membership.following import Following
from basestore.membership.metadata_group import MetadataGroup
from basestore.protocol.membership import GROUP_BYTES
from basestore.replica.identity import UNCLEAN, State, StoreIdentity
from basestore.topology.changes import Founded
from basestore.topology.entries import UNNAMED, Suggestion, encode_entry
from basestore.topology.founding import found, voters_wanted
from basestore.topology.topology import Topology

UPKEEP_S: Final = 1.0
FOUNDING_S: Final = 0.05  # until the group is complete
REPLACED_S: Final = 600.0


class Leading:
    """Of one node, whether it leads or not."""

    def __init__(
        self, config: NodeConfig, group: MetadataGroup, following: Following, peers: Peers,
        identity: StoreIdentity, seed: bytes, now: Instant,
    ) -> None:  # fmt: skip
        self._cluster = config.cluster
        self._group, self._following = group, following
        self._peers, self._identity, self._seed = peers, identity, seed
        self._due_s = now.monotonic
        self._heard_s: dict[int, float] = {}  # by number
        # Who comes later is not waited for before it was heard: it may never be started.
        self._expected_s = dict.fromkeys((peer.number for peer in peers.present), now.monotonic)
        self._away = set[int]()  # members that nobody has heard for long
        self.learners: frozenset[Voter] = frozenset()
        self.table: Sequence[Sequence[int]] = ()  # who holds each partition of a cluster without a log

    def tick(self, now: Instant) -> None:
        if not self._following.spoken or now.monotonic < self._due_s:
            return
        topology = self._group.topology
        founded = topology is not None and topology.founded
        self._due_s = now.monotonic + (UPKEEP_S if founded else FOUNDING_S)
        if not self._group.group:
            self._consider_founding(now)
        for peer in self._peers.others:
            if peer.index in self._following.told:
                self._heard_s[peer.number] = now.monotonic
        raft, topology = self._group.raft, self._group.topology
        if raft is not None and topology is not None and raft.ready:
            self._keep_voters(raft, topology, now)

    # --- founding --------------------------------------------------------------------------------

    def _consider_founding(self, now: Instant) -> None:
        barred = self._group.allegiance.barred
        if self._identity.state is State.FORGETFUL and self._identity.reason != UNCLEAN and not barred:
            self._group.bar()
            self._following.tell()
        if not self._identity.counts:
            return
        told = [self._following.told.get(peer.index) for peer in self._peers.others]
        if any(each is None or each.group for each in told):
            return
        able = {peer.index for peer in self._peers.others if not self._following.told[peer.index].barred}
        if not self._group.allegiance.barred:
            able.add(self._peers.me)
        # What all have forgotten nobody knows of: users' changes are decided by more than one store.
        if self._peers.me == min(able, default=0):
            group = hashlib.blake2b(self._seed, digest_size=GROUP_BYTES, person=b"metadata-group").digest()
            self._group.found(group, found(self._cluster, self.table), now)

    # --- voters ----------------------------------------------------------------------------------

    def _keep_voters(self, raft: Raft, topology: Topology, now: Instant) -> None:
        voting = {voter.number for voter in raft.voters}
        self._away = {each.number for each in topology.members if not self._is_present(each.number, now)}
        wanted = voters_wanted(topology.members, self._following.lasting, voting, self._away)
        if wanted is None:
            return
        target = {voter for number in wanted for voter in self._voters_of(number, raft)}
        self.learners = frozenset(target - raft.voters)
        raft.feed(self.learners, now.monotonic)
        if self._change(raft, target, len(wanted), now) or topology.founded or set(wanted) != voting:
            return
        if raft.log.last > raft.commit:  # it may be said already
            return
        raft.propose(encode_entry(Suggestion(Founded(), UNNAMED, self._group.me.number, now.wall_ms)))

    def _is_present(self, number: int, now: Instant) -> bool:
        heard_s = self._heard_s.get(number, self._expected_s.get(number, -math.inf))
        return number == self._group.me.number or now.monotonic - heard_s < REPLACED_S

    def _voters_of(self, number: int, raft: Raft) -> set[Voter]:
        """By what a member votes; of one that is away, all that the log has: which it is nobody knows."""
        if number == self._group.me.number:
            return {self._group.me}
        heard = self._group.voter_of(number)
        if heard is not None:
            return {heard}
        has = {voter for voter in raft.voters if voter.number == number}
        # One that is away for long counts once: whichever comes back is taken in anew.
        return {max(has)} if has and number in self._away else has

    def _change(self, raft: Raft, target: set[Voter], count: int, now: Instant) -> bool:
        """The next change of voters, if one is needed: one more, then one less. Whether one is."""
        more, less = target - raft.voters, raft.voters - target
        if less and len(raft.voters) > count:
            there = {voter for voter in raft.voters if self._group.voter_of(voter.number) == voter}
            # This store goes last: it would lead no more. Who is not there goes first: if one went that is,
            # those that are there might be no majority of the rest, and nothing would be decided any more.
            order = lambda voter: (voter == self._group.me, voter in there, voter)  # noqa: E731
            left = raft.voters - {min(less, key=order)}
            if len(left & there) >= majority(left):
                raft.change(left, now.monotonic)
            return True
        ready = sorted(voter for voter in more if raft.caught_up(voter))
        if ready:
            raft.change(raft.voters | {ready[0]}, now.monotonic)
        return bool(more)
