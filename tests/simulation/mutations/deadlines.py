"""Bugs of deadlines: answers that come late, twice or never."""

from typing import Any

from basestore.cluster.operations import Operations
from basestore.cluster.outbox import SMALL_BYTES, Outbox
from basestore.coordinator.quorum_read import QuorumRead
from basestore.protocol.client import Failed
from tests.simulation.mutations.registry import mutant


@mutant("a deadline ignored", {"deadlines"}, Operations, "alarm_at")
def _no_alarm(self: Any, request: int, monotonic: float) -> None:
    pass


_alarm = QuorumRead.alarm


@mutant("a read that waits for ever", {"deadlines"}, QuorumRead, "alarm")
def _wait_on(self: Any, now: Any) -> None:
    if now.monotonic < self._deadline:
        _alarm(self, now)


_put = Outbox.put


@mutant("an outbox that wakes nobody", {"deadlines", "answers"}, Outbox, "put")
def _put_silently(self: Any, message: Any, size: int = SMALL_BYTES, answers: int = 1) -> bool:
    ready = self in self._ready
    done = _put(self, message, size, answers)
    if not ready and isinstance(message, Failed):
        self._ready.discard(self)
    return done
