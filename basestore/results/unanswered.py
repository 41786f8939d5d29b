"""Unanswered: the errors in the place of answers that do not come, and what the caller can do."""

from basestore.errors import ChangeUnknown, ConnectionLost, ReadTimeout, RequestFailed, WriteTimeout
from basestore.protocol.client import Delete, Set
from basestore.protocol.codec import Message
from basestore.protocol.membership import ChangeTopology
from basestore.protocol.operator import FinishUpgrade, Replay
from basestore.repair.version import Identity
from basestore.results.topology import identity_of


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
    kind = WriteTimeout if isinstance(request, Set | Delete | Replay | FinishUpgrade) else ReadTimeout
    return kind(told, None, None, _identity(request))


def _identity(request: Message) -> Identity | None:
    if isinstance(request, ChangeTopology):
        return identity_of(request)
    return Identity.decode(request.identity) if isinstance(request, Set | Delete) else None


def _advice(request: Message) -> str:
    if isinstance(request, Set | Delete):
        return f"The write may have happened: repeat it as {_identity(request)}, or read to find out"
    if isinstance(request, ChangeTopology):
        return f"It may be decided: see `basestore topology history`, or repeat it as {_identity(request)}"
    if isinstance(request, Replay | FinishUpgrade):
        shown = "hints" if isinstance(request, Replay) else "status"
        return f"It may have been begun: see `basestore {shown}`, or ask again"
    return "This request changes nothing: ask again"
