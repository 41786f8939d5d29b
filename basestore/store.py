"""Store: the calls that a program makes, the same on every async way to a cluster.

What carries requests to a node and answers back is a `Channel`: a connection (`client.py`) or a
node in this very process (`embedded.py`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from basestore import requests
from basestore.consistency import Level
from basestore.errors import BasestoreError, InvalidRequest, RequestFailed, Unreachable
from basestore.messages import Message, Status
from basestore.requests import PAGE_LIMIT, TIMEOUT_S_DEFAULT, Consistency
from basestore.results import Item, NodeState, ReadResult, Receipt, node_state, page, read_result, receipt
from repair.version import Version

MANY_MAX = 512

T = TypeVar("T")


class Answer(Awaitable[Message], Protocol):
    """A request that was sent. Awaiting it gives the answer; a cancelled await forgets it."""

    def forget(self) -> None:
        """Nobody will await it (any more)."""


class Channel(Protocol):
    """Carries requests to one node."""

    members: Sequence[str]

    async def ready(self) -> None:
        """Until requests can be sent; Unreachable."""

    def ask(self, make: Callable[[int], Message], timeout_s: float) -> Answer:
        """Send the request that `make` makes with an id, at once; await the result for the answer.
        ConnectionLost when none comes. Overloaded when too many requests are under way."""


class Store:
    """Keys and values of a cluster. `consistency` and `timeout` hold for calls that say nothing else.

    Every call may raise InvalidRequest, Unreachable, and the RequestFailed family (`errors`).
    A cancelled call leaves nothing behind here; what it sent may still happen. Nothing is retried.
    """

    def __init__(
        self, channel: Channel, consistency: Consistency = "quorum", timeout: float = TIMEOUT_S_DEFAULT
    ) -> None:
        self._channel = channel
        self._level = requests.level_of(consistency)
        self._timeout_s = timeout
        requests.timeout_ms_of(timeout)

    def _level_of(self, consistency: Consistency | None) -> Level:
        return self._level if consistency is None else requests.level_of(consistency)

    def _read_level_of(self, consistency: Consistency | None) -> Level:
        return requests.read_level_of(self._level if consistency is None else consistency)

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
        timeout_ms = requests.timeout_ms_of(timeout_s)
        await self._channel.ready()
        answer = await self._channel.ask(
            lambda request: requests.set_request(
                request, key, value, bucket, level, timeout_ms, ttl, version
            ),
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
        timeout_ms = requests.timeout_ms_of(timeout_s)
        await self._channel.ready()
        answer = await self._channel.ask(
            lambda request: requests.delete_request(request, key, bucket, level, timeout_ms, version),
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
    ) -> ReadResult:
        """Read a value. A missing key is a result with `found` false."""
        level = self._read_level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = requests.timeout_ms_of(timeout_s)
        await self._channel.ready()
        answer = await self._channel.ask(
            lambda request: requests.get_request(request, key, bucket, level, timeout_ms), timeout_s
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
        timeout_ms = requests.timeout_ms_of(timeout_s)
        makes = [
            lambda request, key=key, value=value: requests.set_request(
                request, key, value, bucket, level, timeout_ms, ttl, None
            )
            for key, value in items
        ]
        return await self._many(makes, timeout_s, lambda a: receipt(a, level, self._channel.members))

    async def get_many(
        self,
        keys: Iterable[bytes | str],
        *,
        bucket: str = "default",
        consistency: Consistency | None = None,
        timeout: float | None = None,
    ) -> list[ReadResult | BasestoreError]:
        """Read many keys at once, each for itself. In the order of `keys`: its result, or the error
        of the one that failed."""
        level = self._read_level_of(consistency)
        timeout_s = self._timeout_s if timeout is None else timeout
        timeout_ms = requests.timeout_ms_of(timeout_s)
        makes = [
            lambda request, key=key: requests.get_request(request, key, bucket, level, timeout_ms)
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
                    except (InvalidRequest, Unreachable, RequestFailed) as error:
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
        timeout_ms = requests.timeout_ms_of(timeout_s)
        after: bytes | None = b""
        while after is not None and (limit is None or limit > 0):
            await self._channel.ready()
            start, size = after, PAGE_LIMIT if limit is None else min(limit, PAGE_LIMIT)
            answer = await self._channel.ask(
                lambda request, start=start, size=size: requests.scan_request(  # type: ignore[misc]
                    request, prefix, start, size, bucket, level, timeout_ms
                ),
                timeout_s,
            )
            items, after = page(answer)
            for item in items[:limit]:
                yield item
            if limit is not None:
                limit -= len(items)

    async def node_status(self) -> NodeState:
        """What the node that this store talks to says of itself."""
        await self._channel.ready()
        return node_state(await self._channel.ask(Status, self._timeout_s))
