"""Store: the calls that a program makes, the same on every asynchronous way to a cluster.

A method is its signature, what it promises, and one line: its arguments become a `Call` (`calls.py`), which a
`Channel` carries to a node (over a connection, or inside this process). A session (`Store.session`) is a
store whose channel looks at what it carries. It does not retry by itself, for only the caller knows whether
that is right: who does asks for a store that does (`Store.retrying`).
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic
from typing import TypeVar

import anyio

from basestore.client.arguments import (
    UNSET,
    Consistency,
    Data,
    Unset,
    condition_of,
    key_bytes,
    listed,
    pairs,
    prefix_bytes,
)
from basestore.client.calls import Call, drawn_holder, place_of, transacted
from basestore.client.channel import Channel, SessionChannel
from basestore.client.coordination.async_lease import Lease
from basestore.client.coordination.batch import NOT_ATOMIC, Batch
from basestore.client.coordination.fence import Fence, fenced_rows
from basestore.client.coordination.lease import Wanted
from basestore.client.coordination.transaction import NO_SESSION, Draft, Place, Transaction, Write
from basestore.client.many import Lot, batch, delete_many, get_many, scan, set_many
from basestore.client.operator import Operator
from basestore.client.retrying import PATIENCE_S, RetryingChannel, Watching
from basestore.client.session import KEYS_MAX_DEFAULT, Session
from basestore.consistency import Level
from basestore.errors import BasestoreError, InvalidRequest, Overloaded, Unreachable
from basestore.repair.version import Identity, Version
from basestore.results.readers import revised
from basestore.results.receipts import Event, Item, Many, ReadResult, Receipt

T = TypeVar("T")


class Store(Operator):
    """Keys and values of a cluster. `consistency` and `timeout` hold for calls that say nothing else.

    Every call may raise InvalidRequest, Unreachable, and the RequestFailed family (`errors`).
    A cancelled call leaves nothing behind here; what it sent may still happen. Nothing is retried, but by a
    store that is asked to (`retrying`). A timeout is about the call, connecting included; a call of many
    requests (`set_many`, `scan`) has it for each lot.
    """

    async def set(
        self, key: bytes | str, value: bytes | str, *, bucket: str = "default",
        consistency: Consistency | None = None, ttl: float | None = None, timeout: float | None = None,
        repeat: Identity | str | None = None, defer: bool = False,
        if_version: Version | str | Unset = UNSET, if_absent: bool = False, if_value: Data | Unset = UNSET,
        fence: Fence | None = None,
    ) -> Receipt:  # fmt: skip
        """Write a value. `ttl` in seconds. To repeat a write as itself, whatever became of it, `repeat` is
        the identity that its error or receipt carries, with all else as it was: it happens once. In a bucket
        where the last write wins OutcomeUnknown, if no node has told its version and it is not found.
        `defer`, at ANY: if the node is overloaded it keeps the write and delivers it later, rather than
        refuse it; the receipt says DEFERRED then.

        In a bucket of registers a write may depend on what the key holds, on one thing: `if_version`, the
        version that it holds, by a receipt or a result; `if_absent`, that it holds nothing; `if_value`, this
        value. Otherwise it is LOST, and the receipt says what is there instead. None is
        refused, for it is the version of what holds nothing: `if_absent` says that.

        `fence`, in such a bucket: a lease, or LOCK:TOKEN; the write is done only while the lock is held under
        that lease, otherwise FencedOff, definite. It is one transaction: Conflict where a condition fails."""
        condition = condition_of(if_version, if_absent, if_value, defer)
        if fence is not None:
            plain = repeat is None and not defer
            rows = fenced_rows(place_of(bucket, key), transacted(value, ttl), condition, fence, plain=plain)
            return await self._ask(self._calls.fenced(rows, timeout))
        return await self._ask(
            self._calls.set(key, value, bucket, consistency, ttl, timeout, repeat, defer, condition)
        )

    async def delete(
        self, key: bytes | str, *, bucket: str = "default", consistency: Consistency | None = None,
        timeout: float | None = None, repeat: Identity | str | None = None, defer: bool = False,
        if_version: Version | str | Unset = UNSET, fence: Fence | None = None,
    ) -> Receipt:  # fmt: skip
        """Delete a key. Deleting a key that is not there is no error. `if_version`, in a bucket of registers:
        only if it holds that version, as of `set`."""
        condition = condition_of(if_version, False, UNSET, defer)
        if fence is not None:
            plain = repeat is None and not defer
            rows = fenced_rows(place_of(bucket, key), Write(None), condition, fence, plain=plain)
            return await self._ask(self._calls.fenced(rows, timeout))
        return await self._ask(
            self._calls.delete(key, bucket, consistency, timeout, repeat, defer, condition)
        )

    async def increment(
        self, key: bytes | str, by: int = 1, *, bucket: str = "cas", consistency: Consistency | None = None,
        ttl: float | None = None, timeout: float | None = None, repeat: Identity | str | None = None,
    ) -> Receipt:  # fmt: skip
        """Add a whole number, which may be negative, to the one that a key holds as decimal digits (0 where
        it holds nothing), in a bucket of registers; the receipt's `number` is what has come of it. What
        holds something else is refused. It may be repeated as itself, as `set`, and happens once."""
        return await self._ask(self._calls.increment(key, by, bucket, consistency, ttl, timeout, repeat))

    async def get(
        self, key: bytes | str, *, bucket: str = "default", consistency: Consistency | None = None,
        timeout: float | None = None, repair: bool = True, staleness: bool = False,
        max_staleness: float | None = None, degrade: float | None = None,
    ) -> ReadResult:  # fmt: skip
        """Read a value. A missing key is a result with `found` false. With `repair` false, which only a
        read at ONE may be, replicas that are found to differ are left as they are. `staleness`: say in
        `stale_by_at_most` how stale the answer may be. `max_staleness`, seconds: read at ONE, and at QUORUM
        if that answer may be staler; TooStale when that cannot be done. `degrade`, seconds:
        where the level is not reached in 60 % of the time, one replica answers, if that is surely no staler;
        then the result is `degraded`. 0: not even where the node's options of the bucket say so. None: as
        they say."""
        return await self._ask(
            self._calls.get(key, bucket, consistency, timeout, repair, staleness, max_staleness, degrade)
        )

    async def exists(
        self, key: Data, *, bucket: str = "default", consistency: Consistency | None = None,
        timeout: float | None = None,
    ) -> bool:  # fmt: skip
        """Whether a get at this level finds a value; it is never degraded, for it could not say so."""
        return (await self._ask(self._calls.get(key, bucket, consistency, timeout, degrade=0))).found

    async def set_many(
        self,
        items: Mapping[Data, Data] | Iterable[tuple[Data, Data]],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        defer: bool = False,
    ) -> Many[Receipt]:
        """Write many values at once, each for itself: those of a mapping, or of pairs. In the order of
        `items`: its receipt, or the error of the one that failed; `raise_for_errors` of the result raises
        these. `timeout` is for each."""
        return await self._many(set_many(self._calls, pairs(items), bucket, consistency, ttl, timeout, defer))

    async def delete_many(
        self, keys: Iterable[Data], *, bucket: str = "default", consistency: Consistency | None = None,
        timeout: float | None = None, defer: bool = False,
    ) -> Many[Receipt]:  # fmt: skip
        """Delete many keys at once, each for itself. In the order of `keys`: its receipt, or the error of
        the one that failed."""
        return await self._many(delete_many(self._calls, listed(keys), bucket, consistency, timeout, defer))

    async def get_many(
        self,
        keys: Iterable[Data],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        repair: bool = True,
        degrade: float | None = None,
    ) -> Many[ReadResult]:
        """Read many keys at once, each for itself. In the order of `keys`: its result, or the error
        of the one that failed. `degrade` as of `get`, for each."""
        return await self._many(
            get_many(self._calls, listed(keys), bucket, consistency, timeout, repair, degrade)
        )

    async def _many(self, lots: Lot[T]) -> Many[T]:
        results: Many[T] = Many()
        for lot in lots.parts():
            try:
                batch = await self._channel.ask(lot, monotonic() + lot.timeout_s)
            except Unreachable as error:  # so are all that follow, and each would wait for it
                return Many(results + [error] * (lots.asks - len(results)))
            except (InvalidRequest, Overloaded) as error:
                results += [error] * lot.asks
            else:
                results += lot.results(batch, self._channel.members)
        return results

    async def scan(
        self,
        prefix: bytes | str = b"",
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        limit: int | None = None,
        after: bytes | str = b"",
    ) -> AsyncIterator[Item]:
        """The keys that start with `prefix`, in bytewise order, with their values; each as a get at
        this level would find it while its page was made. `timeout` is for each page. With `after`: only the
        keys behind that one. Where a scan breaks off, the error's `after` is the key to go on from."""
        cursor = scan(self._calls, prefix, bucket, consistency, timeout, limit, after)
        try:
            while not cursor.ended:
                for item in await self._ask(cursor.page()):
                    yield cursor.show(item)
        except BasestoreError as error:
            cursor.name(error)
            raise

    def batch(
        self, *, atomic: bool, consistency: Consistency | None = None, timeout: float | None = None,
        repeat: Identity | str | None = None,
    ) -> Batch:  # fmt: skip
        """Several keys of buckets where the last write wins, written together at the end of an `async with`
        block: all of them or, in the end, none (`client/coordination/batch.py`). Readers may see a part for a
        moment; `transaction` is for more than that. At QUORUM or ALL; at most 100 keys, of 1 MiB with their
        values. `repeat`: the identity that an error of such a batch carries; with the same writes it is
        followed to its end, and none is made anew."""
        if not atomic:
            raise InvalidRequest(NOT_ATOMIC)
        call, repeats = batch(self._calls, consistency, timeout, repeat)
        return Batch(place_of, transacted, call, self._ask, repeats)

    def transaction(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Transaction]:
        """Several keys of registers, read and written as if at one moment, alone (strictly serializable); for
        the length of an `async with` block, behind which all of it is done, or nothing:

            async with store.transaction() as t:
                left = int((await t.get("left")).value)
                t.set("left", str(left - 1))
                t.set(f"seat/{left}", "taken")

        Nothing is locked meanwhile: where a key that was read is written by others, Conflict says at the end
        that nothing was done. Then begin anew, and read again. Where its outcome is not known
        (`definite` is false), all was done or nothing. `timeout` is for each read, and for the end. At most
        100 keys, of 1 MiB with their values."""
        return self._transaction(timeout)

    @asynccontextmanager
    async def _transaction(self, timeout: float | None) -> AsyncIterator[Transaction]:
        draft = Draft()

        async def get(place: Place) -> ReadResult:
            bucket, key = place
            return await self._ask(self._calls.get(key, bucket, Level.SERIAL, timeout))

        try:
            yield Transaction(draft, place_of, transacted, get)
        finally:
            draft.ended = True
        rows = draft.rows()
        draft.end(await self._ask(self._calls.commit(rows, timeout)) if rows else [])

    def lease(
        self, name: bytes | str, *, seconds: float = 10.0, wait: float | None = None, owner: str = "",
        timeout: float | None = None,
    ) -> Lease:  # fmt: skip
        """A lock of this name, held for the length of an `async with` block; whoever else wants it waits.
        `wait`: for how many seconds, 0: not at all, None: as long as it takes; then LockHeld. `owner`: whom
        the others are told of. If it is lost, the block is cancelled, and LeaseLost raised behind it.

        Its holder renews it; who does not, for `seconds`, loses it soon after. So a lock by itself is a hint:
        a process that was stopped, and goes on, may act for a moment after another has taken its place. What
        must not happen then is to be fenced: `set(..., fence=lease)` is done only while the lock is held
        under this very lease."""
        wanted = Wanted.of(key_bytes(name), seconds, wait, owner, timeout)
        return Lease(wanted, drawn_holder(), self._calls, self._ask, place_of, transacted)

    async def watch(
        self, prefix: bytes | str = b"", *, bucket: str = "default", token: str | None = None,
        everything: bool = False, timeout: float | None = None, patience: float = PATIENCE_S,
    ) -> AsyncIterator[Event]:  # fmt: skip
        """What changes of the keys that start with `prefix`, for as long as it is iterated: a `Change` of
        each key, a `Progress` about once a second, a `Gap` where deletions cannot be told any more. Every
        change is told at least once, but for those that were replaced before they were told.

        token       of a Progress, of this watch or an earlier one, anywhere: what comes behind that is told
        everything  begin with all that is held; without either, what is written from the first Progress on
        timeout     for each answer; `patience`, seconds: after no answer for so long the error is raised
        It is asked for in parts: who does not iterate is sent nothing. If its node is lost, another goes on
        from the last token, and tells again what came behind that. InvalidRequest for a token that is
        damaged, or of something else."""
        watching = Watching(self._calls, prefix, bucket, token, everything, timeout, patience)
        while True:
            try:
                events = await self._ask(watching.poll())
            except BasestoreError as error:
                await anyio.sleep(watching.failed(error, monotonic()))
                continue
            for event in events:
                yield event

    def retrying(self, budget: float = 0.1) -> "Store":
        """This store, over the same connection, with calls that are tried again where that may help, until
        their timeout is over (`client/retrying.py` says when). No write happens twice by it. `budget`: how
        many retries there may be for each call that succeeds, besides ten at first; when it is used up, the
        first error is raised."""
        channel = RetryingChannel(self._channel, budget, anyio.sleep)
        return Store(channel, self._calls.level, self._calls.timeout_s)

    @property
    def retries(self) -> int:
        """How often calls of this store have been tried again; 0 where it does not retry."""
        return self._channel.budget.retries if isinstance(self._channel, RetryingChannel) else 0

    @asynccontextmanager
    async def session(self, *tokens: str, keys_max: int = KEYS_MAX_DEFAULT) -> AsyncIterator["StoreSession"]:
        """A session: the same calls, which read what they wrote and never go back behind what they have
        read, at every level; for the length of an `async with` block.

        tokens    of earlier sessions, here or elsewhere, from which it goes on
        keys_max  room for so many keys, of 256 bytes on average; SessionFull for one more, for none is
                  forgotten
        Raises InvalidRequest for a token that is damaged or of another cluster, and Unreachable.
        """
        await self._channel.ready(monotonic() + self._calls.timeout_s)
        seen = Session(self._channel.cluster, self._channel.rules, keys_max)
        for token in tokens:
            seen.merge(token)
        channel = SessionChannel(self._channel, seen)
        try:
            yield StoreSession(channel, seen, self._calls.level, self._calls.timeout_s)
        finally:
            channel.closed = True


class StoreSession(Store):
    """A store whose calls keep the promises of one session (`Store.session`). Any number of tasks may
    use it: a call is never shown less than what calls that ended before it began were shown."""

    def __init__(self, channel: Channel, seen: Session, consistency: Consistency, timeout: float) -> None:
        super().__init__(channel, consistency, timeout)
        self._seen = seen

    def retrying(self, budget: float = 0.1) -> "StoreSession":
        """As `Store.retrying`, in the same session."""
        channel = RetryingChannel(self._channel, budget, anyio.sleep)
        return StoreSession(channel, self._seen, self._calls.level, self._calls.timeout_s)

    @property
    def token(self) -> str:
        """All that this session has seen so far, as text of letters, digits and .-_ for `session`, in any
        process; it stays when the session has ended."""
        return self._seen.token

    def transaction(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Transaction]:
        """Refused: a session makes no promise of what transactions have written."""
        raise InvalidRequest(NO_SESSION)

    def merge(self, token: str, base: str | None = None) -> None:
        """From now on promise what the token's session promised too. `base`: a token that both have gone on
        from: what either has forgotten of that since (for it is everywhere, or was told to be lost) stays
        forgotten. InvalidRequest for a token that is damaged or of another cluster, SessionFull when there
        is no room: then nothing of it is taken."""
        self._seen.merge(token, base)

    async def scan(
        self, prefix: bytes | str = b"", *, bucket: str = "default", consistency: Consistency | None = None,
        timeout: float | None = None, limit: int | None = None, after: bytes | str = b"",
    ) -> AsyncIterator[Item]:  # fmt: skip
        """As `Store.scan`; keys that the session knows better than a page does are read one by one.
        SessionFull, in the middle, before a key is shown that there is no room for."""
        cursor = scan(self._calls, prefix, bucket, consistency, timeout, limit, after)

        def again(key: bytes) -> Call[ReadResult]:
            return self._calls.get(key, bucket, cursor.level, cursor.timeout_s, degrade=0)

        try:
            while not cursor.ended:
                # First, for when the page is read the cursor moves on.
                begin = cursor.after or b""
                items = await self._ask(cursor.page())
                doubtful = self._seen.doubtful(bucket, prefix_bytes(prefix), begin, cursor.after, items)
                results = await self._many(
                    get_many(self._calls, doubtful, bucket, cursor.level, cursor.timeout_s, degrade=0)
                )
                for item in revised(items, doubtful, results):
                    shown = [item]
                    if self._seen.behind(bucket, item):  # by now, through another call
                        newer = await self._ask(again(item.key))
                        shown = revised(shown, [item.key], [newer])
                    for each in shown:
                        self._seen.show(bucket, each.key, each.compared)
                        yield cursor.show(each)
                    if cursor.left <= 0:
                        break
        except BasestoreError as error:
            cursor.name(error)
            raise
