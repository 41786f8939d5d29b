"""What a cluster is, a change of it and its log, as a caller is shown them; and what is wrong before it is
sent.

Covers `results/topology.py`.
"""

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from basestore.config import BucketOptions
from basestore.errors import ChangeUnknown, ConnectionLost, InvalidRequest, NoLeader
from basestore.protocol.client import Failed, Got
from basestore.protocol.handshake import Names
from basestore.protocol.membership import (
    CONSISTENT,
    DEFAULT,
    STALE,
    HistoryRow,
    HistoryTold,
    ReadHistory,
    ReadTopology,
    TopologyChanged,
)
from basestore.repair.rule import Rule
from basestore.repair.seats import Seats, Stage
from basestore.repair.version import Identity
from basestore.results import topology as results
from basestore.results.answers import identity_of
from basestore.topology.changes import CreateBucket, DropBucket, SetSetting, UnsetSetting
from basestore.topology.entries import decode_entry
from basestore.topology.topology import Topology
from tests.worlds.told_topologies import told
from tests.worlds.topologies import Log, cluster, founded

IDENTITY = bytes(range(1, 9))


def shown(of: Topology, mode: str = "default", **others: Any) -> results.ClusterTopology:
    return results.cluster_topology(mode, told(ReadTopology(1, DEFAULT, 9), of, **others), Names())


def moving() -> Topology:
    """Partition 0 is being filled at n3; the bucket carts is there, and a setting."""
    log = Log()
    log.add(CreateBucket("carts", "first-write-wins", [5, 0, 100, 10]))
    log.add(SetSetting("on", "yes"))
    was = log.topology
    seats = (Seats(was.epoch, Stage.FILL, (1, 2), (1, 3)), *was.seats[1:])
    return Topology(**{name: getattr(was, name) for name in Topology.__slots__} | {"seats": seats})


# --- reads -----------------------------------------------------------------------------------------


def test_a_topology_is_shown_by_names() -> None:
    topology = moving()
    view = shown(topology)
    assert (view.epoch, view.cluster, view.group[:8]) == (topology.epoch, b"c".hex() * 16, "1a2b3c4d")
    assert [member.name for member in view.members] == ["n1", "n2", "n3"]
    assert [member.standing for member in view.members] == ["member"] * 3
    assert view.partitions[0] == results.PartitionSeats(("n1", "n2"), "fill", ("n1", "n3"))
    assert {seats.stage for seats in view.partitions[1:]} == {"still"}
    assert (view.leader, view.term, view.heard_ms) == ("n2", 3, 1500)
    assert (view.voters, view.learners) == (("n1", "n2", "n3"), ())
    assert view.lag == {"n1": 0, "n2": 1, "n3": None}
    assert view.settings == {"on": "yes"}
    with pytest.raises(FrozenInstanceError):
        view.epoch = 7  # type: ignore[misc]


def test_buckets_are_shown_by_their_numbers() -> None:
    buckets = shown(moving()).buckets
    assert [(bucket.number, bucket.name) for bucket in buckets] == [(1, "default"), (2, "once"), (3, "carts")]
    assert (buckets[2].rule, buckets[2].options) == (Rule.FIRST_WRITE_WINS, BucketOptions(5, False, 100, 10))
    assert buckets[2].as_json()["options"] == {
        "degrade_s": 5, "defer": False, "requests_per_s": 100, "key_requests_per_s": 10,
    }  # fmt: skip


def test_as_json_a_partition_says_its_stage_only_while_it_is_changed() -> None:
    view = json.loads(json.dumps(shown(moving()).as_json()))
    assert view["partitions"][0] == {"replicas": ["n1", "n2"], "stage": "fill", "to": ["n1", "n3"]}
    assert set(view["partitions"][1]) == {"replicas"}
    assert view["members"][0] == {
        "number": 1, "name": "n1", "address": "10.0.0.1:7400", "zone": "", "weight": 1, "standing": "member",
    }  # fmt: skip
    assert {"epoch", "leader", "term", "voters", "group", "mode", "heard_ms"} < view.keys()


def test_each_mode_has_its_caveat() -> None:
    topology = founded()
    assert shown(topology, "consistent").caveat == "as it was decided when it was read"
    assert "unless the rates of two clocks differ by more than a third" in shown(topology).caveat
    assert shown(topology, "stale", heard_ms=61_234).caveat.endswith("heard of the leader 61.2 s ago")
    silent = shown(topology, "stale", heard_ms=-1, leader=-1)
    assert (silent.leader, silent.heard_ms) == (None, None)
    assert "heard of no leader since it was started" in silent.caveat


def test_a_member_that_the_topology_does_not_have_has_no_name() -> None:
    assert shown(founded(cluster(2)), voters=[1, 9]).voters == ("n1", "?")


def test_history_is_shown_in_its_order() -> None:
    rows = [HistoryRow(4, 0, "another leader was elected"), HistoryRow(5, 1_000, "drop bucket 'carts'")]
    view = results.cluster_history(HistoryTold(1, 2, 7, rows), Names())
    assert [(entry.epoch, entry.wall_ms) for entry in view.entries] == [(4, None), (5, 1_000)]
    assert (view.first, view.last, view.more) == (2, 7, True)
    assert view.as_json()["entries"][1] == {"epoch": 5, "wall_ms": 1_000, "text": "drop bucket 'carts'"}
    assert not results.cluster_history(HistoryTold(1, 2, 5, rows), Names()).more
    assert not results.cluster_history(HistoryTold(1, 2, 5, []), Names()).more


# --- changes ---------------------------------------------------------------------------------------


def test_a_change_that_was_decided_has_its_epoch() -> None:
    assert results.decided(IDENTITY, TopologyChanged(1, 12, "", 3), Names()) == results.Decided(12, 3)
    assert results.decided(IDENTITY, TopologyChanged(1, 12, "", -1), Names()).number is None
    assert results.Decided(12, 3).as_json() == {"epoch": 12, "number": 3}


def test_a_change_that_was_refused_says_why_and_when() -> None:
    with pytest.raises(InvalidRequest, match=r"exists: drop it first \(decided at epoch 12\)"):
        results.decided(IDENTITY, TopologyChanged(1, 12, "exists: drop it first", -1), Names())


def test_a_change_of_which_nothing_is_known_names_its_identity() -> None:
    answer = Failed(1, ChangeUnknown.code, "timeout", b"", [])
    with pytest.raises(ChangeUnknown, match="timeout: repeat it as 0102030405060708") as unknown:
        results.decided(IDENTITY, answer, Names())
    assert unknown.value.identity == Identity(IDENTITY)
    assert not unknown.value.definite


READS: list[Callable[[Any, Names], Any]] = [
    lambda answer, names: results.cluster_topology("default", answer, names),
    results.cluster_history,
    lambda answer, names: results.decided(IDENTITY, answer, names),
]


@pytest.mark.parametrize("read", READS)
def test_an_answer_of_another_kind_is_an_error(read: Callable[[Any, Names], Any]) -> None:
    with pytest.raises(NoLeader):
        read(Failed(1, NoLeader.code, "nobody leads", b"", []), Names())
    with pytest.raises(ConnectionLost, match="check its version"):
        read(Got(1, True, b"v", bytes(24), 0, 1, 1, False, 0), Names())


@pytest.mark.parametrize("nonsense", [{"topology": b"nonsense"}, {"epochs": [1]}])
def test_a_topology_that_makes_no_sense_is_an_error(nonsense: dict[str, Any]) -> None:
    with pytest.raises(ConnectionLost, match="check its version"):
        shown(founded(), **nonsense)


# --- what is asked ---------------------------------------------------------------------------------


def test_reads_name_their_mode() -> None:
    modes = {"default": DEFAULT, "consistent": CONSISTENT, "stale": STALE}
    for mode, number in modes.items():
        assert results.read_topology(mode, 1000)(7) == ReadTopology(7, number, 1000)
    assert results.read_history(None, 5, 1000)(7) == ReadHistory(7, -1, 5, 1000)
    assert results.read_history(0, 1000, 1000)(7) == ReadHistory(7, 0, 1000, 1000)


@pytest.mark.parametrize("rule", Rule)
def test_a_rule_is_named_by_its_word_and_whether_writes_are_agreed_on(rule: Rule) -> None:
    made = results.create_bucket("b", rule, BucketOptions())
    assert results.create_bucket("b", rule.word, BucketOptions(), rule.agreed) == made
    assert made == CreateBucket("b", rule.value, [0, 0, 0, 0])
    shown = results.ClusterBucket(7, "b", rule, BucketOptions()).as_json()
    assert (shown["rule"], shown["agreed"]) == (rule.word, rule.agreed)
    agreed = results.create_bucket("b", Rule.FIRST_WRITE_WINS, BucketOptions(), True)
    assert agreed == results.create_bucket("b", Rule.FIRST_WRITE_AGREED, BucketOptions(), True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: results.read_topology("fresh", 1), "one of default, consistent, stale, not 'fresh'"),
        (lambda: results.read_history(None, 0, 1), "limit must be 1 to 1000 entries, not 0"),
        (lambda: results.read_history(None, 1001, 1), "limit must be 1 to 1000 entries, not 1001"),
        (lambda: results.read_history(-1, 5, 1), "0 or more, not -1"),
        (
            lambda: results.create_bucket("b", "newest", BucketOptions()),
            "last-write-wins or first-write-wins or register, not 'newest'",
        ),
        (lambda: results.create_bucket("b", 5, BucketOptions()), "register, not 5"),  # type: ignore[arg-type]
        (
            lambda: results.create_bucket("b", "register", BucketOptions(), True),
            "give up `agreed`, or rule",
        ),
        (
            lambda: results.create_bucket("b", Rule.LAST_WRITE_WINS, BucketOptions(), True),
            "give up `agreed`, or rule last-write-wins",
        ),
        (lambda: results.create_bucket("b", "register", BucketOptions(), 1), "agreed must be True or False"),  # type: ignore[arg-type]
        (lambda: results.create_bucket("b", Rule.LAST_WRITE_WINS, BucketOptions(1.5)), "whole numbers"),  # type: ignore[arg-type]
        (lambda: results.create_bucket("b", Rule.LAST_WRITE_WINS, BucketOptions(0, 1)), "True or False"),  # type: ignore[arg-type]
        (lambda: results.drop_bucket(b"b"), r"text \(str\), not bytes"),  # type: ignore[arg-type]
        (lambda: results.set_setting("k", 1), r"text \(str\), not int"),  # type: ignore[arg-type]
    ],
)
def test_what_is_wrong_is_told_before_it_is_sent(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        make()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (CreateBucket("", "last-write-wins", [0, 0, 0, 0]), "1 to"),
        (DropBucket("b" * 999), "1 to"),
        (SetSetting("k" * 257, "v"), "at most|1 to 256"),
        (SetSetting("k", "v" * (64 << 10) + "v"), "keep it under a key of a bucket"),
        (UnsetSetting("\udcff"), "only characters that print"),
    ],
)
def test_a_change_that_no_cluster_takes_is_not_sent(change: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        results.change_topology(change, IDENTITY, 1000, again=False)


def test_a_change_is_known_by_its_identity_from_before_it_is_sent() -> None:
    change = results.create_bucket("carts", "first-write-wins", BucketOptions(defer=False, requests_per_s=7))
    request = results.change_topology(change, IDENTITY, 1000, again=False)(7)
    assert decode_entry(request.entry).change == CreateBucket("carts", "first-write-wins", [0, 0, 7, 0])
    assert identity_of(request) == Identity(IDENTITY)


@pytest.mark.parametrize("identity", [bytes(8), bytes(range(40))])
def test_what_is_the_identity_of_no_change_is_refused(identity: bytes) -> None:
    with pytest.raises(InvalidRequest, match="is the identity of no change"):
        results.change_topology(DropBucket("carts"), identity, 1000, again=False)
