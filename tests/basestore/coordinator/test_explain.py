"""Explain: what every member knows of a key, and what that means.

Covers `coordinator/explain.py`, `gather.py`, `results/weighing.py` and `results/explanation.py`.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore.cli.cluster.explain import in_words
from basestore.consistency import Level
from basestore.errors import ConnectionLost, InvalidRequest
from basestore.protocol.limits import ProtocolError
from basestore.protocol.operator import (
    Explain,
    Explained,
    KeptHint,
    Reach,
    ReplicaRow,
    Trace,
    Traced,
    TracedHint,
    Unheard,
)
from basestore.repair.read_repair import plan
from basestore.repair.rule import Rule
from basestore.repair.version import Digester, Record, Version
from basestore.results.explanation import Explanation, HintView, Mend, ReplicaView
from basestore.results.weighing import explanation
from tests.worlds.following import converged
from tests.worlds.late_hints import keep_late, rejoin
from tests.worlds.stalling import Stalling
from tests.worlds.world import KEY, WALL_MS, Call, World, travel


def ask(world: World, at: int, key: str = "k", bucket: str = "default", timeout_s: float = 1.0) -> Call:
    ms = round(timeout_s * 1000)
    return world.ask(at, lambda r: Explain(r, bucket, key.encode(), ms))


def read(world: World, call: Call, key: str = "k", bucket: str = "default") -> Explanation:
    assert call.answer is not None, "no answer came"
    told = explanation(call.answer, bucket, key.encode(), world.cluster.names)
    assert in_words(told)  # whatever there is to tell can be told
    return told


def explain(world: World, at: int, key: str = "k", bucket: str = "default") -> Explanation:
    """What a node says at once."""
    call = ask(world, at, key, bucket)
    world.settle()
    return read(world, call, key, bucket)


def name(world: World, index: int) -> str:
    return world.cluster.members[index].name


def states(told: Explanation) -> dict[str, str]:
    return {node: view.state for node, view in told.replicas.items()}


# --- what the replicas hold ------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 4])
def test_replicas_that_agree_are_listed_in_placement_order_with_version_and_digest(at: int) -> None:
    world = World(5)
    version = world.put(0, "k", "v", Level.ALL).version
    told = explain(world, at)
    assert list(told.replicas) == [name(world, replica) for replica in world.replicas("k")]
    record = world.stored(world.replicas("k")[0], "k")
    assert record is not None
    view = ReplicaView("value", version, record.digest, False, None, "")
    assert set(told.replicas.values()) == {view}
    assert (told.winner, told.reason) == (version, "all replicas agree")
    assert told.reads == dict.fromkeys((Level.ONE, Level.QUORUM, Level.ALL), (version,))
    assert (told.hints, told.mends, told.unheard) == ((), (), {})
    assert told.known


def test_a_key_that_nobody_holds() -> None:
    told = explain(World(3), 0)
    assert set(states(told).values()) == {"absent"}
    assert (told.winner, told.reason) == (None, "nobody holds it")
    assert told.reads == dict.fromkeys(told.reads, (None,))
    assert told.mends == ()


def test_of_two_versions_the_greater_stamp_wins_and_the_other_replica_is_behind() -> None:
    world = World(3)
    old = world.put(0, "k", "old", Level.ALL).version
    new = world.stamp()
    world.plant(2, "k", "new", new)
    told = explain(world, 0)
    assert (told.winner, told.reason) == (new, "a greater stamp")
    assert told.reads[Level.ONE] == told.reads[Level.QUORUM] == (new, old)
    assert told.reads[Level.ALL] == (new,)
    assert set(told.mends) == {Mend("n1", "quorum read"), Mend("n2", "quorum read")}


def test_a_record_that_only_one_replica_holds() -> None:
    world = World(3)
    version = world.stamp()
    world.plant(1, "k", "v", version)
    told = explain(world, 0)
    assert (told.winner, told.reason) == (version, "the only record")
    assert told.reads[Level.ONE] == told.reads[Level.QUORUM] == (version, None)
    assert sorted(states(told).items()) == [("n1", "absent"), ("n2", "value"), ("n3", "absent")]


def test_tombstones_and_expired_values_are_told_apart_from_absence() -> None:
    world = World(3)
    world.set(0, "k", "v", Level.ALL, ttl_s=0.5)
    world.settle()
    world.run(3)
    world.plant(1, "k", "", world.stamp(-2000), tombstone=True)
    told = explain(world, 0)
    assert states(told) == {"n1": "expired", "n2": "tombstone", "n3": "expired"}
    assert told.replicas["n2"].tombstone
    assert told.replicas["n1"].expires_ms is not None
    world.delete(0, "k", Level.ALL)
    world.settle()
    told = explain(world, 0)
    assert set(states(told).values()) == {"tombstone"}
    assert told.winner is not None


def test_in_a_first_write_bucket_the_smaller_stamp_wins() -> None:
    world = World(3)
    first, second = world.stamp(-50), world.stamp(50)
    for index, version in ((0, second), (1, first), (2, second)):
        world.plant(index, "k", f"{index}", version, bucket="once")
    told = explain(world, 0, bucket="once")
    assert (told.winner, told.reason) == (first, "a smaller stamp (first write wins)")
    assert told.rule is Rule.FIRST_WRITE_WINS
    assert told.reads[Level.QUORUM] == (first, second)


def test_two_records_of_one_version_are_decided_by_their_digests() -> None:
    world = World(3)
    version = world.stamp()
    records = [world.plant(index, "k", f"{index}", version) for index in range(3)]
    told = explain(world, 0)
    assert told.reason == "equal versions, greater digest"
    best = max(record.digest for record in records)
    behind = {node for node, view in told.replicas.items() if view.digest != best}
    assert {mend.node for mend in told.mends} == behind


def test_equal_stamps_are_decided_by_origin() -> None:
    world = World(3)
    stamp = world.stamp().stamp
    world.plant(0, "k", "a", Version(stamp, 5, 1))
    world.plant(1, "k", "b", Version(stamp, 6, 1))
    assert explain(world, 2).reason == "equal stamps, greater origin"


# --- words that do not count -----------------------------------------------------------------------


def test_a_damaged_record_is_shown_as_such_does_not_count_and_is_not_even_noted() -> None:
    world = World(3)
    version = world.put(0, "k", "v", Level.ALL).version
    world.spoil(1, "k")
    told = explain(world, 0)
    assert states(told) == {"n1": "value", "n2": "damaged", "n3": "value"}
    assert (told.winner, told.reason) == (version, "all replicas that answer agree")
    assert told.reads[Level.ALL] is None
    assert told.mends == (Mend("n2", "healing"),)
    assert world.node(1).replica.damaged == {}
    call = world.get(1, "k", Level.ONE)
    world.settle()
    assert call.read().found
    assert world.node(1).replica.damaged
    assert states(explain(world, 0))["n2"] == "damaged"


def test_what_a_forgetful_replica_holds_is_shown_and_does_not_count() -> None:
    world = World(3, timeout_ms_max=60_000)
    old = world.put(0, "k", "old", Level.ALL).version
    world.wipe(1)
    world.start(1)
    world.run(0.2)
    newer = world.stamp()
    world.plant(1, "k", "newer", newer)
    told = explain(world, 0)
    assert told.replicas["n2"].state == "forgetful"
    assert told.replicas["n2"].version == newer
    assert (told.winner, told.reason) == (old, "all replicas that answer agree")
    assert told.mends == (Mend("n2", "recovery"),)


def test_a_replica_that_is_starting_does_not_count() -> None:
    world = World(3, born=False)
    for index in range(3):
        world.start(index, link=False)
    told = explain(world, 0)
    assert states(told)["n1"] == "starting"
    assert (told.winner, told.reason, told.known) == (None, "no replica could say what it holds", False)
    assert Mend("n1", "introduction") in told.mends


def test_a_replica_without_a_link_is_down_and_its_hints_are_unheard() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    world.stop(2)
    world.settle()
    told = explain(world, 0)
    assert told.replicas["n3"] == ReplicaView("down", None, None, False, None, "there is no link to it")
    assert told.unheard == {"n3": "there is no link to it"}
    assert told.reason == "all replicas that answer agree"
    assert told.mends == (Mend("n3", "quorum read"),)
    assert told.reads[Level.QUORUM] is not None


def test_a_replica_that_does_not_answer_in_time_is_down() -> None:
    world = World(3)
    world.put(0, "k", "v", Level.ALL)
    world.hold(2, 0)
    call = ask(world, 0, timeout_s=0.7)
    world.settle()
    world.run(0.6)
    assert not call.done
    world.run(0.2)
    assert read(world, call).unheard == {"n3": "it did not answer in time"}
    assert world.node(0).operations.count == 0


def test_a_member_known_to_be_silent_is_not_waited_for_long() -> None:
    world = World(3, timeout_ms_max=60_000)
    world.put(0, "k", "v", Level.ALL)
    world.isolate(2)
    world.run(6)
    call = ask(world, 0, timeout_s=30)
    world.run(0.6)
    assert states(read(world, call))["n3"] == "down"


def test_a_link_lost_in_the_middle_is_told() -> None:
    world = World(3)
    world.hold(2, 0)
    call = ask(world, 0)
    world.settle()
    assert not call.done
    world.part(0, 2)
    world.settle()
    assert read(world, call).unheard == {"n3": "the link was lost"}


def test_a_store_that_takes_no_batch_refuses_to_say_what_might_not_last() -> None:
    world = World(3)
    stall = Stalling(world, 1)
    call = ask(world, 0)
    world.set(1, "k", "v", Level.ONE)
    world.settle()
    assert read(world, call).unheard == {"n2": "its disk does not keep up"}
    stall.end()


def test_what_is_not_durable_is_not_shown_before_it_is() -> None:
    world = World(3)
    world.freeze(0, 1, 2)
    world.set(0, "k", "v", Level.ONE)
    world.settle()
    call = ask(world, 0)
    world.settle()
    assert not call.done
    world.thaw(0, 1, 2)
    world.settle()
    assert set(states(read(world, call)).values()) == {"value"}


def test_when_every_replica_is_down_an_outsider_says_so() -> None:
    world = World(5)
    at = world.outsider("k")
    for replica in world.replicas("k"):
        world.stop(replica)
    world.settle()
    told = explain(world, at)
    assert set(states(told).values()) == {"down"}
    assert (told.winner, told.known) == (None, False)
    assert told.reads == dict.fromkeys(told.reads)
    assert len(told.unheard) == 3


# --- hints -----------------------------------------------------------------------------------------


def test_a_hint_at_a_node_that_is_no_replica_is_found_by_any_node() -> None:
    world = World(5)
    at, other = [i for i in range(5) if i not in world.replicas("k")]
    away = world.replicas("k")[2]
    world.put(0, "k", "old", Level.ALL)
    world.stop(away)
    world.settle()
    version = world.put(at, "k", "new").version
    assert version is not None
    for asked in (at, other, world.replicas("k")[0]):
        told = explain(world, asked)
        hint = HintView(name(world, at), name(world, away), version, False, False, False, False)
        assert told.hints == (hint,)
        assert told.mends == (Mend(name(world, away), "hint", (name(world, at),)),)


def test_a_hint_that_is_the_only_copy_beats_what_the_replicas_hold() -> None:
    world = World(5)
    at, other = [i for i in range(5) if i not in world.replicas("k")]
    world.put(0, "k", "old", Level.ALL)
    for replica in world.replicas("k"):
        world.part(at, replica)
    world.settle()
    call = world.set(at, "k", "new", Level.ANY)
    world.settle()
    version = call.receipt().version
    assert version is not None
    told = explain(world, other)
    assert {(hint.version, hint.only_copy, hint.wins) for hint in told.hints} == {(version, True, True)}
    assert {hint.target for hint in told.hints} == set(told.replicas)
    assert told.winner != version
    assert {mend.by for mend in told.mends} == {"hint"}


def test_a_hint_that_comes_too_late_mends_nothing_and_what_to_do_is_said() -> None:
    world = World(4, reconcile=True)
    keeper = keep_late(world)
    rejoin(world, keeper)
    told = explain(world, keeper)
    assert [(hint.only_copy, hint.late, hint.wins) for hint in told.hints] == [(True, True, True)] * 3
    assert told.mends == ()
    assert told.as_json()["hints"][0]["late"] is True
    text = in_words(told)
    assert "the only copy, too late to be delivered, which beats" in text
    assert "\nlate       `basestore hints replay --late`" in text
    assert "mending" not in text


def test_a_hint_that_is_older_than_the_winner_does_not_make_up_for_it() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    world.put(0, "k", "v")
    world.plant(0, "k", "newer", world.stamp())
    told = explain(world, 1)
    assert Mend("n3", "hint", ("n1",)) in told.mends
    assert Mend("n3", "quorum read") in told.mends


def test_a_hint_that_has_become_needless_mends_nothing() -> None:
    world = World(3)
    world.stop(2)
    world.settle()
    version = world.put(0, "k", "v").version
    assert version is not None
    world.plant(2, "k", "v", version)
    world.hold(2, 0)  # so that the hint is not delivered yet
    world.start(2)
    world.settle()
    told = explain(world, 1)
    assert [hint.target for hint in told.hints] == ["n3"]
    assert (told.reason, told.mends) == ("all replicas agree", ())


# --- it changes nothing, and is bounded ------------------------------------------------------------


def test_nothing_is_repaired() -> None:
    world = World(3)
    world.put(0, "k", "old", Level.ALL)
    world.plant(2, "k", "new", world.stamp())
    before = [dict(engine.scan(b"", b"\xff" * 8)) for engine in world.engines]
    for at in range(3):
        explain(world, at)
    assert world.values("k") == [b"old", b"old", b"new"]
    records = [{k: v for k, v in each.items() if k[:1] != b"m"} for each in before]
    after = [dict(engine.scan(b"", b"\xff" * 8)) for engine in world.engines]
    assert [{k: v for k, v in each.items() if k[:1] != b"m"} for each in after] == records
    assert world.node(0).operations.count == 0


@pytest.mark.parametrize(
    ("bucket", "key", "timeout_ms", "text"),
    [
        ("nowhere", b"k", 1000, "there is no bucket"),
        ("default", b"", 1000, "1 to 65536"),
        ("default", b"k", 0, "a timeout of 0 ms"),
        ("default", b"k", 1 << 40, "timeout_ms_max"),
    ],
)
def test_what_makes_no_sense_is_refused(bucket: str, key: bytes, timeout_ms: int, text: str) -> None:
    world = World(1)
    call = world.ask(0, lambda r: Explain(r, bucket, key, timeout_ms))
    world.settle()
    with pytest.raises(InvalidRequest, match=text):
        read(world, call)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hints": [TracedHint(9, 0, b"h" * 41)]},
        {"hints": [TracedHint(-1, 0, b"h" * 41)]},
        {"reach": [Reach(1, 0, 0)]},
    ],
)
def test_a_peer_that_names_a_member_that_there_is_not_is_refused(wrong: dict[str, Any]) -> None:
    world = World(3)
    world.hold(0, 1)
    world.ask(0, lambda r: Explain(r, "default", b"k", 1000))
    world.settle()
    (asked,) = [message for message in world.ways[0, 1] if isinstance(message, Trace)]
    answer = Traced(asked.id, "up", b"", [], 0, [], 0)._replace(**wrong)
    with pytest.raises(ProtocolError, match="names a member"):
        world.node(0).receive(1, world.links[0, 1], travel([answer]), world.now(0))


# --- what it means, for any replies ----------------------------------------------------------------

DIGESTER = Digester(KEY)
RECORDS = [
    Record.seal(DIGESTER, b"\0\0\1bk", Version(WALL_MS + stamp << 16, origin, 1), value)
    for stamp in (0, 1)
    for origin in (1, 2)
    for value in (b"a", b"b")
]
MEMBERS = dict(enumerate(("n1", "n2", "n3", "n4", "n5")))
replies = st.lists(st.none() | st.sampled_from(RECORDS), min_size=1, max_size=5)
rules = st.sampled_from(Rule)


def told_of(rule: Rule, records: Sequence[Record | None]) -> Explanation:
    blobs = [b"" if record is None else record.blob[:49] for record in records]
    replicas = [ReplicaRow(number, "up", blob, 0) for number, blob in enumerate(blobs)]
    answer = Explained(1, rule.value, WALL_MS, replicas, [], [], [], 0)
    return explanation(answer, "default", b"k", MEMBERS)


@given(rules, replies)
def test_the_winner_is_the_rules_and_the_line_is_the_one_that_decides(
    rule: Rule, records: list[Record | None]
) -> None:
    told = told_of(rule, records)
    heads = {at: b"" if record is None else record.head for at, record in enumerate(records)}
    best = plan(rule, heads).winner
    assert told.winner == (Version.decode(best[:24]) if best else None)
    others = {head for head in heads.values() if head not in (b"", best)}
    if others:
        assert told.reason in {rule.line(best, other) for other in others}
    else:
        assert told.reason in ("nobody holds it", "the only record", "all replicas agree")
    assert {mend.node for mend in told.mends} == {MEMBERS[at] for at, head in heads.items() if head != best}


@given(rules, replies)
def test_what_may_be_read_is_what_some_choice_of_replicas_gives(
    rule: Rule, records: list[Record | None]
) -> None:
    from itertools import combinations

    told = told_of(rule, records)
    for level, found in told.reads.items():
        winners = set()
        for chosen in combinations(records, level.required(len(records))):
            heads = {at: b"" if record is None else record.head for at, record in enumerate(chosen)}
            winner = plan(rule, heads).winner
            winners.add(Version.decode(winner[:24]) if winner else None)
        assert found is not None
        assert set(found) == winners


@given(rules, st.sampled_from(RECORDS), st.sampled_from(RECORDS))
def test_the_line_of_the_rule_names_the_first_difference(rule: Rule, a: Record, b: Record) -> None:
    line = rule.line(rule.winner(a, b).head, min(a, b, key=lambda r: r is rule.winner(a, b)).head)
    if a.head == b.head:
        assert line == "the same record"
    elif a.version == b.version:
        assert line.startswith("equal versions, ")
    elif a.stamp == b.stamp:
        assert line.startswith("equal stamps, ")
    else:
        assert line.startswith("a ")
    assert ("first write wins" in line) == (rule is Rule.FIRST_WRITE_WINS and a.head != b.head)
    word = "smaller" if rule is Rule.FIRST_WRITE_WINS else "greater"
    assert word in line or a.head == b.head


@pytest.mark.parametrize(
    "change",
    [
        {"rule": "best"},
        {"replicas": [ReplicaRow(9, "up", b"", 0)]},
        {"replicas": [ReplicaRow(0, "asleep", b"", 0)]},
        {"replicas": [ReplicaRow(0, "up", b"x", 0)]},
        {"hints": [KeptHint(9, 0, 0, b"h" * 41)]},
        {"hints": [KeptHint(0, 9, 0, b"h" * 41)]},
        {"unheard": [Unheard(9, "down")]},
        {"reach": [Reach(9, 1, 1)]},
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_with_advice(change: dict[str, Any]) -> None:
    good = Explained(1, "last-write-wins", WALL_MS, [ReplicaRow(0, "up", b"", 0)], [], [], [], 0)
    explanation(good, "default", b"k", MEMBERS)
    with pytest.raises(ConnectionLost, match="check its version"):
        explanation(good._replace(**change), "default", b"k", MEMBERS)


# --- what is settled --------------------------------------------------------------------------------


def test_it_is_told_whether_the_winner_is_settled_and_why_a_tombstone_is_still_there() -> None:
    world = World(3, reconcile=True)
    world.put(0, "k", "v")
    world.run(2)
    told = explain(world, 0)
    assert not told.settled
    assert converged(world).proven
    told = explain(world, 0)
    assert told.settled
    assert told.held_back_by == ()
    assert told.as_json()["stable_ms"] == told.stable >> 16
    world.part(0, 2)
    world.part(1, 2)
    world.run(1)
    world.delete(0, "k")
    world.run(20)
    told = explain(world, 0)
    assert not told.settled
    assert told.replicas["n1"].tombstone
    assert told.held_back_by == ("n3",)
    world.join(0, 2)
    world.join(1, 2)
    assert converged(world).proven
    world.run(5)
    told = explain(world, 0)
    assert told.winner is None  # purged everywhere


def test_who_cannot_agree_is_told_by_the_third() -> None:
    world = World(3, reconcile=True)
    assert converged(world).proven
    world.part(1, 2)
    world.put(0, "k", "v", Level.ALL)
    world.run(20)
    assert explain(world, 0).held_back_by == ("n2", "n3")


def test_a_replica_that_has_purged_the_winner_is_not_behind() -> None:
    record = Record.seal(Digester(KEY), b"\0\0\1bk", Version(5 << 16, 1, 1), tombstone=True)
    held = [(record.blob[:49], 0), (b"", 6 << 16), (b"", 4 << 16)]
    replicas = [ReplicaRow(number, "up", blob, stable) for number, (blob, stable) in enumerate(held)]
    answer = Explained(1, "last-write-wins", WALL_MS, replicas, [], [], [], 0)
    told = explanation(answer, "default", b"k", MEMBERS)
    assert [mend.node for mend in told.mends] == ["n3"]
