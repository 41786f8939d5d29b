"""The log: what it has, what is cut from it, and what stands in place of it."""

import pytest

from basestore.consensus import log as log_module
from basestore.consensus.log import Entry, Kind, Log, Snapshot
from basestore.consensus.voters import Voters, encode_voters
from tests.worlds.raft_stage import voter

ONE, TWO, THREE = (frozenset(map(voter, range(1, count + 1))) for count in (1, 2, 3))


def entry(term: int, data: bytes = b"") -> Entry:
    return Entry(term, Kind.DATA, data)


def change(term: int, voters: Voters) -> Entry:
    return Entry(term, Kind.CHANGE, encode_voters(voters))


def log_of(*entries: Entry, last: int = 0, term: int = 0) -> Log:
    return Log(Snapshot(last, term, ONE, b""), entries)


def test_terms_are_known_from_the_snapshot_to_the_last() -> None:
    log = log_of(entry(3), entry(5), last=40, term=2)
    assert [log.term_at(index) for index in range(39, 44)] == [-1, 2, 3, 5, -1]
    assert (log.last, log.last_term) == (42, 5)
    assert log_of(last=40, term=2).last_term == 2


@pytest.mark.parametrize("index", [40, 43])
def test_an_entry_that_is_not_there_is_an_error(index: int) -> None:
    with pytest.raises(IndexError):
        log_of(entry(3), entry(5), last=40).entry(index)


def test_a_batch_has_as_many_as_fit_and_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_of(entry(1, b"12345"), entry(1, b"123"), entry(1, b"12"))
    monkeypatch.setattr(log_module, "BATCH_BYTES_MAX", 4)
    assert [len(log.batch(first)) for first in (1, 2, 4)] == [1, 1, 0]
    monkeypatch.setattr(log_module, "BATCH_BYTES_MAX", 5)
    assert len(log.batch(2)) == 2
    monkeypatch.setattr(log_module, "BATCH_ENTRIES_MAX", 1)
    assert len(log.batch(2)) == 1


def test_only_another_term_is_a_conflict_and_what_the_snapshot_stands_for_is_none() -> None:
    log = log_of(entry(3), entry(5), last=40, term=2)
    assert log.fresh(41, [entry(3), entry(5)]) == 43
    assert log.fresh(41, [entry(3), entry(4), entry(4)]) == 42
    assert log.fresh(39, [entry(1), entry(1), entry(3)]) == 42
    assert log.fresh(43, [entry(5)]) == 43


def test_entries_of_one_term_are_found_from_a_bound_on() -> None:
    log = log_of(entry(1), entry(2), entry(2), entry(2), entry(3))
    assert [log.run(index, 1) for index in range(1, 6)] == [1, 2, 2, 2, 5]
    assert log.run(4, 3) == 3


def test_the_newest_change_of_voters_counts_until_it_is_cut() -> None:
    log = log_of(change(1, TWO), entry(1), change(1, THREE))
    assert (log.voters, log.voters_index) == (THREE, 3)
    assert [log.voters_at(index) for index in range(4)] == [ONE, TWO, TWO, THREE]
    log.cut(3)
    assert (log.voters, log.voters_index, log.last) == (TWO, 1, 2)
    log.cut(1)
    assert (log.voters, log.voters_index, log.last) == (ONE, 0, 0)


def test_a_snapshot_has_the_voters_of_its_index_not_the_newest() -> None:
    log = log_of(change(1, TWO), entry(2), change(3, THREE))
    log.compact(2, b"state")
    assert log.base == Snapshot(2, 2, TWO, b"state")
    assert (log.voters, log.voters_index, log.last) == (THREE, 3, 3)
    log.compact(3, b"")
    assert (log.voters, log.voters_index) == (THREE, 3)


def test_a_snapshot_of_another_takes_the_place_of_all() -> None:
    log = log_of(change(1, TWO), entry(1), entry(1))
    log.install(Snapshot(2, 2, THREE, b""))
    assert (log.last, log.last_term, log.voters, log.voters_index) == (2, 2, THREE, 2)
