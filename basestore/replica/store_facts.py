"""Store facts: the settings that a store's rows were placed and written under, kept in the store itself, and
the number of the form in which it keeps them.

The number is written with a store's first batch and read before anything else. A store of another number, or
one that has rows and no number, is refused by name: what stands there would be misread. Nothing is converted
here. The number goes up with every change of what a key or a value looks like.

A row is where placement put it, is older or newer by its bucket's rule, and is sealed with the cluster's key.
Under other members, zones, another replication, number of partitions, rule or key it would be looked for
elsewhere, or judged otherwise, by nodes that all agree with each other. So a store keeps the text of these
settings and its digest, and does not open under others: each setting that differs is named.

It keeps the cluster's feature level too, from which on it may hold what older releases cannot read: a node
that is to speak less does not open it.

Addresses, the clock's bound and timeouts are no part of it. A bucket that the store does not know yet is
added to the text, for nothing was written under another rule; from then on it is part of it. One that is
taken out again, or is given another rule, is let go while the store holds nothing of it:

    n3 alone is started with [buckets.typo]       its store is bound to that; its peers refuse n3
    n3 is started without it                      no record, tombstone or hint of typo: it is let go
    there is one                                  refused: the bucket must come back, on every node

That is looked up in the store itself, at its opening, and only then. What other nodes hold of the bucket
binds them: they refuse to open without it, or to link with who has no such bucket.
"""

import hashlib
import json
from collections.abc import Callable

from basestore.cluster.feature_level import FeatureLevel
from basestore.cluster.peers import Peers
from basestore.config import NodeConfig
from basestore.errors import ConfigurationError, StorageError
from basestore.protocol.handshake import differences
from basestore.protocol.limits import WIRE_HIGHEST, WIRE_LOWEST
from basestore.replica.group_commit import GroupCommit
from basestore.rows import row_bucket, rows_begin
from basestore.storage import keyspace

FORMAT = 3
FORMAT_KEY = keyspace.fact("format")
_FORMAT_BYTES = 4
FACTS = keyspace.fact("settings")
LEVEL = keyspace.fact("feature level")
_LEVEL_BYTES = 2
_DIGEST_BYTES = 16
_OWNER = "this node"
_BUCKET = "bucket "
_FOR_LIFE = frozenset((_OWNER, "cluster id", "cluster key", "partitions"))

_Facts = dict[str, str | int]


def settle_facts(
    group_commit: GroupCommit, config: NodeConfig, *, complete: bool = True, logged: bool = False
) -> list[str]:
    """Stage format and settings in a new store; StorageError where a store has another format,
    ConfigurationError where it was written under other settings. `complete`: all that the store holds is in
    it by now; `logged`: what the cluster is stands in a log that the store keeps, so only what never changes
    is compared. Returns what was let go, in words."""
    new = _settle_format(group_commit, config)
    ours = _ours(config)
    held = {} if new else _read(group_commit, config)
    if logged:
        held = ours | {name: fact for name, fact in held.items() if name in _FOR_LIFE}
    known = {name: fact for name, fact in ours.items() if name in held or not name.startswith(_BUCKET)}
    differing = sorted(
        name for name in known.keys() | held.keys() if held and known.get(name) != held.get(name)
    )
    buckets = [name for name in differing if name.startswith(_BUCKET)]
    # Under other settings of the rest nothing would be found where it is looked for.
    looked = complete and buckets == differing
    empty = [name for name in buckets if looked and not _holds(group_commit, config, name)]
    if differing != empty:
        held = {name: fact for name, fact in held.items() if name not in empty}
        known = {name: fact for name, fact in known.items() if name not in empty}
        raise ConfigurationError(_refusal(config, known, held))
    if ours != held:
        group_commit.stage(FACTS, _packed(ours))
    return [
        f"the store holds nothing of {name}, and is bound to its rule, {held[name]}, no more"
        for name in empty
    ]


def _holds(group_commit: GroupCommit, config: NodeConfig, name: str) -> bool:
    """Whether the store holds a record, a tombstone or a hint of the bucket with this fact."""
    bucket, scan = name.removeprefix(_BUCKET).encode(), group_commit.engine.scan
    for partition in range(config.cluster.partitions):
        if next(scan(*keyspace.records_beginning(rows_begin(partition, bucket))), None) is not None:
            return True
    return any(row_bucket(keyspace.row_of_hint(key)) == bucket for key, _ in scan(*keyspace.hints()))


def open_level(group_commit: GroupCommit, config: NodeConfig, peers: Peers) -> FeatureLevel:
    """The feature level as the store has it, after `settle_facts`. ConfigurationError where it is above what
    this node is to speak."""
    stored = group_commit.get(LEVEL)
    if stored is None or len(stored) != _LEVEL_BYTES:
        new = group_commit.engine.get(FORMAT_KEY) is None  # it is staged
        stored = (0 if new else WIRE_LOWEST).to_bytes(_LEVEL_BYTES)
        group_commit.stage(LEVEL, stored)
    level, highest = int.from_bytes(stored), config.wire_highest
    if level > highest:
        raised = f"Set [node] wire_highest to {level}, or leave it out"
        raise ConfigurationError(
            f"the store in {config.directory} may hold what only releases that speak version {level} of the "
            f"wire can read, for that is its cluster's feature level; this node speaks {highest} at most. "
            f"Nothing was changed. {raised if level <= WIRE_HIGHEST else 'Start a later release'}"
        )

    def keep(risen: int, then: Callable[[], None]) -> None:
        group_commit.stage(LEVEL, risen.to_bytes(_LEVEL_BYTES))
        group_commit.when_durable(then)

    return FeatureLevel(level, highest, peers, keep)


def facts_of(config: NodeConfig) -> dict[bytes, bytes]:
    """The rows of format and settings that a store of this version under this configuration has."""
    return {FORMAT_KEY: FORMAT.to_bytes(_FORMAT_BYTES), FACTS: _packed(_ours(config))}


def readable(key: bytes, stored: bytes | None) -> bool:
    """Whether a row of these can be read: what stands in it may still be another format or other settings."""
    if stored is None:
        return False
    return len(stored) == _FORMAT_BYTES if key == FORMAT_KEY else _unpacked(stored) is not None


def _ours(config: NodeConfig) -> _Facts:
    return {_OWNER: f"{config.name}, number {config.member.number}", **config.cluster.binding()}


def _settle_format(group_commit: GroupCommit, config: NodeConfig) -> bool:
    """Whether the store is new: the number is then staged. StorageError where a store has another, or
    none."""
    engine = group_commit.engine
    stored = engine.get(FORMAT_KEY)
    if stored is not None and readable(FORMAT_KEY, stored):
        found = f"has format {int.from_bytes(stored)}"
        if int.from_bytes(stored) == FORMAT:
            return False
    elif next(engine.scan(b"", b"\xff"), None) is None:
        group_commit.stage(FORMAT_KEY, FORMAT.to_bytes(_FORMAT_BYTES))
        return True
    elif engine.get(FACTS) is not None:  # this version has written it: both came with the first batch
        raise StorageError(_damage(config, "the number of its format"))
    else:
        found = "says no format"
    raise StorageError(
        f"the store in {config.directory} {found}; this version reads format {FORMAT}. Start the version "
        f"that wrote it. Or see `basestore status`: if the other nodes are up and hold what it held, move "
        f"the directory away and start again: the node will recover from them"
    )


def _damage(config: NodeConfig, what: str) -> str:
    return (
        f"the store in {config.directory} is damaged: {what} cannot be read. See `basestore status`: if the "
        f"other nodes are up and hold what it held, move the directory away and start again: the node will "
        f"recover from them. Otherwise see that the configuration is that under which it was written, and "
        f"start the node once with `basestore serve --config FILE --salvage`, which goes by that"
    )


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()


def _packed(facts: _Facts) -> bytes:
    text = json.dumps(facts, sort_keys=True).encode()
    return _digest(text) + text


def _unpacked(stored: bytes) -> _Facts | None:
    """None when it is damaged."""
    text = stored[_DIGEST_BYTES:]
    if not text or _digest(text) != stored[:_DIGEST_BYTES]:
        return None
    facts: _Facts = json.loads(text)
    return facts


def _read(group_commit: GroupCommit, config: NodeConfig) -> _Facts:
    held = _unpacked(group_commit.get(FACTS) or b"")
    if held is None:
        raise StorageError(_damage(config, "the settings that it was written under"))
    return held


def _refusal(config: NodeConfig, ours: _Facts, held: _Facts) -> str:
    sides = "in the configuration", "in the store"
    listed = differences(json.dumps(ours), json.dumps(held), *sides)
    if ours[_OWNER] != held[_OWNER]:
        advice = "Correct [node] name or directory, so that each node opens its own store"
    else:
        lines = [
            f"[buckets.{json.dumps(name.removeprefix(_BUCKET))}] with rule = {json.dumps(held[name])}"
            for name in sorted(held)
            if name.startswith(_BUCKET) and ours.get(name) != held[name]
        ]
        again = f" (the lines {'; '.join(lines)} in the file of every node)" if lines else ""
        advice = (
            f"Put these settings back as they are in the store, on every node{again}, for under others what "
            "it holds would not be found, or be judged otherwise: names of members, zones, replication, "
            "partitions, the key and the rule of a bucket that holds something cannot be changed yet; "
            "addresses can; buckets can be added. "
            "Leave the store where it is: `basestore status` shows whether the others hold what it holds"
        )
    told = f"the store in {config.directory} was written under other settings: {'; '.join(listed)}"
    return f"{told}. Nothing was changed. {advice}"
