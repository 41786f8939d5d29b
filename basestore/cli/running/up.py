"""Up: a whole cluster on this machine, as child processes of one command.

Owns the files of the cluster while it runs (`server/local_cluster.py`) and its processes (`children.py`). A
node that dies is reported, not restarted: whoever plays with failures wants to see them.
"""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from basestore.cli import exits
from basestore.cli.options import command
from basestore.cli.running.serving import raise_expected

if TYPE_CHECKING:
    import trio

    from basestore.cli.running.children import Child
    from basestore.config import Durability

PORT_DEFAULT = 7400
DIRECTORY_DEFAULT = "basestore-data"


@command("up")
@click.option("--nodes", type=click.IntRange(min=1), help="How many. [default: 3, or as many as DIR has]")
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=DIRECTORY_DEFAULT,
    show_default=True,
    help="Where configurations and data lie.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help=f"The first of consecutive ports. [default: {PORT_DEFAULT}, or as in DIR]",
)
@click.option(
    "--durability",
    type=click.Choice(["sync", "interval", "memory"]),
    help="When a write is acknowledged. sync: when it is on disk; interval: at once, it is on disk a second "
    "later; memory: at once, there is no disk. [default: sync, or as in DIR]",
)
@click.option(
    "--metrics",
    "metrics_port",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="The first of consecutive ports at which the nodes show metrics for Prometheus. [default: none, or "
    "as in DIR]",
)
def up_command(
    directory: Path, nodes: int | None, port: int | None, durability: str | None, metrics_port: int | None
) -> int:
    """Start a cluster on this machine.

    The nodes n1, n2, ... are processes, and run until Ctrl-C or SIGTERM. It prints a line a node,
    and `ready` when all are linked. DIR/n1.toml, ... are written when they are not there; started
    again on the same DIR, the cluster carries on with its data.

    A node that dies is reported and not restarted: bring n3 back with
    `basestore serve --config DIR/n3.toml`. Exit code: 0 after SIGTERM, 130 after Ctrl-C.
    """
    import trio

    from basestore.cli.running.children import Child
    from basestore.server import local_cluster

    if port is None and local_cluster.first_config(directory) is None:
        port = PORT_DEFAULT
    configs = local_cluster.plan_cluster(directory, nodes, port, cast("Durability | None", durability))
    if metrics_port is not None:
        configs = local_cluster.show_metrics(configs, metrics_port)
    local_cluster.refuse_shared_ports(configs)
    local_cluster.refuse_taken_ports(configs)
    local_cluster.write_cluster(directory, configs)
    children = [
        Child(
            local_cluster.config_path(directory, config.name),
            config,
            lambda name, line: exits.say(f"{name} | {line}"),
        )
        for config in configs
    ]
    try:
        return trio.run(_supervise, children)
    except BaseExceptionGroup as group:
        raise_expected(group)


async def _supervise(children: "Sequence[Child]") -> int:
    """Run the children until a signal comes, or the last of them has died."""
    import trio

    code = exits.REFUSED
    alive = set(children)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def look_after(
                child: "Child", task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED
            ) -> None:
                await child.run(task_status)
                alive.discard(child)
                exits.say(end_of(child))
                if not alive:
                    exits.say_error(
                        "all nodes that this command started have died. See above why, stop those that "
                        "were started by hand, and start again with `basestore up`"
                    )
                    nursery.cancel_scope.cancel()

            for child in children:
                await nursery.start(look_after, child)
                where = f"  http://{child.metrics}/metrics" if child.metrics else ""
                exits.announce(f"{child.name}  {child.endpoint}  pid {child.pid}  {child.path}{where}")
            nursery.start_soon(_announce_ready, children)
            async for number in signals:
                code = exits.INTERRUPTED if number == signal.SIGINT else exits.DONE
                nursery.cancel_scope.cancel()
    return code


def end_of(child: "Child") -> str:
    """How a node has ended, and what to do; what it has refused itself, its own words say."""
    if child.code == exits.USAGE:
        return f"{child.name} did not start: {child.reason}"
    if child.has_left:
        return f"{child.name} has ended, and had left the cluster: remove {child.path} and its directory"
    return f"{child.name} died: {child.end}. Bring it back with: {child.command}"


async def _announce_ready(children: "Sequence[Child]") -> None:
    from basestore.cli.running.children import wait_linked

    await wait_linked(children)
    exits.announce("ready")
