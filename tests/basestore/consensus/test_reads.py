"""Reads: which round must be answered, and how long a lease lasts."""

from basestore.consensus.reads import LEASE_S, ROUNDS_MAX, WAITING_MAX, Reads


def test_a_read_waits_for_the_next_round_and_is_given_where_it_may_be_answered() -> None:
    reads = Reads()
    reads.begin_round(1.0)
    assert reads.wait(7, 40)
    assert list(reads.answered(1)) == []
    assert reads.wants_round
    reads.begin_round(2.0)
    assert not reads.wants_round
    assert list(reads.answered(2)) == [(7, 40)]
    assert list(reads.answered(2)) == []


def test_reads_that_come_while_a_round_is_on_its_way_share_the_next() -> None:
    reads = Reads()
    reads.begin_round(1.0)
    reads.wait(1, 40)
    reads.wait(2, 41)
    assert not reads.wants_round
    reads.answered(1)
    reads.begin_round(2.0)
    assert list(reads.answered(2)) == [(1, 40), (2, 41)]


def test_a_lease_counts_from_when_its_round_was_sent_and_never_goes_back() -> None:
    reads = Reads()
    for now_s in (10.0, 11.0):
        reads.begin_round(now_s)
    assert reads.lease_until_s < 10.0
    reads.answered(2)
    assert reads.lease_until_s == 11.0 + LEASE_S
    reads.answered(1)
    assert reads.lease_until_s == 11.0 + LEASE_S


def test_a_round_of_long_ago_and_none_at_all_give_no_lease() -> None:
    reads = Reads()
    for number in range(ROUNDS_MAX + 1):
        reads.begin_round(float(number))
    reads.answered(0)
    reads.answered(1)
    assert reads.lease_until_s < 0


def test_no_more_than_a_bound_wait() -> None:
    reads = Reads()
    assert all(reads.wait(ticket, 1) for ticket in range(WAITING_MAX))
    assert not reads.wait(WAITING_MAX, 1)


def test_who_waits_at_the_end_is_named_and_there_is_no_lease_any_more() -> None:
    reads = Reads()
    reads.begin_round(1.0)
    reads.answered(1)
    reads.wait(3, 40)
    assert reads.end() == [3]
    assert reads.lease_until_s < 0
    assert reads.end() == []
