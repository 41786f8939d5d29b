"""Store: the calls that a program makes, the same on every asynchronous way to a cluster.

A method is its signature, what it promises, and one line: its arguments become a `Call` (`calls.py`), which a
`Channel` carries to a node (over a connection, or inside this process). A session (`Store.session`) is a
store whose channel looks at what it carries. Refuses to retry: only the caller knows whether that is right.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import TypeVar

from basestore.client.arguments import Consistency, Data, listed, pairs, prefix_bytes
from basestore.client.calls import Call
from basestore.client.channel import Answer, Channel, SessionChannel, Together, Unsent
from basestore.client.operator import Operator
from basestore.client.session import KEYS_MAX_DEFAULT, Session, revised
from basestore.errors import BasestoreError, InvalidRequest, RequestFailed, SessionFull, Unreachable
from basestore.repair.version import Identity
from basestore.results.receipts import Item, Many, ReadResult, Receipt

MANY_MAX = 512  # requests under way for one call of `set_many` and its kin

T = TypeVar("T")


class Store(Operator):
    """Keys and values of a cluster. `consistency` and `timeout` hold for calls that say nothing else.

    Every call may raise InvalidRequest, Unreachable, and the RequestFailed family (`errors`).
    A cancelled call leaves nothing behind here; what it sent may still happen. Nothing is retried. A timeout
    is about the call, connecting included; a call of many requests (`set_many`, `scan`) has it for each lot.
    """

    async def set(
        self,
        key: bytes | str,
        value: bytes | str,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        repeat: Identity | str | None = None,
    ) -> Receipt:
        """Write a value. `ttl` in seconds. To repeat a write as itself, whatever became of it, `repeat` is
        the identity that its error or receipt carries, with all else as it was: it happens once. In a bucket
        where the last write wins OutcomeUnknown, if no node has told its version and it is not found."""
        return await self._ask(self._calls.set(key, value, bucket, consistency, ttl, timeout, repeat))

    async def delete(
        self,
        key: bytes | str,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        repeat: Identity | str | None = None,
    ) -> Receipt:
        """Delete a key. Deleting a key that is not there is no error."""
        return await self._ask(self._calls.delete(key, bucket, consistency, timeout, repeat))

    async def get(
        self,
        key: bytes | str,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        repair: bool = True,
        staleness: bool = False,
        max_staleness: float | None = None,
    ) -> ReadResult:
        """Read a value. A missing key is a result with `found` false. With `repair` false, which only a
        read at ONE may be, replicas that are found to differ are left as they are. `staleness`: say in
        `stale_by_at_most` how stale the answer may be. `max_staleness`, seconds: read at ONE, and at QUORUM
        if that answer may be staler; TooStale when that cannot be done."""
        return await self._ask(
            self._calls.get(key, bucket, consistency, timeout, repair, staleness, max_staleness)
        )

    async def exists(
        self,
        key: Data,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Whether a get at this level finds a value."""
        return (await self._ask(self._calls.get(key, bucket, consistency, timeout))).found

    async def set_many(
        self,
        items: Mapping[Data, Data] | Iterable[tuple[Data, Data]],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> Many[Receipt]:
        """Write many values at once, each for itself: those of a mapping, or of pairs. In the order of
        `items`: its receipt, or the error of the one that failed; `raise_for_errors` of the result raises
        these. `timeout` is for each."""
        return await self._many(
            [self._calls.set(key, value, bucket, consistency, ttl, timeout) for key, value in pairs(items)]
        )

    async def delete_many(
        self,
        keys: Iterable[Data],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
    ) -> Many[Receipt]:
        """Delete many keys at once, each for itself. In the order of `keys`: its receipt, or the error of
        the one that failed."""
        return await self._many(
            [self._calls.delete(key, bucket, consistency, timeout) for key in listed(keys)]
        )

    async def get_many(
        self,
        keys: Iterable[Data],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        repair: bool = True,
    ) -> Many[ReadResult]:
        """Read many keys at once, each for itself. In the order of `keys`: its result, or the error
        of the one that failed."""
        return await self._many(
            [self._calls.get(key, bucket, consistency, timeout, repair) for key in listed(keys)]
        )

    async def _many(self, calls: Sequence[Call[T]]) -> Many[T]:
        results: Many[T] = Many()
        for start in range(0, len(calls), MANY_MAX):
            lot: list[T | BasestoreError] = await self._lot(calls[start : start + MANY_MAX])
            results += lot
            if isinstance(results[-1], Unreachable):  # so are all that follow, and each would wait for it
                return Many(results + [results[-1]] * (len(calls) - len(results)))
        return results

    async def _lot(self, calls: Sequence[Call[T]]) -> list[T | BasestoreError]:
        """As many as are under way at once; fewer results than calls where the last is Unreachable."""
        deadline = monotonic() + calls[0].timeout_s
        together = self._channel.together()
        asked: list[tuple[Call[T], Answer | BasestoreError]] = []
        try:
            for call in calls:
                asked.append((call, await self._begin(call, deadline, together, ready=bool(asked))))
                if isinstance(asked[-1][1], Unreachable):
                    break
            await together.wait()
            results: list[T | BasestoreError] = []
            for call, answer in asked:
                result: T | BasestoreError = await self._end(call, answer, deadline)
                results.append(result)
            return results
        finally:  # what a cancelled call did not get to hear
            for _, answer in asked:
                if not isinstance(answer, BasestoreError):
                    answer.forget()

    async def _begin(
        self, call: Call[T], deadline: float, together: Together, *, ready: bool
    ) -> Answer | BasestoreError:
        """Send one of many, or say why not. `ready`: the one before it was sent just now."""
        channel = self._channel
        while True:
            try:
                if not ready:
                    await channel.ready(deadline)
                if call.timeout_s > channel.timeout_s_max:
                    call = call.within(channel.timeout_s_max)
                    deadline = min(deadline, monotonic() + call.timeout_s)
                return channel.ask(call.make, deadline, together)
            except Unsent:
                ready = False
            except (InvalidRequest, Unreachable, RequestFailed, SessionFull) as error:
                return error

    async def _end(
        self, call: Call[T], answer: Answer | BasestoreError, deadline: float
    ) -> T | BasestoreError:
        """What became of one of many, which has been told."""
        if isinstance(answer, BasestoreError):
            return answer
        try:
            try:
                return call.read(answer.told(), self._channel.members)
            except Unsent:
                return await self._ask(call, deadline)
        except (InvalidRequest, Unreachable, RequestFailed) as error:
            return error

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
        cursor = self._calls.scan(prefix, bucket, consistency, timeout, limit, after)
        try:
            while not cursor.ended:
                for item in await self._ask(cursor.page()):
                    yield cursor.show(item)
        except BasestoreError as error:
            cursor.name(error)
            raise

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

    @property
    def token(self) -> str:
        """All that this session has seen so far, as text of letters, digits and .-_ for `session`, in any
        process; it stays when the session has ended."""
        return self._seen.token

    def merge(self, token: str, base: str | None = None) -> None:
        """From now on promise what the token's session promised too. `base`: a token that both have gone on
        from: what either has forgotten of that since (for it is everywhere, or was told to be lost) stays
        forgotten. InvalidRequest for a token that is damaged or of another cluster, SessionFull when there
        is no room: then nothing of it is taken."""
        self._seen.merge(token, base)

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
        """As `Store.scan`; keys that the session knows better than a page does are read one by one.
        SessionFull, in the middle, before a key is shown that there is no room for."""
        cursor = self._calls.scan(prefix, bucket, consistency, timeout, limit, after)

        def again(key: bytes) -> Call[ReadResult]:
            return self._calls.get(key, bucket, cursor.level, cursor.timeout_s)

        try:
            while not cursor.ended:
                # First, for when the page is read the cursor moves on.
                begin = cursor.after or b""
                items = await self._ask(cursor.page())
                doubtful = self._seen.doubtful(bucket, prefix_bytes(prefix), begin, cursor.after, items)
                results = await self._many([again(key) for key in doubtful])
                for item in revised(items, doubtful, results):
                    shown = [item]
                    if self._seen.behind(bucket, item):  # by now, through another call
                        newer = await self._ask(again(item.key))
                        shown = revised(shown, [item.key], [newer])
                    for each in shown:
                        self._seen.show(bucket, each.key, each.version.encode())
                        yield cursor.show(each)
                    if cursor.left <= 0:
                        break
        except BasestoreError as error:
            cursor.name(error)
            raise
