"""Stamper: versions for new writes, and the watch over the clock that they are drawn from.

A version is a stamp of the hybrid logical clock (`repair.clock`), the origin (this node, and this
opening of its store) and a number that counts the writes of this origin in the partition:

    stamp  = 1760000000123 ms << 16 | 7     never given out twice, never going back
    origin = 2 << 48 | 0x5f31...            no other node, and no earlier life of this one
    number = 41                             the 41st write of this origin in the row's partition

Nothing is stamped while this clock may be wrong: stamps decide which write wins, so a clock that runs
ahead would win for as long as it is ahead. Whoever is refused is told so before anything was done.

The same clock says how stale an answer may be at most. What a replica holds misses no write at or
below its stable stamp. So it lacks only writes that were made after that stamp by their coordinators'
clocks, which are at most twice the drift bound from this one's.
"""

from basestore.cluster.peers import Peers
from basestore.cluster.placement import row_partition
from basestore.errors import ClockSkew, InvalidRequest, Overloaded
from basestore.instant import Instant
from repair.clock import HybridClock
from repair.version import COUNTER_BITS, Version

UNKNOWN = -1


class Stamper:
    """One node's source of versions."""

    __slots__ = ("_clock", "_drift_ms_max", "_numbers", "_origin", "_peers")

    def __init__(self, clock: HybridClock, peers: Peers, origin: int, partitions: int) -> None:
        self._clock = clock
        self._peers = peers
        self._origin = origin
        self._numbers = [0] * partitions
        self._drift_ms_max = clock.drift_ms_max

    def stamp(self, row: bytes, now: Instant) -> Version:
        """The version of a new write; ClockSkew or Overloaded as `check_clock`."""
        self.check_clock(now)
        stamp = self._clock.tick(now.wall_ms)
        partition = row_partition(row)
        # Not stored: each opening of the store is an origin of its own, and counts from 1.
        self._numbers[partition] += 1
        return Version(stamp, self._origin, self._numbers[partition])

    def repeated(self, encoded: bytes, now: Instant) -> Version:
        """The version of an earlier attempt; InvalidRequest when no node can have given it out."""
        version = version_of(encoded)
        # Another node may have given it out, whose clock is ahead of this one by as much as is allowed.
        if version.wall_ms > now.wall_ms + self._drift_ms_max:
            raise InvalidRequest(
                f"the version {version} lies in the future; pass the one that the error named"
            )
        return version

    def observe(self, head: bytes, now: Instant) -> None:
        """A record with this head was met: later stamps of this node shall be greater,
        unless it is beyond the drift bound."""
        self._clock.observe(int.from_bytes(head[:8]), now.wall_ms)

    def check_clock(self, now: Instant) -> None:
        """ClockSkew or Overloaded while this node must not stamp."""
        if self._peers.clock_jumped:
            raise ClockSkew(
                "this node's clock has jumped and is being compared with the others'; nothing was done. "
                "Try again in a few seconds, or use another node"
            )
        # The next stamp is greater still: replicas would refuse a write that far ahead of their clocks.
        if self._clock.last > (now.wall_ms + self._drift_ms_max) << COUNTER_BITS:
            raise ClockSkew(
                f"this node's clock is {self._clock.lead_ms(now.wall_ms)} ms behind the stamps that it has "
                f"given out; nothing was done. Set its clock right, or use another node"
            )
        skew_ms = self._peers.skew_ms
        if skew_ms is not None:
            raise ClockSkew(
                f"this node's clock is {abs(skew_ms)} ms {'behind' if skew_ms > 0 else 'ahead of'} the "
                f"majority's; nothing was done. Set its clock right, or use another node"
            )
        if not self._clock.ready:
            raise Overloaded(
                "overloaded: the clock's ceiling is not durable yet; nothing was done. Try again"
            )

    def stale_ms(self, stable: int, now: Instant) -> int:
        """How stale, in ms at most, what a replica with this stable stamp holds is; UNKNOWN without a
        stable stamp, and while clocks are further apart than the bound."""
        peers, drift_ms = self._peers, self._drift_ms_max
        apart = any(abs(peer.offset_ms or 0) > drift_ms for peer in peers.others)
        if not stable or apart or peers.clock_jumped or peers.skew_ms is not None:
            return UNKNOWN
        # Stamps that were met may be ahead of this clock; the 1 is for what the shift cuts off.
        newest = max(self._clock.last, now.wall_ms << COUNTER_BITS)
        return max(0, (newest - stable) >> COUNTER_BITS) + 1 + 2 * drift_ms


def version_of(encoded: bytes) -> Version:
    """InvalidRequest unless it is a version."""
    try:
        return Version.decode(encoded)
    except ValueError as error:
        raise InvalidRequest(f"the version is malformed: {error}") from None
