"""Promised: what clients of registers were told, held against the chains of what was chosen (`chains.py`).

    stored       it is in the chain, what it depends on held where it stands, and nothing stood behind it
                 before it was asked
    lost         it is not in the chain; what it was shown is, and does not fulfil what it depends on
    refused      it is not in the chain
    unknown      either
    read         what it was shown is in the chain, with this value, and nothing behind it was told before
    read at one  what it was shown is in the chain

What is told was chosen by then. Numbers add up, record by record, and so in the end. In time that is exact: a
chain is an order, and each operation has one place in it, or, where nothing was found, one of a few.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from basestore.consistency import Level
from basestore.protocol.client import ADD, IF_ABSENT, IF_VALUE, IF_VERSION
from tests.simulation.chains import Link, Row
from tests.simulation.machine import WALL_MS
from tests.simulation.register_clients import (
    AGREED,
    FOUND,
    GET,
    LOST,
    REFUSED,
    STORED,
    Operation,
)

if TYPE_CHECKING:
    from tests.simulation.register_worlds import RegisterWorld


class Told(NamedTuple):
    """An operation that has one place in the chain."""

    start: float
    end: float
    place: int
    writes: bool
    operation: Operation


class Judge:
    """Of one register."""

    def __init__(self, world: "RegisterWorld", row: Row, operations: list[Operation]) -> None:
        self._world, self._row, self._operations = world, row, operations
        self._slack_ms = world.expiry_slack_ms
        self._told: list[Told] = []
        self._absent: list[Operation] = []  # who was shown nothing, of no version

    def judge(self) -> None:
        """All of it; behind a ruin what was asked since, and what was shown from before has no place."""
        if self._row.ruined_s >= 0:
            self._world.counts["registers behind a ruin"] += 1
            self._operations = [each for each in self._operations if each.start > self._row.ruined_s]
        self._judge_records()
        for operation in self._operations:
            self._judge_one(operation)
        self._judge_time()

    def _blame(self, check: str, operation: Operation, text: str) -> None:
        self._world.blame(check, f"{operation}: {text}")

    # --- what stands in the chain --------------------------------------------------------------

    def _judge_records(self) -> None:
        """Each record does what its operation asked, to the one before it."""
        by_proposal = {each.proposal: each for each in self._operations if each.proposal}
        by_version = {each.known_by: each for each in self._operations if each.known_by}
        before: Link | None = None
        applied = set[int]()
        for link in self._row.links:
            operation = by_proposal.get(link.proposal) or by_version.get(link.identity)
            if operation is not None and (before is not None or self._row.ruined_s < 0):
                if id(operation) in applied:
                    self._blame("twice", operation, "stands twice in the chain")
                applied.add(id(operation))
                self._judge_record(operation, link, before)
            before = link

    def _judge_record(self, operation: Operation, link: Link, before: Link | None) -> None:
        if operation.outcome == REFUSED:
            self._blame("refused", operation, f"was refused ({operation.why[:60]}), and is in the chain")
        if operation.kind == GET or link.tombstone != (operation.kind != "set"):
            self._blame("conditions", operation, "another kind of write stands in the chain")
        self._judge_life(operation, link)
        if operation.condition == ADD:
            held = self._held(before, link)
            numbers = {int(each or b"0") + int(operation.value) for each in held}
            if link.value not in {b"%d" % each for each in numbers}:
                self._blame("numbers", operation, f"{held} became {link.value!r}")
            return
        if operation.kind == "set" and link.value != operation.value:
            self._blame("conditions", operation, f"stands in the chain as {link.value!r}")
        if not any(fulfils(operation, before, each) for each in self._held(before, link)):
            self._blame("conditions", operation, f"stands behind {before}"[:250])

    def _judge_life(self, operation: Operation, link: Link) -> None:
        """What expires lives for as long as was asked, from when it is written on."""
        born_ms = WALL_MS + operation.start * 1e3 - self._world.clocks_apart_ms
        if bool(operation.ttl_ms) != bool(link.expires_ms):
            self._blame("conditions", operation, f"expires at {link.expires_ms}")
        elif link.expires_ms and link.expires_ms < born_ms + operation.ttl_ms:
            self._blame("conditions", operation, f"was to live {operation.ttl_ms} ms, and expires earlier")

    def _held(self, before: Link | None, link: Link) -> list[bytes | None]:
        """What a row holds by this record, for who proposes the next one: a value, or None; either where it
        may just have expired."""
        if before is None or before.tombstone:
            return [None]
        if not before.expires_ms:
            return [before.value]
        judged_ms = WALL_MS + self._row.judged_s[link.identity + link.replaced] * 1e3
        ahead_ms = judged_ms - before.expires_ms
        return (
            [before.value, None]
            if abs(ahead_ms) < self._slack_ms
            else [None if ahead_ms > 0 else before.value]
        )

    # --- what was told -------------------------------------------------------------------------

    def _judge_one(self, operation: Operation) -> None:
        row, outcome = self._row, operation.outcome
        if outcome == STORED:
            place = row.place.get(operation.version)
            if place is None and operation.version in self._row.base:
                self._world.counts["stored before a ruin, found again"] += 1
            elif place is None:
                self._blame("stored", operation, "is not in the chain")
            elif self._known(operation, place):
                self._told.append(Told(operation.start, operation.end, place, True, operation))
                self._judge_shown(operation, row.links[place - 1])
        elif outcome == LOST:
            mine = next((each for each in row.links if self._is(each, operation)), None)
            if mine is not None:
                self._blame("lost", operation, "is in the chain")
            self._judge_seen(operation)
        elif outcome == FOUND:
            self._judge_seen(operation)

    @staticmethod
    def _is(link: Link, operation: Operation) -> bool:
        return link.proposal == operation.proposal != b"" or link.identity == operation.known_by

    def _known(self, operation: Operation, place: int) -> bool:
        """Whether it was chosen when that was told."""
        if self._row.known_s[place] <= operation.end:
            return True
        self._blame("chosen", operation, "was told before it was chosen")
        return False

    def _judge_seen(self, operation: Operation) -> None:
        """A read, or a write that was lost, was shown something."""
        row = self._row
        if not operation.version:
            if operation.found:
                self._blame("reads", operation, "a value without a version")
            self._absent.append(operation)
            self._judge_lost(operation, None)
            return
        place = row.place.get(operation.version)
        if place is None and operation.version in row.base:
            self._world.counts["shown from before a ruin"] += 1
        elif place is None:
            self._blame("reads", operation, "shows what is not in the chain")
        elif self._known(operation, place):
            self._judge_shown(operation, row.links[place - 1])
            self._judge_lost(operation, row.links[place - 1])
            if operation.kind != GET or operation.level is not Level.ONE:
                self._told.append(Told(operation.start, operation.end, place, False, operation))

    def _judge_shown(self, operation: Operation, link: Link) -> None:
        if operation.found and (link.tombstone or link.value != operation.shown):
            self._blame("reads", operation, f"shows {operation.shown!r}, and it is {link.value!r}")
        shows = operation.kind == GET or operation.outcome == LOST
        if shows and not operation.found and not link.goes:
            self._blame("reads", operation, f"shows nothing, and it is {link.value!r}")

    def _judge_lost(self, operation: Operation, link: Link | None) -> None:
        if operation.outcome == LOST:
            held = operation.shown if operation.found else None
            if fulfils(operation, link, held):
                self._blame("lost", operation, f"depends on what is there: {held!r}")

    # --- time ----------------------------------------------------------------------------------

    def _judge_time(self) -> None:
        """Nobody is told of a place after somebody was told of a later one, and no write has a place that was
        known, or passed, before it was asked."""
        ended = sorted((each.end, each.place) for each in self._told)
        ends, highest = [each[0] for each in ended], _greatest(each[1] for each in ended)
        for each in self._told:
            before = bisect_left(ends, each.start)
            high = highest[before - 1] if before else 0
            if each.place < high or (each.writes and each.place == high):
                self._blame(
                    "time", each.operation, f"has place {each.place} behind one who was told of {high}"
                )
        if not self._absent:
            return
        begun = sorted(((each.start, each.place - each.writes) for each in self._told), reverse=True)
        starts, least = [-each[0] for each in begun], _least(each[1] for each in begun)
        places = [0, *(at for at, link in enumerate(self._row.links, 1) if link.goes)]
        for operation in self._absent:
            before, after = bisect_left(ends, operation.start), bisect_left(starts, -operation.end)
            at_one = operation.kind == GET and operation.level is Level.ONE
            low = highest[before - 1] if before and not at_one else 0
            high = least[after - 1] if after else len(self._row.links)
            at = bisect_left(places, low)
            if at == len(places) or places[at] > high:
                self._blame("time", operation, f"found nothing, between the places {low} and {high}")


def _greatest(places: Iterable[int]) -> list[int]:
    """Of each beginning."""
    found, so_far = [], 0
    for place in places:
        so_far = max(so_far, place)
        found.append(so_far)
    return found


def _least(places: Iterable[int]) -> list[int]:
    found, so_far = [], 1 << 62
    for place in places:
        so_far = min(so_far, place)
        found.append(so_far)
    return found


def fulfils(operation: Operation, link: Link | None, held: bytes | None) -> bool:
    """Whether what a write depends on holds, where the row holds this value, of this record."""
    if operation.row[0] == AGREED or operation.condition == IF_ABSENT:
        return held is None
    if operation.condition == IF_VERSION:
        return held is not None and link is not None and link.identity == operation.expected
    if operation.condition == IF_VALUE:
        return held == operation.expected
    return True
