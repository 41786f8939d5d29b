"""Exits: the code that the process ends with, for everything that can become of a command.

Owns the codes, and the way an error is told on stderr, in words or as JSON. A script may build on them, so no
code changes its meaning; what an error means is decided in `errors`, by its class and `definite`.
"""

import contextlib
import json
from typing import Final

import click

from basestore.errors import (
    BasestoreError,
    ConfigurationError,
    Conflict,
    FencedOff,
    InvalidRequest,
    LockHeld,
    Unreachable,
)  # fmt: skip

DONE: Final = 0
NOT_FOUND: Final = 1
USAGE: Final = 2
REFUSED: Final = 3
UNKNOWN: Final = 4
BEATEN: Final = 5
UNREACHABLE: Final = 6
BUG: Final = 70
INTERRUPTED: Final = 130

EPILOG: Final = """\b
Exit codes:
    0  done
    1  not found
    2  the command, its arguments or a configuration are wrong
    3  definite failure: unavailable, overloaded, contended, too stale; nothing was done
    4  outcome unknown: a timeout; a write may have happened; not proven, not all repaired yet
    5  superseded by a newer write, lost to an earlier one, or to what a register holds instead; a
       transaction in conflict with others; a lock that another holds
    6  no node could be connected to
   70  a bug, with a traceback
  130  interrupted
"""


def exit_code_of(error: BasestoreError) -> int:
    """The exit code that tells a script what it may conclude from the error."""
    if isinstance(error, InvalidRequest | ConfigurationError):
        return USAGE
    if isinstance(error, Unreachable):
        return UNREACHABLE
    if isinstance(error, Conflict | FencedOff | LockHeld):
        return BEATEN
    if not error.definite:
        return UNKNOWN
    return REFUSED


def tell(error: BasestoreError, *, as_json: bool) -> int:
    """Say on stderr what went wrong, and return the exit code for it. As JSON: `error` (its type),
    `message`, `definite` (nothing can have happened), `version` and `identity` (to repeat a write with),
    `retry_after` (seconds, of what is overloaded; null where nobody has said when to try again)."""
    message, retry_after = str(error), getattr(error, "retry_after", 0.0)
    if retry_after and "ry again in" not in message:
        when = f"Try again in {retry_after:.3g} s"
        known = "Try again later" in message
        message = message.replace("Try again later", when) if known else f"{message}. {when}"
    if as_json:
        version, identity = getattr(error, "version", None), getattr(error, "identity", None)
        facts = {
            "error": type(error).__name__,
            "message": message,
            "definite": error.definite,
            "version": None if version is None else str(version),
            "identity": None if identity is None else str(identity),
            "retry_after": retry_after or None,
        }
        say(json.dumps(facts))
    else:
        identity = getattr(error, "identity", None)
        # By its option: what an error says is for programs too, where it is `repeat`.
        say_error(message.replace(f"epeat it as {identity}", f"epeat it with --repeat {identity}"))
    return exit_code_of(error)


def say(text: str) -> None:
    """A line on stderr. That nobody reads it any more is no reason to stop."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


def say_error(error: object) -> None:
    """An error, in the form that click's own have."""
    say(f"Error: {error}")


def announce(text: str) -> None:
    """A line on stdout, at once, from a process that goes on even if nobody reads it."""
    with contextlib.suppress(OSError):
        click.echo(text)
