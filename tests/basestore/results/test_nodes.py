"""What a node says of itself, as its client reads it."""

import json

import pytest

from basestore.errors import ConnectionLost
from basestore.protocol.operator import Fact, NodeStatus
from basestore.results.nodes import HotKey, Limit, NodeState, Refused, down, node_state

KNOWN = {"node": "n1", "state": "up"}


def told(**facts: str) -> NodeState:
    """The state of a node that says that; a blank is written as an underscore."""
    said = [Fact(name.replace("_", " "), text) for name, text in (KNOWN | facts).items()]
    return node_state(NodeStatus(1, said))


def test_hot_keys_are_read_in_their_order_and_shown_to_machines_whatever_bytes_they_are_of() -> None:
    state = told(hot_key_1="5120 3 00ff0a two words", hot_key_2="100 1 6b default")
    assert state.hot_keys == [HotKey("two words", b"\x00\xff\n", 3, 5120), HotKey("default", b"k", 1, 100)]
    shown = json.loads(json.dumps(state.as_json()))
    assert shown["hot_keys"] == [
        {
            "bucket": "two words",
            "key": "AP8K",
            "key_encoding": "base64",
            "key_bytes": 3,
            "requests_per_s": 5120,
        },
        {"bucket": "default", "key": "k", "key_encoding": "utf8", "key_bytes": 1, "requests_per_s": 100},
    ]
    assert not any(name.startswith("hot_key_") for name in shown)


def test_of_a_node_that_names_none_or_is_down_there_are_none() -> None:
    for state in (told(), down("n1", "127.0.0.1:1", "it is off")):
        assert state.as_json()["hot_keys"] == []


def test_limits_and_who_was_shed_are_read_whatever_they_are_called() -> None:
    state = told(limit_two_words="0 50 1 2 3 4", most_shed_1="7 this process", most_shed_2="3 ::1")
    assert state.limits == [Limit("two words", None, 50, 1, 2, 3, 4)]
    assert state.most_shed == [Refused("this process", 7), Refused("::1", 3)]
    shown = json.loads(json.dumps(state.as_json()))
    assert shown["limits"][0]["bucket"] == "two words"
    assert shown["limits"][0]["requests_per_s"] is None
    assert shown["most_shed"][1] == {"tenant": "::1", "requests": 3}
    assert not any(name.startswith(("limit_", "most_shed_")) for name in shown)


@pytest.mark.parametrize(
    "facts", [{"limit_b": "1 2"}, {"limit_b": "1 2 3 4 5 six"}, {"most_shed_1": "7"}, {"most_shed_1": "a b"}]
)
def test_limits_and_counts_that_make_no_sense_are_no_answer(facts: dict[str, str]) -> None:
    with pytest.raises(ConnectionLost):
        told(**facts)


@pytest.mark.parametrize("text", ["", "1 2 zz default", "many 1 6b default", "1 2 6b"])
def test_what_makes_no_sense_is_no_answer(text: str) -> None:
    with pytest.raises(ConnectionLost):
        told(hot_key_1=text)
