"""What a fork server becomes is what a process begun with nothing is: in what it is told, says and leaves."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds import forks
from tests.worlds.patience import PATIENCE_S, eventually

PROGRAM = """
import json, os, signal, sys
if sys.argv[1] == "wait":
    print("waits", flush=True)
    signal.pause()
if sys.argv[1] == "raise":
    raise LookupError("as it was told")
print(json.dumps({
    "name": __name__, "words": sys.argv[1:], "said": sys.stdin.read(), "directory": os.getcwd(),
    "TOLD": os.environ.get("TOLD"), "session": os.getsid(0) == os.getpid(),
    "descriptors": sorted(map(int, os.listdir("/proc/self/fd")))[:-1], "terminal": sys.stdout.isatty(),
    "streams": [(s.encoding, s.errors, s.line_buffering, s.write_through) for s in (sys.stdout, sys.stderr)],
    "interrupts": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
    "pipes": signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN, "inside": sys.modules["__main__"].__name__,
}))
sys.exit(7)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A module of another directory, to which a process has to be told the way."""
    (tmp_path / "told.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    return [sys.executable, "-m", "told"]


def test_a_fork_finds_what_a_process_does(program: list[str]) -> None:
    command, environment = [*program, "two", "words"], {**os.environ, "TOLD": "so"}
    assert forks.forkable(command, environment)
    real = subprocess.run(command, input=b"\xc3\xa4\n", capture_output=True, env=environment, check=False)
    assert (real.returncode, real.stderr) == (7, b"")
    code, stdout, stderr = forks.run(command, environment, b"\xc3\xa4\n", PATIENCE_S)
    assert (code, stderr) == (7, b"")
    assert json.loads(stdout) == json.loads(real.stdout)
    assert json.loads(stdout)["said"] == "ä\n"


def test_what_it_raises_is_told_and_ends_it(program: list[str]) -> None:
    code, stdout, stderr = forks.run([*program, "raise"], os.environ, b"", PATIENCE_S)
    assert (code, stdout) == (1, b"")
    assert stderr.decode().splitlines()[-1] == "LookupError: as it was told"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_signal_ends_it_and_the_end_is_told(program: list[str], number: int, code: int) -> None:
    output, end = os.pipe()
    with open(os.devnull, "rb") as nothing:
        streams = (nothing.fileno(), end, end)
        process = forks.start([*program, "wait"], os.environ, *streams, imported=forks.COMMAND, session=True)
    os.close(end)
    with os.fdopen(output) as said:
        assert said.readline() == "waits\n"
        assert os.getsid(process.pid) == process.pid
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == code
        assert said.read() == ""
    process.send_signal(signal.SIGKILL)  # there is nobody any more
    assert process.poll() == code
    eventually(lambda: not Path(f"/proc/{process.pid}").exists(), "nothing is left of it")


def test_what_a_fork_cannot_have_is_started() -> None:
    own = [sys.executable, "-m", "basestore"]
    assert forks.forkable(own, os.environ)
    assert not forks.forkable([sys.executable, "-P", *own[1:]], os.environ)
    assert not forks.forkable(["prlimit", *own], os.environ)
    for name in ("PYTHONHASHSEED", "LD_PRELOAD", "LC_ALL"):
        assert not forks.forkable(own, {**os.environ, name: "C"})
    assert not forks.forkable(own, {**os.environ, "PYTHONPATH": "/elsewhere"})
    assert not forks.forkable([*own, "x" * forks.ARGUMENTS_BYTES_MAX], os.environ)


def test_more_than_a_pipe_holds_is_handed_to_a_process(program: list[str]) -> None:
    said = b"x" * (1 << 20)
    code, stdout, _ = forks.run([*program, "much"], os.environ, said, PATIENCE_S)
    assert code == 7
    assert json.loads(stdout)["said"] == said.decode()
