"""Stamper: versions for new writes, and the watch over the clock that they are drawn from.

A version is a stamp of the hybrid logical clock (`repair.clock`), the origin (this node, and this
opening of its store) and a number that counts the writes of this origin in the partition:

    stamp  = 1760000000123 ms << 16 | 7     never given out twice, never going back
    origin = 2 << 48 | 0x5f31...            no other node, and no earlier life of this one
    number = 41                             the 41st write of this origin in the row's partition

Nothing is stamped while this clock may be wrong: stamps decide which write wins, so a clock that runs
ahead would win for as long as it is ahead. Whoever is refused is told so before anything was done.

What will pass in a moment is waited for instead: a ceiling that is not durable yet, a clock that is being
compared. Such a write is *parked*, and goes on, in its turn, with the step in which it can be stamped; its
own deadline bounds the wait, and `Operations` how many wait, and how large they are together.

The same clock says how stale an answer may be at most. What a replica holds misses no write at or
below its stable stamp. So it lacks only writes that were made after that stamp by their coordinators'
clocks, which are at most twice the drift bound from this one's.
"""

from collections.abc import Callable, Sequence
from itertools import chain, count, repeat

from basestore.cluster.clock_watch import ClockWatch
from basestore.coordinator.attempts import Content
from basestore.errors import ClockSkew, InvalidRequest, Overloaded
from basestore.instant import Instant
from basestore.repair.clock import HybridClock, NotYet
from basestore.repair.version import COUNTER_BITS, Digester, Record, Version, encode_ballot, encode_version
from basestore.rows import row_partition

STALENESS_UNKNOWN = -1
NOT_COMPARED_ADVICE = (
    "See `basestore status`. Start more of the members, or use a node that hears them; if it is certain that "
    "this node's clock is right, stop it and start it with `basestore serve --clock-is-right`"
)
AHEAD_ADVICE = (
    "if `basestore status` of every node shows the right time, every node started anew with `basestore serve "
    "--clock-is-right` lets stamps go on from there at once"
)


class Stamper:
    """One node's source of versions."""

    __slots__ = ("_clock", "_drift_ms_max", "_numbers", "_origin", "_watch", "parked")

    def __init__(self, clock: HybridClock, watch: ClockWatch, origin: int, partitions: int) -> None:
        self._clock = clock
        self._watch = watch
        self._origin = origin
        self._numbers = [0] * partitions
        self._drift_ms_max = clock.drift_ms_max
        self.parked: dict[object, Callable[[Instant], None]] = {}  # what goes on, by who waits

    def stamp(self, row: bytes, now: Instant, seen: int = 0) -> Version:
        """The version of a new write, greater than the stamp `seen`, which its caller's session has met;
        ClockSkew, or NotYet: `park` it."""
        self.check_clock(now)
        if seen > self._clock.last:
            self._go_beyond(seen, now)
        stamp = self._clock.tick(now.wall_ms)
        partition = row_partition(row)
        # Not stored: each opening of the store is an origin of its own, and counts from 1.
        self._numbers[partition] += 1
        return Version(stamp, self._origin, self._numbers[partition])

    def record(self, digester: Digester, content: Content, now: Instant) -> Record:
        """The record of a new write; ClockSkew or NotYet."""
        version = self.stamp(content.row, now, content.after)
        expires_ms = self.expiry_ms(version, content.ttl_ms, now) if content.ttl_ms else 0
        return content.seal(digester, version, expires_ms)

    def ballot(self, now: Instant) -> bytes:
        """A ballot, above all stamps that were met: stamp and origin, encoded; ClockSkew, or NotYet."""
        self.check_clock(now)
        return encode_ballot(self._clock.tick(now.wall_ms), self._origin)

    def version(self, ballot: bytes, row: bytes) -> Version:
        """The version of a record that is sent under a ballot of this node: of one record, and no other."""
        partition = row_partition(row)
        self._numbers[partition] += 1
        return Version(int.from_bytes(ballot[:8]), self._origin, self._numbers[partition])

    def take_back(self, row: bytes) -> None:
        """The version that was drawn last, for this row, was given to nothing: the next write has its number.
        Its stamp is not given out again."""
        self._numbers[row_partition(row)] -= 1

    def stamps(self, partitions: Sequence[int], now: Instant, together: int = 1) -> list[bytes]:
        """Versions of as many new writes, encoded, in the order of their stamps; the first `together` of them
        share one. ClockSkew or NotYet."""
        self.check_clock(now)
        shared = together - 1
        first = self._clock.tick_many(len(partitions) - shared, now.wall_ms)
        numbers, origin, versions = self._numbers, self._origin, list[bytes]()
        stamps = chain(repeat(first, shared), count(first))
        for stamp, partition in zip(stamps, partitions, strict=False):
            numbers[partition] = number = numbers[partition] + 1
            versions.append(encode_version(stamp, origin, number))
        return versions

    @property
    def last(self) -> int:
        """The greatest stamp that was given out or met: that of the next write is greater."""
        return self._clock.last

    def _go_beyond(self, seen: int, now: Instant) -> None:
        # At the bound itself the next stamp would be beyond it.
        if seen >= self._clock.bound(now.wall_ms) or not self._clock.observe(seen, now.wall_ms):
            ahead_ms = (seen >> COUNTER_BITS) - now.wall_ms
            raise ClockSkew(
                f"the session has seen a write whose stamp is {ahead_ms} ms ahead of this node's clock, and "
                f"which would win over this one; nothing was done. `basestore status` says whose clock is "
                f"wrong: set it right, or use another node"
            )

    def expiry_ms(self, version: Version, ttl_ms: int, now: Instant) -> int:
        """When a write that is stamped now expires."""
        # By its stamp, which a repetition knows too; but not where stamps go on far ahead of the clocks.
        far_ahead = version.wall_ms > now.wall_ms + self._drift_ms_max
        return (now.wall_ms if far_ahead else version.wall_ms) + ttl_ms

    def expiry_of_proposed_ms(self, version: Version, ttl_ms: int, now: Instant) -> int | None:
        """The same of a register's record that is proposed now. Its ballot may have been drawn long before:
        it was promised with the record before it, or its promises were slow to come; what is written lives
        from now on. None: this clock may be wrong by any amount."""
        time_ms = self._watch.now_ms(now)
        return None if time_ms is None else max(self.expiry_ms(version, ttl_ms, now), time_ms + ttl_ms)

    def check_repeated(self, version: Version, now: Instant, *, expires: bool = False) -> None:
        """InvalidRequest when no node can have given out this version of an earlier attempt, or when it
        cannot be known when that attempt `expires`."""
        time_ms = self._watch.now_ms(now)
        if time_ms is None:
            raise self._skew(now)
        # Another node may have given it out, whose clock is ahead of this one by as much as is allowed.
        if version.wall_ms > self._clock.bound(time_ms) >> COUNTER_BITS:
            raise InvalidRequest(
                f"the version {version} lies in the future; pass the identity that the error named"
            )
        if expires and version.wall_ms > time_ms + self._drift_ms_max:
            raise InvalidRequest(
                f"the version {version} is ahead of the clocks, so when it was to expire is not known; read, "
                f"and write anew"
            )

    def observe(self, head: bytes, now: Instant) -> None:
        """A record with this head was met: later stamps of this node shall be greater,
        unless it is beyond the drift bound."""
        stamp = int.from_bytes(head[:8])
        if stamp > self._clock.last:  # else there is nothing to take over: on the way of every read
            self._clock.observe(stamp, self._watch.about_ms(now))

    def check_clock(self, now: Instant) -> None:
        """ClockSkew while this node must not stamp; NotYet while that may change in a moment, or others wait
        to go first."""
        watch, base_ms = self._watch, self._watch.sure_ms
        # As `ClockWatch.sure`, without a call: on the way of every write.
        if (
            base_ms is None
            or watch.skew_ms is not None
            or abs(now.wall_ms - now.monotonic * 1e3 - base_ms) > watch.step_ms
        ):
            if watch.comparing(now):
                raise NotYet
            raise self._skew(now)
        # The next stamp is greater still: replicas would refuse a write that far ahead of their clocks.
        beyond_bound = self._clock.last - self._clock.bound(now.wall_ms)
        if beyond_bound >= 0:
            if beyond_bound <= self._clock.passing:
                raise NotYet
            raise ClockSkew(
                f"{self._lead_text(now)}; nothing was done. Until then other nodes may write; {AHEAD_ADVICE}"
            )
        if self.parked:
            raise NotYet

    def _skew(self, now: Instant) -> ClockSkew:
        outvoted = self._watch.agreed_ms is not None
        advice = "Set it right, or use another node" if outvoted else NOT_COMPARED_ADVICE
        return ClockSkew(f"this node's clock: {self._watch.trouble(now)}; nothing was done. {advice}")

    def expiry_unknown(self, now: Instant) -> ClockSkew:
        """The error of a read that meets what expires, while this clock may be wrong by any amount: to show
        what has expired, or to hide what has not, would both be wrong."""
        return ClockSkew(
            f"what was read expires, and whether it has is not known here: this node's clock: "
            f"{self._watch.trouble(now)}; a read changes nothing. {NOT_COMPARED_ADVICE}"
        )

    def _lead_text(self, now: Instant) -> str:
        lead_ms = self._clock.lead_ms(now.wall_ms)
        return (
            f"stamps were promised up to {lead_ms} ms ahead of this node's clock, which was wrong then or "
            f"is wrong now; if it is right now, writes go on in {lead_ms - self._drift_ms_max} ms"
        )

    def trouble(self, now: Instant) -> str:
        """Why this node stamps nothing, or stamps ahead of its clock, in words; empty when all is well."""
        trouble = self._watch.trouble(now)
        if trouble:
            return trouble
        if self._clock.last > self._clock.bound(now.wall_ms):
            return self._lead_text(now)
        lead_ms = self._clock.lead_ms(now.wall_ms)
        if lead_ms > self._drift_ms_max:
            return f"stamps go on {lead_ms} ms ahead of it, as an operator has allowed"
        return ""

    # --- waiting -----------------------------------------------------------------------------

    def park(self, waiting: object, go_on: Callable[[Instant], None]) -> None:
        """Call `go_on` once it can be stamped, or once it is certain that it cannot; behind those that wait
        already."""
        self.parked[waiting] = go_on

    def timed_out(self, waiting: object, now: Instant) -> Overloaded:
        """It has waited for as long as it may: the error."""
        del self.parked[waiting]
        trouble = self.trouble(now)
        why = f"this node's clock: {trouble}" if trouble else "the clock's ceiling is not durable yet"
        return Overloaded(f"overloaded: {why}; nothing was done. See `basestore status`, and try again")

    def resume(self, now: Instant) -> None:
        """What is parked goes on, in order, as far as it can."""
        waiting, self.parked = self.parked, {}
        for each in list(waiting):
            try:
                self.check_clock(now)
                if not self._clock.ready(now.wall_ms):
                    break
            except NotYet:
                break
            except ClockSkew:
                pass  # it is refused by asking again
            waiting.pop(each)(now)
        # Who has to wait for more than it waited for has parked itself again, in front.
        self.parked |= waiting

    def stale_ms(self, stable: int, now: Instant) -> int:
        """How stale, in ms at most, what a replica with this stable stamp holds is; STALENESS_UNKNOWN without
        a stable stamp, and while clocks are not sure, or further apart than the bound."""
        drift_ms = self._drift_ms_max
        apart = any(abs(offset_ms or 0) > drift_ms for offset_ms in self._watch.offsets)
        if not stable or apart or not self._watch.sure(now):
            return STALENESS_UNKNOWN
        # It was reached by clocks that were ahead: for how long nothing was compared it does not tell.
        if stable >> COUNTER_BITS > now.wall_ms + drift_ms:
            return STALENESS_UNKNOWN
        # Stamps that were met may be ahead of this clock; the 1 is for what the shift cuts off.
        newest = max(self._clock.last, now.wall_ms << COUNTER_BITS)
        return max(0, (newest - stable) >> COUNTER_BITS) + 1 + 2 * drift_ms


def version_of(encoded: bytes) -> Version:
    """InvalidRequest unless it is a version."""
    try:
        return Version.decode(encoded)
    except ValueError as error:
        raise InvalidRequest(f"the version is malformed: {error}") from None
