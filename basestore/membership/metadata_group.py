"""Metadata group: this node's part in the log of what the cluster is, and the topology that it makes.

The host of `consensus/raft.py`: it stores what raft gives out with the node's own batch, sends what may
leave, and tells raft what is durable. Voters and learners hear each other's Appends; all others follow by
what they are told is decided (`following.py`). What becomes of an entry, on every node:

    decided       a majority of the voters has it, or somebody says so who uses it
    applied       to the value (`topology/topology.py`), in the order of the log
    durable       that it is decided is on this disk, with the entry: a restart does not go back behind it
    in use        with the next step: `adopt` changes what this node goes by, and all others are told

A voter is a store. One that starts over under another id, for it may have forgotten something, votes by
another id too, and is nobody until it is taken in as a learner. But not where all that can be lost is what
was never synced for sure: votes and entries are, whatever the durability (`interval`, killed).

Owns raft, the log's rows, and which topology is in use. Whom to take in, and when to found a group, is
`leading.py`'s to say.
"""

import hashlib
from collections.abc import Callable, Iterable
from functools import partial

from basestore.cluster.outbox import weight
from basestore.cluster.peers import Peers
from basestore.consensus.log import Snapshot
from basestore.consensus.output import Mark, Stored
from basestore.consensus.raft import Raft
from basestore.consensus.voters import Voter
from basestore.instant import Instant
from basestore.membership.group_log import Allegiance, GroupLog, applied
from basestore.protocol.codec import Message
from basestore.protocol.membership import NOWHERE
from basestore.replica.identity import UNCLEAN, StoreIdentity
from basestore.topology.topology import Topology

COMPACT_AT = 1000  # entries behind the snapshot


class MetadataGroup:
    """Of one node. `topology`: the one in use, None while none is; `voters_of`: by member, by what it votes,
    as it has said on its link; `adopt`: what the node does in the step in which another comes into use,
    `foresee`: and in the batch that makes it so."""

    def __init__(
        self, number: int, log: GroupLog, identity: StoreIdentity, peers: Peers, seed: bytes, now: Instant
    ) -> None:
        """`number`: of this member; `log`: as the store has it; `seed`: what chance is drawn from."""
        self._number, self._group_commit, self._identity, self._peers = (
            number,
            log.group_commit,
            identity,
            peers,
        )
        self._seed, self._drawn, self._now = seed, 0, now
        self.log = log
        self.raft: Raft | None = None
        self.topology: Topology | None = None
        self._latest: Topology | None = None  # with all that is decided
        self._usable: Topology | None = None  # with all that is decided, and durably known here to be
        self.voters_of: dict[int, bytes] = {}
        self.adopt: Callable[[Topology, Instant], None] = lambda topology, now: None
        self.foresee: Callable[[Topology], None] = lambda topology: None
        self.answered: dict[int, int] = {}  # tickets, and where the read may be answered; -1: not here
        self._open(now)

    # --- opening ---------------------------------------------------------------------------------

    def _open(self, now: Instant) -> None:
        held, stored = self.log.allegiance, self.log.stored
        store, voter = self._identity.store, held.voter
        if not voter or (held.store != store and self._identity.reason != UNCLEAN):
            voter = store
        if stored is None:
            self._allegiance = held._replace(voter=voter, store=store)
            return
        vote = stored.vote if voter == held.voter else None
        self._allegiance = held._replace(voter=voter, store=store)
        self.raft = Raft(self.me, stored._replace(vote=vote), now.monotonic, self._chance)
        self.topology = self._usable = self._latest = self.log.topology
        self._stage()

    def _chance(self) -> float:
        self._drawn += 1
        drawn = hashlib.blake2b(self._seed + self._drawn.to_bytes(8), digest_size=7).digest()
        return int.from_bytes(drawn) / (1 << 56)

    # --- what is known ---------------------------------------------------------------------------

    @property
    def me(self) -> Voter:
        return Voter(self._number, self._allegiance.voter)

    @property
    def allegiance(self) -> Allegiance:
        return self._allegiance

    @property
    def group(self) -> bytes:
        """Its id; empty while none is known."""
        return self._allegiance.group

    @property
    def epoch(self) -> int:
        """Of the topology in use."""
        return self.topology.epoch if self.topology is not None else NOWHERE

    @property
    def decided(self) -> int:
        """Up to which entry all is known to be decided."""
        return self.raft.commit if self.raft is not None else NOWHERE

    def voter_at(self, member: int) -> Voter | None:
        """By what a member votes, as it has said on its present link."""
        voter = self.voters_of.get(member)
        return Voter(self._peers.number_of[member], voter) if voter is not None else None

    # --- a group is founded, or found ------------------------------------------------------------

    def found(self, group: bytes, topology: Topology, now: Instant) -> None:
        """Begin a log, with this store for its only voter."""
        base = Snapshot(topology.epoch, 0, frozenset((self.me,)), topology.encode())
        self.follow(group, b"", base, now)

    def follow(self, group: bytes, formers: bytes, base: Snapshot, now: Instant) -> None:
        """Take up the log of this group, of which no other was known; ValueError for a state that is none."""
        topology = Topology.decode(base.state)
        if topology.epoch < self.epoch:
            raise ValueError(f"it begins at epoch {topology.epoch}, and epoch {self.epoch} is in use here")
        self._allegiance = self._allegiance._replace(group=group, formers=formers, follows=False)
        self.raft = Raft(self.me, Stored(0, None, base, [], base.last), now.monotonic, self._chance)
        self.log.stage_base(base)
        self.log.drop_behind(base.last)
        self._latest = topology
        self._note_decided(topology)

    def bar(self) -> None:
        """This store may have forgotten something, a group perhaps: it founds none, for good."""
        if not self._allegiance.barred:
            self._allegiance = self._allegiance._replace(barred=True)
            self._stage()

    def _stage(self) -> None:
        raft = self.raft
        term, vote = (raft.term, raft.vote) if raft is not None else (0, None)
        self.log.stage(term, vote, self._allegiance)

    # --- time and messages -----------------------------------------------------------------------

    def hear(self, member: int, message: Message, now: Instant) -> None:
        """A member says something of raft. Of one that has not said yet by what it votes nothing is heard."""
        voter = self.voter_at(member)
        if self.raft is not None and voter is not None:
            self.raft.hear(voter, message, now.monotonic)  # type: ignore[arg-type]  # the handlers' table

    def tick(self, now: Instant) -> None:
        self._now = now
        if self.raft is not None:
            self.raft.tick(now.monotonic)

    def step(self, now: Instant) -> None:
        """Store and send what has come of all that was heard; begin to use what is durable."""
        self._now = now
        if self._identity.store != self._allegiance.store:
            self._start_over(now)
        raft = self.raft
        if raft is None:
            return
        output = raft.take(now.monotonic)
        if output is not None:
            if output.snapshot is not None:
                self._latest = Topology.decode(output.snapshot.state)
            self.log.stage_output(output)
            if output.voted:
                self._stage()
            for voter, message in output.messages:
                self._send(voter, message)
            if output.promises or output.voted or output.entries:
                self._group_commit.when_durable(partial(self._durable, raft, output.mark, output.promises))
            self.answered.update(output.reads)
        latest = self._latest
        if latest is not None and latest.epoch < raft.commit:
            self._latest = applied(latest, (entry for _, entry in raft.decided(latest.epoch)))
            self._note_decided(self._latest)
        usable = self._usable
        if usable is not None and usable.epoch > self.epoch:
            self.topology = usable
            self.adopt(usable, now)
            self._compact(raft, usable)

    def _durable(self, raft: Raft, mark: Mark, promises: Iterable[tuple[Voter, Message]]) -> None:
        if raft is self.raft:  # else it votes by another id by now
            for voter, message in promises:
                self._send(voter, message)
            raft.durable(mark, self._now.monotonic)

    def _note_decided(self, topology: Topology) -> None:
        """It is in use once it is durable that it is decided."""
        self._allegiance = self._allegiance._replace(used=topology.epoch)
        self._stage()
        self.foresee(topology)

        def use() -> None:
            self._usable = topology

        self._group_commit.when_durable(use)

    def _compact(self, raft: Raft, topology: Topology) -> None:
        if topology.epoch - raft.log.base.last > COMPACT_AT:
            raft.compact(topology.epoch, topology.encode())
            self.log.stage_base(raft.log.base)

    def _start_over(self, now: Instant) -> None:
        """The store may have forgotten something, and goes on under another id: as a voter it is another."""
        store, raft = self._identity.store, self.raft
        self._allegiance = self._allegiance._replace(voter=store, store=store)
        if raft is not None:
            entries = [raft.log.entry(index) for index in range(raft.log.base.last + 1, raft.log.last + 1)]
            stored = Stored(raft.term, None, raft.log.base, entries, raft.commit)
            self.raft = Raft(self.me, stored, now.monotonic, self._chance)
        self._stage()

    def _send(self, voter: Voter, message: Message) -> None:
        """To the member, if it votes by that."""
        index = self._peers.index_of.get(voter.number)
        if index is not None and self.voters_of.get(index) == voter.store:
            self._peers.send(index, message, weight(message))
