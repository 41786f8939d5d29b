"""Finding: what a read is to reach, and what it found; and why it has found nothing as new as it should.

Values between a quorum read and whoever began it. Asks nobody, and weighs no replies.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from basestore.cluster.peer import Peer
from basestore.consistency import MOVING, Quorum
from basestore.errors import ReadTimeout, ReplicaFailure, RequestFailed, VersionLost
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
    """What a read must reach beside its level: a winner that is not older than the version `floor`.
    Afterwards: `repair` mends what was found to differ, `compare` asks the other
    replicas too. `stable`: ask for the stable stamp."""

    floor: bytes = b""
    compare: bool = False
    repair: bool = True
    stable: bool = False


PLAIN = Aim()
FIRST = Aim(stable=True)  # in first-write buckets: whether what is found is final


def unreached(seen: bytes, quorum: Quorum, heads: Mapping[int, bytes], stable: int) -> RequestFailed:
    """Nobody who has replied holds what the session has seen, or a better one. Of all replicas, and with a
    stable stamp that is past it, this is the proof that none will get it by itself: what is no hint either
    (`explain.py`) is lost; where they hold nothing, perhaps only purged: that is older than the
    loss of a disk, or nobody could doubt it."""
    floor, (required, responded) = Version.decode(seen), quorum.told(heads)
    if len(heads) == len(quorum.replicas) and floor.stamp <= stable:
        return gone(floor, known=any(heads.values()))
    text = "no replica that answers holds what this session has seen"
    advice = "Read again when more replicas are up, or without the session"
    return ReadTimeout(f"{text}. {advice}", responded, required, None)


def gone(floor: Version, *, known: bool = False) -> VersionLost:
    """The error where a version is nowhere. `known`: it was not purged, for an older one is there."""
    what = "lost" if known else "lost, or was deleted or has expired since"
    return VersionLost(
        f"the version {floor} that this session has seen is {what}: all replicas answer, and none holds "
        f"it, or a newer one. The session knows of it no more: read again",
        floor,
    )


def timed_out(quorum: Quorum, heads: Mapping[int, bytes]) -> ReadTimeout:
    """The error of a read that was not confirmed in time by as many as are required."""
    required, received = quorum.told(heads)
    text = f"timeout: {received} of {required} required replicas answered in time"
    if quorum.met(heads):  # one of them was not brought up to what the others hold
        text = f"timeout: {received} replicas answered, but {required} did not come to agree in time"
    return ReadTimeout(
        f"{text}{MOVING if quorum.moving else ''}. Read again, or at a lower level", received, required, None
    )


def too_few(quorum: Quorum, missing: Mapping[int, str], members: Sequence[Peer]) -> ReplicaFailure:
    """The error when too many replicas did not answer a read, and why each."""
    reasons = {members[replica].name: reason for replica, reason in missing.items()}
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    text = f"failed: {quorum.required} replicas are required, and too many refused or were lost"
    return ReplicaFailure(f"{text} ({listed}). Try again, or at a lower level", reasons, None)
