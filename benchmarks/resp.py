"""Resp: the load in C for servers that speak RESP, Redis' protocol, and a word or two with one of them.

The generator, `resp_load.c`, is compiled when it is needed, into a directory that is gone afterwards. It
does what the load process does for our nodes: a closed loop over so many connections, values of 100
bytes, the servers' clocks read at the marks of the window. It is in C for a client in Python would
take the processors away from servers that need so little of them.
"""

import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SOURCE = Path(__file__).with_name("resp_load.c")
COMPILE_S_MAX = 60.0
EXTRA_S_MAX = 60.0  # beyond its window; it gives up by itself when nobody answers for 10 s
FILL_S_MAX = 600.0
ANSWER_S_MAX = 5.0


class CannotMeasure(Exception):
    """There is no compiler, or a server does not do what it should. The text says what to do."""


@dataclass(frozen=True, slots=True)
class RespRun:
    """What the generator is to do. `fill` writes each key once and knows no window.

    ports    of servers on loopback; each connection leads to one in turn
    pids     whose processor time is charged
    wait_ms  how long each write waits for one replica (WAIT 1); None: not at all
    """

    operation: Literal["set", "get", "fill"]
    ports: Sequence[int]
    pids: Sequence[int]
    connections: int
    keys: int
    seed: int = 1
    warm_up_s: float = 0.0
    window_s: float = 1.0
    wait_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RespMeasured:
    """What it showed. Operations ended well within the window; percentiles are of those that did not
    end before it and began before its end, 0 if there were none. `first_error` is what the first of
    the errors said."""

    window_ns: int
    operations: int
    errors: int
    first_error: str
    p50_us: float
    p99_us: float
    server_cpu_ns: int
    client_cpu_ns: int


@contextmanager
def compiled() -> Iterator[Path]:
    """The generator, compiled, for the length of a block; CannotMeasure."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise CannotMeasure(
            "there is no C compiler here, and the load that drives Redis is in C; install one so that "
            "`cc` is found (apt-get install gcc libc6-dev)"
        )
    with tempfile.TemporaryDirectory(prefix="basestore-resp-load-") as directory:
        program = Path(directory) / "resp_load"
        command = [compiler, "-std=gnu11", "-O2", "-o", str(program), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_S_MAX)
        if done.returncode != 0:
            raise CannotMeasure(
                f"{SOURCE.name} was not compiled; are the headers of libc there "
                f"(apt-get install libc6-dev)?\n{done.stderr}"
            )
        yield program


def words_of(order: RespRun) -> list[str]:
    """The generator's words for it."""
    words = {
        "-o": order.operation,
        "-p": ",".join(map(str, order.ports)),
        "-c": order.connections,
        "-k": order.keys,
        "-s": order.seed,
        "-w": order.warm_up_s,
        "-t": order.window_s,
    }
    if order.pids:
        words["-P"] = ",".join(map(str, order.pids))
    if order.wait_ms is not None:
        words["-W"] = order.wait_ms
    return [str(word) for pair in words.items() for word in pair]


def run(program: Path, order: RespRun) -> RespMeasured:
    """Let the generator do it; CannotMeasure."""
    patience_s = FILL_S_MAX if order.operation == "fill" else order.warm_up_s + order.window_s + EXTRA_S_MAX
    try:
        done = subprocess.run(
            [str(program), *words_of(order)], capture_output=True, text=True, timeout=patience_s
        )
    except subprocess.TimeoutExpired as expired:
        raise CannotMeasure(
            f"the load has not ended within {patience_s:g} s; take fewer keys (--keys)"
        ) from expired
    if done.returncode != 0:
        raise CannotMeasure(done.stderr.strip() or f"the load has ended with {done.returncode}")
    return RespMeasured(**json.loads(done.stdout))


def ask(port: int, *words: bytes) -> bytes:
    """One command to a server on loopback: the line that answers it, or the string that follows it;
    OSError."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S_MAX) as connection:
        connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        with connection.makefile("rb") as answers:
            line = answers.readline().rstrip()
            return answers.read(int(line[1:])) if line[:1] == b"$" and line != b"$-1" else line
