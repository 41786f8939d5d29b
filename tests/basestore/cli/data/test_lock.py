"""`lock`, `elect`, `locks` and `--fence`: what runs under a lock, what is ended with it, and how they end.

Covers `cli/data/lock.py`, and the fences of `cli/data/requests.py`.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.worlds.fake_transactions import SERVING, TransactionRegisters
from tests.worlds.fakes import FakeNode, fake
from tests.worlds.patience import eventually
from tests.worlds.shell import Finished, Running, invoke, running
from tests.worlds.told_topologies import ask

BUSY = 'trap "echo ended; exit 7" TERM INT; echo begun; while :; do sleep 0.01; done'
SHORT = ("--seconds", "500ms")


@pytest.fixture
def registers() -> TransactionRegisters:
    return TransactionRegisters()


@pytest.fixture
def node(registers: TransactionRegisters) -> Iterator[FakeNode]:
    with fake(SERVING, answer=registers) as server:
        yield server


def lock(node: FakeNode, *words: str) -> Finished:
    return invoke("-e", node.endpoint, "lock", "jobs", *words)


def started(node: FakeNode, *words: str) -> AbstractContextManager[Running]:
    return running("-e", node.endpoint, *words)


def is_free(registers: TransactionRegisters) -> bool:
    held = registers.lock()
    return held is not None and not held.holder


class TestLock:
    def test_a_command_runs_while_it_is_held_and_its_code_is_told(
        self, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        script = 'echo "$BASESTORE_LOCK $BASESTORE_FENCE"; exit 7'
        for token in (1, 2):
            done = lock(node, "--", "sh", "-c", script)
            assert (done.code, done.text, done.stderr) == (7, f"jobs jobs:{token}\n", "")
        assert is_free(registers)

    def test_what_a_signal_has_ended_is_told_as_a_shell_does(
        self, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        assert lock(node, "--", "sh", "-c", "kill -9 $$").code == 128 + signal.SIGKILL
        assert is_free(registers)

    def test_a_command_that_there_is_not_gives_it_back(
        self, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        done = lock(node, "--", "/no/such/command")
        assert done.code == 127
        assert "/no/such/command cannot be run" in done.stderr
        assert "The lock was given back" in done.stderr
        assert is_free(registers)

    @pytest.mark.parametrize("words", [("--no-wait",), ("--wait", "200ms")])
    def test_nothing_is_run_while_another_has_it(
        self, node: FakeNode, registers: TransactionRegisters, tmp_path: Path, words: tuple[str, ...]
    ) -> None:
        registers.take("n7")
        done = lock(node, *words, "--", "touch", str(tmp_path / "ran"))
        assert done.code == 5
        assert "is held, by n7" in done.stderr
        assert not (tmp_path / "ran").exists()

    def test_one_says_how_long_to_wait_or_not_to(self, node: FakeNode) -> None:
        done = lock(node, "--no-wait", "--wait", "1s", "--", "true")
        assert done.code == 2
        assert "Give one: --wait or --no-wait" in done.stderr

    def test_who_waits_has_it_once_it_is_free(self, node: FakeNode, registers: TransactionRegisters) -> None:
        registers.take("n7", seconds=0.5)
        done = lock(node, "--owner", "me", "--", "sh", "-c", "echo $BASESTORE_FENCE")
        assert (done.code, done.text) == (0, "jobs:2\n")

    def test_the_command_is_ended_where_it_is_lost(
        self, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        with started(node, "lock", "jobs", *SHORT, "--", "sh", "-c", BUSY) as holder:
            holder.wait_for("begun", holder.stdout)
            registers.take("n7")
            holder.wait_for("ended", holder.stdout)
            assert holder.end() == 4
            assert "held by n7 now" in holder.stderr[0]
        held = registers.lock()
        assert held is not None
        assert held.owner == "n7"

    def test_where_it_was_lost_and_the_command_has_ended_before_that_was_heard_it_is_told(
        self, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        with started(node, "lock", "jobs", "--", "sh", "-c", BUSY) as holder:
            holder.wait_for("begun", holder.stdout)
            registers.take("n7")
            assert holder.end(signal.SIGTERM) == 4
            assert "held by n7 now" in holder.stderr[0]

    def test_sigterm_is_for_the_command(self, node: FakeNode, registers: TransactionRegisters) -> None:
        with started(node, "lock", "jobs", "--", "sh", "-c", BUSY) as holder:
            holder.wait_for("begun", holder.stdout)
            assert holder.end(signal.SIGTERM) == 7
            assert holder.stdout == ["begun", "ended"]
        assert is_free(registers)

    def test_ctrl_c_ends_the_command_which_may_take_its_time(
        self, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        with started(node, "lock", "jobs", "--", "sh", "-c", BUSY) as holder:
            holder.wait_for("begun", holder.stdout)
            os.killpg(holder.process.pid, signal.SIGINT)  # as a terminal does: both have it
            assert holder.end() == 7
            assert holder.stdout == ["begun", "ended"]
        assert is_free(registers)


class TestElect:
    def test_one_is_elected_until_sigterm(self, node: FakeNode, registers: TransactionRegisters) -> None:
        with started(node, "elect", "jobs", "--owner", "first") as first:
            first.wait_for("^elected  fence jobs:1$", first.stdout)
            with started(node, "elect", "jobs", "-o", "json") as second:
                assert ask(node, "elect", "jobs", "--no-wait").return_value == 5
                assert first.end(signal.SIGTERM) == 0
                told = json.loads(second.wait_for("elected", second.stdout).string)
                assert told == {"elected": True, "token": 2, "fence": "jobs:2"}
                assert second.end(signal.SIGINT) == 130
        assert is_free(registers)

    def test_who_waits_to_be_elected_ends_at_sigterm_too(
        self, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        registers.take("n7")
        with started(node, "elect", "jobs") as waiting:
            eventually(lambda: len(registers.asked) > 1, "it waits")
            assert waiting.end(signal.SIGTERM) == 0
            assert waiting.stdout == []

    def test_it_ends_where_the_election_is_lost(
        self, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        with started(node, "elect", "jobs", *SHORT, "-o", "json") as elected:
            elected.wait_for("elected", elected.stdout)
            registers.take("n7")
            assert elected.end() == 4
            told = json.loads(elected.stderr[0])
            assert (told["error"], told["definite"]) == ("LeaseLost", False)

    def test_who_is_elected_is_shown(self, node: FakeNode, registers: TransactionRegisters) -> None:
        nobody = ask(node, "elect", "jobs", "--show")
        assert (nobody.return_value, nobody.stdout) == (1, "")
        assert nobody.stderr == "Nobody is elected as jobs.\n"
        registers.take("n7", seconds=30)
        shown = ask(node, "elect", "jobs", "--show")
        assert shown.return_value == 0
        assert shown.stdout == "jobs  held by n7 since 1970-01-01T00:00:00.000Z  token 1\n"
        told = json.loads(ask(node, "elect", "jobs", "--show", "-o", "json").stdout)
        assert (told["owner"], told["token"], told["seconds"]) == ("n7", 1, 30.0)


class TestLocks:
    def test_those_that_are_held_are_listed(self, node: FakeNode, registers: TransactionRegisters) -> None:
        none = ask(node, "locks")
        assert (none.return_value, none.stdout, none.stderr) == (0, "", "No lock is held.\n")
        registers.take("n7", name=b"jobs/2")
        registers.take("", name=b"jobs/1")
        shown = ask(node, "locks").stdout.splitlines()
        assert [line.partition(" since ")[0] for line in shown] == [
            "jobs/1  held by (unnamed)",
            "jobs/2  held by n7",
        ]
        told = [json.loads(line) for line in ask(node, "locks", "-o", "json").stdout.splitlines()]
        assert [(each["lock"], each["owner"]) for each in told] == [("jobs/1", ""), ("jobs/2", "n7")]


class TestFence:
    def test_a_write_is_done_while_the_lock_is_held_under_its_token(
        self, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        registers.take()
        done = ask(node, "set", "k", "v", "--bucket", "cas", "--fence", "jobs:1")
        assert (done.return_value, done.stdout.partition("  ")[0]) == (0, "stored")
        registers.take()
        for words in (("set", "k", "w"), ("delete", "k")):
            refused = ask(node, *words, "--bucket", "cas", "--fence", "jobs:1")
            assert (refused.return_value, refused.stdout) == (5, "")
            assert "fenced off" in refused.stderr
        assert registers.held["cas", b"k"].value == b"v"
        gone = ask(node, "delete", "k", "--bucket", "cas", "--fence", "jobs:2")
        assert (gone.return_value, gone.stdout.partition("  ")[0]) == (0, "deleted")
        assert registers.held["cas", b"k"].value is None

    def test_where_its_condition_fails_nothing_is_done(
        self, node: FakeNode, registers: TransactionRegisters
    ) -> None:
        registers.take()
        registers.put("cas", b"k", b"v")
        words = "set", "k", "w", "--bucket", "cas", "--fence", "jobs:1", "--if-absent"
        assert ask(node, *words).return_value == 5
        assert registers.held["cas", b"k"].value == b"v"

    def test_what_is_no_fence_is_named(self, node: FakeNode, registers: TransactionRegisters) -> None:
        refused = ask(node, "set", "k", "v", "--bucket", "cas", "--fence", "jobs")
        assert refused.return_value == 2
        assert "a fence is LOCK:TOKEN" in refused.stderr
        assert not registers.asked
