"""Channel: what carries the requests of an asynchronous store to a node, and the answers back.

A connection (`connection.py`) or a node in this very process (`embedded.py`); and what a session puts
before either, to name its floors and to learn from the answers.
"""

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, Protocol

from basestore.client.session import ENDED, Session, check_cluster
from basestore.errors import InvalidRequest
from basestore.protocol.codec import Message
from repair.rule import Rule


class Answer(Awaitable[Message], Protocol):
    """A request that was sent. Awaiting it gives the answer; a cancelled await forgets it."""

    def forget(self) -> None:
        """Nobody will await it (any more)."""


class Channel(Protocol):
    """Carries requests to one node. Of its cluster, once it is ready: the names of the members, the id, and
    the rules of its buckets."""

    members: Sequence[str]
    cluster: bytes
    rules: Mapping[str, Rule]

    async def ready(self) -> None:
        """Until requests can be sent; Unreachable."""

    def ask(self, make: Callable[[int], Message], timeout_s: float) -> Answer:
        """Send the request that `make` makes with an id, at once; await the result for the answer.
        ConnectionLost when none comes. Overloaded when too many requests are under way."""


class _Lesson(Awaitable[Message]):
    """A request of a session that was sent. The session learns from its answer when that is awaited."""

    def __init__(self, seen: Session, request: Message, answer: Answer) -> None:
        self._seen = seen
        self._request = request
        self._answer = answer
        self._ended = False

    def _end(self, answer: Message | None) -> None:
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
        check_cluster(self._seen.cluster, self._channel.cluster)

    def ask(self, make: Callable[[int], Message], timeout_s: float) -> Answer:
        begun: list[Message] = []

        def begin(request: int) -> Message:
            begun.append(self._seen.begin(make(request)))
            return begun[0]

        answer = self._channel.ask(begin, timeout_s)
        return _Lesson(self._seen, begun[0], answer)
