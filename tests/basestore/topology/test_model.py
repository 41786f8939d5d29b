"""A topology against a dumb model of it, and its form: replayed from any snapshot it is the same. Covers
`topology/topology.py`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.repair.rule import Rule
from basestore.repair.seats import Seats, Stage
from basestore.topology import bucket_changes, judgement
from basestore.topology.changes import (
    OF_USERS,
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
    Standing,
    TakeBack,
    TakeIn,
    UnsetSetting,
)
from basestore.topology.entries import UNNAMED
from basestore.topology.judgement import apply
from basestore.topology.topology import Bucket, MemberEntry, Outcome, Topology, later_label
from tests.worlds.topologies import FWW, LWW, NO_OPTIONS, Log, cluster, entry, found, founded

OUTCOMES, BUCKETS = 8, 6  # at most, in these tests
CONFIG = cluster(3, partitions=2, buckets={"carts": Rule.FIRST_WRITE_WINS})


class Model:
    """What a topology is to be, in lists and dictionaries, by rules in plain words."""

    def __init__(self) -> None:
        self.buckets = {"default": (1, LWW), "once": (2, FWW), "carts": (3, FWW)}
        self.given = 3
        self.dropped: list[int] = []
        self.dropped_since = 0
        self.settings: dict[str, str] = {}
        self.members = {n: [f"n{n}", f"10.0.0.{n}:7400", "member"] for n in (1, 2, 3)}
        self.stores: dict[int, bytes] = dict.fromkeys(self.members, b"")
        self.barred: list[set[int]] = [set(), set()]
        self.seats = [(0, "still", each.old, each.new) for each in found(CONFIG).seats]
        self.came = [dict.fromkeys(old, 0) for _, _, old, _ in self.seats]
        self.founded = False
        self.plan: dict[int, tuple[int, ...]] = {}
        self.unplanned, self.replication = False, 2
        self.said: list[tuple[int, int, bool]] = []  # ids, where, and whether it was refused

    def apply(self, index: int, change: Change, identity: int) -> None:
        if identity != UNNAMED and identity in [each[0] for each in self.said]:
            return
        ordinary = isinstance(change, OF_USERS)
        done = (self.founded or identity == UNNAMED or not ordinary) and self.try_to(index, change)
        if identity != UNNAMED:
            self.said = [*self.said, (identity, index, not done)][-OUTCOMES:]

    def try_to(self, index: int, change: Change) -> bool:
        match change:
            case CreateBucket(name, rule, _):
                if name in self.buckets or len(self.buckets) >= BUCKETS or not name or "\n" in name:
                    return False
                self.given += 1
                self.buckets[name] = (self.given, rule)
            case DropBucket(name):
                if name in ("default", "once") or name not in self.buckets:
                    return False
                self.dropped.append(self.buckets.pop(name)[0])
                self.dropped_since = index
            case ForgetDropped(numbers):
                self.dropped = [each for each in self.dropped if each not in numbers]
            case SetSetting(key, value):
                others = sum(len(k) + len(v) for k, v in self.settings.items() if k != key)
                if not key or others + len(key) + len(value) > 65536:
                    return False
                self.settings[key] = value
            case UnsetSetting(key):
                return self.settings.pop(key, None) is not None
            case AddMember(name, address):
                if not name or self.taken(0, name) or self.taken(1, address):
                    return False
                number = max(self.members) + 1
                self.members[number], self.stores[number] = [name, address, "joining"], b""
                self.unplanned = True
            case SetMember():
                return self.set_member(index, change)
            case SetSeats(rows):
                return self.set_seats(index, rows)
            case Founded():
                self.founded = True
            case _:
                return self.try_to_move(index, change)
        return True

    def try_to_move(self, index: int, change: Change) -> bool:
        match change:
            case SetPlan(made_at, rows):
                return made_at == index - 1 and self.set_plan({row[0]: tuple(row[1:]) for row in rows})
            case DrainMember(number) | RemoveMember(number):
                dead = isinstance(change, RemoveMember)
                gone = ("dead", "left") if dead else ("draining", "dead", "left")
                if self.standing(number) in (None, *gone):
                    return False
                if len([each for each in self.staying() if each != number]) < self.replication:
                    return False
                self.members[number][2] = "dead" if dead else "draining"
                self.unplanned = True
            case ReplaceMember(number, by, dead):
                return self.replace(number, by, dead=dead)
            case Rebalance():
                self.unplanned = True
            case CancelMoves(partitions) | TakeBack(partitions):
                return self.cancel(index, partitions, at_once=isinstance(change, CancelMoves))
            case SetReplication(replicas):
                if replicas == self.replication or not 1 <= replicas <= len(self.staying()):
                    return False
                self.replication, self.unplanned = replicas, True
            case TakeIn(rows):
                return self.take_in(index, rows)
        return True

    def standing(self, number: int) -> str | None:
        return self.members[number][2] if number in self.members else None

    def staying(self) -> list[int]:
        return [each for each in self.members if self.standing(each) in ("joining", "member")]

    def set_plan(self, goals: dict[int, tuple[int, ...]]) -> bool:
        for partition, goal in goals.items():
            able = len(goal) == len(set(goal)) == self.replication and {*goal} <= {*self.staying()}
            if partition not in (0, 1) or not able:
                return False
        self.plan, self.unplanned = goals, False
        self.forget_reached()
        for number in {each for goal in goals.values() for each in goal}:
            self.members[number][2] = "member"
        return True

    def forget_reached(self) -> None:
        for partition, goal in list(self.plan.items()):
            _, stage, old, _ = self.seats[partition]
            if stage == "still" and (not goal or {*old} == {*goal}):
                del self.plan[partition]

    def replace(self, number: int, by: int, *, dead: bool) -> bool:
        if number == by or self.standing(by) not in ("joining", "member"):
            return False
        if self.standing(number) in (None, "left") or (self.standing(number) == "dead" and not dead):
            return False
        if len([each for each in self.staying() if each != number]) < self.replication:
            return False
        goals = {at: self.plan.get(at, self.seats[at][3]) or self.seats[at][2] for at in (0, 1)}
        theirs = {at: goal for at, goal in goals.items() if number in goal}
        if any(by in goal for goal in theirs.values()):
            return False
        for at, goal in theirs.items():
            self.plan[at] = tuple(by if each == number else each for each in goal)
        self.members[number][2], self.members[by][2] = "dead" if dead else "draining", "member"
        self.forget_reached()
        return True

    def cancel(self, index: int, partitions: list[int], *, at_once: bool) -> bool:
        moving = {at for at in (0, 1) if self.seats[at][1] != "still" or at in self.plan}
        draining = [m for m in self.members.values() if m[2] == "draining" and not partitions]
        if len({*partitions}) < len(partitions) or not moving >= {*partitions}:
            return False
        if not (moving or draining or self.unplanned):
            return False
        asked = {*partitions} or moving
        bound = {at for at in asked if self.seats[at][1] != "still" and not self.has_left_enough(at)}
        if bound and (partitions or asked == bound):
            return False
        for at in asked - bound:
            _, stage, old, _ = self.seats[at]
            self.plan.pop(at, None)
            if stage != "still" and at_once:
                self.seats[at] = (index, "still", old, old)
                self.come(index, at, old)
            elif stage != "still":
                self.plan[at] = ()
        for member in draining:
            member[2] = "member"
        self.unplanned = self.unplanned and bool(partitions)
        return True

    def has_left_enough(self, at: int) -> bool:
        old = self.seats[at][2]
        left = [each for each in old if self.standing(each) != "dead" and each not in self.barred[at]]
        return 2 * len(left) >= len(old)

    def taken(self, place: int, text: str | None, without: int = 0) -> bool:
        return any(m[place] == text and m[2] != "left" for n, m in self.members.items() if n != without)

    def take_in(self, index: int, rows: list[list[int]]) -> bool:
        at_once = {row[0]: {*row[1:]} for row in rows}
        if len(at_once) < len(rows) or any(len(at_once[at]) < len(row) for at, *row in rows):
            return False
        if not all(at in (0, 1) and of and self.barred[at] >= of for at, of in at_once.items()):
            return False
        for at, of in at_once.items():
            self.barred[at] -= of
            self.seats[at] = (index, *self.seats[at][1:])
        return True

    def set_member(self, index: int, change: SetMember) -> bool:
        number, address, standing = change.number, change.address, change.standing
        if number not in self.members or self.members[number][2] == "left":
            return False
        holding = any(number in old + new for _, _, old, new in self.seats)
        if self.taken(1, address, number) or (standing == "left" and holding):
            return False
        self.members[number][1] = address or self.members[number][1]
        self.members[number][2] = standing or self.members[number][2]
        if change.store is not None:
            was, self.stores[number] = self.stores[number], change.store
            for at in (0, 1):
                if was not in (b"", change.store) and number in self.seats[at][2] + self.seats[at][3]:
                    self.barred[at].add(number)
                    self.seats[at] = (index, *self.seats[at][1:])
        return True

    def set_seats(self, index: int, rows: list[list[int]]) -> bool:
        changed = list(self.seats)
        for row in rows:
            partition, stage = row[0], ("still", "fill", "joint")[row[1]]
            old, new = tuple(row[3 : 3 + row[2]]), tuple(row[3 + row[2] :])
            if partition not in (0, 1) or len([each for each in rows if each[0] == partition]) > 1:
                return False
            _, was, s, t = self.seats[partition]
            steps = {
                "still": {("fill", s, new)} if new != s else set(),
                "fill": {("joint", s, t), ("still", s, s)}
                | ({("fill", s, new)} - {("fill", s, s), ("fill", s, t)}),
                "joint": {("still", t, t), ("still", s, s)}
                | ({("fill", s, new)} - {("fill", s, s), ("fill", s, t)}),
            }
            if (stage, old, new) not in steps[was] or not all(self.can(each) for each in (old, new)):
                return False
            changed[partition] = (index, stage, old, new)
        for at in {row[0] for row in rows}:
            self.come(index, at, changed[at][2] + changed[at][3])
        self.seats = changed
        self.forget_reached()
        return True

    def come(self, index: int, at: int, holding: tuple[int, ...]) -> None:
        self.came[at] = {number: self.came[at].get(number, index) for number in holding}
        self.barred[at] &= {*holding}

    def can(self, holding: tuple[int, ...]) -> bool:
        there = all(n in self.members and self.members[n][2] != "left" for n in holding)
        return there and 1 <= len(holding) <= 15 and len(set(holding)) == len(holding)


def seen(topology: Topology) -> dict[str, Any]:
    """A topology as the model has it."""
    return {
        "buckets": {name: (each.number, each.rule.value) for name, each in topology.buckets.items()},
        "given": topology.last_bucket,
        "dropped": [each.number for each in topology.dropped],
        "dropped_since": topology.dropped_since,
        "settings": dict(topology.settings),
        "members": {each.number: [each.name, each.address, each.standing.value] for each in topology.members},
        "stores": {each.number: each.store for each in topology.members},
        "barred": [{*topology.barred.get(at, ())} for at in range(len(topology.seats))],
        "seats": [(each.since, each.stage.name.lower(), each.old, each.new) for each in topology.seats],
        "came": [
            {number: topology.came.get(at, {}).get(number, 0) for number in each.both}
            for at, each in enumerate(topology.seats)
        ],
        "founded": topology.founded,
        "plan": topology.plan,
        "unplanned": topology.unplanned,
        "replication": topology.replication,
        "said": [(identity, each.epoch, bool(each.error)) for identity, each in topology.outcomes.items()],
    }


NAMES = st.sampled_from(["carts", "a", "b", "c", "d", "default", "once", "", "x\n"])
MEMBERS = st.integers(1, 6)
ADDRESSES = st.sampled_from([f"10.0.0.{n}:7400" for n in range(1, 7)])
STORES = st.sampled_from([b"s" * 16, b"t" * 16, b""])
BINDING = st.builds(lambda number, store: SetMember(number, store=store), MEMBERS, STORES)
HOLDING = st.lists(MEMBERS, max_size=3).map(tuple)
PLAIN: st.SearchStrategy[Change] = st.one_of(
    st.builds(CreateBucket, NAMES, st.sampled_from([LWW, FWW]), st.just(NO_OPTIONS)),
    st.builds(DropBucket, NAMES),
    st.builds(ForgetDropped, st.lists(st.integers(1, 9), max_size=3)),
    st.builds(SetSetting, st.sampled_from(["k", "l", ""]), st.sampled_from(["", "v", "w" * 40_000])),
    st.builds(UnsetSetting, st.sampled_from(["k", "l"])),
    st.builds(
        AddMember, st.sampled_from(["n1", "n4", "n5", ""]), ADDRESSES, st.just(""), st.just(1), st.just(b"")
    ),
    st.builds(
        SetMember, MEMBERS, st.none() | ADDRESSES, st.none(), st.none(),
        st.sampled_from([None, "member", "draining", "left", "left"]), st.none(),
    ),
    BINDING, BINDING,
    st.just(Founded()),
)  # fmt: skip
MOVING: st.SearchStrategy[Change] = st.one_of(
    st.builds(DrainMember, MEMBERS),
    st.builds(RemoveMember, MEMBERS),
    st.builds(ReplaceMember, MEMBERS, MEMBERS, st.booleans()),
    st.just(Rebalance()),
    st.builds(CancelMoves, st.lists(st.integers(0, 2), max_size=2)),
    st.builds(TakeBack, st.lists(st.integers(0, 2), max_size=2)),
    st.builds(SetReplication, st.integers(0, 4)),
)


@st.composite
def plans(draw: Callable[..., Any], topology: Topology) -> SetPlan:
    goals = st.lists(MEMBERS, min_size=1, max_size=3)
    rows = [[at, *draw(goals)] for at in draw(st.lists(st.integers(0, 2), max_size=2, unique=True))]
    return SetPlan(topology.epoch - draw(st.sampled_from([0, 0, 0, 1])), rows)


@st.composite
def taken_in(draw: Callable[..., Any], topology: Topology) -> TakeIn:
    """Some who are barred, and some who are not."""
    of = st.sampled_from(sorted({1, 2, *(each for barred in topology.barred.values() for each in barred)}))
    rows = draw(st.lists(st.sampled_from([0, 0, 1, 1, 2]), min_size=1, max_size=2))
    return TakeIn([[at, *draw(st.lists(of, min_size=1, max_size=2))] for at in rows])


def changes(topology: Topology) -> st.SearchStrategy[Change]:
    return PLAIN | MOVING | seat_rows(topology) | plans(topology) | taken_in(topology)


@st.composite
def seat_rows(draw: Callable[..., Any], topology: Topology) -> SetSeats:
    """Some that are the next stage, and some that are not."""
    rows = []
    for partition in draw(st.lists(st.integers(0, 2), min_size=1, max_size=2)):
        now = topology.seats[min(partition, 1)]
        old = draw(st.sampled_from([now.old, now.old, now.new, (1, 2)]))
        new = draw(st.sampled_from([now.new, now.new, now.old]) | HOLDING)
        rows.append(Seats(0, draw(st.sampled_from(Stage)), old, new).row(partition))
    return SetSeats(rows)


@pytest.fixture(autouse=True, scope="module")
def _few() -> Any:
    """Bounds that a short history reaches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judgement, "OUTCOMES_MAX", OUTCOMES)
        patch.setattr(bucket_changes, "BUCKETS_MAX", BUCKETS)
        yield


@given(st.data())
def test_a_topology_is_what_the_model_says(data: st.DataObject) -> None:
    model, topology = Model(), found(CONFIG)
    for index in range(1, data.draw(st.integers(1, 20)) + 1):
        change = data.draw(changes(topology))
        identity = data.draw(st.sampled_from([UNNAMED, index, index, index, 3, 4]))
        topology = apply(topology, index, entry(change, identity))
        model.apply(index, change, identity)
        assert topology.epoch == index
        assert seen(topology) == vars(model)


@given(st.data())
def test_replayed_from_any_snapshot_it_is_the_same(data: st.DataObject) -> None:
    log = Log(found(CONFIG))
    topologies = [log.topology]
    for index in range(1, data.draw(st.integers(1, 12)) + 1):
        identity = data.draw(st.sampled_from([UNNAMED, index, 3]))
        log.append(entry(data.draw(changes(log.topology)), identity))
        topologies.append(log.topology)
    at = data.draw(st.integers(0, len(log.entries)))
    topology = Topology.decode(topologies[at].encode())
    assert topology == topologies[at]
    for index, said in enumerate(log.entries[at:], at + 1):
        topology = apply(topology, index, said)
    assert topology == log.topology
    assert topology.encode() == log.topology.encode()
    assert list(topology.outcomes) == list(log.topology.outcomes)  # the first to go is the same


# --- form --------------------------------------------------------------------------------------------


def full() -> Topology:
    """With something in every field."""
    log = Log(founded(CONFIG))
    for change in (
        CreateBucket("baskets", LWW, [1, 1, 3, 2]), DropBucket("carts"), SetSetting("l", "v"),
        SetSetting("k", "w"), AddMember("n4", "h:1", "z", 7, b"s" * 16), SetMember(1, standing="draining"),
        DropBucket("nothing"),
    ):  # fmt: skip
        log.add(change)
    seats = log.topology.seats[1]
    log.add(SetSeats([Seats(0, Stage.FILL, seats.old, (4,)).row(1)]))
    return replace(log.topology, unplanned=False)


FULL = full()


def test_its_form_is_the_same_for_ever() -> None:
    small = Topology(
        9, b"c" * 16, 1, 5, 6, (MemberEntry(3, "n", "h:1", "z", 2, Standing.DEAD, b"s"),),
        (Seats.still((3,)),),
        {"b": Bucket(4, "b", Rule.LAST_WRITE_WINS, b"b")}, 5, (), {"k": "v"}, True,
        {7: Outcome(8, "", 4, b"12345678")}, 6,
    )  # fmt: skip
    assert cbor2.loads(small.encode()) == [
        1, [[9, b"c" * 16, 1, 5, 6, 5, True, 6]], [[3, "n", "h:1", "z", 2, "dead", b"s"]],
        [[0, 0, b"\0\3", b""]], [[4, "b", "last-write-wins", b"b", 0, 0, 0, 0]], [], [["k", "v"]],
        [[7, 8, "", 4, b"12345678"]],
    ]  # fmt: skip
    planned = replace(small, plan={0: (3,)}, unplanned=True)
    version, *tables = cbor2.loads(small.encode())
    assert cbor2.loads(planned.encode()) == [version + 1, *tables, True, [[0, 3]]]
    moved = replace(planned, seats=(Seats.still((3,), 2),), came={0: {3: 1}})
    tables[2] = [[2, 0, b"\0\3", b""]]
    assert cbor2.loads(moved.encode()) == [version + 2, *tables, True, [[0, 3]], [[0, 3, 1]]]
    barred = replace(moved, barred={0: frozenset((3,))})
    tail = [True, [[0, 3]], [[0, 3, 1]], [[0, 3]]]
    assert cbor2.loads(barred.encode()) == [version + 3, *tables, *tail]
    assert Topology.decode(barred.encode()) == barred
    for each in (small, planned, moved, replace(moved, came={})):
        assert Topology.decode(each.encode()) == each


def test_where_it_was_not_said_yet_who_has_come_when_nobody_is_known_to_have_kept_its_seat() -> None:
    for told in ([1, *tables()[1:8]], [2, *tables()[1:8], True, []]):
        topology = Topology.decode(cbor2.dumps(told))
        seats = FULL.seats[1]
        assert topology.came == {1: dict.fromkeys(seats.both, seats.since)}
        assert replace(topology, came=FULL.came, unplanned=False) == FULL


def test_its_form_does_not_depend_on_the_order_in_which_settings_came() -> None:
    turned = replace(FULL, settings=dict(reversed(list(FULL.settings.items()))))
    assert turned.encode() == FULL.encode()
    assert Topology.decode(FULL.encode()) == FULL


def tables() -> Any:
    return cbor2.loads(FULL.encode())


def changed(*way: Any) -> Any:
    """The rows of a topology with one thing changed, by its place."""
    *path, last, value = way
    whole = place = tables()
    for step in path:
        place = place[step]
    place[last] = value
    return whole


def barred(*of: Any) -> Any:
    """The same, with these barred."""
    return [4, *tables()[1:], *of]


def test_who_is_barred_comes_back_as_it_was() -> None:
    assert Topology.decode(cbor2.dumps(barred([[1, 4]]))) == replace(FULL, barred={1: frozenset((4,))})


@pytest.mark.parametrize(
    "rows",
    [
        [], {}, 7, tables()[:-1], [*tables(), []], changed(0, 2), changed(0, "1"), changed(2, {}),
        changed(1, []), changed(1, 0, 0, "1"), changed(1, 0, 6, 1), changed(1, 0, 0, 1), changed(1, 0, 7, 99),
        changed(2, 0, 0, 3), changed(2, 0, 0, -1), changed(2, 3, 0, 65535), changed(2, 0, 5, "asleep"),
        changed(2, []),
        changed(2, [[-1, "n9", "h:9", "", 1, "member", b""], *tables()[2]]),
        changed(2, [*tables()[2], [65535, "n9", "h:9", "", 1, "member", b""]]),
        changed(2, [*tables()[2], tables()[2][-1]]), changed(2, 0, 5, "left"), changed(2, 0, [1, "n1"]),
        changed(3, []), changed(3, 0, 0, 99), changed(3, 0, 1, 3), changed(3, 0, 2, b"\0\5"),
        changed(3, 0, 2, b""),
        changed(3, 0, 2, b"\0\1\0\1"), changed(3, 0, 2, b"\1"), changed(3, 0, 3, "x"),
        changed(4, 0, 0, 0), changed(4, 0, 0, 99), changed(4, 0, 0, 2), changed(4, 0, 0, True),
        changed(4, 0, 2, "newest-wins"), changed(4, 0, 5, 7), changed(4, 1, 1, "default"),
        changed(5, 0, 0, 1), changed(5, 0, 2, "x"), changed(6, [["l", "v"], ["k", "w"]]),
        changed(6, [["k", "w"], ["k", "w"]]), changed(6, [["k", 1]]), changed(7, 0, 1, 99),
        changed(7, 0, 2, None),
        changed(7, [[n + 1, 1, "", 1] for n in range(OUTCOMES + 1)]), changed(10, [[0, 1, 1]]),
        changed(10, [[1]]), changed(10, [[1, 4]]), changed(10, [[1, 4, 0]]),
        changed(10, [[1, 4, 99]]), changed(10, [[1, 9, 1]]), changed(10, [[7, 4, 1]]), changed(10, 7),
        barred(), barred([]), barred([[0, 1]]), barred([[1]]), barred([[1, 3, 1]]), barred([[1, 1, 1]]),
        barred([[1, 9]]), barred([[7, 1]]), barred([[-1, 1]]), barred(7), [4], [4, *tables()[1:8]],
        [3, *barred([[1, 4]])[1:]],
        changed(0, 1), [1, *tables()[1:8], False, []], [2, *tables()[1:8], False, []],
        [3, *tables()[1:3], [[0, *each[1:]] for each in tables()[3]], *tables()[4:10], []],
    ],
)  # fmt: skip
def test_what_is_no_topology_is_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match="this is no topology"):
        Topology.decode(cbor2.dumps(rows))


def test_of_one_that_a_later_release_has_written_that_is_said() -> None:
    with pytest.raises(ValueError, match="it has version 5, which this release does not know"):
        Topology.decode(cbor2.dumps([5, {}]))


@given(st.tuples(st.integers(0, len(FULL.encode()) - 1), st.integers(1, 255)) | st.integers(0, 400))
def test_a_byte_that_is_wrong_makes_another_topology_or_none(at: tuple[int, int] | int) -> None:
    data = bytearray(FULL.encode())
    if isinstance(at, int):
        data = data[:at] + bytes(at >= len(data))
    else:
        data[at[0]] ^= at[1]
    try:
        topology = Topology.decode(bytes(data))
    except ValueError as error:
        assert "this is no topology" in str(error)  # noqa: PT017
        return
    assert topology != FULL
    assert topology.encode() == bytes(data)


def test_a_large_one_fits_into_about_110_kb() -> None:
    members = tuple(
        MemberEntry(n, f"n{n}", f"10.0.{n // 256}.{n % 256}:7400", f"z{n % 5}", store=bytes([n % 256]) * 16)
        for n in range(1, 1001)
    )
    seats = tuple(Seats.still(tuple((p * 7 + at * 333) % 1000 + 1 for at in range(3))) for p in range(4096))
    large = replace(founded(), members=members, seats=seats)
    assert 90_000 < len(large.encode()) < 110_000
    assert Topology.decode(large.encode()) == large


def test_labels_of_later_buckets_are_no_names() -> None:
    assert later_label(3) == b"\0\0\0\0\3"
    assert later_label((1 << 32) - 1) == b"\0\xff\xff\xff\xff"
