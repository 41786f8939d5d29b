"""A node's HTTP port in real processes: readiness, where it listens, and what stands in its way."""

import http.client
import os
import re
import signal
import socket
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from basestore.config_file import load, parse
from basestore.errors import ConfigurationError
from tests.worlds.configurations import GOOD, read
from tests.worlds.patience import PATIENCE_S, eventually
from tests.worlds.ports import free_ports
from tests.worlds.shell import COMMAND, cluster, invoke, running


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and text of a page; 0 while nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except ConnectionError:
        return 0, ""
    finally:
        connection.close()


def test_the_address_is_read_from_the_file_and_checked() -> None:
    assert read(GOOD).metrics == ""
    assert read(GOOD + 'metrics = "127.0.0.1:9464"\n').metrics == "127.0.0.1:9464"
    with pytest.raises(ConfigurationError, match=r"n1.toml: \[node\] metrics: .*9464"):
        parse(GOOD + 'metrics = "9464"\n', "n1.toml", Path("/base"))


def test_a_node_is_ready_once_it_counts_for_levels(tmp_path: Path) -> None:
    """A node that was started anew counts when another one has found that nothing is missing."""
    with cluster(tmp_path, nodes=3) as three:
        three.invoke("set", "k", "v")
        assert three.up.end(signal.SIGTERM) == 0
    port = free_ports(1)
    first = ("serve", "--config", str(tmp_path / "n1.toml"), "--metrics", f"127.0.0.1:{port}")
    with running(*first) as alone:
        shown = alone.wait_for("^n1 shows its metrics", alone.stdout)
        assert shown.string.endswith(f"http://127.0.0.1:{port}/metrics")
        status, text = ask(port, "/readyz")
        assert (status, text) == (
            503,
            "starting: no other node has yet confirmed that nothing is missing; start the others, and it "
            "goes on; if all that could are lost for good, take it as it is: basestore repair --as-is\n",
        )
        assert ask(port, "/livez") == (200, "ok\n")
        assert "basestore_ready 0.0" in ask(port, "/metrics")[1]
        with running("serve", "--config", str(tmp_path / "n2.toml")):
            eventually(lambda: ask(port, "/readyz") == (200, "ok\n"), "n1 is ready")
        eventually(lambda: 'peer_alive{peer="n2"} 0.0' in ask(port, "/metrics")[1], "n1 misses n2")
        assert ask(port, "/readyz") == (200, "ok\n")  # that its peers are gone is not its fault
    assert not load(tmp_path / "n1.toml").metrics  # what stood on the command line was for once


def test_a_paused_node_does_not_live(tmp_path: Path) -> None:
    port = free_ports(1)
    with cluster(tmp_path, "--durability", "memory", "--metrics", str(port), nodes=1) as one:
        os.kill(one.up.pids["n1"], signal.SIGSTOP)
        with socket.create_connection(("127.0.0.1", port), 0.5) as probe:
            probe.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            with pytest.raises(TimeoutError):
                probe.recv(100)
        os.kill(one.up.pids["n1"], signal.SIGCONT)
        eventually(lambda: ask(port, "/livez")[0] == 200, "it lives again")


def test_the_ports_stay_with_the_cluster_and_are_printed(tmp_path: Path) -> None:
    port = free_ports(2)
    with cluster(tmp_path, "--durability", "memory", "--metrics", str(port), nodes=2) as two:
        printed = two.up.stdout
        assert ask(port + 1, "/livez")[0] == 200
        assert two.up.end(signal.SIGTERM) == 0
    with running("up", "--dir", str(tmp_path)) as again:
        again.wait_for("^ready$", again.stdout)
        assert ask(port, "/livez")[0] == 200
    for lines in (printed, again.stdout):
        assert [re.split("  +", line)[4:] for line in lines if re.match(r"n\d ", line)] == [
            [f"http://127.0.0.1:{port}/metrics"], [f"http://127.0.0.1:{port + 1}/metrics"],
        ]  # fmt: skip


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        up = invoke("up", "--dir", str(tmp_path), "--port", str(free_ports(1)), "--nodes", "1",
                    "--metrics", address.rpartition(":")[2])  # fmt: skip
        assert up.code == 2
        assert address in up.stderr
        assert not (tmp_path / "n1.toml").exists()
        with cluster(tmp_path, nodes=1) as one:
            one.up.end(signal.SIGTERM)
        serve = invoke("serve", "--config", str(tmp_path / "n1.toml"), "--metrics", address)
        assert serve.code == 2
        assert f"n1 cannot show its metrics on {address}" in serve.stderr
        assert "Traceback" not in serve.stderr
    with running("serve", "--config", str(tmp_path / "n1.toml")) as again:  # its store was left in order
        again.wait_for("^n1 listens", again.stdout)


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=1) as one:
        one.up.end(signal.SIGTERM)
    done = invoke("serve", "--config", str(tmp_path / "n1.toml"), "--metrics", "here")
    assert done.code == 2
    assert "here" in done.stderr
    assert invoke("up", "--dir", str(tmp_path), "--metrics", "70000").code == 2


def test_traffic_goes_on_while_scrapers_read_slowly(tmp_path: Path) -> None:
    port = free_ports(1)
    with cluster(tmp_path, "--durability", "memory", "--metrics", str(port), nodes=1) as one:
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        try:
            for number, scraper in enumerate(slow):
                scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n"[: None if number % 2 else 7])
            assert one.invoke("set", "k", "v", "--timeout", "10s").code == 0
            families = list(text_string_to_metric_families(ask(port, "/metrics")[1]))
        finally:
            for scraper in slow:
                scraper.close()
    [requests] = [family for family in families if family.name == "basestore_requests"]
    assert sum(sample.value for sample in requests.samples) == 1


@pytest.mark.parametrize("command", [("get", "k"), ("status",), ("serve", "--help")])
def test_who_watches_nothing_does_not_load_what_watching_takes(command: tuple[str, ...]) -> None:
    python = (COMMAND[0], "-X", "importtime", "-m", "basestore")
    done = invoke(*command, "-e" if command[0] != "serve" else "--help",
                  f"127.0.0.1:{free_ports(1)}", command=python)  # fmt: skip
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "basestore" in imported
    assert not imported & {"prometheus_client", "rich", "h11"}
