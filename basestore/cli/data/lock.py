"""Lock: the commands lock, elect and locks.

A command runs under a lock as a process of its own: only a process can be ended whatever it does. Its
environment names the fence, for what it writes. Who waits for whom: the main thread for the process, another
for the lease, which ends the process where that is lost.
"""

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from basestore.cli import exits, text
from basestore.cli.options import Target, command, data, duration, share
from basestore.cli.stores import open_store
from basestore.errors import LeaseLost, LockHeld

if TYPE_CHECKING:
    from basestore.client.coordination.lock_view import LockView
    from basestore.client.coordination.sync_lease import SyncLease

LOCK_VARIABLE: Final = "BASESTORE_LOCK"
FENCE_VARIABLE: Final = "BASESTORE_FENCE"
ENDING_S: Final = 5.0  # from SIGTERM to SIGKILL
NOT_FOUND: Final = 127  # the exit code of a shell for a command that there is not
SHARED = ("endpoint", "timeout", "output")
_SECONDS = click.option(
    "--seconds",
    type=duration,
    default="10s",
    help="How long the lock is held without being renewed, which it is all the time. [default: 10s]",
)
_WAIT = click.option("--wait", type=duration, help="How long to wait for the lock. [default: for ever]")
_NO_WAIT = click.option("--no-wait", is_flag=True, help="Do not wait: if it is held, the exit code is 5.")
_OWNER = click.option("--owner", metavar="TEXT", help="Whom the others are told of. [default: HOST:PID]")


@command("lock")
@share(*SHARED)
@click.argument("name", type=data)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, required=True, metavar="COMMAND...")
@_SECONDS
@_WAIT
@_NO_WAIT
@_OWNER
def lock_command(
    target: Target, name: bytes, words: tuple[str, ...], seconds: float, wait: float | None, no_wait: bool,
    owner: str | None,
) -> int:  # fmt: skip
    """Run COMMAND while the lock NAME is held.

    Put -- before COMMAND. It finds the lock's fence in $BASESTORE_FENCE: what it writes with `basestore set
    ... --fence $BASESTORE_FENCE` is written only while the lock is still held for it. If the lock is lost,
    COMMAND is ended.

    A lock without a fence is a hint: a process that was stopped, or a machine that was asleep, goes on for a
    moment as if it still had the lock, while another has it.

    Exit code: that of COMMAND; 5 if the lock is held by another and --no-wait, or --wait is over; 4 if it was
    lost under way.

    \b
    Example:
        basestore lock backup --no-wait -- ./backup.sh
        basestore lock jobs -- sh -c 'basestore set job/7 done --bucket cas --fence $BASESTORE_FENCE'
    """
    try:
        with (
            open_store(target) as store,
            store.lease(name, seconds=seconds, wait=_waiting(wait, no_wait), owner=_owner(owner)) as lease,
        ):
            return _run(words, lease)
    except (LockHeld, LeaseLost) as error:
        return exits.tell(error, as_json=target.json)


def _waiting(wait: float | None, no_wait: bool) -> float | None:
    if wait is not None and no_wait:
        raise click.UsageError("Give one: --wait or --no-wait.")
    return 0.0 if no_wait else wait


def _owner(owner: str | None) -> str:
    return f"{socket.gethostname()}:{os.getpid()}" if owner is None else owner


def _fence(lease: "SyncLease") -> str:
    return f"{os.fsdecode(lease.name)}:{lease.token}"


def _run(words: Sequence[str], lease: "SyncLease") -> int:
    """Run it to its end, or to that of the lease."""
    with _Signals() as signals:
        environment = os.environ | {LOCK_VARIABLE: os.fsdecode(lease.name), FENCE_VARIABLE: _fence(lease)}
        try:
            child = subprocess.Popen(words, env=environment)
        except OSError as error:
            exits.say_error(f"{words[0]} cannot be run: {error.strerror}. The lock was given back")
            return NOT_FOUND
        signals.hand_on(child)

        def end_with_lease() -> None:
            lease.ended.wait()
            with suppress(LeaseLost):
                lease.check()
                return
            _end(child)

        threading.Thread(target=end_with_lease, daemon=True).start()
        code = child.wait()
    return 128 - code if code < 0 else code  # as a shell says that a signal has ended it


class _Signals:
    """What becomes of signals while a process runs, and from before it does: none of them may end the block
    in which the lock is held while it runs on. SIGTERM is handed on; Ctrl-C it has itself, and may take its
    time to end."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._ends = False

    def __enter__(self) -> "_Signals":
        self._before = {
            number: signal.signal(number, self._heard)
            for number in (signal.SIGTERM, signal.SIGINT)
            if signal.getsignal(number) is not signal.SIG_IGN  # nor does the process hear it then
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self._ends |= number == signal.SIGTERM
        if self._child is not None and number == signal.SIGTERM:
            self._child.send_signal(number)

    def hand_on(self, child: "subprocess.Popen[bytes]") -> None:
        """To this one; what was heard before, too."""
        self._child = child
        if self._ends:
            child.terminate()


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        child.kill()


class _NoCandidate(Exception):
    """Who waits to be elected is to end."""


@command("elect")
@share(*SHARED)
@click.argument("name", type=data)
@_SECONDS
@_WAIT
@_NO_WAIT
@_OWNER
@click.option("--show", is_flag=True, help="Say who is elected, and go; exit code 1 if nobody is.")
def elect_command(
    target: Target, name: bytes, seconds: float, wait: float | None, no_wait: bool, owner: str | None,
    show: bool,
) -> int:  # fmt: skip
    """Be elected as the one of NAME, and stay so until SIGTERM or Ctrl-C.

    It waits until nobody else is, and prints one line, with the fence. That is the lock NAME: `basestore
    lock` is for what is to be run meanwhile.

    Exit code: 0 after SIGTERM, 130 after Ctrl-C; 5 if another is elected and --no-wait, or --wait is over; 4
    if the election was lost.
    """
    if show:
        return _show(target, name)
    over, elected = threading.Event(), False

    def end(number: int, frame: FrameType | None) -> None:
        over.set()
        if not elected:
            raise _NoCandidate

    before = signal.signal(signal.SIGTERM, end)
    try:
        with (
            open_store(target) as store,
            store.lease(name, seconds=seconds, wait=_waiting(wait, no_wait), owner=_owner(owner)) as lease,
        ):
            elected = True
            told = {"elected": True, "token": lease.token, "fence": _fence(lease)}
            line = f"elected  fence {text.printable(os.fsencode(_fence(lease)))}"
            exits.announce(json.dumps(told) if target.json else line)

            def end_with_lease() -> None:
                lease.ended.wait()
                over.set()

            threading.Thread(target=end_with_lease, daemon=True).start()
            over.wait()
    except _NoCandidate:
        return exits.DONE
    except (LockHeld, LeaseLost) as error:
        return exits.tell(error, as_json=target.json)
    finally:
        signal.signal(signal.SIGTERM, before)
    return exits.DONE


def _show(target: Target, name: bytes) -> int:
    from basestore.client.coordination.lock_view import LockView
    from basestore.leases import LOCKS

    with open_store(target) as store:
        view = LockView.of(name, store.get(name, bucket=LOCKS, consistency="serial"))
    if view is None:
        exits.say(f"Nobody is elected as {text.printable(name)}.")
        return exits.NOT_FOUND
    click.echo(json.dumps(view.as_json()) if target.json else _line_of(view))
    return exits.DONE


@command("locks")
@share(*SHARED)
@click.argument("prefix", type=data, required=False, default=b"")
def locks_command(target: Target, prefix: bytes) -> int:
    """List the locks that are held, and by whom, since when.

    With PREFIX those whose names begin so. One whose holder has died stays in the list until a little after
    its time is over. In JSON: an object a line.
    """
    with open_store(target) as store:
        views = store.locks(prefix)
    for view in views:
        click.echo(json.dumps(view.as_json()) if target.json else _line_of(view))
    if not views:
        target.remark("No lock is held.")
    return exits.DONE


def _line_of(view: "LockView") -> str:
    ephemeral = f"  {text.counted(len(view.keys), 'ephemeral key')}" if view.keys else ""
    owner = text.printable(view.owner.encode()) or "(unnamed)"
    since = text.moment(view.since_ms)
    return f"{text.printable(view.name)}  held by {owner} since {since}  token {view.token}{ephemeral}"
