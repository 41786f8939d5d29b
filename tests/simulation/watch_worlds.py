"""Watch worlds: any planned world, in which proofs come soon, and some follow what the clients write.

While the faults strike they are held against the disks at every mark that they are told. When all is well
again, and all was examined, each goes on from its last token, and must then be told all that is held.
"""

from collections.abc import Collection
from dataclasses import replace
from unittest.mock import patch

from basestore.feeds import feed, follower
from basestore.replica.many_rows import READ_AT_ONCE
from tests.simulation.clients import Client
from tests.simulation.clockwork import Stream
from tests.simulation.drawing import draw, draw_plain
from tests.simulation.ordeals import small
from tests.simulation.plan import Plan
from tests.simulation.watchers import LAW, Watcher
from tests.simulation.widening import draw_faults
from tests.simulation.world import PlannedWorld

FIRST = 200  # of watchers
COUNTS = (2, 4, 6)
ANSWERS = ((1, 1), (1, 1), (3, 2), (follower.LINES_MAX, READ_AT_ONCE))
END_S_MAX = 40.0


SMALL = 0.7  # of all worlds
FAULTS = [
    ("crash", 4.0), ("stop", 2.0), ("isolate", 2.0), ("cut", 3.0), ("pause", 1.0), ("slow disk", 1.0),
    ("wipe", 2.0), ("break", 2.0),
]  # fmt: skip
WORKLOADS = ("hot", "deletes", "brief")


def draw_watches(seed: int) -> Plan:
    """The plan of a seed: mostly a small one, in which little is written, over and over, and much is lost."""
    plan, stream = draw(seed), Stream(seed, "watched")
    if plan.requests_max or plan.march or stream.chance(SMALL):
        plan, _ = draw_plain(seed)
        members = stream.pick((3, 3, 4))
        plan = small(plan, "watched", members, stream, WORKLOADS)
        loops = (each._replace(open=False, loop_s=stream.pick((0.01, 0.04))) for each in plan.clients[:4])
        faults = draw_faults(Stream(seed, "watched faults"), FAULTS, members, plan.seconds)
        plan = replace(plan, partitions=stream.pick((1, 1, 2)), clients=tuple(loops), faults=faults)
    return replace(plan, rounds=True, hasty=True)


class WatchWorld(PlannedWorld):
    """One of them."""

    def __init__(self, plan: Plan, *, recording: bool = False) -> None:
        self.watchers: list[Watcher] = []
        super().__init__(plan, recording=recording)

    def play_all(self) -> None:
        """So few lines an answer that there are many of them, and so many marks that each line counts."""
        lines_max, at_once = Stream(self.plan.seed, "answers").pick(ANSWERS)
        with (
            patch.object(follower, "LINES_MAX", lines_max),
            patch.object(follower, "READ_AT_ONCE", at_once),
            patch.object(feed, "TOKEN_S", Stream(self.plan.seed, "tokens").pick((0.0, 0.0, 1.0))),
        ):
            super().play_all()

    def begin_clients(self) -> list[Client]:
        count = Stream(self.plan.seed, "watchers").pick(COUNTS)
        self.watchers = [Watcher(self, FIRST + at) for at in range(count)]
        for watcher in self.watchers:
            watcher.begin()
        return super().begin_clients()

    def ruined(self, partitions: Collection[int]) -> None:
        super().ruined(partitions)
        for watcher in self.watchers:
            watcher.excused |= set(partitions)

    def heal(self) -> None:
        super().heal()
        for watcher in self.watchers:
            watcher.end()

    def examine(self, clients: list[Client]) -> None:
        super().examine(clients)
        for watcher in self.watchers:
            watcher.resume()
        until_s = self.clockwork.now + END_S_MAX
        lacking = list(self.watchers)
        while lacking and self.clockwork.now < until_s:
            self.clockwork.run(self.clockwork.now + 0.5)
            lacking = [watcher for watcher in lacking if not watcher.has_all()]
        for watcher in lacking:
            self.blame(LAW, f"watcher {watcher.index} was never told all that is held")
