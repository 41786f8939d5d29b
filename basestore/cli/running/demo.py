"""Demo: what basestore is for, on real processes and real data, in about a minute.

A demo is a list of acts. Each does something to the cluster, checks that what basestore promises
came true, and leaves a line for the table at the end. Whatever happens, Ctrl-C included, the
processes are stopped and the files removed. It touches no cluster but its own.
"""

import itertools
import signal
import sys
import tempfile
import time
import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from basestore.cli import exits, text
from basestore.cli.options import command
from basestore.cli.running.demo_members import MemberActs
from basestore.cli.running.promises import POLL_S, BrokenPromise, all_stored, expect, line, wait_for
from basestore.cli.running.serving import first_of, raise_expected
from basestore.consistency import COUNTED, Level

if TYPE_CHECKING:
    import trio

    from basestore.cli.running.children import Child
    from basestore.client.store import Store
    from basestore.results.receipts import Receipt

PATIENCE_S = 40.0
REQUEST_S = 10.0
BATCH = 2000
CHANGE_EVERY = 100
_COMPUTED_NAMES = ("CJK UNIFIED IDEOGRAPH-", "CJK COMPATIBILITY IDEOGRAPH-", "HANGUL SYLLABLE ")


@command("demo")
def demo_command() -> int:
    """Watch three nodes keep their promises.

    Starts three durable nodes (real processes, a temporary directory, free ports), imports the
    characters of Unicode by name, writes and reads at every level, kills a node with SIGKILL, goes
    on without it, brings it back, has a fourth node join and another one die for good while it
    writes, waits until all replicas have proven to hold the same, and ends with a table of what
    happened. It takes about a minute, and leaves nothing behind.
    """
    import trio

    try:
        return trio.run(_run)
    except BaseExceptionGroup as group:
        raise_expected(group)


async def _run() -> int:
    """Play the acts; a signal ends them early, with everything cleaned up."""
    import trio

    code = exits.INTERRUPTED
    heard = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        heard.append(signal.SIGHUP)
    with trio.open_signal_receiver(*heard) as signals:
        async with trio.open_nursery() as nursery:

            async def stop_at_signal() -> None:
                async for _ in signals:
                    exits.say("\ninterrupted: stopping the nodes, removing the files")
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop_at_signal)
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="basestore-demo-") as directory:
                code = await _Acts(Path(directory)).play()
            click.echo(f"{time.monotonic() - began:.0f} s. The nodes are stopped, their files removed.")
            nursery.cancel_scope.cancel()
    return code


def characters() -> Iterator[tuple[str, str]]:
    """The named characters of the Unicode database that Python ships, but for those whose names are
    computed from their numbers."""
    for number in range(sys.maxunicode + 1):
        name = unicodedata.name(chr(number), "")
        if name and not name.startswith(_COMPUTED_NAMES):
            yield name, chr(number)


def _milliseconds(since: float) -> str:
    return f"{(time.monotonic() - since) * 1e3:.1f} ms"


def _states(receipt: "Receipt") -> str:
    return ", ".join(f"{name} {state.name.lower()}" for name, state in sorted(receipt.replicas.items()))


class _Acts:
    """The cluster of the demo, and what has happened so far."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: list[Child] = []
        self._killed: set[int] = set()
        self._key = b""
        self._stderr: list[str] = []
        self._expected: dict[str, str] = {}
        self._changed: list[str] = []
        self._happened: list[tuple[str, str, str]] = []
        self._members = MemberActs(self._children, self._expected)

    async def play(self) -> int:
        """All acts, then the table. Returns the exit code."""
        import trio

        from basestore.errors import BasestoreError

        click.echo(f"basestore demo: three durable nodes on this machine, in {self._directory}\n")
        code = exits.REFUSED
        try:
            async with trio.open_nursery() as nursery:
                await self._acts(nursery)
                nursery.cancel_scope.cancel()
            code = exits.DONE
        except* (BrokenPromise, BasestoreError, trio.TooSlowError) as group:
            for line in self._stderr:
                exits.say(line)
            exits.say_error(
                f"not as promised: {str(first_of(group)) or 'an act took too long'}. If the machine is not "
                f"overloaded, this is a bug: please report it with what is printed here"
            )
        click.echo(f"\n{text.table(('ACT', 'WHAT HAPPENED', 'TOOK'), self._happened)}\n")
        return code

    async def _acts(self, nursery: "trio.Nursery") -> None:
        import basestore

        await self._act("start", "Three nodes start, each a process", self._start, nursery)
        async with basestore.connect(self._children[0].endpoint, timeout=REQUEST_S) as store:
            await self._act("import", "Real data comes in, at QUORUM", self._import, store)
            await self._act("levels", "A write and a read at every level", self._levels, store)
            await self._act("kill -9", "n3 is killed", self._kill)
            await self._act("QUORUM", "QUORUM writes go on", self._quorum, store)
            await self._act("ALL", "An ALL write is refused, before anything is done", self._all, store)
            await self._act("hints", "What n3 missed is kept for it", self._hints)
            await self._act("restart", "n3 comes back and gets what it missed", self._restart, nursery)
            await self._act("first write", "In bucket `once` the first write wins", self._first, store)
            await self._act("join", "A fourth node joins while writes go on", self._join, store, nursery)
            await self._act("dead", "n2 dies for good, and the others take its place", self._bury, store)
            await self._act("converged", "All replicas prove to hold the same", self._members.prove, store)
            await self._act("check", "Everything is read back at ALL", self._check, store)

    async def _act(
        self, name: str, title: str, play: Callable[..., Awaitable[str]], *arguments: object
    ) -> None:
        """One act: its title, its own lines, its line of the table."""
        import trio

        click.echo(f"{len(self._happened) + 1}. {title}")
        began = time.monotonic()
        with trio.fail_after(PATIENCE_S):
            summary = await play(*arguments)
        line(summary)
        self._happened.append((name, summary, f"{time.monotonic() - began:.1f} s"))

    async def _start(self, nursery: "trio.Nursery") -> str:
        from basestore.cli.running.children import wait_linked
        from basestore.server.local_cluster import config_path, prepare_cluster

        for config in prepare_cluster(self._directory, 3, None, "sync"):
            self._key = config.cluster.key
            child = await self._begin(nursery, config_path(self._directory, config.name))
            line(f"{child.name}  {child.endpoint}  pid {child.pid}")
        await wait_linked(self._children)
        return "three nodes run and are linked; every write goes to all of them"

    async def _begin(self, nursery: "trio.Nursery", path: Path) -> "Child":
        """Start the node of this file."""
        from basestore.cli.running.children import Child
        from basestore.config_file import load

        def tell(name: str, line: str) -> None:
            self._stderr.append(f"{name} | {line}")

        child = Child(path, load(path), tell)
        self._children.append(child)
        await nursery.start(self._watch, child)
        return child

    async def _watch(self, child: "Child", task_status: "trio.TaskStatus[None]") -> None:
        """Run a node; that it ends by itself is not part of an act."""
        await child.run(task_status)
        expect(child.pid in self._killed, f"{child.name} died: {child.end}")

    async def _import(self, store: "Store") -> str:
        self._expected.update(characters())
        rows = list(self._expected.items())
        began = time.monotonic()
        with _bar(len(rows)) as bar:
            for start in range(0, len(rows), BATCH):
                batch = rows[start : start + BATCH]
                all_stored(await store.set_many(batch))
                if bar is not None:
                    bar.update(len(batch))
        took_s = time.monotonic() - began
        name, character = "GREEK SMALL LETTER OMEGA", "\N{GREEK SMALL LETTER OMEGA}"
        result = await store.get(name)
        expect(result.value == character.encode(), f"{name} is not what was written")
        line(f"get {name!r} -> {character}")
        return (
            f"{len(rows):,} characters of Unicode {unicodedata.unidata_version}, by name, each on 2 disks "
            f"or more; {len(rows) / took_s:,.0f} a second"
        )

    async def _levels(self, store: "Store") -> str:
        for level in COUNTED:
            name = level.name.lower()
            key = f"written at {name}"
            began = time.monotonic()
            receipt = await store.set(key, name, consistency=level)
            all_stored([receipt])
            self._expected[key] = name
            line(
                f"set at {name:6}  {receipt.acknowledged} of {receipt.required} required  "
                f"{_milliseconds(began):>8}  {_states(receipt)}"
            )
        for level in (Level.ONE, Level.QUORUM, Level.ALL):
            name = level.name.lower()
            began = time.monotonic()
            result = await store.get("written at all", consistency=level)
            expect(result.value == b"all", f"a read at {name} found {result.value!r}")
            asked = f"{result.responded} of {result.required} required"
            line(f"get at {name:6}  {asked}  {_milliseconds(began):>8}")
        return "written at ANY, ONE, QUORUM and ALL; read at ONE, QUORUM and ALL; with receipts"

    async def _kill(self) -> str:
        victim = self._children[2]
        self._end(victim)
        await wait_for(self._children[0].endpoint, lambda state: "n3" not in state.alive)
        return f"pid {victim.pid} got SIGKILL; n1 sees: alive are n1 and n2"

    def _end(self, victim: "Child") -> None:
        self._killed.add(victim.pid)
        victim.kill()

    async def _quorum(self, store: "Store") -> str:
        names = list(characters_of_interest(self._expected))
        changes = [(name, f"{self._expected[name]} U+{ord(self._expected[name]):04X}") for name in names]
        receipt = await store.set(*changes[0])
        line(f"{changes[0][0]}: {receipt.outcome.value}, {_states(receipt)}")
        all_stored([receipt, *await store.set_many(changes[1:])])
        self._expected.update(changes)
        self._changed = names
        return f"{len(changes)} values changed while n3 is dead, each on both other disks"

    async def _all(self, store: "Store") -> str:
        from basestore.errors import Unavailable

        key = "written at all"
        try:
            await store.set(key, "again", consistency="all")
        except Unavailable as error:
            line(f"Unavailable: {error}")
            result = await store.get(key)
            expect(result.value == b"all", "a refused write was done")
            return f"{error.required} required, {error.alive} alive: refused, and the old value stands"
        raise BrokenPromise("a write at ALL was accepted with a node dead")

    async def _hints(self) -> str:
        import trio

        from basestore.cli.running.children import state_of

        count, kept = len(self._changed), 0
        while kept < count:  # whichever node was asked keeps them
            states = [await state_of(child.endpoint) for child in self._children[:2]]
            kept = sum(state.hints.get("n3", 0) for state in states if state is not None)
            await trio.sleep(POLL_S)
        return f"n1 and n2 keep {kept} hints for n3, on disk"

    async def _restart(self, nursery: "trio.Nursery") -> str:
        import basestore
        from basestore.cli.running.children import wait_linked

        returning = self._children[2]
        began = time.monotonic()
        await nursery.start(self._watch, returning)
        line(f"n3  {returning.endpoint}  pid {returning.pid}")
        await wait_linked(self._children)
        for child in self._children[:2]:
            await wait_for(child.endpoint, lambda state: not state.hints.get("n3"))
        took_s = time.monotonic() - began
        async with basestore.connect(returning.endpoint) as store:
            for name in self._changed:
                result = await store.get(name, consistency="one")  # n3 asks itself first
                expect(result.value == self._expected[name].encode(), f"n3 does not know the new {name}")
        return f"{len(self._changed)} hints were delivered in {took_s:.1f} s; n3 itself has every new value"

    async def _first(self, store: "Store") -> str:
        import basestore

        key, first, second = "owner of the name ada", "Ada Lovelace", "Ada Byron"
        receipt = await store.set(key, first, bucket="once")
        line(f"set {first!r} through n1: {receipt.outcome.value}")
        async with basestore.connect(self._children[1].endpoint) as other:
            refused = await other.set(key, second, bucket="once")
        line(f"set {second!r} through n2: {refused.outcome.value}, to version {refused.superseded_by}")
        expect(refused.outcome is basestore.Outcome.LOST, "a second value was accepted")
        result = await store.get(key, bucket="once")
        expect(result.value == first.encode(), f"the key holds {result.value!r}")
        return f"a second value is refused; the key still holds {first!r}"

    async def _join(self, store: "Store", nursery: "trio.Nursery") -> str:
        return await self._members.join(store, self._directory, partial(self._begin, nursery), self._key)

    async def _bury(self, store: "Store") -> str:
        return await self._members.bury(store, self._end)

    async def _check(self, store: "Store") -> str:
        found = {item.key.decode(): item.value.decode() async for item in store.scan(consistency="all")}
        expect(found == self._expected, f"{len(found)} records, {len(self._expected)} were acknowledged")
        return f"all {len(found):,} acknowledged records are there; three replicas agree on each"


def characters_of_interest(names: Iterable[str]) -> Iterator[str]:
    """A handful of hundreds, spread over the alphabet."""
    yield from itertools.islice((name for name in sorted(names) if name.isupper()), 0, None, CHANGE_EVERY)


def _bar(length: int) -> Any:
    """A progress bar, where someone watches."""
    return (
        click.progressbar(length=length, label="   importing", file=sys.stderr)
        if sys.stderr.isatty()
        else nullcontext()
    )
