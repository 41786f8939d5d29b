"""Hot keys: which keys are asked for most, and about how often in a second. Pure: times are arguments.

Counted in a *count-min sketch* (Cormode, Muthukrishnan 2005) of 64 KiB: a key adds to one cell of each of
four rows, and was asked for at most as often as the least of its cells says. Cells are halved each second, so
a key that is asked for r times a second stands at r behind a halving and at 2r before the next. Beside the
sketch the keys themselves are kept of the few that have the greatest counts.

Cells are found by digests that depend on a secret: nobody can choose keys that share those of another one.
"""

from array import array
from hashlib import blake2b
from struct import Struct
from sys import byteorder
from typing import Final, NamedTuple

ROWS: Final = 4
CELLS: Final = 4096  # of a row
COUNT_BITS: Final = 32
COUNT_MAX: Final = (1 << COUNT_BITS) - 1
CANDIDATES: Final = 16
CANDIDATE_COUNT_MIN: Final = 4  # less may be chance
SHOWN: Final = 5
SHOWN_PER_S_MIN: Final = 250
KEY_BYTES_KEPT: Final = 256
DIGEST_BYTES: Final = 8
_WORDS: Final = Struct(">4H")
_BYTES: Final = ROWS * CELLS * COUNT_BITS // 8
_EACH: Final = int.from_bytes(bytes((1, 0, 0, 0)) * (ROWS * CELLS), "little")  # a 1 in each cell


def digest(seed: bytes, name: bytes, key: bytes) -> bytes:
    """What a key of the bucket that `name` stands for is known by; no two names begin alike."""
    return blake2b(name + key, digest_size=DIGEST_BYTES, key=seed).digest()


def _places(digest: bytes) -> tuple[int, int, int, int]:
    """Its cells, one of each row."""
    a, b, c, d = _WORDS.unpack(digest)
    return a % CELLS, CELLS + b % CELLS, 2 * CELLS + c % CELLS, 3 * CELLS + d % CELLS


class Sketch:
    """Counts by digest, never too small."""

    def __init__(self) -> None:
        self._cells = array("I", bytes(_BYTES))

    def count(self, digest: bytes) -> int:
        """At most so often."""
        cells = self._cells
        return min(cells[place] for place in _places(digest))

    def add(self, digest: bytes, times: int = 1) -> int:
        """It was asked for; its count. Only the cells that are below that are raised."""
        cells, (a, b, c, d) = self._cells, _places(digest)
        count = min(min(cells[a], cells[b], cells[c], cells[d]) + times, COUNT_MAX)
        for place in (a, b, c, d):
            if cells[place] < count:
                cells[place] = count
        return count

    def halve(self, times: int = 1) -> None:
        """All counts, so often, rounded down: as one number, for cell by cell takes many times as long."""
        whole = int.from_bytes(self._cells.tobytes(), byteorder)
        whole = whole >> min(times, COUNT_BITS) & _EACH * (COUNT_MAX >> times)
        self._cells = array("I", whole.to_bytes(_BYTES, byteorder))


class HotKey(NamedTuple):
    """`key`: its first KEY_BYTES_KEPT bytes; `size`: how many it has."""

    bucket: str
    key: bytes
    size: int
    per_s: int


class HotKeys:
    """Of one node, which counts one request in `sampled`."""

    def __init__(self, sampled: int = 1) -> None:
        self._sampled = sampled
        self._sketch = Sketch()
        self._candidates: dict[bytes, tuple[str, bytes, int]] = {}
        self._least = CANDIDATE_COUNT_MIN  # who has a greater count is a candidate
        self._halved_s = 0.0

    def add(self, digest: bytes, bucket: str, key: bytes) -> None:
        """A key was asked for; `digest` is what it is known by. Let the time pass first."""
        count = self._sketch.add(digest)
        if count > self._least and digest not in self._candidates:
            self._enter(digest, bucket, key)

    def _enter(self, digest: bytes, bucket: str, key: bytes) -> None:
        candidates, count = self._candidates, self._sketch.count
        candidates[digest] = bucket, key[:KEY_BYTES_KEPT], len(key)
        if len(candidates) > CANDIDATES:
            del candidates[min(candidates, key=count)]
            self._least = max(CANDIDATE_COUNT_MIN, min(map(count, candidates)))

    def pass_time(self, now_s: float) -> None:
        """Halve the counts once for each second that has passed."""
        seconds = int(now_s - self._halved_s)
        if seconds <= 0:
            return
        self._halved_s += seconds
        self._sketch.halve(seconds)
        count = self._sketch.count
        self._candidates = {
            each: kept for each, kept in self._candidates.items() if count(each) >= CANDIDATE_COUNT_MIN
        }
        self._least = CANDIDATE_COUNT_MIN

    def hottest(self, now_s: float) -> list[HotKey]:
        """Those that are asked for most, the first most of all."""
        self.pass_time(now_s)
        since_s = max(0.0, now_s - self._halved_s)
        found = []
        for each, kept in self._candidates.items():
            per_s = round(self._sketch.count(each) * self._sampled / (1 + since_s))
            if per_s >= SHOWN_PER_S_MIN:
                found.append(HotKey(*kept, per_s))
        return sorted(found, key=_by_rate)[:SHOWN]


def _by_rate(hot: HotKey) -> tuple[int, str, bytes]:
    return -hot.per_s, hot.bucket, hot.key
