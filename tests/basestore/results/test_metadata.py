"""What a node's facts say of the metadata group, for programs."""

import json

import pytest

from basestore.errors import BasestoreError
from basestore.protocol.operator import Fact, NodeStatus
from basestore.results.metadata import Metadata
from basestore.results.nodes import node_state

FACTS = {
    "metadata role": "leader",
    "metadata leader": "n1",
    "metadata term": "3",
    "metadata epoch": "7",
    "metadata decided": "7",
    "metadata no leader since ms": "",
    "metadata voters": "n1 n2",
    "metadata untaken": "n2",
    "metadata waits": "",
    "metadata of n1": "7",
    "metadata of n2": "5",
    "metadata of n3": "",
    "metadata behind n2": "2 1600000000000",
    "metadata silent n2": "1600000000001",
    "metadata stranded n3": "dead 12",
}


def test_they_are_read_and_shown() -> None:
    metadata = Metadata.of(FACTS)
    assert metadata is not None
    assert json.loads(json.dumps(metadata.as_json())) == {
        "role": "leader",
        "leader": "n1",
        "term": 3,
        "epoch": 7,
        "decided": 7,
        "no_leader_since_ms": None,
        "voters": ["n1", "n2"],
        "epochs": {"n1": 7, "n2": 5, "n3": None},
        "behind": {"n2": {"entries": 2, "since_ms": 1600000000000}},
        "silent": {"n2": 1600000000001},
        "untaken": ["n2"],
        "waits": "",
        "stranded": {"n3": {"standing": "dead", "partitions": 12}},
    }


def test_what_is_not_said_is_not_known() -> None:
    assert Metadata.of({}) is None
    bare = Metadata.of({"metadata role": "voter"})
    assert bare is not None
    assert (bare.leader, bare.epoch, bare.decided, bare.epochs) == (None, None, None, {})


@pytest.mark.parametrize("name", ["metadata epoch", "metadata behind n2", "metadata silent n2"])
def test_what_makes_no_sense_is_an_error(name: str) -> None:
    told = {"node": "n1", "state": "up"} | FACTS | {name: "x y"}
    with pytest.raises(BasestoreError):
        node_state(NodeStatus(1, [Fact(*fact) for fact in told.items()]))
