"""Sync watch: when a sync begins; and that one does not end, or has ended after all.

A disk that hangs raises no error: what waits for it goes on waiting, and so would everybody who asks this
node for something that must become durable. So, while something waits, the watch counts the time in which
nothing has become durable. Beyond STUCK_S, and beyond three times what was usual lately, the disk is *stuck*:

    group commit   is `full`: the replica refuses what would wait, and whoever asked it turns to others or
                   keeps a hint; as a coordinator this node refuses writes (Overloaded)
    peers          are told with the next heartbeat, and ask this node last

The first sync that ends ends all of that. Only time in which this node ran counts: after a pause of the whole
process the sync may have been about to end.

A sync for which somebody waits begins at once, and serves all that has come meanwhile (group commit); one for
which nobody does is put off for a while, so that what is learned is synced with what is written next, mostly.
Owns these judgements; who runs the node begins the sync.
"""

import math
from collections.abc import Mapping
from typing import Final

from basestore.config import Syncs
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.replica.group_commit import GroupCommit

# How long after the one before a sync begins for which nobody waits.
SYNC_INTERVAL_S: Final[Mapping[Syncs, float]] = {"always": 0.05, "interval": 1.0, "never": 0.0}
STUCK_S = 2.0
USUAL_TIMES_MAX = 3
FADING = 0.95  # what is left of the longest wait after each one that was shorter
TICK_S_MAX = 0.2  # a longer step of the clock is a pause of this node


class SyncWatch:
    """Over the group commit of one node. `due_s`: when a sync begins for which nobody waits."""

    def __init__(self, group_commit: GroupCommit, metrics: Metrics, syncs: Syncs) -> None:
        self._group_commit = group_commit
        self._metrics = metrics
        self._idle_s = SYNC_INTERVAL_S[syncs]
        self.due_s = math.inf if syncs == "never" else 0.0
        self._durable = group_commit.durable_sequence
        self._ticked_s: float | None = None
        self._waited_s = 0.0
        self._usual_s = 0.0

    def begins(self, now: Instant) -> bool:
        """Whether a sync is to begin now, while none is under way; then the next one is put off."""
        if now.monotonic < self.due_s and not self._group_commit.urgent:
            return False
        self.due_s = now.monotonic + self._idle_s
        return True

    def tick(self, now: Instant) -> None:
        """Count, and tell the group commit."""
        group_commit = self._group_commit
        past_s = 0.0 if self._ticked_s is None else min(now.monotonic - self._ticked_s, TICK_S_MAX)
        self._ticked_s = now.monotonic
        durable = group_commit.durable_sequence
        if durable != self._durable or durable == group_commit.sequence:
            if self._waited_s:
                # No more than STUCK_S: a disk that was stuck for an hour is not allowed three the next time.
                self._usual_s = min(max(self._waited_s, self._usual_s * FADING), STUCK_S)
            self._durable, self._waited_s = durable, 0.0
        else:
            self._waited_s += past_s
        stuck = self._waited_s > self._idle_s + max(STUCK_S, USUAL_TIMES_MAX * self._usual_s)
        if stuck != bool(group_commit.stuck_s):
            self._metrics.count("disk_stalls", stuck)
        group_commit.note_stuck(self._waited_s if stuck else 0.0)
