"""Batch: several keys of last-write buckets that are written together (`Store.batch`): all of them or none,
in the end. It is no transaction: a reader may see a part of it for a moment, and it depends on nothing.

    async with store.batch(atomic=True) as batch:
        batch.set("order/7", "paid")
        batch.delete("cart/3")
    batch.receipt                     all of it is applied

Nothing is sent until the block ends; what has raised in it is never sent. Where its outcome is not known the
error carries what the batch is known by: the same block with `repeat` writes nothing, but follows it to its
end. What is refused on the way, as by a node that has no room, says nothing of the batch that is repeated:
its outcome stays unknown. Pure but for the calls that it is handed.
"""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

from basestore.client.coordination.transaction import Key, Place, Row, ToPlace, ToWrite, Write
from basestore.errors import InvalidRequest, OutcomeUnknown, RequestFailed
from basestore.protocol.client import DELETE, SET
from basestore.protocol.limits import BATCH_BYTES_MAX, BATCH_KEYS_MAX
from basestore.repair.version import Identity
from basestore.results.receipts import BatchReceipt

BUCKET: Final = "default"
NOT_ATOMIC: Final = (
    "a batch is atomic: batch(atomic=True). To write many keys at once, each for itself, use set_many or "
    "delete_many; nothing was done"
)
NO_SESSION: Final = (
    "an atomic batch belongs to no session, which would learn nothing of what it has written; nothing was "
    "done. Use the store that the session is of"
)
ENDED: Final = "this batch has ended: begin another one"

EARLIER: Final = "An earlier attempt may have been done, or may be yet: repeat it, or read its keys"

ToCall = Callable[[list[Row]], Any]


class _Batch:
    """What both have in common: writes wait for nobody."""

    def __init__(self, place: ToPlace, write: ToWrite, call: ToCall, repeats: Identity | None = None) -> None:
        """`call`: what is to be carried, out of the rows. `repeats`: what an earlier attempt is known by."""
        self._place, self._write, self._call, self._repeats = place, write, call, repeats
        self._writes: dict[Place, Write] = {}
        self._bytes, self._ended = 0, False
        self.receipt: BatchReceipt | None = None  # once all of it is applied

    def set(self, key: Key, value: Key, *, bucket: str = BUCKET, ttl: float | None = None) -> None:
        """Write a value, with the rest of it. `ttl` in seconds."""
        self._add(self._place(bucket, key), self._write(value, ttl))

    def delete(self, key: Key, *, bucket: str = BUCKET) -> None:
        """Delete a key, with the rest of it."""
        self._add(self._place(bucket, key), Write(None))

    def _add(self, place: Place, write: Write) -> None:
        if self._ended:
            raise InvalidRequest(ENDED)
        before = self._writes.get(place)
        gone = len(place[1]) + len(before.value or b"") if before is not None else 0
        room = self._bytes - gone + len(place[1]) + len(write.value or b"")
        if len(self._writes) + (before is None) > BATCH_KEYS_MAX or room > BATCH_BYTES_MAX:
            raise InvalidRequest(
                f"an atomic batch writes at most {BATCH_KEYS_MAX} keys, of {BATCH_BYTES_MAX} bytes with "
                f"their values; nothing of it was done. Share the work among several"
            )
        self._writes[place], self._bytes = write, room

    def _told(self, error: RequestFailed) -> RequestFailed:
        """As it is to be raised. Who knows that the batch was given up says which one that is."""
        if self._repeats is None or not error.definite or error.identity is not None:
            return error
        return OutcomeUnknown(f"{error}. {EARLIER}", None, self._repeats)

    def _end(self) -> list[Row]:
        """What is to be sent; nothing if nothing was written."""
        self._ended = True
        return [
            Row(*place, DELETE, b"", b"", 0)
            if write.value is None
            else Row(*place, SET, b"", write.value, write.ttl_ms)
            for place, write in self._writes.items()
        ]


class Batch(_Batch):
    """Between the beginning and the end of an `async with` block."""

    def __init__(
        self, place: ToPlace, write: ToWrite, call: ToCall, ask: Callable[[Any], Awaitable[Any]],
        repeats: Identity | None = None,
    ) -> None:  # fmt: skip
        super().__init__(place, write, call, repeats)
        self._ask = ask

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        rows = self._end()
        if kind is None and rows:
            try:
                self.receipt = await self._ask(self._call(rows))
            except RequestFailed as failed:
                raise self._told(failed) from failed.__cause__


class SyncBatch(_Batch):
    """Between the beginning and the end of a `with` block."""

    def __init__(
        self, place: ToPlace, write: ToWrite, call: ToCall, ask: Callable[[Any], Any],
        repeats: Identity | None = None,
    ) -> None:  # fmt: skip
        super().__init__(place, write, call, repeats)
        self._ask = ask

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        rows = self._end()
        if kind is None and rows:
            try:
                self.receipt = self._ask(self._call(rows))
            except RequestFailed as failed:
                raise self._told(failed) from failed.__cause__
