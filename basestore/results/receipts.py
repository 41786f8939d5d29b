"""Receipts: what reads and writes return, with everything that can truthfully be said of them.

A write returns a `Receipt`: what became of it when its level was reached, replica by replica. A read returns
a `ReadResult`, a scan `Item`s. Also how these are made out of the answers of nodes. Pure; what is not in an
answer is not guessed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, make_dataclass
from typing import Any, Generic, NamedTuple, TypeVar, cast

from basestore.consistency import Level, Outcome, ReplicaState
from basestore.errors import BasestoreError
from basestore.protocol.anti_entropy import LossRow
from basestore.protocol.client import (
    FINAL,
    LOSSY,
    OUTCOME_DEFERRED,
    OUTCOME_LOST,
    OUTCOME_STORED,
    OUTCOME_SUPERSEDED,
    Got,
    Page,
    Written,
)
from basestore.protocol.codec import Message
from basestore.protocol.groups import Found, Stored
from basestore.protocol.handshake import Names
from basestore.repair.version import Identity, Version
from basestore.results.answers import SENSELESS, encode_text, error_of, senseless, version_of

T = TypeVar("T")
PLACES_SHOWN = 10
_OUTCOMES = {
    OUTCOME_STORED: Outcome.STORED,
    OUTCOME_SUPERSEDED: Outcome.SUPERSEDED,
    OUTCOME_LOST: Outcome.LOST,
    OUTCOME_DEFERRED: Outcome.DEFERRED,
}
_STORED = Outcome.STORED
_STATES = {state.value: state for state in ReplicaState}


def _text(version: Version | None) -> str | None:
    return None if version is None else str(version)


class Writes(NamedTuple):
    """Some writes to one partition: the least of their stamps, and at how many replicas each was known to be,
    at least; of so many at most, 0 where that is not known. `by_quorum`: a quorum has acknowledged each."""

    stamp: int
    known_at: int
    replicas: int = 0
    by_quorum: bool = False

    def may_be_in(self, row: LossRow, replicas: int) -> bool:
        """Whether one of them may be gone with this loss, accepted or not, of a partition that has so many
        replicas now. There may have been more when it was written."""
        if row.upto < self.stamp:
            return False
        spared = self.by_quorum and row.sources >= row.needed
        met = spared or row.sources > max(replicas, self.replicas) - self.known_at
        return row.open or not met


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a write.

    outcome        STORED; SUPERSEDED: a newer write won; LOST: an earlier write holds a first-write key;
                   DEFERRED: the node was overloaded, or a limit was in the way. It keeps the write, durably,
                   as hints for all replicas, and delivers it later; `converged` tells when it is everywhere
    final          first-write buckets: whether the win, this one's or that of the write it lost to, can
                   no longer be contested; None elsewhere
    identity       what this write is known by: to repeat it, as `repeat` of the same call
    required       replicas that the level requires; `acknowledged` have applied it as the winner
    replicas       by node name, what was known of each when the level was reached
    superseded_by  the version that won where this one did not
    partition      that the key is in
    cluster        the id of the one that was written to
    keeper         where it was deferred: the id of the store that keeps it; otherwise empty
    because        where it was deferred for a limit: which, as "takes 2 requests a second for bucket 'b'
                   (requests_per_s)"; otherwise empty
    """

    outcome: Outcome
    final: bool | None
    identity: Identity
    level: Level
    required: int
    acknowledged: int
    replicas: dict[str, ReplicaState]
    superseded_by: Version | None
    partition: int
    cluster: bytes
    keeper: bytes = b""
    because: str = ""

    def __bool__(self) -> bool:
        """Whether the write was stored, or is kept to be stored."""
        return self.outcome in (Outcome.STORED, Outcome.DEFERRED)

    @property
    def version(self) -> Version | None:
        """Of this write; None if it lost before it was stamped."""
        return self.identity.version

    @property
    def applied(self) -> bool:
        """Whether any replica was known to hold this write, or what beat it, when the level was reached:
        of a write at ANY there may be hints only."""
        states = self.replicas.values()
        only_hints = ReplicaState.HINTED in states and ReplicaState.APPLIED not in states
        return not self or not only_hints

    @property
    def known_at(self) -> int:
        """How many replicas were known to hold this write when the level was reached, or what beat it: as
        many as a read of that asks, if it was found before the write was sent; one, if they objected to it,
        for each may have told another version."""
        if not self:
            return self.required if self.version is None else 1
        return sum(state is ReplicaState.APPLIED for state in self.replicas.values())

    def rests_on(self, stamp: int) -> Writes:
        """On how many stores this write rests, of this stamp, or what beat it."""
        by_quorum = self.level >= Level.QUORUM and (bool(self) or self.version is None)
        return Writes(stamp, self.known_at, len(self.replicas), by_quorum)

    def as_json(self) -> dict[str, Any]:
        """As `basestore set -o json` prints it."""
        return {
            "outcome": self.outcome.value,
            "final": self.final,
            "version": _text(self.version),
            "identity": str(self.identity),
            "level": self.level.name.lower(),
            "required": self.required,
            "acknowledged": self.acknowledged,
            "replicas": {name: state.name.lower() for name, state in self.replicas.items()},
            "superseded_by": _text(self.superseded_by),
            "partition": self.partition,
            "cluster": self.cluster.hex(),
            "because": self.because,
        }


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a read found.

    found      whether there is a value; a key that is missing, deleted or expired has none
    version    of the winner, a tombstone's included; None if no asked replica knows the key
    expires_ms milliseconds since 1970 at which the value expires, or None
    responded  replicas that answered, of `required` that the level requires
    diverged   whether they held different versions; `repaired` were brought up to date
    level      that it was read at; `escalated`: at QUORUM, for one replica's answer was too stale
    final      first-write buckets: whether the value can no longer be contested; None elsewhere
    stale_by_at_most  seconds: writes that ended longer before the read are in it. 0 at QUORUM and ALL; at
               ONE None when it was not asked for, or cannot be known now; None at all levels while writes of
               its partition may be lost, and nobody has accepted that
    degraded   the level that was asked for was not reached, and one replica has answered: `because` says why
    """

    found: bool
    value: bytes | None
    version: Version | None
    expires_ms: int | None
    level: Level
    required: int
    responded: int
    diverged: bool
    repaired: int
    final: bool | None = None
    stale_by_at_most: float | None = None
    escalated: bool = False
    degraded: bool = False
    because: str = ""

    def __bool__(self) -> bool:
        """Whether there is a value; an empty one is one."""
        return self.found

    @property
    def text(self) -> str | None:
        """The value as text, or None; UnicodeDecodeError where it is not UTF-8."""
        return None if self.value is None else self.value.decode()

    def as_json(self) -> dict[str, Any]:
        """As `basestore get -o json` prints it."""
        value, encoding = encode_text(self.value)
        return {
            "found": self.found,
            "value": value,
            "encoding": encoding,
            "version": _text(self.version),
            "expires_ms": self.expires_ms,
            "level": self.level.name.lower(),
            "required": self.required,
            "responded": self.responded,
            "diverged": self.diverged,
            "repaired": self.repaired,
            "final": self.final,
            "stale_by_at_most_s": self.stale_by_at_most,
            "escalated": self.escalated,
            "degraded": self.degraded,
            "because": self.because or None,
        }


@dataclass(frozen=True, slots=True)
class Item:
    """One key of a scan. `expires_ms` as in `ReadResult`."""

    key: bytes
    value: bytes
    version: Version
    expires_ms: int | None

    @property
    def text(self) -> str:
        """The value as text; UnicodeDecodeError where it is not UTF-8."""
        return self.value.decode()


class Many(list[T | BasestoreError], Generic[T]):
    """What became of many calls, each in its place: what the call returned, or the error of the one that
    failed. It is a list of these."""

    def raise_for_errors(self) -> list[T]:
        """What the calls returned, if none has failed; otherwise an ExceptionGroup of all errors."""
        failed = {place: result for place, result in enumerate(self) if isinstance(result, BasestoreError)}
        if failed:
            places = ", ".join(map(str, list(failed)[:PLACES_SHOWN]))
            more = ", ..." if len(failed) > PLACES_SHOWN else ""
            text = f"{len(failed)} of {len(self)} calls failed (counted from 0: {places}{more})"
            raise ExceptionGroup(text, list(failed.values()))
        return [result for result in self if not isinstance(result, BasestoreError)]


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
        )
    except SENSELESS as error:
        raise senseless(answer) from error


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
            found[key] = Item(key, result.value, result.version, result.expires_ms)
    return [found[key] for key in sorted(found)]
