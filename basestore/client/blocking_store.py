"""The blocking store: the calls of `Store`, for programs without an event loop.

A method is its signature and one line, as there; all threads share one connection (`blocking_channel.py`).
What an operator asks stands in `blocking_operator.py`. It repeats nothing by itself, and imports neither Trio
nor anyio.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from time import monotonic, sleep
from typing import TypeVar

from basestore.client.arguments import (
    UNSET,
    Consistency,
    Data,
    Unset,
    check_endpoints,
    condition_of,
    key_bytes,
    listed,
    pairs,
    prefix_bytes,
)
from basestore.client.blocking_channel import BlockingChannel, BlockingSessionChannel
from basestore.client.blocking_operator import BlockingOperator
from basestore.client.calls import Call, drawn_holder, place_of, transacted
from basestore.client.coordination.batch import NOT_ATOMIC, SyncBatch
from basestore.client.coordination.fence import Fence, fenced_rows
from basestore.client.coordination.lease import Wanted
from basestore.client.coordination.sync_lease import SyncLease
from basestore.client.coordination.transaction import NO_SESSION, Draft, Place, SyncTransaction, Write
from basestore.client.many import Lot, batch, delete_many, get_many, scan, set_many
from basestore.client.retrying import PATIENCE_S, BlockingRetryingChannel, Watching
from basestore.client.session import KEYS_MAX_DEFAULT, Session
from basestore.consistency import Level
from basestore.errors import BasestoreError, InvalidRequest, Overloaded, Unreachable
from basestore.repair.version import Identity, Version
from basestore.results.readers import revised
from basestore.results.receipts import Event, Item, Many, ReadResult, Receipt

T = TypeVar("T")


class SyncStore(BlockingOperator):
    """Keys and values of a cluster, blocking. `Store` documents the calls; these are the same."""

    def set(
        self,
        key: bytes | str,
        value: bytes | str,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        repeat: Identity | str | None = None,
        defer: bool = False,
        if_version: Version | str | Unset = UNSET,
        if_absent: bool = False,
        if_value: Data | Unset = UNSET,
        fence: Fence | None = None,
    ) -> Receipt:
        """Write a value. `ttl` in seconds. To repeat a write as itself, `repeat` is the identity that its
        error or receipt carries, with all else as it was. `defer`, and the conditions, as in `Store.set`."""
        condition = condition_of(if_version, if_absent, if_value, defer)
        if fence is not None:
            plain = repeat is None and not defer
            rows = fenced_rows(place_of(bucket, key), transacted(value, ttl), condition, fence, plain=plain)
            return self._ask(self._calls.fenced(rows, timeout))
        return self._ask(
            self._calls.set(key, value, bucket, consistency, ttl, timeout, repeat, defer, condition)
        )

    def delete(
        self, key: bytes | str, *, bucket: str = "default", consistency: Consistency | None = None,
        timeout: float | None = None, repeat: Identity | str | None = None, defer: bool = False,
        if_version: Version | str | Unset = UNSET, fence: Fence | None = None,
    ) -> Receipt:  # fmt: skip
        """Delete a key. Deleting a key that is not there is no error. `if_version` as of
        `Store.delete`."""
        condition = condition_of(if_version, False, UNSET, defer)
        if fence is not None:
            plain = repeat is None and not defer
            rows = fenced_rows(place_of(bucket, key), Write(None), condition, fence, plain=plain)
            return self._ask(self._calls.fenced(rows, timeout))
        return self._ask(self._calls.delete(key, bucket, consistency, timeout, repeat, defer, condition))

    def increment(
        self,
        key: bytes | str,
        by: int = 1,
        *,
        bucket: str = "cas",
        consistency: Consistency | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        repeat: Identity | str | None = None,
    ) -> Receipt:
        """Add a whole number to the one that a key holds, in a bucket of registers, as `Store.increment`."""
        return self._ask(self._calls.increment(key, by, bucket, consistency, ttl, timeout, repeat))

    def get(
        self,
        key: bytes | str,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        repair: bool = True,
        staleness: bool = False,
        max_staleness: float | None = None,
        degrade: float | None = None,
    ) -> ReadResult:
        """Read a value. A missing key is a result with `found` false. `Store.get` says what the arguments
        are."""
        return self._ask(
            self._calls.get(key, bucket, consistency, timeout, repair, staleness, max_staleness, degrade)
        )

    def exists(
        self,
        key: Data,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Whether a get at this level finds a value; it is never degraded."""
        return self._ask(self._calls.get(key, bucket, consistency, timeout, degrade=0)).found

    def set_many(
        self,
        items: Mapping[Data, Data] | Iterable[tuple[Data, Data]],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        defer: bool = False,
    ) -> Many[Receipt]:
        """Write many values, each for itself, as `Store.set_many`."""
        return self._many(set_many(self._calls, pairs(items), bucket, consistency, ttl, timeout, defer))

    def delete_many(
        self,
        keys: Iterable[Data],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        defer: bool = False,
    ) -> Many[Receipt]:
        """Delete many keys, each for itself, as `Store.delete_many`."""
        return self._many(delete_many(self._calls, listed(keys), bucket, consistency, timeout, defer))

    def get_many(
        self,
        keys: Iterable[Data],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        repair: bool = True,
        degrade: float | None = None,
    ) -> Many[ReadResult]:
        """Read many keys, each for itself, as `Store.get_many`."""
        return self._many(get_many(self._calls, listed(keys), bucket, consistency, timeout, repair, degrade))

    def _many(self, lots: Lot[T]) -> Many[T]:
        results: Many[T] = Many()
        for lot in lots.parts():
            try:
                batch = self._channel.ask(lot, monotonic() + lot.timeout_s)
            except Unreachable as error:  # so are all that follow, and each would wait for it
                return Many(results + [error] * (lots.asks - len(results)))
            except (InvalidRequest, Overloaded) as error:
                results += [error] * lot.asks
            else:
                results += lot.results(batch, self._channel.members)
        return results

    def scan(
        self,
        prefix: bytes | str = b"",
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        limit: int | None = None,
        after: bytes | str = b"",
    ) -> Iterator[Item]:
        """The keys that start with `prefix`, in bytewise order, with their values."""
        cursor = scan(self._calls, prefix, bucket, consistency, timeout, limit, after)
        try:
            while not cursor.ended:
                for item in self._ask(cursor.page()):
                    yield cursor.show(item)
        except BasestoreError as error:
            cursor.name(error)
            raise

    def batch(
        self, *, atomic: bool, consistency: Consistency | None = None, timeout: float | None = None,
        repeat: Identity | str | None = None,
    ) -> SyncBatch:  # fmt: skip
        """Several keys, written together, as `Store.batch`; for the length of a `with` block."""
        if not atomic:
            raise InvalidRequest(NOT_ATOMIC)
        call, repeats = batch(self._calls, consistency, timeout, repeat)
        return SyncBatch(place_of, transacted, call, self._ask, repeats)

    def transaction(self, *, timeout: float | None = None) -> AbstractContextManager[SyncTransaction]:
        """Several keys of registers, read and written as if at one moment, as `Store.transaction`; for the
        length of a `with` block."""
        return self._transaction(timeout)

    @contextmanager
    def _transaction(self, timeout: float | None) -> Iterator[SyncTransaction]:
        draft = Draft()

        def get(place: Place) -> ReadResult:
            return self._ask(self._calls.get(place[1], place[0], Level.SERIAL, timeout))

        try:
            yield SyncTransaction(draft, place_of, transacted, get)
        finally:
            draft.ended = True
        rows = draft.rows()
        draft.end(self._ask(self._calls.commit(rows, timeout)) if rows else [])

    def lease(
        self,
        name: bytes | str,
        *,
        seconds: float = 10.0,
        wait: float | None = None,
        owner: str = "",
        timeout: float | None = None,
    ) -> SyncLease:
        """A lock of this name, held for the length of a `with` block; whoever else wants it waits. `wait`:
        for how many seconds, 0: not at all, None: as long as it takes; then LockHeld. `owner`: whom the
        others are told of. If it is lost, `check` of the lease
        raises LeaseLost, and so does the end of the block.

        Its holder renews it; who does not, for `seconds`, loses it soon after. So a lock by itself is a hint:
        a process that was stopped, and goes on, may act for a moment after another has taken its place. What
        must not happen then is to be fenced: `set(..., fence=lease)` is done only while the lock is held
        under this very lease."""
        wanted = Wanted.of(key_bytes(name), seconds, wait, owner, timeout)
        return SyncLease(wanted, drawn_holder(), self._calls, self._ask, place_of, transacted)

    def watch(
        self, prefix: bytes | str = b"", *, bucket: str = "default", token: str | None = None,
        everything: bool = False, timeout: float | None = None, patience: float = PATIENCE_S,
    ) -> Iterator[Event]:  # fmt: skip
        """What changes of the keys that start with `prefix`; `Store.watch` says what is told, and what the
        arguments are."""
        watching = Watching(self._calls, prefix, bucket, token, everything, timeout, patience)
        while True:
            try:
                events = self._ask(watching.poll())
            except BasestoreError as error:
                sleep(watching.failed(error, monotonic()))
                continue
            yield from events

    def retrying(self, budget: float = 0.1) -> "SyncStore":
        """This store with calls that are tried again where that may help, as `Store.retrying`."""
        channel = BlockingRetryingChannel(self._channel, budget)
        return SyncStore(channel, self._calls.level, self._calls.timeout_s)

    @property
    def retries(self) -> int:
        """How often calls of this store have been tried again; 0 where it does not retry."""
        return self._channel.budget.retries if isinstance(self._channel, BlockingRetryingChannel) else 0

    @contextmanager
    def session(self, *tokens: str, keys_max: int = KEYS_MAX_DEFAULT) -> Iterator["SyncSession"]:
        """A session, for the length of a `with` block; `Store.session` says what it promises, and
        what the arguments are."""
        welcome = self._channel.welcome(monotonic() + self._calls.timeout_s)
        seen = Session(welcome.cluster, welcome.rules, keys_max)
        for token in tokens:
            seen.merge(token)
        channel = BlockingSessionChannel(self._channel, seen)
        try:
            yield SyncSession(channel, seen, self._calls.level, self._calls.timeout_s)
        finally:
            channel.close()


class SyncSession(SyncStore):
    """A store whose calls keep the promises of one session. Any number of threads may use it."""

    def __init__(
        self, channel: BlockingSessionChannel, seen: Session, consistency: Consistency, timeout: float
    ) -> None:
        super().__init__(channel, consistency, timeout)
        self._seen = seen
        self._within_session = channel

    def retrying(self, budget: float = 0.1) -> "SyncSession":
        """As `SyncStore.retrying`, in the same session."""
        session = SyncSession(self._within_session, self._seen, self._calls.level, self._calls.timeout_s)
        session._channel = BlockingRetryingChannel(self._within_session, budget)
        return session

    def transaction(self, *, timeout: float | None = None) -> AbstractContextManager[SyncTransaction]:
        """Refused: a session makes no promise of what transactions have written."""
        raise InvalidRequest(NO_SESSION)

    @property
    def _lock(self) -> Lock:
        return self._within_session.lock  # another one in a process that was forked

    @property
    def token(self) -> str:
        """As `StoreSession.token`."""
        with self._lock:
            return self._seen.token

    def merge(self, token: str, base: str | None = None) -> None:
        """As `StoreSession.merge`."""
        with self._lock:
            self._seen.merge(token, base)

    def scan(
        self,
        prefix: bytes | str = b"",
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        limit: int | None = None,
        after: bytes | str = b"",
    ) -> Iterator[Item]:
        """As `StoreSession.scan`."""
        cursor = scan(self._calls, prefix, bucket, consistency, timeout, limit, after)

        def again(key: bytes) -> Call[ReadResult]:
            return self._calls.get(key, bucket, cursor.level, cursor.timeout_s, degrade=0)

        try:
            while not cursor.ended:
                # First, for when the page is read the cursor moves on.
                begin = cursor.after or b""
                items = self._ask(cursor.page())
                with self._lock:
                    doubtful = self._seen.doubtful(bucket, prefix_bytes(prefix), begin, cursor.after, items)
                results = self._many(
                    get_many(self._calls, doubtful, bucket, cursor.level, cursor.timeout_s, degrade=0)
                )
                for item in revised(items, doubtful, results):
                    for shown in self._as_seen(bucket, item, again):
                        yield cursor.show(shown)
                    if cursor.left <= 0:
                        break
        except BasestoreError as error:
            cursor.name(error)
            raise

    def _as_seen(self, bucket: str, item: Item, again: Callable[[bytes], Call[ReadResult]]) -> list[Item]:
        """An item of a page as it may be shown now: read again, if a newer version was seen meanwhile."""
        with self._lock:
            if not self._seen.behind(bucket, item):
                self._seen.show(bucket, item.key, item.compared)
                return [item]
        # Without the lock, for it waits; the channel shows the session what comes.
        return revised([item], [item.key], [self._ask(again(item.key))])


def connect(
    endpoints: Sequence[str] | str | None = None,
    *,
    consistency: Consistency = "quorum",
    timeout: float | None = None,
    bulk: bool = False,
) -> SyncStore:
    """A store on a remote cluster. Use it in a `with` block, or `close` it; it connects when it is
    first used.

    endpoints, timeout, bulk   as of the asynchronous `network_channel.connect`, with the same bounds
    Any number of threads may use it, and so may a process that was forked: it connects anew.
    """
    return SyncStore(BlockingChannel(check_endpoints(endpoints), bulk=bulk), consistency, timeout)
