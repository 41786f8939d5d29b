"""Moves course: three nodes become six, and three again, while a client reads and writes; or one is replaced.

    load        so many records, at ALL
    quiet       the client alone: what all else is held against
    join        n4, n5 and n6, one after the other, each until all moves have ended
    six         the client alone
    drain       n1, n2 and n3 likewise, each stopped once it has left
    three       the client alone
    accounts    all is proven to be everywhere (`converged`), then each key is read at QUORUM

Meanwhile members are killed and stand still (`moves_faults.py`). Without a client there are no faults either:
then all that nodes send each other between the begin of a change and its end is for the moves, or what nodes
with nothing to do say, and is counted.
"""

import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Final

import trio

from basestore import Store
from basestore.repair.version import PROPOSAL_BYTES, RECORD_BYTES_MIN
from benchmarks.cluster import Cluster, ClusterFailed
from benchmarks.load import VALUE_BYTES, VALUES, Preload, key, preload, values
from benchmarks.moves_faults import KINDS, STAGES, Faults
from benchmarks.moves_members import Members
from benchmarks.moves_report import (
    Checked,
    Disturbance,
    Found,
    Moved,
    Phase,
    Seats,
    Trace,
    by_second,
    bytes_of,
    came,
    disturbance_rows,
    phase_rows,
)
from benchmarks.paced import Ledger, PacedClient

FIRST: Final = 3
ASIDE_S: Final = 0.5  # from when a node is asked no more until it is stopped
CONVERGED_S_MAX: Final = 600.0
DEAD: Final = 2  # the place of the node that is replaced
WRITES: Final = 0.5
# A row is partition 2, length 1, label and key; its record has a proposal: clients can repeat writes.
RECORD_BYTES: Final = 3 + len(b"default") + len(key(0)) + RECORD_BYTES_MIN + PROPOSAL_BYTES + VALUE_BYTES

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. `quiet`: no client, and no faults; `seconds`: of each window in which nothing moves."""

    records: int
    rate_per_s: float
    seconds: float
    quiet: bool
    replace: bool
    parent: Path | None


class Account(Ledger):
    """Knows besides which keys were ever to be written, and how many writes were acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.tried = set[bytes]()
        self.acknowledged = 0

    async def write(self, store: Store, key: bytes, value: bytes) -> None:
        self.tried.add(key)
        await super().write(store, key, value)
        self.acknowledged += 1


class Course:
    """One run. `members`: of its cluster; `found`: what it has shown so far."""

    def __init__(self, plan: Plan, members: Members, say: Say) -> None:
        self._plan, self.members, self._say = plan, members, say
        self.account, self.trace, self.found = Account(), Trace(), Found()
        self.client = PacedClient(
            [], [key(number) for number in range(plan.records)], self.account, plan.rate_per_s, WRITES
        )
        self.phases: list[Phase] = []
        self.faults = Faults(members, say, self._spread)
        self.start_ns = perf_counter_ns()
        self._records: Sequence[int] = ()
        self._idle_bytes_per_s = 0.0

    def _spread(self) -> None:
        """The client asks all nodes that it may."""
        self.client.stores = list(self.members.lanes.values())

    @asynccontextmanager
    async def phase(self, name: str) -> AsyncIterator[None]:
        self._say(name)
        begin_ns = perf_counter_ns()
        yield
        self.phases.append(Phase(name, begin_ns, perf_counter_ns()))

    async def begin(self) -> None:
        """The records are there, everywhere, and how many each partition has is known."""
        cluster = self.members.cluster
        began_ns = perf_counter_ns()
        await preload(Preload(cluster.endpoints, self._plan.records))
        self.found.loaded_per_s = round(self._plan.records * 1e9 / (perf_counter_ns() - began_ns))
        for place in range(FIRST):
            await self.members.reach(place)
        for place in range(FIRST):
            await self.members.lead(place)
        self._spread()
        proof = await self.members.lanes[0].converged(timeout=CONVERGED_S_MAX)
        if not proof:
            raise ClusterFailed(f"what was loaded is not proven to be everywhere: {proof.obstacles}")
        self._records = [each.count for each in proof.partitions]
        await trio.to_thread.run_sync(cluster.wait_quiet)

    async def rest(self, name: str) -> None:
        """Nothing moves for a while."""
        before, began_ns = await self._sent(), perf_counter_ns()
        async with self.phase(name):
            await trio.sleep(self._plan.seconds)
        if not self.found.moved:
            sent = await self._sent() - before
            self._idle_bytes_per_s = sent * 1e9 / (perf_counter_ns() - began_ns)

    async def _sent(self) -> int:
        return await self.members.sent_bytes() if self._plan.quiet else 0

    # --- changes -----------------------------------------------------------------------------

    async def grow(self, stage: str) -> None:
        """A node joins, and is given its share; members are struck in this stage."""
        members = self.members
        place = await trio.to_thread.run_sync(members.cluster.join, min(members.lanes))
        name = f"n{place + 1}"
        async with self._change(f"join {name}", [stage]):
            await self._start(place)
            await members.wait_moved(name, gone=False)

    async def shrink(self, stage: str) -> None:
        """The first node is drained, leaves and is stopped."""
        members, place = self.members, min(self.members.lanes)
        name = f"n{place + 1}"
        async with self._change(f"drain {name}", [stage], place):
            await members.drain(name)
            await members.wait_moved(name, gone=True)

    async def replace(self) -> None:
        """A node is dead, its store is gone, and another takes its place."""
        members, cluster, dead = self.members, self.members.cluster, f"n{DEAD + 1}"
        await self._leave(DEAD)
        await trio.to_thread.run_sync(cluster.kill, DEAD)
        shutil.rmtree(cluster.directory / dead)
        async with self._change(f"replace {dead}", []):
            place = await trio.to_thread.run_sync(cluster.join, 0)
            await members.replace(dead, f"n{place + 1}")
            await self._start(place)
            await members.wait_moved(dead, gone=True)

    async def _start(self, place: int) -> None:
        """A node; the client asks it, too, once it is up."""
        members = self.members
        members.cluster.start(place)
        await members.reach(place)
        await members.up(place)
        await members.lead(place)
        self._spread()

    async def _leave(self, place: int) -> None:
        """A node is asked nothing any more."""
        self.members.forget(place)
        self._spread()
        await trio.sleep(ASIDE_S)

    @asynccontextmanager
    async def _change(
        self, name: str, stages: Sequence[str], leaves: int | None = None
    ) -> AsyncIterator[None]:
        """Members change in this block, and are struck; who `leaves` is stopped at the end of it."""
        members, over = self.members, trio.Event()
        if not self._plan.quiet:
            self.faults.due.extend((stage, what) for stage in stages for what in KINDS)
        before, sent = await self._seats(), await self._sent()
        async with self.phase(name), trio.open_nursery() as nursery:
            began_ns = perf_counter_ns()
            nursery.start_soon(partial(self.faults.run, over, growing=leaves is None))
            yield
            seconds = (perf_counter_ns() - began_ns) / 1e9
            sent = await self._sent() - sent
            if leaves is not None:
                await self._leave(leaves)
                await trio.to_thread.run_sync(members.cluster.stop, leaves)
            over.set()
        await members.lead_all()
        self._spread()
        moved = came(before, await self._seats(), self._records)
        known = sent if self._plan.quiet else None
        self.found.moved.append(Moved(name, round(seconds, 1), *moved, known))
        self._say(f"{moved[1]:,} records moved in {seconds:.1f} s")

    async def _seats(self) -> Seats:
        return [each.replicas for each in (await self.members.topology()).partitions]

    # --- accounts ----------------------------------------------------------------------------

    async def check(self) -> None:
        """What is there now, of all that ever was acknowledged."""
        self._say("accounts")
        began_ns = perf_counter_ns()
        lanes = list(self.members.lanes.values())
        proof = await lanes[0].converged(timeout=CONVERGED_S_MAX)
        converged_s = round((perf_counter_ns() - began_ns) / 1e9, 1)
        if not proof:
            self._say(f"not converged: {proof.obstacles}"[:500])
        copies = 0
        for store in lanes:
            copies += (await store.node_status()).records or 0
        lost, altered, records = await self._compared(lanes[0])
        account = self.account
        self.found.checked = Checked(
            account.acknowledged, len(account.tried), lost, altered, account.went_back, records, copies,
            bool(proof), converged_s,
        )  # fmt: skip

    async def _compared(self, store: Store) -> tuple[int, int, int]:
        """How many keys were lost, and altered; and how many there are. By a scan at QUORUM."""
        pool, account = values(0), self.account
        there = bytearray(self._plan.records)
        records = altered = 0
        async for item in store.scan(b"key-"):
            number = int(item.key[4:])
            records += 1
            there[number] = item.version >= account.floor(item.key)
            altered += item.key not in account.tried and item.value != pool[number % VALUES]
        return there.count(0), altered, records

    def conclude(self) -> Found:
        """The figures."""
        found, end_ns = self.found, self.phases[-1].end_ns
        if not self._plan.quiet:
            done: Sequence[Disturbance] = self.faults.done
            found.phases = phase_rows(self.trace, self.phases, done)
            found.disturbed = disturbance_rows(self.trace, done, self.start_ns)
            found.not_done = [f"{what} in {stage}" for stage, what in self.faults.due]
            found.seconds = by_second(self.trace, self.start_ns, end_ns)
            seen = [each.latencies for each in found.phases] + [each.latencies for each in found.disturbed]
            for text, times in sum((Counter(each.errors) for each in seen), Counter[str]()).items():
                self._say(f"{times} times {text}")
        start_ns = self.start_ns
        found.spans = [
            (each.name, round((each.begin_ns - start_ns) / 1e9, 1), round((each.end_ns - start_ns) / 1e9, 1))
            for each in self.phases
        ]
        found.bytes = bytes_of(found.moved, RECORD_BYTES, self._idle_bytes_per_s)
        return found


async def measure(plan: Plan, cluster: Cluster, say: Say) -> Found:
    """Run the plan on a new cluster; ClusterFailed, or the error of a client."""
    async with trio.open_nursery() as connections:
        course = Course(plan, Members(cluster, connections), say)
        say(f"loading {plan.records:,} records")
        await course.begin()
        course.start_ns = perf_counter_ns()
        over = trio.Event()
        async with trio.open_nursery() as nursery:
            if not plan.quiet:
                nursery.start_soon(course.client.ask_until, over, course.trace)
            await course.rest("quiet")
            await (_replaced(course) if plan.replace else _grown_and_shrunk(course))
            over.set()
        await course.check()
        connections.cancel_scope.cancel()
    return course.conclude()


async def _grown_and_shrunk(course: Course) -> None:
    for stage in STAGES:
        await course.grow(stage)
    await course.rest("six nodes")
    for stage in STAGES:
        await course.shrink(stage)
    await course.rest("three nodes")


async def _replaced(course: Course) -> None:
    await course.replace()
    await course.rest("replaced")
