"""`basestore topology` and what it says of its caveats; `basestore topology history`.

Covers `cli/topology/topology.py`, and `fitting` of `cli/text.py`.
"""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from basestore.cli import group, text
from basestore.cli.topology.topology import in_words
from basestore.config import ClusterConfig, Member
from basestore.errors import NoLeader
from basestore.protocol.client import Failed
from basestore.protocol.handshake import Names
from basestore.protocol.membership import CONSISTENT, DEFAULT, STALE, ReadTopology
from basestore.repair.seats import Seats, Stage
from basestore.results.topology import ClusterTopology, cluster_topology
from basestore.topology.topology import Topology
from tests.worlds.fakes import FakeNode, fake
from tests.worlds.told_topologies import Answers, ask, told
from tests.worlds.topologies import cluster, found, founded


def test_it_shows_members_and_who_decides(node: FakeNode, answers: Answers) -> None:
    done = ask(node, "topology")
    lines = done.stdout.splitlines()
    assert done.return_value == 0
    assert lines[0] == "epoch 1 of cluster 63636363, read in mode default:"
    assert lines[2] == "metadata group 1a2b3c4d, term 3: n2 leads"
    header, *rows = (line.split() for line in lines[4:])
    assert header == [
        "NAME",
        "NUMBER",
        "ADDRESS",
        "ZONE",
        "WEIGHT",
        "STANDING",
        "PARTITIONS",
        "GROUP",
        "LACKS",
    ]
    assert [(row[0], row[7], row[8]) for row in rows] == [
        ("n1", "voter", "-"), ("n2", "leader", "1"), ("n3", "voter", "?"),
    ]  # fmt: skip
    assert sum(int(row[6]) for row in rows) == 4 * 2  # each of four partitions has two replicas
    assert "1.5 s" not in done.stdout


@pytest.mark.parametrize(
    ("mode", "number", "caveat"),
    [
        ("default", DEFAULT, "unless the rates of two clocks differ by more than a third"),
        ("consistent", CONSISTENT, "as it was decided when it was read"),
        ("stale", STALE, "may be old: the node that was asked heard of the leader 1.5 s ago"),
    ],
)
def test_the_caveat_of_the_mode_is_said_beside_what_is_read(
    node: FakeNode, answers: Answers, mode: str, number: int, caveat: str
) -> None:
    told = ask(node, "topology", "--mode", mode)
    assert caveat in told.stdout.splitlines()[1]
    assert answers.asked[-1].mode == number
    view = json.loads(ask(node, "topology", "--mode", mode, "-o", "json").stdout)
    assert (view["mode"], view["heard_ms"], view["leader"]) == (mode, 1500, "n2")


def test_help_says_the_caveat_of_each_mode() -> None:
    told = " ".join(CliRunner().invoke(group, ["topology", "--help"]).output.split())
    for words in ("differ by more than a third", "a round of messages more", "it says how old that may be"):
        assert words in told


def test_json_has_all_partitions_by_names_of_replicas(node: FakeNode) -> None:
    view = json.loads(ask(node, "topology", "-o", "json").stdout)
    assert [set(seats) for seats in view["partitions"]] == [{"replicas"}] * 4
    assert all(set(seats["replicas"]) < {"n1", "n2", "n3"} for seats in view["partitions"])
    assert view["voters"] == ["n1", "n2", "n3"]


def view_of(topology: Topology, **others: Any) -> ClusterTopology:
    return cluster_topology("stale", told(ReadTopology(1, STALE, 9), topology, **others), Names())


def moved(count: int) -> Topology:
    """So many of 64 partitions are being filled."""
    was = founded(cluster(partitions=64))
    seats = list(was.seats)
    for at in range(count):
        (third,) = {1, 2, 3} - set(seats[at].old)
        seats[at] = Seats(1, Stage.FILL, seats[at].old, (seats[at].old[0], third))
    return Topology(**{name: getattr(was, name) for name in Topology.__slots__} | {"seats": tuple(seats)})


def test_partitions_that_are_changed_are_shown_a_few_of_them() -> None:
    assert "STAGE" not in in_words(view_of(moved(0)), everything=False)
    few = in_words(view_of(moved(2)), everything=False)
    assert (few.count(" fill "), "more: -v" in few) == (2, False)
    many = in_words(view_of(moved(20)), everything=False)
    assert many.count(" fill ") == 8
    assert many.endswith("and 12 partitions more: -v")
    everything = in_words(view_of(moved(20)), everything=True)
    assert (everything.count(" fill "), everything.count(" still")) == (20, 44)


def test_it_fits_80_columns_whatever_names_are_long() -> None:
    members = tuple(
        Member(number, "n" * 40 + str(number), f"{'host' * 15}.example:{7400 + number}", "rack" * 10)
        for number in (1, 2, 3)
    )
    config = ClusterConfig(b"c" * 16, b"k" * 32, members, 3, 4)
    shown = in_words(view_of(found(config)), everything=True).splitlines()
    assert max(map(len, shown)) == 80
    assert any("..." in line for line in shown)


def test_nobody_is_said_to_lead_where_nobody_was_heard() -> None:
    shown = in_words(view_of(founded(), leader=-1, heard_ms=-1), everything=False)
    assert "term 3: nobody is known to lead" in shown
    assert "has heard of no leader since it was started" in shown


def test_without_a_majority_the_code_is_3() -> None:
    def answer(request: Any) -> Failed:
        return Failed(request.id, NoLeader.code, "nobody leads", b"", [])

    with fake(answer=answer) as node:
        refused = ask(node, "topology")
    assert (refused.return_value, refused.stderr) == (3, "Error: nobody leads\n")


def test_the_history_is_a_line_for_each_entry(node: FakeNode, answers: Answers) -> None:
    done = ask(node, "topology", "history")
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert lines == [
        ["EPOCH", "WHEN", "WHAT"],
        ["1", "-", "the voters are members 1"],
        ["2", "2025-10-09T08:53:20.000Z", "create bucket 'carts'"],
        ["3", "2025-10-09T08:53:20.000Z", "drop bucket 'carts'"],
    ]
    assert (done.stderr, answers.asked[-1].after, answers.asked[-1].limit) == ("", -1, 20)


def test_what_is_behind_and_what_is_gone_of_the_history_is_said(node: FakeNode, answers: Answers) -> None:
    first = ask(node, "topology", "history", "--after", "0", "-n", "1")
    assert first.stderr == "There is more: --after 1\n"
    answers.rows = answers.rows[2:]
    gone = ask(node, "topology", "history", "--after", "0")
    assert gone.stderr == "Entries before 3 are gone from the log; what they made is kept.\n"
    assert json.loads(ask(node, "topology", "history", "-o", "json").stdout) == {
        "first": 3,
        "last": 3,
        "entries": [{"epoch": 3, "wall_ms": 1_760_000_000_000, "text": "drop bucket 'carts'"}],
    }


def test_what_only_the_topology_takes_its_history_refuses(node: FakeNode) -> None:
    refused = ask(node, "topology", "-v", "history")
    assert "topology history` takes no -v or --all; leave it out" in str(refused.exception)
    refused = ask(node, "topology", "--mode", "stale", "history")
    assert "topology history` takes no --mode; leave it out" in str(refused.exception)


def test_a_table_is_cut_where_it_is_widest_and_never_below_its_headings() -> None:
    rows = [("a", "b" * 30), ("c" * 10, "d")]
    assert text.fitting(("X", "LONG"), rows, 80) == text.table(("X", "LONG"), rows)
    assert text.fitting(("X", "LONG"), rows, 20).splitlines() == [
        "X          LONG", "a          bbbbbb...", "cccccc...  d",
    ]  # fmt: skip
    assert text.fitting(("X", "LONG"), rows, 3).splitlines()[1] == "a     b..."
