"""Voters: majorities, and how they are written down."""

import pytest

from basestore.consensus.voters import decode_voters, encode_voters, majority
from tests.worlds.raft_stage import voter


@pytest.mark.parametrize(("count", "enough"), [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_a_majority_is_more_than_half_and_never_nobody(count: int, enough: int) -> None:
    assert majority(frozenset(map(voter, range(count)))) == enough


def test_what_is_encoded_is_decoded_whatever_the_order() -> None:
    voters = [voter(7), voter(65_534), voter(1, 9)]
    assert decode_voters(encode_voters(voters)) == frozenset(voters)
    assert encode_voters(voters) == encode_voters(reversed(voters))


def test_bytes_that_are_no_voters_are_refused() -> None:
    with pytest.raises(ValueError, match="name no voters"):
        decode_voters(encode_voters([voter(1)])[:-1])


def test_a_store_that_begins_anew_is_another_voter() -> None:
    assert voter(1, 5) != voter(1, 6)
