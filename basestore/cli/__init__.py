"""The command line: the command `basestore`, and which module each of its subcommands is in.

    data       what is done with keys and values
    cluster    what a cluster that runs shows of itself, and is asked to do
    topology   what a cluster is, and how that is changed
    running    what runs nodes
    .          what all of them share: options, exits, how a cluster is reached, text, streams

A command's module is loaded when the command is used, and what it needs when it runs: a single request
imports neither Trio nor anyio. Data goes to stdout, all else to stderr. What becomes of a command is its exit
code (`exits.py`). Decides nothing about data: it calls `client`, or runs nodes, and shows what they say.
"""

import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

import basestore
from basestore.cli import exits, options, streams

_COMMANDS = {
    "set": "data.requests",
    "get": "data.requests",
    "delete": "data.requests",
    "scan": "data.requests",
    "increment": "data.increment",
    "transaction": "data.transaction",
    "lock": "data.lock",
    "elect": "data.lock",
    "locks": "data.lock",
    "watch": "data.watch",
    "import": "data.importing",
    "status": "cluster.status",
    "top": "cluster.top",
    "explain": "cluster.explain",
    "hints": "cluster.hints",
    "converged": "cluster.converged",
    "repair": "cluster.repair",
    "upgrade": "cluster.upgrade",
    "topology": "topology.moves",  # where all its commands are known
    "bucket": "topology.buckets",
    "settings": "topology.settings",
    "node": "topology.nodes",
    "rebalance": "topology.moves",
    "join": "running.join",
    "serve": "running.serving",
    "up": "running.up",
    "demo": "running.demo",
    "drill": "running.drill",
    "completion": "completion",
}


WRITES = (
    "set", "delete", "increment", "transaction", "import", "upgrade finish", "bucket create", "bucket drop",
    "settings set", "settings unset", "node rebuild-group", "node drain", "node remove", "node replace",
    "rebalance", "topology cancel", "topology replication", "join",
)  # fmt: skip


class _Commands(options.Group):
    """Subcommands by name; each is imported when it is asked for."""

    shown = options.OF_MANY

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = _COMMANDS.get(cmd_name)
        if home is None:
            return None
        command: click.Command = getattr(import_module(f"basestore.cli.{home}"), f"{cmd_name}_command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except OSError as error:  # here, because click would make exit code 1 of a broken pipe
            _abandon_stdout()
            if error.errno == errno.EPIPE:
                return exits.DONE  # who reads has seen enough
            if options.ran(ctx) in WRITES:  # the write may be done, and only its receipt not shown
                exits.say_error(f"{error}: the write may have happened; read to find out")
                return exits.UNKNOWN
            exits.say_error(f"{error}. Make sure that what the command reads and writes can be used")
            return exits.REFUSED
        return result


@click.group(cls=_Commands, epilog=exits.EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(basestore.__version__, prog_name="basestore")
def group() -> None:
    """A replicated key-value store in which each call says how many replicas must answer.

    `basestore demo` shows all of it in about a minute. `basestore up` starts a cluster on this
    machine, where `basestore set greeting hello` and `basestore get greeting` find it: without an
    endpoint, requests go to 127.0.0.1:7400.

    The options below may stand before, between and after the words of a command that takes them.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    streams.fill_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that lacks a character is no error
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        result = group.main(
            arguments if arguments is None else list(arguments), "basestore", standalone_mode=False
        )
    except click.Abort:
        exits.say("interrupted")
        return exits.INTERRUPTED
    except click.ClickException as error:
        error.show()
        if isinstance(error, click.NoSuchOption):
            exits.say("Put -- before a key or value that begins with a dash.")
        return exits.USAGE
    except basestore.BasestoreError as error:
        return exits.tell(error, as_json=False)
    except Exception:  # noqa: BLE001 - a bug, shown in full; but 1 means "not found"
        traceback.print_exc()
        return exits.BUG
    return result if isinstance(result, int) else exits.DONE


def _abandon_stdout() -> None:
    """So that the interpreter does not try again, at its end, to write what could not be written."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
