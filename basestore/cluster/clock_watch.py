"""Clock watch: whether this node's wall clock is sure, by how much it is off, and what time it is.

The one door for "now": whoever judges by a wall clock (expiry, what lies in the future) asks here, for only
here it is known whether this clock was ever compared with the others'.

    unknown   not compared with a majority of the members since the node was opened, or since this clock was
              set: nothing is stamped, no ceiling is stored, and of what expires nobody can say whether it has
    sure      a majority, this node included, was found to agree within the drift bound. It stays so when
              they go, until this clock is set: the monotonic clock shows that it ran on unchanged
    skewed    it is further than the bound from more members than it is near to. Nothing is stamped. What
              time it is is known only where a majority of the members agrees on it, among themselves: then
              it is this clock, corrected. Of two who differ, or three, nobody is believed

A member that is alone in its cluster is sure: nobody can tell it better. An operator's word stands for a
majority that cannot be heard (`open`), until a majority of the members contradicts, or this clock is set.

The members of which a majority is needed are all, where they stand in a file. Under a topology they are all
but those that join yet, and that are dead by an operator's word (`count`), this node among them or not. So it
is the same majority on all nodes that go by one epoch. Who joins holds nothing, and may never be started:
until it is to be given something its clock can neither stop the others', nor is it waited for; but it goes by
theirs like any other.

A comparison is an answer to a heartbeat (Cristian, "Probabilistic clock synchronization", 1989): taken to
have been half-way, it is off by half the round trip at most. What of that goes beyond half the drift bound is
the answer's *doubt*: with it a clock is near only if it would be near at worst, and far only if it would be
far at best. So a late answer says something, too:

    drift bound 2000 ms     answer after   offset      doubt   verdict
                                   10 ms    -1500 ms     0     near
                                 5000 ms    -1500 ms  1500     neither: this member is as if not heard
                                 5000 ms  3600000 ms  1500     far

A clock that jumps ahead towards no majority may have been set right, or wrong, with all the others. For a day
it is remembered by how much (`ahead_ms`): nothing is purged meanwhile that expires by that alone.

Reads no clock: an Instant is an argument. It refuses no request; who asks does.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from basestore.instant import Instant
from basestore.protocol.heartbeats import Pong

COMPARING_S = 1.5  # how long it may take to hear the others, after an opening or a jump
AHEAD_S = 24 * 3600.0
FRESH_S = 5.0  # an answer with less doubt counts for more than a newer one for so long


class _Comparison(NamedTuple):
    """How far a member's clock is ahead of this one, give or take `doubt_ms` beyond what is allowed for."""

    offset_ms: int
    doubt_ms: float
    at_s: float


class ClockWatch:
    """One node's watch over its clock.

    offsets     by member: how many ms its clock is ahead of this one; 0 of this node, None where not known
    skew_ms     how many ms those who differ are ahead of this clock, while it is skewed; otherwise None
    agreed_ms   the same of a majority of the members that agrees, while it is skewed and there is one
    off_ms      by how much this clock is corrected where a guess will do: as agreed, or as skewed where it
                was never sure, so that it has no say against others
    sure_ms     what wall clock minus monotonic clock was when it was last sure; None: it is not
    step_ms     the wall clock was set if that differs by more
    ahead_ms    by how much this clock has jumped ahead in the last day, for all that is known not set right
    confirmed   members that are linked make up, with this node, a majority that agrees just now
    """

    __slots__ = (
        "_ahead_s", "_base_ms", "_comparing_s", "_comparisons", "_counting", "_drift_ms_max", "_jumped",
        "_me", "_vouched",
        "agreed_ms", "ahead_ms", "confirmed",
        "off_ms", "offsets", "skew_ms", "step_ms", "sure_ms",
    )  # fmt: skip

    def __init__(self, members: int, me: int, drift_ms_max: int) -> None:
        self._drift_ms_max, self._me = drift_ms_max, me
        self._counting = frozenset(range(members))
        self._comparisons: list[_Comparison | None] = [None] * members
        self.offsets: list[int | None] = [None] * members
        self.offsets[me] = 0
        self.skew_ms: int | None = None
        self.agreed_ms: int | None = None
        self.off_ms = 0
        self.sure_ms: float | None = None
        self.step_ms = drift_ms_max / 2
        self.ahead_ms = 0
        self._ahead_s = -math.inf
        self.confirmed = members == 1
        self._base_ms: float | None = None
        self._comparing_s = -math.inf
        self._jumped = False
        self._vouched = False

    def open(self, now: Instant, *, vouched: bool, ahead_ms: int = 0) -> None:
        """The node is opened. `vouched`: an operator says that this clock is right; `ahead_ms`: as it was
        when the last run ended."""
        if ahead_ms and not vouched:
            self.ahead_ms, self._ahead_s = ahead_ms, now.monotonic + AHEAD_S
        self._base_ms = _base_ms(now)
        self._comparing_s = now.monotonic + COMPARING_S
        self._vouched = vouched
        if vouched or self.alone:
            self.sure_ms = self._base_ms

    def add(self) -> None:
        """A place for one more member. Its clock has no say before it is to `count`."""
        self._comparisons.append(None)
        self.offsets.append(None)

    def count(self, members: Iterable[int]) -> None:
        """It is a majority of these that is needed, from now on."""
        counting = frozenset(members)
        if counting != self._counting:
            self._counting = counting
            self._judge()

    @property
    def vouched(self) -> bool:
        """Whether an operator's word on this clock stands."""
        return self._vouched

    @property
    def alone(self) -> bool:
        """Whether nobody else's clock has a say."""
        return self._counting == {self._me}

    # --- what time it is ---------------------------------------------------------------------

    def sure(self, now: Instant) -> bool:
        """Whether this clock may be stamped by."""
        # Asked of each moment anew: between two ticks the clock may have been set.
        return (
            self.sure_ms is not None
            and self.skew_ms is None
            and abs(_base_ms(now) - self.sure_ms) <= self.step_ms
        )

    def comparing(self, now: Instant) -> bool:
        """Whether it is not sure, but may be in a moment: the others have had no time to answer."""
        return now.monotonic < self._comparing_s and not self.sure(now)

    def now_ms(self, now: Instant) -> int | None:
        """The time, in ms since 1970; None while nobody can tell."""
        if self.sure(now):
            return now.wall_ms
        steady = self._base_ms is not None and abs(_base_ms(now) - self._base_ms) <= self.step_ms
        return now.wall_ms + self.agreed_ms if self.agreed_ms is not None and steady else None

    def latest_ms(self, now: Instant) -> int:
        """The time; while nobody can tell, the latest that a clock shows: this one may be behind."""
        known_ms = self.now_ms(now)
        return now.wall_ms + max(each or 0 for each in self.offsets) if known_ms is None else known_ms

    def about_ms(self, now: Instant) -> int:
        """The time as well as it is known: for what a wrong clock may delay, and nothing worse."""
        return now.wall_ms + self.off_ms

    def trouble(self, now: Instant) -> str:
        """What is wrong with this clock, in words; empty when it is sure."""
        if self.sure(now):
            return ""
        if self.skew_ms is not None:
            apart = f"it is {abs(self.skew_ms)} ms {'behind' if self.skew_ms > 0 else 'ahead of'}"
            if self.agreed_ms is not None:
                return f"{apart} the majority's"
            return f"{apart} another member's, and no majority agrees on what time it is"
        since = "it has jumped, and since then" if self._jumped else "since this node was started, it"
        return f"{since} has not been compared with those of a majority of the members"

    # --- comparisons -------------------------------------------------------------------------

    def hear(self, member: int, answer: Pong, now: Instant) -> None:
        """A member has answered a heartbeat, and told its time."""
        round_trip_ms = now.monotonic * 1e3 - answer.sent_us / 1e3
        if round_trip_ms < 0:
            return
        offset_ms = round(answer.wall_ms + round_trip_ms / 2 - now.wall_ms)
        heard = _Comparison(offset_ms, max(0.0, (round_trip_ms - self._drift_ms_max) / 2), now.monotonic)
        known = self._comparisons[member]
        if (
            known is None
            or heard.doubt_ms <= known.doubt_ms
            or heard.at_s - known.at_s > FRESH_S
            # It contradicts: one of the two clocks was set in between.
            or abs(heard.offset_ms - known.offset_ms) > self._drift_ms_max + heard.doubt_ms
        ):
            self._comparisons[member] = heard
            self.offsets[member] = offset_ms
            self._judge()
            base_ms = _base_ms(now)
            # Once it was set, what others agreed with was another clock: the next tick will see to that.
            if self.confirmed and abs(self._jump_ms(base_ms)) <= self.step_ms:
                self.sure_ms = base_ms

    def forget(self, member: int) -> None:
        """A clock that is out of sight has no say in whose is wrong."""
        self._comparisons[member] = self.offsets[member] = None
        self._judge()

    def tick(self, now: Instant) -> bool:
        """Whether the wall clock was set since the last tick: then comparisons made before mean nothing."""
        base_ms = _base_ms(now)
        jump_ms = self._jump_ms(base_ms)
        self._base_ms = base_ms
        jumped = abs(jump_ms) > self.step_ms
        if jumped:
            self._weigh_jump(round(jump_ms), now)
            self._jumped, self._vouched = True, False
            self._comparing_s = now.monotonic + COMPARING_S
            self.sure_ms = None
            for member, known_ms in enumerate(self._comparisons):
                if known_ms is not None:
                    self._comparisons[member] = self.offsets[member] = None
            self._judge()
        if self.alone:
            self.sure_ms = base_ms
        if now.monotonic >= self._ahead_s:
            self.ahead_ms = 0
        return jumped

    def _jump_ms(self, base_ms: float) -> float:
        """How far it was set since the last tick, or since it was sure last: several small steps are a large
        one."""
        steps_ms = [base_ms - known_ms for known_ms in (self._base_ms, self.sure_ms) if known_ms is not None]
        return max(steps_ms, key=abs, default=0.0)

    def _weigh_jump(self, step_ms: int, now: Instant) -> None:
        """A jump back takes one ahead back. One ahead that a majority had asked for is none to beware of."""
        asked_ms = self.agreed_ms if step_ms > 0 else None
        if asked_ms is None or abs(step_ms - asked_ms) > self._drift_ms_max:
            self.ahead_ms = max(0, self.ahead_ms + step_ms)
            self._ahead_s = now.monotonic + AHEAD_S

    def _judge(self) -> None:
        """Whether linked members agree with this clock, and how far it is from them if they do not."""
        bound_ms, members = self._drift_ms_max, len(self._counting)
        heard = [each for at in self._counting if (each := self._comparisons[at]) is not None]
        near = (self._me in self._counting) + sum(
            abs(each.offset_ms) + each.doubt_ms <= bound_ms for each in heard
        )
        far = sorted(e.offset_ms for e in heard if abs(e.offset_ms) - e.doubt_ms > bound_ms)
        # Between two who differ nobody can say who is right, unless an operator has.
        skewed = 2 * len(far) > members if self._vouched else bool(far) and len(far) >= near
        self.skew_ms = far[len(far) // 2] if skewed else None
        self.agreed_ms = self._agreed_ms(far) if skewed else None
        self.off_ms = self.agreed_ms or (self.skew_ms or 0 if self.sure_ms is None else 0)
        self.confirmed = not skewed and 2 * near > members
        if 2 * len(far) > members:  # no further answer can change that
            self._comparing_s = -math.inf

    def _agreed_ms(self, far: list[int]) -> int | None:
        """The offset of a member that a majority of all agrees with, as far as is known."""
        agreeing = [sum(abs(each - other) <= self._drift_ms_max for other in far) for each in far]
        most = max(agreeing)
        most_of = [each for each, count in zip(far, agreeing, strict=True) if count == most]
        return most_of[len(most_of) // 2] if 2 * most > len(self._counting) else None


def _base_ms(now: Instant) -> float:
    """It changes only when the wall clock is set: both run at one rate."""
    return now.wall_ms - now.monotonic * 1e3
