"""Store: the calls that a program makes, the same on every async way to a cluster.

What carries requests to a node and answers back is a `Channel`. A session is a store whose channel
looks at what it carries.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import TypeVar

import anyio

from basestore.client import calls
from basestore.client.calls import PAGE_LIMIT, TIMEOUT_S_DEFAULT, Consistency
from basestore.client.channel import Answer, Channel, SessionChannel
from basestore.client.session import KEYS_MAX_DEFAULT, Session, revised
from basestore.consistency import Level
from basestore.errors import BasestoreError, InvalidRequest, RequestFailed, SessionFull, Unreachable
from basestore.protocol.codec import Message
from basestore.protocol.operator import Counters, Status
from basestore.results.cluster_view import Following
from basestore.results.convergence import CONVERGED_S, Convergence, Proving, settled_by
from basestore.results.explanation import Explanation, explanation
from basestore.results.hints import NodeHints, node_hints
from basestore.results.receipts import (
    Item,
    NodeState,
    ReadResult,
    Receipt,
    node_state,
    page,
    read_result,
    receipt,
)
from basestore.results.repair import REPAIR_S, Repair, Repairing
from repair.version import Version

MANY_MAX = 512

T = TypeVar("T")


class Store:
    """Keys and values of a cluster. `consistency` and `timeout` hold for calls that say nothing else.

    Every call may raise InvalidRequest, Unreachable, and the RequestFailed family (`errors`).
    A cancelled call leaves nothing behind here; what it sent may still happen. Nothing is retried.
    """

    def __init__(
        self, channel: Channel, consistency: Consistency = "quorum", timeout: float = TIMEOUT_S_DEFAULT
    ) -> None:
        self._channel = channel
        self._level = calls.level_of(consistency)
        self._timeout_s = timeout
        calls.timeout_ms_of(timeout)

    def _level_of(self, consistency: Consistency | None) -> Level:
        return self._level if consistency is None else calls.level_of(consistency)

    def _read_level_of(self, consistency: Consistency | None) -> Level:
        return calls.read_level_of(self._level if consistency is None else consistency)

    async def set(
        self,
        key: bytes | str,
        value: bytes | str,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
        version: Version | str | None = None,
    ) -> Receipt:
        """Write a value. `ttl` in seconds; `version` repeats a write that timed out, as itself."""
        level = self._level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)
        await self._channel.ready()
        answer = await self._channel.ask(
            lambda request: calls.set_request(request, key, value, bucket, level, timeout_ms, ttl, version),
            timeout_s,
        )
        return receipt(answer, level, self._channel.members)

    async def delete(
        self,
        key: bytes | str,
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        version: Version | str | None = None,
    ) -> Receipt:
        """Delete a key. Deleting a key that is not there is no error."""
        level = self._level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)
        await self._channel.ready()
        answer = await self._channel.ask(
            lambda request: calls.delete_request(request, key, bucket, level, timeout_ms, version),
            timeout_s,
        )
        return receipt(answer, level, self._channel.members)

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
        level = calls.get_level_of(consistency, self._level, max_staleness)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)
        await self._channel.ready()
        answer = await self._channel.ask(
            lambda request: calls.get_request(
                request, key, bucket, level, timeout_ms, b"", repair, staleness, max_staleness
            ),
            timeout_s,
        )
        return read_result(answer, level)

    async def set_many(
        self,
        items: Iterable[tuple[bytes | str, bytes | str]],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> list[Receipt | BasestoreError]:
        """Write many values at once, each for itself. In the order of `items`: its receipt, or the
        error of the one that failed. `timeout` is for each."""
        level = self._level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)
        makes = [
            lambda request, key=key, value=value: calls.set_request(
                request, key, value, bucket, level, timeout_ms, ttl, None
            )
            for key, value in items
        ]
        return await self._many(makes, timeout_s, lambda a: receipt(a, level, self._channel.members))

    async def delete_many(
        self,
        keys: Iterable[bytes | str],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
    ) -> list[Receipt | BasestoreError]:
        """Delete many keys at once, each for itself. In the order of `keys`: its receipt, or the error of
        the one that failed."""
        level = self._level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)
        makes = [
            lambda request, key=key: calls.delete_request(request, key, bucket, level, timeout_ms, None)
            for key in keys
        ]
        return await self._many(makes, timeout_s, lambda a: receipt(a, level, self._channel.members))

    async def get_many(
        self,
        keys: Iterable[bytes | str],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        repair: bool = True,
    ) -> list[ReadResult | BasestoreError]:
        """Read many keys at once, each for itself. In the order of `keys`: its result, or the error
        of the one that failed."""
        level = self._read_level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)
        makes = [
            lambda request, key=key: calls.get_request(request, key, bucket, level, timeout_ms, repair=repair)
            for key in keys
        ]
        return await self._many(makes, timeout_s, lambda answer: read_result(answer, level))

    async def _many(
        self, makes: Sequence[Callable[[int], Message]], timeout_s: float, read: Callable[[Message], T]
    ) -> list[T | BasestoreError]:
        results: list[T | BasestoreError] = []
        for start in range(0, len(makes), MANY_MAX):
            asked: list[Answer | BasestoreError] = []
            try:
                for make in makes[start : start + MANY_MAX]:
                    try:
                        await self._channel.ready()
                        asked.append(self._channel.ask(make, timeout_s))
                    except (InvalidRequest, Unreachable, RequestFailed, SessionFull) as error:
                        asked.append(error)
                for answer in asked:
                    try:
                        results.append(answer if isinstance(answer, BasestoreError) else read(await answer))
                    except (InvalidRequest, RequestFailed) as error:
                        results.append(error)
            finally:  # what a cancelled call did not get to await
                for answer in asked:
                    if not isinstance(answer, BasestoreError):
                        answer.forget()
        return results

    async def scan(
        self,
        prefix: bytes | str = b"",
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Item]:
        """The keys that start with `prefix`, in bytewise order, with their values; each as a get at
        this level would find it while its page was made. `timeout` is for each page."""
        level = self._read_level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        after: bytes | None = b""
        while after is not None and (limit is None or limit > 0):
            items, after = await self._page(prefix, after, limit, bucket, level, timeout_s)
            for item in items[:limit]:
                yield item
            if limit is not None:
                limit -= len(items)

    async def _page(
        self,
        prefix: bytes | str,
        after: bytes,
        limit: int | None,
        bucket: str,
        level: Level,
        timeout_s: float,
    ) -> tuple[list[Item], bytes | None]:
        """One page of a scan, and where to go on, None at the end."""
        timeout_ms = calls.timeout_ms_of(timeout_s)
        size = PAGE_LIMIT if limit is None else min(limit, PAGE_LIMIT)
        await self._channel.ready()
        answer = await self._channel.ask(
            lambda request: calls.scan_request(request, prefix, after, size, bucket, level, timeout_ms),
            timeout_s,
        )
        return page(answer)

    async def explain(
        self, key: bytes | str, *, bucket: str = "default", timeout: float | None = None
    ) -> Explanation:
        """Why a key has the value it has: what each replica holds, which record wins and by what, and
        the hints for it. Nothing is repaired, nothing changes."""
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = calls.timeout_ms_of(timeout_s)
        await self._channel.ready()
        answer = await self._channel.ask(
            lambda request: calls.explain_request(request, key, bucket, timeout_ms), timeout_s
        )
        return explanation(answer, bucket, calls.key_bytes(key), self._channel.members)

    async def converged(
        self,
        *,
        timeout: float = CONVERGED_S,
        key: bytes | str | None = None,
        bucket: str = "default",
        receipt: Receipt | None = None,
    ) -> Convergence:
        """Wait until it is proven that all that was written before this call is on all replicas, for good:
        of all partitions, or of that of `key`. With a `receipt`: until that write is, or what beat it, which
        is a matter of its partition. The result is true if it is proven. Otherwise, after `timeout` seconds,
        or at once where no waiting helps, its `obstacles` say what stands in the way."""
        scope, patience = calls.scope_of(bucket, key), calls.patience(timeout)
        settled_by(receipt)
        await self._channel.ready()
        proving = Proving(self._channel.members, scope, receipt, patience, monotonic())
        return await self._follow(proving)

    async def repair(
        self,
        *,
        timeout: float = REPAIR_S,
        partition: int | None = None,
        full: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Repair:
        """Let all replicas compare what they hold, all partitions or one, now. `full`: each holds its disk
        against its sums first, and then all of it is compared. `progress` is told pairs of replicas that
        are done, and all of them. The result is true if all have been compared; otherwise, after `timeout`
        seconds, its `obstacles` say what stands in the way."""
        scope = calls.scope_of("default", None, partition)
        await self._channel.ready()
        patience = calls.patience(timeout)
        repairing = Repairing(self._channel.members, scope, full, patience, monotonic())
        return await self._follow(repairing, progress)

    async def _follow(self, survey: Following[T], progress: Callable[[int, int], None] | None = None) -> T:
        """Ask until there is a result. A node that goes meanwhile is no reason to stop."""
        while (result := survey.result(monotonic())) is None:
            sent_s = monotonic()
            try:
                await self._channel.ready()
                survey.hear(await self._channel.ask(survey.request, calls.SURVEY_MS / 1e3), sent_s)
            except (RequestFailed, Unreachable) as error:
                survey.miss(error)
            if progress is not None:
                progress(*survey.progress)
            await anyio.sleep(survey.pause_s)
        return result

    async def node_hints(self, *, replay: bool = False, late: bool = False) -> NodeHints:
        """The hints that the node this store talks to keeps. `replay`: and their delivery begins now,
        whatever refusals there were. `late`: and those that come too late are written anew, unless what a
        quorum holds beats them."""
        await self._channel.ready()
        answer = await self._channel.ask(calls.hints_request(replay, late), self._timeout_s)
        return node_hints(answer, self._channel.members)

    async def node_counters(self) -> NodeState:
        """`node_status` with further facts: all that the node has counted, by the names of `metrics`."""
        await self._channel.ready()
        return node_state(await self._channel.ask(Counters, self._timeout_s))

    async def node_status(self) -> NodeState:
        """What the node that this store talks to says of itself."""
        await self._channel.ready()
        return node_state(await self._channel.ask(Status, self._timeout_s))

    @asynccontextmanager
    async def session(self, *tokens: str, keys_max: int = KEYS_MAX_DEFAULT) -> AsyncIterator["StoreSession"]:
        """A session: the same calls, which read what they wrote and never go back behind what they have
        read, at every level; for the length of an `async with` block.

        tokens    of earlier sessions, here or elsewhere, from which it goes on
        keys_max  room for so many keys, of 256 bytes on average; SessionFull for one more, for none is
                  forgotten
        Raises InvalidRequest for a token that is damaged or of another cluster, and Unreachable.
        """
        await self._channel.ready()
        seen = Session(self._channel.cluster, self._channel.rules, keys_max)
        for token in tokens:
            seen.merge(token)
        channel = SessionChannel(self._channel, seen)
        try:
            yield StoreSession(channel, seen, self._level, self._timeout_s)
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

    def merge(self, token: str) -> None:
        """From now on promise what the token's session promised too. InvalidRequest for a token that is
        damaged or of another cluster, SessionFull when there is no room: then nothing of it is taken."""
        self._seen.merge(token)

    async def scan(
        self,
        prefix: bytes | str = b"",
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Item]:
        """As `Store.scan`; keys that the session knows better than a page does are read one by one.
        SessionFull, in the middle, before a key is shown that there is no room for."""
        level = self._read_level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        encoded = calls.prefix_bytes(prefix)
        after: bytes | None = b""
        while after is not None and (limit is None or limit > 0):
            begin = after
            items, after = await self._page(prefix, begin, limit, bucket, level, timeout_s)
            doubtful = self._seen.doubtful(bucket, encoded, begin, after, items)
            results = await self.get_many(doubtful, bucket=bucket, consistency=level, timeout=timeout_s)
            for item in revised(items, doubtful, results)[:limit]:
                shown = [item]
                if self._seen.behind(bucket, item):  # by now, through another call
                    again = await self.get(item.key, bucket=bucket, consistency=level, timeout=timeout_s)
                    shown = revised(shown, [item.key], [again])
                for each in shown:
                    self._seen.show(bucket, each.key, each.version.encode())
                    yield each
                    limit = None if limit is None else limit - 1
