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
outlive it. A clean stop stores the last stamp itself: a start behind it leaves nothing out. The arithmetic
is in `repair/clock.py`; stamps are given out by `coordinator/stamper.py`.

One ceiling is asked for at a time, and it counts once it is durable, whatever was asked for since. How long
that took is how early the next is asked for. While nobody stamps anything it is raised with what is stored
anyway, or once it has been passed; the first stamp after a rest may wait for that.
"""

from functools import partial

from basestore.cluster.clock_watch import ClockWatch
from basestore.instant import Instant
from basestore.repair.clock import HybridClock
from basestore.replica.group_commit import GroupCommit
from basestore.replica.identity import StoreIdentity
from basestore.storage import keyspace
from basestore.storage.engine import Engine

CEILING = keyspace.fact("ceiling")
AHEAD = keyspace.fact("clock ahead")  # `ClockWatch.ahead_ms`
RESTING_MS = 10_000  # since the last stamp
_BYTES = 8


def stored_ceiling(engine: Engine, closed: int) -> int:
    """Where a clock begins that is started now: above every stamp that an earlier opening can have given out,
    or closed, for what is stamped below that is refused."""
    return max(int.from_bytes(engine.get(CEILING) or b""), closed)


def stored_ahead_ms(engine: Engine) -> int:
    """By how much the clock of the last run had jumped ahead."""
    return int.from_bytes(engine.get(AHEAD) or b"")


class ClockCeiling:
    """Keeps the ceiling of one node's clock ahead of it."""

    def __init__(
        self, group_commit: GroupCommit, clock: HybridClock, watch: ClockWatch, identity: StoreIdentity
    ) -> None:
        self._group_commit = group_commit
        self._identity = identity
        self._clock = clock
        self._watch = watch
        self._ahead_ms = stored_ahead_ms(group_commit.engine)
        self._asked_s: float | None = None  # when the one was staged that is not durable yet
        self._lowered = 0  # how often it was
        self._durable = False
        self._sync_ms = 0.0

    def tick(self, now: Instant) -> None:
        """Lower the ceiling if it is far too high; raise it, once durable, if the clock comes near."""
        if self._watch.ahead_ms != self._ahead_ms:
            self._ahead_ms = self._watch.ahead_ms
            self._group_commit.stage(AHEAD, self._ahead_ms.to_bytes(_BYTES))
        # Nothing is stamped before it is known above what (`anti_entropy/birth.py`).
        if not self._watch.sure(now) or not self._identity.birth:
            return
        if self._durable and self._asked_s is not None:
            # A slow sync is remembered for some time: the next slow one should find room enough.
            self._sync_ms = max((now.monotonic - self._asked_s) * 1e3, 0.9 * self._sync_ms)
            self._clock.keep_reserve(self._sync_ms)
            self._asked_s = None
        # Lowering is in force at once, raising only when it is durable: after a crash in between the stored
        # ceiling is too high in the one case, which is safe; in the other it would be too low.
        lower = self._clock.lower_ceiling(now.wall_ms)
        if lower is not None:
            self._lowered += 1
            self._asked_s = None
            self._stage(lower)
        quarters = 2
        if self._clock.lead_ms(now.wall_ms) < -RESTING_MS:
            quarters = 3 if self._group_commit.held else 0
        wanted = self._clock.wanted_ceiling(now.wall_ms, quarters)
        if wanted is not None and self._asked_s is None:
            self._asked_s, self._durable = now.monotonic, False
            self._stage(wanted)
            self._group_commit.when_durable(partial(self._raise, wanted, self._lowered))

    def close(self) -> None:
        """The clock is not used any more: the next run begins above what was given out."""
        self._stage(self._clock.last)

    def _stage(self, ceiling: int) -> None:
        self._group_commit.stage(CEILING, ceiling.to_bytes(_BYTES))

    def _raise(self, ceiling: int, lowered: int) -> None:
        # One that was lowered since is not what a restart would find: it is lower, so this would be too high.
        if lowered == self._lowered:
            self._durable = True
            self._clock.raise_ceiling(ceiling)
