"""`basestore up` and `basestore serve`: real processes that are killed, stopped and started again.

Covers `cli/running/up.py`, `children.py` and `serving.py`.
"""

import os
import re
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

from basestore.cli.running.children import Child
from basestore.cli.running.serving import raise_expected
from basestore.cli.running.up import end_of
from basestore.errors import StorageError
from basestore.server.local_cluster import plan_cluster
from tests.worlds.patience import eventually
from tests.worlds.ports import free_ports
from tests.worlds.shell import Cluster, alive, cluster, invoke, running

LOOPBACK = "127.0.0.1"


def test_up_prints_a_line_a_node_and_then_ready(tmp_path: Path) -> None:
    with cluster(tmp_path / "data") as three:
        assert three.up.stdout[-1] == "ready"
        for number, line in enumerate(three.up.stdout[:-1], 1):
            assert re.fullmatch(
                rf"n{number}  {three.endpoint(number)}  pid \d+  {tmp_path}/data/n{number}.toml", line
            )
        assert (tmp_path / "data" / "n1.toml").stat().st_mode & 0o077 == 0  # the cluster's key is secret
        pids = three.up.pids.values()
        assert three.up.end(signal.SIGTERM) == 0
        assert three.up.stderr == []
        assert not any(map(alive, pids))


@pytest.mark.parametrize("nodes", [1, 7])
def test_a_cluster_may_have_one_node_or_seven(tmp_path: Path, nodes: int) -> None:
    with cluster(tmp_path, nodes=nodes) as started:
        assert len(started.up.pids) == nodes
        receipt = started.invoke("set", "k", "v", "-o", "json", "-c", "all").json
        assert receipt["required"] == min(nodes, 3)
        assert started.invoke("get", "k", node=nodes).stdout == b"v\n"


def test_ctrl_c_stops_the_nodes_without_tracebacks(tmp_path: Path) -> None:
    with cluster(tmp_path) as three:
        os.killpg(three.up.process.pid, signal.SIGINT)
        assert three.up.end() == 130
        assert three.up.stderr == []
        assert not any(map(alive, three.up.pids.values()))


def test_nodes_do_not_outlive_an_up_that_was_killed(tmp_path: Path) -> None:
    with cluster(tmp_path) as three:
        three.up.end(signal.SIGKILL)
        eventually(lambda: not any(map(alive, three.up.pids.values())), "the nodes stop")


def test_a_killed_node_is_reported_and_comes_back_with_serve(tmp_path: Path) -> None:
    with cluster(tmp_path) as three:
        os.kill(three.up.pids["n3"], signal.SIGKILL)
        report = three.up.wait_for("^n3 died", three.up.stderr).string
        assert "SIGKILL" in report
        assert report.endswith(f"basestore serve --config {tmp_path}/n3.toml")
        eventually(lambda: three.states()["n1"]["alive"] == ["n1", "n2"], "n1 notices")

        refused = three.invoke("set", "k", "v", "-c", "all")
        assert refused.code == 3
        assert "nothing was done" in refused.stderr
        assert "basestore status" in refused.stderr
        stored = three.invoke("set", "k", "v", "-o", "json")
        assert stored.json["replicas"]["n3"] in ("hinted", "pending")
        eventually(lambda: three.states()["n1"]["hints"] == 1, "n1 keeps a hint")
        assert three.states()["n3"]["state"] == "down"
        assert three.states()["n3"]["pid"] is None

        with running(*report.split("basestore ")[-1].split()) as returned:
            returned.wait_for(f"^n3 listens on {three.endpoint(3)}", returned.stdout)
            eventually(lambda: three.states()["n3"]["state"] == "up", "n3 is whole")
            eventually(lambda: three.states()["n1"]["hints"] == 0, "the hint is delivered")
            assert three.invoke("get", "k", "-c", "one", node=3).stdout == b"v\n"
            assert three.invoke("set", "k", "w", "-c", "all").code == 0
            assert returned.end(signal.SIGTERM) == 0
            assert not any("Traceback" in line for line in returned.stderr)


def test_too_few_answers_in_time_leave_the_outcome_unknown(tmp_path: Path) -> None:
    with cluster(tmp_path) as three:
        read, _ = _meets_a_fresh_pause(three, "get", "k", "--timeout", "300ms")
        assert read == 4
        late, told = _meets_a_fresh_pause(three, "set", "k", "v", "--timeout", "300ms")
        assert late == 4
        assert "may have happened" in told
        named = re.search(r"repeat it with --repeat ([0-9a-f-]+)", told, re.IGNORECASE)
        assert named
        eventually(lambda: three.states()["n1"]["alive"] == ["n1", "n2", "n3"], "all are back")
        again = three.invoke("set", "k", "v", "--repeat", named[1], "-o", "json")
        assert (again.code, again.json["identity"]) == (0, named[1])


def _meets_a_fresh_pause(three: Cluster, *arguments: str) -> tuple[int, str]:
    """A command whose request reaches n1 when n2 and n3 have just been paused, and n1 cannot know of it:
    they are paused once the command connects, however long it takes to start. Its code and stderr."""
    eventually(lambda: three.states()["n1"]["alive"] == ["n1", "n2", "n3"], "all count")
    paused = [three.up.pids[name] for name in ("n2", "n3")]
    with socket.create_server((LOOPBACK, 0)) as door:
        address = f"{LOOPBACK}:{door.getsockname()[1]}"
        with running(*arguments, "-e", address) as command:
            near, _ = door.accept()
            with near, socket.create_connection((LOOPBACK, three.port)) as far:
                for pid in paused:
                    os.kill(pid, signal.SIGSTOP)
                try:
                    ways = [threading.Thread(target=_carry, args=way) for way in ((near, far), (far, near))]
                    for way in ways:
                        way.start()
                    code = command.end()
                finally:
                    for pid in paused:
                        os.kill(pid, signal.SIGCONT)
                for way in ways:
                    way.join()
    return code, "\n".join(command.stderr)


def _carry(source: socket.socket, target: socket.socket) -> None:
    while data := source.recv(1 << 16):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


def test_when_all_nodes_have_died_up_ends_with_an_error(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=1) as one:
        os.kill(one.up.pids["n1"], signal.SIGKILL)
        assert one.up.end() == 3
        assert "all nodes that this command started have died" in one.up.stderr[-1]


def test_started_again_on_its_directory_a_cluster_carries_on(tmp_path: Path) -> None:
    with cluster(tmp_path, "--durability", "interval") as three:
        assert three.invoke("set", "kept", "x").code == 0
        assert {state["durability"] for state in three.states().values()} == {"interval"}
    with running("up", "--dir", str(tmp_path)) as again:
        again.wait_for("^ready$", again.stdout)
        assert len(again.pids) == 3
        assert three.invoke("get", "kept", "-c", "all").stdout == b"x\n"
        assert {state["durability"] for state in three.states().values()} == {"interval"}
    with running("up", "--dir", str(tmp_path), "--durability", "sync", "--port", str(three.port)) as again:
        again.wait_for("^ready$", again.stdout)
        assert {state["durability"] for state in three.states().values()} == {"sync"}
        assert three.invoke("get", "kept", "-c", "all").stdout == b"x\n"
        assert three.invoke("get", "kept", "-c", "all").code == 0
    assert 'durability = "sync"' in (tmp_path / "n2.toml").read_text()


def test_what_does_not_fit_the_directory_is_refused(tmp_path: Path) -> None:
    with cluster(tmp_path, "--durability", "memory", nodes=1):
        pass
    more = invoke("up", "--dir", str(tmp_path), "--nodes", "3")
    assert more.code == 2
    assert "another directory" in more.stderr
    elsewhere = invoke("up", "--dir", str(tmp_path), "--port", "7")
    assert elsewhere.code == 2
    assert "begins at" in elsewhere.stderr


def test_ports_that_are_taken_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    port = free_ports(3)
    with socket.create_server(("127.0.0.1", port + 1)):
        refused = invoke("up", "--dir", str(tmp_path / "data"), "--port", str(port))
    assert refused.code == 2
    assert f"127.0.0.1:{port + 1}: something listens there already" in refused.stderr
    assert f"127.0.0.1:{port} " not in refused.stderr
    assert not (tmp_path / "data").exists()


def test_nodes_and_metrics_at_one_port_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    port = free_ports(4)
    data = ("--dir", str(tmp_path / "data"), "--port", str(port))
    refused = invoke("up", *data, "--metrics", str(port + 2))
    assert (refused.code, refused.stdout) == (2, b"")
    assert f"two would listen at one address: 127.0.0.1:{port + 2}: the metrics of n1 and n3. Choose" in (
        refused.stderr
    )
    assert not (tmp_path / "data").exists()
    with running("up", *data, "--nodes", "2", "--metrics", str(port + 2)) as up:
        up.wait_for("^ready$", up.stdout)


def test_what_a_node_refuses_to_start_with_is_said_and_not_to_start_it_again(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=1) as one:
        assert one.invoke("set", "k", "v").code == 0
    file = tmp_path / "n1.toml"
    was = file.read_text()
    file.write_text(was.replace("partitions = 64", "partitions = 32"))
    assert file.read_text() != was
    with running("up", "--dir", str(tmp_path)) as up:
        assert up.end() == 3
    (told,) = [line for line in up.stderr if line.startswith("n1 did")]
    assert told.startswith(f"n1 did not start: the store in {tmp_path}/n1 was written under other settings")
    assert "partitions: 32 in the configuration, 64 in the store" in told
    assert not any("Bring it back" in line for line in up.stderr)


def test_a_store_that_is_in_use_ends_serve_with_3_and_the_reason(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=1) as running:
        second = invoke("serve", "--config", str(tmp_path / "n1.toml"))
        assert f"Process {running.up.pids['n1']} uses it" in second.stderr
    assert second.code == 3
    assert "Traceback" not in second.stderr


def test_a_port_that_is_taken_ends_serve_with_2(tmp_path: Path) -> None:
    with cluster(tmp_path, "--durability", "memory", nodes=1):
        second = invoke("serve", "--config", str(tmp_path / "n1.toml"))
    assert second.code == 2
    assert "cannot listen" in second.stderr


FAILING_DISK = """
import sys, threading
from basestore.errors import StorageError
from basestore.storage.rocks import RocksEngine

whole, syncs = RocksEngine.sync, []

def sync(engine):
    if threading.current_thread() is not threading.main_thread():
        syncs.append(engine)
        if len(syncs) > 20:
            raise StorageError("the disk is on fire. Replace it")
    whole(engine)

RocksEngine.sync = sync
from basestore.cli import main
main(["serve", "--config", sys.argv[1]])
"""


def test_a_failed_sync_ends_serve_with_3_and_the_reason(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=1) as one:
        one.up.end(signal.SIGTERM)
        command = (sys.executable, "-c", FAILING_DISK, str(tmp_path / "n1.toml"))
        with running(command=command) as node:
            node.wait_for("listens", node.stdout)
            eventually(lambda: one.invoke("set", "k", "v").code != 0, "the disk fails")
            assert node.end() == 3
    assert node.stderr[-1] == "Error: the disk is on fire. Replace it"
    assert not any("Traceback" in line for line in node.stderr)


def test_ctrl_c_stops_serve_with_130(tmp_path: Path) -> None:
    with cluster(tmp_path, "--durability", "memory", nodes=1):
        pass
    with running("serve", "--log-level", "warning", "--config", str(tmp_path / "n1.toml")) as node:
        node.wait_for("listens", node.stdout)
        assert node.end(signal.SIGINT) == 130
    assert node.stderr == []


def test_of_the_errors_in_a_group_only_expected_ones_are_unwrapped() -> None:
    expected = StorageError("full")
    with pytest.raises(StorageError) as caught:
        raise_expected(ExceptionGroup("", [ExceptionGroup("", [expected])]))
    assert caught.value is expected
    with pytest.raises(ExceptionGroup):
        raise_expected(ExceptionGroup("", [expected, KeyError("a bug")]))


def test_of_a_node_that_has_left_nobody_is_told_to_bring_it_back(tmp_path: Path) -> None:
    child = Child(tmp_path / "n1.toml", plan_cluster(tmp_path, 1, 7400, None)[0], lambda name, line: None)
    child.hear(b"2026-11-30T06:31:14.310Z WARNING n1: this node has left the cluster: it serves nothing")
    assert end_of(child) == f"n1 has ended, and had left the cluster: remove {child.path} and its directory"
