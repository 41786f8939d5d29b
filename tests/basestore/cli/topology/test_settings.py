"""`basestore settings get | set | unset`.

Covers `cli/topology/settings.py`.
"""

import json

from click.testing import CliRunner

from basestore.cli import group
from basestore.protocol.membership import CONSISTENT
from tests.worlds.fakes import FakeNode
from tests.worlds.told_topologies import Answers, ask


def test_a_setting_is_set_read_and_unset(node: FakeNode) -> None:
    assert ask(node, "settings", "set", "flow", "on").stdout == "flow is set, from epoch 2 on\n"
    assert ask(node, "settings", "get", "flow").stdout == "on\n"
    assert json.loads(ask(node, "settings", "get", "flow", "-o", "json").stdout) == {
        "epoch": 2, "mode": "default", "heard_ms": 1500, "key": "flow", "value": "on",
    }  # fmt: skip
    assert ask(node, "settings", "unset", "flow").stdout == "flow is set no more, from epoch 3 on\n"
    assert ask(node, "settings", "unset", "flow").return_value == 2


def test_what_is_not_set_ends_with_1(node: FakeNode) -> None:
    missing = ask(node, "settings", "get", "flow")
    assert (missing.return_value, missing.stdout) == (1, "")
    assert "basestore settings get" in missing.stderr
    told = ask(node, "settings", "get", "flow", "-o", "json")
    assert (told.return_value, json.loads(told.stdout)["value"]) == (1, None)


def test_all_settings_are_a_line_each(node: FakeNode) -> None:
    ask(node, "settings", "set", "b", "two\nlines")
    ask(node, "settings", "set", "a", "1")
    assert ask(node, "settings", "get").stdout == "a\t1\nb\ttwo\\nlines\n"
    view = json.loads(ask(node, "settings", "get", "-o", "json").stdout)
    assert view == {
        "epoch": 3, "mode": "default", "heard_ms": 1500, "settings": {"b": "two\nlines", "a": "1"},
    }  # fmt: skip


def test_how_old_it_is_is_said_apart_from_what_is_read(node: FakeNode, answers: Answers) -> None:
    ask(node, "settings", "set", "flow", "on")
    stale = ask(node, "settings", "get", "flow", "--mode", "stale")
    assert (stale.stdout, stale.stderr.startswith("epoch 2: may be old")) == ("on\n", True)
    consistent = ask(node, "settings", "get", "flow", "--mode", "consistent")
    assert (consistent.stdout, consistent.stderr, answers.asked[-1].mode) == ("on\n", "", CONSISTENT)


def test_what_no_cluster_takes_ends_with_2(node: FakeNode, answers: Answers) -> None:
    refused = ask(node, "settings", "set", "k", "v" * ((64 << 10) + 1))
    assert refused.return_value == 2
    assert "keep it under a key of a bucket" in refused.stderr
    assert answers.asked == []


def test_help_says_when_to_take_a_setting_and_when_a_key() -> None:
    told = " ".join(CliRunner().invoke(group, ["settings", "--help"]).output.split())
    assert "Take a setting for what is small, read by everybody and rarely changed" in told
    assert "Take a key (`basestore set`) for data" in told
    assert "64 KiB" in told
