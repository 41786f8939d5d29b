"""Explanation: why a key has the value it has, as it is told in words and to machines.

Which record wins and by which line of the bucket's rule, what a reader is shown at each level, and what will
mend the replicas that do not hold the winner. How that is made out of what members say: `weighing.py`. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from basestore.consistency import Level
from basestore.protocol.envelopes import CLASSES
from basestore.protocol.operator import Explained
from basestore.protocol.replication import AcceptorRow
from basestore.repair.paxos import ballot_of, ballot_text
from basestore.repair.rule import Rule
from basestore.repair.version import COUNTER_BITS, Version
from basestore.results.answers import encode_text, version_of

READ_LEVELS = (Level.ONE, Level.QUORUM, Level.ALL)
BEHIND_MS = 10_000  # further than the replica whose proofs are the newest
OVERDUE_MS = 60_000


@dataclass(frozen=True, slots=True)
class AcceptorView:
    """What a replica of a register is to its row. Ballots are the beginnings of versions, in words.

    store         the id of the store that it runs on
    role          acceptor; barred, for its store was lost, until it is taken in; unbound, where the topology
                  names another store, or none yet; memory, where it would forget what it promises
    promised      the ballot below which it accepts nothing; None: all that it had promised is closed by now
    accepted      the ballot of the record that it has accepted and not learned; None: there is none
    accepted_as   the version by which the write of that is known
    accepted_ms   for how long it has been so; None: since before this start of the node
    learned       the ballot of the record that it has learned, and holds; `learned_as` likewise
    """

    store: bytes
    role: str
    promised: str | None
    accepted: str | None
    accepted_as: Version | None
    accepted_ms: int | None
    learned: str | None
    learned_as: Version | None

    @classmethod
    def of(cls, row: AcceptorRow, learned: bytes) -> Self:
        promised, accepted, ballot = (
            ballot_text(each) if each else None
            for each in (row.promised, ballot_of(row.accepted), ballot_of(learned))
        )
        return cls(
            row.store, row.role, promised, accepted, version_of(row.accepted_as),
            None if row.age_ms < 0 else row.age_ms, ballot, version_of(row.learned_as),
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        accepted = {"ballot": self.accepted, "version": str(self.accepted_as), "age_ms": self.accepted_ms}
        learned = {"ballot": self.learned, "version": str(self.learned_as)}
        return {
            "store": self.store.hex(),
            "role": self.role,
            "promised": self.promised,
            "accepted": None if self.accepted is None else accepted,
            "learned": None if self.learned is None else learned,
        }


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One replica of the key.

    state       value, tombstone, expired, absent, or intent (of a transaction that is not settled
                there), of a replica whose word counts; otherwise damaged,
                forgetful, starting, or down
    version     of the record it holds, if it holds one; of one that is forgetful or starting too
    digest      16 bytes: the keyed digest of row, version, value and expiry
    tombstone   whether that record is a deletion
    expires_ms  milliseconds since 1970 at which it expires, or None
    reason      why it did not answer, when it is down
    acceptor    of a register, what it is to the row; None: it did not answer, or has no part in it
    """

    state: str
    version: Version | None
    digest: bytes | None
    tombstone: bool
    expires_ms: int | None
    reason: str
    acceptor: AcceptorView | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "version": None if self.version is None else str(self.version),
            "digest": None if self.digest is None else self.digest.hex(),
            "tombstone": self.tombstone,
            "expires_ms": self.expires_ms,
            "reason": self.reason,
            "acceptor": None if self.acceptor is None else self.acceptor.as_json(),
        }


@dataclass(frozen=True, slots=True)
class HintView:
    """A hint for this key: kept at the node `at`, for the replica `target`. `only_copy`: no replica is
    known to have it. `late`: it is not delivered any more, but waits for `hints replay --late`. `wins`:
    what it carries beats all that the replicas hold. `deferred`: it is of a write that the node has kept
    for later, for it had too much to do, or a limit was in the way; None: that was not told."""

    at: str
    target: str
    version: Version
    tombstone: bool
    only_copy: bool
    late: bool
    wins: bool
    deferred: bool | None = False

    def as_json(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "for": self.target,
            "version": str(self.version),
            "tombstone": self.tombstone,
            "only_copy": self.only_copy,
            "late": self.late,
            "wins": self.wins,
            "deferred": self.deferred,
        }


class Fared(NamedTuple):
    """How this request fared at the node that was asked: its class (admin), how many ms it waited until it
    was begun, how many requests its connection should have under way, and the node's brownout (0 to 2); None
    for what was not told."""

    kind: str | None
    waited_ms: int | None
    window: int | None
    brownout: int | None

    @classmethod
    def of(cls, answer: Explained) -> Self:
        kind, *numbers = answer.kind, answer.waited_ms, answer.window, answer.brownout
        named = CLASSES[kind] if 0 <= kind < len(CLASSES) else None
        return cls(named, *(None if number < 0 else number for number in numbers))


@dataclass(frozen=True, slots=True)
class Mend:
    """What will bring a replica to the winner, or make its word count.

    by  hint          those kept at the nodes `at` are delivered as soon as it can take them
        quorum read   the next exchange of anti-entropy brings it, or the next read at quorum or all,
                      whichever comes first
        healing       its damaged record is replaced by what the others hold
        recovery      it lost data, and recovers from the others
        introduction  it is starting, and waits for what the others know of its store
        exchange      the next exchange of anti-entropy brings it, to a replica of a register
        finishing     what it has accepted and not learned, it or the next read finishes
        taking in     its store was lost: it is an acceptor again once it has what the others had accepted
        binding       it is no acceptor before the metadata group has noted its store
    """

    node: str
    by: str
    at: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {"node": self.node, "by": self.by, "at": list(self.at)}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a key has the value it has.

    asked_ms  now, by the clock of the node that was asked: milliseconds since 1970
    replicas  by node name, in the order of placement
    hints     those kept for this key, by the nodes that were heard
    unheard   by node name, why it was not heard; it may keep hints that are not listed
    winner    version of the record that wins among the replicas whose word counts; None if these hold
              none. In a register that of what is chosen, as far as that is known
    known_as  in a register the version by which users know the winner: the first that its write had
    pending   in a register a later version that some have accepted, of which that is not known
    reason    the line of the rule by which it wins over the next best, or why nothing is to be decided
    reads     at each level, the versions that a read may find as things stand, the best first; None
              among them: no record. None instead: too few replicas answer for the level
    mends     what will bring the replicas that lack the winner up to it
    stable    every version up to this stamp is on all replicas, or beaten there, for good; 0: none is proven
    reach     as one replica sees it, by each other one: how far their proof with each other reaches, and
              how far its proofs with all others do; stamps, 0: nothing is proven
    members   the names of all nodes of the cluster, by number
    lost      up to which stamp writes of its partition may be lost, and nobody has accepted that; 0: none
    fared     how this request fared at the node that was asked
    """

    key: bytes
    bucket: str
    rule: Rule
    asked_ms: int
    replicas: dict[str, ReplicaView]
    hints: tuple[HintView, ...]
    unheard: dict[str, str]
    winner: Version | None
    reason: str
    reads: dict[Level, tuple[Version | None, ...] | None]
    mends: tuple[Mend, ...]
    stable: int
    reach: dict[str, tuple[int, int]]
    members: Mapping[int, str]
    lost: int
    fared: Fared
    known_as: Version | None = None
    pending: Version | None = None

    @property
    def settled(self) -> bool:
        """Whether all replicas hold the winner, or what beats it, for good. While a loss is open nobody
        can tell."""
        return self.winner is not None and self.winner.stamp <= self.stable and not self.lost

    @property
    def held_back_by(self) -> tuple[str, ...]:
        """The replicas of which it is not proven yet that they have taken all up to the winner, though
        it is of others, or should be by now; a proof follows a write by some seconds in any case."""
        if self.winner is None or self.settled:
            return ()
        newest_ms = max((proof for proof, _ in self.reach.values()), default=0) >> COUNTER_BITS
        due_ms = max(newest_ms - BEHIND_MS, self.asked_ms - OVERDUE_MS)
        due = min(self.winner.stamp, due_ms << COUNTER_BITS)
        for reach in zip(*self.reach.values(), strict=True):  # its proofs with each; then theirs with all
            behind = tuple(name for name, stamp in zip(self.reach, reach, strict=True) if stamp < due)
            if behind:
                return behind
        return ()

    @property
    def known(self) -> bool:
        """Whether any replica could say what it holds."""
        return self.reads[Level.ONE] is not None

    def as_json(self) -> dict[str, Any]:
        """As `basestore explain -o json` prints it."""
        key, encoding = encode_text(self.key)
        return {
            "key": key,
            "key_encoding": encoding,
            "bucket": self.bucket,
            "rule": self.rule.word,
            "agreed": self.rule.agreed,
            "replicas": {name: view.as_json() for name, view in self.replicas.items()},
            "winner": None if self.winner is None else str(self.winner),
            "known_as": None if self.known_as is None else str(self.known_as),
            "pending": None if self.pending is None else str(self.pending),
            "reason": self.reason,
            "hints": [hint.as_json() for hint in self.hints],
            "reads": {level.name.lower(): _texts(found) for level, found in self.reads.items()},
            "mends": [mend.as_json() for mend in self.mends],
            "settled": self.settled,
            "stable_ms": self.stable >> COUNTER_BITS or None,
            "held_back_by": list(self.held_back_by),
            "lost_ms": self.lost >> COUNTER_BITS or None,
            "unheard": self.unheard,
            "class": self.fared.kind,
            "waited_ms": self.fared.waited_ms,
            "window": self.fared.window,
            "brownout": self.fared.brownout,
        }


def _texts(found: tuple[Version | None, ...] | None) -> list[str | None] | None:
    return None if found is None else [None if version is None else str(version) for version in found]
