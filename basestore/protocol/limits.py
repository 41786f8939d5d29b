"""Limits of what may be said, and the error for whatever breaks them. Units stand last in the names.

Owns the numbers that both sides of a connection must agree on; limits that a configuration may set are in
`config`. Checks nothing itself.
"""

from typing import Final

# Versions of the wire: what was spoken before the lowest is refused, and never again will one be.
WIRE_LOWEST: Final = 8
WIRE_HIGHEST: Final = 13
WIRE_MAX: Final = 65535
SERIAL_SINCE: Final = 12  # version, and so feature level, from which on buckets' rules may be serial
TRANSACTIONS_SINCE: Final = 13  # likewise, from which on transactions lay intents
TRANSACTION_KEYS_MAX: Final = 100
TRANSACTION_BYTES_MAX: Final = 1024 * 1024  # of its keys and values
BATCHES_SINCE: Final = 13  # likewise, from which on several keys are written as an atomic batch
BATCH_KEYS_MAX: Final = 100
BATCH_BYTES_MAX: Final = 1024 * 1024  # of its keys and values
WATCH_SINCE: Final = 13  # likewise, from which on changes are watched
ADDRESS_CHARACTERS_MAX: Final = 300
DEPTH_MAX: Final = 4
KEY_BYTES_MAX: Final = 64 * 1024
VALUE_BYTES_MAX: Final = 1024 * 1024
BUCKET_BYTES_MAX: Final = 64
BATCH_MESSAGES_MAX: Final = 8192
WINDOW_FIRST: Final = 256  # requests under way on a connection that has been told nothing
GROUP_MAX: Final = 1024  # requests that travel as one group
GROUP_BYTES_MAX: Final = 1024 * 1024  # of their rows and values
PAGE_ROWS_MAX: Final = 1000
PAGE_BYTES_MAX: Final = 1024 * 1024
TIMEOUT_MS_MAX: Final = 600_000
STALE_MS_MAX: Final = 365 * 24 * 3600 * 1000
TTL_MS_MAX: Final = 100 * STALE_MS_MAX


def ttl_text(given: str) -> str:
    """What is wrong with a time to live. Clients and nodes say the same."""
    return f"a ttl of {given}; it must be above 0 and at most {TTL_MS_MAX // 1000} s, or left out: for ever"


class ProtocolError(Exception):
    """The other side said something that is not of the protocol."""


class UnknownKind(ProtocolError):
    """It said something of a kind that does not exist in the version of the wire that both speak."""

    def __init__(self, kind: int, version: int) -> None:
        super().__init__(f"version {version} of the wire has no message of kind {kind}, which it has said")
        self.kind = kind
