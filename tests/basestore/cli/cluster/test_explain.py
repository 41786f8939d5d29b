"""`basestore explain` and `basestore hints` against a real cluster, of which a node dies.

Covers `cli/cluster/explain.py` and `cli/cluster/hints.py`.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from basestore import InvalidRequest
from basestore.cli.text import age, moment
from tests.worlds.flavours import FLAVOURS, run
from tests.worlds.patience import eventually
from tests.worlds.ports import free_ports
from tests.worlds.shell import COMMAND, Cluster, cluster, invoke

EXPLANATION = {
    "key", "key_encoding", "bucket", "rule", "replicas", "winner", "reason", "hints", "reads", "mends",
    "unheard", "settled", "stable_ms", "held_back_by", "lost_ms", "class", "waited_ms", "window", "brownout",
    "known_as", "pending", "agreed",
}  # fmt: skip
REPLICA = {"state", "version", "digest", "tombstone", "expires_ms", "reason", "acceptor"}
HINT = {"at", "for", "version", "tombstone", "only_copy", "late", "wins", "deferred"}
NODE_HINTS = {"node", "asked_ms", "reason", "late_rewritten", "late_superseded", "peers"}
PEER_HINTS = {"peer", "alive", "count", "bytes", "only_copies", "deferred", "late", "oldest_ms", "debt"}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("explained") / "data", "--durability", "memory") as started:
        yield started


@pytest.fixture(scope="module")
def maimed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose n3 is dead, and has missed a write that n1 keeps a hint of."""
    with cluster(tmp_path_factory.mktemp("maimed") / "data", "--durability", "interval") as started:
        started.invoke("set", "greeting", "hello", "-c", "all")
        os.kill(started.up.pids["n3"], signal.SIGKILL)
        eventually(lambda: started.invoke("get", "greeting", "-c", "all").code == 3, "n3 is seen to be down")
        assert started.invoke("set", "greeting", "hi").code == 0
        eventually(lambda: started.states()["n1"]["hints"] == 1, "n1 keeps a hint")
        yield started


# --- explain ---------------------------------------------------------------------------------------


def test_a_key_that_all_replicas_agree_on(three: Cluster) -> None:
    version = three.invoke("set", "k", "v", "-c", "all", "-o", "json").json["version"]
    done = three.invoke("explain", "k", "-o", "json", node=2)
    assert (done.code, done.stderr) == (0, "")
    told = done.json
    assert set(told) == EXPLANATION
    assert (told["key"], told["key_encoding"], told["bucket"]) == ("k", "utf8", "default")
    assert (told["rule"], told["winner"], told["reason"]) == (
        "last-write-wins", version, "all replicas agree",
    )  # fmt: skip
    assert set(told["replicas"]) == {"n1", "n2", "n3"}
    for replica in told["replicas"].values():
        assert set(replica) == REPLICA
        assert (replica["state"], replica["version"], len(replica["digest"])) == ("value", version, 32)
        assert (replica["tombstone"], replica["expires_ms"], replica["reason"]) == (False, None, "")
    assert told["reads"] == {"one": [version], "quorum": [version], "all": [version]}
    assert (told["hints"], told["mends"], told["unheard"]) == ([], [], {})


def test_the_text_is_a_table_and_the_verdict(three: Cluster) -> None:
    version = three.invoke("set", "text", "v", "-c", "all", "--ttl", "2h", "-o", "json").json["version"]
    lines = three.invoke("explain", "text").text.splitlines()
    assert lines[0].startswith("text in bucket default, last-write-wins, at 20")
    assert lines[2].split() == ["REPLICA", "STATE", "VERSION", "WRITTEN", "AGE", "BY", "DIGEST"]
    for row in lines[3:6]:
        words = row.split()
        assert words[1:3] == ["value", version]
        assert words[5] == "n1"
        assert "wins, expires 20" in row
    assert lines[7] == f"winner     {version}: all replicas agree"
    assert lines[8].startswith("at one     the value on ")


def test_a_deleted_key_is_explained_by_its_tombstone(three: Cluster) -> None:
    three.invoke("set", "gone", "v", "-c", "all")
    three.invoke("delete", "gone", "-c", "all")
    done = three.invoke("explain", "gone")
    assert done.code == 0
    assert "nothing, by the tombstone on " in done.text


def test_a_key_in_a_first_write_bucket(three: Cluster) -> None:
    three.invoke("set", "first", "v", "--bucket", "once", "-c", "all")
    told = three.invoke("explain", "first", "--bucket", "once", "-o", "json").json
    assert (told["rule"], told["reason"]) == ("first-write-wins", "all replicas agree")


def test_a_key_that_nobody_holds_ends_with_1(three: Cluster) -> None:
    done = three.invoke("explain", "never", "-o", "json")
    assert done.code == 1
    assert (done.json["winner"], done.json["reason"]) == (None, "nobody holds it")
    assert done.stderr == ""
    assert "--bucket" in three.invoke("explain", "never").stderr


def test_a_hint_for_a_dead_replica_and_what_will_mend_it(maimed: Cluster) -> None:
    for node in (1, 2):
        done = maimed.invoke("explain", "greeting", "-o", "json", node=node)
        told = done.json
        assert done.code == 0
        assert told["replicas"]["n3"]["state"] == "down"
        assert told["replicas"]["n3"]["reason"] == told["unheard"]["n3"] != ""
        assert told["reads"]["all"] is None
        (hint,) = told["hints"]
        assert set(hint) == HINT
        assert (hint["at"], hint["for"], hint["version"]) == ("n1", "n3", told["winner"])
        assert (hint["tombstone"], hint["only_copy"], hint["wins"]) == (False, False, False)
        assert told["mends"] == [{"node": "n3", "by": "hint", "at": ["n1"]}]
    text = maimed.invoke("explain", "greeting").text
    assert "mending    n3: gets the hint kept at n1 once it is up" in text
    assert "at all     unavailable" in text
    assert "unheard    n3: " in text


def test_a_register_whose_third_acceptor_is_down(tmp_path: Path) -> None:
    with cluster(tmp_path / "data", "--durability", "interval") as started:
        written, explained = (
            ("set", "leader", "n1", "--bucket", "cas"),
            ("explain", "leader", "--bucket", "cas"),
        )
        eventually(lambda: started.invoke(*written).code == 0, "the bucket is made, and acceptors are known")
        os.kill(started.up.pids["n3"], signal.SIGKILL)
        done = started.invoke(*written, "-o", "json")
        assert done.code == 0, done.stderr

        def learned() -> bool:
            reason = started.invoke(*explained, "-o", "json").json["reason"]
            return set(reason.removeprefix("chosen: learned at ").split(", ")) == {"n1", "n2"}

        eventually(learned, "both learn it")
        told, text = started.invoke(*explained, "-o", "json").json, started.invoke(*explained).text
        state, version = started.states()["n1"], done.json["version"]
    assert (told["rule"], told["known_as"], told["pending"]) == ("register", version, None)
    assert told["replicas"]["n3"]["acceptor"] is None
    for name in ("n1", "n2"):
        acceptor = told["replicas"][name]["acceptor"]
        assert set(acceptor) == {"store", "role", "promised", "accepted", "learned"}
        assert (acceptor["role"], acceptor["accepted"]) == ("acceptor", None)
        assert acceptor["learned"]["version"] == version
        assert told["winner"].startswith(acceptor["learned"]["ballot"])
    assert f"winner     {version}: chosen: learned at " in text
    assert "ACCEPTOR  STORE " in text
    assert (state["register_partitions_barred"], state["register_rows_unlearned"]) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("explain",), "Missing argument"),
        (("explain", ""), "1 to 65536"),
        (("explain", "k", "--bucket", "nope"), "default, once"),
        (("explain", "k", "--timeout", "5x"), "5s, 200ms"),
        (("hints", "play"), "replay"),
        (("hints", "--node", "n9"), "n1, n2, n3"),
    ],
)
def test_wrong_usage_ends_with_2(three: Cluster, arguments: tuple[str, ...], hint: str) -> None:
    refused = three.invoke(*arguments)
    assert (refused.code, refused.stdout) == (2, b""), refused.stderr
    assert hint in refused.stderr


@pytest.mark.parametrize("command", [("explain", "k"), ("hints",), ("hints", "replay")])
def test_without_a_node_the_code_is_6(command: tuple[str, ...]) -> None:
    refused = invoke(*command, "-e", f"127.0.0.1:{free_ports(1)}")
    assert (refused.code, refused.stdout) == (6, b"")


@pytest.mark.parametrize("command", [("explain", "light"), ("hints",)])
def test_they_import_no_event_loop(three: Cluster, command: tuple[str, ...]) -> None:
    python = (COMMAND[0], "-X", "importtime", "-m", "basestore")
    result = invoke(*command, "-e", three.endpoint(1), command=python)
    assert result.code in (0, 1)
    imported = {line.split("|")[-1].strip().split(".")[0] for line in result.stderr.splitlines()}
    assert not imported & {"trio", "anyio", "asyncio", "rocksdict"}


@pytest.mark.parametrize("command", ["explain", "hints"])
def test_their_help_has_an_example(command: str) -> None:
    shown = invoke(command, "--help").text
    assert "Example:" in shown
    assert f"basestore {command} " in shown


def test_when_too_few_replicas_can_say_what_they_hold_the_code_is_3(tmp_path: Path) -> None:
    with cluster(tmp_path / "data", "--durability", "memory", nodes=4) as four:
        four.invoke("set", "k", "v", "-c", "all")
        replicas = set(four.invoke("explain", "k", "-o", "json").json["replicas"])
        (outsider,) = {"n1", "n2", "n3", "n4"} - replicas
        others = (f"absent{number}" for number in range(99))
        absent = next(
            k for k in others if {*four.invoke("explain", k, "-o", "json").json["replicas"]} == replicas
        )
        left = replicas.pop()
        for name in replicas:
            os.kill(four.up.pids[name], signal.SIGKILL)
        few = four.invoke("explain", absent, "--timeout", "5s", node=int(outsider[1:]))
        assert (few.code, "Too few replicas answer, of which none holds it" in few.stderr) == (3, True)
        os.kill(four.up.pids[left], signal.SIGKILL)
        done = four.invoke("explain", "k", "--timeout", "5s", "-o", "json", node=int(outsider[1:]))
    assert done.code == 3
    assert {replica["state"] for replica in done.json["replicas"].values()} == {"down"}
    assert done.stderr == ""


# --- hints -----------------------------------------------------------------------------------------


def test_hints_lists_every_node_and_the_peers_it_keeps_hints_for(maimed: Cluster) -> None:
    done = maimed.invoke("hints", "-o", "json")
    assert done.code == 0
    nodes = done.json
    assert [node["node"] for node in nodes] == ["n1", "n2", "n3"]
    assert all(set(node) == NODE_HINTS for node in nodes)
    (kept,) = nodes[0]["peers"]
    assert set(kept) == PEER_HINTS
    assert (kept["peer"], kept["alive"], kept["count"], kept["only_copies"]) == ("n3", False, 1, 0)
    assert kept["bytes"] > 0
    assert 0 <= nodes[0]["asked_ms"] - kept["oldest_ms"] < 600_000
    assert kept["debt"] == {}
    assert nodes[1]["peers"] == []
    assert (nodes[2]["asked_ms"], nodes[2]["peers"]) == (None, [])
    assert nodes[2]["reason"].startswith(
        "does not answer: connection refused. Nothing listens there: see how"
    )
    assert nodes[2]["reason"].endswith(f"start it: basestore serve --config {maimed.directory / 'n3.toml'}")


def test_hints_prints_a_table(maimed: Cluster) -> None:
    header, *rows = maimed.invoke("hints").text.splitlines()
    assert header.split("  ")[0] == "NODE"
    assert [row.split()[:3] for row in rows] == [["n1", "n3", "1"], ["n2", "-", "0"], ["n3", "-", "-"]]
    assert rows[0].endswith("until n3 is up")


def test_one_node_may_be_asked_alone(maimed: Cluster) -> None:
    assert [node["node"] for node in maimed.invoke("hints", "--node", "n2", "-o", "json").json] == ["n2"]
    down = maimed.invoke("hints", "replay", "--node", "n3")
    assert down.code == 6
    assert "does not answer: connection refused" in down.text


def test_replay_prints_what_was_to_be_delivered(maimed: Cluster) -> None:
    replay = maimed.invoke("hints", "replay", node=2)
    assert replay.stderr == "0 hints being delivered; others wait until n3 is up\n"
    replayed = maimed.invoke("hints", "replay", "-o", "json", node=2).json
    assert [(kept["peer"], kept["count"]) for kept in replayed[0]["peers"]] == [("n3", 1)]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_programs_have_the_same(three: Cluster, flavour: str) -> None:
    async def body(store: Any) -> None:
        version = (await store.set("program", "v", consistency="all")).version
        told = await store.explain("program")
        assert (told.winner, told.reason, [*told.members.values()]) == (
            version,
            "all replicas agree",
            ["n1", "n2", "n3"],
        )
        assert not (await store.explain("program", bucket="once", timeout=5)).replicas["n1"].version
        with pytest.raises(InvalidRequest, match="default, once"):
            await store.explain("program", bucket="nowhere")
        with pytest.raises(InvalidRequest, match="key is empty"):
            await store.explain("")
        assert (await store.node_hints()).piles == ()
        assert (await store.node_hints(replay=True)).node == "n1"

    run(flavour, [three.endpoint(1)], body)


# --- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length_ms", "text"),
    [
        (0, "0ms"), (850, "850ms"), (3999, "3s"), (720_000, "12m"), (18_000_000, "5h"), (10**9, "11d"),
        (-3000, "-3s"),
    ],
)  # fmt: skip
def test_ages_have_units(length_ms: int, text: str) -> None:
    assert age(length_ms) == text


def test_moments_are_iso_with_milliseconds() -> None:
    assert moment(1_760_000_000_007) == "2025-10-09T08:53:20.007Z"
    assert moment((1 << 48) - 1) == "281474976710655 ms"
