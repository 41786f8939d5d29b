"""Options: what the commands that talk to a cluster share, and the types of their arguments.

Each shared option may stand before, between and after the words of a command (`basestore -e X upgrade -o
json finish`): wherever it is met it is noted in what click's contexts have in common, and the command makes
a `Target` of it all in the end. What that command does not take is an error, wherever it stood. Refuses what
is no duration or level before a node is asked; opens no connection.
"""

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from basestore.cli import exits
from basestore.cli.text import listed
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


@dataclass(frozen=True, slots=True)
class _Shared:
    """How an option is written and described that several commands take."""

    words: tuple[str, ...]
    help: str
    more: dict[str, Any]

    def made(self, *, help: str | None = None, hidden: bool = False) -> click.Option:
        told = self.help if help is None else help
        return click.Option(
            self.words, help=told, hidden=hidden, expose_value=False, callback=_keep, **self.more
        )


_SHARED = {
    "endpoint": _Shared(
        ("-e", "--endpoint"),
        "A node to talk to; repeat it to name others to try, in order. [default: "
        "$BASESTORE_ENDPOINTS, separated by commas or spaces, or 127.0.0.1:7400]",
        {"metavar": "HOST:PORT", "multiple": True},
    ),
    "consistency": _Shared(
        ("-c", "--consistency"),
        "How many replicas must answer (any: writes only; serial: of registers, where each read but at one, "
        "and each write, is that). [default: quorum]",
        {"type": click.Choice(["any", "one", "quorum", "all", "serial"], case_sensitive=False)},
    ),
    "bucket": _Shared(
        ("--bucket",),
        "default (the last write wins), once (the first write wins), cas (registers: a write may depend on "
        "what is there), or another that the cluster has (basestore bucket list). [default: default]",
        {"metavar": "NAME"},
    ),
    "timeout": _Shared(
        ("--timeout",),
        "How long to wait for an answer, as 5s or 200ms; a bare number is seconds. [default: 5s]",
        {"type": waiting},
    ),
    "mode": _Shared(
        ("--mode",),
        "How to read what the cluster is: default (old only if the rates of two clocks differ by more than a "
        "third), consistent (never old, a round of messages more), or stale (as the node has it, without a "
        "majority too; says how old). [default: default]",
        {"type": click.Choice(["default", "consistent", "stale"])},
    ),
    "output": _Shared(
        ("-o", "--output"), "How to print. [default: text]", {"type": click.Choice(["text", "json"])}
    ),
}
SHARED = tuple(_SHARED)
OF_MANY = tuple(name for name in SHARED if name != "mode")  # that are described where commands are listed
# Where click's contexts, from word to word, keep what was given, and which command was run.
_KEPT, _RAN = "basestore.cli.options.kept", "basestore.cli.options.ran"


@dataclass(frozen=True, slots=True)
class Target:
    """The cluster that a command talks to, and how. `endpoints`: none if the caller named none; `chosen`: the
    caller named the consistency, and `in_bucket` the bucket."""

    endpoints: tuple[str, ...]
    consistency: str
    chosen: bool
    bucket: str
    timeout_s: float
    json: bool
    patience_s: float | None = None  # the timeout, if the caller named one
    mode: str = "default"
    in_bucket: bool = False

    def patience(self, default_s: float) -> float:
        """How long to wait for a result that takes its time: by --timeout, or by this default."""
        return default_s if self.patience_s is None else self.patience_s

    def remark(self, text: str) -> None:
        """A line on stderr, for people: machines have it in what is printed."""
        if not self.json:
            exits.say(text)


class Command(click.Command):
    """A command, the last words of which decide which of the shared options it takes."""

    def invoke(self, ctx: click.Context) -> Any:
        _refuse_others(ctx)
        ctx.meta[_RAN] = ctx.command_path.partition(" ")[2]
        return super().invoke(ctx)


class Group(click.Group):
    """The first words of commands. Every shared option may stand among them, and is kept for the command that
    follows. Its help shows those of `shown`, and names the others that its commands take."""

    command_class = Command
    shown: tuple[str, ...] = ()

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        own = {param.name for param in self.params}
        self.params[:0] = [
            shared.made(hidden=name not in self.shown) for name, shared in _SHARED.items() if name not in own
        ]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not self.shown:
            taken = {name for command in self.commands.values() for name in _taken(command)}
            words = [shared.words[0] for name, shared in _SHARED.items() if name in taken]
            if words:
                formatter.write_paragraph()
                may = f"{listed(words)} may stand before, between and after the words of a command."
                formatter.write_text(may)
        super().format_epilog(ctx, formatter)


def command(name: str) -> Callable[[Callable[..., Any]], Command]:
    """What `click.command` is, for commands of this house."""
    return click.command(name, cls=Command)


def share(*names: str, **helps: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command these shared options, and those that it describes in its own words; it gets a Target as
    its first argument."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(**given: Any) -> Any:
            context = click.get_current_context()
            if context.invoked_subcommand is not None:
                _refuse_own(context)
                return None  # there are more words, and they say what to do
            _refuse_others(context)
            target = _target(context.meta.get(_KEPT, {}))
            try:
                return function(target, **given)
            except BasestoreError as error:
                return exits.tell(error, as_json=target.json)

        # Click lists the last first, for that is how decorators are applied.
        own = [_SHARED[name].made(help=helps.get(name)) for name in SHARED if name in (*names, *helps)]
        call.__dict__["__click_params__"] = [*getattr(function, "__click_params__", ()), *reversed(own)]
        return call

    return decorate


def ran(ctx: click.Context) -> str:
    """The words of the command that was run, as `upgrade finish`; empty if none was."""
    return str(ctx.meta.get(_RAN, ""))


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Note what was given, at whichever of the words: the last one wins, endpoints add up."""
    kept = ctx.meta.setdefault(_KEPT, {})
    if param.multiple and value:
        kept[param.name] = (*kept.get(param.name, ()), *value)
    elif not param.multiple and value is not None:
        kept[param.name] = value


def _taken(command: click.Command) -> set[str | None]:
    """The options of this name that a command shows."""
    return {param.name for param in command.params if not getattr(param, "hidden", False)}


def _refuse_others(ctx: click.Context) -> None:
    """What stood before a command's last word must be an option that it takes: left out in silence, it would
    seem to have been obeyed."""
    for name in ctx.meta.get(_KEPT, {}).keys() - _taken(ctx.command):
        words = " or ".join(_SHARED[name].words)
        raise click.UsageError(f"`{ctx.command_path}` takes no {words}; leave it out", ctx)


def _refuse_own(ctx: click.Context) -> None:
    """What a command alone takes, where its name is only the first word of another."""
    for param in ctx.command.params:
        if param.expose_value and ctx.get_parameter_source(str(param.name)) is ParameterSource.COMMANDLINE:
            words = " or ".join(param.opts)
            raise click.UsageError(
                f"`{ctx.command_path} {ctx.invoked_subcommand}` takes no {words}; leave it out", ctx
            )


def _target(given: dict[str, Any]) -> Target:
    return Target(
        _endpoints(given.get("endpoint", ())),
        given.get("consistency", "quorum"),
        "consistency" in given,
        given.get("bucket", "default"),
        given.get("timeout", TIMEOUT_S_DEFAULT),
        given.get("output", "text") == "json",
        given.get("timeout"),
        given.get("mode", "default"),
        "bucket" in given,
    )


def _endpoints(given: tuple[str, ...]) -> tuple[str, ...]:
    """Those given, each an endpoint or several; without repetitions."""
    words = [word for text in given for word in text.replace(",", " ").split()]
    if given and not words:
        raise click.UsageError("the endpoint is empty; write host:port, as in 127.0.0.1:7400")
    return tuple(dict.fromkeys(words))
