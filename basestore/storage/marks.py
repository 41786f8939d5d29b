"""Marks: what rows hold, as far as it is known without a look at the disk: head and sequence, or that it is
nothing.

Every write is compared with what its row holds. For a row without a mark the whole record is read for that,
and its digest checked, which costs more than all else that a replica does for a write. So there should be
marks of all rows that are written now and then. They are bounded by the memory that they take: beyond it the
oldest go. A mark is as good as the row's owner keeps it: who changes a row notes it here.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

MARK_BYTES = 176  # of one besides its row: two objects' headers, its 49 bytes, its part of the table
SPARE_BITS = 8  # of the room one part in 256 is free after the oldest have gone


class Marks:
    """By row. `of`: for whoever looks for many of them; only this class changes it."""

    def __init__(self, bytes_max: int) -> None:
        self.of: dict[bytes, bytes] = {}
        self._bytes_max = bytes_max
        self.bytes = 0

    def note(self, row: bytes, mark: bytes) -> None:
        """The row holds this now."""
        if row not in self.of:
            self.bytes += len(row) + MARK_BYTES
        self.of[row] = mark
        if self.bytes > self._bytes_max:
            self._forget_oldest()

    def note_all(self, rows: Sequence[bytes], marks: Iterable[bytes]) -> None:
        """The same of many, all of them different."""
        of = self.of
        new = set(rows).difference(of)
        if new:
            self.bytes += sum(map(len, new)) + MARK_BYTES * len(new)
        of.update(zip(rows, marks, strict=True))
        if self.bytes > self._bytes_max:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        """As many as are too many, and some more at once: a dict that loses its first key again and again is
        slow to find the next."""
        upto = self._bytes_max - (self._bytes_max >> SPARE_BITS)
        for oldest in list(islice(self.of, (self.bytes - upto) // MARK_BYTES + 1)):
            if self.bytes <= upto:
                break
            self.forget(oldest)

    def forget(self, row: bytes) -> None:
        """What the row holds is not known any more."""
        if self.of.pop(row, None) is not None:
            self.bytes -= MARK_BYTES + len(row)

    def clear(self) -> None:
        """What is noted was found not to fit the disk."""
        self.of.clear()
        self.bytes = 0
