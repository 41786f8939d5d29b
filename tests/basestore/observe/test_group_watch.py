"""How a node tells of the metadata group: to who asks for its status, on the page of metrics, in its log."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from basestore.consensus.leadership import QUORUM_S
from basestore.observe.group_watch import ELECTED_S, ENTRIES_MAX, SKIPPED_MIN, Line
from basestore.observe.prometheus import Exposition
from basestore.protocol.membership import At, Base
from basestore.results.metadata import Metadata
from basestore.topology import history
from basestore.topology.changes import CreateBucket, DropBucket, SetSetting
from basestore.topology.entries import UNNAMED, Suggestion, encode_entry
from tests.worlds.changing import change
from tests.worlds.world import World, number_of


def told(world: World, at: int) -> Metadata:
    """By its status."""
    metadata = world.state(at).metadata
    assert metadata is not None
    return metadata


def lines(world: World, at: int) -> list[Line]:
    """What its log gets by now that it has not got yet."""
    return world.node(at).report.group.look(world.now(at))


def samples(world: World, at: int, name: str) -> dict[str, float]:
    """Of one gauge of the metadata group, by what it is labelled with; by nothing if it is not."""
    node = world.node(at)
    page = b"".join(Exposition(node.metrics, node.report.gauges(), {"node": node.name}).render())
    return {
        "".join(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == f"basestore_metadata_{name}"
    }


def setting(world: World, at: int, value: str) -> int:
    """The epoch in which it is set."""
    return change(world, at, SetSetting("colour", value)).epoch


# --- what is told ----------------------------------------------------------------------------------


def test_each_node_tells_its_part_and_who_leads() -> None:
    world = World(4, logged=True)
    world.run(1.0)
    epoch = world.node(0).membership.group.epoch
    views = [told(world, at) for at in range(4)]
    assert [view.role for view in views] == ["leader", "voter", "voter", "follower"]
    for view in views:
        assert (view.leader, view.term, view.epoch, view.decided) == ("n1", 1, epoch, epoch)
        assert view.voters == ("n1", "n2", "n3")
        assert view.epochs == dict.fromkeys(("n1", "n2", "n3", "n4"), epoch)
        assert (view.no_leader_since_ms, view.behind, view.silent, view.untaken, view.waits) == (
            None, {}, {}, (), "",
        )  # fmt: skip


def test_a_store_that_is_fed_the_log_is_a_learner() -> None:
    world = World(3, logged=True)
    world.lose = lambda sent: sent.source == 2 and type(sent.message).__name__ == "Appended"
    world.wipe(2)
    world.start(2)
    world.run(1.5)
    assert told(world, 2).role == "learner"
    assert [told(world, at).untaken for at in range(3)] == [("n3",)] * 3
    world.lose = lambda _: False
    world.run(3.0)
    assert told(world, 2).role == "voter"


def test_a_node_alone_is_its_own_leader_and_lacks_nobody() -> None:
    world = World(1, logged=True)
    view = told(world, 0)
    assert (view.role, view.leader, view.voters, view.silent) == ("leader", "n1", ("n1",), {})
    assert samples(world, 0, "has_leader") == {"": 1.0}
    lines(world, 0)
    world.run(2 * ELECTED_S)
    assert lines(world, 0) == []


def test_without_a_group_is_said_why_and_no_epoch_is_made_up() -> None:
    world = World(2, logged=False)
    view = told(world, 0)
    assert (view.role, view.leader, view.epoch, view.decided) == ("none", None, None, None)
    assert "start the members that are missing, upgrade those that speak less" in view.waits
    assert view.epochs == {"n1": None, "n2": None}
    assert samples(world, 0, "role")["none"] == 1.0
    assert samples(world, 0, "epoch") == samples(world, 0, "decided_epoch") == {}
    assert samples(world, 0, "has_leader") == samples(world, 0, "no_leader_since_timestamp_seconds") == {}
    world.run(2 * ELECTED_S)
    assert lines(world, 0) == []


def test_a_group_that_not_all_members_have_agreed_to_yet_is_waited_for() -> None:
    world = World(2, born=False, logged=True)
    world.start(0)
    world.run(1.0)
    assert told(world, 0).role == "none"
    assert told(world, 0).waits


def test_no_leader_is_told_with_since_when() -> None:
    world = World(3, logged=True)
    world.run(1.0)
    heard_ms = world.now(0).wall_ms
    world.stop(1)
    world.stop(2)
    world.run(QUORUM_S + 5.0)
    view = told(world, 0)
    assert (view.role, view.leader) == ("voter", None)
    assert view.no_leader_since_ms is not None
    assert abs(view.no_leader_since_ms - heard_ms) <= (QUORUM_S + 1.0) * 1e3
    assert view.epoch == view.decided
    assert view.epochs["n2"] is None
    assert samples(world, 0, "has_leader") == {"": 0.0}
    assert samples(world, 0, "leader") == {"n1": 0.0, "n2": 0.0, "n3": 0.0}
    (since_s,) = samples(world, 0, "no_leader_since_timestamp_seconds").values()
    assert since_s == pytest.approx(view.no_leader_since_ms / 1e3, abs=1.0)
    assert set(samples(world, 0, "epoch")) == {"n1"}


def test_who_is_behind_is_told_by_how_much_and_since_when() -> None:
    world = World(4, logged=True)
    first = setting(world, 0, "red")
    world.lose = lambda sent: sent.target == 3 and isinstance(sent.message, At | Base)
    setting(world, 0, "green")
    world.lose = lambda _: False
    world.hold(0, 3)  # n1 hears n4, and tells it nothing
    for source in (1, 2):
        world.hold(source, 3)
    lines(world, 0)
    since_ms = world.now(0).wall_ms
    world.run(0.5)
    setting(world, 0, "blue")
    lines(world, 0)
    view = told(world, 0)
    assert view.decided == first + 2
    assert view.epochs == {"n1": first + 2, "n2": first + 2, "n3": first + 2, "n4": first}
    assert view.behind["n4"] == (2, since_ms)
    assert set(view.behind) == {"n4"}
    assert samples(world, 0, "behind_entries") == {"n1": 0.0, "n2": 0.0, "n3": 0.0, "n4": 2.0}
    assert samples(world, 0, "behind_since_timestamp_seconds") == {"n4": since_ms / 1e3}
    for source in range(3):
        world.release(source, 3)
    world.run(4.0)
    lines(world, 0)
    assert told(world, 0).behind == {}
    assert samples(world, 0, "behind_since_timestamp_seconds") == {}


def test_a_node_that_has_heard_of_more_than_it_uses_says_so_itself() -> None:
    world = World(2, logged=True)
    world.run(1.0)
    world.freeze(1)
    epoch = setting(world, 0, "red")
    world.run(1.0)
    view = told(world, 1)
    assert (view.epoch, view.decided) == (epoch - 1, epoch)
    assert view.behind["n2"].entries == 1


def test_the_leader_tells_of_a_voter_that_it_does_not_hear() -> None:
    world = World(3, logged=True)
    world.run(1.0)
    heard_ms = world.now(0).wall_ms
    world.stop(2)
    world.run(QUORUM_S - 1.5)
    assert told(world, 0).silent == {}
    world.run(2.5)
    silent = told(world, 0).silent
    assert set(silent) == {"n3"}
    assert abs(silent["n3"] - heard_ms) < 1000
    assert samples(world, 0, "silent_since_timestamp_seconds") == {"n3": silent["n3"] / 1e3}
    assert told(world, 1).silent == {}  # of whom only the leader knows
    world.start(2)
    world.run(2.0)
    assert told(world, 0).silent == {}


# --- what is written -------------------------------------------------------------------------------


def test_founding_and_the_first_leader_are_written_once() -> None:
    world = World(3, born=False, logged=True)
    for index in range(3):
        world.start(index)
    written: dict[int, list[Line]] = {0: [], 2: []}
    for _ in range(40):
        world.run(0.1)
        for at, had in written.items():
            had += lines(world, at)
    for had in written.values():
        assert not any(line.warns for line in had)
        texts = [line.text for line in had]
        assert sum("the metadata group is founded" in text for text in texts) == 1
        assert sum("complete, its voters are n1, n2, n3" in text for text in texts) == 1
        assert sum("n1 leads the metadata group, in term 1" in text for text in texts) == 1
    world.restart(2)
    world.run(2.0)
    texts = [line.text for line in lines(world, 2)]
    assert texts == ["n1 leads the metadata group, in term 1"]


def test_each_change_of_leader_is_written_and_that_none_is_known_is_a_warning() -> None:
    world = World(3, logged=True)
    world.run(1.0)
    for at in (1, 2):
        lines(world, at)
    world.stop(0)
    written = list[Line]()
    for _ in range(200):
        world.run(0.1)
        written += lines(world, 1)
    leader = told(world, 1).leader
    news = [line for line in written if "leads the metadata group" in line.text]
    assert news == [Line(f"{leader} leads the metadata group, in term {told(world, 1).term}")]
    world.stop(2)
    written.clear()
    for _ in range(200):
        world.run(0.1)
        written += lines(world, 1)
    warned = [line.text for line in written if line.warns and "no leader" in line.text]
    assert len(warned) == 1
    assert "1 of its 3 voters are seen from here; data are served" in warned[0]
    assert "are refused" in warned[0]


def test_a_node_that_is_started_while_nobody_leads_warns_after_a_while() -> None:
    world = World(3, logged=True)
    for index in range(3):
        world.stop(index)
    world.start(0)
    world.run(ELECTED_S - 1.0)
    assert lines(world, 0) == []
    world.run(2.0)
    (line,) = lines(world, 0)
    assert line.warns
    assert "no leader" in line.text
    world.run(20.0)
    assert lines(world, 0) == []


def test_what_users_have_changed_is_written_in_words() -> None:
    world = World(3, logged=True)
    world.run(1.0)
    lines(world, 2)
    carts = change(world, 1, CreateBucket("carts", "last-write-wins", [0, 0, 0, 0])).epoch
    key = change(world, 1, SetSetting("k", "v\x1b")).epoch
    none = change(world, 1, DropBucket("none")).epoch
    world.run(1.0)
    news = lines(world, 2)
    assert not any(line.warns for line in news)
    texts = [line.text for line in news]
    assert texts[0] == (
        f"epoch {carts} is in use: create bucket 'carts', last-write-wins, through n2: it has number 4"
    )
    assert texts[1].startswith(f"epoch {key} is in use: set setting 'k' to 'v\\x1b'")
    assert texts[2].startswith(f"epoch {none} is in use: drop bucket 'none', through n2: refused")
    assert len(texts) == 3
    assert lines(world, 2) == []


def test_many_changes_at_once_are_few_lines_a_look_and_then_a_number() -> None:
    world = World(1, logged=True)
    world.run(1.0)
    lines(world, 0)
    first = setting(world, 0, "v0")
    for number in range(1, ENTRIES_MAX + 5):
        setting(world, 0, "x" * 4000 * (number == 1) + f"v{number}")
    texts = [line.text for line in lines(world, 0)]
    assert len(texts) == ENTRIES_MAX
    assert max(map(len, texts)) < 400
    rest = [line.text for line in lines(world, 0)]
    assert rest[0].startswith(f"epoch {first + ENTRIES_MAX} is in use")
    assert len(rest) == 5
    raft = world.node(0).membership.group.raft
    assert raft is not None
    for number in range(SKIPPED_MIN + 1):
        raft.propose(
            encode_entry(Suggestion(SetSetting("colour", f"w{number}"), number + 1, number_of(0), 0))
        )
    world.run(2.0)
    (line,) = lines(world, 0)
    assert f"{first + ENTRIES_MAX + 5} to {first + ENTRIES_MAX + 5 + SKIPPED_MIN} came at once" in line.text


def test_a_voter_that_is_lost_and_comes_back_is_one_line_each() -> None:
    world = World(3, logged=True)
    world.run(1.0)
    lines(world, 0)
    world.stop(2)
    written = list[Line]()
    for _ in range(100):
        world.run(0.1)
        written += lines(world, 0)
    assert written == [Line("voter n3 of the metadata group is not heard: 2 of 3 are", warns=True)]
    world.start(2)
    written.clear()
    for _ in range(40):
        world.run(0.1)
        written += lines(world, 0)
    assert written == [Line("voter n3 of the metadata group is heard again")]


def test_a_leader_that_is_heard_again_is_written_again() -> None:
    world = World(4, logged=True)
    world.run(1.0)
    lines(world, 3)
    world.isolate(3)
    world.run(2 * QUORUM_S)
    assert [line.warns for line in lines(world, 3)] == [True]
    world.rejoin(3)
    world.run(2.0)
    assert lines(world, 3) == [Line("n1 leads the metadata group, in term 1")]


def test_what_the_group_says_to_itself_is_not_written() -> None:
    world = World(1, logged=True)
    world.run(1.0)
    raft = world.node(0).membership.group.raft
    assert raft is not None
    lines(world, 0)
    raft.propose(encode_entry(Suggestion(SetSetting("colour", "red"), UNNAMED, number_of(0), 0)))
    world.run(1.0)
    assert lines(world, 0) == []


def test_a_line_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(1, logged=True)
    world.run(1.0)
    lines(world, 0)
    monkeypatch.setattr(history, "describe", lambda judged, before: "x" * 10_000)
    setting(world, 0, "red")
    (line,) = lines(world, 0)
    assert 200 < len(line.text) < 400
