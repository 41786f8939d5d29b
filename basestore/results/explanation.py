"""Explanation: why a key has the value it has, out of what every member knows of it.

A node gathers what its members hold; what that means is worked out here, in the client: which record wins
and by which line of the bucket's rule, what a reader is shown at each level, and what will mend the replicas
that do not hold the winner. Only replicas whose word counts are weighed: one that is down, not whole, or
whose record is damaged is shown, and that is all. Pure; refuses to guess what an unheard member holds.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from basestore.consistency import Level
from basestore.protocol.codec import Message
from basestore.protocol.envelopes import CLASSES
from basestore.protocol.operator import (
    DAMAGED,
    DEFERRED,
    DOWN,
    FORGETFUL,
    LATE,
    NOT_TOLD,
    ONLY_COPY,
    STARTING,
    UP,
    Explained,
)
from basestore.repair.digest_tree import due_of
from basestore.repair.read_repair import NOTHING, plan
from basestore.repair.rule import Rule
from basestore.repair.version import COUNTER_BITS, HEAD_BYTES, VERSION_BYTES, Record, Version, is_tombstone
from basestore.results.answers import SENSELESS, encode_text, error_of, senseless, version_of

READ_LEVELS = (Level.ONE, Level.QUORUM, Level.ALL)
BEHIND_MS = 10_000  # further than the replica whose proofs are the newest
OVERDUE_MS = 60_000


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One replica of the key.

    state       value, tombstone, expired or absent, of a replica whose word counts; otherwise damaged,
                forgetful, starting, or down
    version     of the record it holds, if it holds one; of one that is forgetful or starting too
    digest      16 bytes: the keyed digest of row, version, value and expiry
    tombstone   whether that record is a deletion
    expires_ms  milliseconds since 1970 at which it expires, or None
    reason      why it did not answer, when it is down
    """

    state: str
    version: Version | None
    digest: bytes | None
    tombstone: bool
    expires_ms: int | None
    reason: str

    def as_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "version": None if self.version is None else str(self.version),
            "digest": None if self.digest is None else self.digest.hex(),
            "tombstone": self.tombstone,
            "expires_ms": self.expires_ms,
            "reason": self.reason,
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
              none
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
            "rule": self.rule.value,
            "replicas": {name: view.as_json() for name, view in self.replicas.items()},
            "winner": None if self.winner is None else str(self.winner),
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


def explanation(answer: Message, bucket: str, key: bytes, members: Mapping[int, str]) -> Explanation:
    """Read the answer to an Explain; raises the error it stands for. `members`: the names, by number."""
    if not isinstance(answer, Explained):
        raise error_of(answer)
    try:
        return _explain(answer, bucket, key, members)
    except SENSELESS as error:
        raise senseless(answer) from error


def _explain(answer: Explained, bucket: str, key: bytes, members: Mapping[int, str]) -> Explanation:
    rule = Rule(answer.rule)
    names = [members[replica.number] for replica in answer.replicas]
    unheard = {members[number]: reason for number, reason in answer.unheard}
    replicas: dict[str, ReplicaView] = {}
    heads: dict[int, bytes] = {}  # of those whose word counts
    for at, (name, (_, state, blob, _)) in enumerate(zip(names, answer.replicas, strict=True)):
        record = Record(blob) if blob else None
        replicas[name] = _view(state, record, answer.wall_ms, unheard.get(name, ""))
        if state == UP:
            heads[at] = NOTHING if record is None else record.head
    best = plan(rule, heads).winner
    hints = _hints(answer, rule, best, members)
    return Explanation(
        key,
        bucket,
        rule,
        answer.wall_ms,
        replicas,
        hints,
        unheard,
        version_of(best[:VERSION_BYTES]),
        _reason(rule, heads, best, len(names)),
        {level: _found(rule, heads, level.required(len(names))) for level in READ_LEVELS},
        tuple(
            _mends(
                names,
                [replica.state for replica in answer.replicas],
                heads,
                best,
                rule,
                hints,
                _purged(answer, best),
            )
        ),
        max((replica.stable for replica in answer.replicas), default=0),
        {members[number]: (proof, claim) for number, proof, claim in answer.reach},
        dict(members),
        answer.lost,
        Fared.of(answer),
    )


def _view(state: str, record: Record | None, wall_ms: int, reason: str) -> ReplicaView:
    if state == UP and record is None:
        state = "absent"
    elif state == UP and record is not None:
        state = "tombstone" if record.tombstone else "value" if record.live(wall_ms) else "expired"
    elif state not in (STARTING, FORGETFUL, DAMAGED, DOWN):
        raise ValueError(f"there is no state {state!r}")
    if record is None:
        return ReplicaView(state, None, None, False, None, reason)
    return ReplicaView(
        state, record.version, record.digest, record.tombstone, record.expires_ms or None, reason
    )


def _hints(answer: Explained, rule: Rule, best: bytes, members: Mapping[int, str]) -> tuple[HintView, ...]:
    views = []
    told = answer.deferred or bytes((NOT_TOLD,)) * len(answer.hints)
    for (at, target, sort, head), marked in zip(answer.hints, told, strict=True):
        version = Version.decode(head[:VERSION_BYTES])
        wins = _beats(rule, head, best)
        only_copy, late = bool(sort & ONLY_COPY), bool(sort & LATE)
        views.append(
            HintView(
                members[at], members[target], version, is_tombstone(head), only_copy, late, wins,
                None if marked == NOT_TOLD else marked == DEFERRED,
            )
        )  # fmt: skip
    return tuple(views)


def _beats(rule: Rule, head: bytes, holder: bytes) -> bool:
    """Whether a record replaces what is held, if anything is."""
    return holder == NOTHING or (head != NOTHING and rule.beats(head, holder))


def _reason(rule: Rule, heads: Mapping[int, bytes], best: bytes, replicas: int) -> str:
    """The line of the rule that decides between the best record and the next best."""
    if not heads:
        return "no replica could say what it holds"
    if best == NOTHING:
        return "nobody holds it" if len(heads) == replicas else "no replica that answers holds it"
    others = {at: head for at, head in heads.items() if head not in (best, NOTHING)}
    if others:
        return rule.line(best, plan(rule, others).winner)
    if NOTHING in heads.values():
        return "the only record"
    return "all replicas agree" if len(heads) == replicas else "all replicas that answer agree"


def _found(rule: Rule, heads: Mapping[int, bytes], required: int) -> tuple[Version | None, ...] | None:
    """What a read of so many replicas may find. Whichever answer, it finds the best of them: so a
    record may be found if as many replicas hold it, or one that it beats."""
    if len(heads) < required:
        return None
    found = []
    left = dict(heads)
    while len(left) >= required:
        best = plan(rule, left).winner
        found.append(version_of(best[:VERSION_BYTES]))
        left = {at: head for at, head in left.items() if head != best}
    return tuple(found)


def _mends(
    names: Sequence[str],
    states: Sequence[str],
    heads: Mapping[int, bytes],
    best: bytes,
    rule: Rule,
    hints: Sequence[HintView],
    purged: Collection[int],
) -> list[Mend]:
    """A mend for each replica that is not known to hold the winner, as far as there is one; those that
    have `purged` it are not behind."""
    mends = []
    for at, (name, state) in enumerate(zip(names, states, strict=True)):
        held = heads.get(at)
        waiting = [hint for hint in hints if hint.target == name and not hint.late]
        useful = [hint for hint in waiting if held is None or not _holds(rule, held, hint)]
        if state in (DAMAGED, FORGETFUL, STARTING):
            by = {DAMAGED: "healing", FORGETFUL: "recovery", STARTING: "introduction"}[state]
            mends.append(Mend(name, by))
        if useful:
            mends.append(Mend(name, "hint", tuple(dict.fromkeys(hint.at for hint in useful))))
        enough = any(hint.wins or hint.version == version_of(best[:VERSION_BYTES]) for hint in useful)
        behind = held is not None and held != best and at not in purged
        if not enough and (state == DOWN or behind):
            mends.append(Mend(name, "quorum read"))
    return mends


def _purged(answer: Explained, best: bytes) -> set[int]:
    """The places of replicas that hold nothing because they have purged the winner."""
    if not best:
        return set()
    holder = next(replica.record for replica in answer.replicas if replica.record[:HEAD_BYTES] == best)
    due = due_of(best, Record(holder).expires_ms)
    return {at for at, (_, _, blob, stable) in enumerate(answer.replicas) if not blob and 0 < due <= stable}


def _holds(rule: Rule, held: bytes, hint: HintView) -> bool:
    """Whether a replica with this head has no more use for a hint."""
    version = hint.version.encode()
    return held[:VERSION_BYTES] == version or (held != NOTHING and rule.beats(held, version))
