"""Channel: what carries the requests of an asynchronous store to a node, and the answers back.

There are two: a connection (`connection.py`), and a node in this very process (`embedded.py`). What a session
puts before either names its floors in the requests, and learns from the answers.

Every channel keeps a table of the requests under way, by id. An entry leaves it exactly once, by whatever
comes first: the answer, an error that is put in its place, or that nobody waits any more. An answer that
comes later finds no entry, and is dropped. An example, of one connection:

    ask           id 7 enters the table; the request is on its way, though nobody awaits it yet
    answer to 7   its entry leaves, and whoever awaits it, now or later, gets the answer
    cancelled     had its caller been cancelled before, the entry had left then; the answer means nothing
    lost          had the connection broken before, the caller had got ConnectionLost
"""

from collections.abc import Awaitable, Generator, Mapping, Sequence
from typing import Any, Protocol

from basestore.client.calls import Make
from basestore.client.session import ENDED, Session, check_cluster
from basestore.errors import ConnectionLost, InvalidRequest, Unreachable
from basestore.protocol.client import Delete, Set
from basestore.protocol.codec import Message
from basestore.protocol.operator import Replay
from repair.rule import Rule

_CHANGES = (Set, Delete, Replay)


def lost(told: str, request: Message) -> ConnectionLost:
    """The error when no answer to a request comes: what happened, and what the caller can do."""
    if isinstance(request, _CHANGES):
        return ConnectionLost(f"{told}. A write may have happened: read to find out")
    return ConnectionLost(f"{told}. This request changes nothing: ask again")


class Answer(Awaitable[Message], Protocol):
    """A request that was sent. Awaiting it gives the answer; a cancelled await forgets it."""

    def forget(self) -> None:
        """Nobody will await it (any more)."""


class Channel(Protocol):
    """Carries requests to one node. Of its cluster, once it is ready: the names of the members, the id, and
    the rules of its buckets."""

    members: Mapping[int, str]
    cluster: bytes
    rules: Mapping[str, Rule]

    async def ready(self) -> None:
        """Until requests can be sent; Unreachable."""

    def ask(self, make: Make, timeout_s: float) -> Answer:
        """Send the request that `make` makes with an id, at once; await the result for the answer.
        ConnectionLost when none comes. Overloaded when too many requests are under way."""


class Event(Protocol):
    """Of Trio or of anyio."""

    def set(self) -> object: ...

    async def wait(self) -> object: ...


class Pending(Awaitable[Message]):
    """A request under way, in the table of its channel. `sent` and `deadline` are moments of the clock that
    its channel goes by."""

    __slots__ = ("_event", "_table", "_told", "deadline", "request", "sent")

    def __init__(
        self, table: "dict[int, Pending]", request: Any, event: Event, sent: float, deadline: float
    ) -> None:
        self._table = table
        self.request = request
        self._event = event
        self._told: Message | ConnectionLost | None = None
        self.sent = sent
        self.deadline = deadline
        table[request.id] = self

    def resolve(self, told: Message | ConnectionLost) -> None:
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
        if self._told is None or isinstance(self._told, ConnectionLost):
            raise self._told or ConnectionLost("the client was closed before the answer came")
        return self._told


def answered(table: dict[int, Pending], messages: Sequence[Message]) -> None:
    """Hand answers to whoever awaits them. What is no answer to anything is dropped; what is the wrong one
    is found out when it is read."""
    for message in messages:
        pending = table.pop(getattr(message, "id", 0), None)  # ids count from 1
        if pending is not None:
            pending.resolve(message)


def overdue(table: dict[int, Pending], now: float) -> list[Pending]:
    """Take those out whose deadline has passed."""
    late = [request for request, pending in table.items() if pending.deadline < now]
    return [table.pop(request) for request in late]


def unreachable(failures: Mapping[str, object]) -> Unreachable:
    """The error when none of the endpoints answers, out of what is wrong with each."""
    told = "; ".join(f"{endpoint}: {failure}" for endpoint, failure in failures.items())
    error = Unreachable(
        f"no node could be reached ({told}). Check that they run, or name other nodes as endpoints"
    )
    words = (getattr(failure, "strerror", None) or failure for failure in failures.values())
    error.reasons = tuple(str(word).lower() for word in words)
    return error


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

    async def ready(self) -> None:
        if self.closed:
            raise InvalidRequest(ENDED)
        await self._channel.ready()
        # The endpoint that answers may by now be of another cluster than the one that was seen.
        check_cluster(self._seen.cluster, self._channel.cluster)

    def ask(self, make: Make, timeout_s: float) -> Answer:
        begun: list[Message] = []

        def begin(request: int) -> Message:
            begun.append(self._seen.begin(make(request)))
            return begun[0]

        answer = self._channel.ask(begin, timeout_s)
        return _Lesson(self._seen, begun[0], answer)
