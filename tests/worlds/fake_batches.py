"""A node that takes atomic batches: it does all of them, but for what it is told to fail."""

from basestore.errors import InvalidRequest, OutcomeUnknown, RequestFailed, Unavailable
from basestore.protocol.client import BatchWritten, Failed, WriteBatch
from basestore.protocol.codec import Message
from basestore.repair.version import Identity, Version

VERSION = Version(7 << 16, 9, 1)
CHECK = b"c" * 8
UNKNOWN = OutcomeUnknown("unknown: its time was over; the batch is all or nothing in the end", None, None)
GIVEN_UP = Unavailable.because("the batch was given up: nothing of it was applied")


class Batches:
    """What it was asked. `fails`: one error for each of the next; one of the batch names it, one
    of the attempt does not. `deaf`: no answer comes."""

    def __init__(self) -> None:
        self.asked: list[WriteBatch] = []
        self.fails: list[RequestFailed | InvalidRequest] = []
        self.deaf = False

    def __call__(self, request: Message) -> Message | None:
        if not isinstance(request, WriteBatch):
            return None
        self.asked.append(request)
        if self.deaf:
            return None
        identity = Identity(request.identity[:8], VERSION, CHECK).encode()
        if self.fails:
            return self._fail(request, identity, self.fails.pop(0))
        count = len(request.keys)
        return BatchWritten(request.id, identity, [VERSION.encode()] * count, [0] * count, [2] * count)

    @staticmethod
    def _fail(request: WriteBatch, identity: bytes, error: RequestFailed | InvalidRequest) -> Failed:
        details = list(map(str, error.details())) if isinstance(error, RequestFailed) else []
        names = error is UNKNOWN or error is GIVEN_UP
        return Failed(request.id, error.code, str(error), identity if names else b"", details)
