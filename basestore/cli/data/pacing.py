"""Pacing: how an import asks again for rows that were refused as overloaded.

A node that refuses a row says when there may be room for it (`Overloaded.retry_after`). Until then the row
waits, and so do all rows behind its batch:

    256 rows, a limit of 100 a second    100 are let in; 156 wait: the first 10 ms, the last 1.56 s
    .5 to 1 s later                      those whose time has come are asked for again; the others wait on
    and so on                            until all are let in, or not one was for a minute

How long it pauses is the rule of `client/retrying.py`. Its budget is not: that keeps a caller from asking too
often for what may be given up, and an import gives nothing up while the cluster takes any of it.

Of rows with one key none is asked for before those that stand before it. Where a node has let in a later
one and refused an earlier one, that one is not asked for again: it would be written over what follows it.

It counts nothing and prints nothing: `importing.py` does.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from basestore.cli.data.rows import Row
from basestore.client.calls import chance
from basestore.client.retrying import pause_of
from basestore.consistency import Level
from basestore.errors import BasestoreError, Overloaded, RequestFailed
from basestore.results.receipts import ReadResult, Receipt

if TYPE_CHECKING:
    from basestore.sync import SyncStore

PATIENCE_S = 60.0  # in which not one row is let in, until nothing waits any more
ROUND_S = 0.5  # no longer than this rows wait for others whose time comes later
BARREN_MAX = 5  # attempts in which nothing is let in, with which pauses double


class Round(NamedTuple):
    """What has become of rows that were asked for. `waiting`: those that are to be asked for again, and `why`
    the first of them is; `overtaken`: how many are not, for a later row of their key was let in."""

    rows: list[Row]
    results: list[Any]
    waiting: list[Row]
    why: Overloaded | None
    overtaken: int


class _Refused(NamedTuple):
    row: Row
    error: Overloaded
    due_s: float


class Pace:
    """Of one import, into one bucket. `stalled`: its patience has ended, and nothing has been let in since.

    What it asks yields what has become of some rows as soon as that is known, at least once, and before each
    pause; at the end those that were not let in, with the error that they were last refused with."""

    def __init__(
        self,
        store: "SyncStore",
        bucket: str,
        ttl_s: float | None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        draw: Callable[[], float] = chance,
    ) -> None:
        self.stalled = False
        self._store = store
        self._bucket = bucket
        self._ttl_s = ttl_s
        self._now = now
        self._sleep = sleep
        self._draw = draw
        self._barren = 0  # attempts since anything was let in, and when the first of them was refused
        self._barren_since_s: float | None = None

    def set_many(self, rows: Sequence[Row]) -> Iterator[Round]:
        """Write these rows. Raises what is no RequestFailed: no node, or a wrong request, as would be all
        others."""

        def ask(rows: Sequence[Row]) -> list[Receipt | RequestFailed]:
            results = []
            items = [(row.key, row.value) for row in rows]
            for result in self._store.set_many(items, bucket=self._bucket, ttl=self._ttl_s):
                if isinstance(result, Exception) and not isinstance(result, RequestFailed):
                    raise result
                results.append(result)
            return results

        return self._rounds(rows, ask)

    def set(self, row: Row, repeat: str | None) -> Iterator[Round]:
        """Write one row, anew or as the write with this identity."""

        def ask(_: Sequence[Row]) -> list[Receipt | RequestFailed]:
            bucket, ttl_s = self._bucket, self._ttl_s
            try:
                return [self._store.set(row.key, row.value, bucket=bucket, ttl=ttl_s, repeat=repeat)]
            except RequestFailed as error:
                return [error]

        return self._rounds([row], ask)

    def get_many(self, rows: Sequence[Row], level: Level) -> Iterator[Round]:
        """Read the keys of these rows."""

        def ask(rows: Sequence[Row]) -> list[ReadResult | BasestoreError]:
            keys = [row.key for row in rows]
            return self._store.get_many(keys, bucket=self._bucket, consistency=level)

        return self._rounds(rows, ask)

    def _rounds(self, rows: Sequence[Row], ask: Callable[[list[Row]], Sequence[Any]]) -> Iterator[Round]:
        asked, left = list(rows), list[_Refused]()
        while True:
            settled, refused, overtaken = self._hear(asked, ask(asked))
            left = sorted((*left, *refused), key=lambda each: each.row.start)
            until_s = self._until(left) if left else None
            if until_s is None:
                settled += [(each.row, each.error) for each in left]
                left = []
            yield Round(
                [row for row, _ in settled], [result for _, result in settled],
                [each.row for each in left], left[0].error if left else None, overtaken,
            )  # fmt: skip
            if until_s is None:
                return
            self._sleep(max(0.0, until_s - self._now()))
            asked, left = _due(left, max(until_s, self._now()))

    def _hear(
        self, rows: Sequence[Row], results: Sequence[Any]
    ) -> tuple[list[tuple[Row, Any]], list[_Refused], int]:
        """What is settled, what is refused, and how much of that is overtaken."""
        now_s, overtaken = self._now(), 0
        settled: list[tuple[Row, Any]] = []
        refused: list[_Refused] = []
        let_in: set[bytes] = set()
        for row, result in zip(reversed(rows), reversed(results), strict=True):
            if not isinstance(result, Overloaded):
                settled.append((row, result))
                if not isinstance(result, RequestFailed) or not result.definite:
                    let_in.add(row.key)
            elif row.key in let_in:
                overtaken += 1
            else:
                refused.append(_Refused(row, result, now_s + result.retry_after))
        if settled:
            self.stalled, self._barren, self._barren_since_s = False, 0, None
        elif refused:
            self._barren += 1
            self._barren_since_s = now_s if self._barren_since_s is None else self._barren_since_s
        return settled[::-1], refused[::-1], overtaken

    def _until(self, left: Sequence[_Refused]) -> float | None:
        """When to ask again; None when it is not worth it any more."""
        now_s = self._now()
        first_s, last_s = min(each.due_s for each in left), max(each.due_s for each in left)
        asked_s = max(0.0, first_s - now_s, min(last_s - now_s, ROUND_S))
        ends_s = (now_s if self._barren_since_s is None else self._barren_since_s) + PATIENCE_S
        if now_s + asked_s >= ends_s:
            self.stalled = True
            return None
        attempt = min(max(1, self._barren), BARREN_MAX)
        return min(now_s + pause_of(asked_s, attempt, self._draw), ends_s)


def _due(left: Sequence[_Refused], now_s: float) -> tuple[list[Row], list[_Refused]]:
    """Those whose time has come, unless one before them has the same key and waits; and the others."""
    due: list[Row] = []
    others: list[_Refused] = []
    held: set[bytes] = set()
    for each in left:
        if each.due_s <= now_s and each.row.key not in held:
            due.append(each.row)
        else:
            held.add(each.row.key)
            others.append(each)
    return due, others
