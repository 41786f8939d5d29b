"""Losses: that an import neither goes on nor ends behind rows that are gone with a disk.

A loss is noted with a moment that lies a little ahead of the clocks, for what is lost may have been stamped
by any of them (`replica/losses.py`). So an import that begins just then waits for that moment to pass: what
it writes can be told from what was lost. Owns these words and that wait; what is lost the store is asked.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from basestore.cli import exits

if TYPE_CHECKING:
    from basestore.results.cluster_view import Obstacle
    from basestore.sync import SyncStore

WAIT_MS_MAX = 60_000  # it lies further ahead where clocks have been wrong: so long nobody waits for it


def wait_for_moment(store: "SyncStore", now_ms: int) -> None:
    """Until what is written from now on is newer than all that is known to be lost."""
    from basestore.repair.version import COUNTER_BITS
    from basestore.results.receipts import Writes

    lost = store.missing(Writes(now_ms << COUNTER_BITS, 0))
    ahead_ms = max((obstacle.since_ms or 0 for obstacle in lost), default=now_ms) - now_ms + 1
    if lost and ahead_ms < WAIT_MS_MAX:
        exits.say(f"Writes were lost just now: waiting {ahead_ms / 1e3:.1f} s, to tell these rows from them.")
        time.sleep(ahead_ms / 1e3)


def say_missing(missing: "Sequence[Obstacle]") -> None:
    """Why the counts of an import no longer hold, and what to do."""
    from basestore.cli.cluster.converged import obstacle_line

    recovering = all(obstacle.kind == "recovering" for obstacle in missing)
    if recovering:
        exits.say_error("rows that are counted here may have gone with a disk, and it is not known yet:")
    else:
        exits.say_error("rows that are counted here may be gone with a disk, and nobody can tell which:")
    for obstacle in missing:
        exits.say(f"  {obstacle_line(obstacle)}")
    if recovering:
        exits.say("Look at `basestore status`, and give the same command again when all nodes are up.")
        return
    exits.say(
        "Look at `basestore status`. When the nodes are well, import all anew (a file with --restart): its "
        "rows are then written over what others have written to their keys meanwhile, too."
    )
