"""Each entry of the cluster's log in words. Covers `topology/history.py`."""

from dataclasses import replace

import pytest

from basestore.repair.seats import Seats, Stage
from basestore.topology.changes import (
    AddMember,
    CancelMoves,
    Change,
    CreateBucket,
    DrainMember,
    DropBucket,
    ForgetDropped,
    Founded,
    Rebalance,
    RemoveMember,
    ReplaceMember,
    SetMember,
    SetPlan,
    SetReplication,
    SetSeats,
    SetSetting,
    TakeBack,
    TakeIn,
    UnsetSetting,
)
from basestore.topology.history import describe
from basestore.topology.judgement import apply, judge
from basestore.topology.topology import MemberEntry, Topology
from tests.worlds.topologies import FWW, LWW, NO_OPTIONS, Log, cluster, entry, founded


def described(data: bytes, before: Topology, index: int) -> str:
    return describe(judge(before, index, data), before)


MOVE = Seats(0, Stage.FILL, (1, 2), (1, 3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            CreateBucket("carts", LWW, NO_OPTIONS),
            "create bucket 'carts', last-write-wins, through n2: it has number 3",
        ),
        (
            CreateBucket("x", LWW, [60, 1, 0, 5]),
            "create bucket 'x', last-write-wins, degrade_s 60, defer 1, key_requests_per_s 5, through "
            "n2: it has "
            "number 3",
        ),
        (
            CreateBucket("once", LWW, NO_OPTIONS),
            "create bucket 'once', last-write-wins, through n2: refused: bucket 'once' exists with rule "
            "first-write-wins, which it keeps for life: use another name, or drop it first, with all "
            "that it holds",
        ),
        (
            CreateBucket("a\nb", FWW, [1]),
            "create bucket 'a\\nb', first-write-wins, through n2: refused: the name of a bucket has only "
            "characters that print: choose another",
        ),
        (
            DropBucket("carts"),
            "drop bucket 'carts', through n2: refused: no bucket is called 'carts': see `basestore "
            "bucket list`",
        ),
        (SetSetting("k", "v\n"), "set setting 'k' to 'v\\n', through n2"),
        (SetSetting("k", "v" * 65), f"set setting 'k' to '{'v' * 64}' and so on, through n2"),
        (
            UnsetSetting("k"),
            "unset setting 'k', through n2: refused: there is no setting 'k': see `basestore settings get`",
        ),
        (
            AddMember("n4", "h:1", "z", 2, b""),
            "add member 'n4', address 'h:1', zone 'z', weight 2, through n2: it has number 4",
        ),
        (SetMember(1), "member n1: nothing, through n2"),
        (
            SetMember(1, "h:1", "", 2, "draining", b"s" * 16),
            f"member n1: address 'h:1', zone '', weight 2, standing draining, store {b's'.hex() * 16}, "
            "through n2",
        ),
        (SetMember(1, store=b""), "member n1: store unknown, through n2"),
        (
            SetMember(9, weight=5),
            "member number 9: weight 5, through n2: refused: no member has the number 9: see "
            "`basestore topology`",
        ),
        (Founded(), "the metadata group is complete, through n2"),
        (ForgetDropped([3, 4]), "forget dropped buckets 3, 4, which are purged on all members, through n2"),
        (
            ForgetDropped([3, 4, 5, 6, 7]),
            "forget dropped buckets 3, 4, 5, and 2 more, which are purged on all members, through n2",
        ),
        (SetSeats([]), "nothing, through n2"),
        (DrainMember(3), "drain member n3, through n2"),
        (
            DrainMember(9),
            "drain member number 9, through n2: refused: no member has the number 9: see "
            "`basestore topology`",
        ),
        (RemoveMember(3), "remove member n3, which is dead, through n2"),
        (
            ReplaceMember(3, 3, True),
            "replace member n3, which is dead, by n3, through n2: refused: a member cannot be replaced by "
            "itself: name another",
        ),
        (
            ReplaceMember(3, 1, False),
            "replace member n3 by n1, through n2: refused: member n1 holds 2 of the partitions that n3 "
            "holds, 0 for one: name a member that holds none of them, or have n3 drained or removed",
        ),
        (Rebalance(), "plan anew who holds what, through n2"),
        (SetPlan(1, [[0, 1, 3]]), "the plan: partitions to move: 1, through n2"),
        (SetPlan(1, []), "the plan: nothing is to move, through n2"),
        (
            SetPlan(5, []),
            "the plan: nothing is to move, through n2: refused: the cluster has changed since the plan was "
            "made: it is made anew",
        ),
        (
            CancelMoves([]),
            "cancel all moves, through n2: refused: nothing is being moved, nor to be: nothing is to be "
            "cancelled",
        ),
        (
            CancelMoves([1, 2, 3, 4]),
            "cancel moves of partitions 1, 2, 3, and 1 more, through n2: refused: partition 1 is not being "
            "moved, nor to be: see `basestore topology moves`",
        ),
        (
            TakeBack([]),
            "cancel all moves, through n2: refused: nothing is being moved, nor to be: nothing is to be "
            "cancelled",
        ),
        (
            TakeIn([[0, 1, 9]] + [[1, 2]] * 3),
            "partition 0: taken in as acceptors again: n1, number 9; partition 1: taken in as acceptors again"
            ": n2; partition 1: taken in as acceptors again: n2; and 1 more, through n2: refused: a "
            "partition is named twice in one change: name all its members at once",
        ),
        (
            TakeIn([[0]]),
            "a partition that cannot be read, through n2: refused: a partition is named without "
            "members, or with one twice: name each that is taken in once",
        ),
        (SetReplication(3), "each partition is to have 3 replicas, through n2"),
        (
            SetSeats([[0, 7, 0]]),
            "seats that cannot be read, through n2: refused: these are no seats of a partition: ask "
            "for the move "
            "again",
        ),
    ],
)
def test_an_entry_in_words(change: Change, words: str) -> None:
    assert described(entry(change, 7, by=2), founded(), 2) == words


def test_seats_in_words() -> None:
    topology = founded()
    topology = replace(topology, seats=(Seats.still((1, 2)),) * 5)
    rows = [MOVE.row(partition) for partition in range(5)]
    first = "partition 0: fill n1, n2 -> n1, n3"
    assert described(entry(SetSeats(rows[:1])), topology, 2) == f"{first}, through n1"
    assert described(entry(SetSeats(rows)), topology, 2) == (
        f"{first}; partition 1: fill n1, n2 -> n1, n3; partition 2: fill n1, n2 -> n1, n3; and 2 "
        "more, through n1"
    )
    topology = apply(topology, 2, entry(SetSeats(rows[:1])))
    back = SetSeats([Seats.still((1, 2)).row(0)])
    assert described(entry(back), topology, 3) == "partition 0: still n1, n2, through n1"


def test_names_are_those_that_the_entry_met() -> None:
    log = Log()
    log.add(AddMember("n4", "h:1", "", 1, b""))
    before = log.topology
    change = entry(SetMember(4, standing="left"), 7, by=4)
    assert described(change, before, 3) == "member n4: standing left, through n4"
    assert described(change, founded(), 2).startswith("member number 4: standing left, through number 4")


def test_what_was_said_before_says_so() -> None:
    said = entry(CreateBucket("carts", LWW, NO_OPTIONS), 7)
    after = apply(founded(), 2, said)
    assert described(entry(DropBucket("carts"), 8), after, 3) == "drop bucket 'carts', through n1"
    assert described(said, after, 3) == (
        "create bucket 'carts', last-write-wins, through n1: said again, after entry 2; nothing "
        "was changed by it"
    )


def test_what_cannot_be_read_is_one_line_too() -> None:
    assert described(b"\xff", founded(), 2) == "what no release can read; nothing was changed by it"


@pytest.mark.parametrize(
    "change",
    [
        SetSetting("k" * 300, "v" * 100_000),
        CreateBucket("b" * 100_000, LWW, [5] * 9),
        AddMember("n" * 99_999, "a" * 99_999, "z" * 999, -5, b"s" * 9999),
        SetMember(1, "a" * 99_999, "z" * 999, -5, "dead", b"s" * 9999),
        SetSeats([Seats(0, Stage.FILL, tuple(range(9999)), tuple(range(9999))).row(1)] * 3),
        ForgetDropped(list(range(9999))),
    ],
)
def test_a_line_has_a_bound_and_no_breaks(change: Change) -> None:
    line = described(entry(change), founded(), 2)
    assert len(line) < 4000
    assert line.isprintable()


def test_a_line_is_of_a_topology_with_many_members_too() -> None:
    members = tuple(MemberEntry(n, f"n{n}", f"h:{n}") for n in range(1, 1001))
    topology = replace(founded(cluster(3)), members=members)
    assert (
        described(entry(SetMember(1000, zone="z"), by=999), topology, 2)
        == "member n1000: zone 'z', through n999"
    )
