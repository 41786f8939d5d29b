"""`basestore bucket create | drop | list`: what it says, how it ends, and what must be confirmed.

Covers `cli/topology/buckets.py` and `changes.py`.
"""

import json
import os
import pty
import subprocess
from typing import Any

import pytest

from basestore.errors import ChangeUnknown, NoLeader
from basestore.protocol.client import Failed
from basestore.protocol.membership import ChangeTopology
from basestore.results.answers import identity_of
from basestore.topology.changes import CreateBucket, DropBucket
from basestore.topology.entries import decode_entry
from tests.worlds.fakes import FakeNode, fake
from tests.worlds.patience import PATIENCE_S
from tests.worlds.shell import COMMAND, environment
from tests.worlds.told_topologies import Answers, ask


def changes(answers: Answers) -> list[Any]:
    return [decode_entry(each.entry).change for each in answers.asked if isinstance(each, ChangeTopology)]


def test_a_bucket_is_created_and_the_epoch_is_said(node: FakeNode, answers: Answers) -> None:
    done = ask(node, "bucket", "create", "carts")
    assert (done.return_value, done.stdout) == (0, "bucket carts is there under number 3, from epoch 2 on\n")
    told = ask(node, "bucket", "create", "orders", "--rule", "first-write-wins", "-o", "json")
    assert json.loads(told.stdout) == {"epoch": 3, "number": 4}
    assert changes(answers) == [
        CreateBucket("carts", "last-write-wins", [0, 0, 0, 0]),
        CreateBucket("orders", "first-write-wins", [0, 0, 0, 0]),
    ]


def test_options_are_those_of_the_cluster(node: FakeNode, answers: Answers) -> None:
    options = ("--degrade-s", "5", "--defer", "--requests-per-s", "100", "--key-requests-per-s", "10")
    assert ask(node, "bucket", "create", "carts", *options).return_value == 0
    assert changes(answers) == [CreateBucket("carts", "last-write-wins", [5, 1, 100, 10])]
    listed = ask(node, "bucket", "list").stdout.splitlines()
    assert listed[0].split() == ["NUMBER", "NAME", "RULE", "OPTIONS"]
    assert listed[3].split(maxsplit=3) == [
        "3", "carts", "last-write-wins",
        "degrade_s 5, defer yes, requests_per_s 100, key_requests_per_s 10",
    ]  # fmt: skip
    assert listed[1].split() == ["1", "default", "last-write-wins", "-"]


def test_writes_of_a_bucket_may_be_agreed_on(node: FakeNode, answers: Answers) -> None:
    assert ask(node, "bucket", "create", "leaders", "--rule", "register").return_value == 0
    owners = ("bucket", "create", "owners", "--rule", "first-write-wins", "--agreed")
    assert ask(node, *owners).return_value == 0
    assert [change.rule for change in changes(answers)] == ["register", "first-write-wins-agreed"]
    listed = [line.split(maxsplit=2) for line in ask(node, "bucket", "list").stdout.splitlines()[3:]]
    assert [(name, rule.rsplit(maxsplit=1)[0].rstrip()) for _, name, rule in listed] == [
        ("leaders", "register"),
        ("owners", "first-write-wins, agreed"),
    ]
    told = json.loads(ask(node, "bucket", "list", "-o", "json").stdout)["buckets"]
    assert [(bucket["rule"], bucket["agreed"]) for bucket in told] == [
        ("last-write-wins", False),
        ("first-write-wins", False),
        ("register", False),
        ("first-write-wins", True),
    ]


@pytest.mark.parametrize("rule", ["last-write-wins", "register"])
def test_of_other_rules_none_is_agreed_on_by_choice(node: FakeNode, answers: Answers, rule: str) -> None:
    refused = ask(node, "bucket", "create", "b", "--rule", rule, "--agreed")
    assert (refused.return_value, changes(answers)) == (2, [])
    assert f"give up `agreed`, or rule {rule} for first-write-wins" in refused.stderr


def test_what_is_refused_ends_with_2_and_says_why_and_when(node: FakeNode) -> None:
    ask(node, "bucket", "create", "carts")
    for words in (("create", "carts"), ("create", "carts", "--rule", "first-write-wins")):
        refused = ask(node, "bucket", *words)
        assert refused.return_value == 2
        assert "'carts' exists" in refused.stderr
        assert "(decided at epoch" in refused.stderr
    assert ask(node, "bucket", "drop", "nothing", "--yes").return_value == 2
    limits = ("--requests-per-s", "1", "--key-requests-per-s", "2")
    assert "would never be reached" in ask(node, "bucket", "create", "more", *limits).stderr


@pytest.mark.parametrize(
    ("code", "text", "ends"),
    [(NoLeader.code, "nobody leads", 3), (ChangeUnknown.code, "timeout", 4)],
)
def test_what_was_not_decided_ends_by_what_is_known(code: int, text: str, ends: int) -> None:
    asked: list[ChangeTopology] = []

    def answer(request: Any) -> Failed:
        asked.append(request)
        return Failed(request.id, code, text, b"", [])

    with fake(answer=answer) as node:
        told = ask(node, "bucket", "create", "carts")
        named = ask(node, "bucket", "create", "carts", "-o", "json")
    assert told.return_value == ends
    identity = str(identity_of(asked[0]))
    assert (f"repeat it with --repeat {identity}" in told.stderr) is (ends == 4)
    facts = json.loads(named.stderr)
    assert facts["definite"] is (ends == 3)
    assert facts["identity"] == (str(identity_of(asked[1])) if ends == 4 else None)


def test_a_command_that_is_repeated_under_its_identity_happens_once(node: FakeNode, answers: Answers) -> None:
    first = ask(node, "bucket", "create", "carts", "--repeat", "00000000000000ff")
    again = ask(node, "bucket", "create", "carts", "--repeat", "00000000000000ff")
    assert first.stdout == again.stdout == "bucket carts is there under number 3, from epoch 2 on\n"
    assert ask(node, "bucket", "create", "carts").return_value == 2  # another identity: another change
    assert "malformed" in ask(node, "bucket", "create", "carts", "--repeat", "nonsense").stderr


def test_a_drop_says_what_is_lost_and_asks_nobody_where_nobody_is(node: FakeNode, answers: Answers) -> None:
    ask(node, "bucket", "create", "carts")
    refused = ask(node, "bucket", "drop", "carts")
    assert "say so with --yes" in str(refused.exception)
    assert len(changes(answers)) == 1
    done = ask(node, "bucket", "drop", "carts", "--yes")
    assert (done.return_value, done.stdout) == (0, "bucket carts, number 3, is no more, from epoch 3 on\n")
    assert changes(answers)[1:] == [DropBucket("carts")]
    assert "3" not in [row.split()[0] for row in ask(node, "bucket", "list").stdout.splitlines()]


@pytest.mark.parametrize(
    ("typed", "code", "dropped"), [("carts", 0, True), ("cart", 2, False), ("", 2, False)]
)
def test_on_a_terminal_a_drop_is_confirmed_by_the_name(
    node: FakeNode, answers: Answers, typed: str, code: int, dropped: bool
) -> None:
    ask(node, "bucket", "create", "carts")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{typed}\n".encode())
        done = subprocess.run(
            [*COMMAND, "bucket", "drop", "carts", "-e", node.endpoint],
            stdin=theirs, capture_output=True, text=True, env=environment(), timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code
    assert "All keys of bucket carts are lost, on all nodes, for good" in done.stderr
    assert ("nothing was done" in done.stderr) is not dropped
    assert (DropBucket("carts") in changes(answers)) is dropped


def test_a_list_says_how_old_it_is_where_it_may_be(node: FakeNode) -> None:
    assert ask(node, "bucket", "list").stderr == ""
    stale = ask(node, "bucket", "list", "--mode", "stale")
    assert stale.stderr.startswith(
        "epoch 1: may be old: the node that was asked heard of the leader 1.5 s ago"
    )
    view = json.loads(ask(node, "bucket", "list", "--mode", "stale", "-o", "json").stdout)
    assert (view["epoch"], view["mode"], view["heard_ms"]) == (1, "stale", 1500)
    assert [bucket["name"] for bucket in view["buckets"]] == ["default", "once"]
