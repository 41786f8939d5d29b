"""`watch`: a line for each event, and how it ends.

Covers `cli/data/watch.py`.
"""

import json
from collections.abc import Iterator

import pytest

from basestore.errors import InvalidRequest
from tests.worlds.fake_feeds import STAMP, Feeds, meta, watched
from tests.worlds.fakes import FakeNode, fake
from tests.worlds.told_topologies import ask

TIME = "2025-10-09T08:53:20.000Z"


@pytest.fixture
def feeds() -> Feeds:
    return Feeds(
        [
            watched(b"user/1", meta(STAMP), b"a\nb", gap=STAMP, token="token", stable=STAMP),
            watched(b"user/2", meta(STAMP + 1, deleted=True), b""),
        ]
    )


@pytest.fixture
def node(feeds: Feeds) -> Iterator[FakeNode]:
    with fake(answer=feeds) as server:
        yield server


def test_changes_are_lines_and_the_rest_goes_to_stderr(node: FakeNode, feeds: Feeds) -> None:
    result = ask(node, "watch", "user/", "--count", "2")
    assert (result.return_value, result.stdout) == (0, "set user/1 a\\nb\ndeleted user/2\n")
    assert result.stderr == (
        f"gap: what was deleted until {TIME} may be missing; scan to find out what is left\n"
        f"progress {TIME} --from token\n"
    )
    assert [(each.prefix, each.everything) for each in feeds.asked] == [(b"user/", False)] * 2


def test_as_json_all_events_are_objects(node: FakeNode) -> None:
    result = ask(node, "watch", "--count", "2", "-o", "json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["change", "gap", "progress", "change"]
    assert (events[0]["key"], events[0]["value"], events[0]["deleted"]) == ("user/1", "a\nb", False)
    assert events[2]["token"] == "token"
    assert (events[3]["value"], events[3]["deleted"]) == (None, True)


def test_it_goes_on_from_a_token(node: FakeNode, feeds: Feeds) -> None:
    assert ask(node, "watch", "--from", "earlier", "--count", "1", "--bucket", "once").return_value == 0
    assert (feeds.asked[0].token, feeds.asked[0].bucket) == ("earlier", "once")


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--from", "x", "--everything"), 2, "choose one"),
        (("--from", ""), 2, "a token is what"),
        (("--count", "0"), 2, "0 is not in the range"),
    ],
)
def test_bad_input_ends_with_2(node: FakeNode, words: tuple[str, ...], code: int, told: str) -> None:
    result = ask(node, "watch", *words)
    assert (result.return_value or 2, told in result.stderr or told in str(result.exception)) == (code, True)


def test_what_the_node_refuses_ends_with_2() -> None:
    with fake(answer=Feeds([InvalidRequest("the token is of another prefix")])) as node:
        result = ask(node, "watch", "--from", "x")
    assert (result.return_value, result.stderr) == (2, "Error: the token is of another prefix\n")


def test_who_gets_no_answer_gives_up_in_the_end() -> None:
    with fake(answer=Feeds([])) as node:
        assert ask(node, "watch", "--timeout", "100ms", "--patience", "300ms").return_value == 4
