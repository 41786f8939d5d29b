"""Transaction: several keys of registers, read and written as if at one moment, alone (`Store.transaction`).

Optimistic: reads are plain reads at SERIAL, each of which is remembered with the version that it has found;
writes are kept here. Nothing is sent of them until the block ends. Then one request has it all done, if every
key that was read holds the same version still, or Conflict says that it was not:

    async with store.transaction() as t:
        a = await t.get("a")              version A, 100
        t.set("a", str(int(a.value) - 10))
        t.set("b", "10")                  not read: written whatever it holds
    at the end                            a is still A: both are written. Else Conflict, and neither is

What has raised in the block is not sent either. A key is read once: the transaction goes on seeing what it
saw, and what it has written itself. Pure but for the calls that it is handed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from basestore.consistency import Level
from basestore.errors import InvalidRequest
from basestore.protocol.client import DELETE, HOLDS_NOTHING, READ, SET
from basestore.protocol.limits import TRANSACTION_BYTES_MAX, TRANSACTION_KEYS_MAX
from basestore.repair.version import Version
from basestore.results.receipts import ReadResult

BUCKET: Final = "cas"
NO_SESSION: Final = (
    "transactions stand in one order with all that is read and written at serial, so they need no session, "
    "and a session learns nothing from them; nothing was done. Use the store that the session is of"
)
ENDED: Final = "this transaction has ended: begin another one"

Place = tuple[str, bytes]  # a bucket, and a key


class Write(NamedTuple):
    """`value`: None to delete; `ttl_ms`: 0 for ever."""

    value: bytes | None
    ttl_ms: int = 0


class Row(NamedTuple):
    """One key of it, as `Commit` takes them."""

    bucket: str
    key: bytes
    kind: int
    expected: bytes
    value: bytes
    ttl_ms: int


@dataclass
class Draft:
    """What a transaction has read, and is to write. `versions`: of what was written, once it is committed."""

    reads: dict[Place, ReadResult] = field(default_factory=dict)
    writes: dict[Place, Write] = field(default_factory=dict)
    versions: dict[Place, Version] = field(default_factory=dict)
    committed: bool = False
    ended: bool = False
    _bytes: int = 0

    def seen(self, place: Place) -> ReadResult | None:
        """What it has written to a key, or has read there."""
        self.go_on()
        write = self.writes.get(place)
        if write is None:
            return self.reads.get(place)
        found = write.value is not None
        return ReadResult(found, write.value, None, None, Level.SERIAL, 0, 0, False, 0)

    def go_on(self) -> None:
        """InvalidRequest where it has ended."""
        if self.ended:
            raise InvalidRequest(ENDED)

    def read(self, place: Place, result: ReadResult) -> ReadResult:
        """A key holds this; if another task has read it meanwhile, what that has found stands."""
        self._take_room(place, 0)
        return self.reads.setdefault(place, result)

    def write(self, place: Place, write: Write) -> None:
        self.go_on()
        self._take_room(place, len(write.value or b""))
        self.writes[place] = write

    def _take_room(self, place: Place, size: int) -> None:
        known = place in self.reads or place in self.writes
        keys = len(self.reads.keys() | self.writes.keys()) + (not known)
        before = self.writes.get(place)
        room = self._bytes + size - len((before and before.value) or b"") + (0 if known else len(place[1]))
        if keys > TRANSACTION_KEYS_MAX or room > TRANSACTION_BYTES_MAX:
            raise InvalidRequest(
                f"a transaction reads and writes at most {TRANSACTION_KEYS_MAX} keys, of "
                f"{TRANSACTION_BYTES_MAX} bytes with their values; nothing of it was done. Share the work "
                f"among several"
            )
        self._bytes = room

    def rows(self) -> list[Row]:
        """What is to be sent; nothing if it needs nobody to say that it holds."""
        places = [*self.writes, *(place for place in self.reads if place not in self.writes)]
        if not self.writes and len(places) < 2:
            return []
        return [self._row(place) for place in places]

    def _row(self, place: Place) -> Row:
        read, write, expected = self.reads.get(place), self.writes.get(place), b""
        if read is not None:
            expected = read.version.encode() if read.found and read.version else HOLDS_NOTHING
        if write is None:
            return Row(*place, READ, expected, b"", 0)
        if write.value is None:
            return Row(*place, DELETE, expected, b"", 0)
        return Row(*place, SET, expected, write.value, write.ttl_ms)

    def end(self, versions: list[Version]) -> None:
        """It is committed; of its writes in their order."""
        self.committed = True
        self.versions = dict(zip(self.writes, versions, strict=True))


Key = bytes | str
ToPlace = Callable[[str, Key], Place]
ToWrite = Callable[[Key, float | None], Write]


class _Writing:
    """What both have in common: writes wait for nobody."""

    def __init__(self, draft: Draft, place: ToPlace, write: ToWrite) -> None:
        self._draft, self._place, self._write = draft, place, write

    def set(self, key: Key, value: Key, *, bucket: str = BUCKET, ttl: float | None = None) -> None:
        """Write a value, once it is committed. `ttl` in seconds."""
        self._draft.write(self._place(bucket, key), self._write(value, ttl))

    def delete(self, key: Key, *, bucket: str = BUCKET) -> None:
        """Delete a key, once it is committed."""
        self._draft.write(self._place(bucket, key), Write(None))

    @property
    def committed(self) -> bool:
        """Whether it was, so far as is known: False before the block has ended."""
        return self._draft.committed

    def version(self, key: Key, *, bucket: str = BUCKET) -> Version | None:
        """That a key was written with, once it is committed; None of one that was not written."""
        return self._draft.versions.get(self._place(bucket, key))


class Transaction(_Writing):
    """Between the beginning and the end of an `async with` block."""

    def __init__(
        self, draft: Draft, place: ToPlace, write: ToWrite, get: Callable[[Place], Awaitable[ReadResult]]
    ) -> None:
        super().__init__(draft, place, write)
        self._get = get

    async def get(self, key: Key, *, bucket: str = BUCKET) -> ReadResult:
        """Read a value at SERIAL; the same again where it was read before, or what was written since."""
        place = self._place(bucket, key)
        seen = self._draft.seen(place)
        if seen is None:
            result = await self._get(place)
            seen = self._draft.seen(place) or self._draft.read(place, result)
        return seen


class SyncTransaction(_Writing):
    """Between the beginning and the end of a `with` block."""

    def __init__(
        self, draft: Draft, place: ToPlace, write: ToWrite, get: Callable[[Place], ReadResult]
    ) -> None:
        super().__init__(draft, place, write)
        self._get = get

    def get(self, key: Key, *, bucket: str = BUCKET) -> ReadResult:
        """As `Transaction.get`."""
        place = self._place(bucket, key)
        seen = self._draft.seen(place)
        return seen if seen is not None else self._draft.read(place, self._get(place))
