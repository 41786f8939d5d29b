"""Disturbed: a cluster whose metadata group has its hands full, or is not there, for the length of a block.

Owns what happens meanwhile, and that all is there again afterwards; who asks for data is moved away from a
node before it is killed. Measures nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import trio

from basestore import Store
from basestore.errors import NoLeader, RequestFailed, Unreachable
from benchmarks.cluster import Cluster, ClusterFailed
from benchmarks.paced import Ledger, PacedClient, Samples

QUIET: Final = "quiet"
VOTERS: Final = 3
FROZEN: Final = {"majority": (0, 1), "bystanders": (3, 4)}
WRITES: Final = 0.5
ASIDE_S: Final = 0.5  # from when a node is asked no more until it is killed: what it was asked has ended
POLL_S: Final = 0.25
HEARD_MS_MAX: Final = 1000  # a leader says something twice in that time
FOUND_S_MAX: Final = 120.0


@dataclass(slots=True)
class Case:
    """What windows of one kind have shown. `done`: changes, or nodes killed."""

    nodes: int
    name: str
    windows: list[Samples] = field(default_factory=list)
    done: int = 0


class Bench:
    """One cluster, and the client that asks it. `stores`: on each node, by its place."""

    def __init__(
        self, cluster: Cluster, stores: Sequence[Store], asked: Sequence[Store], keys: Sequence[bytes],
        rate_per_s: float,
    ) -> None:  # fmt: skip
        self.cluster, self.stores, self.asked = cluster, stores, asked
        self.client = PacedClient(asked, keys, Ledger(), rate_per_s, WRITES)

    async def leader(self, but: int | None = None) -> int:
        """Its place, once a node that runs has just heard of one, and another than that; ClusterFailed."""
        with trio.move_on_after(FOUND_S_MAX):
            while True:
                for place, store in enumerate(self.stores):
                    if self.cluster.processes[place] is None:
                        continue
                    with suppress(RequestFailed, Unreachable):
                        told = await store.topology("stale", timeout=1.0)
                        heard_ms, complete = told.heard_ms, len(told.voters) == VOTERS
                        if told.leader and complete and heard_ms is not None and heard_ms < HEARD_MS_MAX:
                            leader = int(told.leader[1:]) - 1
                            if leader != but:
                                return leader
                await trio.sleep(POLL_S)
        raise ClusterFailed(f"nobody leads the metadata group after {FOUND_S_MAX} s")

    async def wait_linked(self) -> None:
        await trio.to_thread.run_sync(self.cluster.wait_linked)

    async def settle(self) -> None:
        """All nodes are there, one leads, and nothing is left to do."""
        await self.wait_linked()
        await self.leader()
        await trio.to_thread.run_sync(self.cluster.wait_quiet)


# --- what disturbs -------------------------------------------------------------------------------

Disturbance = Callable[[Bench, Case], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def _beside(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Again and again, until the block ends; what was begun then is ended first."""
    over = trio.Event()

    async def again() -> None:
        while not over.is_set():
            await work()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(again)
        try:
            yield
        finally:
            over.set()


@asynccontextmanager
async def _nothing(bench: Bench, case: Case) -> AsyncIterator[None]:
    yield


def _changes(bench: Bench, case: Case) -> AbstractAsyncContextManager[None]:
    numbers = count()

    async def change() -> None:
        number = next(numbers)
        store, name = bench.stores[number % len(bench.stores)], f"b{len(case.windows)}-{number}"
        try:
            await store.create_bucket(name)
            await store.drop_bucket(name)
        except NoLeader:
            await trio.sleep(POLL_S)
            return
        case.done += 2

    return _beside(change)


def _kills(*, leader: bool) -> Disturbance:
    def disturb(bench: Bench, case: Case) -> AbstractAsyncContextManager[None]:
        async def kill() -> None:
            leads = await bench.leader()
            place = leads if leader else (leads + 1) % len(bench.stores)
            bench.client.stores = [store for at, store in enumerate(bench.stores) if at != place]
            await trio.sleep(ASIDE_S)
            await trio.to_thread.run_sync(bench.cluster.kill, place)
            if leader:
                await bench.leader(but=place)
            await trio.to_thread.run_sync(bench.cluster.start, place)
            await bench.wait_linked()
            case.done += 1

        return _beside(kill)

    return disturb


def _frozen(name: str) -> Disturbance:
    @asynccontextmanager
    async def disturb(bench: Bench, case: Case) -> AsyncIterator[None]:
        """Once the others count them no more: how that is noticed is no matter of the group."""
        names = {f"n{place + 1}" for place in FROZEN[name]}
        running = [store for place, store in enumerate(bench.stores) if place not in FROZEN[name]]
        for place in FROZEN[name]:
            bench.cluster.freeze(place)
        try:
            for store in running:
                await _wait_gone(store, names)
            if name == "majority":
                await _wait_headless(running[0])
            yield
        finally:
            for place in FROZEN[name]:
                bench.cluster.freeze(place, thaw=True)

    return disturb


async def _wait_gone(store: Store, names: set[str]) -> None:
    """Until these count for nothing."""
    while True:
        if not names & set((await store.node_status()).alive):
            return
        await trio.sleep(POLL_S)


async def _wait_headless(store: Store) -> None:
    """Until changes are refused."""
    while True:
        try:
            await store.set_setting("decided", "by nobody", timeout=POLL_S)
        except NoLeader:
            return
        except RequestFailed:
            continue


THREE_CASES: Final[dict[str, Disturbance]] = {
    QUIET: _nothing, "changes": _changes, "leader": _kills(leader=True), "follower": _kills(leader=False),
}  # fmt: skip
FIVE_CASES: Final[dict[str, Disturbance]] = {QUIET: _nothing, **{name: _frozen(name) for name in FROZEN}}
