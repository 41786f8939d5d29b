"""A shell: invokes the real command line in processes of its own, and watches those that go on."""

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.worlds import forks
from tests.worlds.patience import PATIENCE_S
from tests.worlds.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "basestore")
COLD = (sys.executable, "-P", *COMMAND[1:])  # never a fork: it begins with nothing imported


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, with the tested package and without a default cluster."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BASESTORE")}
    return {**kept, "PYTHONPATH": str(ROOT), **(extra or {})}


def invoke(
    *arguments: str,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = COMMAND,
) -> Finished:
    """Run one command to its end."""
    code, stdout, stderr = forks.run([*command, *arguments], environment(env), stdin, PATIENCE_S)
    return Finished(code, stdout, stderr.decode())


def alive(pid: int) -> bool:
    """Whether the process exists and is not just waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class Running:
    """A command that goes on. Its lines can be waited for."""

    def __init__(
        self, *arguments: str, env: Mapping[str, str] | None = None, command: Sequence[str] = COMMAND
    ) -> None:
        outputs, ends = zip(os.pipe(), os.pipe(), strict=True)
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            self.process = forks.start(
                [*command, *arguments], environment(env), nothing, *ends, imported=forks.COMMAND, session=True
            )
        finally:
            for descriptor in (nothing, *ends):
                os.close(descriptor)
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._changed = threading.Condition()
        self._reading = 2
        self._readers = [
            threading.Thread(target=self._read, args=(os.fdopen(output), lines))
            for output, lines in zip(outputs, (self.stdout, self.stderr), strict=True)
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._reading -= 1
            self._changed.notify_all()

    def wait_for(self, pattern: str, lines: list[str]) -> re.Match[str]:
        """The first line that matches, of `self.stdout` or `self.stderr`. Once the command has ended, none
        that is not there will come."""

        def found() -> re.Match[str] | None:
            return next((match for line in lines if (match := re.search(pattern, line))), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or not self._reading, PATIENCE_S)
            match = found()
        assert match, f"no {pattern!r} in {self.stdout} {self.stderr}"
        return match

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, if one is given, and wait for the end. Returns the exit code."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code

    @property
    def pids(self) -> dict[str, int]:
        """Of the nodes that `up` or `demo` started, by name."""
        matches = [re.match(r"\s*(n\d+)  \S+  pid (\d+)", line) for line in self.stdout]
        return {match[1]: int(match[2]) for match in matches if match}


@contextmanager
def running(
    *arguments: str, env: Mapping[str, str] | None = None, command: Sequence[str] = COMMAND
) -> Iterator[Running]:
    """A command that is ended with the block, if it has not ended by then."""
    started = Running(*arguments, env=env, command=command)
    try:
        yield started
    finally:
        started.end(None if started.process.poll() is not None else signal.SIGTERM)


@dataclass(frozen=True)
class Cluster:
    """A cluster that `up` runs."""

    up: Running
    directory: Path
    port: int

    def endpoint(self, number: int) -> str:
        return f"127.0.0.1:{self.port + number - 1}"

    def invoke(self, *arguments: str, stdin: bytes = b"", node: int = 1) -> Finished:
        """A command that talks to one of the nodes."""
        return invoke(*arguments, stdin=stdin, env={"BASESTORE_ENDPOINTS": self.endpoint(node)})

    def states(self) -> dict[str, dict[str, Any]]:
        """What the nodes say of themselves, by name; none if no node answers."""
        for number in range(1, 4):
            result = self.invoke("status", "-o", "json", node=number)
            if result.code == 0:
                return {state["node"]: state for state in result.json}
        return {}


@contextmanager
def cluster(directory: Path, *options: str, nodes: int = 3) -> Iterator[Cluster]:
    """A new cluster, ready."""
    port = free_ports(nodes)
    with running(
        "up", "--dir", str(directory), "--nodes", str(nodes), "--port", str(port), *options
    ) as up:  # fmt: skip
        up.wait_for("^ready$", up.stdout)
        yield Cluster(up, directory, port)
