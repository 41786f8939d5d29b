"""Channel: what carries the requests of an asynchronous store to a node, and the answers back.

There are two: a connection (`connection.py`), and a node in this very process (`embedded.py`). What a session
puts before either names its floors in the requests, and learns from the answers.

Every channel keeps a table of the requests under way, by id, and so does a blocking connection. What one
caller asks together is a batch, which stands there under each of its ids. An entry leaves it exactly once, by
whatever comes first: the answer, an error that is put in its place, or that nobody waits any more. An answer
that comes later finds no entry, and is dropped. An example, of one connection:

    ask           id 7 enters the table; the request is on its way
    answer to 7   its entry leaves, and who has asked gets the answer
    cancelled     had its caller been cancelled before, the entry had left then; the answer means nothing
    late          had its time passed before, the caller had got ReadTimeout or WriteTimeout
    lost          had the connection broken before, the caller had got ConnectionLost; and if the request had
                  not been sent by then, it would have been asked anew, over another connection

A call has one deadline, a moment of `time.monotonic`: it bounds what is done until the request is sent, the
node is told what is left by then, and the answer is waited for a little longer.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any, Protocol

from basestore.client.calls import PENDING_MAX, Asking
from basestore.client.session import ENDED, Session, check_cluster
from basestore.errors import (
    ConnectionLost,
    InvalidRequest,
    Overloaded,
    ReadTimeout,
    RequestFailed,
    SessionFull,
    Unreachable,
    WriteTimeout,
)
from basestore.protocol.client import Delete, Set
from basestore.protocol.codec import Message
from basestore.protocol.groups import Found, Stored, singly
from basestore.protocol.handshake import Names
from basestore.protocol.operator import Replay
from basestore.repair.rule import Rule
from basestore.repair.version import Identity

ANSWERED_MANY = (Stored, Found)

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


class Channel(Protocol):
    """Carries requests to one node. Of its cluster, once it is ready: the names of the members, the id,
    and the rules of its buckets."""

    members: Names
    cluster: bytes
    rules: Mapping[str, Rule]

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where the members listen, by name, in their order."""

    def elsewhere(self, endpoint: str, timeout_s: float) -> "AbstractAsyncContextManager[Channel]":
        """A channel to this member alone, for the length of a block; Unreachable."""

    async def aclose(self) -> None:
        """Carry nothing any more."""

    async def ready(self, deadline: float) -> None:
        """Until requests can be sent; Unreachable, at the deadline at the latest."""

    async def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> "Batch":
        """Send requests, anew where a connection ended before it had sent them, and wait until each has its
        answer, or an error in the place of one. Unreachable; Overloaded when too many are under way;
        InvalidRequest when they may not last as long as they are to. With the id of a cluster, also when the
        node belongs to another."""


class Bell(Protocol):
    """Wakes who waits for a batch: an event of Trio or of asyncio, or a lock."""

    def set(self) -> object: ...


class Batch:
    """Requests that one caller has asked together, and what was told of them.

    first     id of the first; the others have those that follow, up to `last`
    requests  as they are sent, in groups or singly; without those that cannot be made
    told      answers, by columns or singly
    failed    errors in the place of answers, by id
    untold    how many lack both

    While it is under way it stands in a table, once for each id that is untold: sent by this way (a
    connection), at this moment, and given up at the deadline, by `time.monotonic`.
    """

    __slots__ = (
        "bell", "deadline", "failed", "first", "last", "numbers", "requests", "sent", "singles", "told",
        "untold", "way",
    )  # fmt: skip

    def __init__(self, first: int, asking: Asking) -> None:
        self.first, self.last = first, first + asking.asks - 1
        self.failed: dict[int, Any] = {}
        self.told: list[Message] = []
        self.singles: dict[int, Message] | None = None
        self.requests = asking.requests(first, self.failed)
        self.numbers: Sequence[int] = range(first, self.last + 1)
        if self.failed:
            self.numbers = [number for number in self.numbers if number not in self.failed]
        self.untold = len(self.numbers)
        self.bell: Bell | None = None

    def enter(
        self,
        table: "dict[int, Batch]",
        sent: float,
        deadline: float,
        bell: Bell | None = None,
        way: object = None,
    ) -> None:
        """It is under way from now on."""
        self.bell = bell
        self.sent = sent
        self.deadline = deadline
        self.way = way
        for number in self.numbers:
            table[number] = self

    def leave(self, table: "dict[int, Batch]") -> list[int]:
        """Nobody waits any more; what is untold will not be told."""
        untold = [number for number in self.numbers if table.get(number) is self]
        for number in untold:
            del table[number]
        return untold

    def hear(self, message: Message, count: int = 1) -> None:
        """An answer, to so many; they have left the table."""
        self.told.append(message)
        self.untold -= count
        if not self.untold:
            self.ring()

    def fail(self, number: int, error: Exception) -> None:
        """There will be no answer to this one, which has left the table."""
        self.failed[number] = error
        self.untold -= 1
        if not self.untold:
            self.ring()

    def ring(self) -> None:
        """Wake who waits, if anybody does."""
        if self.bell is not None:
            bell, self.bell = self.bell, None
            bell.set()

    def again(self) -> bool:
        """Whether some were not sent: they are the requests from now on."""
        unsent = [number for number, error in self.failed.items() if isinstance(error, Unsent)]
        if not unsent:
            return False
        for number in unsent:
            del self.failed[number]
        self.requests = [self.request(number) for number in unsent]
        self.numbers, self.untold = unsent, len(unsent)
        return True

    def request(self, number: int) -> Any:
        """The request with this id."""
        if self.singles is None:
            self.singles = {each.id: each for each in singly(self.requests)}
        return self.singles[number]

    def answer(self) -> Message:
        """That to the only request; raises the error in its place."""
        if self.failed:
            raise self.failed[self.first]
        return self.told[0]


def answered(table: dict[int, Batch], messages: Sequence[Any]) -> list[Any]:
    """Hand answers to whoever awaits them, and return what is no answer to anything; what is the wrong one
    is found out when it is read."""
    stray: list[Any] = []
    for message in messages:
        singles = (message,)
        if type(message) in ANSWERED_MANY:
            numbers = message.ids
            batches = set(map(table.get, numbers))
            batch = batches.pop() if len(batches) == 1 else None
            # One request is answered singly; a number that is named twice is nobody's the second time.
            if batch is not None and 1 < len(numbers) == len(set(numbers)):
                for number in numbers:
                    del table[number]
                batch.hear(message, len(numbers))
                continue
            singles = message.single()
        for single in singles:
            batch = table.pop(getattr(single, "id", 0), None)  # no request is number 0
            if batch is None:
                stray.append(single)
            else:
                batch.hear(single)
    return stray


def overdue(table: dict[int, Batch], now: float, way: object = None) -> list[tuple[int, Batch]]:
    """Take those out that were sent this way and whose deadline has passed; by `math.inf` that of all has."""
    late = [(number, batch) for number, batch in table.items() if batch.deadline < now and batch.way is way]
    for number, _ in late:
        del table[number]
    return late


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


class Lesson:
    """What a session asks: each request as it sends it, and what it learns from the answers. `lock`: whoever
    holds it looks at the session."""

    def __init__(self, seen: Session, asking: Asking, lock: AbstractContextManager[object]) -> None:
        self._seen = seen
        self._asking = asking
        self._lock = lock
        self._begun: dict[int, Message] = {}
        self.asks = asking.asks
        self.timeout_s = asking.timeout_s

    def requests(self, first: int, failed: dict[int, Exception]) -> list[Message]:
        for request in singly(self._asking.requests(first, failed)):
            try:
                with self._lock:
                    self._begun[request.id] = self._seen.begin(request)
            except SessionFull as error:
                failed[request.id] = error
        return list(self._begun.values())

    def end(self, batch: Batch | None) -> None:
        """Once: the session has set room aside for each request, and gives it back here."""
        told: dict[int, Any] = {}
        if batch is not None:
            told = batch.failed | {answer.id: answer for answer in singly(batch.told)}
        with self._lock:
            for number, request in self._begun.items():
                self._seen.end(request, told.get(number))


class SessionChannel:
    """A channel that tells nodes what a session has seen, and the session what nodes answer."""

    def __init__(self, channel: Channel, seen: Session) -> None:
        self._channel = channel
        self._seen = seen
        self.members = channel.members
        self.cluster = channel.cluster
        self.rules = channel.rules
        self.closed = False

    async def ready(self, deadline: float) -> None:
        if self.closed:
            raise InvalidRequest(ENDED)
        await self._channel.ready(deadline)
        # The endpoint that answers may by now be of another cluster than the one that was seen.
        check_cluster(self._seen.cluster, self._channel.cluster)

    async def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> Batch:
        if self.closed:
            raise InvalidRequest(ENDED)
        lesson, batch = Lesson(self._seen, asking, nullcontext()), None
        try:
            batch = await self._channel.ask(lesson, deadline, self._seen.cluster)
            return batch
        finally:
            lesson.end(batch)

    @property
    def addresses(self) -> Mapping[str, str]:
        return self._channel.addresses

    def elsewhere(self, endpoint: str, timeout_s: float) -> AbstractAsyncContextManager[Channel]:
        return self._channel.elsewhere(endpoint, timeout_s)

    async def aclose(self) -> None:
        """The session ends; the channel below goes on."""
        self.closed = True
