"""Voters: who decides, and how many of them are enough.

A voter is a store, not only a member: a member whose store was lost is another voter under its old number,
and has promised nothing. Pure.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

STORE_BYTES: Final = 16
_NUMBER_BYTES: Final = 2
_VOTER_BYTES: Final = _NUMBER_BYTES + STORE_BYTES


class Voter(NamedTuple):
    """`number` of the member, `store` by which it votes."""

    number: int
    store: bytes


Voters = frozenset[Voter]


def majority(voters: Voters) -> int:
    """How many are enough. Nobody is never enough: of no voters it is one."""
    return len(voters) // 2 + 1


def encode_voters(voters: Iterable[Voter]) -> bytes:
    return b"".join(voter.number.to_bytes(_NUMBER_BYTES) + voter.store for voter in sorted(voters))


def decode_voters(encoded: bytes) -> Voters:
    """Inverse of `encode_voters`; ValueError."""
    if len(encoded) % _VOTER_BYTES:
        raise ValueError("these bytes name no voters")
    return frozenset(
        Voter(
            int.from_bytes(encoded[at : at + _NUMBER_BYTES]), encoded[at + _NUMBER_BYTES : at + _VOTER_BYTES]
        )
        for at in range(0, len(encoded), _VOTER_BYTES)
    )
