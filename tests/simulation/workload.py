"""Workload: what a client asks next. Pure: chance and time are arguments.

hot       two keys that everybody wants, mostly QUORUM
mixed     every level, TTL, deletes, a dozen keys
deletes   a few keys that are set and deleted all the time
first     first-write keys, new ones all the time
scans     pages, between writes
brief     keys that are new all the time, set and deleted, at every level
lone      the same in both buckets, mostly at ANY
"""

from typing import NamedTuple

from basestore.consistency import Level
from tests.simulation import history as h
from tests.simulation.clockwork import Stream

WORKLOADS = ("hot", "mixed", "deletes", "first", "scans", "brief", "lone")
TTL_MS_MAX = 850
LEVELS = [(Level.QUORUM, 6.0), (Level.ALL, 1.0), (Level.ONE, 1.0), (Level.ANY, 1.0)]
BRIEF = [(Level.QUORUM, 5.0), (Level.ONE, 4.0), (Level.ANY, 1.0)]
LONE = [(Level.ANY, 5.0), (Level.ONE, 1.0), (Level.QUORUM, 1.0)]
STRONG = [(Level.QUORUM, 9.0), (Level.ALL, 1.0)]


class Request(NamedTuple):
    """What to ask. Of a scan, `key` is the prefix."""

    kind: str
    bucket: str
    key: str
    level: Level
    ttl_ms: int


def draw(
    stream: Stream, workload: str, all_levels: bool, now: float, ttl_ms_max: int = TTL_MS_MAX
) -> Request:
    """The next request of a client; `now` in seconds, for first-write keys are new all the time."""
    kind = h.GET if stream.chance(0.45) else h.SET
    bucket, ttl_ms = "default", 0
    levels = LEVELS if all_levels or workload == "mixed" else STRONG
    if workload == "hot":
        key = f"hot{stream.below(2)}" if stream.chance(0.92) else f"warm{stream.below(10)}"
    elif workload == "deletes":
        key = f"gone{stream.below(4)}"
        kind = h.DELETE if kind == h.SET and stream.chance(0.5) else kind
    elif workload == "first":
        bucket, key = "once", f"once{int(now * 8)}-{stream.below(3)}"
    elif workload == "brief":
        key = f"brief{int(now * 4)}-{stream.below(4)}"
        kind = h.DELETE if kind == h.SET and stream.chance(0.6) else kind
        levels = BRIEF
    elif workload == "lone":
        bucket = "once" if stream.chance(0.3) else "default"
        key = f"{bucket}{int(now * 2)}+{stream.below(4)}"
        kind = h.DELETE if kind == h.SET and bucket == "default" and stream.chance(0.2) else kind
        levels = LONE
    elif workload == "scans" and stream.chance(0.3):
        kind, key = h.SCAN, stream.pick(("", "hot", "warm", "gone"))
    else:
        key = f"mixed{stream.below(12)}" if stream.chance(0.7) else f"hot{stream.below(2)}"
        if key.startswith("mixed") and kind == h.SET:
            kind = h.DELETE if stream.chance(0.15) else h.SET
            ttl_ms = 50 + stream.below(ttl_ms_max - 50) if stream.chance(0.2) else 0
    level = stream.weighted(levels)
    if level is Level.ANY and kind in (h.GET, h.SCAN):
        level = Level.ONE
    return Request(kind, bucket, key, level, ttl_ms)
