"""What calls return: typed, frozen, with everything that a receipt can truthfully say.

Also how they are made out of the messages that nodes send. Pure.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from basestore.consistency import Level, Outcome, ReplicaState
from basestore.errors import ConnectionLost, InvalidRequest, RequestFailed, revive
from basestore.protocol.client import (
    FINAL,
    OUTCOME_LOST,
    OUTCOME_STORED,
    OUTCOME_SUPERSEDED,
    Failed,
    Got,
    Page,
    Written,
)
from basestore.protocol.codec import Message
from basestore.protocol.operator import Explained, HintPiles, NodeStatus, Surveyed
from repair.version import Version

ANSWERS = (Written, Got, Page, NodeStatus, Explained, HintPiles, Surveyed, Failed)
_SENSELESS = (LookupError, TypeError, ValueError)  # what reading an answer of the right form may raise
_NUMBERS = (
    "damaged",
    "unproven",
    "stable lag ms",
)  # facts of a node that are numbers, and those that are lists
_LISTS = ("alive", "stalled by")
_OUTCOMES = {
    OUTCOME_STORED: Outcome.STORED,
    OUTCOME_SUPERSEDED: Outcome.SUPERSEDED,
    OUTCOME_LOST: Outcome.LOST,
}


def _version(encoded: bytes) -> Version | None:
    return Version.decode(encoded) if encoded else None


def _text(version: Version | None) -> str | None:
    return None if version is None else str(version)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a write.

    outcome        STORED; SUPERSEDED: a newer write won; LOST: an earlier write holds a first-write key
    final          first-write buckets: whether the win, this one's or that of the write it lost to, can
                   no longer be contested; None elsewhere
    version        of this write; None if it lost before it was stamped
    required       replicas that the level requires; `acknowledged` have applied it as the winner
    replicas       by node name, what was known of each when the level was reached
    superseded_by  the version that won where this one did not
    partition      that the key is in
    """

    outcome: Outcome
    final: bool | None
    version: Version | None
    level: Level
    required: int
    acknowledged: int
    replicas: dict[str, ReplicaState]
    superseded_by: Version | None
    partition: int

    @property
    def applied(self) -> bool:
        """Whether any replica was known to hold this write, or what beat it, when the level was reached:
        of a write at ANY there may be hints only."""
        states = self.replicas.values()
        only_hints = ReplicaState.HINTED in states and ReplicaState.APPLIED not in states
        return self.outcome is not Outcome.STORED or not only_hints

    def as_json(self) -> dict[str, Any]:
        """As `basestore set -o json` prints it."""
        return {
            "outcome": self.outcome.value,
            "final": self.final,
            "version": _text(self.version),
            "level": self.level.name.lower(),
            "required": self.required,
            "acknowledged": self.acknowledged,
            "replicas": {name: state.name.lower() for name, state in self.replicas.items()},
            "superseded_by": _text(self.superseded_by),
            "partition": self.partition,
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
               ONE None when it was not asked for, or cannot be known now
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
        }


@dataclass(frozen=True, slots=True)
class Item:
    """One key of a scan. `expires_ms` as in `ReadResult`."""

    key: bytes
    value: bytes
    version: Version
    expires_ms: int | None


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node says of itself.

    state    up, starting (not known to be whole yet), forgetful (recovering), or down
    records  rows that hold a value; `hints` kept, by the node they are for
    facts    everything else it says, by name
    """

    node: str
    endpoint: str
    state: str
    pid: int | None
    records: int | None
    hints: dict[str, int]
    facts: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """As `basestore status -o json` prints it."""
        return {
            "node": self.node,
            "endpoint": self.endpoint,
            "state": self.state,
            "pid": self.pid,
            "records": self.records,
            "hints": sum(self.hints.values()),
            "hints_for": self.hints,
            **_typed(self.facts),
        }


def _typed(facts: dict[str, str]) -> dict[str, Any]:
    """What a node says of itself, for machines: numbers and lists, under names without blanks; what it does
    not know is null."""
    typed: dict[str, Any] = {}
    for name, text in facts.items():
        if name.startswith("debt "):
            typed.setdefault("debt_for", {})[name[5:]] = int(text)
        elif name in _LISTS:
            typed[name.replace(" ", "_")] = text.split()
        elif name in _NUMBERS:
            typed[name.replace(" ", "_")] = int(text) if text else None
        else:
            typed[name.replace(" ", "_")] = text
    return typed


def encode_text(value: bytes | None) -> tuple[str | None, str | None]:
    """A value for JSON: as text ("utf8") where it is text, otherwise as "base64"."""
    if value is None:
        return None, None
    try:
        return value.decode(), "utf8"
    except UnicodeDecodeError:
        return base64.b64encode(value).decode(), "base64"


def _unexpected(answer: Message) -> RequestFailed:
    return ConnectionLost(f"the node answered with a {type(answer).__name__} message; check its version")


def error_of(answer: Message) -> InvalidRequest | RequestFailed | None:
    """The error that an answer stands for, if it is one."""
    if not isinstance(answer, Failed):
        return None
    try:
        return revive(answer.code, answer.text, _version(answer.version), answer.details)
    except _SENSELESS:
        return _unexpected(answer)


def receipt(answer: Message, level: Level, members: Sequence[str]) -> Receipt:
    """Read the answer to a set or delete; raises the error it stands for."""
    if not isinstance(answer, Written):
        raise error_of(answer) or _unexpected(answer)
    states = zip(answer.replicas[::2], answer.replicas[1::2], strict=True)
    try:
        return Receipt(
            _OUTCOMES[answer.outcome],
            answer.final == FINAL if answer.final else None,
            _version(answer.version),
            level,
            answer.required,
            answer.acknowledged,
            {members[index]: ReplicaState(state) for index, state in states},
            _version(answer.better),
            answer.partition,
        )
    except _SENSELESS as error:
        raise _unexpected(answer) from error


def read_result(answer: Message, level: Level) -> ReadResult:
    """Read the answer to a get; raises the error it stands for."""
    if not isinstance(answer, Got):
        raise error_of(answer) or _unexpected(answer)
    try:
        version = _version(answer.version)
    except _SENSELESS as error:
        raise _unexpected(answer) from error
    if answer.escalated:
        level = Level.QUORUM
    stale_ms = 0 if level is not Level.ONE else answer.stale_ms
    return ReadResult(
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
    )


def page(answer: Message) -> tuple[list[Item], bytes | None]:
    """Read the answer to a scan: its items, and where to go on, None at the end."""
    if not isinstance(answer, Page):
        raise error_of(answer) or _unexpected(answer)
    rows = answer.rows
    try:
        items = [
            Item(key, value, Version.decode(version), int.from_bytes(expiry) or None)
            for key, value, version, expiry in zip(rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True)
        ]
    except _SENSELESS as error:
        raise _unexpected(answer) from error
    return items, answer.after if answer.more else None


def node_state(answer: Message) -> NodeState:
    """Read the answer to a status request; raises the error it stands for."""
    if not isinstance(answer, NodeStatus):
        raise error_of(answer) or _unexpected(answer)
    try:
        facts = dict(zip(answer.facts[::2], answer.facts[1::2], strict=True))
        hints = {name[6:]: int(facts.pop(name)) for name in list(facts) if name.startswith("hints ")}
        pid, records = int(facts.pop("pid", "0")), int(facts.pop("records", "0"))
        return NodeState(
            facts.pop("node"), facts.pop("endpoint", ""), facts.pop("state"), pid, records, hints, facts
        )
    except _SENSELESS as error:
        raise _unexpected(answer) from error


def down(name: str, endpoint: str, reason: str) -> NodeState:
    """The state of a node that does not answer."""
    return NodeState(name, endpoint, "down", None, None, {}, {"reason": reason})
