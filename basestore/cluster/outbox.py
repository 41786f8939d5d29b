"""Outbox: messages on their way to one place, until somebody takes them as a frame.

The state machine puts, the network takes; what gathers between two takes travels as one frame. Owns the order
of the messages and the bound on their bytes. It refuses to wait: what does not fit is the caller's to answer
for, and a peer whose outbox ran over loses its link, so that nothing is missing from one unnoticed.
"""

from typing import Any

from basestore.protocol.codec import Message
from basestore.protocol.limits import BATCH_MESSAGES_MAX, WIRE_HIGHEST

OUTBOX_BYTES_MAX = 32 << 20
FRAME_TARGET_BYTES = 4 << 20
SMALL_BYTES = 256


class Outbox:
    """A bounded queue. `ready`, shared by all outboxes of a node: those that were empty and got
    something since the driver last cleared it. `version`: of the wire, that who takes it from here speaks."""

    __slots__ = ("_bytes_max", "_ready", "bytes", "closed", "messages", "overflowed", "version")

    def __init__(self, ready: "set[Outbox]", bytes_max: float = OUTBOX_BYTES_MAX) -> None:
        self._ready = ready
        self._bytes_max = bytes_max
        self.messages: list[Message] = []
        self.bytes = 0
        self.closed = False
        self.overflowed = False
        self.version = WIRE_HIGHEST

    def put(self, message: Message, size: int = SMALL_BYTES, answers: int = 1) -> bool:
        """Queue a message of at most `size` encoded bytes. False when closed or full; what cannot
        be queued is the caller's to answer for, and `overflowed` says so to whoever sends. `answers`: to so
        many requests, if it goes to a client: counted by the intake, on its way here (`intake/caller.py`)."""
        if self.closed:
            return False
        # What is queued is compared, without the new message: so one of any size fits when there is room at
        # all.
        if self.bytes > self._bytes_max:
            self.overflowed = True
            self._ready.add(self)
            return False
        if not self.messages:
            self._ready.add(self)
        self.messages.append(message)
        self.bytes += size
        return True

    def release(self) -> None:
        """What a client has asked waits for something to happen: it takes none of what there is room for. Its
        answer counts as none."""

    @property
    def roomy(self) -> bool:
        """Whether there is room for answers with values. The rest is for small messages: a link that
        is full of values must still carry acknowledgements."""
        return self.bytes <= self._bytes_max / 2

    def take(self) -> list[Message]:
        """The next frame's messages, oldest first, about `FRAME_TARGET_BYTES` at most."""
        taken = self.messages
        if self.bytes <= FRAME_TARGET_BYTES and len(taken) <= BATCH_MESSAGES_MAX:
            self.messages = []
            self.bytes = 0
            return taken
        count = size = 0
        for message in taken[:BATCH_MESSAGES_MAX]:
            more = weight(message)
            if count and size + more > FRAME_TARGET_BYTES:  # a frame must not grow beyond what links bear
                break
            size += more
            count += 1
        self.messages = taken[count:]
        # `put` was told sizes, `weight` counts: the two need not add up.
        self.bytes = max(0, self.bytes - size) if self.messages else 0
        return taken[:count]

    def close(self) -> None:
        """Drop what is queued and take no more."""
        self.closed = True
        self.messages = []
        self.bytes = 0
        self._ready.discard(self)


def weight(message: Message) -> int:
    """About how many bytes a message takes, at most: what its strings and lists add up to."""
    size = SMALL_BYTES
    for field in message:
        if isinstance(field, list):
            # All elements of a list are of one type.
            size += 9 * len(field) if field and type(field[0]) is int else sum(map(_weight_of_element, field))
        elif isinstance(field, bytes | str):
            size += len(field)
    return size


def _weight_of_element(element: Any) -> int:
    kind = type(element)
    if kind is str or kind is bytes:
        return len(element) + 9
    if not isinstance(element, tuple):
        return 9
    size = 0
    for field in element:  # most are of rows of texts, and there may be thousands of those
        kind = type(field)
        size += len(field) + 9 if kind is str or kind is bytes else _weight_of_element(field)
    return size
