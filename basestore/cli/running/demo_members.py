"""Demo of members: the acts in which one joins, and one is dead for good, while a client goes on writing.

What it does is what `basestore join` and `basestore node remove --dead` do; what is written meanwhile is
checked with all the rest, at the end. Owns no process: the demo starts and ends them.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from basestore.cli import text
from basestore.cli.running.promises import POLL_S, all_stored, expect, line, wait_for

if TYPE_CHECKING:
    from basestore.cli.running.children import Child
    from basestore.client.store import Store
    from basestore.results.topology import ClusterTopology

NEW, DEAD = "n4", "n2"
PAUSE_S = 0.005
PROOF_S = 35.0


class MemberActs:
    """`expected`: what the cluster is to hold, by key; what is written here is added to it."""

    def __init__(self, children: "list[Child]", expected: dict[str, str]) -> None:
        self._children, self._expected = children, expected
        self._writes = 0

    async def join(
        self, store: "Store", directory: Path, start: "Callable[[Path], Awaitable[Child]]", key: bytes
    ) -> str:
        """A node more. `start`: runs the one of this file."""
        from basestore.server.local_cluster import HOST, config_of_member, free_ports, write_config

        began = time.monotonic()
        async with self._writing(store, f"while {NEW} joins"):
            added = await store.add_member(NEW, f"{HOST}:{free_ports(1)[0]}")
            line(f"{NEW} is added, under number {added.number}")
            config = config_of_member(await store.topology("consistent"), key, NEW, directory)
            child = await start(write_config(directory, config))
            line(f"{NEW}  {child.endpoint}  pid {child.pid}")
            told = await self._moved(store, NEW, "member")
        took_s, held = time.monotonic() - began, sum(NEW in seats.replicas for seats in told.partitions)
        expect(held > 0, f"{NEW} was given nothing")
        return (
            f"{NEW} holds {held} of {len(told.partitions)} partitions {took_s:.1f} s later; {self._writes:,} "
            f"writes meanwhile, all stored"
        )

    async def bury(self, store: "Store", kill: "Callable[[Child], None]") -> str:
        """One that does not come back: others take its place."""
        victim = next(child for child in self._children if child.name == DEAD)
        async with self._writing(store, f"after {DEAD} is gone"):
            kill(victim)
            line(f"pid {victim.pid} got SIGKILL")
            await wait_for(self._children[0].endpoint, lambda state: DEAD not in state.alive)
            began = time.monotonic()
            await store.remove_dead(DEAD)
            line(f"{DEAD} is said to be dead: nobody waits for it")
            told = await self._moved(store, DEAD, "left")
        took_s = time.monotonic() - began
        self._children.remove(victim)
        replicas = {name for seats in told.partitions for name in seats.replicas}
        names = [child.name for child in self._children]
        expect(replicas == {*names}, f"{', '.join(sorted(replicas))} hold the partitions")
        expect(all(len(seats.replicas) == told.replication for seats in told.partitions), "replicas lack")
        return (
            f"{', '.join(names)} hold three replicas of everything {took_s:.1f} s later; {self._writes:,} "
            f"writes meanwhile, all stored"
        )

    async def prove(self, store: "Store") -> str:
        """What nobody needs to be believed for."""
        found = await store.converged(timeout=PROOF_S)
        expect(found.proven, "; ".join(obstacle.text for obstacle in found.obstacles))
        return (
            f"proven: all that was written up to {text.moment(found.stamp_ms)} is on all replicas of "
            f"{len(found.partitions)} partitions"
        )

    @asynccontextmanager
    async def _writing(self, store: "Store", when: str) -> AsyncIterator[None]:
        """A client that writes one record after the other for the length of the block; none may fail."""
        import trio

        ended = False
        self._writes = 0

        async def write() -> None:
            while not ended:
                key, value = f"written {when}, {self._writes}", f"{self._writes}"
                all_stored([await store.set(key, value)])
                self._expected[key] = value
                self._writes += 1
                await trio.sleep(PAUSE_S)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            yield
            ended = True

    async def _moved(self, store: "Store", name: str, standing: str) -> "ClusterTopology":
        """The cluster once this member's standing is this, and nothing moves any more."""
        import trio

        while True:
            told = await store.topology()
            stands = any((each.name, each.standing) == (name, standing) for each in told.members)
            if stands and (await store.moves()).done:
                return await store.topology()
            await trio.sleep(POLL_S)
