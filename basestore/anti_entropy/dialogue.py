"""Dialogue: what the two sides of one anti-entropy exchange say to each other, in order.

Each message is numbered, and leaves only once all that is stored by then is durable: so nothing is proven
that a crash could take back. A message that comes twice is heard once; one that is lost ends the exchange,
for nothing is sent again.

The two sides of an exchange are *stories*: generators that whoever runs them (`exchanges.py`) resumes. A
story yields how many rows it has just worked on, to let others run, or None while it waits for a message:

    answer = yield from dialogue.next(Same, Listing)      waits; Broken if something else comes
    for slice in slices: ...; yield len(slice)            works, a slice at a time

How an exchange may end without a result is said by exceptions, all of them `Broken`.
"""

from collections import deque
from collections.abc import Generator
from typing import Any, TypeVar

from basestore.cluster.outbox import SMALL_BYTES, Outbox, weight
from basestore.metrics import Metrics
from basestore.protocol.anti_entropy import Syn
from basestore.protocol.codec import Message
from basestore.replica.group_commit import GroupCommit

INBOX_MAX = 512  # the longest list has 256 parts

T = TypeVar("T")
Story = Generator[int | None, None, T]


class Broken(Exception):
    """The exchange ends here, without a result."""


class Mismatch(Broken):
    """Both virtual roots are known, on both sides, and differ: something was silently lost or altered."""


class RolledBack(Broken):
    """The other side has a certificate of more than this store has ever held: it has lost something."""


class Dialogue:
    """One side's view of it. `number` names the exchange on its link; `inbox` holds what was said and not
    yet heeded; `unsent` counts what still waits here for durability."""

    __slots__ = (
        "_ended", "_group_commit", "_heard", "_metrics", "_sent", "inbox", "number", "outbox", "unsent",
    )  # fmt: skip

    def __init__(self, number: int, outbox: Outbox, group_commit: GroupCommit, metrics: Metrics) -> None:
        self.number = number
        self.outbox = outbox
        self.inbox: deque[Message] = deque()
        self._group_commit = group_commit
        self._metrics = metrics
        self._sent = 0
        self._heard = 0
        self._ended = False
        self.unsent = 0

    @property
    def silent(self) -> bool:
        """Whether the other side has said nothing yet."""
        return not self._heard

    @property
    def cramped(self) -> bool:
        """Whether the disk of this side has next to no room."""
        return self._group_commit.cramped

    def say(self, message: Message) -> None:
        """Send a message, with its number; a Syn, which begins all, has none."""
        if not isinstance(message, Syn):
            # Numbered now, though it leaves later: what waits for durability keeps its order.
            self._sent += 1
            message = message._replace(number=self._sent)
        size = weight(message)
        self._metrics.count("exchange_bytes_sent", size - SMALL_BYTES)
        self.unsent += 1
        self._group_commit.when_durable(lambda: self._leave(message, size))

    def _leave(self, message: Message, size: int) -> None:
        self.unsent -= 1
        if not self._ended:  # otherwise the other side was told, or will be
            self.outbox.put(message, size)

    def end(self) -> None:
        """The exchange has ended without a result: what has not left yet is not said any more."""
        self._ended = True

    def hear(self, message: Message, number: int) -> None:
        """A message of the other side; Broken when the one before it has not come."""
        if number <= self._heard:
            return
        if number != self._heard + 1:
            raise Broken("a message was lost")
        if len(self.inbox) >= INBOX_MAX:
            raise Broken("more was said than was asked for")
        self._heard = number
        self.inbox.append(message)

    def next(self, *kinds: type[Any]) -> Story[Any]:
        """Wait for the next message, which is of one of these kinds; Broken when it is not."""
        while not self.inbox:
            yield None
        message = self.inbox.popleft()
        if not isinstance(message, kinds):
            raise Broken(f"a {type(message).__name__} message came out of turn")
        return message
