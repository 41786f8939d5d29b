"""Laws of certificates and stamps: what a claim is, whose word counts, which base an exchange builds on."""

import hypothesis.strategies as st
from hypothesis import given

from basestore.repair.certificate import Certificate, Claim, newer_base, own_claim, stable_stamp, stores_tag


def certificate(my_closed: int, their_closed: int = 0, *, tag: int = 0, mine: int = 1) -> Certificate:
    return Certificate(mine, 1, my_closed, their_closed, tag, 0)


def test_a_row_is_the_least_closed_stamp_and_0_while_a_certificate_is_missing() -> None:
    assert own_claim({1: certificate(5), 2: certificate(7)}, [1, 2], 0) == 5
    assert own_claim({1: certificate(5)}, [1, 2], 0) == 0
    assert own_claim({}, [], 0) == 0


def test_a_certificate_of_two_who_did_not_agree_on_all_stores_does_not_count() -> None:
    held = {1: certificate(5, tag=9), 2: certificate(7, tag=9), 3: certificate(8, tag=4)}
    assert own_claim(held, [1, 2, 3], 9) == 0
    assert own_claim(held | {3: certificate(8, tag=9)}, [1, 2, 3], 9) == 5


def test_of_two_replicas_each_knows_the_others_row() -> None:
    assert stable_stamp(5, {1: certificate(5, 3)}, [1], {}, 0) == 3
    assert stable_stamp(0, {}, [1], {}, 0) == 0


@given(st.lists(st.integers(0, 100), min_size=3, max_size=3))
def test_stable_is_the_least_of_all_rows(closed: list[int]) -> None:
    claims = {1: Claim(closed[1], 7), 2: Claim(closed[2], 7)}
    held = {1: certificate(closed[0]), 2: certificate(closed[0])}
    assert stable_stamp(closed[0], held, [1, 2], claims, 7) == min(closed)


def test_a_row_about_other_stores_is_not_believed() -> None:
    claims = {1: Claim(5, 7), 2: Claim(5, 8)}
    assert stable_stamp(5, {}, [1, 2], claims, 7) == 0
    assert stable_stamp(5, {}, [1, 2], {1: Claim(5, 7)}, 7) == 0


def test_the_tag_names_all_stores_in_their_order() -> None:
    a, b = bytes(16), b"\1" * 16
    assert stores_tag([a, b]) == stores_tag([a, b])
    assert stores_tag([a, b]) != stores_tag([b, a])


def test_an_exchange_builds_on_the_newer_certificate_and_on_none_unless_both_have_one() -> None:
    assert newer_base(certificate(0, mine=4), (6, 3)) == (6, 3)
    assert newer_base(certificate(0, mine=9), (6, 3)) == (9, 1)
    assert newer_base(None, (6, 3)) is None
    assert newer_base(certificate(0), None) is None
