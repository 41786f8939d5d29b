"""Readers: how receipts, results and items are made out of the answers of nodes.

Each reader takes an answer and gives what the caller is shown; where the answer is no answer to that, it
raises the error that it stands for. Those of many answers read columns. Pure; what is not in an answer is not
guessed.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, make_dataclass
from typing import Any, TypeVar, cast

from basestore.consistency import Level, Outcome, ReplicaState
from basestore.errors import BasestoreError, RequestFailed
from basestore.protocol.client import (
    FINAL,
    LOSSY,
    OUTCOME_DEFERRED,
    OUTCOME_LOST,
    OUTCOME_STORED,
    OUTCOME_SUPERSEDED,
    BatchWritten,
    Committed,
    Got,
    Page,
    Watched,
    Written,
)
from basestore.protocol.codec import Message
from basestore.protocol.groups import Found, Stored
from basestore.protocol.handshake import Names
from basestore.repair.version import CHECK_BYTES, NO_PROPOSAL, VERSION_BYTES, Identity, Version
from basestore.results.answers import SENSELESS, error_of, senseless, version_of
from basestore.results.receipts import BatchReceipt, Change, Event, Gap, Item, Progress, ReadResult, Receipt

T = TypeVar("T")
_OUTCOMES = {
    OUTCOME_STORED: Outcome.STORED,
    OUTCOME_SUPERSEDED: Outcome.SUPERSEDED,
    OUTCOME_LOST: Outcome.LOST,
    OUTCOME_DEFERRED: Outcome.DEFERRED,
}
_STORED = Outcome.STORED
_STATES = {state.value: state for state in ReplicaState}


def _maker(kind: type[T]) -> Callable[..., T]:
    """Makes a frozen dataclass out of the values of its fields. Its own initialiser sets each field through a
    call, which takes three times as long as all of this."""
    names = [(field.name, object) for field in fields(cast(Any, kind))]
    alike: Any = make_dataclass(kind.__name__, names, slots=True)

    def make(*values: Any) -> T:
        made: T = alike(*values)
        made.__class__ = kind
        return made

    return make


_receipt, _read_result = _maker(Receipt), _maker(ReadResult)


def receipt(answer: Message, level: Level, members: Names) -> Receipt:
    """Read the answer to a set or delete; raises the error it stands for."""
    if not isinstance(answer, Written):
        raise error_of(answer)
    # Whatever level was asked for, there is one in a register; and it alone says that it holds nothing.
    if answer.order or (answer.outcome == OUTCOME_LOST and not answer.better):
        level = Level.SERIAL
    try:
        return _receipt(
            _OUTCOMES[answer.outcome],
            answer.final == FINAL if answer.final else None,
            Identity.decode(answer.identity),
            level,
            answer.required,
            answer.acknowledged,
            _states(answer.replicas, members),
            version_of(answer.better) if answer.better else None,
            answer.partition,
            members.cluster,
            answer.keeper,
            answer.because,
            answer.value if answer.held else None,
            answer.order,
        )
    except SENSELESS as error:
        raise senseless(answer) from error


def fenced_receipt(answer: Message, members: Names) -> Receipt:
    """The same of a write that stood in a transaction by itself. It is known by its version, and cannot be
    repeated as itself."""
    if not isinstance(answer, Committed):
        raise error_of(answer)
    try:
        (version,), (partition,), (required,) = answer.versions, answer.partitions, answer.required
        identity = Identity(NO_PROPOSAL, Version.decode(version), bytes(CHECK_BYTES))
    except SENSELESS as error:
        raise senseless(answer) from error
    of = partition, members.cluster
    return Receipt(Outcome.STORED, None, identity, Level.SERIAL, required, required, {}, None, *of)


def batch_receipt(
    level: Level, identity: bytes, places: Sequence[tuple[str, bytes]], answer: Message, members: Names
) -> BatchReceipt:
    """Read the answer to an atomic batch, of these buckets and keys; raises the error it stands for."""
    if not isinstance(answer, BatchWritten):
        error = error_of(answer)
        if isinstance(error, RequestFailed) and not error.definite:
            error.identity = error.identity or Identity.decode(identity)
        raise error
    try:
        columns = zip(places, answer.versions, answer.partitions, answer.required, strict=True)
        each = {
            place: Receipt(
                _STORED, None, _written_as(version), level, required, required, {}, None, partition,
                members.cluster,
            )
            for place, version, partition, required in columns
        }  # fmt: skip
        return BatchReceipt(Identity.decode(answer.identity), level, each)
    except SENSELESS as error:
        raise senseless(answer) from error


def _written_as(version: bytes) -> Identity:
    """It cannot be repeated as itself, but with its batch."""
    return (
        Identity(NO_PROPOSAL, Version.decode(version), bytes(CHECK_BYTES))
        if version
        else Identity(NO_PROPOSAL)
    )


def receipts(answer: Stored, level: Level, members: Names) -> list[Receipt]:
    """Read the answer to many of them, in its order."""
    _, identities, partitions, required, acknowledged, replicas = answer
    decode, cluster = Identity.decode, members.cluster
    try:
        states = _states(replicas, members)
        return [
            _receipt(
                _STORED,
                None,
                decode(each),
                level,
                required,
                acknowledged,
                states.copy(),
                None,
                at,
                cluster,
                b"",
                "",
                None,
                b"",
            )
            for each, at in zip(identities, partitions, strict=True)
        ]
    except SENSELESS as error:
        raise senseless(answer) from error


def _states(replicas: list[int], members: Names) -> dict[str, ReplicaState]:
    """What was known of each, by its name."""
    each = iter(replicas)
    return {members[number]: _STATES[state] for number, state in zip(each, each, strict=True)}


def read_result(answer: Message, level: Level) -> ReadResult:
    """Read the answer to a get; raises the error it stands for."""
    if not isinstance(answer, Got):
        raise error_of(answer)
    try:
        version = version_of(answer.version)
        if answer.degraded and answer.stale_ms < 0:
            raise ValueError("degraded, and nobody knows how stale")
    except SENSELESS as error:
        raise senseless(answer) from error
    if answer.escalated:
        level = Level.QUORUM
    if answer.degraded:
        level = Level.ONE
    if answer.order and level is not Level.ONE:
        level = Level.SERIAL
    stale_ms = answer.stale_ms if level is Level.ONE or answer.stale_ms == LOSSY else 0
    return _read_result(
        answer.found,
        answer.value if answer.found else None,
        version,
        answer.expires_ms or None,
        level,
        answer.required,
        answer.responded,
        answer.diverged,
        answer.repaired,
        answer.final == FINAL if answer.final else None,
        stale_ms / 1e3 if stale_ms >= 0 else None,
        answer.escalated,
        answer.degraded,
        answer.because,
        answer.order,
    )


def read_results(answer: Found, level: Level) -> list[ReadResult]:
    """Read the answer to many of them, in its order."""
    required, responded, decode = answer.required, answer.responded, Version.decode
    stale = None if level is Level.ONE else 0.0
    return [
        _read_result(
            True,
            value,
            decode(version),
            None,
            level,
            required,
            responded,
            False,
            0,
            None,
            stale,
            False,
            False,
            "",
            b"",
        )
        for value, version in zip(answer.values, answer.versions, strict=True)
    ]


def page(answer: Message) -> tuple[list[Item], bytes | None]:
    """Read the answer to a scan: its items, and where to go on, None at the end."""
    if not isinstance(answer, Page):
        raise error_of(answer)
    rows = answer.rows
    try:
        items = [
            Item(key, value, Version.decode(version), int.from_bytes(expiry) or None)
            for key, value, version, expiry in zip(rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True)
        ]
    except SENSELESS as error:
        raise senseless(answer) from error
    return items, answer.after if answer.more else None


def watched(answer: Message) -> tuple[int, list[Event]]:
    """Read the answer to a Watch: by which number the feed goes on, 0 where it has ended, and what it
    tells."""
    if not isinstance(answer, Watched):
        raise error_of(answer)
    rows, events = answer.rows, list[Event]()
    for key, meta, value in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        known_as, order = meta[:VERSION_BYTES], meta[VERSION_BYTES : 2 * VERSION_BYTES]
        shown, expires_ms = None if meta[-1] else value, int.from_bytes(meta[2 * VERSION_BYTES : -1])
        events.append(Change(key, shown, Version.decode(known_as), order, expires_ms or None))
    if answer.gap:
        events.append(Gap(answer.gap))
    if answer.token:
        events.append(Progress(answer.stable, answer.token, answer.unserved))
    return answer.feed, events


def revised(
    items: Sequence[Item], keys: Sequence[bytes], results: Sequence[ReadResult | BasestoreError]
) -> list[Item]:
    """A page of a scan, in key order, with what single reads of `keys` found in place of what it said
    of these. Raises the first error among the results."""
    found = {item.key: item for item in items}
    for key, result in zip(keys, results, strict=True):
        if isinstance(result, BasestoreError):
            raise result
        found.pop(key, None)
        if result.value is not None and result.version is not None:
            found[key] = Item(key, result.value, result.version, result.expires_ms, result.order)
    return [found[key] for key in sorted(found)]
