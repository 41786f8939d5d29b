"""`basestore upgrade finish`: what it says, and when it ends.

Covers `cli/cluster/upgrade.py`. What nodes answer is written down here.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result

from basestore.cli.cluster import upgrade
from basestore.cli.cluster.status import row
from basestore.results.nodes import NodeState, Upgrade

HELD = {"wire": "8", "release wire": "8 to 11", "config": "/etc/n2.toml"}
HELD_TEXT = "speaks no version above 8, for /etc/n2.toml sets wire_highest: take that out and restart it"


def node(name: str, level: int | str, **facts: str) -> NodeState:
    return NodeState(
        name, "127.0.0.1:1", "up", 1, 0, {}, {"wire": "8 to 11", "feature level": str(level)} | facts
    )


def nodes(*levels: int | str) -> list[NodeState]:
    return [node(f"n{number}", level) for number, level in enumerate(levels, 1)]


class Store:
    """Answers each status with the next of these, and with the last for ever."""

    def __init__(self, done: Upgrade, *states: list[NodeState]) -> None:
        self._done = done
        self._states = list(states)
        self.left = len(states)

    def status(self, **_: Any) -> list[NodeState]:
        self.left -= 1
        return self._states.pop(0) if len(self._states) > 1 else self._states[0]

    def finish_upgrade(self) -> Upgrade:
        return self._done


def finish(monkeypatch: pytest.MonkeyPatch, store: Store, *options: str) -> Result:
    @contextmanager
    def opened(_: object) -> Iterator[Store]:
        yield store

    monkeypatch.setattr(upgrade, "open_store", opened)
    return CliRunner().invoke(upgrade.finish, options, standalone_mode=False)


def test_it_ends_once_all_members_have_heard_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(Upgrade(9, ()), nodes(8, 8, 8), nodes(9, 8, 8), nodes(9, 9, ""), nodes(9, 9, 9))
    done = finish(monkeypatch, store, "--timeout", "600s")
    assert (done.return_value, store.left) == (0, 0)
    assert done.stdout == "the feature level is 9: no node can go back to a release that does not speak it\n"
    assert not done.stderr


def test_who_follows_after_the_timeout_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    states = nodes(8, 8, 8), nodes(9, 8, 9)
    done = finish(monkeypatch, Store(Upgrade(9, ()), *states), "--timeout", "50ms")
    assert done.return_value == 0
    assert done.stderr == "  n2 has not heard of it yet, and follows when it does: basestore status\n"
    told = finish(monkeypatch, Store(Upgrade(9, ()), *states), "--timeout", "50ms", "-o", "json")
    finished = {"finished": True, "feature_level": 9, "behind": [], "following": ["n2"]}
    assert json.loads(told.stdout) == finished


def test_where_there_is_nothing_to_finish_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    done = finish(monkeypatch, Store(Upgrade(9, ()), nodes(9, 9, 9)))
    assert done.return_value == 0
    assert done.stdout.startswith("nothing to finish: every node already is at feature level 9")


@pytest.mark.parametrize(
    ("done", "levels"), [(Upgrade(8, ()), (8, 8)), (Upgrade(8, ("n2 speaks no version above 8",)), (8, 8))]
)
def test_a_setting_that_holds_a_node_back_is_named(
    monkeypatch: pytest.MonkeyPatch, done: Upgrade, levels: Sequence[int]
) -> None:
    """Be it that all have it, so that no node knows of more, or one alone."""
    states = [node("n1", levels[0]), node("n2", levels[1], **HELD)]
    told = finish(monkeypatch, Store(done, states))
    assert told.return_value == 3
    assert told.stdout == "nothing was changed, the feature level is 8:\n"
    assert told.stderr == f"  n2 {HELD_TEXT}\n"
    as_json = json.loads(finish(monkeypatch, Store(done, states), "-o", "json").stdout)
    assert (as_json["finished"], as_json["behind"]) == (False, [f"n2 {HELD_TEXT}"])


def test_status_names_the_setting() -> None:
    assert str(row(node("n2", 8, **HELD))[-1]) == HELD_TEXT


def test_who_is_not_reached_is_not_excused_by_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    away = "n2 is not reached, and may come back as an older release"
    told = finish(monkeypatch, Store(Upgrade(8, (away,)), [node("n1", 8), node("n2", 8, **HELD)]))
    assert told.stderr == f"  {away}\n"
