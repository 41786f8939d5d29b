"""Weighing: how an explanation of a key is made out of what every member says of it.

Only replicas whose word counts are weighed: one that is down, not whole, or whose record is damaged is shown,
and that is all. Of a register the winner is what is known to be chosen, whether a replica has learned it yet
or not; what some have accepted beyond that is pending (`repair/read_repair.py`). Pure; refuses to guess what
an unheard member holds.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from basestore.consistency import Level, quorums
from basestore.protocol.codec import Message
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
    ReplicaRow,
)
from basestore.protocol.replication import ACCEPTOR, BARRED, UNBOUND, AcceptorRow
from basestore.repair.digest_tree import due_of
from basestore.repair.paxos import ballot_of
from basestore.repair.read_repair import NOTHING, Agreed, Seen, agreed, beats, findable, plan, reason
from basestore.repair.rule import Rule
from basestore.repair.version import HEAD_BYTES, VERSION_BYTES, Record, Version, is_tombstone
from basestore.results.answers import SENSELESS, error_of, senseless, version_of
from basestore.results.explanation import (
    READ_LEVELS,
    AcceptorView,
    Explanation,
    Fared,
    HintView,
    Mend,
    ReplicaView,
)

Found = tuple[Version | None, ...] | None
_JOINING = {BARRED: "taking in", UNBOUND: "binding"}


class _Verdict(NamedTuple):
    """What wins, as a head or NOTHING, and why; what is found at each level; and of a register the rest, as
    in Explanation."""

    best: bytes
    reason: str
    reads: dict[Level, Found]
    known_as: Version | None = None
    pending: Version | None = None


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
    acceptors = {row.number: row for row in answer.acceptors}
    replicas: dict[str, ReplicaView] = {}
    heads: dict[int, bytes] = {}  # of those whose word counts
    for at, (name, told) in enumerate(zip(names, answer.replicas, strict=True)):
        record = Record(told.record) if told.record else None
        acceptor = acceptors.get(told.number)
        replicas[name] = _view(told, record, answer.wall_ms, unheard.get(name, ""), acceptor)
        if told.state == UP:
            heads[at] = NOTHING if record is None else record.head
    if acceptors:
        verdict = _by_acceptors(rule, answer, heads, acceptors, members)
    else:
        verdict = _by_rule(rule, heads, len(names))
    hints = _hints(answer, rule, verdict.best, members)
    mends = _mends(
        names, answer.replicas, acceptors, heads, verdict.best, rule, hints, _purged(answer, verdict.best)
    )
    return Explanation(
        key,
        bucket,
        rule,
        answer.wall_ms,
        replicas,
        hints,
        unheard,
        version_of(verdict.best[:VERSION_BYTES]),
        verdict.reason,
        verdict.reads,
        tuple(mends),
        max((replica.stable for replica in answer.replicas), default=0),
        {members[number]: (proof, claim) for number, proof, claim in answer.reach},
        dict(members),
        answer.lost,
        Fared.of(answer),
        verdict.known_as,
        verdict.pending,
    )


def _view(
    told: ReplicaRow, record: Record | None, wall_ms: int, why: str, acceptor: AcceptorRow | None
) -> ReplicaView:
    state, what = told.state, None if acceptor is None else AcceptorView.of(acceptor, told.record)
    if state == UP and record is None:
        state = "absent"
    elif state == UP and record is not None:
        state = "tombstone" if record.tombstone else "value" if record.live(wall_ms) else "expired"
        state = "intent" if record.intent else state
    elif state not in (STARTING, FORGETFUL, DAMAGED, DOWN):
        raise ValueError(f"there is no state {state!r}")
    if record is None:
        return ReplicaView(state, None, None, False, None, why, what)
    expires_ms = record.expires_ms or None
    return ReplicaView(state, record.version, record.digest, record.tombstone, expires_ms, why, what)


def _by_rule(rule: Rule, heads: Mapping[int, bytes], replicas: int) -> _Verdict:
    best = plan(rule, heads).winner

    def found(level: Level) -> Found:
        required = level.required(replicas)
        return findable(rule, heads, lambda members: len(members) >= required)

    return _Verdict(best, reason(rule, heads, best, replicas), {level: found(level) for level in READ_LEVELS})


def _by_acceptors(
    rule: Rule, answer: Explained, heads: Mapping[int, bytes], acceptors: Mapping[int, AcceptorRow],
    members: Mapping[int, str],
) -> _Verdict:  # fmt: skip
    """Of a register. A read at one finds what one replica has learned; any other what a quorum of acceptors
    knows, for it finishes what it finds unfinished."""
    seen: dict[int, Seen] = {}
    known_as: dict[bytes, Version | None] = {}  # by ballot
    for at in heads:
        number, _, learned, _ = answer.replicas[at]
        row = acceptors.get(number)
        if row is None:
            seen[number] = Seen(learned, votes=False)
        else:
            seen[number] = Seen(learned, row.accepted, row.since, row.role == ACCEPTOR)
            known_as[ballot_of(learned)] = version_of(row.learned_as)
            known_as[ballot_of(row.accepted)] = version_of(row.accepted_as)
    met = quorums(tuple(answer.old), tuple(answer.new))[Level.SERIAL].met
    told, best = agreed(seen, answer.since, met), NOTHING
    why = reason(rule, heads, NOTHING, len(answer.replicas))
    if told.chosen or told.pending:
        best, why = told.chosen[:HEAD_BYTES], _agreed_on(told, seen, len(answer.replicas), members)
    latest = {number: each.greatest[:HEAD_BYTES] for number, each in seen.items() if each.votes}
    serial = findable(rule, latest, met)
    reads = dict.fromkeys(READ_LEVELS, serial) | {Level.ONE: findable(rule, heads, bool)}
    return _Verdict(best, why, reads, *(known_as.get(ballot_of(each)) if each else None for each in told))


def _agreed_on(told: Agreed, seen: Mapping[int, Seen], replicas: int, members: Mapping[int, str]) -> str:
    """What is chosen, and why that is known; and what is not yet."""
    learned = [members[at] for at, each in seen.items() if told.chosen and each.learned == told.chosen]
    accepted = [members[at] for at, each in seen.items() if each.greatest == (told.pending or told.chosen)]
    parts = []
    if not told.chosen:
        parts.append("nothing is known to be chosen")
    elif learned:
        at = "all replicas" if len(learned) == replicas else ", ".join(learned)
        parts.append(f"chosen: learned at {at}")
    else:
        parts.append(
            f"chosen: a quorum has accepted it ({', '.join(accepted)}), and nobody has learned it yet"
        )
    if told.pending:
        parts.append(
            f"accepted at {', '.join(accepted)} is a later write, not known to be chosen: it is to be "
            f"finished, or another takes its place"
        )
    return "; ".join(parts)


def _hints(answer: Explained, rule: Rule, best: bytes, members: Mapping[int, str]) -> tuple[HintView, ...]:
    views = []
    told = answer.deferred or bytes((NOT_TOLD,)) * len(answer.hints)
    for (at, target, sort, head), marked in zip(answer.hints, told, strict=True):
        version = Version.decode(head[:VERSION_BYTES])
        wins = beats(rule, head, best)
        only_copy, late = bool(sort & ONLY_COPY), bool(sort & LATE)
        views.append(
            HintView(
                members[at], members[target], version, is_tombstone(head), only_copy, late, wins,
                None if marked == NOT_TOLD else marked == DEFERRED,
            )
        )  # fmt: skip
    return tuple(views)


def _mends(
    names: Sequence[str],
    replicas: Sequence[ReplicaRow],
    acceptors: Mapping[int, AcceptorRow],
    heads: Mapping[int, bytes],
    best: bytes,
    rule: Rule,
    hints: Sequence[HintView],
    purged: Collection[int],
) -> list[Mend]:
    """A mend for each replica that is not known to hold the winner, as far as there is one; those that
    have `purged` it are not behind."""
    mends = []
    for at, (name, (number, state, _, _)) in enumerate(zip(names, replicas, strict=True)):
        held = heads.get(at)
        waiting = [hint for hint in hints if hint.target == name and not hint.late]
        useful = [hint for hint in waiting if held is None or not _holds(rule, held, hint)]
        if state in (DAMAGED, FORGETFUL, STARTING):
            by = {DAMAGED: "healing", FORGETFUL: "recovery", STARTING: "introduction"}[state]
            mends.append(Mend(name, by))
        if useful:
            mends.append(Mend(name, "hint", tuple(dict.fromkeys(hint.at for hint in useful))))
        enough = any(hint.wins or hint.version == version_of(best[:VERSION_BYTES]) for hint in useful)
        if (row := acceptors.get(number)) is not None:
            finishes = row.accepted != b"" and ballot_of(row.accepted) >= ballot_of(best)
            if finishes:
                mends.append(Mend(name, "finishing"))
            if row.role in _JOINING:
                mends.append(Mend(name, _JOINING[row.role]))
            enough |= finishes
        behind = held is not None and held != best and at not in purged
        if not enough and (state == DOWN or behind):
            mends.append(Mend(name, "exchange" if rule.serial else "quorum read"))
    return mends


def _purged(answer: Explained, best: bytes) -> set[int]:
    """The places of replicas that hold nothing because they have purged the winner."""
    if not best:
        return set()
    holders = [replica.record for replica in answer.replicas if replica.record[:HEAD_BYTES] == best]
    if not holders:  # a register that nobody has learned yet
        return set()
    due = due_of(best, Record(holders[0]).expires_ms)
    return {at for at, (_, _, blob, stable) in enumerate(answer.replicas) if not blob and 0 < due <= stable}


def _holds(rule: Rule, held: bytes, hint: HintView) -> bool:
    """Whether a replica with this head has no more use for a hint."""
    version = hint.version.encode()
    return held[:VERSION_BYTES] == version or (held != NOTHING and rule.beats(held, version))
