"""Channel: what carries the requests of an asynchronous store to a node, and the answers back.

There are two: over connections (`network_channel.py`), and to a node in this very process (`embedded.py`).
What a session puts before either names its floors in the requests, and learns from the answers; what retries
(`retrying.py`) asks again.

Each connection, blocking or not, keeps a table of the requests under way, by id, and so does the way to a
node in this process. What one caller asks together is a batch, which stands there under each of its ids. An
entry leaves it exactly once, by whatever comes first: the answer, an error that is put in its place, or that
nobody waits any more. An answer that comes later finds no entry, and is dropped. An example, of one
connection:

    ask           id 7 enters the table; the request is on its way
    answer to 7   its entry leaves, and who has asked gets the answer
    cancelled     had its caller been cancelled before, the entry had left then; the answer means nothing
    late          had its time passed before, the caller had got ReadTimeout or WriteTimeout
    shed          had the node had too much to do, the caller had got Overloaded
    lost          had the connection broken before, the caller had got ConnectionLost; and if the request had
                  not been sent by then, it would have been asked anew, over another connection

A call has one deadline, a moment of `time.monotonic`: it bounds what is done until the request is sent, the
node is told what is left by then, and the answer is waited for a little longer.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any, Final, Protocol

from basestore.client.calls import Asking
from basestore.client.coordination.batch import NO_SESSION as NO_BATCHES
from basestore.client.coordination.transaction import NO_SESSION
from basestore.client.session import Session, check_cluster
from basestore.errors import (
    RETRY_MS_MAX,
    InvalidRequest,
    Overloaded,
    SessionFull,
)
from basestore.protocol.client import Commit, Credit, Failed, Get, Got, Shed, WriteBatch, Written
from basestore.protocol.codec import Message
from basestore.protocol.envelopes import ADMIN, class_of
from basestore.protocol.groups import Found, Stored, requested, singly
from basestore.protocol.handshake import Goodbye, Meant, Names, Renewed, Rules, rules_of
from basestore.transport.window import Bell, Window

ANSWERED_MANY = (Stored, Found)
NO_RULES: Final = Rules()
ENDED: Final = "this session has ended; go on from its token in another one"
Renew = Callable[[Renewed], None]
ANSWERED_ONE = frozenset((Got, Written))


class Unsent(Exception):
    """The connection ended before the request was sent. It is asked anew."""


class Channel(Protocol):
    """Carries requests to one node. Of its cluster, once it is ready: the names of the members, the id,
    and the rules of its buckets."""

    @property
    def members(self) -> Names: ...

    @property
    def cluster(self) -> bytes: ...

    @property
    def rules(self) -> Rules: ...

    async def addresses(self, deadline: float) -> Mapping[str, str]:
        """Where the members listen, by name, in their order, as far as the node knows by now."""

    def elsewhere(self, member: Meant, timeout_s: float) -> "AbstractAsyncContextManager[Channel]":
        """A channel to this member alone, for the length of a block; Unreachable, also if another answers."""

    async def aclose(self) -> None:
        """Carry nothing any more."""

    async def ready(self, deadline: float) -> None:
        """Until requests can be sent; Unreachable, at the deadline at the latest."""

    async def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> "Batch":
        """Send requests, anew where a connection ended before it had sent them, and wait until each has its
        answer, or an error in the place of one. Unreachable; Overloaded when too many are under way;
        InvalidRequest when they may not last as long as they are to. With the id of a cluster, also when the
        node belongs to another."""


class Batch:
    """Requests that one caller has asked together, and what was told of them.

    first     id of the first; the others have those that follow, up to `last`
    requests  as they are sent, in groups or singly; without those that cannot be made
    size      bytes of their keys and values
    told      answers, by columns or singly
    failed    errors in the place of answers, by id
    untold    how many lack both
    rules     of the buckets, as the node had told of them when it was sent; `renewed`: for those answers that
              came behind other ones

    While it is under way it stands in a table, once for each id that is untold: sent at this moment, and
    given up at the deadline, by `time.monotonic`.
    """

    __slots__ = (
        "bell", "deadline", "failed", "first", "last", "numbers", "renewed", "requests", "rules", "sent",
        "singles", "size", "told", "untold",
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
        self.rules: Rules | None = None
        self.renewed: dict[int, Rules] = {}

    @property
    def urgent(self) -> bool:
        """Whether it is an operator's: that is never held back."""
        return class_of(self.requests[0]) == ADMIN

    def measure(self) -> int:
        """The bytes of its keys and values, as they are sent now."""
        request = self.requests[0]
        if type(request) is Get:  # there is one request mostly, and it is this one
            self.size = len(request.key)
        else:
            self.size = requested(request)[1]
        if len(self.requests) > 1:
            self.size = sum(requested(each)[1] for each in self.requests)
        return self.size

    def enter(
        self, table: "dict[int, Batch]", sent: float, deadline: float, bell: Bell | None = None
    ) -> None:
        """It is under way from now on."""
        self.bell = bell
        self.sent = sent
        self.deadline = deadline
        for number in self.numbers:
            table[number] = self

    def rules_of(self, number: int) -> Rules | None:
        """By which the node went when it answered the request with this id; None if it was not asked."""
        return self.renewed.get(number, self.rules)

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
    """Hand answers to whoever awaits them, and return what is no answer to anything, and what refuses one for
    there is too much to do; what is the wrong answer is found out when it is read."""
    stray: list[Any] = []
    for message in messages:
        if type(message) in ANSWERED_ONE:
            batch = table.pop(message.id, None)
            if batch is None:
                stray.append(message)
            else:
                batch.hear(message)
            continue
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
                if type(single) is Renewed:  # what is answered from here on goes by that
                    rules = rules_of(single.buckets)
                    for number, batch in table.items():
                        batch.renewed[number] = rules
            else:
                batch.hear(single)
                if type(single) is Failed and single.code == Overloaded.code and single.details:
                    stray.append(single)
    return stray


def hear(
    messages: Sequence[Any], table: dict[int, Batch], window: Window, endpoint: str, now_s: float,
    renew: Renew,
) -> bool:  # fmt: skip
    """Hand out what a node has said, and keep to what it takes. Returns whether it goes. `renew`: is told of
    the members and buckets that there are now."""
    before = len(table)
    stray = answered(table, messages)
    window.answered(before - len(table))
    return bool(stray) and heed(stray, table, window, endpoint, now_s, renew)


def heed(
    stray: Sequence[Any], table: dict[int, Batch], window: Window, endpoint: str, now_s: float, renew: Renew
) -> bool:
    """What a node says of itself and not of one request: how much it takes, and what of it was too much.
    Returns whether it goes."""
    goes = False
    for message in stray:
        if isinstance(message, Goodbye):
            goes = True
        elif isinstance(message, Renewed):
            renew(message)
        elif isinstance(message, Credit):
            window.told(message.window)
        elif isinstance(message, Failed | Shed):
            window.refused(now_s)
            if isinstance(message, Shed):
                window.told(message.window)
                shed(table, message, endpoint)
    return goes


def shed(table: dict[int, Batch], told: Shed, endpoint: str) -> None:
    """Take out what the node has refused. Whatever ranges it names, each id here is looked at once."""
    retry_after = min(max(0, told.retry_ms), RETRY_MS_MAX) / 1e3
    numbers = sorted(table)
    at = 0
    for first, count in sorted(zip(told.ranges[::2], told.ranges[1::2], strict=True)):
        at = max(at, bisect_left(numbers, first))
        while at < len(numbers) and numbers[at] < first + count:
            batch = table.pop(numbers[at])
            text = f"overloaded: {endpoint} is asked for more than it can do; nothing was done"
            batch.fail(numbers[at], Overloaded(text, retry_after))
            at += 1


def overdue(table: dict[int, Batch], now: float) -> list[tuple[int, Batch]]:
    """Take those out whose deadline has passed; by `math.inf` that of all has."""
    late = [(number, batch) for number, batch in table.items() if batch.deadline < now]
    for number, _ in late:
        del table[number]
    return late


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
            if isinstance(request, Commit):
                raise InvalidRequest(NO_SESSION)
            if isinstance(request, WriteBatch):
                raise InvalidRequest(NO_BATCHES)
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
                self._seen.end(request, told.get(number), batch.rules_of(number) if batch else None)


class SessionChannel:
    """A channel that tells nodes what a session has seen, and the session what nodes answer."""

    def __init__(self, channel: Channel, seen: Session) -> None:
        self._channel = channel
        self._seen = seen
        self.closed = False

    @property
    def members(self) -> Names:
        return self._channel.members

    @property
    def cluster(self) -> bytes:
        return self._channel.cluster

    @property
    def rules(self) -> Rules:
        return self._channel.rules

    async def ready(self, deadline: float) -> None:
        if self.closed:
            raise InvalidRequest(ENDED)
        await self._channel.ready(deadline)
        # The endpoint that answers may by now be of another cluster than the one that was seen.
        check_cluster(self._seen.cluster, self._channel.cluster)

    async def ask(self, asking: Asking, deadline: float, cluster: bytes = b"") -> Batch:
        if self.closed:
            raise InvalidRequest(ENDED)
        self._seen.learn(self._channel.rules)
        lesson, batch = Lesson(self._seen, asking, nullcontext()), None
        try:
            batch = await self._channel.ask(lesson, deadline, self._seen.cluster)
            return batch
        finally:
            lesson.end(batch)

    async def addresses(self, deadline: float) -> Mapping[str, str]:
        return await self._channel.addresses(deadline)

    def elsewhere(self, member: Meant, timeout_s: float) -> AbstractAsyncContextManager[Channel]:
        return self._channel.elsewhere(member, timeout_s)

    async def aclose(self) -> None:
        """The session ends; the channel below goes on."""
        self.closed = True
