"""Each entry of the cluster's log in words. Covers `topology/history.py`."""

from dataclasses import replace

import cbor2
import pytest

from basestore.repair.seats import Seats, Stage
from basestore.topology.entries import (
    AddMember,
    Change,
    CreateBucket,
    DropBucket,
    ForgetDropped,
    Founded,
    SetMember,
    SetSeats,
    SetSetting,
    UnsetSetting,
)
from basestore.topology.history import describe
from basestore.topology.topology import MemberEntry
from tests.worlds.topologies import FWW, LWW, NO_OPTIONS, Log, cluster, entry, founded

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
        (
            SetSeats([[0, 7, 0]]),
            "seats that cannot be read, through n2: refused: these are no seats of a partition: ask "
            "for the move "
            "again",
        ),
    ],
)
def test_an_entry_in_words(change: Change, words: str) -> None:
    assert describe(entry(change, 7, by=2), founded(), 2) == words


def test_seats_in_words() -> None:
    topology = founded()
    topology = replace(topology, seats=(Seats.still((1, 2)),) * 5)
    rows = [MOVE.row(partition) for partition in range(5)]
    first = "partition 0: fill n1, n2 -> n1, n3"
    assert describe(entry(SetSeats(rows[:1])), topology, 2) == f"{first}, through n1"
    assert describe(entry(SetSeats(rows)), topology, 2) == (
        f"{first}; partition 1: fill n1, n2 -> n1, n3; partition 2: fill n1, n2 -> n1, n3; and 2 "
        "more, through n1"
    )
    topology = topology.apply(2, entry(SetSeats(rows[:1])))
    back = SetSeats([Seats.still((1, 2)).row(0)])
    assert describe(entry(back), topology, 3) == "partition 0: still n1, n2, through n1"


def test_names_are_those_that_the_entry_met() -> None:
    log = Log()
    log.add(AddMember("n4", "h:1", "", 1, b""))
    before = log.topology
    change = entry(SetMember(4, standing="left"), 7, by=4)
    assert describe(change, before, 3) == "member n4: standing left, through n4"
    assert describe(change, founded(), 2).startswith("member number 4: standing left, through number 4")


def test_what_was_said_before_says_so() -> None:
    said = entry(CreateBucket("carts", LWW, NO_OPTIONS), 7)
    after = founded().apply(2, said)
    assert describe(entry(DropBucket("carts"), 8), after, 3) == "drop bucket 'carts', through n1"
    assert describe(said, after, 3) == (
        "create bucket 'carts', last-write-wins, through n1: said again, after entry 2; nothing "
        "was changed by it"
    )


def test_what_cannot_be_read_is_one_line_too() -> None:
    assert describe(b"\xff", founded(), 2) == "what no release can read; nothing was changed by it"
    assert describe(cbor2.dumps([2]), founded(), 2) == "a change that only a later release can read"


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
    line = describe(entry(change), founded(), 2)
    assert len(line) < 4000
    assert line.isprintable()


def test_a_line_is_of_a_topology_with_many_members_too() -> None:
    members = tuple(MemberEntry(n, f"n{n}", f"h:{n}") for n in range(1, 1001))
    topology = replace(founded(cluster(3)), members=members)
    assert (
        describe(entry(SetMember(1000, zone="z"), by=999), topology, 2)
        == "member n1000: zone 'z', through n999"
    )
