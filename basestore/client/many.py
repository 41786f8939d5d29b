"""Many: what `set_many` and its kin ask, by columns, and scans, a page at a time.

A `Lot` is so many requests of one kind that are asked together, and may be no more than a frame takes. Where
all of its keys and values are in order they are two columns of one message, and nothing is made for each of
them; what is answered by columns is read by columns. Where one is wrong, or something is asked that columns
do not say (a lifetime, say), each is a request of its own, and the wrong one fails for itself.

Pure, as `calls`.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from basestore.client.arguments import (
    UNCONDITIONAL,
    Consistency,
    Data,
    after_bytes,
    bucket_of,
    defers_of,
    delete_request,
    get_level_of,
    get_request,
    identity_of,
    key_columns,
    limit_of,
    prefix_bytes,
    read_level_of,
    set_request,
    value_column,
)
from basestore.client.calls import Call, Calls, Make, Members, drawn
from basestore.client.coordination.transaction import Row
from basestore.consistency import Level
from basestore.errors import BasestoreError, InvalidRequest, RequestFailed
from basestore.protocol.client import Delete, Scan, Set, WriteBatch
from basestore.protocol.codec import Message
from basestore.protocol.envelopes import REQUESTS_MAX
from basestore.protocol.groups import Found, GetMany, Stored, WriteMany, singly
from basestore.repair.version import Identity
from basestore.results.readers import batch_receipt, page, read_result, read_results, receipt, receipts
from basestore.results.receipts import BatchReceipt, Item, ReadResult, Receipt

T = TypeVar("T")
PAGE_LIMIT = 500
PAGE_GROWTH = 4
Failed = dict[int, Exception]
MakeMany = Callable[[Sequence[Any], int, Failed], list[Message]]


class Heard(Protocol):
    """What was told of a lot; `channel.Batch` says what the fields are."""

    first: int
    told: list[Any]
    failed: dict[int, Any]

    def request(self, number: int) -> Any: ...


class Lot(NamedTuple, Generic[T]):
    """Many requests, before they are sent.

    items      what they are about, one each
    make       the requests for these, as `Asking.requests`
    read       what the method returns, out of the answer to one of them, as of a `Call`
    columns    the kind of message that answers many; `read_many`: what the method returns for each in it
    """

    items: Sequence[Any]
    make: MakeMany
    read: Callable[[Any, Members], T]
    columns: type[Any]
    read_many: Callable[[Any, Members], list[T]]
    timeout_s: float

    @property
    def asks(self) -> int:
        return len(self.items)

    def requests(self, first: int, failed: Failed) -> list[Message]:
        """As `Asking.requests`."""
        return self.make(self.items, first, failed)

    def parts(self) -> "list[Lot[T]]":
        """Lots of as many as are asked together."""
        starts = range(0, len(self.items), REQUESTS_MAX)
        return [self._replace(items=self.items[start : start + REQUESTS_MAX]) for start in starts]

    def results(self, heard: Heard, members: Members) -> list[T | BasestoreError]:
        """What became of each, in its place."""
        results: dict[int, Any] = dict(heard.failed)
        for answer in heard.told:
            try:
                if type(answer) is self.columns:
                    results.update(zip(answer.ids, self.read_many(answer, members), strict=True))
                    continue
            except RequestFailed:  # so does each
                pass
            for single in singly([answer]):
                results[single.id] = self._result(single, heard.request(single.id), members)
        return [results[number] for number in range(heard.first, heard.first + self.asks)]

    def _result(self, answer: Message, request: Any, members: Members) -> T | BasestoreError:
        try:
            return self.read(answer, members)
        except RequestFailed as error:
            if isinstance(request, Set | Delete):
                error.identity = error.identity or Identity.decode(request.identity)
            return error
        except InvalidRequest as error:
            return error


def set_many(
    calls: Calls,
    items: Sequence[tuple[Data, Data]],
    bucket: str,
    consistency: Consistency | None,
    ttl_s: float | None,
    timeout: float | None,
    defer: bool = False,
) -> Lot[Receipt]:
    level = calls.level_of(consistency)
    timeout_s, timeout_ms = calls.time(timeout)
    return _writes(
        items, partial(_sets, bucket, level, timeout_ms, ttl_s, defers_of(defer)), level, timeout_s
    )


def delete_many(
    calls: Calls,
    keys: Sequence[Data],
    bucket: str,
    consistency: Consistency | None,
    timeout: float | None,
    defer: bool = False,
) -> Lot[Receipt]:
    level = calls.level_of(consistency)
    timeout_s, timeout_ms = calls.time(timeout)
    return _writes(keys, partial(_deletes, bucket, level, timeout_ms, defers_of(defer)), level, timeout_s)


def get_many(
    calls: Calls,
    keys: Sequence[Data],
    bucket: str,
    consistency: Consistency | None,
    timeout: float | None,
    repair: bool = True,
    degrade: float | None = None,
) -> Lot[ReadResult]:
    level = get_level_of(consistency, calls.level, None)
    timeout_s, timeout_ms = calls.time(timeout)
    return Lot(
        keys,
        partial(_gets, bucket, level, timeout_ms, repair, degrade),
        lambda answer, _: read_result(answer, level),
        Found,
        lambda answer, _: read_results(answer, level),
        timeout_s,
    )


def batch(
    calls: Calls, consistency: Consistency | None, timeout: float | None, repeat: Identity | str | None
) -> tuple[Callable[[list[Row]], Call[BatchReceipt]], Identity | None]:
    """What writes rows as one atomic batch; and what it is known by, if it is repeated."""
    level, (timeout_s, timeout_ms) = calls.level_of(consistency), calls.time(timeout)
    identity = drawn(1)[0] if repeat is None else identity_of(repeat)

    def call(rows: list[Row]) -> Call[BatchReceipt]:
        buckets, keys, kinds, _, values, ttls_ms = map(list, zip(*rows, strict=True))
        columns: Any = identity, repeat is not None, buckets, keys, kinds, values, ttls_ms
        read = partial(batch_receipt, level, identity, list(zip(buckets, keys, strict=True)))
        return Call(lambda request: WriteBatch(request, level.value, timeout_ms, *columns), read, timeout_s)

    return call, None if repeat is None else Identity.decode(identity)


def scan(
    calls: Calls,
    prefix: Data,
    bucket: str,
    consistency: Consistency | None,
    timeout: float | None,
    limit: int | None,
    after: Data,
) -> "Cursor":
    """From its beginning, or from behind a key."""
    level = read_level_of(calls.level_of(consistency))
    return Cursor(prefix, bucket, level, calls.time(timeout), limit_of(limit), after_bytes(after))


def _writes(items: Sequence[Any], make: MakeMany, level: Level, timeout_s: float) -> Lot[Receipt]:
    return Lot(
        items,
        make,
        lambda answer, members: receipt(answer, level, members),
        Stored,
        lambda answer, members: receipts(answer, level, members),
        timeout_s,
    )


def _sets(
    bucket: str,
    level: Level,
    timeout_ms: int,
    ttl_s: float | None,
    defer: bool,
    items: Sequence[tuple[Data, Data]],
    first: int,
    failed: Failed,
) -> list[Message]:
    identities = drawn(len(items))
    ids = list(range(first, first + len(items)))
    keys, values = zip(*items, strict=True)
    try:
        if ttl_s is None and not defer:
            columns = *key_columns(bucket, keys), value_column(values)
            return [WriteMany(ids, *columns, level.value, timeout_ms, identities, 0, False)]
    except InvalidRequest:
        pass

    def make(request: int) -> Set:
        key, value = items[request - first]
        identity = identities[request - first]
        return set_request(
            key, value, bucket, level, timeout_ms, ttl_s, identity, False, defer, UNCONDITIONAL, request
        )

    return _each(make, ids, failed)


def _deletes(
    bucket: str,
    level: Level,
    timeout_ms: int,
    defer: bool,
    keys: Sequence[Data],
    first: int,
    failed: Failed,
) -> list[Message]:
    identities = drawn(len(keys))
    ids = list(range(first, first + len(keys)))
    try:
        if not defer:
            columns = key_columns(bucket, keys)
            return [WriteMany(ids, *columns, [], level.value, timeout_ms, identities, 0, True)]
    except InvalidRequest:
        pass

    def make(request: int) -> Delete:
        identity = identities[request - first]
        return delete_request(
            keys[request - first], bucket, level, timeout_ms, identity, False, defer, UNCONDITIONAL, request
        )

    return _each(make, ids, failed)


def _gets(
    bucket: str,
    level: Level,
    timeout_ms: int,
    repair: bool,
    degrade: float | None,
    keys: Sequence[Data],
    first: int,
    failed: Failed,
) -> list[Message]:
    ids = list(range(first, first + len(keys)))
    try:
        if repair is True and degrade is None:
            return [GetMany(ids, *key_columns(bucket, keys), level.value, timeout_ms)]
    except InvalidRequest:
        pass
    return _each(
        lambda request: get_request(
            keys[request - first], bucket, level, timeout_ms, repair, False, None, degrade, request
        ),
        ids,
        failed,
    )


def _each(make: Make, numbers: Iterable[int], failed: Failed) -> list[Message]:
    """Each for itself."""
    requests = []
    for number in numbers:
        try:
            requests.append(make(number))
        except InvalidRequest as error:
            failed[number] = error
    return requests


class Cursor:
    """Where a scan stands. It is read a page at a time, each page from behind what the one before it covers;
    whoever shows an item to the caller passes it through `show`.

        cursor = scan(calls, "user/", "default", None, None, limit=700, after="")
        cursor.page()     asks for 500 from the start; once it is read, `after` is b"user/499"
        cursor.page()     asks for 200 behind that; `left` is 0 once they are shown, and the scan has ended

    A page shows fewer keys than were asked for where many do not live any more; the next one asks for more of
    them, so that a scan for one key does not look at them one by one.
    """

    def __init__(
        self, prefix: bytes | str, bucket: str, level: Level, time: tuple[float, int], limit: float,
        after: bytes,
    ) -> None:  # fmt: skip
        self.level = level
        self.timeout_s, self._timeout_ms = time
        self.after: bytes | None = after  # the next page begins behind this key; None: there is none
        self.left = limit  # items that may still be shown
        self._shown = after  # all keys up to this one were shown
        self._size = 1
        self._prefix = prefix
        self._bucket = bucket

    @property
    def ended(self) -> bool:
        return self.after is None or self.left <= 0

    def page(self) -> Call[list[Item]]:
        """The next page. When its answer is read, the cursor moves on."""
        after = self._shown = self.after or b""
        size = int(min(max(self.left, self._size), PAGE_LIMIT))

        def read(answer: Message, _: Members) -> list[Item]:
            items, self.after = page(answer)
            self._size = 1 if len(items) >= size else PAGE_GROWTH * size
            if len(items) > self.left:
                items = items[: int(self.left)]
                self.after = items[-1].key
            return items

        return Call(
            lambda request: Scan(
                request, bucket_of(self._bucket), prefix_bytes(self._prefix), after, size, self.level.value,
                self._timeout_ms,
            ),
            read,
            self.timeout_s,
        )  # fmt: skip

    def show(self, item: Item) -> Item:
        """Count off an item that the caller is about to be shown."""
        self.left -= 1
        self._shown = item.key
        return item

    def name(self, error: BasestoreError) -> None:
        """Say in the error that breaks the scan off how far it has come."""
        if self._shown:
            error.after = self._shown
            told = f"All keys up to {self._shown!r:.200} were shown: scan on with that as `after` (--after)"
            error.args = (f"{error}. {told}",)
