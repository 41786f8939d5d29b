"""Lock view: who holds a lock, and since when, for people. Pure."""

from typing import Any, NamedTuple, Self

from basestore.leases import Holding
from basestore.results.answers import encode_text
from basestore.results.receipts import Item, ReadResult


class LockView(NamedTuple):
    """A lock that is held, or was by a holder that may have died, and that nobody has ended yet.

    owner     as its holder has called itself
    token     of the lease; `since_ms`: when it was taken, by the clock of the holder (ms since 1970)
    seconds   for which it is held, if it is not renewed
    keys      ephemeral ones, with their buckets
    """

    name: bytes
    owner: str
    token: int
    since_ms: int
    seconds: float
    keys: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, name: bytes, found: Item | ReadResult) -> Self | None:
        """By its register; None if nobody holds it."""
        try:
            row = Holding.decode(found.value or b"")
        except ValueError:
            return None
        if not row.holder:
            return None
        return cls(name, row.owner, row.token, row.since_ms, row.lease_ms / 1e3, row.keys)

    @property
    def fence(self) -> str:
        """As `--fence` takes it."""
        return f"{self.name.decode('utf-8', 'surrogateescape')}:{self.token}"

    def as_json(self) -> dict[str, Any]:
        """As `basestore locks -o json` prints it."""
        name, encoding = encode_text(self.name)
        keys = [{"bucket": bucket, "key": encode_text(key)[0]} for bucket, key in self.keys]
        told = {"lock": name, "lock_encoding": encoding, "owner": self.owner, "token": self.token}
        return {**told, "since_ms": self.since_ms, "seconds": self.seconds, "ephemeral": keys}
