"""What `basestore status` says of a node beside its columns."""

from contextlib import nullcontext

import pytest
from click.testing import CliRunner

from basestore.cli import exits
from basestore.cli.cluster import status as command
from basestore.cli.cluster.status import row
from basestore.results.nodes import NodeState


def notes(**facts: str) -> str:
    """The last column; a blank in a name is written as an underscore."""
    named = {name.replace("_", " "): text for name, text in facts.items()}
    return str(row(NodeState("n1", "127.0.0.1:7400", "up", 1, 0, {}, named))[-1])


def test_hot_keys_are_named_on_one_line_whatever_is_in_them() -> None:
    hostile, long = b"\x1b[31m\n".hex(), (b"x" * 70).hex()
    told = notes(hot_key_1=f"51200 6 {hostile} default", hot_key_2=f"100 70 {long} orders")
    assert told == (f"hot keys: \\x1b[31m\\n (about 51,200/s), {'x' * 40}... in orders (about 100/s)")


@pytest.mark.parametrize(("fact", "code"), [("brownout", exits.DONE), ("disk", exits.REFUSED)])
def test_check_asks_whether_data_are_safe_and_not_how_busy_nodes_are(
    monkeypatch: pytest.MonkeyPatch, fact: str, code: int
) -> None:
    class Store:
        def status(self) -> list[NodeState]:
            return [NodeState("n1", "127.0.0.1:7400", "up", 1, 0, {}, {fact: "2", "requests max": "8"})]

    monkeypatch.setattr(command, "open_store", lambda target: nullcontext(Store()))
    told = CliRunner().invoke(command.status_command, ["--check"], standalone_mode=False)
    assert told.return_value == code, told.output
    asked = CliRunner().invoke(command.status_command, ["--help"]).output
    assert "how busy nodes are (brownout) makes no difference" in " ".join(asked.split())


def test_without_any_nothing_is_said() -> None:
    assert notes() == ""
