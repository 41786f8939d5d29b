"""Levels, and the tally against a twin that counts from the beginning each time; and the same while replicas
are being changed."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.consistency import COUNTED, JointQuorum, Level, Quorum, ReplicaState, Tally, Verdict, quorums

ANSWERS = (ReplicaState.APPLIED, ReplicaState.SUPERSEDED)


@pytest.mark.parametrize("replicas", range(1, 16))
def test_what_levels_require(replicas: int) -> None:
    assert Level.ANY.required(replicas) == Level.ONE.required(replicas) == 1
    assert Level.ALL.required(replicas) == replicas
    quorum = Level.QUORUM.required(replicas)
    assert quorum == replicas // 2 + 1
    assert 2 * quorum > replicas  # any two quorums share a replica


class Twin:
    """What a tally should say, told without being clever."""

    def __init__(self, replicas: int, level: Level) -> None:
        self.level = level
        self.required = level.required(replicas)
        self.states = [ReplicaState.PENDING] * replicas

    def record(self, place: int, state: ReplicaState) -> bool:
        if self.states[place] in (*ANSWERS, state):
            return False
        self.states[place] = state
        return True

    def count(self, *states: ReplicaState) -> int:
        return sum(state in states for state in self.states)

    @property
    def verdict(self) -> Verdict:
        applied = self.count(ReplicaState.APPLIED)
        if applied >= self.required:
            return Verdict.STORED
        if applied + self.count(ReplicaState.PENDING) >= self.required:
            return Verdict.OPEN
        if self.count(ReplicaState.SUPERSEDED):
            return Verdict.SUPERSEDED
        if self.level is Level.ANY and self.count(ReplicaState.HINTED):
            return Verdict.STORED
        return Verdict.FAILED


outcomes = st.sampled_from([s for s in ReplicaState if s is not ReplicaState.PENDING])


@given(
    level=st.sampled_from(COUNTED),
    replicas=st.integers(1, 7),
    words=st.lists(st.tuples(st.integers(0, 6), outcomes), max_size=25),
)
def test_a_tally_is_what_its_dumb_twin_says(
    level: Level, replicas: int, words: list[tuple[int, ReplicaState]]
) -> None:
    tally, twin = Tally(replicas, level), Twin(replicas, level)
    assert tally.verdict is twin.verdict
    for place, state in words:
        place %= replicas
        assert tally.record(place, state) == twin.record(place, state)
        assert tally.states == twin.states
        assert tally.verdict is twin.verdict
        assert tally.applied == twin.count(ReplicaState.APPLIED)
        assert tally.superseded == twin.count(ReplicaState.SUPERSEDED)
        assert tally.hinted == twin.count(ReplicaState.HINTED)
        assert tally.waiting == twin.count(ReplicaState.PENDING)


@given(
    level=st.sampled_from(COUNTED),
    replicas=st.integers(1, 7),
    words=st.lists(st.tuples(st.integers(0, 6), outcomes), max_size=25),
)
def test_stored_is_never_taken_back(
    level: Level, replicas: int, words: list[tuple[int, ReplicaState]]
) -> None:
    tally = Tally(replicas, level)
    was_stored_by_replicas = False
    for place, state in words:
        tally.record(place % replicas, state)
        if was_stored_by_replicas:
            assert tally.verdict is Verdict.STORED
        was_stored_by_replicas = tally.applied >= tally.required


@given(replicas=st.integers(1, 7), level=st.sampled_from([Level.ONE, Level.QUORUM, Level.ALL]))
def test_hints_count_for_any_only(replicas: int, level: Level) -> None:
    for chosen, verdict in ((Level.ANY, Verdict.STORED), (level, Verdict.FAILED)):
        tally = Tally(replicas, chosen)
        for place in range(replicas):
            tally.record(place, ReplicaState.HINTED)
        assert tally.verdict is verdict


# --- while replicas are being changed --------------------------------------------------------

APART, OVERLAPPING = ((0, 1, 2), (3, 4, 5)), ((0, 1, 2), (0, 3, 4))
ANY, ONE, QUORUM, ALL = COUNTED
Both = tuple[tuple[int, ...], tuple[int, ...]]
SHAPES: list[Both] = [
    (tuple(range(old)), tuple(range(old - shared, old - shared + new)))
    for old in range(1, 4)
    for new in range(1, 4)
    for shared in range(min(old, new) + 1)
]
each_shape = pytest.mark.parametrize("both", SHAPES, ids=str)
each_level = pytest.mark.parametrize("level", COUNTED)


def some(both: Both) -> list[set[int]]:
    """All sets of those who hold it, before or after."""
    members = sorted({*both[0], *both[1]})
    return [set(each) for count in range(len(members) + 1) for each in combinations(members, count)]


def suffice(level: Level, old: tuple[int, ...], new: tuple[int, ...], members: set[int]) -> bool:
    """Told without being clever."""
    if level is Level.ALL:
        return members >= {*old, *new}
    if level is Level.QUORUM:
        return all(2 * len(members & set(each)) > len(each) for each in (old, new))
    return bool(members & set(old)) and bool(members & set(new))


@pytest.mark.parametrize(
    ("old", "new", "members", "levels"),
    [
        (*APART, {0, 1, 2}, set()),
        (*APART, {0, 1, 2, 3}, {ANY, ONE}),
        (*APART, {0, 1, 3, 4}, {ANY, ONE, QUORUM}),
        (*APART, {3, 4, 5}, set()),
        (*APART, {0, 1, 2, 3, 4, 5}, {ANY, ONE, QUORUM, ALL}),
        (*OVERLAPPING, {1, 2}, set()),
        (*OVERLAPPING, {0, 1}, {ANY, ONE}),
        (*OVERLAPPING, {0, 1, 3}, {ANY, ONE, QUORUM}),
        (*OVERLAPPING, {1, 2, 3, 4}, {ANY, ONE, QUORUM}),
        ((0,), (1,), {0}, set()),
        ((0,), (1,), {1}, set()),
        ((0,), (1,), {0, 1}, {ANY, ONE, QUORUM, ALL}),
        ((0,), (0, 1, 2), {0}, {ANY, ONE}),
        ((0,), (0, 1, 2), {0, 2}, {ANY, ONE, QUORUM}),
        ((0, 1), (1, 2), {1}, {ANY, ONE}),
        ((0, 1), (1, 2), {0, 1}, {ANY, ONE}),
        ((0, 1), (1, 2), {0, 1, 2}, {ANY, ONE, QUORUM, ALL}),
        ((0, 1, 2), (0,), {1, 2}, set()),
        ((0, 1, 2), (0,), {0, 2}, {ANY, ONE, QUORUM}),
    ],
)
def test_whose_word_suffices_for_which_levels(
    old: tuple[int, ...], new: tuple[int, ...], members: set[int], levels: set[Level]
) -> None:
    assert {level for level in COUNTED if quorums(old, new)[level].met(members)} == levels


@each_shape
@each_level
def test_a_joint_quorum_is_what_its_dumb_twin_says(both: Both, level: Level) -> None:
    quorum = JointQuorum(*both, level)
    assert set(quorum.replicas) == {*both[0], *both[1]}
    assert len(quorum.replicas) == len(set(quorum.replicas))
    assert set(quorum.lasting) == set(both[0]) & set(both[1])
    for members in some(both):
        met = suffice(level, *both, members)
        assert quorum.met(members) == met
        assert all(quorum.met(members, {less}) == suffice(level, *both, members - {less}) for less in members)
        required, counted = quorum.told(members)
        assert (counted >= required) == met
        assert 1 <= required <= quorum.required


@each_level
@pytest.mark.parametrize("count", range(1, 6))
def test_where_nothing_changes_two_quorums_are_one(count: int, level: Level) -> None:
    same = tuple(range(count))
    plain, joint = quorums(same, same)[level], JointQuorum(same, same, level)
    assert type(plain) is Quorum
    assert plain.lasting == joint.lasting == same
    for members in some((same, same)):
        assert plain.met(members) == joint.met(members)
        assert plain.told(members) == joint.told(members)
        fresh = [each for each in same if each not in members]
        assert plain.choose(fresh, members) == joint.choose(fresh, members)
        assert plain.order(fresh, members, (), 0) == joint.order(fresh, members, (), 0)
        for missing in members:
            (order, count), (as_order, as_count) = (
                each.order(fresh, members, [missing], 0) for each in (plain, joint)
            )
            assert (order, min(count, len(order))) == (as_order, as_count)


@each_shape
@each_level
def test_nobody_never_suffices(both: Both, level: Level) -> None:
    for quorum in (JointQuorum(*both, level), Quorum(both[0], level)):
        assert not quorum.met(())
        assert not quorum.met(quorum.replicas, quorum.replicas)
        assert quorum.required >= 1
        assert quorum.tally().verdict is Verdict.OPEN
        assert quorum.tally().required >= 1


@each_shape
@each_level
def test_those_who_are_asked_are_as_few_as_suffice(both: Both, level: Level) -> None:
    quorum = JointQuorum(*both, level)
    for awaited in some(both):
        fresh = [each for each in quorum.replicas if each not in awaited]
        chosen = quorum.choose(fresh, awaited)
        assert quorum.met({*chosen, *awaited})
        assert not any(quorum.met({*awaited, *chosen} - {each}) for each in chosen)
        order, count = quorum.order(fresh, awaited, (), 0)
        assert (order[:count], sorted(order)) == (chosen, sorted(fresh))


@each_shape
@each_level
def test_more_are_asked_where_they_are_lacking(both: Both, level: Level) -> None:
    quorum = JointQuorum(*both, level)
    for awaited in some(both):
        fresh = [each for each in quorum.replicas if each not in awaited]
        for more in (1, 2, 9):
            chosen = quorum.choose(fresh, awaited, more)
            assert len(chosen) == len(set(chosen)) == min(more, len(fresh))
            if chosen and not quorum.met(awaited):
                assert lacking(quorum, {*awaited, chosen[0]}) < lacking(quorum, awaited)
            order, count = quorum.order(fresh, awaited, (), more)
            assert (order[: len(chosen)], count) == (chosen, more)


def lacking(quorum: JointQuorum, members: set[int]) -> int:
    return sum(max(0, lacks) for lacks, _ in quorum.lacking(members))


def test_who_will_not_answer_is_made_up_for_in_the_same_set() -> None:
    quorum = JointQuorum(*APART, Level.QUORUM)
    assert quorum.order([0, 1, 2, 3, 4, 5], (), (), 0) == ([0, 1, 3, 4, 2, 5], 4)
    assert quorum.order([2, 5], [0, 1, 3, 4], [3], 0) == ([5, 2], 1)
    assert quorum.order([2, 5], [0, 1, 3, 4], [3], 1) == ([5, 2], 1)


@each_shape
def test_levels_are_met_once_each_by_the_member_that_completes_them(both: Both) -> None:
    quorum = JointQuorum(*both, Level.ONE)
    for members in some(both):
        for member in quorum.replicas:
            expected = tuple(
                level
                for level in COUNTED
                if suffice(level, *both, {*members, member}) and not suffice(level, *both, members)
            )
            assert quorum.met_with(members, member) == expected


class JointTwin:
    """What a tally of two quorums should say, told without being clever."""

    def __init__(self, old: tuple[int, ...], new: tuple[int, ...], level: Level) -> None:
        self.old, self.new, self.level = old, new, level
        self.states = dict.fromkeys((*old, *new), ReplicaState.PENDING)

    def record(self, replica: int, state: ReplicaState) -> bool:
        if self.states[replica] in (*ANSWERS, state):
            return False
        self.states[replica] = state
        return True

    def those(self, *states: ReplicaState) -> set[int]:
        return {replica for replica, state in self.states.items() if state in states}

    @property
    def verdict(self) -> Verdict:
        if suffice(self.level, self.old, self.new, self.those(ReplicaState.APPLIED)):
            return Verdict.STORED
        may = self.those(ReplicaState.APPLIED, ReplicaState.PENDING)
        if suffice(self.level, self.old, self.new, may):
            return Verdict.OPEN
        if self.those(ReplicaState.SUPERSEDED):
            return Verdict.SUPERSEDED
        if self.level is Level.ANY and self.those(ReplicaState.HINTED):
            return Verdict.STORED
        return Verdict.FAILED


@each_shape
@given(level=st.sampled_from(COUNTED), words=st.lists(st.tuples(st.integers(0, 9), outcomes), max_size=25))
def test_a_tally_of_two_quorums_is_what_its_dumb_twin_says(
    both: Both, level: Level, words: list[tuple[int, ReplicaState]]
) -> None:
    quorum = JointQuorum(*both, level)
    tally, twin = quorum.tally(), JointTwin(*both, level)
    for place, state in words:
        place %= len(quorum.replicas)
        before = twin.those(ReplicaState.APPLIED)
        new = tally.record(place, state)
        assert new == twin.record(quorum.replicas[place], state)
        applied = twin.those(ReplicaState.APPLIED)
        assert tally.verdict is twin.verdict
        assert tally.lasts == all(applied & set(each) for each in both)
        assert tally.told == quorum.told(applied)
        assert tally.told_less(9)[1] == 0
        assert tally.waiting == len(twin.those(ReplicaState.PENDING))
        if new and state is ReplicaState.APPLIED:
            assert tally.met == quorum.met_with(before, quorum.replicas[place])


def test_at_any_a_hint_will_do_where_none_has_it_of_those_that_leave_or_none_of_those_that_come() -> None:
    tally = JointQuorum(*APART, Level.ANY).tally()
    for place in (0, 1, 2):  # S, which leaves
        tally.record(place, ReplicaState.APPLIED)
    assert (tally.verdict, tally.lasts) == (Verdict.OPEN, False)
    assert not tally.lasts_with(1)
    assert tally.lasts_with(3)
    for place in (3, 4, 5):
        tally.record(place, ReplicaState.FAILED)
    assert (tally.verdict, tally.hinted) == (Verdict.FAILED, 0)
    tally.record(3, ReplicaState.HINTED)
    assert (tally.verdict, tally.hinted) == (Verdict.STORED, 1)
