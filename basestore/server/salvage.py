"""Salvage: make a store of what can be read of a damaged one, at an operator's word.

The old files are put aside, and stay. Into a new store come

    facts, hints, debts, losses    as they are; where format or settings cannot be read, those of this version
                                   and of the configuration, if what there is of records fits them
    the cluster's log              as far as it can be read without a gap; the rest is learnt from the others
    closed stamps                  for they are promises
    records                        those whose digest fits, by the door that all records come in by: sums, log
                                   and what may be purged are made anew; also of buckets that were dropped,
                                   or that nobody can name any more: an opening purges what is to go

Where rows are missing, an older state of others may have come to light. So the new store opens as one that
has lost something: forgetful, it recovers what is missing from other replicas before it serves; where there
are not enough of them, that is said as a loss (`replica/losses.py`). Where no store can be made of it, the
files are put back, and what to do is said.
"""

import time
from bisect import bisect_left
from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple

import cbor2

from basestore.cluster.placement import Placement
from basestore.config import NodeConfig
from basestore.errors import ConfigurationError, DamagedRecord, StorageError
from basestore.membership.group_log import BASE, GROUP, GroupLog
from basestore.repair.clock import HybridClock
from basestore.repair.digest_tree import Summary
from basestore.repair.version import Digester, Record
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import IDENTITY
from basestore.replica.replica import STORED_BYTES_MIN, Replica
from basestore.replica.store_facts import facts_of, readable, settle_facts
from basestore.replica.summaries import Summaries
from basestore.rows import row_bucket, row_partition
from basestore.storage import keyspace
from basestore.storage.keyspace import SEQUENCE_BYTES
from basestore.storage.open import open_engine
from basestore.storage.rocks_damage import ELSEWHERE, in_use
from basestore.storage.rocks_full import is_full
from basestore.topology.buckets import Buckets
from basestore.topology.entries import UnknownEntry
from basestore.topology.topology import Topology

if TYPE_CHECKING:
    from basestore.storage.rocks import RocksEngine
    from basestore.storage.rocks_salvage import Wreck

BATCH_ROWS = 500
PAUSE_S = 0.05
BUCKETS_SHOWN = 20
_GUESSED = "Its format or the settings that it was written under could not be read"
_AS_THEY_ARE = (
    keyspace.META, keyspace.HINT, keyspace.AGE, keyspace.LATE_AGE, keyspace.DEBT, keyspace.LOSS,
    keyspace.ENTRY,
)  # fmt: skip
_NO_LOG = (
    " Its part of the cluster's log could not be read: the node learns it from the others. Where there are "
    "none, what is held of buckets that were created later is kept, and they cannot be named."
)
_SHORT_LOG = " The last entries of the cluster's log could not be read: the node learns them from the others."
_LONE = (
    " The metadata group has no other member, and this store votes no more: start the node, stop it, run "
    "`basestore node rebuild-group`, which gives up what cannot be named, and start it again."
)


def salvage(config: NodeConfig) -> str:
    """Make a store of what can be read, if it is damaged; what became of it, in words. StorageError when
    it is in use, or nothing can be read; ConfigurationError when the store is another node's."""
    if config.engine == "memory":
        raise ConfigurationError("a node without a disk has no store to salvage")
    from basestore.storage.rocks_salvage import Wreck, end, put_back, set_aside

    if not _damaged(config):
        return f"the store {config.directory} can be read: nothing was done"
    aside = set_aside(config.directory)
    try:
        wreck = Wreck(aside)
        try:
            found = _rebuild(config, wreck)
        finally:
            wreck.close()
    except (StorageError, ConfigurationError):
        put_back(config.directory, aside)
        raise
    end(config.directory)
    guess = "" if found.facts else f" {_GUESSED}: those of this version and of the configuration were taken."
    unlisted = "" if wreck.listed else " Which tables it had could not be read: some may be missing."
    return (
        f"salvaged {found.sound} records{_listed(found.by_bucket)}; {found.unsound} were damaged, and "
        f"{wreck.gaps} ranges could not be read.{unlisted}{guess}{found.log} The old files are in {aside}"
    )


def _listed(by_bucket: Counter[str]) -> str:
    """How many of each bucket, in words."""
    told = [f"{name}: {count}" for name, count in by_bucket.most_common(BUCKETS_SHOWN)]
    more = len(by_bucket) - len(told)
    return f" ({', '.join(told)}{f' and {more} buckets more' if more else ''})" if told else ""


def _damaged(config: NodeConfig) -> bool:
    try:
        engine = open_engine(config)
    except StorageError as error:
        # A store that another process holds, or whose disk has no room, is not damaged for that.
        if in_use(config.directory) or is_full(str(error)):
            raise
        return True
    try:
        deque(engine.scan(b"", b"\xff" * 9), maxlen=0)
        if not _readable(engine.get(IDENTITY)):
            return True
        if not all(readable(key, engine.get(key)) for key in facts_of(config)):
            return True
        group_commit = GroupCommit(engine, b"", waits=False)
        Summaries(group_commit, _held(config, GroupLog(group_commit).topology))
    except StorageError as error:
        if isinstance(error.__cause__, UnknownEntry):  # that is sound, and not to be passed by
            raise
        return True
    finally:
        engine.close()
    return False


def _readable(identity: bytes | None) -> bool:
    try:
        return identity is None or bool(cbor2.loads(identity))
    except cbor2.CBORError:
        return False


def _held(config: NodeConfig, topology: Topology | None) -> list[int]:
    """The partitions that the node holds, or is to hold."""
    if topology is None:
        return Placement.of(config.cluster).held_by(config.cluster.member_index(config.name))
    return [at for at, seats in enumerate(topology.seats) if config.member.number in seats.both]


class _Found(NamedTuple):
    """How many records there are, how many more were damaged, and how many this node should not hold; and
    whether format and settings could be read. `by_bucket`: the sound ones; `log`: what is to be known of the
    cluster's log, in words."""

    sound: int
    unsound: int
    foreign: int
    by_bucket: Counter[str]
    facts: bool = True
    log: str = ""


def _rebuild(config: NodeConfig, wreck: "Wreck") -> _Found:
    from basestore.storage.rocks import RocksEngine

    engine = RocksEngine(config.directory, salvaging=True)
    try:
        kept = _kept(wreck)
        engine.apply(kept)
        topology, log = _read_log(engine)
        lacking = {key: row for key, row in facts_of(config).items() if not readable(key, kept.get(key))}
        engine.apply(lacking)
        group_commit = GroupCommit(engine, b"", waits=False)
        settle_facts(group_commit, config, complete=False, logged=topology is not None)
        summaries = Summaries(group_commit, _held(config, topology))
        # Without the topology, so that of no bucket anything is refused. No row is there twice, so that rules
        # are of no account.
        buckets, names = Buckets(config.cluster.buckets), Buckets(config.cluster.buckets, topology=topology)
        clock = HybridClock(0, config.cluster.drift_ms_max)
        replica = Replica(group_commit, summaries, buckets, Digester(config.cluster.key), clock)
        _keep_promises(summaries, wreck)
        found = _take(replica, group_commit, wreck, names)._replace(facts=not lacking, log=log)
        if lacking and (found.foreign or found.unsound > found.sound):
            raise StorageError(
                f"the store {config.directory} is damaged. {_GUESSED}, and what there is of records does not "
                f"fit this version and the configuration: correct that, so that it is as it was when the "
                f"store was written, and repeat this. Nothing was changed{ELSEWHERE}"
            )
        engine.sync()
    finally:
        engine.close()
    return found


def _kept(wreck: "Wreck") -> dict[bytes, bytes]:
    """What is taken as it is. Not that all is gone of buckets that were dropped: where what said so of a row
    cannot be read, it is back."""
    kept = {key: value for each in _AS_THEY_ARE for key, value in wreck.rows(*keyspace.whole(each))}
    if not _readable(kept.get(IDENTITY)):
        kept.pop(IDENTITY, None)
    first, end = keyspace.all_dropped()
    return {key: value for key, value in kept.items() if not first <= key < end}


def _read_log(engine: "RocksEngine") -> tuple[Topology | None, str]:
    """What the store's part of the cluster's log says, as far as it can be read; the rest goes. And what is
    to be known of that, in words."""
    entries = list(engine.scan(*keyspace.entries()))

    def log(count: int) -> GroupLog | None:
        """With so many of the entries."""
        engine.apply({key: value if at < count else None for at, (key, value) in enumerate(entries)})
        try:
            return GroupLog(GroupCommit(engine, b"", waits=False))
        except StorageError as error:
            if isinstance(error.__cause__, UnknownEntry):
                raise
            return None

    count = bisect_left(range(len(entries) + 1), True, key=lambda each: log(each) is None) - 1
    found = log(count) if count >= 0 else None
    if found is None:
        engine.apply(dict.fromkeys((GROUP, BASE, *(key for key, _ in entries))))
        return None, _NO_LOG
    if found.topology is None:
        return None, ""
    present = found.topology.present
    short = count < len(entries)
    return found.topology, (_SHORT_LOG if short else "") + (_LONE if len(present) == 1 else "")


def _keep_promises(summaries: Summaries, wreck: "Wreck") -> None:
    """What was closed stays closed."""
    for key, stored in wreck.rows(*keyspace.whole(keyspace.SUMMARY)):
        partition = int.from_bytes(key[1:])
        try:
            closed = Summary.decode(stored).closed
        except ValueError:
            continue
        if partition in summaries.of:
            summaries.of[partition].closed = closed
            summaries.touch(partition)


def _take(replica: Replica, group_commit: GroupCommit, wreck: "Wreck", names: Buckets) -> _Found:
    """`names`: the buckets as people are told of them."""
    unsound = foreign = 0
    taken = Counter[bytes]()
    for key, stored in wreck.rows(*keyspace.records()):
        row = keyspace.row_of(key)
        if len(row) <= 3 or row_partition(row) not in replica.summaries.of:
            foreign += 1
            continue
        try:
            if len(stored) < STORED_BYTES_MIN:
                raise DamagedRecord(row, "it is cut off")
            replica.take_over(row, Record(stored[:-SEQUENCE_BYTES]))
            taken[row_bucket(row)] += 1
        except DamagedRecord:
            unsound += 1
        if (sum(taken.values()) + unsound) % BATCH_ROWS == 0:
            _commit(replica, group_commit)
    _commit(replica, group_commit)
    by_bucket = Counter({names.name_of(label): count for label, count in taken.items()})
    return _Found(taken.total(), unsound, foreign, by_bucket)


def _commit(replica: Replica, group_commit: GroupCommit) -> None:
    replica.summaries.summary_log.write()
    group_commit.commit()
    while group_commit.stalled:
        time.sleep(PAUSE_S)
        group_commit.engine.sync()
        group_commit.offer_again()
        group_commit.commit()
    group_commit.engine.sync()
    group_commit.durable(group_commit.sequence)
    replica.summaries.summary_log.checkpoint(lambda partition: 0)
