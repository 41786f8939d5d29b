"""Receipts: what reads and writes return, with everything that can truthfully be said of them.

A write returns a `Receipt`: what became of it when its level was reached, replica by replica. A read returns
a `ReadResult`, a scan `Item`s; many calls a `Many`. `readers` makes them out of what nodes answer. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from basestore.consistency import Level, Outcome, ReplicaState
from basestore.errors import BasestoreError
from basestore.protocol.anti_entropy import LossRow
from basestore.repair.version import COUNTER_BITS, NO_PROPOSAL, Identity, Version
from basestore.results.answers import encode_text

T = TypeVar("T")
PLACES_SHOWN = 10
NUMBER_PASSED = (
    "the increment was made, once; which number it gave is not known any more, for the key was written after "
    "it"
)


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

    outcome        STORED; SUPERSEDED: a newer write won; LOST: an earlier write holds a first-write key, or a
                   register does not hold what the write was to replace;
                   DEFERRED: the node was overloaded, or a limit was in the way. It keeps the write, durably,
                   as hints for all replicas, and delivers it later; `converged` tells when it is everywhere
    final          first-write buckets: whether the win, this one's or that of the write it lost to, can
                   no longer be contested; None elsewhere
    identity       what this write is known by: to repeat it, as `repeat` of the same call
    required       replicas that the level requires; `acknowledged` have applied it as the winner
    replicas       by node name, what was known of each when the level was reached
    superseded_by  the version that won where this one did not; None where a register holds nothing
    partition      that the key is in
    cluster        the id of the one that was written to
    keeper         where it was deferred: the id of the store that keeps it; otherwise empty
    because        where it was deferred for a limit: which, as "takes 2 requests a second for bucket 'b'
                   (requests_per_s)"; otherwise empty
    value          of a register: what it holds where the write was lost, None if nothing; what an increment
                   has made
    order          of a register: the version by which replicas and sessions compare, which may be greater
                   than that by which the write is known; empty elsewhere
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
    value: bytes | None = None
    order: bytes = b""

    def __bool__(self) -> bool:
        """Whether the write was stored, or is kept to be stored."""
        return self.outcome in (Outcome.STORED, Outcome.DEFERRED)

    @property
    def version(self) -> Version | None:
        """Of this write; None if it lost before it was stamped."""
        return self.identity.version

    @property
    def repeatable(self) -> bool:
        """Whether it can be repeated as itself: not what was lost, nor what was fenced."""
        return self.outcome is not Outcome.LOST and self.identity.proposal != NO_PROPOSAL

    @property
    def number(self) -> int:
        """That an increment has made. ValueError where that is not known any more, for the increment was
        repeated, and somebody has written the key after it; and where this is the receipt of anything else,
        which one that has no value is not told apart from."""
        if self and self.value is None and self.level is Level.SERIAL:
            raise ValueError(
                f"this is no receipt of an increment; or {NUMBER_PASSED}: get shows what it holds now"
            )
        if not self or self.value is None:
            raise ValueError("this is no receipt of an increment")
        return int(self.value)

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
        for each may have told another version. What a register holds so many have agreed on."""
        if self.level is Level.SERIAL:
            return max(self.required, self.acknowledged)
        if not self:
            return self.required if self.version is None else 1
        return sum(state is ReplicaState.APPLIED for state in self.replicas.values())

    def rests_on(self, stamp: int) -> Writes:
        """On how many stores this write rests, of this stamp, or what beat it."""
        agreed = self.level is Level.SERIAL
        by_quorum = agreed or (self.level >= Level.QUORUM and (bool(self) or self.version is None))
        return Writes(stamp, self.known_at, len(self.replicas), by_quorum)

    def as_json(self) -> dict[str, Any]:
        """As `basestore set -o json` prints it."""
        value, encoding = encode_text(self.value)
        return {
            "outcome": self.outcome.value,
            "final": self.final,
            "version": _text(self.version),
            "identity": str(self.identity) if self.repeatable else None,
            "level": self.level.name.lower(),
            "required": self.required,
            "acknowledged": self.acknowledged,
            "replicas": {name: state.name.lower() for name, state in self.replicas.items()},
            "superseded_by": _text(self.superseded_by),
            "value": value,
            "encoding": encoding,
            "partition": self.partition,
            "cluster": self.cluster.hex(),
            "because": self.because,
        }


@dataclass(frozen=True, slots=True)
class BatchReceipt:
    """That all of an atomic batch is applied.

    identity   what it is known by: to follow it, as `repeat` of the same batch
    receipts   by bucket and key, of each write; their versions are None where the batch was followed so late
               that they are not known any more. `converged(receipt=...)` takes each
    """

    identity: Identity
    level: Level
    receipts: dict[tuple[str, bytes], Receipt]

    def __iter__(self) -> Iterator[Receipt]:
        return iter(self.receipts.values())

    def of(self, key: bytes | str, *, bucket: str = "default") -> Receipt:
        """Of one of its writes; KeyError."""
        return self.receipts[bucket, key.encode() if isinstance(key, str) else key]

    def as_json(self) -> dict[str, Any]:
        """For JSON."""
        writes = [
            {"bucket": bucket, "key": text, "key_encoding": encoding, "version": _text(receipt.version)}
            for (bucket, key), receipt in self.receipts.items()
            for text, encoding in (encode_text(key),)
        ]
        return {"outcome": "stored", "identity": str(self.identity), "writes": writes}


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a read found.

    found      whether there is a value; a key that is missing, deleted or expired has none
    version    of the winner, a tombstone's included; None if no asked replica knows the key. In a register
               that by which its write is known, to compare with
    expires_ms milliseconds since 1970 at which the value expires, or None
    responded  replicas that answered, of `required` that the level requires
    diverged   whether they held different versions; `repaired` were brought up to date
    level      that it was read at; `escalated`: at QUORUM, for one replica's answer was too stale
    final      first-write buckets: whether the value can no longer be contested; None elsewhere
    stale_by_at_most  seconds: writes that ended longer before the read are in it. 0 at QUORUM and ALL; at
               ONE None when it was not asked for, or cannot be known now; None at all levels while writes of
               its partition may be lost, and nobody has accepted that
    degraded   the level that was asked for was not reached, and one replica has answered: `because` says why
    order      of a register: the version by which replicas and sessions compare; empty elsewhere
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
    order: bytes = b""

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
    """One key of a scan. `expires_ms` and `order` as in `ReadResult`; the latter is known only of what a
    session has read by itself."""

    key: bytes
    value: bytes
    version: Version
    expires_ms: int | None
    order: bytes = b""

    @property
    def compared(self) -> bytes:
        """What a session compares."""
        return self.order or self.version.encode()

    @property
    def text(self) -> str:
        """The value as text; UnicodeDecodeError where it is not UTF-8."""
        return self.value.decode()


# --- what a watch tells ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """What a key holds by now, of `Store.watch`.

    value       None: nothing, for it was deleted, or has expired
    version     what its write is known by; of changes of a key told by one replica each is newer than the
                last in the order of its bucket's rule. Another replica may repeat older ones: by `order`
    order       24 bytes by which the changes of one key compare: in a bucket of first writes the least is
                the last, elsewhere the greatest
    expires_ms  when the value expires, ms since 1970, or None; that it has is not told once more
    """

    key: bytes
    value: bytes | None
    version: Version
    order: bytes
    expires_ms: int | None

    @property
    def deleted(self) -> bool:
        return self.value is None

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        key, key_encoding = encode_text(self.key)
        value, encoding = encode_text(self.value)
        return {
            "event": "change", "key": key, "key_encoding": key_encoding, "deleted": self.deleted,
            "value": value, "encoding": encoding, "version": str(self.version), "expires_ms": self.expires_ms,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a watch has come: every change with a stamp up to `stable` (of those that were to be told) has
    been told, at whichever replica it came first; 0: none is proven yet. `token`: to go on from here, by
    anybody, at any node. `unserved`: so many partitions no replica tells of just now."""

    stable: int
    token: str
    unserved: int

    @property
    def stable_ms(self) -> int | None:
        """Of `stable` the time, ms since 1970."""
        return self.stable >> COUNTER_BITS or None

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "event": "progress", "stable": f"{self.stable:016x}", "stable_ms": self.stable_ms,
            "token": self.token, "unserved": self.unserved,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gap:
    """Deletions with a stamp up to `stable` may not have been told, for they were purged before that; at 0
    changes of any kind may be missing, for who told them was lost before there was a token. Read the keys
    anew (a scan): what is not there was deleted."""

    stable: int

    @property
    def stable_ms(self) -> int | None:
        """As of `Progress`."""
        return self.stable >> COUNTER_BITS or None

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {"event": "gap", "stable": f"{self.stable:016x}", "stable_ms": self.stable_ms}


Event = Change | Progress | Gap


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
