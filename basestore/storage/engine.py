"""Engine: the contract that a node's storage keeps.

An engine orders keys, which are strings of bytes (`keyspace.py`), bytewise, applies a batch whole or not at
all, and makes durable what it is told to. It draws no conclusions: digests, versions and rules are for those
who call it.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol

Batch = Mapping[bytes, bytes | None]


class Engine(Protocol):
    """Errors of every method: `StorageError` when the store cannot be used any more."""

    @property
    def persistent(self) -> bool:
        """Whether what was synced outlives the process. If not, the store's word proves nothing to others:
        nothing is ever settled on it."""

    @property
    def loss(self) -> str:
        """What opening found to be lost, in words, or the empty string. It is told at every opening
        until `accept_loss`."""

    def accept_loss(self) -> None:
        """The loss has been drawn conclusions from, and these are durable: tell it no more."""

    def get(self, key: bytes) -> bytes | None:
        """What is stored, applied but unsynced batches included."""

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """As `get`, of each."""

    def apply(self, batch: Batch) -> None:
        """Put every pair (None deletes), visible at once, durable only after `sync`.

        StorageBusy when the engine stalls, StorageFull when its disk is full; nothing of the batch is then
        applied, and everything else goes on.
        """

    def sync(self) -> None:
        """Make durable every batch applied before the call began. Blocks; called from a thread of
        its own while the others go on being called. After a failure nothing is to be trusted."""

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The pairs with start <= key < end in order. To be used up before the next `apply`. A
        damaged range raises StorageError; it never ends early."""

    def close(self) -> None:
        """Release everything, without a sync. The engine is not used afterwards."""
