"""Moves faults: members that are killed, or stand still, while partitions move.

Owns which member is struck, and when: one that takes part in a move of the stage that is wanted.

    fill, joint   a member of a partition that is in this stage
    end           one of a partition whose move has just ended, or else of any in this change

While members come, that which comes is killed and one that gives up a seat stands still; while they are
drained, it is the other way round. One at a time: the next only once all are linked again, and the seconds
that are counted for the last are over.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from time import perf_counter_ns
from typing import Final

import trio

from basestore.results.moves import Move
from benchmarks.moves_members import POLL_S, Members
from benchmarks.moves_report import DISTURBED_S, Disturbance

FILL, JOINT, END = STAGES = ("fill", "joint", "end")
KILL, STOP = KINDS = ("kill", "stop")
STILL_S: Final = 3.0
AWAY_S: Final = 0.5  # from a kill until it is started again


class Faults:
    """Of one course. `due`: stage and kind of those that are to come; `done`: what was."""

    def __init__(self, members: Members, say: Callable[[str], None], reached: Callable[[], None]) -> None:
        """`reached`: called when connections have changed."""
        self._members, self._say, self._reached = members, say, reached
        self.due = deque[tuple[str, str]]()
        self.done: list[Disturbance] = []

    async def run(self, over: trio.Event, *, growing: bool) -> None:
        """While members change, until that is over, and what was begun then has ended."""
        before: Sequence[Move] = ()
        last: Move | None = None
        while self.due:
            stage, what = self.due[0]
            if over.is_set() and stage != END:
                self.due.rotate(-1)
                if not any(each == END for each, _ in self.due):
                    return
                continue
            now = (await self._members.moves()).moves
            last = ended(before, now) or last
            before = now or before
            if stage == END:
                move = last or (before[0] if over.is_set() and before else None)
            else:
                move = next((each for each in now if each.stage == stage), None)
            busy = {name for each in now for name in each.replicas}
            struck = None if move is None else self._struck(move, busy, comes=(what == KILL) == growing)
            if move is not None and struck is not None:
                self.due.popleft()
                await self._strike(move, stage, what, *struck)
            elif over.is_set():
                return
            else:
                await trio.sleep(POLL_S)

    def _struck(self, move: Move, busy: Collection[str], *, comes: bool) -> tuple[int, str] | None:
        """The place of a member that runs and comes to a partition, or leaves it; else the other of these.
        Who is not `busy`, for it gives up nothing more, may be about to leave the cluster."""
        coming = [(name, "comes") for name in move.to if name not in move.replicas]
        leaving = [(name, "leaves") for name in move.replicas if name not in move.to and name in busy]
        for name, role in coming + leaving if comes else leaving + coming:
            place = int(name[1:]) - 1
            if place in self._members.lanes and self._members.cluster.processes[place] is not None:
                return place, role
        return None

    async def _strike(self, move: Move, stage: str, what: str, place: int, role: str) -> None:
        members, cluster, name = self._members, self._members.cluster, f"n{place + 1}"
        self._say(f"{what} of {name}, which {role}, partition {move.partition} in {stage}")
        at_ns = perf_counter_ns()
        members.down.add(place)
        if what == KILL:
            await trio.to_thread.run_sync(cluster.kill, place)
            await trio.sleep(AWAY_S)
            cluster.start(place)
        else:
            cluster.freeze(place)
            await trio.sleep(STILL_S)
            cluster.freeze(place, thaw=True)
        members.down.discard(place)
        await members.linked()
        back_s = (perf_counter_ns() - at_ns) / 1e9
        self.done.append(Disturbance(what, name, role, stage, move.partition, at_ns, back_s))
        if place in members.lanes:
            await members.lead(place)  # or its client stays with those that it went to
            self._reached()
        await trio.sleep(max(0.0, DISTURBED_S - back_s))


def ended(before: Sequence[Move], now: Sequence[Move]) -> Move | None:
    """A move that was in joint, and is over."""
    under_way = {move.partition for move in now}
    return next((m for m in before if m.stage == JOINT and m.partition not in under_way), None)
