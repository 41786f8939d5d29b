"""What the load did, read from its marks: the store after every batch, and what was acknowledged when.

A store's contents are compared as one number: the sum of a hash of each pair, which the next batch
changes by the pairs that it touches (the keys are few and the batches many).
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cbor2

from basestore.storage.engine import Batch
from tests.crashes.recording import Kind, Operation

_MODULUS = 1 << 128


def fingerprint(key: bytes, value: bytes) -> int:
    """What one pair adds to the number of a store."""
    return int.from_bytes(hashlib.blake2b(len(key).to_bytes(4) + key + value, digest_size=16).digest())


def contents(pairs: Iterable[tuple[bytes, bytes]]) -> int:
    """The number of a store that holds these pairs."""
    return sum(fingerprint(key, value) for key, value in pairs) % _MODULUS


def brief(value: bytes | None) -> str:
    """A value, short enough to be compared in great numbers."""
    return "absent" if value is None else hashlib.blake2b(value, digest_size=8).hexdigest()


class Request(NamedTuple):
    """A write that a client asked for."""

    number: int
    key: bytes
    value: bytes | None


class Promises(NamedTuple):
    """What holds at one moment: every batch up to `acknowledged` was promised to somebody; none beyond
    `handed` was ever given to the engine. `told` are the requests whose clients were told so."""

    acknowledged: int
    handed: int
    told: frozenset[int]


class History:
    """`after[n]` is the number of the store after batch n; `requests` are by key, in order."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.after = [0]
        self.requests: dict[bytes, list[Request]] = {}
        self.rows: dict[bytes, bytes] = {}
        self._carried: dict[int, int] = {}
        self._handed: list[tuple[int, int]] = []
        self._acked: list[tuple[int, int, list[int]]] = []
        self._batch: Batch | None = None
        self._batches: list[Batch] = []
        for index, operation in enumerate(operations):
            if operation.kind is Kind.NOTE:
                self._hear(index, cbor2.loads(operation.data))
        self._take()
        self.told = self.promises(len(operations)).told

    def _hear(self, index: int, mark: list[object]) -> None:
        match mark:
            case ["asked", int(number), bytes(key), bytes() | None as value]:
                self.requests.setdefault(key, []).append(Request(number, key, value))
            case ["handed", int(sequence), dict(rows)]:
                self._take()
                assert sequence == len(self.after), "batches come in order, without gaps"
                self._batch = rows
                self._handed.append((index, sequence))
            case ["busy", int()]:
                self._batch = None
                self._handed.pop()
            case ["carried", int(number), int(sequence)]:
                self._carried[number] = sequence
            case ["acked", list(numbers)]:
                last = max(self._carried[number] for number in numbers)
                before = self._acked[-1][1] if self._acked else 0
                self._acked.append((index, max(before, last), numbers))

    def _take(self) -> None:
        """Add the batch handed last, which was not refused."""
        if self._batch is None:
            return
        number = self.after[-1]
        for key, value in self._batch.items():
            held = self.rows.pop(key, None)
            if held is not None:
                number -= fingerprint(key, held)
            if value is not None:
                self.rows[key] = value
                number += fingerprint(key, value)
        self.after.append(number % _MODULUS)
        self._batches.append(self._batch)
        self._batch = None

    def promises(self, cut: int) -> Promises:
        """What had been promised before operation `cut`."""
        handed = bisect_right(self._handed, (cut, -1))
        acked = bisect_right(self._acked, (cut, -1, []))
        return Promises(
            self._acked[acked - 1][1] if acked else 0,
            self._handed[handed - 1][1] if handed else 0,
            frozenset(number for _, _, numbers in self._acked[:acked] for number in numbers),
        )

    def with_gap(self, first: int, last: int) -> set[int]:
        """The numbers of all stores that hold the batches up to some one from `first` on, then miss
        some, and hold the rest up to `last`."""
        found = set()
        rows: dict[bytes, bytes] = {}
        for kept in range(last):
            if kept >= first:
                for after_gap in range(kept + 1, last):
                    store = dict(rows)
                    for batch in self._batches[after_gap:last]:
                        _apply(store, batch)
                    found.add(contents(store.items()))
            _apply(rows, self._batches[kept])
        return found

    def may_show(self, key: bytes, told: frozenset[int]) -> set[str]:
        """What a reader of the key may be shown when these requests were acknowledged: the last of
        them, or one that was asked for later."""
        asked = self.requests.get(key, [])
        last = max((at for at, request in enumerate(asked) if request.number in told), default=None)
        if last is None:
            return {brief(None)} | {brief(request.value) for request in asked}
        return {brief(request.value) for request in asked[last:]}


def _apply(rows: dict[bytes, bytes], batch: Batch) -> None:
    for key, value in batch.items():
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = value
