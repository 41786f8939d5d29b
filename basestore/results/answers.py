"""Answers: what every answer to a client has in common: the error it stands for, or that it makes no sense.

A node answers a request with the message that belongs to it, or with `Failed`. A node of another version may
answer with anything; that is a ConnectionLost, for what became of the request is not known then. Pure.
"""

import base64

from basestore.errors import ConnectionLost, InvalidRequest, RequestFailed, revive
from basestore.protocol.client import Failed
from basestore.protocol.codec import Message
from basestore.repair.version import Identity, Version

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
