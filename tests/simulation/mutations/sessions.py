"""Bugs of sessions: what a client has seen, and what it asks for because of that."""

from typing import Any

from basestore.client.session import Session
from basestore.protocol.client import Get, Got, Written
from tests.simulation.mutations.registry import mutant

SESSION = {"sessions"}
_begin = Session.begin


@mutant("a session asks for no floor", SESSION, Session, "begin")
def _no_floor(self: Any, request: Any) -> Any:
    begun = _begin(self, request)
    return begun._replace(floor=b"") if isinstance(begun, Get) else begun


_end = Session.end


@mutant("a session does not learn from its own writes", SESSION, Session, "end")
def _forget_writes(self: Any, request: Any, answer: Any, rules: Any = None) -> None:
    _end(self, request, None if isinstance(answer, Written) else answer, rules)


@mutant("a session does not learn from what it reads", SESSION, Session, "end")
def _forget_reads(self: Any, request: Any, answer: Any, rules: Any = None) -> None:
    _end(self, request, answer._replace(version=b"") if isinstance(answer, Got) else answer, rules)


_forget = Session._forget


@mutant("a session forgets what is not stable yet", SESSION, Session, "_forget")
def _forget_soon(self: Any, place: Any, stable: int) -> None:
    _forget(self, place, (1 << 64) - 1)


@mutant("the latest answer is the newest", SESSION, Session, "_newer", "sessions")
def _latest(self: Any, bucket: str, version: bytes, known: bytes) -> bytes:
    return version or known


@mutant("in every bucket the greater version is the newer", SESSION, Session, "_newer", "sessions")
def _greatest(self: Any, bucket: str, version: bytes, known: bytes) -> bytes:
    return max(version, known)


@mutant("a scan is believed whatever the session has seen", SESSION, Session, "doubtful", "sessions")
def _no_doubts(self: Any, *page: Any) -> list[bytes]:
    return []
