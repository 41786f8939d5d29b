"""Moves members: a cluster whose members come and leave, as its operator sees and changes it.

Owns a connection to each node that runs, and asks whichever answers: one of them may be killed, or stand
still, at any moment (`down`). What a client asks meanwhile goes over connections of its own (`lanes`), each
to one node first, as those of an application that spreads its clients over all of them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar, cast

import trio

import basestore
from basestore import BasestoreError, Store
from basestore.errors import InvalidRequest, RequestFailed, Unreachable
from basestore.metrics import Metrics
from basestore.results.moves import ClusterMoves
from basestore.results.topology import LEFT, ClusterTopology
from benchmarks.cluster import Cluster, ClusterFailed
from benchmarks.load import TIMEOUT_S

ANSWERED_S_MAX: Final = 120.0
ASK_S: Final = 2.0
POLL_S: Final = 0.1
JOINING: Final = "joining"

T = TypeVar("T")


class Members:
    """Of one cluster. `down`: places that are not asked just now."""

    def __init__(self, cluster: Cluster, nursery: trio.Nursery) -> None:
        """`nursery`: in which connections are held; they end with it."""
        self.cluster = cluster
        self._nursery = nursery
        self._stores: dict[int, Store] = {}
        self.lanes: dict[int, Store] = {}
        self.down = set[int]()

    async def reach(self, place: int) -> None:
        """Have a connection to a node that runs."""
        self._stores[place] = await self._connected([self.cluster.endpoints[place]])

    async def lead(self, place: int) -> None:
        """Have a lane to it, anew."""
        others = [self.cluster.endpoints[at] for at in self._stores if at != place]
        self.lanes[place] = await self._connected([self.cluster.endpoints[place], *others])

    async def _connected(self, endpoints: list[str]) -> Store:
        async with _patient(f"{endpoints[0]} does not answer"):
            while True:
                try:
                    return cast("Store", await self._nursery.start(_held, endpoints))
                except Unreachable:
                    self.cluster.check()
                    await trio.sleep(POLL_S)

    async def lead_all(self) -> None:
        """Members have changed: have all lanes anew, with whom there is now."""
        for place in self.lanes:
            await self.lead(place)

    def forget(self, place: int) -> None:
        """It is asked nothing any more."""
        self._stores.pop(place, None)
        self.lanes.pop(place, None)

    async def ask(self, question: Callable[[Store], Awaitable[T]]) -> T:
        """Of the first that answers; ClusterFailed, or InvalidRequest."""
        said: BasestoreError | None = None
        async with _patient(lambda: f"no member answers: {said}"):
            while True:
                for place, store in list(self._stores.items()):
                    if place not in self.down:
                        try:
                            return await question(store)
                        except (RequestFailed, Unreachable) as error:
                            said = error
                self.cluster.check()
                await trio.sleep(POLL_S)

    # --- what there is -----------------------------------------------------------------------

    async def topology(self) -> ClusterTopology:
        return await self.ask(lambda store: store.topology(timeout=ASK_S))

    async def moves(self) -> ClusterMoves:
        """By the leader's word: one that knows of none is not believed."""

        async def told(store: Store) -> ClusterMoves:
            moves = await store.moves(timeout=ASK_S)
            if moves.leader is None:
                raise Unreachable("no leader is known there")
            return moves

        return await self.ask(told)

    async def standings(self) -> dict[str, str]:
        """Of all members that have not left."""
        members = (await self.topology()).members
        return {each.name: each.standing for each in members if each.standing != LEFT}

    async def linked(self) -> None:
        """Until all members that run count each other; ClusterFailed."""
        async with _patient("the members are not linked"):
            while not await self._are_linked():
                self.cluster.check()
                await trio.sleep(POLL_S)

    async def up(self, place: int) -> None:
        """Until a node that has been started says that it is; ClusterFailed."""
        async with _patient(f"n{place + 1} does not come up"):
            while True:
                with suppress(RequestFailed, Unreachable):
                    if (await self._stores[place].node_status(timeout=ASK_S)).state == "up":
                        return
                self.cluster.check()
                await trio.sleep(POLL_S)

    async def _are_linked(self) -> bool:
        running = {f"n{at + 1}" for at, each in enumerate(self.cluster.processes) if each is not None}
        present = running & set(await self.standings())
        for place, store in list(self._stores.items()):
            if f"n{place + 1}" in present:
                try:
                    state = await store.node_status(timeout=ASK_S)
                except (RequestFailed, Unreachable):
                    return False
                if not present <= set(state.alive):
                    return False
        return True

    async def sent_bytes(self) -> int:
        """What the nodes that run have sent each other since they were started."""
        return sum([await _sent(store) for store in self._stores.values()])

    # --- changes -----------------------------------------------------------------------------

    async def wait_moved(self, name: str, *, gone: bool) -> None:
        """Until all moves have ended, and the member of this name has become one, or has left."""
        while True:
            standing = (await self.standings()).get(name)
            if (standing is None if gone else standing not in (None, JOINING)) and (await self.moves()).done:
                return
            self.cluster.check()
            await trio.sleep(POLL_S)

    async def drain(self, name: str) -> None:
        """Have it decided that a member gives up what it holds."""

        async def drain(store: Store) -> None:
            try:
                await store.drain(name, timeout=TIMEOUT_S)
            except InvalidRequest:  # a word before may have been heard, though its answer was not
                if (await self.standings()).get(name) == "member":
                    raise

        await self.ask(drain)

    async def replace(self, name: str, by: str) -> None:
        """Have it decided that a member is dead, and another takes its place."""

        async def replace(store: Store) -> None:
            try:
                await store.replace(name, by, dead=True, timeout=TIMEOUT_S)
            except InvalidRequest as error:
                if (await self.standings()).get(name) != "dead":
                    raise Unreachable(str(error)) from error  # it is not found to be silent yet

        await self.ask(replace)


async def _held(endpoints: list[str], task_status: trio.TaskStatus[Store] = trio.TASK_STATUS_IGNORED) -> None:
    """A store, for as long as this runs."""
    async with basestore.connect(endpoints, timeout=TIMEOUT_S) as store:
        task_status.started(store)
        await trio.sleep_forever()


async def _sent(store: Store) -> int:
    return Metrics.of((await store.node_counters()).facts).counts["member_bytes_sent"]


@asynccontextmanager
async def _patient(text: str | Callable[[], str]) -> AsyncIterator[None]:
    """ClusterFailed where the block does not end in time."""
    with trio.move_on_after(ANSWERED_S_MAX) as scope:
        yield
    if scope.cancelled_caught:
        raise ClusterFailed(f"{text if isinstance(text, str) else text()} after {ANSWERED_S_MAX} s")
