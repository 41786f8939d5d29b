"""Outbox: messages on their way to one place, until somebody takes them as a frame.

The state machine puts, the network takes. What gathers between two takes travels as one frame.
"""

from basestore.messages import BATCH_MESSAGES_MAX, Message

OUTBOX_BYTES_MAX = 32 << 20
FRAME_TARGET_BYTES = 4 << 20
SMALL_BYTES = 256


class Outbox:
    """A bounded queue. `ready` is shared by all outboxes of a node: those that hold something."""

    __slots__ = ("_ready", "_sizes", "bytes", "closed", "messages", "overflowed")

    def __init__(self, ready: "set[Outbox]") -> None:
        self._ready = ready
        self._sizes: list[int] = []
        self.messages: list[Message] = []
        self.bytes = 0
        self.closed = False
        self.overflowed = False

    def put(self, message: Message, size: int = SMALL_BYTES) -> bool:
        """Queue a message of at most `size` encoded bytes. False when closed or full; what cannot
        be queued is the caller's to answer for, and `overflowed` says so to whoever sends."""
        if self.closed:
            return False
        if self.bytes > OUTBOX_BYTES_MAX:
            self.overflowed = True
            self._ready.add(self)
            return False
        self.messages.append(message)
        self._sizes.append(size)
        self.bytes += size
        self._ready.add(self)
        return True

    def take(self) -> list[Message]:
        """The next frame's messages, oldest first, about `FRAME_TARGET_BYTES` at most."""
        if self.bytes <= FRAME_TARGET_BYTES and len(self.messages) <= BATCH_MESSAGES_MAX:
            taken = self.messages
            self.messages = []
            self._sizes = []
            self.bytes = 0
            return taken
        count = size = 0
        while count < min(len(self.messages), BATCH_MESSAGES_MAX) and size < FRAME_TARGET_BYTES:
            size += self._sizes[count]
            count += 1
        taken = self.messages[:count]
        del self.messages[:count], self._sizes[:count]
        self.bytes -= size
        return taken

    def close(self) -> None:
        """Drop what is queued and take no more."""
        self.closed = True
        self.messages = []
        self._sizes = []
        self.bytes = 0
        self._ready.discard(self)
