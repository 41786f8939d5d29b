"""What a command does with closed streams and with a terminal: real processes, and a pseudo-terminal.

Covers `cli/streams.py`, and `status --check`, which scripts read by its code.
"""

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worlds.patience import PATIENCE_S, eventually
from tests.worlds.ports import free_ports
from tests.worlds.shell import COMMAND, ROOT, Cluster, cluster, environment, invoke

HOSTILE = b"\x1b[2J\x1b]0;owned\x07red"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("streams") / "data", "--durability", "memory") as started:
        yield started


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_streams_closed_a_command_does_its_work(three: Cluster, closed: str) -> None:
    command = " ".join([*COMMAND, "set", "cron", "job", "-e", three.endpoint(1), closed])
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=environment(), timeout=PATIENCE_S
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr + done.stdout
    assert three.invoke("get", "cron").stdout == b"job\n"


def test_what_a_node_prints_does_not_go_into_its_store(tmp_path: Path) -> None:
    """Without a stdout or stderr, the store's first file would get the number of one of them."""
    port = free_ports(1)
    with cluster(tmp_path, nodes=1) as one:
        assert one.up.end(signal.SIGTERM) == 0
    command = " ".join([*COMMAND, "serve", "--config", str(tmp_path / "n1.toml"), "--metrics"])
    shell = ["sh", "-c", f"exec {command} 127.0.0.1:{port} <&- >&- 2>&-"]
    with subprocess.Popen(shell, env=environment()) as node:
        eventually(lambda: one.invoke("set", "k", "v").code == 0, "the node serves")
        opened = {number: os.readlink(f"/proc/{node.pid}/fd/{number}") for number in (0, 1, 2)}
        node.terminate()
        assert node.wait(PATIENCE_S) == 0
    assert set(opened.values()) == {"/dev/null"}


def on_a_terminal(*arguments: str) -> bytes:
    """What a terminal is sent."""
    screen, terminal = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments], stdin=terminal, stdout=terminal, stderr=terminal, env=environment()
    ) as process:
        os.close(terminal)
        seen = b""
        try:
            while more := os.read(screen, 4096):
                seen += more
        except OSError:  # EIO: all that had the terminal open have closed it
            pass
        process.wait(PATIENCE_S)
    os.close(screen)
    return seen


def test_a_terminal_is_not_sent_what_it_would_obey(three: Cluster) -> None:
    three.invoke("set", "hostile", "-", stdin=HOSTILE)
    where = ("-e", three.endpoint(1))
    shown = on_a_terminal("get", "hostile", *where)
    assert b"\x1b" not in shown
    assert rb"\x1b[2J\x1b]0;owned\x07red" in shown
    assert b"--raw prints them" in shown
    assert HOSTILE in on_a_terminal("get", "--raw", "hostile", *where)
    assert three.invoke("get", "hostile").stdout == HOSTILE + b"\n"  # a pipe gets what was stored


def test_a_terminal_is_shown_lines_of_text_as_they_are(three: Cluster) -> None:
    three.invoke("set", "lines", "-", stdin="één\n\ttwo \\".encode())
    assert "één\r\n\ttwo \\\r\n".encode() == on_a_terminal("get", "lines", "-e", three.endpoint(1))


def test_a_key_that_begins_with_a_dash_gets_a_hint(three: Cluster) -> None:
    done = three.invoke("get", "-key")
    assert done.code == 2
    assert "Put -- before a key" in done.stderr


def test_files_of_the_users_directory_are_not_taken_for_pythons(tmp_path: Path) -> None:
    (tmp_path / "select.py").write_text("raise SystemExit('select.py of the user was run')")
    (tmp_path / "repair.py").write_text("raise SystemExit('repair.py of the user was run')")
    command = ["-c", f"import sys; sys.path[:1] = [{str(ROOT)!r}]; from basestore.cli import main; main()"]
    port = str(free_ports(3))
    with subprocess.Popen(
        [COMMAND[0], *command, "up", "--dir", "data", "--port", port],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as up:  # fmt: skip
        assert up.stdout is not None
        lines = [line.strip() for line in iter(up.stdout.readline, "ready\n")]
        up.terminate()
        assert up.wait(PATIENCE_S) == 0
    assert [line.split()[0] for line in lines] == ["n1", "n2", "n3"]


def test_status_check_ends_with_3_unless_every_node_is_up(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=3) as started:
        assert started.invoke("status", "--check").code == 0
        os.kill(started.up.pids["n3"], signal.SIGKILL)
        eventually(lambda: started.invoke("status", "--check").code == 3, "n3 is seen to be down")
        assert started.invoke("status").code == 0
    assert invoke("status", "--check", "-e", started.endpoint(1)).code == 6
