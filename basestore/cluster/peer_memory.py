"""What is remembered of a peer's store: by which opening it was known last, and how much it held then.

Kept by `replica/identity.py`, durably, and told to the peer on each new link. Openings that are only heard of
have a row of their own: releases from before that row pay no heed to it. Decides nothing.
"""

from typing import NamedTuple

import cbor2

from basestore.protocol.heartbeats import Confirmed, StoreClaim
from basestore.repair.write_repair import split_stores

STORES_MAX = 100  # former stores, and openings that are only heard of


class PeerMemory(NamedTuple):
    """`given_up`: stores that it ran on before, the last ones; `late`: the first was heard of when there were
    data in the cluster; `heard`: openings that it has claimed since, before it confirmed that it holds this.
    It may have kept hints in them: if the store does not know one of them any more it was rolled back."""

    store: bytes
    generation: bytes
    sequence: int
    given_up: list[bytes]
    late: bool
    heard: list[bytes] = []  # noqa: RUF012 - never changed

    @classmethod
    def decode(cls, stored: bytes, heard: bytes | None) -> "PeerMemory":
        """As it was written; what was heard of another store counts for nothing."""
        memory = cls(*cbor2.loads(stored))
        store, *openings = cbor2.loads(heard) if heard else [b""]
        return memory._replace(heard=openings if store == memory.store else [])

    def encode(self) -> bytes:
        return cbor2.dumps(list(self[:-1]))

    def encode_heard(self) -> bytes | None:
        return cbor2.dumps([self.store, *self.heard]) if self.heard else None

    def opened(self, generation: bytes) -> "PeerMemory":
        """It claims this opening."""
        if generation == self.generation or generation in self.heard:
            return self
        return self._replace(heard=[*self.heard, generation][-STORES_MAX:])

    def confirmed(self, said: Confirmed) -> "PeerMemory":
        """It holds all of this, and runs on an opening that is remembered instead."""
        return self._replace(generation=said.generation, sequence=said.sequence, heard=[])

    def followed(self, said: StoreClaim) -> "PeerMemory":
        """It runs on another store by now, which may be a copy of what it was."""
        after = PeerMemory(
            said.store, said.generation, said.sequence, [*self.given_up, self.store][-STORES_MAX:], self.late
        )
        # So is what is known of the store that it is a copy of: its first answer may be lost.
        formers = split_stores(said.former)
        if self.store in formers:
            kept = after._replace(generation=self.generation, sequence=self.sequence, heard=self.heard)
            return kept.opened(said.generation)
        if not set(formers).isdisjoint(self.given_up):
            return after._replace(generation=b"", sequence=0)
        return after
