"""`basestore demo`: it shows what it promises, and leaves nothing behind."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.worlds.shell import COMMAND, Running, alive, running


def _assert_nothing_is_left(demo: Running, directory: Path) -> None:
    assert list(directory.iterdir()) == []
    pids = [int(match[1]) for line in demo.stdout if (match := re.search(r"pid (\d+)", line))]
    assert len(pids) >= 2
    assert not any(map(alive, pids))


def test_the_demo_shows_every_promise_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with running("demo", env={"TMPDIR": str(tmp_path)}) as demo:
        assert demo.end() == 0, demo.stderr
    assert demo.stderr == []
    told = "\n".join(demo.stdout)
    imported = re.search(r"([\d,]+) characters of Unicode", told)
    assert imported
    assert int(imported[1].replace(",", "")) > 30_000
    for words in (
        "SIGKILL", "set at any", "set at one", "set at quorum", "set at all", "get at all",
        "3 required, 2 alive: refused", "hints for n3", "hints were delivered",
        "'Ada Byron' through n2: lost", "n4 is added, under number 3", "n4 holds 48 of 64 partitions",
        "n2 is said to be dead", "n1, n3, n4 hold three replicas of everything", "proven: all that was",
        "acknowledged records are there",
    ):  # fmt: skip
        assert words in told
    assert re.search(r"n3 (hinted|pending)", told)  # the receipt may leave before the hint is durable
    header = demo.stdout.index(next(line for line in demo.stdout if line.startswith("ACT ")))
    assert len(demo.stdout[header:]) > 10
    written = [
        int(each.replace(",", ""))
        for each in re.findall(r"later; ([\d,]+) writes meanwhile, all stored$", told, re.M)
    ]
    assert len(written) == 2
    assert min(written) > 0
    _assert_nothing_is_left(demo, tmp_path)


def test_a_demo_whose_reader_has_seen_enough_leaves_nothing_behind(tmp_path: Path) -> None:
    command = ("bash", "-c", 'set -o pipefail; "$@" | head -n 5', "-", *COMMAND)
    with running("demo", env={"TMPDIR": str(tmp_path)}, command=command) as demo:
        assert demo.end() == 0
    assert demo.stderr == []
    _assert_nothing_is_left(demo, tmp_path)


@pytest.mark.parametrize("act", ["2. ", "11. "])
def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path, act: str) -> None:
    with running("demo", env={"TMPDIR": str(tmp_path)}) as demo:
        demo.wait_for(re.escape(act), demo.stdout)
        os.killpg(demo.process.pid, signal.SIGINT)
        assert demo.end() == 130
    assert not any("Traceback" in line for line in demo.stderr)
    _assert_nothing_is_left(demo, tmp_path)
