"""What `basestore status` says of a node beside its columns."""

from basestore.cli.status import row
from basestore.results.nodes import NodeState


def notes(**facts: str) -> str:
    """The last column; a blank in a name is written as an underscore."""
    named = {name.replace("_", " "): text for name, text in facts.items()}
    return str(row(NodeState("n1", "127.0.0.1:7400", "up", 1, 0, {}, named))[-1])


def test_hot_keys_are_named_on_one_line_whatever_is_in_them() -> None:
    hostile, long = b"\x1b[31m\n".hex(), (b"x" * 70).hex()
    told = notes(hot_key_1=f"51200 6 {hostile} default", hot_key_2=f"100 70 {long} orders")
    assert told == (f"hot keys: \\x1b[31m\\n (about 51,200/s), {'x' * 40}... in orders (about 100/s)")


def test_without_any_nothing_is_said() -> None:
    assert notes() == ""
