"""`basestore converged`, `repair` and what reads say of themselves, against a real cluster.

Covers `cli/cluster/converged.py` and `cli/cluster/repair.py`.
"""

import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import basestore
from basestore.cli.cluster.converged import notable, obstacle_line
from basestore.cli.cluster.hints import begun, decisions
from basestore.cli.data.receipts import receipt_line
from basestore.consistency import Outcome, ReplicaState
from basestore.results.cluster_view import Obstacle
from basestore.results.convergence import Convergence, PartitionProof
from basestore.results.hints import HintPile, NodeHints
from basestore.server.local_cluster import plan_cluster, write_cluster
from tests.worlds.flavours import FLAVOURS, run
from tests.worlds.patience import eventually
from tests.worlds.ports import free_ports
from tests.worlds.shell import Cluster, Finished, running

PROOF = {
    "partition", "replicas", "proven", "stable", "stable_ms", "lag_ms", "digest", "count", "certificates",
}  # fmt: skip
OBSTACLE = {"kind", "nodes", "text", "since_ms", "partitions"}
REPAIR = {
    "complete", "pairs", "done", "waited_s", "exchanges", "records_taken", "records_healed",
    "leaves_corrected", "exchange_bytes_sent", "obstacles",
}  # fmt: skip


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose proofs follow writes by two seconds, not fifteen."""
    directory = tmp_path_factory.mktemp("quick") / "data"
    port = free_ports(3)
    configs = plan_cluster(directory, 3, port, "interval")
    swift = replace(configs[0].cluster, timeout_ms_max=1000, drift_ms_max=200, partitions=8)
    write_cluster(directory, [replace(config, cluster=swift) for config in configs])
    with running("up", "--dir", str(directory)) as up:
        up.wait_for("^ready$", up.stdout)
        yield Cluster(up, directory, port)


def quickly(cluster: Cluster, *arguments: str) -> tuple[str, ...]:
    """With a timeout that this cluster allows."""
    return (*arguments, "--timeout", "1s")


def test_what_was_written_is_proven(quick: Cluster) -> None:
    assert quick.invoke(*quickly(quick, "set", "greeting", "hello")).code == 0
    done = quick.invoke("converged")
    assert done.code == 0, done.stderr
    lines = done.text.splitlines()
    assert lines[0].split() == [
        "PARTITION", "REPLICAS", "STABLE", "LAG", "DIGEST", "RECORDS", "CERTIFICATES",
    ]  # fmt: skip
    assert len(lines) == 4  # those that are the furthest behind
    lines = quick.invoke("converged", "--all").text.splitlines()
    assert len(lines) == 9
    assert "  empty  " in "".join(lines)
    assert lines[1].startswith("0          n1 n2 n3  20")
    assert "n1-n2 " in lines[1]
    assert done.stderr.startswith("converged: all that was written up to 20")
    assert "on all replicas of 8 partitions, for good" in done.stderr


def test_as_json_and_for_one_key(quick: Cluster) -> None:
    quick.invoke(*quickly(quick, "set", "k", "v"))
    done = quick.invoke("converged", "--key", "k", "-o", "json", node=2)
    assert done.stderr == ""
    told = done.json
    assert (told["proven"], told["obstacles"], told["unheard"], told["caveats"]) == (True, [], {}, [])
    (proof,) = told["partitions"]
    assert set(proof) == PROOF
    assert proof["replicas"] == ["n1", "n2", "n3"]
    assert proof["stable_ms"] >= told["stamp_ms"]
    assert len(proof["digest"]) == 16
    assert [pair["nodes"] for pair in proof["certificates"]] == [["n1", "n2"], ["n1", "n3"], ["n2", "n3"]]


def test_where_nothing_is_lost_there_is_nothing_to_accept(quick: Cluster) -> None:
    done = quick.invoke("repair", "--accept-loss")
    assert (done.code, done.text) == (0, "no loss is open: nothing to accept\n")
    told = quick.invoke("repair", "--accept-loss", "--partition", "3", "-o", "json")
    nothing = {
        "complete": True,
        "accepted": True,
        "partitions": [],
        "until_ms": None,
        "obstacles": [],
        "unheard": {},
    }
    assert (told.code, told.json) == (0, nothing)
    refused = quick.invoke("repair", "--accept-loss", "--full")
    assert refused.code == 2
    assert "of --full, --accept-loss" in refused.stderr


def test_what_was_lost_is_said_on_one_line() -> None:
    text = "writes may be lost: n1 recovered from 1 of 2 sources needed"
    lost = Obstacle("lost", ("n1",), text, 1_760_000_000_000, (0, 1))
    assert obstacle_line(lost) == f"{text}, of those up to 2025-10-09T08:53:20.000Z (partitions 0, 1)"


def test_a_repair_says_what_it_did(quick: Cluster) -> None:
    done = quick.invoke("repair")
    assert (done.code, done.stderr) == (0, "")
    assert done.text.startswith("repaired  24 of 24 pairs of replicas compared in ")
    alone = quick.invoke("repair", "--partition", "3", "--full").text
    assert alone.startswith("repaired  3 of 3 pairs of replicas compared in ")
    assert "all records on the disks checked before" in alone
    assert "exchanges" not in alone
    told = quick.invoke("repair", "--partition", "3", "--full", "-o", "json").json
    assert set(told) == REPAIR
    assert (told["complete"], told["pairs"], told["done"]) == (True, 3, 3)


def test_bad_input_is_refused_with_advice(quick: Cluster) -> None:
    for arguments, advice in (
        (("repair", "--partition", "8"), "this cluster has 8, counted from 0"),
        (("converged", "--timeout", "soon"), "is not a duration"),
        (("converged", "--timeout", "0s"), "positive number of seconds"),
        (("converged", "--bucket", "nowhere", "--key", "k"), "there is no bucket 'nowhere'"),
        (("get", "k", "--max-staleness", "2s", "--weak"), "give up one of the two"),
        (("get", "k", "--max-staleness", "2x"), "is not a duration"),
        (("get", "k", "--max-staleness", "2s", "-c", "all"), "a read at all is never stale"),
        (("get", "k", "--degrade", "60s", "-c", "one"), "a read at one has nothing to be degraded to"),
        (("get", "k", "--degrade", "60s", "--weak"), "a read at one has nothing to be degraded to"),
        (("get", "k", "--degrade", "60s", "--max-staleness", "2s"), "give up one of the two"),
        (("get", "k", "--degrade", "60s", "-c", "any"), "level any is for writes"),
        (("get", "k", "--degrade=-1s"), "is not a duration"),
        (("get", "k", "--degrade", "9999d"), "at most 31536000 s are allowed"),
        (("hints", "--late"), "basestore hints replay --late"),
    ):
        done = quick.invoke(*arguments)
        assert done.code == 2, arguments
        assert advice in done.stderr


def test_a_first_write_becomes_final(quick: Cluster) -> None:
    stored = quick.invoke(*quickly(quick, "set", "--bucket", "once", "t", "ada"))
    assert stored.text.startswith("stored provisionally")
    read = quick.invoke(*quickly(quick, "get", "--bucket", "once", "t"))
    assert (read.text, read.stderr) == ("ada\n", "provisional: an earlier write may still turn up\n")
    assert quick.invoke("converged", "--bucket", "once", "--key", "t").code == 0
    read = quick.invoke(*quickly(quick, "get", "--bucket", "once", "t"))
    assert (read.text, read.stderr) == ("ada\n", "final\n")
    lost = quick.invoke(*quickly(quick, "set", "--bucket", "once", "t", "bob"))
    assert (lost.code, lost.text.partition(":")[0]) == (5, "lost  an earlier write holds the key for good")
    assert quick.invoke(*quickly(quick, "get", "--bucket", "once", "t", "-o", "json")).json["final"] is True


def test_a_read_at_one_says_how_stale_it_may_be(quick: Cluster) -> None:
    assert quick.invoke(*quickly(quick, "set", "k", "v")).code == 0
    assert quick.invoke("converged").code == 0
    read = quick.invoke(*quickly(quick, "get", "k", "-c", "one", "--staleness"))
    assert (read.code, read.text) == (0, "v\n")
    assert read.stderr.startswith("stale by at most ")
    told = quick.invoke(*quickly(quick, "get", "k", "--max-staleness", "1h", "-o", "json")).json
    assert (told["level"], told["escalated"]) == ("one", False)
    assert told["stale_by_at_most_s"] > 0
    read = quick.invoke(*quickly(quick, "get", "k", "--max-staleness", "1ms"))
    assert read.stderr == "read at quorum, for the answer of one replica may have been staler\n"
    told = quick.invoke(*quickly(quick, "get", "k", "--max-staleness", "1ms", "-o", "json")).json
    assert (told["level"], told["escalated"], told["stale_by_at_most_s"]) == ("quorum", True, 0.0)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_programs_can_wait_for_it_too(quick: Cluster, flavour: str) -> None:
    async def program(store: Any) -> None:
        receipt = await store.set("program", flavour)
        found = await store.converged(key="program", receipt=receipt)
        assert (found.proven, found.stamp) == (True, receipt.version.stamp)
        seen: list[tuple[int, int]] = []
        done = await store.repair(progress=lambda *numbers: seen.append(numbers))
        assert (done.complete, seen[-1]) == (True, (24, 24))
        alone = await store.converged(receipt=receipt)
        assert [proof.partition for proof in alone.partitions] == [receipt.partition]
        result = await store.get("program", consistency="one", staleness=True)
        assert result.stale_by_at_most > 0
        result = await store.get("program", max_staleness=3600)
        assert (result.level, result.escalated) == (basestore.Level.ONE, False)
        with pytest.raises(basestore.InvalidRequest, match="a read at quorum is never stale"):
            await store.get("program", consistency="quorum", max_staleness=3600)
        with pytest.raises(basestore.InvalidRequest, match="what a write returned"):
            await store.converged(receipt="receipt")

    run(flavour, quick.endpoint(1), program, timeout=1.0)


def test_who_stands_in_the_way_is_named(quick: Cluster) -> None:
    """The last one: n3 dies."""
    os.kill(quick.up.pids["n3"], signal.SIGKILL)
    eventually(
        lambda: quick.invoke(*quickly(quick, "get", "k", "-c", "all")).code == 3, "n3 is seen to be down"
    )
    done = quick.invoke("converged", "--timeout", "4s")
    assert done.code == 4
    assert done.text.splitlines()[1].endswith("not proven")
    assert len(done.text.splitlines()) == 9  # few enough
    assert re.search(r"not proven after \d+\.", done.stderr)
    assert "  n3 does not answer: there is no link to it (partitions 0, 1, 2, 3, 4, 5, 6, 7)" in done.stderr
    done = quick.invoke("converged", "--timeout", "1s", "-o", "json")
    assert (done.code, done.stderr) == (4, "")
    told = done.json
    (obstacle,) = told["obstacles"]
    assert set(obstacle) == OBSTACLE
    assert (obstacle["kind"], obstacle["nodes"]) == ("down", ["n3"])
    repairs: list[Finished] = []

    def all_that_can_be() -> bool:
        repairs.append(quick.invoke("repair", "--timeout", "2s"))
        return repairs[-1].text.startswith("not all compared  8 of 24 pairs")

    eventually(all_that_can_be, "n1 and n2 have compared all partitions")
    repair = repairs[-1]
    assert repair.code == 4
    assert repair.stderr.splitlines()[-1].startswith("What was begun goes on. Remove what stands in the way")
    shown = quick.invoke("status")
    assert shown.code == 0, shown.stderr
    row = shown.text.splitlines()[3]
    assert "does not answer: connection refused. Nothing listens there: see how its process ended" in row
    assert f"start it: basestore serve --config {quick.directory / 'n3.toml'}" in row
    told = quick.invoke("status", "-o", "json").json[0]
    assert (told["alive"], told["damaged"], told["debt_for"]["n3"]) == (["n1", "n2"], 0, 0)
    os.kill(quick.up.pids["n2"], signal.SIGKILL)
    eventually(
        lambda: quick.invoke(*quickly(quick, "get", "k", "-c", "quorum")).code == 3, "n2 is seen to be down"
    )
    degraded = quick.invoke(*quickly(quick, "get", "k", "--degrade", "10m"))
    assert (degraded.code, degraded.text) == (0, "v\n")
    said = r"degraded: read at one, stale by at most \d+\.\d s, because 1 of 3 replicas is alive\n"
    assert re.fullmatch(said, degraded.stderr)
    degraded = quick.invoke(*quickly(quick, "get", "k", "--degrade", "10m", "-o", "json"))
    assert (degraded.code, degraded.stderr) == (0, "")
    told = degraded.json
    assert (told["degraded"], told["level"], told["because"]) == (True, "one", "1 of 3 replicas is alive")
    assert told["stale_by_at_most_s"] > 0
    missing = quick.invoke(*quickly(quick, "get", "nowhere", "--degrade", "10m"))
    assert missing.code == 1
    assert missing.stderr.startswith("degraded: read at one")
    stale = quick.invoke(*quickly(quick, "get", "k", "--degrade", "10ms"))
    assert (stale.code, stale.text) == (3, "")
    assert "2 replicas are required and 1 is alive" in stale.stderr
    assert "more than the 0.01 s that are allowed" in stale.stderr
    stale = quick.invoke(*quickly(quick, "get", "k", "--max-staleness", "10ms"))
    assert stale.code == 3
    assert "a quorum could not be read" in stale.stderr
    told = quick.invoke(*quickly(quick, "explain", "k", "-o", "json")).json
    assert told["settled"] is True


def test_of_many_partitions_the_furthest_behind_are_shown() -> None:
    def proof(partition: int, proven: bool) -> PartitionProof:
        return PartitionProof(partition, ("n1",), proven, (99 - partition) << 16, 1, None, 0, {})

    def shown(open_: int) -> list[int]:
        proofs = tuple(proof(partition, partition >= open_) for partition in range(64))
        return [each.partition for each in notable(Convergence(not open_, 1 << 16, 1.0, proofs, (), {}))]

    assert shown(0) == [61, 62, 63]
    assert shown(2) == [0, 1]
    assert shown(60) == [57, 58, 59]


def test_a_write_that_is_only_hinted_is_not_said_to_be_stored() -> None:
    version = basestore.Version.parse("01a205e983e70000-0001aed92d1f326b-1")
    states = {"n1": ReplicaState.HINTED, "n2": ReplicaState.PENDING}
    identity = basestore.Identity(bytes(8), version, bytes(8))
    receipt = basestore.Receipt(
        Outcome.STORED,
        None,
        identity,
        basestore.Level.ANY,
        1,
        0,
        states,
        None,
        3,
        bytes(16),
    )
    assert not receipt.applied
    assert receipt_line(receipt, "stored") == (
        f"kept as a hint  no replica has it yet  version {version}  (n1 hinted, n2 pending)"
    )
    stored = replace(receipt, acknowledged=1, replicas={"n1": ReplicaState.APPLIED})
    assert receipt_line(stored, "stored").startswith("stored  1 of 1 replica required by any")


def test_how_late_hints_were_decided_is_said() -> None:
    late = HintPile("n2", True, 3, 100, 3, 3, 1, {})
    before = [NodeHints("n1", 5, (late,), "", 1, 1), NodeHints("n2", None, (), "does not answer")]
    after = [NodeHints("n1", 6, (replace(late, count=1, late=1),), "", 2, 2), before[1]]
    assert decisions(before, after) == (
        "3 late hints: 1 written anew, 1 superseded by what a quorum holds, 1 left"
    )
    away = HintPile("n3", False, 2, 100, 0, 0, 1, {})
    ready = HintPile("n4", True, 1, 100, 0, 0, 1, {})
    assert begun([NodeHints("n1", 5, (late, away, ready))]) == (
        "1 hint being delivered; others wait until n3 is up; 3 late hints left as they are: basestore hints "
        "replay --late"
    )


def test_a_line_for_each_obstacle() -> None:
    cut = Obstacle("no certificate", ("n1", "n2"), "no certificate between n1 and n2", None, (1,))
    assert obstacle_line(cut) == "no certificate between n1 and n2 yet (partition 1)"
    since = replace(cut, since_ms=1_760_000_000_000, partitions=tuple(range(9)))
    assert obstacle_line(since) == (
        "no certificate between n1 and n2 since 2025-10-09T08:53:20.000Z (9 partitions)"
    )
