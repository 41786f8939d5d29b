"""Clock ceiling: the stamp that this node's hybrid logical clock (Kulkarni et al. 2014) may not pass, as a
durable fact.

A node that starts must not use again a stamp that it gave out before it ended, whatever its wall clock says
by then. So a ceiling is made durable ahead of the clock, every few seconds, and a start begins above it:

    stored 100     the clock gives out 71, 72, ...
    stage 200      when 100 comes near; until 200 is durable the clock stops at 100
    durable        the clock may go up to 200
    crash, start   the clock begins above 200, so none of 71, 72, ... comes again

A clock that jumped ahead may have left a ceiling far in the future; it is taken back as soon as the clock is
known to be right. While that is not known nothing is stored: a ceiling made durable by a wrong clock would
outlive it. The arithmetic is in `repair/clock.py`; stamps are given out by `coordinator/stamper.py`.
"""

from functools import partial

from basestore.cluster.peers import Peers
from basestore.instant import Instant
from basestore.replica.group_commit import GroupCommit
from basestore.storage import keyspace
from basestore.storage.engine import Engine
from repair.clock import HybridClock

CEILING = keyspace.fact("ceiling")
_BYTES = 8


def stored_ceiling(engine: Engine) -> int:
    """Where a clock begins that is started now."""
    stored = engine.get(CEILING)
    return 0 if stored is None else int.from_bytes(stored)


class ClockCeiling:
    """Keeps the ceiling of one node's clock ahead of it."""

    def __init__(self, group_commit: GroupCommit, clock: HybridClock, peers: Peers) -> None:
        self._group_commit = group_commit
        self._clock = clock
        self._peers = peers
        self._asked = 0  # the ceiling that was staged last

    def tick(self, now: Instant) -> None:
        """Lower the ceiling if it is far too high; raise it, once durable, if the clock comes near."""
        if self._peers.clock_jumped or self._peers.skew_ms is not None:
            return
        # Lowering is in force at once, raising only when it is durable: after a crash in between the stored
        # ceiling is too high in the one case, which is safe; in the other it would be too low.
        lower = self._clock.lower_ceiling(now.wall_ms)
        if lower is not None:
            self._stage(lower)
        wanted = self._clock.wanted_ceiling(now.wall_ms)
        if wanted is not None and wanted > self._asked:
            self._stage(wanted)
            self._group_commit.when_durable(partial(self._raise, wanted))

    def _stage(self, ceiling: int) -> None:
        self._asked = ceiling
        self._group_commit.stage(CEILING, ceiling.to_bytes(_BYTES))

    def _raise(self, ceiling: int) -> None:
        if self._asked == ceiling:  # no other was staged since, lower or higher
            self._clock.raise_ceiling(ceiling)
