"""Runs: sets of (origin, number) pairs as intervals, so that an outage of a million writes takes bytes, not
megabytes. Pure.

    {1: 3, 4, 5, 9; 2: 1}     as runs     {1: [(3, 5), (9, 9)], 2: [(1, 1)]}

An origin is a node in one of its lives; a number counts its writes to a partition (`version.py`). What
other sets can be said in the same way is said so too: places in a list, or sequences, with 0 as their only
origin. Owns their arithmetic and their encoded form, and refuses bytes that are no runs; which writes a set
is of is for those who make it.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping

RUNS_MAX = 1_000_000
ORIGIN_BYTES = 8
_WORD_BITS_MAX = 70
_NOWHERE = (1, 0)

Interval = tuple[int, int]  # first and last number
Runs = dict[int, list[Interval]]  # by origin, ascending, with gaps between


def runs_of(numbers: Mapping[int, Iterable[int]]) -> Runs:
    """Runs of the numbers of each origin, which may come in any order."""
    runs: Runs = {}
    for origin, unordered in numbers.items():
        intervals: list[Interval] = []
        first = last = -1
        for number in sorted(unordered):
            if number == last + 1 and first >= 0:
                last = number
                continue
            if first >= 0 and number != last:
                intervals.append((first, last))
            if number != last:
                first = last = number
        if first >= 0:
            intervals.append((first, last))
        if intervals:
            runs[origin] = intervals
    return runs


def without(runs: Runs, taken: Runs) -> Runs:
    """The numbers that are in `runs` and not in `taken`."""
    left: Runs = {}
    for origin, intervals in runs.items():
        rest: list[Interval] = []
        others = taken.get(origin, [])
        at = 0
        for first, last in intervals:
            while at < len(others) and others[at][1] < first:
                at += 1
            # `at` stays: a run of the others may reach into the next interval as well.
            look = at
            while look < len(others) and others[look][0] <= last:
                if others[look][0] > first:
                    rest.append((first, others[look][0] - 1))
                first = others[look][1] + 1
                look += 1
            if first <= last:
                rest.append((first, last))
        if rest:
            left[origin] = rest
    return left


class Members:
    """Whether (origin, number) is in some runs; asked for numbers in any order."""

    def __init__(self, runs: Runs) -> None:
        self._firsts = {origin: array("Q", (first for first, _ in runs[origin])) for origin in runs}
        self._lasts = {origin: array("Q", (last for _, last in runs[origin])) for origin in runs}
        self._at = dict.fromkeys(runs, 0)

    def __bool__(self) -> bool:
        return bool(self._at)

    def __contains__(self, version: tuple[int, int]) -> bool:
        origin, number = version
        firsts = self._firsts.get(origin)
        if firsts is None:
            return False
        lasts, at = self._lasts[origin], self._at[origin]
        if not (firsts[at] <= number <= lasts[at]):  # mostly they come in order: look near by first
            at = _run_at(firsts, number, at)
            self._at[origin] = at
        return firsts[at] <= number <= lasts[at]

    def lacking(self, versions: Iterable[tuple[int, int]]) -> Iterator[int]:
        """The places of those that are in none of the runs."""
        runs: dict[int, Interval] = {}  # of each origin, the one that was found last
        for place, version in enumerate(versions):
            origin, number = version
            first, last = runs.get(origin, _NOWHERE)
            if not first <= number <= last:
                if version in self:
                    at = self._at[origin]
                    runs[origin] = (self._firsts[origin][at], self._lasts[origin][at])
                else:
                    yield place


def _run_at(firsts: "array[int]", number: int, near: int) -> int:
    """The last run that begins at or before `number`, or the first one."""
    if (
        near + 1 < len(firsts)
        and firsts[near + 1] <= number
        and (near + 2 >= len(firsts) or number < firsts[near + 2])
    ):
        return near + 1
    low, high = 0, len(firsts)
    while low + 1 < high:
        middle = (low + high) // 2
        if firsts[middle] <= number:
            low = middle
        else:
            high = middle
    return low


def encode_runs(runs: Runs) -> bytes:
    """How many origins; for each its 8 bytes, how many runs, the first number, and the length of each run.
    Between two runs one number is left out; a wider gap is announced by a length of 0 and its surplus.
    All but origins as LEB128."""
    out = bytearray(_varint(len(runs)))
    for origin, intervals in sorted(runs.items()):
        out += origin.to_bytes(ORIGIN_BYTES) + _varint(len(intervals)) + _varint(intervals[0][0])
        # As if a run had ended one gap before the first: so that one needs no surplus.
        behind = intervals[0][0] - 2
        for first, last in intervals:
            surplus = first - behind - 2
            if surplus:
                out += b"\0" + _varint(surplus)
            out += _varint(last - first + 1)
            behind = last
    return bytes(out)


def decode_runs(data: bytes) -> Runs:
    """Inverse of `encode_runs`; ValueError when it is malformed or has too many runs."""
    words = _Words(data)
    runs: Runs = {}
    budget = RUNS_MAX
    try:
        for _ in range(words.next()):
            origin, count, first = words.origin(), words.next(), words.next()
            # What is announced is counted before anything is made of it.
            budget -= count
            if budget < 0 or not count or origin in runs:
                raise ValueError("too many runs, or an origin without any or twice")
            intervals: list[Interval] = []
            for _ in range(count):
                length = words.next()
                if not length:
                    first += words.next()
                    length = words.next()
                if not length or first + length > 1 << 64:
                    raise ValueError("a run is empty or too long")
                intervals.append((first, first + length - 1))
                first += length + 1
            runs[origin] = intervals
    except IndexError:
        raise ValueError("a list of runs is cut off") from None
    if words.left:
        raise ValueError("bytes follow a list of runs")
    return runs


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class _Words:
    """Reads LEB128 numbers and origins one after the other; IndexError at the end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def next(self) -> int:
        data, at = self._data, self._at
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                self._at = at
                return number
            shift += 7
            if shift >= _WORD_BITS_MAX:
                raise ValueError("a number has more than 64 bits")

    def origin(self) -> int:
        start, self._at = self._at, self._at + ORIGIN_BYTES
        if self._at > len(self._data):
            raise IndexError
        return int.from_bytes(self._data[start : self._at])

    @property
    def left(self) -> int:
        return len(self._data) - self._at
