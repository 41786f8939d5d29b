"""Channel: what carries the requests of an asynchronous store to a node, and the answers back.

There are two: a connection (`connection.py`), and a node in this very process (`embedded.py`). What a session
puts before either names its floors in the requests, and learns from the answers.

Every channel keeps a table of the requests under way, by id. An entry leaves it exactly once, by whatever
comes first: the answer, an error that is put in its place, or that nobody waits any more. An answer that
comes later finds no entry, and is dropped. An example, of one connection:

    ask           id 7 enters the table; the request is on its way, though nobody awaits it yet
    answer to 7   its entry leaves, and whoever awaits it, now or later, gets the answer
    cancelled     had its caller been cancelled before, the entry had left then; the answer means nothing
    late          had its time passed before, the caller had got ReadTimeout or WriteTimeout
    lost          had the connection broken before, the caller had got ConnectionLost; and if the request had
                  not been sent by then, it would have been asked anew, over another connection

A call has one deadline, a moment of `time.monotonic`: it bounds what is done until the request is sent, the
node is told what is left by then, and the answer is waited for a little longer.
"""

import os
from collections.abc import Awaitable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from basestore.client.calls import PENDING_MAX, Make
from basestore.client.session import ENDED, Session, check_cluster
from basestore.errors import (
    ConnectionLost,
    InvalidRequest,
    Overloaded,
    ReadTimeout,
    RequestFailed,
    Unreachable,
    WriteTimeout,
)
from basestore.protocol.client import Delete, Set
from basestore.protocol.codec import Message
from basestore.protocol.groups import singly
from basestore.protocol.handshake import Names
from basestore.protocol.operator import Replay
from basestore.repair.rule import Rule
from basestore.repair.version import Identity

# What is seen of an endpoint where the system has no words for it.
NO_CONNECTION = "no connection in time"
SILENT = "it takes connections, but says nothing in time"
FILE = "--config FILE"  # of a node, where it is not known here
_NEXT = {
    "connection refused": "Nothing listens there: see how its process ended (its log has the reason), then "
    f"start it: basestore serve {FILE}",
    SILENT: "Its process is there, and hangs or is stopped: look at its log and its machine first",
    NO_CONNECTION: "Its machine is down, or the network drops what is sent: see whether it can be reached",
}


class Unsent(Exception):
    """The connection ended before the request was sent. It is asked anew."""


class Answer(Awaitable[Message], Protocol):
    """A request that was sent. Awaiting it gives the answer; a cancelled await forgets it."""

    def forget(self) -> None:
        """Nobody will await it (any more)."""

    def told(self) -> Message:
        """The answer, once all that were asked together have theirs; raises that there will be none."""


class Channel(Protocol):
    """Carries requests to one node. Of its cluster, once it is ready: the names of the members, the id,
    the rules of its buckets, and how long a request may last."""

    members: Names
    cluster: bytes
    rules: Mapping[str, Rule]

    @property
    def timeout_s_max(self) -> float: ...

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where the members listen, by name, in their order."""

    def elsewhere(self, endpoint: str, timeout_s: float) -> "AbstractAsyncContextManager[Channel]":
        """A channel to this member alone, for the length of a block; Unreachable."""

    async def aclose(self) -> None:
        """Carry nothing any more."""

    async def ready(self, deadline: float) -> None:
        """Until requests can be sent; Unreachable, at the deadline at the latest."""

    def ask(self, make: Make, deadline: float, together: "Together | None" = None) -> Answer:
        """Send the request that `make` makes with an id, at once; await the result for the answer, or all
        that were asked `together`. A timeout or ConnectionLost when none comes, Unsent when it was not sent.
        Overloaded when too many requests are under way."""

    def together(self) -> "Together":
        """For requests that are waited for together."""


class Event(Protocol):
    """Of Trio or of anyio."""

    def set(self) -> object: ...

    async def wait(self) -> object: ...


class Together:
    """One event for many requests: a caller that has asked them all is woken once."""

    __slots__ = ("_event", "_untold")

    def __init__(self, event: Event) -> None:
        self._event = event
        self._untold = 1  # for who asks: nothing is over while it may ask more

    def add(self) -> None:
        """One more."""
        self._untold += 1

    def set(self) -> None:
        """One has its answer, or there will be none."""
        self._untold -= 1
        if not self._untold:
            self._event.set()

    async def wait(self) -> None:
        """Until each has; nothing more is asked."""
        self.set()
        await self._event.wait()


class Pending(Awaitable[Message]):
    """A request under way, in the table of its channel: on which connection it was sent (`way`), when, and
    when its caller has waited long enough, by `time.monotonic`."""

    __slots__ = ("_event", "_table", "_told", "deadline", "request", "sent", "way")

    def __init__(
        self, table: "dict[int, Pending]", request: Any, event: Event, sent: float, deadline: float,
        way: object = None,
    ) -> None:  # fmt: skip
        self._table = table
        self._event = event
        self._told: Message | RequestFailed | Unsent | None = None
        self.request = request
        self.sent = sent
        self.deadline = deadline
        self.way = way
        table[request.id] = self

    def resolve(self, told: Message | RequestFailed | Unsent) -> None:
        """Give whoever awaits it the answer, or raise that there will be none. The entry has left the table,
        or leaves it when it is awaited."""
        self._told = told
        self._event.set()

    def forget(self) -> None:
        self._table.pop(self.request.id, None)

    def __await__(self) -> Generator[Any, Any, Message]:
        return self._wait().__await__()

    async def _wait(self) -> Message:
        try:
            await self._event.wait()
        finally:
            self.forget()
        return self.told()

    def told(self) -> Message:
        self.forget()
        told = self._told
        if told is None or isinstance(told, RequestFailed | Unsent):
            raise told or ConnectionLost("the client was closed before the answer came")
        return told


def answered(table: dict[int, Pending], messages: Sequence[Message]) -> list[Message]:
    """Hand answers to whoever awaits them, and return what is no answer to anything; what is the wrong one
    is found out when it is read."""
    stray = []
    for message in singly(messages):
        pending = table.pop(getattr(message, "id", 0), None)  # no request is number 0
        if pending is None:
            stray.append(message)
        else:
            pending.resolve(message)
    return stray


def overdue(table: dict[int, Pending], now: float, way: object = None) -> list[Pending]:
    """Take those out that were sent this way and whose deadline has passed; by `math.inf` that of all has."""
    late = [request for request, pending in table.items() if pending.deadline < now and pending.way is way]
    return [table.pop(request) for request in late]


def lost(told: str, request: Message) -> ConnectionLost:
    """The error when no answer to a request comes: what happened, and what the caller can do."""
    error = ConnectionLost(f"{told}. {_advice(request)}")
    error.identity = _identity(request)
    return error


def late(endpoint: str, request: Message) -> ReadTimeout | WriteTimeout:
    """The error when the node has said nothing by the time that a request's caller has waited for it."""
    kind = WriteTimeout if isinstance(request, Set | Delete | Replay) else ReadTimeout
    told = f"{endpoint} did not answer in time. {_advice(request)}"
    return kind(told, None, None, _identity(request))


def _identity(request: Message) -> Identity | None:
    return Identity.decode(request.identity) if isinstance(request, Set | Delete) else None


def _advice(request: Message) -> str:
    if isinstance(request, Set | Delete):
        return f"The write may have happened: repeat it as {_identity(request)}, or read to find out"
    if isinstance(request, Replay):
        return "It may have been begun: see `basestore hints`, or ask again"
    return "This request changes nothing: ask again"


def overfull() -> Overloaded:
    """The error when no more requests may be under way in one store."""
    return Overloaded(
        f"overloaded: {PENDING_MAX} requests are under way in this store, and it takes no more at once; "
        f"nothing was sent. Wait for some of them, or share the work among several stores"
    )


def unreachable(failures: Mapping[str, object], endpoints: Sequence[str] = ()) -> Unreachable:
    """The error when none of the endpoints answers, out of what is wrong with each; nothing is known yet of
    those that do not stand among the failures."""
    failures = dict.fromkeys(endpoints, NO_CONNECTION) | {
        endpoint: failure if str(failure) else "it closed the connection"
        for endpoint, failure in failures.items()
    }
    told = "; ".join(f"{endpoint}: {failure}" for endpoint, failure in failures.items())
    error = Unreachable(
        f"no node could be reached ({told}). Nothing was sent. Check that they run, or name other nodes as "
        f"endpoints"
    )
    error.reasons = tuple(map(_word, failures.values()))
    return error


def _word(failure: object) -> str:
    if isinstance(failure, OSError):
        # By its number, for event loops have words of their own; errors of names have numbers below 0.
        number = failure.errno or 0
        failure = os.strerror(number) if number > 0 else failure.strerror or failure
    return str(failure).lower()


def silence(error: Unreachable | RequestFailed) -> str:
    """What was seen of a node that does not answer, and what to look at next, on one short line."""
    seen = SILENT if isinstance(error, ReadTimeout) else ""
    if isinstance(error, Unreachable) and error.reasons:
        seen = error.reasons[-1]
    if not seen:
        return str(error)
    return f"does not answer: {seen}. {_NEXT.get(seen, 'See whether it runs, and what its log says')}"


class _Lesson(Awaitable[Message]):
    """A request of a session that was sent. The session learns from its answer when that is awaited."""

    def __init__(self, seen: Session, request: Message, answer: Answer) -> None:
        self._seen = seen
        self._request = request
        self._answer = answer
        self._ended = False

    def _end(self, answer: Message | None) -> None:
        """Once: the session has set room aside for this request, and gives it back here."""
        if not self._ended:
            self._ended = True
            self._seen.end(self._request, answer)

    def forget(self) -> None:
        self._answer.forget()
        self._end(None)

    def told(self) -> Message:
        try:
            answer = self._answer.told()
            self._end(answer)
            return answer
        finally:
            self._end(None)

    def __await__(self) -> Generator[Any, Any, Message]:
        return self._wait().__await__()

    async def _wait(self) -> Message:
        try:
            answer = await self._answer
            self._end(answer)
            return answer
        finally:
            self._end(None)


class SessionChannel:
    """A channel that tells nodes what a session has seen, and the session what nodes answer."""

    def __init__(self, channel: Channel, seen: Session) -> None:
        self._channel = channel
        self._seen = seen
        self.members = channel.members
        self.cluster = channel.cluster
        self.rules = channel.rules
        self.closed = False

    @property
    def timeout_s_max(self) -> float:
        return self._channel.timeout_s_max

    async def ready(self, deadline: float) -> None:
        if self.closed:
            raise InvalidRequest(ENDED)
        await self._channel.ready(deadline)
        # The endpoint that answers may by now be of another cluster than the one that was seen.
        check_cluster(self._seen.cluster, self._channel.cluster)

    def together(self) -> Together:
        return self._channel.together()

    def ask(self, make: Make, deadline: float, together: Together | None = None) -> Answer:
        begun: list[Message] = []

        def begin(request: int) -> Message:
            begun.append(self._seen.begin(make(request)))
            return begun[0]

        answer = self._channel.ask(begin, deadline, together)
        return _Lesson(self._seen, begun[0], answer)

    @property
    def addresses(self) -> Mapping[str, str]:
        return self._channel.addresses

    def elsewhere(self, endpoint: str, timeout_s: float) -> AbstractAsyncContextManager[Channel]:
        return self._channel.elsewhere(endpoint, timeout_s)

    async def aclose(self) -> None:
        """The session ends; the channel below goes on."""
        self.closed = True
