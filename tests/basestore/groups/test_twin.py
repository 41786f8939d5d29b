"""Groups and their twin: what a turn has brought ends the same way, whether it is begun in groups or singly.

Two worlds are asked the same, in the same turns, under the same faults; in one of them every request is begun
by itself. Nothing that a client is told, and nothing that stands on a disk, may differ.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from basestore.consistency import Level
from basestore.groups.turn import Turn
from basestore.protocol.client import AS_ASKED, IF_ABSENT, IF_VALUE, NO_CONDITION, Delete, Get, Set, Written
from basestore.protocol.groups import ApplyGroup, ReadGroup, singly, together
from basestore.protocol.operator import Status
from basestore.storage import keyspace
from basestore.storage.keyspace import SEQUENCE_BYTES
from tests.worlds.world import World, travel

KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b"g", *(b"k%d" % n for n in range(20))])
LEVELS = st.sampled_from([Level.ANY, Level.ONE, Level.QUORUM, Level.ALL]).map(int)
READ_LEVELS = st.sampled_from([Level.ONE, Level.QUORUM, Level.ALL]).map(int)
BUCKETS = st.sampled_from(["default"] * 6 + ["once", "nowhere"])
PROPOSALS = st.sampled_from([b"", bytes(8), b"proposal", b"odd"])
STAMPS = st.sampled_from([0, 0, 0, 5, 1 << 63])
TTLS = st.sampled_from([0, 0, 0, 0, 60_000, -1])
TIMEOUTS = st.sampled_from([300, 300, 300, 900, 0])
CONDITIONS = st.sampled_from([NO_CONDITION, NO_CONDITION, NO_CONDITION, IF_ABSENT, IF_VALUE])
EXPECTED = st.sampled_from([b"", b"value"])
VALUES = st.sampled_from([b"", b"value", bytes(2000)])
_no = st.just(False)

requests = st.one_of(
    st.builds(
        Set, st.just(0), BUCKETS, KEYS, VALUES, LEVELS, TIMEOUTS, TTLS, PROPOSALS, _no, STAMPS, _no,
        CONDITIONS, EXPECTED,
    ),
    st.builds(
        Delete, st.just(0), BUCKETS, KEYS, LEVELS, TIMEOUTS, PROPOSALS, _no, STAMPS, _no, CONDITIONS, EXPECTED
    ),
    st.builds(
        Get, st.just(0), BUCKETS, KEYS, READ_LEVELS, TIMEOUTS, st.just(b""), st.just(True),
        st.sampled_from([False, False, False, True]), st.just(0),
        st.sampled_from([0, 0, 0, AS_ASKED, 60_000]),
    ),
)  # fmt: skip
# Those with all but their keys in common travel as one message, and singly they do not.
alike = st.tuples(requests, st.lists(KEYS, min_size=1, max_size=8)).map(
    lambda drawn: [drawn[0]._replace(key=key) for key in drawn[1]]
)
turns = st.lists(alike, min_size=1, max_size=8).map(lambda runs: [each for run in runs for each in run])
faults = st.sampled_from(
    ["none", "none", "none", "hold", "part", "isolate", "freeze", "wait", "crash", "heal", "spoil", "one way"]
)
SLOWING = {"hold", "part", "isolate", "freeze", "one way"}


class Twin(World):
    """A world whose first node is asked many things in a turn."""

    def __init__(self, replication: int) -> None:
        super().__init__(3, replication=replication, buckets={})
        # Of replicas that are equally near either way asks which it likes, and one of them may be slow.
        self.node(0).peers.distance[:] = 0, 1, 2
        self._slow = False
        self._under_way: set[bytes] = set()  # keys of what may not have ended

    def suffer(self, fault: str) -> None:
        self._slow = self._slow or fault in SLOWING
        if fault == "hold":
            self.hold(0, 1)
        elif fault == "one way":
            self.hold(2, 0)
        elif fault == "part":
            self.part(0, 2)
        elif fault == "isolate":
            self.isolate(1)
        elif fault == "freeze":
            self.freeze(0, 2)
        elif fault == "wait":
            self.run(0.5)
        elif fault == "crash":
            self.restart(2)
        elif fault == "spoil" and self.stored(1, "a") is not None:
            self.spoil(1, "a")
        elif fault == "heal":
            self.thaw(0, 1, 2)
            for index in range(3):
                self.rejoin(index)
            if frozenset((0, 2)) in self.cut:
                self.join(0, 2)

    def bring(self, turn: list[Any]) -> None:
        # What is concurrent may end in either order: so where much is slow no turn asks for what one before
        # it has asked for.
        if self._slow:
            turn = [request for request in turn if request.key not in self._under_way]
        self._under_way |= {request.key for request in turn}
        self.ask_together(0, turn)
        self.settle()

    def end(self) -> tuple[Any, ...]:
        """All that was answered, and all that is stored."""
        self.suffer("heal")
        self.run(4)
        client = self.clients[0]
        assert client is not None
        assert self.node(0).operations.count == 0
        assert self.node(0).operations.bytes == 0
        answers = [(number, told(answer)) for number, answer in sorted(client.answers.items())]
        records = [
            {key: stored[:-SEQUENCE_BYTES] for key, stored in engine.scan(*keyspace.records())}
            for engine in self.engines
        ]
        return answers, records


def told(answer: Any) -> Any:
    """Of a receipt, the replicas by their numbers: their order means nothing."""
    if not isinstance(answer, Written):
        return answer
    states = sorted(zip(answer.replicas[::2], answer.replicas[1::2], strict=True))
    return answer._replace(replicas=[part for each in states for part in each])


@contextmanager
def ungrouped() -> Iterator[None]:
    """Nothing is put in a group."""
    with patch.object(Turn, "calm", False):
        yield


@settings(max_examples=120, phases=[Phase.generate])
@given(st.integers(1, 3), st.lists(st.tuples(turns, faults), min_size=1, max_size=4))
def test_a_turn_ends_the_same_in_groups_and_singly(replication: int, story: list[tuple[Any, str]]) -> None:
    ends = []
    for each in (False, True):
        twin = Twin(replication)
        for turn, fault in story:
            if each:
                with ungrouped():
                    twin.bring(turn)
            else:
                twin.bring(turn)
            twin.suffer(fault)
        ends.append(twin.end())
    (answers, records), (single_answers, single_records) = ends
    assert answers == single_answers
    assert records == single_records


@given(turns)
def test_what_is_asked_together_is_the_same_as_what_is_asked_singly(turn: list[Any]) -> None:
    asked = [request._replace(id=number) for number, request in enumerate(turn, 1)]
    assert singly(travel(together(asked))) == asked


def test_what_a_turn_has_brought_travels_as_one_message_for_each_kind() -> None:
    world = Twin(3)
    sets = [Set(0, "default", b"k%d" % n, b"v", Level.QUORUM, 500, 0, b"") for n in range(20)]
    gets = [Get(0, "default", b"k%d" % n, Level.QUORUM, 500, b"", True) for n in range(20)]
    world.bring(sets)
    assert len(world.sent(ApplyGroup)) == 2  # one for each peer
    world.bring(gets)
    assert len(world.sent(ReadGroup)) == 2
    world.ask(0, Status)
