"""Coordinator: stamps writes, hears answers, and keeps hints for replicas that did not answer in time.

What is pending dies with it; hints are durable. A hint is of one of three kinds, by what is known at
the time of sending: some store applied the write (a copy), none is known to have and the client was
told that it is kept (an only copy), or the client was told "unknown" (unsure).
"""

from dataclasses import dataclass, field

from tests.model.record import STAMPS, Record
from tests.model.replica import Answer, Way

DEADLINE = 40  # of a request


@dataclass
class Write:
    """One write on its way to all replicas."""

    key: int
    record: Record
    born: int
    any_level: bool  # the client is content with a durable hint
    kept: bool = False  # the client was told that there is one
    beaten: bool = False  # some replica holds better, which proves nothing about the write itself
    holders: set[int] = field(default_factory=set)  # stores that applied it
    done: set[int] = field(default_factory=set)  # places that need it no more
    late: set[int] = field(default_factory=set)  # places that refused it; an operator's business

    @property
    def way(self) -> Way:
        if self.holders:
            return Way.COPY
        return Way.ONLY_COPY if self.kept else Way.UNSURE


class Coordinator:
    """Any node; here one that is no replica."""

    def __init__(self, origin: int, places: int) -> None:
        self.origin = origin
        self.places = places
        self.skew = 0
        self.ticks = 0
        self.pending: dict[int, Write] = {}  # by stamp
        self.hints: dict[int, Write] = {}

    def stamp(self, now: int) -> int:
        self.ticks = max(self.ticks + 1, now + self.skew)
        return self.ticks * STAMPS + self.origin

    def observe(self, stamp: int) -> None:
        """Its clock passes what it has seen, as a hybrid logical clock does."""
        self.ticks = max(self.ticks, stamp // STAMPS)

    def hear(self, stamp: int, place: int, store_id: int, answer: Answer) -> Write | None:
        """A replica's answer; the write, if it is still somebody's."""
        write = self.pending.get(stamp) or self.hints.get(stamp)
        if write is None:
            return None
        if answer is Answer.APPLIED:
            write.holders.add(store_id)
            write.late.clear()  # those can have it as a copy now
        if answer is Answer.SUPERSEDED:
            write.beaten = True
        if answer is not Answer.CLOSED:
            write.done.add(place)
        elif stamp in self.hints:
            self.give_up(write, place)
        if len(write.done) == self.places:
            self.hints.pop(stamp, None)
        return write

    def give_up(self, write: Write, place: int) -> None:
        """A hint was refused: kept as late if the client may count on it, else dropped. That one replica
        has better does not end it: what is better may be on that disk alone."""
        if write.kept or write.holders:
            write.late.add(place)
        else:
            write.done.add(place)

    def expire(self, now: int) -> list[Write]:
        """Those whose deadline has passed: their clients are told, and hints are kept. Returns the only
        copies among them."""
        expired = {stamp: write for stamp, write in self.pending.items() if now - write.born > DEADLINE}
        for stamp, write in expired.items():
            del self.pending[stamp]
            write.kept = write.any_level and not write.holders and not write.beaten
            if len(write.done) < self.places:
                self.hints[stamp] = write
        return [write for write in expired.values() if write.kept]

    def deliverable(self, *, late: bool) -> list[tuple[Write, int]]:
        """Late ones are asked about again, rarely: once a replica has better, it needs them no more."""
        return [
            (write, place)
            for write in self.hints.values()
            for place in range(self.places)
            if place not in write.done and (place in write.late) == late
        ]

    def oldest_only_copy(self) -> int | None:
        """What a heartbeat names: replicas hold their closed stamps below it."""
        ways = [(stamp, write.way) for stamp, write in self.hints.items() if not write.late]
        return min((stamp for stamp, way in ways if way is Way.ONLY_COPY), default=None)

    def crash(self) -> None:
        self.pending.clear()
