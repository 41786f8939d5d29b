"""Every error a user can meet: whose fault it is, and whether the outcome is definite.

    BasestoreError
    |-- InvalidRequest          the call is wrong; nothing was done
    |-- ConfigurationError      a configuration is wrong, or two nodes' configurations differ
    |-- StorageError            this node's store cannot be used
    |   |-- DamagedRecord       inside a node: one record fails its digest; it is named, never served
    |   `-- StorageBusy         inside a node: the store takes no writes for the moment
    |       `-- StorageFull     for its disk is full
    |-- Unreachable             no endpoint answers, or none speaks for this cluster; nothing was sent
    |-- LockHeld                another holds the lock, for as long as one would wait
    |-- LeaseLost               a lease was not renewed in time: another may hold the lock by now
    |-- SessionFull             the session has no room for one more key; nothing was sent
    `-- RequestFailed           a node answered, or should have
        |-- definite: nothing was done
        |   |-- Unavailable     fewer replicas alive than the level requires
        |   |-- Overloaded      more is asked than can be done, or than a limit lets through
        |   |-- TooStale        the answer may be staler than was asked for, and a quorum does not answer
        |   |-- NoLeader        nobody leads the metadata group; data are served all the same
        |   |-- VersionLost     what a session has seen is on no replica any more
        |   |-- Contended       others were at the register for as long as the request could last
        |   |-- Conflict        what a transaction has read or was to write has changed meanwhile
        |   |-- FencedOff       the lock that a write depends on is held by another, or by nobody
        |   `-- ClockSkew       this node's clock is too far from the others'
        `-- indefinite
            |-- WriteTimeout    may have happened; repeated as itself, it happens once
            |-- OutcomeUnknown  a repetition has not found what became of its write
            |-- ChangeUnknown   a change of the topology may be decided, or may be yet
            |-- ReadTimeout     too few replicas answered in time; a read changes nothing
            |-- ReplicaFailure  too many replicas refused, each with its reason
            `-- ConnectionLost  the connection broke before the answer came

`definite` says whether the call certainly had no effect. Every message says what to do next.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from basestore.repair.version import Identity, Version

RETRY_MS_MAX: Final = 600_000  # that a node may ask a client to wait
LOWER_LEVEL: Final = ", or ask for a lower consistency level"


class BasestoreError(Exception):
    """Root of all errors of basestore. `after`: of a scan that breaks off, the key up to which it has shown
    all that there is. `attempts`: how often it was tried (`Store.retrying`)."""

    definite: ClassVar[bool] = True
    after: bytes | None = None
    attempts: int = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickles and copies: as it is, whatever its kind is made of."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[BasestoreError], told: tuple[Any, ...], facts: dict[str, Any]) -> BasestoreError:
    error = kind.__new__(kind, *told)  # not made anew: its text was put together then
    error.__dict__.update(facts)
    return error


class InvalidRequest(BasestoreError, ValueError):
    """The request is wrong in itself. Nothing was done; repeating it will not help."""

    code = 1


class ConfigurationError(BasestoreError):
    """A configuration cannot be used, or differs between nodes that should share it."""


class LeftCluster(ConfigurationError):
    """The node has left its cluster, for good: its store holds nothing that is needed."""


class StorageError(BasestoreError):
    """A node's store cannot be opened, read or written."""


class DamagedRecord(StorageError):
    """A stored record fails its digest. `row` names it."""

    def __init__(self, row: bytes, text: str) -> None:
        super().__init__(text)
        self.row = row


class StorageBusy(StorageError):
    """The engine takes no writes right now (a stall). Nothing was written."""


class StorageFull(StorageBusy):
    """The engine takes no writes as long as its disk is full, and goes on reading. Nothing was written."""


class Unreachable(BasestoreError):
    """No connection to the cluster. Nothing was sent. `reasons`: why each endpoint could not be reached, in a
    few words, where that is known; `answered`: somebody was, who refused, or was another than was meant."""

    reasons: tuple[str, ...] = ()
    answered = False


class SessionFull(BasestoreError):
    """The session keeps as many keys as it may, and forgets none. Nothing was sent."""


class LockHeld(BasestoreError):
    """Another holds the lock, for as long as one would wait. Nothing was done."""


class LeaseLost(BasestoreError):
    """A lease was not renewed in time, or another has taken its place: what was done under it may have been
    done beside another holder, unless it was fenced."""

    definite = False


class RequestFailed(BasestoreError):
    """A request did not reach its level. `identity`: of the write, if it was one. Pass it as `repeat` to the
    same call, and it is the same write over again."""

    code: ClassVar[int]
    identity: Identity | None = None

    @property
    def version(self) -> Version | None:
        """Of the write, where it was stamped and that is known."""
        return self.identity.version if self.identity else None

    def details(self) -> list[int | str]:
        """What `revive` needs beside the text and the identity."""
        return []

    @classmethod
    def rebuild(cls, text: str, identity: Identity | None, details: list[str]) -> "RequestFailed":
        """The error again, on the other side of a connection."""
        return cls(text)


class Unavailable(RequestFailed):
    """Fewer replicas are alive than the level requires. Nothing was sent to any. `starting`: the node that
    was asked is one of those that are missing, for its own store does not count yet. `instead`: what may be
    asked for in its place, as the end of a sentence."""

    code = 2

    def __init__(self, required: int, alive: int, starting: bool = False, instead: str = LOWER_LEVEL) -> None:
        besides = "; the one that was asked runs, but its store does not count yet" if starting else ""
        replicas, live = "replica is" if required == 1 else "replicas are", "is" if alive == 1 else "are"
        super().__init__(
            f"unavailable: {required} {replicas} required and {alive} {live} alive{besides}; nothing was "
            f"done. Start the missing nodes (see `basestore status`){instead}"
        )
        self.required = required
        self.alive = alive
        self.starting = starting

    def details(self) -> list[int | str]:
        return [self.required, self.alive, int(self.starting)]

    @classmethod
    def because(cls, why: str) -> "Unavailable":
        """No replica was looked for at all: the node that was asked does nothing for clients."""
        error = cls(0, 0)
        error.args = (f"unavailable: {why}",)
        return error

    @classmethod
    def rebuild(cls, text: str, identity: Identity | None, details: list[str]) -> RequestFailed:
        error = cls(int(details[0]), int(details[1]), details[2:3] == ["1"])
        error.args = (text,)  # a read that may be degraded says more
        if identity is not None:  # of a batch that was given up
            error.identity = identity
        return error


class Overloaded(RequestFailed):
    """More is asked than can be done now, or than a limit lets through. Nothing was done; try again after
    `retry_after` seconds, if a node has refused it. Where the caller's own side sends no more at once, that
    is not known (0.0)."""

    code = 3
    retry_after: float = 0.0

    def __init__(self, text: str, retry_after: float = 0.0) -> None:
        super().__init__(f"{text}. Try again in {retry_after:.3g} s" if retry_after else text)
        if retry_after:
            self.retry_after = retry_after

    def come_again(self, retry_after: float) -> None:
        """Say when, unless that is said."""
        if not self.retry_after:
            self.retry_after = retry_after
            self.args = (str(self).replace("Try again later", f"Try again in {retry_after:.3g} s"),)

    def details(self) -> list[int | str]:
        return [math.ceil(self.retry_after * 1e3)] if self.retry_after else []

    @classmethod
    def rebuild(cls, text: str, identity: Identity | None, details: list[str]) -> RequestFailed:
        error = cls(text)  # which says it already
        if details:
            error.retry_after = min(max(0, int(details[0])), RETRY_MS_MAX) / 1e3
        return error


class ClockSkew(RequestFailed):
    """The coordinator's clock is too far from the majority's. Nothing was done."""

    code = 4


class TooStale(RequestFailed):
    """What one replica holds may be staler than the caller takes, and a quorum could not be read. A read
    changes nothing, so it may be repeated."""

    code = 9


class VersionLost(RequestFailed):
    """What the session has seen of a key, `version`, was lost with a disk: all replicas answer, and none
    holds it or a newer one. Where they hold nothing of the key it may also have been deleted, or have
    expired, for good: nobody can tell. Told once: the session has forgotten it, and the next read shows what
    there is."""

    code = 11

    def __init__(self, text: str, version: Version | None) -> None:
        super().__init__(text)
        self.lost = version

    @property
    def version(self) -> Version | None:
        return self.lost

    def details(self) -> list[int | str]:
        return [str(self.lost)] if self.lost else []

    @classmethod
    def rebuild(cls, text: str, identity: Identity | None, details: list[str]) -> RequestFailed:
        return cls(text, Version.parse(details[0]) if details else None)


class _Late(RequestFailed):
    """Shared by the two timeouts: how many replicas had answered, of how many required; None where the node
    that was asked has not told in time."""

    definite = False

    def __init__(
        self, text: str, received: int | None, required: int | None, identity: Identity | None
    ) -> None:
        super().__init__(text)
        self.received = received
        self.required = required
        self.identity = identity

    def details(self) -> list[int | str]:
        return [self.received or 0, self.required or 0]

    @classmethod
    def rebuild(cls, text: str, identity: Identity | None, details: list[str]) -> RequestFailed:
        return cls(text, int(details[0]), int(details[1]), identity)


class WriteTimeout(_Late):
    """The write may have happened or may yet happen. Repeat it with `repeat=error.identity` (safe, it is the
    same write), or read to find out."""

    code = 5


class ReadTimeout(_Late):
    """Too few replicas answered in time. A read changes nothing, so it may be repeated."""

    code = 6


class ReplicaFailure(RequestFailed):
    """Too many replicas refused. `reasons` maps node names to what each said."""

    code = 7
    definite = False

    def __init__(self, text: str, reasons: Mapping[str, str], identity: Identity | None) -> None:
        super().__init__(text)
        self.reasons = dict(reasons)
        self.identity = identity

    def details(self) -> list[int | str]:
        return [word for pair in self.reasons.items() for word in pair]

    @classmethod
    def rebuild(cls, text: str, identity: Identity | None, details: list[str]) -> RequestFailed:
        words = [str(word) for word in details]
        return cls(text, dict(zip(words[::2], words[1::2], strict=True)), identity)


class OutcomeUnknown(RequestFailed):
    """A write was repeated whose version nobody had told its client, and no replica that was asked holds it:
    another version (`found`) has perhaps taken its place, or it never arrived, or it may arrive yet. Under a
    new version it could happen twice, the second time over a later write; that is the caller's to decide."""

    code = 10
    definite = False

    def __init__(self, text: str, found: Version | None, identity: Identity | None) -> None:
        super().__init__(text)
        self.found = found
        self.identity = identity

    def details(self) -> list[int | str]:
        return [str(self.found)] if self.found else []

    @classmethod
    def rebuild(cls, text: str, identity: Identity | None, details: list[str]) -> RequestFailed:
        return cls(text, Version.parse(details[0]) if details else None, identity)


class Contended(RequestFailed):
    """A register could not be written in time, for others were at it, or too few of its replicas answered.
    Nothing was proposed to any of them, so nothing was done: ask again."""

    code = 14


class Conflict(RequestFailed):
    """A transaction was not committed, for another one, or a write, came between what it has read and what it
    was to write. Nothing of it was done: begin it anew, and read again."""

    code = 15


class FencedOff(RequestFailed):
    """A write names the token of a lease that is over: the lock is held under another token, or not at all.
    Nothing was done. Whoever had that lease must not go on."""

    code = 16


class NoLeader(RequestFailed):
    """No majority of the metadata group's voters is reached, or it is not complete yet: so what the cluster
    is can neither be changed nor read by a leader's word. Nothing was changed. Data are served all the
    same."""

    code = 12


class ChangeUnknown(RequestFailed):
    """A change of the topology was handed to the metadata group; what became of it was not known in time."""

    code = 13
    definite = False


class ConnectionLost(RequestFailed):
    """The connection broke, or the node fell silent, after the request was sent."""

    code = 8
    definite = False


_BY_CODE: dict[int, type[RequestFailed]] = {
    kind.code: kind
    for kind in (
        Unavailable, Overloaded, ClockSkew, WriteTimeout, ReadTimeout, ReplicaFailure, ConnectionLost,
        TooStale, OutcomeUnknown, VersionLost, NoLeader, ChangeUnknown, Contended, Conflict, FencedOff,
    )
}  # fmt: skip


def revive(
    code: int, text: str, identity: Identity | None, details: list[str]
) -> InvalidRequest | RequestFailed:
    """The error that a node sent, as the exception it stands for."""
    if code == InvalidRequest.code:
        return InvalidRequest(text)
    return _BY_CODE.get(code, ConnectionLost).rebuild(text, identity, details)
