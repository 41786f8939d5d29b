"""Retrying: a store that tries again what a retry may help, within a budget (`Store.retrying`).

Off unless it is asked for. What is tried again is gets, sets, deletes and pages of scans; of many that are
asked together, those that failed:

    Overloaded, Unavailable, Unreachable,
    Contended                               nothing was done: the same request once more
    ConnectionLost and the timeouts         a read once more; a write as itself, so that it happens once
    all others                              not: a retry would find the same

A write whose outcome is not known stays so, whatever is said of a later attempt that did nothing:

    set k           ConnectionLost: it may have happened
    as itself       Overloaded: *this* attempt did nothing
    the caller      gets the ConnectionLost, for that is what is known of the write

Retries are what keeps a busy node busy. So they come out of a budget (as gRPC throttles retries; AWS,
"Timeouts, retries and backoff with jitter"): a bucket of 10 tokens, from which a retry takes one, and to
which a call that succeeds adds a tenth. A pause begins with what the node has asked for (`retry_after`);
behind that it is drawn evenly (full jitter) up to as much again, or 50 ms, doubled with each attempt. The
call's timeout bounds all of it. Refuses to hide what it does: errors say how many attempts there were, and
the store counts.

A watch is asked for again whether or not that was asked for, for it is meant to last (`Watching`): at any
node that answers, from its last token. So what was told behind that is told again.
"""

import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from time import monotonic, sleep
from typing import Any, Final

from basestore.client.arguments import Data, bucket_of, prefix_bytes
from basestore.client.blocking_channel import AnyChannel
from basestore.client.calls import Asking, Call, Calls, chance
from basestore.client.channel import Batch, Channel
from basestore.errors import (
    BasestoreError,
    ConnectionLost,
    Contended,
    InvalidRequest,
    Overloaded,
    ReadTimeout,
    RequestFailed,
    Unavailable,
    Unreachable,
    WriteTimeout,
)
from basestore.protocol.client import Delete, Failed, Get, Scan, Set, Watch
from basestore.protocol.codec import Message
from basestore.protocol.groups import singly
from basestore.protocol.handshake import Meant, Names, Rules, Welcome
from basestore.repair.version import Identity
from basestore.results.answers import error_of
from basestore.results.readers import watched
from basestore.results.receipts import Event, Gap, Progress
from basestore.transport.owner import tell_of_forks

TOKENS_MAX: Final = 10.0
PAUSE_S: Final = 0.05
NOTHING_DONE: Final = (Overloaded, Unavailable, Unreachable, Contended)
RETRIED: Final = (*NOTHING_DONE, ConnectionLost, WriteTimeout, ReadTimeout)
WATCH_AGAIN: Final = (*NOTHING_DONE, ConnectionLost, ReadTimeout)
WATCH_BYTES: Final = 256 << 10  # that are asked for at a time
PAUSES_MAX: Final = 6  # that grow
PATIENCE_S: Final = 60.0


class Budget:
    """Tokens for retries. `share`: what a call that succeeds adds."""

    def __init__(self, share: float) -> None:
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise InvalidRequest(
                f"a budget of {share!r} retries for each call that succeeds; it is 0 to 1, as 0.1"
            )
        self.share = share
        self.tokens = TOKENS_MAX
        self.retries = 0

    def fill(self) -> None:
        self.tokens = min(TOKENS_MAX, self.tokens + self.share)

    def take(self) -> bool:
        """Whether there was one."""
        if self.tokens < 1:
            return False
        self.tokens -= 1
        self.retries += 1
        return True


def pause_of(asked_s: float, attempt: int, draw: Callable[[], float]) -> float:
    """Before the attempt that follows this one, counted from 1."""
    return asked_s + draw() * max(PAUSE_S, asked_s) * 2.0 ** (attempt - 1)


class _Again:
    """Requests that have been asked before, under other ids."""

    def __init__(self, requests: list[Any], timeout_s: float) -> None:
        self._requests = requests
        self.asks = len(requests)
        self.timeout_s = timeout_s

    def requests(self, first: int, failed: dict[int, Exception]) -> list[Message]:
        return [request._replace(id=number) for number, request in enumerate(self._requests, first)]


class Attempts:
    """One call. `asking`: what is to be asked now; of whatever comes of it `hear` is told."""

    def __init__(
        self, asking: Asking, deadline: float, budget: Budget, draw: Callable[[], float] = chance
    ) -> None:
        self.asking = asking
        self._deadline = deadline
        self._budget = budget
        self._draw = draw
        self._count = 1
        self._batch: Batch | None = None
        self._raised: BasestoreError | None = None
        self._open: dict[int, Any] = {}  # requests that may be asked again, by their first ids
        self._doubts: dict[int, RequestFailed] = {}  # writes that may have happened, likewise
        self._failed: set[int] = set()

    def hear(self, told: Batch | BasestoreError, now: float) -> float | None:
        """How long to pause before `asking` is asked again; None when the call is over."""
        errors = self._unsent(told) if isinstance(told, BasestoreError) else self._take(told)
        if not errors:
            self._budget.fill()
        retried = bool(self._open) or (self._batch is None and isinstance(self._raised, NOTHING_DONE))
        asked_s = max((getattr(error, "retry_after", 0.0) for error in errors), default=0.0)
        pause_s = pause_of(asked_s, self._count, self._draw)
        if not retried or now + pause_s >= self._deadline or not self._budget.take():
            self._end()
            return None
        self._count += 1
        if self._batch is not None:
            self.asking = _Again(list(self._open.values()), self.asking.timeout_s)
        return pause_s

    def result(self) -> Batch:
        """What has become of the call; raises the error that it ended with."""
        if self._batch is None:
            assert self._raised is not None
            raise self._raised
        return self._batch

    def _end(self) -> None:
        if self._batch is None:
            assert self._raised is not None
            self._raised.attempts = self._count
            return
        for place in self._failed & self._batch.failed.keys():
            self._batch.failed[place].attempts = self._count

    def _unsent(self, error: BasestoreError) -> list[BasestoreError]:
        """Nothing of this attempt was sent."""
        self._raised = error
        for place in list(self._open):
            self._settle(place, error)
        return [error]

    def _take(self, batch: Batch) -> list[BasestoreError]:
        """The errors of this attempt, of which the first takes in what the others are told."""
        failures = _failures(batch)
        if self._batch is None:
            self._batch = batch
            failures = {place: error for place, error in failures.items() if isinstance(error, RETRIED)}
            if not failures:
                return []
            batch.told[:] = [
                answer for answer in batch.told if type(answer) is not Failed or answer.id not in failures
            ]
            for place, error in failures.items():
                self._open[place] = batch.request(place)
                self._settle(place, error)
            return list(failures.values())
        places = dict(enumerate(list(self._open), batch.first))
        for answer in singly(batch.told):
            if answer.id not in failures:
                place = places[answer.id]
                del self._open[place], self._batch.failed[place]
                self._batch.told.append(answer._replace(id=place))
        for number, error in failures.items():
            self._settle(places[number], error)
        return list(failures.values())

    def _settle(self, place: int, error: BasestoreError) -> None:
        """What is known of a request from now on; it stays open if it may be asked again."""
        assert self._batch is not None
        request = self._open.pop(place)
        writes = isinstance(request, Set | Delete)
        if isinstance(error, RequestFailed) and writes and error is not self._raised:
            error.identity = error.identity or Identity.decode(request.identity)
            if not error.definite:
                self._doubts[place] = error
                request = request._replace(identity=error.identity.encode(), repeats=True)
        if isinstance(error, RETRIED) and (writes or isinstance(request, Get | Scan)):
            self._open[place] = request
        self._failed.add(place)
        self._batch.failed[place] = self._doubts.get(place, error)


def _failures(batch: Batch) -> dict[int, BasestoreError]:
    """The errors of a batch, by id."""
    failures: dict[int, BasestoreError] = dict(batch.failed)
    for answer in batch.told:
        if type(answer) is Failed:
            failures[answer.id] = error_of(answer)
    return failures


class Watching:
    """One watch: what is asked next, from where the last answer ended, or from the last token where that is
    lost. `poll` is asked again and again; of an error that is none of its own `failed` says how long to pause
    first, and raises it once nothing has come for too long."""

    def __init__(
        self, calls: Calls, prefix: Data, bucket: str, token: str | None, everything: bool,
        timeout: float | None, patience_s: float,
    ) -> None:  # fmt: skip
        self._timeout_s, self._timeout_ms = calls.time(timeout)
        self._prefix, self._bucket = prefix_bytes(prefix), bucket_of(bucket)
        if token is not None and (not isinstance(token, str) or not token):
            raise InvalidRequest(f"a token is what a Progress of a watch has as `token`, not {token!r:.80}")
        if token and everything:
            raise InvalidRequest("a watch begins with a token, or with everything that is held; choose one")
        self._token, self._everything, self._patience_s = token or "", everything, patience_s
        self._feed = self._failures = 0
        self._begun = self._told = False
        self._since_s: float | None = None

    def poll(self) -> Call[list[Event]]:
        token = "" if self._begun else self._token

        def make(request: int) -> Watch:
            return Watch(
                request, self._bucket, self._prefix, token, self._feed if self._begun or token else 0,
                self._everything, WATCH_BYTES, self._timeout_ms,
            )  # fmt: skip

        return Call(make, self._read, self._timeout_s)

    def _read(self, answer: Message, _: Names) -> list[Event]:
        begins = not self._begun
        feed, events = watched(answer)
        self._since_s, self._failures = None, 0
        self._begun, self._feed = feed > 0, feed or self._feed
        if begins and self._told and not self._token:  # it begins anew, and nobody knows behind what
            events.insert(0, Gap(0))
        for event in events:
            self._told = True
            if isinstance(event, Progress):
                self._token = event.token
        return events

    def failed(self, error: BasestoreError, now: float, draw: Callable[[], float] = chance) -> float:
        """How long to pause before the next poll; raises the error if that is no help."""
        self._begun = False
        self._since_s = now if self._since_s is None else self._since_s
        if not isinstance(error, WATCH_AGAIN) or now - self._since_s > self._patience_s:
            raise error
        self._failures += 1
        return pause_of(getattr(error, "retry_after", 0.0), min(self._failures, PAUSES_MAX), draw)


class RetryingChannel:
    """A channel that asks again. Of one cluster, as the channel below."""

    def __init__(self, channel: Channel, budget: float, pause: Callable[[float], Awaitable[None]]) -> None:
        self._channel: Channel = channel._channel if isinstance(channel, RetryingChannel) else channel
        self._pause = pause
        self.budget = Budget(budget)

    async def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> Batch:
        attempts = Attempts(asking, deadline, self.budget)
        while True:
            heard: Batch | BasestoreError
            try:
                heard = await self._channel.ask(attempts.asking, deadline, cluster)
            except BasestoreError as error:
                heard = error
            pause_s = attempts.hear(heard, monotonic())
            if pause_s is None:
                return attempts.result()
            await self._pause(pause_s)

    @property
    def members(self) -> Names:
        return self._channel.members

    @property
    def cluster(self) -> bytes:
        return self._channel.cluster

    @property
    def rules(self) -> Rules:
        return self._channel.rules

    async def addresses(self, deadline: float) -> Mapping[str, str]:
        return await self._channel.addresses(deadline)

    def elsewhere(self, member: Meant, timeout_s: float) -> AbstractAsyncContextManager[Channel]:
        return self._channel.elsewhere(member, timeout_s)

    async def ready(self, deadline: float) -> None:
        await self._channel.ready(deadline)

    async def aclose(self) -> None:
        await self._channel.aclose()


class BlockingRetryingChannel:
    """The same for threads. The budget is looked at by one thread at a time."""

    def __init__(self, channel: AnyChannel, budget: float) -> None:
        self._channel: AnyChannel = (
            channel._channel if isinstance(channel, BlockingRetryingChannel) else channel
        )
        self.budget = Budget(budget)
        self._lock = threading.Lock()
        tell_of_forks(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()

    def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> Batch:
        attempts = Attempts(asking, deadline, self.budget)
        while True:
            heard: Batch | BasestoreError
            try:
                heard = self._channel.ask(attempts.asking, deadline, cluster)
            except BasestoreError as error:
                heard = error
            with self._lock:
                pause_s = attempts.hear(heard, monotonic())
            if pause_s is None:
                return attempts.result()
            sleep(pause_s)

    @property
    def members(self) -> Names:
        return self._channel.members

    @property
    def rules(self) -> Rules:
        return self._channel.rules

    def welcome(self, deadline: float) -> Welcome:
        return self._channel.welcome(deadline)

    def addresses(self, deadline: float) -> Mapping[str, str]:
        return self._channel.addresses(deadline)

    def close(self) -> None:
        self._channel.close()
