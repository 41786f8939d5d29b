"""Answers: what every answer to a client has in common: the error it stands for, that it makes no sense, or
that it does not come.

A node answers a request with the message that belongs to it, or with `Failed`. A node of another version may
answer with anything; that is a ConnectionLost, for what became of the request is not known then. The same is
so where no answer comes: then it is said what the caller can do. Pure.
"""

import base64

from basestore.errors import (
    ChangeUnknown,
    ConnectionLost,
    InvalidRequest,
    OutcomeUnknown,
    ReadTimeout,
    RequestFailed,
    WriteTimeout,
    revive,
)
from basestore.protocol.client import ADD, Commit, Delete, Failed, Set, WriteBatch
from basestore.protocol.codec import Message
from basestore.protocol.membership import ChangeTopology
from basestore.protocol.operator import FinishUpgrade, Replay
from basestore.repair.version import PROPOSAL_BYTES, Identity, Version

SENSELESS = (LookupError, TypeError, ValueError)  # what reading an answer of the right form may raise


def error_of(answer: Message) -> InvalidRequest | RequestFailed:
    """The error that an answer stands for which is not the one that belongs to the request."""
    if not isinstance(answer, Failed):
        return senseless(answer)
    try:
        identity = Identity.decode(answer.identity) if answer.identity else None
        return revive(answer.code, answer.text, identity, answer.details)
    except SENSELESS:
        return senseless(answer)


def senseless(answer: Message) -> ConnectionLost:
    """The error for an answer that is none, or whose content makes no sense."""
    return ConnectionLost(f"the node answered with a {type(answer).__name__} message; check its version")


def version_of(encoded: bytes) -> Version | None:
    """A version, or None where there is none."""
    return Version.decode(encoded) if encoded else None


def encode_text(value: bytes | None) -> tuple[str | None, str | None]:
    """A value for JSON: as text ("utf8") where it is text, otherwise as "base64"."""
    if value is None:
        return None, None
    try:
        return value.decode(), "utf8"
    except UnicodeDecodeError:
        return base64.b64encode(value).decode(), "base64"


# --- that do not come ----------------------------------------------------------------------------


def lost(told: str, request: Message) -> ConnectionLost:
    """The error when no answer to a request comes: what happened, and what the caller can do."""
    error = ConnectionLost(f"{told}. {_advice(request)}")
    error.identity = _identity(request)
    return error


def late(endpoint: str, request: Message) -> RequestFailed:
    """The error when the node has said nothing by the time that a request's caller has waited for it."""
    told = f"{endpoint} did not answer in time. {_advice(request)}"
    if isinstance(request, ChangeTopology):
        error = ChangeUnknown(told)
        error.identity = _identity(request)
        return error
    if isinstance(request, Commit):
        return OutcomeUnknown(told, None, None)
    if isinstance(request, WriteBatch):
        return OutcomeUnknown(told, None, _identity(request))
    kind = WriteTimeout if isinstance(request, Set | Delete | Replay | FinishUpgrade) else ReadTimeout
    return kind(told, None, None, _identity(request))


def _identity(request: Message) -> Identity | None:
    if isinstance(request, ChangeTopology):
        return identity_of(request)
    return Identity.decode(request.identity) if isinstance(request, Set | Delete | WriteBatch) else None


def _advice(request: Message) -> str:
    if isinstance(request, Set | Delete):
        # Who reads a number does not learn from it what was added to it.
        read = "" if request.condition == ADD else ", or read to find out"
        return f"The write may have happened: repeat it as {_identity(request)}{read}"
    if isinstance(request, Commit):
        return "All of the transaction may have been done, or nothing: read its keys to find out"
    if isinstance(request, WriteBatch):
        return f"The batch is all or nothing in the end: repeat it as {_identity(request)} to follow it"
    if isinstance(request, ChangeTopology):
        return f"It may be decided: see `basestore topology history`, or repeat it as {_identity(request)}"
    if isinstance(request, Replay | FinishUpgrade):
        shown = "hints" if isinstance(request, Replay) else "status"
        return f"It may have been begun: see `basestore {shown}`, or ask again"
    return "This request changes nothing: ask again"


def identity_of(request: ChangeTopology) -> Identity:
    """What the change is known by."""
    from basestore.topology.entries import decode_entry

    return Identity(decode_entry(request.entry).id.to_bytes(PROPOSAL_BYTES))
