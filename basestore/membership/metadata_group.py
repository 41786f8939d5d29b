"""Metadata group: this node's part in the log of what the cluster is, and the topology that it makes.

The host of `consensus/raft.py`: it stores what raft gives out with the node's own batch, sends what may
leave, and tells raft what is durable. Voters and learners hear each other's Appends; all others follow by
what they are told is decided (`following.py`). What becomes of an entry, on every node:

    decided       a majority of the voters has it, or somebody says so who uses it
    applied       to the value (`topology/judgement.py`), in the order of the log
    durable       that it is decided is on this disk, with the entry: a restart does not go back behind it
    in use        with the next step: `adopt` changes what this node goes by, and all others are told

What comes at once is gone through one change of seats after the other, for a seat may have been given up and
been given again between two of them. What a snapshot leaves out is *skipped*: only since when each has had
its seat is known then.

A voter is a store. One that starts over under another id, for it may have forgotten something, votes by
another id too, and is nobody until it is taken in as a learner. But not where all that can be lost is what
was never synced for sure: votes and entries are, whatever the durability (`interval`, killed).

Owns raft, the log's rows, and which topology is in use. Whom to take in, and when to found a group, is
`leading.py`'s to say.
"""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from basestore.cluster.outbox import weight
from basestore.cluster.peers import Peers
from basestore.config import NodeConfig
from basestore.consensus.log import Kind, Snapshot
from basestore.consensus.messages import Install
from basestore.consensus.output import Output, Stored
from basestore.consensus.raft import Raft
from basestore.consensus.voters import Voter
from basestore.instant import Instant
from basestore.membership.group_log import Allegiance, GroupLog, applied
from basestore.protocol.codec import Message
from basestore.protocol.limits import ProtocolError
from basestore.protocol.membership import NOWHERE, Base
from basestore.repair.write_repair import split_stores
from basestore.replica.identity import UNCLEAN, State, StoreIdentity
from basestore.topology.entries import changes_what_is_held
from basestore.topology.topology import Topology

COMPACT_AT = 1000  # entries behind the snapshot
COMPACT_BYTES = 1 << 20  # or so large ones
STORING_MAX = 64  # outputs on their way to the disk, beside those that have something to store


class Coming(NamedTuple):
    """A topology that is about to be used. `skipped`: what led to it is not known here."""

    topology: Topology
    skipped: bool


class MetadataGroup:
    """Of one node. `topology`: the one in use, None while none is; `voters_of`: by member, by what it votes,
    as it has said on its link; `adopt`: what the node does in the step in which another comes into use,
    `foresee`: and in the batch that makes it so."""

    def __init__(
        self, config: NodeConfig, log: GroupLog, identity: StoreIdentity, peers: Peers, seed: bytes,
        now: Instant,
    ) -> None:  # fmt: skip
        """`log`: as the store has it; `seed`: what chance is drawn from."""
        self._config, self._number = config, config.member.number
        self._group_commit, self._identity, self._peers = log.group_commit, identity, peers
        self._seed, self._drawn, self._now = seed, 0, now
        self.log = log
        self.raft: Raft | None = None
        self.topology: Topology | None = None
        self._skipped_to: Topology | None = None  # what a snapshot has brought, and is not noted yet
        self._coming: list[Coming] = []  # noted: in use once that is durable, and no others are until then
        self._sure = False  # what is coming is durable
        self._storing = 0  # outputs of raft that are on their way to the disk
        self.voters_of: dict[int, bytes] = {}
        self.adopt: Callable[[Coming, Instant], None] = lambda coming, now: None
        self.foresee: Callable[[Coming, Instant], None] = lambda coming, now: None
        self.answered: dict[int, int] = {}  # tickets, and where the read may be answered; -1: not here
        self.stirred = True  # something may have come to pass since the last step
        self._open(now)

    # --- opening ---------------------------------------------------------------------------------

    def _open(self, now: Instant) -> None:
        held, stored = self.log.allegiance, self.log.stored
        self._allegiance = held if held.voter else held._replace(voter=self._identity.store)
        if stored is not None:
            self.raft = Raft(self.me, stored, now.monotonic, self._chance)
            self.topology = self.log.topology
        self.start_over(now)
        if self.raft is not None:
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
    def voter(self) -> bytes:
        """By what this store votes, as others are told; a copy tells the id of its own store."""
        return self._allegiance.voter if self.is_itself else self._identity.store

    @property
    def is_itself(self) -> bool:
        return self._identity.store == self._allegiance.store

    @property
    def confirmed(self) -> bool:
        """Whether somebody has found nothing missing since the store was opened."""
        return self._identity.vouched

    @property
    def _speaks(self) -> bool:
        """Whether it may vote, or acknowledge entries: it may be an older disk, that has forgotten both."""
        return self.is_itself and self.confirmed

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

    def term_at(self, epoch: int) -> int:
        """Of the entry that made this epoch, as far as the log goes back; 0 where that is not known."""
        raft = self.raft
        return raft.log.term_at(epoch) or 0 if raft is not None and epoch >= raft.log.base.last else 0

    def voter_of(self, number: int) -> Voter | None:
        """By what the member with this number votes, as it says on its present link; this node too."""
        if number == self._number:
            return Voter(number, self.voter)
        index = self._peers.index_of.get(number)
        return self.voter_at(index) if index is not None else None

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
        """Take up the log of this group, of which no other was known; ValueError where another topology is
        in use that is later."""
        topology = Topology.decode(base.state)
        if topology.epoch < self.epoch:
            raise ValueError(f"it begins at epoch {topology.epoch}, and epoch {self.epoch} is in use here")
        self._allegiance = self._allegiance._replace(group=group, formers=formers, follows=False)
        self.raft = Raft(self.me, Stored(0, None, base, [], base.last), now.monotonic, self._chance)
        self.log.stage_base(base)
        self.log.drop_behind(base.last)
        self._skipped_to = None
        self.log.history.skip()
        self._note([Coming(topology, skipped=True)])

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

    def check_snapshot(self, said: Base | Install) -> None:
        """ProtocolError unless it holds a topology of the epoch that it says, and of this node's cluster."""
        try:
            topology = Topology.decode(said.state)
        except ValueError as error:
            raise ProtocolError(f"a topology is told that cannot be read: {error}") from error
        if topology.epoch != said.last:
            raise ProtocolError(f"a topology of epoch {topology.epoch} is told as that of {said.last}")
        own, partitions = self._config.cluster, len(topology.seats)
        if topology.cluster != own.id:
            raise ProtocolError(f"a topology of cluster {topology.cluster.hex()} is told")
        if partitions != own.partitions:
            raise ProtocolError(
                f"the cluster has {partitions} partitions, and the file of this node says {own.partitions}: "
                f"stop it, correct [cluster] partitions there, and start it"
            )
        self._check_members(topology)

    def _check_members(self, topology: Topology) -> None:
        """ProtocolError where it calls by another name a member that is known here, or this node itself. What
        it does not name yet may come with the entries that follow."""
        mine = topology.member(self._number)
        if self._number <= topology.members[-1].number and (mine is None or mine.name != self._config.name):
            named = [each for each in topology.present if each.name == self._config.name]
            known = f"has {named[0].name} as number {named[0].number}" if named else "has no such member"
            raise ProtocolError(
                f"this node is {self._config.name}, number {self._number}, by its file, and the cluster "
                f"{known}: stop it, correct its number or name in [[members]], and start it under an empty "
                f"directory"
            )
        for each in topology.members:
            index = self._peers.index_of.get(each.number)
            if index is not None and self._peers.all[index].name != each.name:
                raise ProtocolError(
                    f"member {each.number} is {self._peers.all[index].name} by the file of this node, and "
                    f"{each.name} in the cluster: stop it, correct that [[members]], and start it"
                )

    def hear(self, member: int, message: Message, now: Instant) -> None:
        """A member says something of raft. Of one that has not said yet by what it votes nothing is heard.
        ProtocolError for a snapshot that is none."""
        voter = self.voter_at(member)
        if self.raft is None or voter is None or not self._speaks or self._group_commit.stalled:
            return
        if isinstance(message, Install):
            self.check_snapshot(message)
        self.stirred = True
        self.raft.hear(voter, message, now.monotonic)  # type: ignore[arg-type]  # the handlers' table

    def tick(self, now: Instant) -> None:
        self._now = now
        if self.raft is not None and self._speaks:
            self.raft.tick(now.monotonic)

    def start_over(self, now: Instant) -> bool:
        """Vote by another id if the store has begun anew since the last call. Whether others must be told, on
        every link, before anything else is said:

            forgetful, whatever was lost     another voter, who has promised nothing
            killed under `interval`          the same, unless a peer remembers more: its votes were synced
            a copy, of a place or a disk     silent, until it has recovered: then another;
                                             or an operator takes it as it is: then the same
        """
        identity, held, raft = self._identity, self._allegiance, self.raft
        if identity.store == held.store:
            return False
        was_it = held.store in split_stores(identity.former)
        if was_it and identity.copied:
            return False
        if not held.store or identity.reason == UNCLEAN or (was_it and identity.state is State.WHOLE):
            self._allegiance = held._replace(store=identity.store)
        else:
            self._allegiance = held._replace(voter=identity.store, store=identity.store)
            if raft is not None:
                self._begin_anew(raft, now)
        if raft is not None:
            self._stage()
        return True

    def _begin_anew(self, raft: Raft, now: Instant) -> None:
        """As another voter. What the store has heard is kept as far as it is the log's; what it was about to
        say it says no more."""
        while (output := raft.take(now.monotonic)) is not None:
            self._keep(output)
        entries = [raft.log.entry(index) for index in range(raft.log.base.last + 1, raft.log.last + 1)]
        stored = Stored(raft.term, None, raft.log.base, entries, raft.commit)
        self.raft = Raft(self.me, stored, now.monotonic, self._chance)

    def step(self, now: Instant) -> None:
        """Store and send what has come of all that was heard; begin to use what is durable."""
        self._now, self.stirred = now, False
        raft = self.raft
        if raft is None:
            return
        self._look_ahead(raft)
        if self._group_commit.stalled:  # until the disk takes more, nothing is promised
            self.stirred = True
            return
        while (output := raft.take(now.monotonic)) is not None:
            self._give_out(raft, output)
        if self._coming and self._sure:
            coming, self._coming = self._coming, []
            for each in coming:
                self.topology = each.topology
                self.adopt(each, now)
            self._compact(raft, coming[-1].topology)
        if not self._coming:
            self._learn(raft)

    def _keep(self, output: Output) -> None:
        """Stage what it has of the log itself. Of what a snapshot skips the next opening would know nothing:
        it is foreseen in the same batch."""
        self.log.stage_output(output)
        if output.snapshot is not None:
            self._skipped_to = Topology.decode(output.snapshot.state)
            self.foresee(Coming(self._skipped_to, skipped=True), self._now)
            self._allegiance = self._allegiance._replace(used=output.snapshot.last)
            self._stage()

    def _give_out(self, raft: Raft, output: Output) -> None:
        self._keep(output)
        if output.voted:
            self._stage()
        for voter, message in output.messages:
            self._send(voter, message)
        self.answered.update(output.reads)
        if not (output.stores or self._storing):  # all that it tells of is on the disk: no sync for that
            self._keep_promises(raft, output)
            return
        if not output.stores and self._storing >= STORING_MAX:  # the disk is stuck: who waits asks again
            return
        self._storing += 1

        def durable() -> None:
            self._storing -= 1
            self.stirred = True
            self._keep_promises(raft, output)

        self._group_commit.when_durable(durable)

    def _keep_promises(self, raft: Raft, output: Output) -> None:
        if raft is self.raft:  # else it votes by another id by now
            for voter, message in output.promises:
                self._send(voter, message)
            raft.durable(output.mark, self._now.monotonic)

    def _learn(self, raft: Raft) -> None:
        """Go through what is decided, and not noted yet."""
        if self._skipped_to is None and self.topology is not None and raft.commit <= self.topology.epoch:
            return
        coming = list[Coming]()
        latest, self._skipped_to = self._skipped_to or self.topology, None
        if latest is not self.topology and latest is not None:
            coming.append(Coming(latest, skipped=True))
            self.log.history.skip()
        if latest is None:
            return
        for _, entry in raft.decided(latest.epoch):
            was, latest = latest, applied(latest, (entry,), self.log.history)
            # Who is dead by one and has left by the next must be seen while dead.
            same = was.seats is latest.seats and was.dead <= latest.dead
            if same and coming and coming[-1].topology is was:
                coming[-1] = coming[-1]._replace(topology=latest)
            else:
                coming.append(Coming(latest, skipped=False))
        if coming:
            self._note(coming)

    def _look_ahead(self, raft: Raft) -> None:
        """Say how far what is decided changes nothing of what members ask of each other: that need not wait
        until this node's disk has it, too."""
        heard = self._peers.heard_epoch
        while raft.log.base.last <= heard < raft.commit:
            entry = raft.log.entry(heard + 1)
            if entry.kind is Kind.DATA and changes_what_is_held(entry.data):
                break
            heard += 1
        self._peers.heard_epoch = heard

    def _note(self, coming: list[Coming]) -> None:
        """These are decided. They are in use once that is durable."""
        self._coming, self._sure = coming, False
        self._allegiance = self._allegiance._replace(used=coming[-1].topology.epoch)
        self._stage()
        for each in coming:
            self.foresee(each, self._now)

        def use() -> None:
            self._sure = self._sure or self._coming is coming
            self.stirred = True

        self._group_commit.when_durable(use)

    def _compact(self, raft: Raft, topology: Topology) -> None:
        behind = topology.epoch - raft.log.base.last  # below 1: a snapshot of later has come
        if behind > COMPACT_AT or (behind > 0 and self.log.bytes > COMPACT_BYTES):
            raft.compact(topology.epoch, topology.encode())
            self.log.stage_base(raft.log.base)

    def _send(self, voter: Voter, message: Message) -> None:
        """To the member, if it votes by that."""
        index = self._peers.index_of.get(voter.number)
        if index is not None and self.voters_of.get(index) == voter.store:
            self._peers.send(index, message, weight(message))
