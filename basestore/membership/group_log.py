"""Group log: the rows in which a store keeps its part of the cluster's log.

    group         which metadata group it follows, by what it votes there, term and vote, how far it has come
    group base    a snapshot: all up to an entry in one
    g index       the entries behind that; the last of them perhaps not decided

All is written with the node's own batches: what is stored of the log and what is stored under it go, or are
rolled back, together. Decides nothing, and sends nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import cbor2

from basestore.config import NodeConfig
from basestore.consensus.log import Entry, Kind, Snapshot
from basestore.consensus.output import Output, Stored
from basestore.consensus.voters import Voter, decode_voters, encode_voters
from basestore.errors import ConfigurationError, LeftCluster, StorageError
from basestore.protocol.proof import JOIN_ANEW
from basestore.repair.seats import Seats
from basestore.replica.group_commit import GroupCommit
from basestore.replica.store_facts import settle_facts
from basestore.storage import keyspace
from basestore.topology.changes import Standing
from basestore.topology.entries import UnknownEntry
from basestore.topology.founding import differing, in_force
from basestore.topology.history import History
from basestore.topology.judgement import judge
from basestore.topology.topology import Topology

GROUP: Final = keyspace.fact("group")
BASE: Final = keyspace.fact("group base")
_FORM: Final = 1


class Allegiance(NamedTuple):
    """Whose log a store follows. `group`: that metadata group, empty while none is known; `formers`: those
    whose place it took; `voter`: by which the store votes there; `store`: which it was when it was said so,
    empty: whichever it is found to be; `used`: up to which entry the topology is in use here, or was;
    `barred`: it must not found a group, for it may have forgotten one; `follows`: it may go over to a group
    that took its own one's place, for an operator has said so."""

    group: bytes
    formers: bytes
    voter: bytes
    store: bytes
    used: int
    barred: bool
    follows: bool


NOTHING: Final = Allegiance(b"", b"", b"", b"", -1, False, False)


def applied(topology: Topology, entries: Iterable[Entry], history: History) -> Topology:
    """After the entries that follow its epoch, with a line of each in the history; StorageError for one that
    only a later release can apply, for without it this node would not be what the others are."""
    for index, entry in enumerate(entries, topology.epoch + 1):
        try:
            judged = judge(topology, index, entry.data) if entry.kind is Kind.DATA else None
        except UnknownEntry as error:
            raise StorageError(
                f"entry {index} of the cluster's log was written by a later release of basestore ({error}): "
                f"start this node with that release; nothing is lost"
            ) from error
        history.add(index, entry.kind, entry.data, topology, judged)
        topology = judged.topology if judged is not None else topology.pass_by(index)
    return topology


def open_log(group_commit: GroupCommit, config: NodeConfig) -> tuple["GroupLog", NodeConfig, list[str]]:
    """The log as the store has it; the configuration, the cluster's part as the log has that; and what an
    operator should know of the two, in words. ConfigurationError or StorageError when they do not fit."""
    log = GroupLog(group_commit)
    if config.member.number in log.formers:  # whoever has its name by now
        raise LeftCluster(log.farewell(config))
    forced = in_force(config, log.topology)
    if forced.cluster.names.get(config.member.number) != config.name:
        names = sorted(forced.cluster.names.values())
        raise ConfigurationError(
            f"no member is called {config.name!r}: the cluster's log, in the store {config.directory}, has "
            f"{', '.join(names)}. Nothing was changed. Correct [node] name or directory, so that each node "
            f"opens its own store"
        )
    told = settle_facts(group_commit, forced, logged=log.topology is not None)
    if log.topology is not None and (others := differing(config.cluster, log.topology)):
        told.append(
            f"replication, durations, [[members]] and [buckets] of its file are not read any more, for they "
            f"stand in the cluster's log; they differ: {'; '.join(others)}. See `basestore topology`, and "
            f"correct the file"
        )
    return log, forced, told


class GroupLog:
    """Of one store. `allegiance`, `stored`: as they were found; `topology`: with all that is known to be
    decided. The last two are None without a group. `history`: what its entries have said, in words."""

    def __init__(self, group_commit: GroupCommit) -> None:
        """StorageError when it cannot be read."""
        self.group_commit = group_commit
        self._first = 1  # of the entries that are stored, or were
        self._last = 0
        self.bytes = 0  # of the entries behind the base, about
        self.allegiance = NOTHING
        self.stored: Stored | None = None
        self.topology: Topology | None = None
        self.history = History()
        try:
            self._load()
        except (cbor2.CBORError, ValueError, TypeError, IndexError) as error:
            raise StorageError(
                "the store is damaged: its part of the cluster's log cannot be read. If the other nodes are "
                "up, move its directory away and start again: the node will recover from them. Otherwise "
                "start the node once with `basestore serve --config FILE --salvage`"
            ) from error

    @property
    def formers(self) -> dict[int, str]:
        """The members that have left, by number."""
        return self.topology.formers if self.topology is not None else {}

    @property
    def joining(self) -> frozenset[str]:
        """The names of those that are to be given nothing yet, and may never be started."""
        members = self.topology.members if self.topology is not None else ()
        return frozenset(each.name for each in members if each.standing is Standing.JOINING)

    @property
    def seats(self) -> Sequence[Seats] | None:
        """Of the partitions, where there is a log."""
        return self.topology.seats if self.topology is not None else None

    def farewell(self, config: NodeConfig) -> str:
        """What to tell a node whose member has left."""
        assert self.topology is not None
        name, directory = config.name, config.directory
        number = max(number for number, each in self.formers.items() if each == name)
        return (
            f"{name}, number {number}, has left the cluster, by epoch {self.topology.epoch} of its log, so "
            f"this node is not started. The store in {directory} holds nothing that the cluster needs: "
            f"{JOIN_ANEW}"
        )

    def _load(self) -> None:
        stored = self.group_commit.get(GROUP)
        if stored is None:
            return
        form, term, number, vote, *fields = cbor2.loads(stored)
        if form != _FORM:
            raise ValueError(f"it has form {form}")
        self.allegiance = Allegiance(*fields)
        base = self.group_commit.get(BASE)
        if base is None:
            return
        last, base_term, voters, state = cbor2.loads(base)
        snapshot = Snapshot(last, base_term, decode_voters(voters), state)
        entries = list[Entry]()
        for key, value in self.group_commit.scan(*keyspace.entries()):
            index = keyspace.index_of_entry(key)
            if index <= last:
                self._first = min(self._first, index)
                continue
            if index != last + 1 + len(entries):
                raise ValueError(f"entry {last + 1 + len(entries)} is missing")
            entry_term, kind, data = cbor2.loads(value)
            entries.append(Entry(entry_term, Kind(kind), data))
        self._first, self._last = last + 1, last + len(entries)
        self.bytes = sum(len(entry.data) for entry in entries)
        voted = Voter(number, vote) if vote else None
        commit = min(max(self.allegiance.used, last), self._last)
        self.stored = Stored(term, voted, snapshot, entries, commit)
        self.topology = applied(Topology.decode(state), entries[: commit - last], self.history)

    def stage(self, term: int, vote: Voter | None, allegiance: Allegiance) -> None:
        """What changes most."""
        self.allegiance = allegiance
        number, store = vote if vote is not None else (0, b"")
        self.group_commit.stage(GROUP, cbor2.dumps([_FORM, term, number, store, *allegiance]))

    def stage_base(self, base: Snapshot) -> None:
        """This stands for all up to its last: entries up to there go."""
        packed = cbor2.dumps([base.last, base.term, encode_voters(base.voters), base.state])
        self.group_commit.stage(BASE, packed)
        for index in range(self._first, min(base.last, self._last) + 1):
            self.group_commit.stage(keyspace.entry(index), None)
        self._first = base.last + 1
        self._last, self.bytes = max(self._last, base.last), 0

    def stage_output(self, output: Output) -> None:
        """What raft gives out of the log itself."""
        if output.cut:
            self._remove_from(output.cut)
        if output.snapshot is not None:
            self.stage_base(output.snapshot)
        self._stage_entries(output.first, output.entries)

    def drop_behind(self, index: int) -> None:
        """Nothing that stands behind this entry is valid."""
        self._remove_from(index + 1)

    def _remove_from(self, index: int) -> None:
        for gone in range(index, self._last + 1):
            self.group_commit.stage(keyspace.entry(gone), None)
        self._last = index - 1

    def _stage_entries(self, first: int, entries: Sequence[Entry]) -> None:
        for index, entry in enumerate(entries, first):
            packed = cbor2.dumps([entry.term, int(entry.kind), entry.data])
            self.group_commit.stage(keyspace.entry(index), packed)
            self._last = max(self._last, index)
            self.bytes += len(entry.data)
