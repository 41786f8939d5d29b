"""Leases: what the register of a lock holds, and for how long it says so. Pure.

A *lease* (Gray and Cheriton, 1989) is a lock that its holder must renew. Each lock is a register in a bucket
that clients do not see (LOCKS), and says who has it, and how often it was taken: that number is the *token*
of the lease (Burrows, "The Chubby lock service", 2006: a sequencer).

    n1 takes "jobs", 10 s     n1, token 1
    n1 renews every 3.3 s     the same, under a new version of the register each time
    n1 is gone                the version stands still. Whoever has seen it do so for 12.5 s by his own clock
                              takes its place: n2, token 2
    n1 lives on               it stopped believing in its lease 7.5 s after it had sent its last renewal
    n2 gives it back          nobody, token 2: the row stays, so that the next one is 3

No clock is compared with another, only how fast they go: one that is a third faster or slower than another
does no harm. Versions would not do for tokens: a write is known by the first ballot under which it was
proposed, so one that was long on its way has a version below that of a lease before it.

*Ephemeral* keys stand in the row of the lock: who ends a lease, whoever it is, deletes them in the same
transaction. Owns this form, and these times.
"""

from typing import Final, NamedTuple, Self

import cbor2

from basestore.repair.version import VERSION_BYTES, Record

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
TOKEN_LIMIT: Final = 1 << 63


class Holding(NamedTuple):
    """What the register of a lock holds. `token`: how often it was taken; `holder`: drawn by whoever has it,
    empty if nobody has; `owner`: for people; `since_ms`: when it was taken, as milliseconds since 1970 by the
    holder's clock, also for people. `keys`: ephemeral ones, with buckets."""

    token: int
    holder: bytes
    owner: str
    lease_ms: int
    since_ms: int
    keys: tuple[tuple[str, bytes], ...] = ()

    def encode(self) -> bytes:
        return cbor2.dumps([*self[:5], [list(key) for key in self.keys]])

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Inverse of `encode`; ValueError for anything else."""
        try:
            token, holder, owner, lease_ms, since_ms, keys = cbor2.loads(value)
            told = tuple((str(bucket), bytes(key)) for bucket, key in keys)
            holding = cls(int(token), bytes(holder), str(owner), int(lease_ms), int(since_ms), told)
        except (cbor2.CBORError, TypeError, ValueError, EOFError) as error:
            raise ValueError(f"this is no row of a lock: {error}") from error
        if not 0 < holding.token < TOKEN_LIMIT or holding.lease_ms <= 0:
            raise ValueError("this is no row of a lock: it names no token, or no time")
        return holding

    @property
    def free(self) -> "Holding":
        """What stands there when it is given back, or ended."""
        return Holding(self.token, b"", "", self.lease_ms, self.since_ms)


def encode_token(token: int) -> bytes:
    """As `Commit` expects one, in place of a version."""
    return token.to_bytes(VERSION_BYTES)


def token_held(record: Record | None) -> int:
    """The token of whoever has the lock, by what its register holds; 0 if nobody has it."""
    if record is None or record.tombstone or record.intent:
        return 0
    try:
        holding = Holding.decode(record.value)
    except ValueError:
        return 0
    return holding.token if holding.holder else 0
