"""A fake node's answers to watches, one after the other, and what it was asked."""

from collections import deque
from collections.abc import Iterable
from typing import Any

from basestore.errors import InvalidRequest, RequestFailed
from basestore.protocol.client import Failed, Watch, Watched
from basestore.protocol.codec import Message
from basestore.repair.version import VERSION_BYTES, Version

FEED = 7
STAMP = 1_760_000_000_000 << 16


def meta(stamp: int, *, deleted: bool = False, expires_ms: int = 0) -> bytes:
    """What is said of a change beside its key and value."""
    version = Version(stamp, 1, 1).encode()
    assert len(version) == VERSION_BYTES
    return version * 2 + expires_ms.to_bytes(8) + bytes((deleted,))


class Feeds:
    """It says these, and then nothing any more. An answer is a `Watched` without an id, or an error."""

    def __init__(self, answers: Iterable[Watched | InvalidRequest | RequestFailed]) -> None:
        self.asked: list[Watch] = []
        self._answers = deque(answers)

    def __call__(self, request: Any) -> Message | None:
        if not isinstance(request, Watch):
            return None
        self.asked.append(request)
        if not self._answers:
            return None
        answer = self._answers.popleft()
        if isinstance(answer, Watched):
            return answer._replace(id=request.id)
        details = answer.details() if isinstance(answer, RequestFailed) else ()
        return Failed(request.id, answer.code, str(answer), b"", [str(word) for word in details])


def watched(*rows: bytes, feed: int = FEED, gap: int = 0, token: str = "", stable: int = 0) -> Watched:
    return Watched(0, feed, list(rows), gap, token, stable, 0)
