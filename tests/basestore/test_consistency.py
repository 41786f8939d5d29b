"""Levels, and the tally against a twin that counts from the beginning each time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.consistency import Level, ReplicaState, Tally, Verdict

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
    level=st.sampled_from(Level),
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
    level=st.sampled_from(Level),
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
