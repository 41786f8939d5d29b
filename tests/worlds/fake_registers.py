"""Registers: a fake node that holds some, alone, and answers as a cluster that has agreed on each write.

Each record has two versions: that by which its write is known, and a greater one under which it was agreed
on.
"""

from typing import Any, NamedTuple

from basestore.protocol.client import (
    ADD,
    IF_ABSENT,
    IF_VALUE,
    IF_VERSION,
    OUTCOME_LOST,
    OUTCOME_STORED,
    Delete,
    Failed,
    Get,
    Got,
    Page,
    Scan,
    Set,
    Written,
)
from basestore.protocol.codec import Message
from basestore.repair.version import PROPOSAL_BYTES, Identity, Version

APPLIED = 1
BETWEEN = 5  # the two stamps of a record
STEP = 10  # between the stamps of two writes
START = 1 << 60


class Held(NamedTuple):
    """`value`: None where it was deleted."""

    known: Version
    order: Version
    value: bytes | None


class Registers:
    """`asked`: all requests, in their order; `held`: by bucket and key. It does not know what is repeated."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.held: dict[tuple[str, bytes], Held] = {}
        self._stamp = START

    def __call__(self, request: Message) -> Message | None:
        if isinstance(request, Set | Delete):
            self.asked.append(request)
            return self._write(request)
        if isinstance(request, Get):
            self.asked.append(request)
            return self._read(request)
        if isinstance(request, Scan):
            self.asked.append(request)
            rows = [
                part
                for (bucket, key), held in sorted(self.held.items())
                if bucket == request.bucket and held.value is not None
                for part in (key, held.value, held.known.encode(), bytes(8))
            ]
            return Page(request.id, rows, b"", False)
        return None

    def _read(self, request: Get) -> Got:
        held = self.held.get((request.bucket, request.key))
        if held is None:
            return Got(request.id, False, b"", b"", 0, 2, 2, False, 0)
        got = Got(
            request.id, held.value is not None, held.value or b"", held.known.encode(), 0, 2, 2, False, 0
        )
        return got._replace(order=held.order.encode())

    def _write(self, request: Set | Delete) -> Message:
        place = request.bucket, request.key
        held = self.held.get(place)
        there = None if held is None else held.value
        proposal = request.identity[:PROPOSAL_BYTES]
        plain = Written(request.id, OUTCOME_STORED, 0, proposal, 2, 2, [0, APPLIED], b"", 3)
        if not _holds(request, held):
            lost = plain._replace(outcome=OUTCOME_LOST, acknowledged=0, replicas=[0, 0])
            if held is None:
                return lost
            return lost._replace(
                better=held.known.encode(), order=held.order.encode(), value=there or b"",
                held=there is not None,
            )  # fmt: skip
        value = request.value if isinstance(request, Set) else None
        if request.condition == ADD:
            try:
                value = b"%d" % (int(there or b"0") + int(value or b"0"))
            except ValueError:
                return Failed(request.id, 1, f"the key holds {there!r}, which is no number", b"", [])
        self._stamp += STEP
        known, order = Version(self._stamp, 1, 7), Version(self._stamp + BETWEEN, 2, 9)
        self.held[place] = Held(known, order, value)
        identity = Identity(proposal, known, b"checked!").encode()
        stored = plain._replace(identity=identity, order=order.encode())
        return stored._replace(value=value or b"", held=True) if request.condition == ADD else stored


def _holds(request: Set | Delete, held: Held | None) -> bool:
    """The condition of a write."""
    there = None if held is None else held.value
    if request.condition == IF_ABSENT:
        return there is None
    if request.condition == IF_VERSION:
        return held is not None and held.known.encode() == request.expected
    return request.condition != IF_VALUE or there == request.expected
