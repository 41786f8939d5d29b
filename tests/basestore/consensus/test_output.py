"""Output: what is stored in which order, and what a mark that comes back says."""

from basestore.consensus.log import Entry, Kind, Log, Snapshot
from basestore.consensus.output import Mark, Pending
from tests.worlds.raft_stage import voter

NOBODY = Snapshot(0, 0, frozenset({voter(1)}), b"")


def entries(term: int, count: int) -> list[Entry]:
    return [Entry(term, Kind.DATA, b"")] * count


def taken(out: Pending, log: Log) -> Mark:
    output = out.take(1, None, log)
    assert output is not None
    return output.mark


def test_nothing_is_given_out_where_there_is_nothing() -> None:
    assert Pending(0).take(1, None, Log(NOBODY)) is None


def test_entries_are_given_out_once_and_are_durable_when_the_mark_comes_back() -> None:
    log, out = Log(NOBODY, entries(1, 2)), Pending(0)
    output = out.take(1, None, log)
    assert output is not None
    assert (output.first, len(output.entries), output.stores, out.durable) == (1, 2, True, 0)
    assert out.take(1, None, log) is None
    out.stored(output.mark)
    assert out.durable == 2


def test_a_mark_of_before_a_cut_says_nothing_though_the_same_entries_came_back() -> None:
    log, out = Log(NOBODY, entries(1, 2)), Pending(0)
    first = taken(out, log)
    for term in (2, 1):  # cut, and cut again, and then it is as it was
        log.cut(2)
        out.cut(2)
        log.append(entries(term, 1))
        second = taken(out, log)
    out.stored(first)
    assert out.durable == 0
    out.stored(second)
    assert out.durable == 2


def test_what_was_never_given_out_need_not_be_cut_on_the_disk() -> None:
    log, out = Log(NOBODY, entries(1, 2)), Pending(0)
    log.cut(2)
    out.cut(2)
    output = out.take(1, None, log)
    assert output is not None
    assert (output.cut, output.first, len(output.entries)) == (0, 1, 1)


def test_a_snapshot_cuts_what_was_given_out_behind_it_and_is_durable_with_its_mark() -> None:
    log, out = Log(NOBODY, entries(1, 5)), Pending(5)
    log.cut(4)
    out.cut(4)
    snapshot = Snapshot(3, 2, NOBODY.voters, b"")
    log.install(snapshot)
    out.install(snapshot)
    log.append(entries(2, 1))
    output = out.take(2, None, log)
    assert output is not None
    assert (output.cut, output.snapshot, output.first, len(output.entries)) == (3, snapshot, 4, 1)
    assert out.durable == 2
    out.stored(output.mark)
    assert out.durable == 4


def test_a_snapshot_far_ahead_leaves_no_hole() -> None:
    log, out = Log(NOBODY, entries(1, 2)), Pending(2)
    snapshot = Snapshot(9, 2, NOBODY.voters, b"")
    log.install(snapshot)
    out.install(snapshot)
    output = out.take(2, None, log)
    assert output is not None
    assert (output.cut, output.first, output.entries, out.durable) == (0, 10, [], 2)
