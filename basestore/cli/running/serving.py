"""Serving: the command that runs one node as a process, until it is told to stop or its store fails.

Owns the process around a `Service`: signals, the log, the limit of open files, pauses of the garbage
collector. What ends the service becomes an exit code; an error that nobody expected stays a traceback. It
does not start a node again: that is for whoever watches the process.
"""

import gc
import logging
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from basestore.cli import exits
from basestore.cli.options import command

if TYPE_CHECKING:
    import trio

    from basestore.config import NodeConfig
    from basestore.server.service import Service

FILES_MAX = 1 << 20


@command("serve")
@click.option(
    "--config", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The node's TOML file."
)
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    help="Show metrics for Prometheus there, at /metrics, with /livez and /readyz. [default: as in the file]",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="How much to log, to stderr.",
)
@click.option(
    "--clock-is-right",
    is_flag=True,
    help="Trust this machine's clock for this start, though no majority is heard, or stamps are ahead of it.",
)
@click.option(
    "--salvage",
    is_flag=True,
    help="First, if the store is damaged, make a new one of what can be read of it.",
)
@click.option(
    "--forgetful",
    is_flag=True,
    help="The store may be an old copy (a snapshot of its disk, say): let it recover from the others first.",
)
@click.option("--stop-at-eof", is_flag=True, hidden=True, help="Stop when stdin ends: when a parent died.")
def serve_command(
    config: Path,
    metrics: str | None,
    log_level: str,
    clock_is_right: bool,
    salvage: bool,
    forgetful: bool,
    stop_at_eof: bool,
) -> int:
    """Run one node, until SIGTERM (exit code 0) or Ctrl-C (130).

    It prints a line when it listens. When its store fails, it ends with exit code 3 and the reason:
    then nothing was acknowledged that is not on disk.

    The file names all nodes of the cluster, and which of them this is; `basestore up` writes such
    files, and they say what may stand in them.
    """
    import trio

    from basestore.config import parse_address
    from basestore.config_file import load

    node = replace(load(config), clock_is_right=clock_is_right, forgetful=forgetful)
    if metrics is not None:
        parse_address(metrics)
        node = replace(node, metrics=metrics)
    _begin_log(log_level.upper())
    _prepare_process()
    if salvage:
        from basestore.server.salvage import salvage as salvage_store

        exits.announce(f"{node.name}: {salvage_store(node)}")
    try:
        return trio.run(_serve, node, stop_at_eof)
    except BaseExceptionGroup as group:
        raise_expected(group)


def _begin_log(level: str) -> None:
    """To stderr; times are in UTC, and say so."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=level)
    for handler in logging.getLogger().handlers:
        formatter = handler.formatter
        if formatter is not None:
            formatter.converter = time.gmtime
            formatter.default_time_format, formatter.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"


def _prepare_process() -> None:
    """Room for connections; and no long pauses to collect what will not be garbage."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    gc.collect()
    # What was imported lives as long as the process: the collector need not look at it again.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


async def _serve(config: "NodeConfig", stop_at_eof: bool) -> int:
    import trio

    from basestore.server.service import Service

    code = exits.DONE
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        service = Service(config)
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            exits.announce(f"{config.name} listens on {config.listens_on}, durability {config.durability}")
            if config.metrics:
                exits.announce(f"{config.name} shows its metrics at http://{config.metrics}/metrics")
            if stop_at_eof:
                nursery.start_soon(_stop_at_eof, nursery.cancel_scope)
            leaving = False
            async for number in signals:
                code = exits.INTERRUPTED if number == signal.SIGINT else exits.DONE
                if leaving:  # a second signal: now
                    nursery.cancel_scope.cancel()
                else:
                    leaving = True
                    nursery.start_soon(_leave, service, nursery.cancel_scope)
    return code


async def _leave(service: "Service", scope: "trio.CancelScope") -> None:
    await service.leave()
    scope.cancel()


async def _stop_at_eof(scope: "trio.CancelScope") -> None:
    import trio

    async with trio.lowlevel.FdStream(0) as stdin:
        while await stdin.receive_some(1024):
            pass
    scope.cancel()


def raise_expected(group: BaseExceptionGroup[BaseException]) -> NoReturn:
    """The first of the errors that a nursery wrapped, if all are expected ones; else all."""
    from basestore.errors import BasestoreError

    expected, bugs = group.split((BasestoreError, OSError))
    if expected is None or bugs is not None:
        raise group
    raise first_of(expected)


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a tree of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
