"""Forks: the processes that tests start, out of a server that has imported what they need.

`start` is for commands of this very Python and tree. What changes the interpreter itself (another program, a
flag, a library that is loaded first, a hash seed) cannot be had of a fork and is started as anything is; so
is whatever `basestore` starts of itself, in `up` and `demo`, and all that benchmarks start: from these, and
from `COLD` commands, the tests know that a process that begins with nothing comes as far.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

from tests.worlds.fork_server import CODE_BYTES, ORDER_BYTES_MAX

ROOT = Path(__file__).resolve().parents[2]
OF_INTERPRETERS = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "TZ")  # names that begin so
PATHS = "PYTHONPATH"
ARGUMENTS_BYTES_MAX = ORDER_BYTES_MAX // 4

# What each kind of process imports in any case. The modules of single commands are not among them.
NODE = ("basestore.cli.running.serving", "basestore.config_file", "basestore.server.service", "rocksdict")
COMMAND = ("basestore.cli", "basestore.sync", "basestore.cli.stores")
BENCHMARK = (*COMMAND, "benchmarks.levels", "benchmarks.overload", "benchmarks.serial", "benchmarks.topology")


class Process(Protocol):
    """What is asked of a process, forked or not."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...


class Fork:
    """A process that a server has become; like one of `subprocess`."""

    def __init__(self, pid: int, told: int) -> None:
        self.pid = pid
        self._told: int | None = told
        self._code: int | None = None

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def _look(self, timeout: float | None) -> int | None:
        if self._told is not None:
            events = select.poll()
            events.register(self._told, select.POLLIN)
            if not events.poll(None if timeout is None else timeout * 1000):
                return None
            data = os.read(self._told, CODE_BYTES)
            assert data, f"the fork server of {self.pid} is gone"
            self._code = int.from_bytes(data, signed=True)
            os.close(self._told)
            self._told = None
        return self._code


class Forks:
    """A server that has imported these modules, from the first order on."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._lock = threading.Lock()
        self._control: socket.socket | None = None

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], *streams: int, session: bool
    ) -> Fork:
        """A process of this command, which is one of `-m`."""
        read, write = os.pipe()
        order = {
            "module": command[2], "arguments": command[3:], "environment": dict(environment),
            "directory": os.getcwd(), "session": session,
        }  # fmt: skip
        try:
            with self._lock:
                control = self._control = self._control or self._begin()
                socket.send_fds(control, [json.dumps(order).encode()], [*streams, write])
                pid = control.recv(32)
        finally:
            os.close(write)
        assert pid, "the fork server is gone"
        return Fork(int(pid), read)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            server = subprocess.Popen(
                [sys.executable, "-m", "tests.worlds.fork_server", str(theirs.fileno()), *self._modules],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()], cwd=ROOT,
                env={**os.environ, PATHS: str(ROOT)},
            )  # fmt: skip

        def end() -> None:
            ours.close()
            server.wait()

        atexit.register(end)
        return ours


def of_interpreters(environment: Mapping[str, str]) -> dict[str, str]:
    """What an interpreter looks at when it begins."""
    return {name: value for name, value in environment.items() if name.startswith(OF_INTERPRETERS)}


def forkable(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a fork is what a new process would be."""
    ours, theirs = of_interpreters(os.environ), of_interpreters(environment)
    paths = {str(ROOT), *ours.pop(PATHS, "").split(os.pathsep)}
    return (
        tuple(command[:2]) == (sys.executable, "-m")
        and paths.issuperset(theirs.pop(PATHS, str(ROOT)).split(os.pathsep))
        and ours == theirs
        and sum(map(len, command)) < ARGUMENTS_BYTES_MAX
    )


_forks: dict[Sequence[str], Forks] = {modules: Forks(modules) for modules in (NODE, COMMAND, BENCHMARK)}


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    *,
    imported: Sequence[str],
    session: bool = False,
) -> Process:
    """A process of this command, with these descriptors for its streams. `imported`: a kind from above."""
    if forkable(command, environment):
        return _forks[imported].start(command, environment, stdin, stdout, stderr, session=session)
    return subprocess.Popen(
        command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, start_new_session=session
    )


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    stdin: bytes,
    timeout_s: float,
    *,
    imported: Sequence[str] = COMMAND,
) -> tuple[int, bytes, bytes]:
    """Its exit code, stdout and stderr, once it has ended."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with os.fdopen(read, "rb", 0) as source, os.fdopen(write, "wb", 0) as sink:
        if not forkable(command, environment) or (stdin and sink.write(stdin) != len(stdin)):
            done = subprocess.run(
                command, input=stdin, capture_output=True, env=environment, timeout=timeout_s, check=False
            )
            return done.returncode, done.stdout, done.stderr
        with _unnamed_file() as stdout, _unnamed_file() as stderr:
            process = start(
                command, environment, source.fileno(), stdout.fileno(), stderr.fileno(), imported=imported
            )
            sink.close()
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                raise
            stdout.seek(0)
            stderr.seek(0)
            return code, stdout.read(), stderr.read()


def _unnamed_file() -> BinaryIO:
    return os.fdopen(os.memfd_create("stream"), "w+b", 0)
