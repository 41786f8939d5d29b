"""Fence: a write that is done only while a lock is held under a certain lease. Pure.

A holder that was stopped and goes on may write after another has taken its place: it does not know better.
So its write names the token of its lease (Kleppmann, "How to do distributed locking", 2016), and is made in
one transaction with a look at the lock:

    n1 has "jobs" under token 1, and is stopped
    n2 takes "jobs", under token 2
    n1 writes k, fenced with jobs:1         FencedOff: nothing is done
    n2 writes k, fenced with jobs:2         stored, and n2 still had the lock then

Nothing is remembered of it in the key: so nothing is forgotten when that is deleted.
"""

from typing import NamedTuple, Protocol

from basestore.client.coordination.transaction import Place, Row, Write
from basestore.errors import InvalidRequest
from basestore.leases import LOCKS, TOKEN_LIMIT, encode_token
from basestore.protocol.client import DELETE, HELD, HOLDS_NOTHING, IF_ABSENT, IF_VALUE, IF_VERSION, SET


class Held(Protocol):
    """A lease, or what is like one."""

    @property
    def name(self) -> bytes: ...

    @property
    def token(self) -> int: ...


class Token(NamedTuple):
    """A lock's name, and the token of a lease of it."""

    name: bytes
    token: int

    @classmethod
    def parse(cls, text: str) -> "Token":
        """LOCK:TOKEN; InvalidRequest."""
        name, _, token = text.rpartition(":")
        if not name or not (token.isascii() and token.isdigit()) or not 0 < int(token) < TOKEN_LIMIT:
            raise InvalidRequest(f"a fence is LOCK:TOKEN, as jobs:7 (`basestore locks`), not {text!r:.80}")
        return cls(name.encode("utf-8", "surrogateescape"), int(token))


Fence = Held | str


def fence_row(fence: Fence) -> Row:
    """What the lock of a lease must be, for what stands in the same transaction to be done."""
    if isinstance(fence, str):
        fence = Token.parse(fence)
    if not hasattr(fence, "name") or not hasattr(fence, "token"):
        raise InvalidRequest(f"a fence is a lease, or text as LOCK:TOKEN; not {fence!r:.80}")
    return Row(LOCKS, fence.name, HELD, encode_token(fence.token), b"", 0)


def fenced_rows(
    place: Place, write: Write, condition: tuple[int, bytes], fence: Fence, *, plain: bool
) -> list[Row]:
    """Of one write, under a condition as of `Set`. Not `plain`: it is to be repeated, or deferred."""
    if not plain:
        raise InvalidRequest(
            "a write that is fenced can neither be repeated as itself nor deferred: read what became of it, "
            "and write anew"
        )
    kind, compared = condition
    if kind == IF_VALUE:
        raise InvalidRequest(
            "a write that is fenced depends on no value: compare with the version that the key holds "
            "(if_version, --if-version), or with none (if_absent)"
        )
    expected = {IF_ABSENT: HOLDS_NOTHING, IF_VERSION: compared}.get(kind, b"")
    what = DELETE if write.value is None else SET
    return [Row(*place, what, expected, write.value or b"", write.ttl_ms), fence_row(fence)]
