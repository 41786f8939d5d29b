"""`basestore top`, and the pages of a node's HTTP port, on a real cluster of which a node dies."""

import fcntl
import http.client
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.worlds.fakes import fake, placing
from tests.worlds.patience import PATIENCE_S, eventually
from tests.worlds.ports import free_ports
from tests.worlds.shell import COMMAND, Cluster, cluster, environment, invoke, running

NODE = {
    "node", "endpoint", "state", "reason", "alive", "records", "hints_for", "debt_for", "requests_per_s",
    "latency_ms", "failed_per_s", "repairs_per_s", "stable_lag_s", "stalled_by", "lossy",
    "offered_per_s", "admitted_per_s", "shed_per_s", "under_way", "requests_max", "window", "brownout",
    "deferred_hints", "deferred_bytes", "clipped_by_bucket_per_s", "clipped_by_key_per_s", "metadata",
    "registers",
}  # fmt: skip


@pytest.fixture(scope="module")
def port() -> int:
    return free_ports(3)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("watched") / "data"
    with cluster(directory, "--durability", "memory", "--metrics", str(port)) as started:
        started.invoke("set", "k", "v", "-c", "all")
        yield started


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request(method, path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_a_frame_for_machines(three: Cluster) -> None:
    done = three.invoke("top", "--once", "-o", "json")
    assert (done.code, done.stderr) == (0, "")
    assert [set(node) for node in done.json["nodes"]] == [NODE] * 3
    assert [node["state"] for node in done.json["nodes"]] == ["up"] * 3
    assert all(sorted(node["alive"]) == ["n1", "n2", "n3"] for node in done.json["nodes"])


@pytest.mark.parametrize("wrong", ["another's", "nobody's"])
def test_a_member_is_looked_for_where_those_say_that_answer(three: Cluster, wrong: str) -> None:
    endpoints = [three.endpoint(number) for number in (1, 2, 3)]
    stale = endpoints[0] if wrong == "another's" else "127.0.0.1:1"
    with fake(placing(endpoints, *endpoints[:2], stale)) as node:
        done = invoke("top", "--once", "-o", "json", "-e", node.endpoint)
    assert (done.code, done.stderr) == (0, "")
    told = [(node["node"], node["state"], node["endpoint"]) for node in done.json["nodes"]]
    assert told == [(f"n{number}", "up", endpoint) for number, endpoint in enumerate(endpoints, 1)]


def test_a_frame_for_people_has_no_control_codes_in_a_pipe(three: Cluster) -> None:
    done = three.invoke("top", "--once")
    assert done.code == 0
    assert "3 of 3 nodes up" in done.text
    assert "\x1b" not in done.text


def test_an_interval_that_is_too_short_is_refused(three: Cluster) -> None:
    done = three.invoke("top", "--once", "--interval", "1ms")
    assert done.code == 2
    assert "interval" in done.stderr


def test_prometheus_reads_the_metrics(three: Cluster, port: int) -> None:
    status, text = ask(port, "/metrics")
    assert status == 200
    samples = {
        (sample.name, sample.labels.get("outcome")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("operation") == "set" and sample.labels.get("level") == "all"
    }
    assert samples["basestore_requests_total", "stored"] == 1


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_it_lives_and_is_ready(three: Cluster, port: int, path: str) -> None:
    status, text = ask(port, path)
    assert (status, text.strip()) == (200, "ok")


def test_other_pages_and_methods_are_refused_and_say_what_there_is(three: Cluster, port: int) -> None:
    status, text = ask(port, "/nothing")
    assert status == 404
    assert "/metrics" in text
    assert ask(port, "/metrics", "POST")[0] == 405


def test_who_never_ends_a_request_or_talks_nonsense_disturbs_nobody(three: Cluster, port: int) -> None:
    with (
        socket.create_connection(("127.0.0.1", port)) as slow,
        socket.create_connection(("127.0.0.1", port)) as mad,
    ):
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
        mad.sendall(b"\0" * 100_000)
        assert ask(port, "/livez")[0] == 200
        assert three.invoke("get", "k").text == "v\n"


def test_traffic_is_seen_while_it_flows(three: Cluster) -> None:
    """Each line is a frame; of two that follow each other the later one has rates."""
    with running("top", "-o", "json", "--interval", "200ms", "-e", three.endpoint(1)) as top:
        top.wait_for(r'"requests_per_s":\{"set":0\.0', top.stdout)
        three.invoke("set", "seen", "v", "-c", "one")
        line = top.wait_for(r'"requests_per_s":\{"set":(?!0\.0|null)', top.stdout).string
        assert top.end(signal.SIGTERM) == 0
        assert top.stderr == []
    frame = json.loads(line)
    assert frame["nodes"][0]["requests_per_s"]["set"] > 0
    assert frame["nodes"][0]["latency_ms"]["set"]["p50"] > 0
    asked = [each for each in frame["levels"] if each["requests_per_s"]]
    assert [(each["operation"], each["level"]) for each in asked] == [("set", "one")]


def test_on_a_terminal_frames_replace_each_other_until_ctrl_c(three: Cluster) -> None:
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, "top", "--interval", "100ms", "-e", three.endpoint(1)], stdin=terminal, stdout=terminal,
        stderr=subprocess.PIPE, start_new_session=True, env={**environment(), "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    assert process.stderr is not None
    seen = b""
    while seen.count(b"3 of 3 nodes up") < 3:
        seen += os.read(screen, 65536)
    process.send_signal(signal.SIGINT)
    while b"\x1b[?1049l" not in seen:
        seen += os.read(screen, 65536)
    with process.stderr:
        assert process.wait(PATIENCE_S) == 130
        assert process.stderr.read() == b""
    os.close(screen)
    assert b"\x1b[?1049h" in seen  # a screen of its own, given back at the end
    assert b"\x1b[?25h" in seen  # and so is the cursor


def test_q_ends_it_and_a_narrow_terminal_is_shown_whole_words(three: Cluster) -> None:
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 70, 0, 0))
    before = termios.tcgetattr(terminal)
    with subprocess.Popen(
        [*COMMAND, "top", "--interval", "100ms", "-e", three.endpoint(1)], stdin=terminal, stdout=terminal,
        stderr=subprocess.PIPE, start_new_session=True, env={**environment(), "TERM": "xterm"},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        seen = b""
        while b"WRITE P50" not in seen or b"3 of 3 nodes up" not in seen:
            seen += os.read(screen, 65536)
        os.write(screen, b"q")
        while b"\x1b[?1049l" not in seen:
            seen += os.read(screen, 65536)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == b""
    assert termios.tcgetattr(terminal) == before
    os.close(terminal)
    os.close(screen)
    assert "\N{HORIZONTAL ELLIPSIS}".encode() not in seen  # rich's sign for what was cut off
    assert b"HINTS FOR" in seen


def test_a_reader_that_has_seen_enough_ends_it_quietly(three: Cluster) -> None:
    command = [*COMMAND, "top", "--interval", "100ms", "-e", three.endpoint(1)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"3 of 3 nodes up" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == b""


def test_a_node_that_dies_is_shown_as_down(three: Cluster) -> None:
    os.kill(three.up.pids["n3"], signal.SIGKILL)
    eventually(
        lambda: three.invoke("top", "--once", "-o", "json").json["nodes"][2]["state"] == "down", "n3 is down"
    )
    done = three.invoke("top", "--once")
    assert done.code == 0
    assert "2 of 3 nodes up" in done.text


def test_without_any_node_it_ends_with_6() -> None:
    done = invoke("top", "--once", "-e", f"127.0.0.1:{free_ports(1)}")
    assert done.code == 6
    assert "Traceback" not in done.stderr
