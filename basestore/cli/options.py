"""Options: what the commands that talk to a cluster share, and the types of their arguments.

Each shared option may stand before the subcommand or after it; `Target` is what came of them. Refuses what
is no duration or level before a node is asked; opens no connection.
"""

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from basestore.cli import exits
from basestore.errors import BasestoreError
from basestore.protocol.limits import TIMEOUT_MS_MAX

TIMEOUT_S_DEFAULT = 5.0
_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)", re.ASCII)


def duration(text: Any, examples: str = "5s, 200ms, 10m, 2h or 7d") -> float:
    """A length of time with its unit, or a bare number of seconds, as seconds."""
    if isinstance(text, float):
        return text
    match = _DURATION.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a duration; write {examples}")
    return float(match[1]) * _UNITS_S[match[2]]


def waiting(text: Any) -> float:
    """The same, of a time that one waits; no request waits for hours."""
    return duration(text, f"5s, 200ms or 2m, at most {TIMEOUT_MS_MAX // 1000}s")


def data(text: Any) -> bytes:
    """Bytes, exactly as the shell passed them."""
    return text if isinstance(text, bytes) else os.fsencode(text)


_SHARED: dict[str, Callable[[Any], Any]] = {
    "endpoint": click.option(
        "-e", "--endpoint", metavar="HOST:PORT", multiple=True,
        help="A node to talk to; repeat it to name others to try, in order. [default: "
        "$BASESTORE_ENDPOINTS, separated by commas or spaces, or 127.0.0.1:7400]",
    ),
    "consistency": click.option(
        "-c", "--consistency", type=click.Choice(["any", "one", "quorum", "all"], case_sensitive=False),
        help="How many replicas must answer (any: writes only). [default: quorum]",
    ),
    "bucket": click.option(
        "--bucket", metavar="NAME",
        help="default (the last write wins), once (the first write wins), or one that the cluster's "
        "configuration declares. [default: default]",
    ),
    "timeout": click.option(
        "--timeout", type=waiting,
        help="How long to wait for an answer, as 5s or 200ms; a bare number is seconds. [default: 5s]",
    ),
    "output": click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), help="How to print. [default: text]"
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """The cluster that a command talks to, and how. `endpoints`: none if the caller named none; `chosen`: the
    caller named the consistency."""

    endpoints: tuple[str, ...]
    consistency: str
    chosen: bool
    bucket: str
    timeout_s: float
    json: bool
    patience_s: float | None = None  # the timeout, if the caller named one

    def patience(self, timeout_s: float | None, default_s: float) -> float:
        """How long to wait for a result: by the command's own --timeout, by that of all commands, or by this
        default."""
        asked_s = self.patience_s if timeout_s is None else timeout_s
        return default_s if asked_s is None else asked_s

    def remark(self, text: str) -> None:
        """A line on stderr, for people: machines have it in what is printed."""
        if not self.json:
            exits.say(text)


def share(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command these shared options; it gets a Target as its first argument."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(**given: Any) -> Any:
            here = {name: given.pop(name) for name in names}
            before = click.get_current_context().obj or {}
            target = _target(before, here)
            try:
                return function(target, **given)
            except BasestoreError as error:
                return exits.tell(error, as_json=target.json)

        wrapped: Callable[..., Any] = call
        for name in reversed(names):
            # In reverse, for a decorator applied last is listed first in the help.
            wrapped = _SHARED[name](wrapped)
        return wrapped

    return decorate


def share_before(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give the group all shared options, kept for whichever subcommand follows."""

    @functools.wraps(function)
    def call(**given: Any) -> Any:
        click.get_current_context().obj = {name: given.pop(name) for name in _SHARED}
        return function(**given)

    wrapped: Callable[..., Any] = call
    for option in reversed(_SHARED.values()):
        wrapped = option(wrapped)
    return wrapped


def _target(before: dict[str, Any], here: dict[str, Any]) -> Target:
    def chosen(name: str, default: Any) -> Any:
        return next((each[name] for each in (here, before) if each.get(name) is not None), default)

    return Target(
        _endpoints((*before.get("endpoint", ()), *here.get("endpoint", ()))),
        chosen("consistency", "quorum"),
        chosen("consistency", None) is not None,
        chosen("bucket", "default"),
        chosen("timeout", TIMEOUT_S_DEFAULT),
        chosen("output", "text") == "json",
        chosen("timeout", None),
    )


def _endpoints(given: tuple[str, ...]) -> tuple[str, ...]:
    """Those given, each an endpoint or several; without repetitions."""
    words = [word for text in given for word in text.replace(",", " ").split()]
    if given and not words:
        raise click.UsageError("the endpoint is empty; write host:port, as in 127.0.0.1:7400")
    return tuple(dict.fromkeys(words))
