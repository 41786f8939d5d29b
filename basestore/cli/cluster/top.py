"""Top: the cluster as it is now, once a second.

Every node is asked for itself, all at the same time; who does not answer soon is shown as down. On
a terminal one frame replaces the other; into a pipe or a file they follow each other as plain text. What a
frame shows is made by `samples.py` and `board.py`.
"""

import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from basestore.cli import exits, text
from basestore.cli.options import Target, command, share, waiting
from basestore.cli.running.serving import raise_expected
from basestore.cli.stores import open_store

if TYPE_CHECKING:
    import trio
    from rich.live import Live

    from basestore.cli.cluster.samples import Sample, View
    from basestore.results.nodes import NodeState

ANSWER_S_MAX = 1.0
INTERVAL_S_MIN = 0.1
PLAIN_COLUMNS = 160


@command("top")
@share("endpoint", "timeout", "output")
@click.option("--once", is_flag=True, help="Print one frame, of one interval, and end.")
@click.option(
    "--interval", type=waiting, default="1s", show_default=True, help="The time from frame to frame."
)
def top_command(target: Target, once: bool, interval: float) -> int:
    """Watch the cluster live, until q or Ctrl-C.

    \b
    counts on      how many members the node counts for levels, and which it does not
    repairs/s      replicas brought up to date, by reads and by writes
    proven         how long ago all that was written by then is proven to be on all replicas, at the
                   partition where that is longest, and who holds it back
    debt           partitions of other members that may lack writes that no hint is kept of
    hints for      hints kept, by the member they are for
    p50, p99       milliseconds that requests of the last interval took in the node
    asked/s        requests at this level
    beaten/s       writes that were superseded by a newer one, or lost to an earlier one
    failed/s       requests that ended in an error
    offered/s      requests that clients have sent; admitted/s: that were begun; shed/s: refused unopened, for
                   the node is asked for too much
    over a limit   requests refused (and so failed), or deferred, for their bucket or their key has a limit
                   (requests_per_s, key_requests_per_s) at this node; a line for each node with any
    under way      requests begun and not answered yet, of how many may be; window: how many a client may
                   have under way at least; brownout 0 to 2: how much the node leaves out; deferred: hints
                   of writes that were kept for later
    registers/s    writes of registers that its clients have had answered; one round: the share of ballots
                   that did not need preparing, reads and retries included; conflicts/s: ballots refused,
                   for a later one was known; helps/s: tries to finish a write that was found accepted;
                   unlearned: rows accepted, and not learned now; intents: rows with one; locks: held now.
                   Shown where registers are used
    ideal          when the level would have been met, whatever level was asked for

    With -o json each line is a frame. Into a pipe, frames are plain text, one after the other. A terminal of
    less than 80 columns is shown less.
    """
    import trio

    if interval < INTERVAL_S_MIN:
        raise click.UsageError(f"The interval must be {INTERVAL_S_MIN} s or more.")
    with open_store(target) as store:
        members = store.status()
    try:
        return trio.run(_watch, _Top(target, members, interval, once))
    except BaseExceptionGroup as group:
        raise_expected(group)


async def _watch(top: "_Top") -> int:
    """Frames, until a signal comes or there are no more."""
    import trio

    code = exits.DONE
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await top.run()
                nursery.cancel_scope.cancel()

            nursery.start_soon(run)
            if top.live:
                nursery.start_soon(_end_at_q, nursery.cancel_scope)
            async for number in signals:
                code = exits.INTERRUPTED if number == signal.SIGINT else exits.DONE
                nursery.cancel_scope.cancel()
    return code


async def _end_at_q(scope: "trio.CancelScope") -> None:
    """Hear single keys, if they come from a terminal, until one is q."""
    import trio

    if not sys.stdin.isatty():
        return
    with _single_keys(sys.stdin.fileno()) as keys:
        while True:
            await trio.lowlevel.wait_readable(keys)
            pressed = os.read(keys, 64)
            if b"q" in pressed or not pressed:
                scope.cancel()
                return


@contextmanager
def _single_keys(terminal: int) -> Iterator[int]:
    """The terminal gives each key at once and shows none; afterwards it is as it was."""
    import termios
    import tty

    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield terminal
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


class _Top:
    """Asks the nodes and shows what they say."""

    def __init__(self, target: Target, members: "list[NodeState]", interval_s: float, once: bool) -> None:
        self._target = target
        self._members = members
        self._interval_s = interval_s
        self._once = once
        self._samples: dict[str, Sample] = {}
        self.live = not (once or target.json) and sys.stdout.isatty()  # frames replace each other

    async def run(self) -> None:
        """Ask and show, once in an interval."""
        import trio

        with ExitStack() as stack:
            live = self._open_live(stack)
            due = trio.current_time()
            first = True
            while True:
                views = await self._ask_all()
                if not (first and self._once):
                    self._show(views, live)
                if self._once and not first:
                    return
                first = False
                await self._look()
                # A frame that came late is not caught up with.
                due = max(due + self._interval_s, trio.current_time())
                await trio.sleep_until(due)

    def _open_live(self, stack: ExitStack) -> "Live | None":
        """The terminal, taken over; None when frames are just printed."""
        if not self.live:
            return None
        from rich.console import Console
        from rich.live import Live

        return stack.enter_context(Live(console=Console(), auto_refresh=False, screen=True))

    async def _ask_all(self) -> "list[View]":
        import trio

        from basestore.cli.cluster.samples import View

        earlier = dict(self._samples)
        async with trio.open_nursery() as nursery:
            for member in self._members:
                nursery.start_soon(self._ask, member)
        return [View.between(earlier.get(m.node), self._samples[m.node]) for m in self._members]

    async def _look(self) -> None:
        """Where members are by now of which some did not answer, by the word of one that did."""
        import basestore
        from basestore.client.network_channel import channel_to

        up = [m.endpoint for m in self._members if self._samples[m.node].state.state != "down"]
        if not 0 < len(up) < len(self._members):
            return
        with suppress(basestore.Unreachable):
            async with channel_to(up, ANSWER_S_MAX) as channel:
                found = await channel.addresses(time.monotonic() + ANSWER_S_MAX)
                self._members = [replace(m, endpoint=found.get(m.node, m.endpoint)) for m in self._members]

    async def _ask(self, member: "NodeState") -> None:
        """Ask one node. One that does not answer in time, or not sensibly, is down."""
        import trio

        import basestore
        from basestore.cli.cluster.samples import Sample
        from basestore.client.network_channel import channel_to
        from basestore.client.operator import Operator
        from basestore.protocol.handshake import Meant
        from basestore.results.nodes import down

        meant = Meant(name=member.node, address=member.endpoint)
        within_s = min(self._target.timeout_s, ANSWER_S_MAX)
        reason = f"it does not answer within {within_s:g} s"
        with trio.move_on_after(within_s):
            try:
                async with channel_to([meant.address], within_s, meant=meant) as channel:
                    state = await Operator(channel, timeout=within_s).node_counters()
                    self._samples[meant.name] = Sample.of(replace(state, endpoint=meant.address))
                    return
            except (basestore.Unreachable, basestore.RequestFailed, ValueError) as error:
                reason = str(error).partition(". ")[0]
        self._samples[member.node] = Sample(down(member.node, member.endpoint, reason))

    def _show(self, views: "list[View]", live: "Live | None") -> None:
        from basestore.cli.cluster.board import board
        from basestore.cli.cluster.samples import board_json

        if self._target.json:
            click.echo(text.compact(board_json(views)))
            return
        title = time.strftime("%H:%M:%S")
        if live is not None:
            live.update(board(views, title, live.console.width), refresh=True)
            return
        from rich.console import Console

        paper = Console(file=io.StringIO(), width=PLAIN_COLUMNS, color_system=None)
        with paper.capture() as capture:
            paper.print(board(views, title, PLAIN_COLUMNS))
        click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
        if not self._once:
            click.echo()
