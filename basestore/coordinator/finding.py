"""Finding: what a read is to reach, and what it found; and why it has found nothing as new as it should.

Values between a quorum read and whoever began it. Asks nobody, and weighs no replies.
"""

from typing import NamedTuple

from basestore.errors import ReadTimeout, RequestFailed, VersionLost
from basestore.repair.version import Record, Version


class Finding(NamedTuple):
    """What a read found. `record` may be a tombstone or expired. `stable`: the greatest stable stamp that
    a replica told with what it holds, 0 if none did; `final` as in `Written`. `lossy`: a loss is open that a
    replica knows of, so that stable stamps prove nothing to a reader."""

    record: Record | None
    required: int
    responded: int
    diverged: bool
    repaired: int
    stable: int = 0
    final: int = 0
    lossy: bool = False


class Aim(NamedTuple):
    """What a read must reach: `required` replicas that confirm a winner that is not older than the
    version `floor`. Afterwards: `repair` mends what was found to differ, `compare` asks the other
    replicas too. `stable`: ask for the stable stamp."""

    required: int
    floor: bytes = b""
    compare: bool = False
    repair: bool = True
    stable: bool = False


PLAIN = Aim(0)
FIRST = Aim(0, stable=True)  # in first-write buckets: whether what is found is final


def unreached(aim: Aim, responded: int, replicas: int, stable: int, *, empty: bool) -> RequestFailed:
    """Nobody who has replied holds what the session has seen, or a better one. Of all replicas, and with a
    stable stamp that is past it, this is the proof that none will get it by itself: what is no hint either
    (`explain.py`) is lost; where they hold nothing (`empty`), perhaps only purged: that is older than the
    loss of a disk, or nobody could doubt it."""
    floor = Version.decode(aim.floor)
    if responded == replicas and floor.stamp <= stable:
        what = "lost, or was deleted or has expired since" if empty else "lost"
        return VersionLost(
            f"the version {floor} that this session has seen is {what}: all replicas answer, and none holds "
            f"it, or a newer one. The session knows of it no more: read again",
            floor,
        )
    text = "no replica that answers holds what this session has seen"
    advice = "Read again when more replicas are up, or without the session"
    return ReadTimeout(f"{text}. {advice}", responded, aim.required, None)
