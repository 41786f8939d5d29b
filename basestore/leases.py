"""Leases: what the register of a lock holds, and for how long it says so. Pure.

A *lease* (Gray and Cheriton, 1989) is a lock that its holder must renew. Each lock is a register in a bucket
that clients do not see (LOCKS), and holds who has it:

    n1 takes "jobs", 10 s     row of n1, version A: the *token* is A
    n1 renews every 3.3 s     row of n1, versions B, C, ...; it names A as its token
    n1 is gone                C stands still. Whoever has seen it do so for 12.5 s by his own clock takes its
                              place: row of n2, version X > A: the token is X
    n1 lives on               it stopped believing in its lease 7.5 s after it had sent the renewal C

No clock is compared with another, only how fast they go: one that is a third faster or slower than another
does no harm. A token is greater than all before it, as versions of a register are: so who guards something by
itself keeps the greatest token that it was shown (Burrows, "The Chubby lock service", 2006: a sequencer).

*Ephemeral* keys stand in the row of the lock: who ends a lease, whoever it is, deletes them in the same
transaction. Owns this form, and these times.
"""

from typing import Final, NamedTuple, Self

import cbor2

from basestore.repair.version import VERSION_BYTES, Record, Version

LOCKS: Final = "\1locks"  # the bucket, by a name that no user can give
BUCKET: Final = "cas"  # of ephemeral keys, if none is named
EPHEMERAL_MAX: Final = 64
BELIEVED: Final = 0.75  # of a lease, from when its last renewal was sent, its holder goes by it
RENEWED: Final = 1 / 3  # likewise, until the next renewal
ENDED: Final = 1.25  # likewise, from when it is first seen unchanged, until others end it
SECONDS_MIN: Final = 0.5
SECONDS_MAX: Final = 600.0
OWNER_BYTES_MAX: Final = 1024
HOLDER_BYTES: Final = 16


class Holding(NamedTuple):
    """What the register of a lock holds. `holder`: drawn by whoever has taken it; `owner`: for people;
    `since_ms`: when it was taken, as milliseconds since 1970 by the holder's clock, also for people. `token`:
    the version of the first of its rows, encoded; empty in that. `keys`: ephemeral ones, with buckets."""

    holder: bytes
    owner: str
    lease_ms: int
    since_ms: int
    token: bytes = b""
    keys: tuple[tuple[str, bytes], ...] = ()

    def encode(self) -> bytes:
        return cbor2.dumps([*self[:5], [list(key) for key in self.keys]])

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Inverse of `encode`; ValueError for anything else."""
        try:
            holder, owner, lease_ms, since_ms, token, keys = cbor2.loads(value)
            told = tuple((str(bucket), bytes(key)) for bucket, key in keys)
            holding = cls(bytes(holder), str(owner), int(lease_ms), int(since_ms), bytes(token), told)
        except (cbor2.CBORError, TypeError, ValueError, EOFError) as error:
            raise ValueError(f"this is no row of a lock: {error}") from error
        if len(holding.token) not in (0, VERSION_BYTES) or holding.lease_ms <= 0:
            raise ValueError("this is no row of a lock: it names no token, or no time")
        return holding

    def token_of(self, known_as: bytes) -> bytes:
        """The token of the lease, by the version of the row."""
        return self.token or known_as


def token_held(record: Record | None) -> bytes:
    """The token of whoever has the lock, by what its register holds; nothing if nobody has it."""
    if record is None or record.tombstone or record.intent:
        return b""
    try:
        return Holding.decode(record.value).token_of(record.known_as)
    except ValueError:
        return b""


def token_text(token: bytes) -> str:
    return str(Version.decode(token))
