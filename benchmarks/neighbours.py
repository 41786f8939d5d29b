"""Neighbours: Redis and Dynomite on this machine, for the length of a block, set up to promise what we do.

Redis is a primary and two replicas: a write is SET + WAIT 1, which is answered when the primary and one
replica hold it; with `appendfsync always` both have synced their logs by then, for a server answers nobody
before it has synced what it was told in the same turn. Dynomite is three nodes in one datacenter, each a
rack of its own with a Redis behind, so that each holds every key; with DC_QUORUM two of three must agree on
what is written and what is read.

Owns a new directory with their configurations, data and logs, and the processes themselves. Both are gone
when the block ends: the processes are killed, each by its pid; should this program die without doing so,
the kernel kills them (where `setpriv` can be had). All listen on loopback, on ports that were free.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from basestore.server.local_cluster import HOST, free_ports
from benchmarks.cluster import LOG_TAIL_CHARACTERS, NODES, POLL_S
from benchmarks.resp import CannotMeasure, ask

READY_S_MAX = 60.0
VERSION_S_MAX = 10.0
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")
LOGS = {True: ("yes", "always"), False: ("no", "no")}
PROBE = b"probe"


@dataclass(slots=True)
class Neighbour:
    """Servers that run. `ports`: those at which clients ask."""

    directory: Path
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    ports: list[int] = field(default_factory=list)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes.values()]

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a process in a directory of its own."""
        home = self.directory / name
        home.mkdir()
        tie = DIE_WITH_US if shutil.which(DIE_WITH_US[0]) else ()
        with (self.directory / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [*tie, *command], cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def check(self) -> None:
        """CannotMeasure if a process has ended by itself."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                log = (self.directory / f"{name}.log").read_text(errors="replace")
                raise CannotMeasure(
                    f"{name} has ended with {process.returncode}:\n{log[-LOG_TAIL_CHARACTERS:]}"
                )

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Until it is so; CannotMeasure."""
        deadline = time.monotonic() + READY_S_MAX
        while not _holds(ready):
            self.check()
            if time.monotonic() > deadline:
                raise CannotMeasure(f"{what} within {READY_S_MAX:g} s; see the logs of a run by hand")
            time.sleep(POLL_S)

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def _holds(ready: Callable[[], bool]) -> bool:
    try:
        return ready()
    except (OSError, ValueError):
        return False


def version_of(program: str) -> str:
    """What a program says that it is; CannotMeasure."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=VERSION_S_MAX)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotMeasure(f"{program} --version says nothing: {error}; name another program") from error
    return version_in(done.stdout + done.stderr)


def version_in(text: str) -> str:
    """7.0.15 of "Redis server v=7.0.15 sha=...", v0.6.21 of "This is dynomite-v0.6.21"."""
    for word in text.split():
        for mark in ("v=", "dynomite-"):
            if word.startswith(mark):
                return word.removeprefix(mark)
    return "of unknown version"


# --- Redis ---------------------------------------------------------------------------------------


@contextmanager
def start_redis(parent: Path | None, redis: str, durable: bool) -> Iterator[Neighbour]:
    """A primary with two replicas that follow it; CannotMeasure."""
    with neighbour(parent) as redises:
        ports = free_ports(NODES)
        for place, port in enumerate(ports):
            of = ["--replicaof", f"{HOST} {ports[0]}"] if place else []
            redises.start(f"redis-{place + 1}", [*redis_command(redis, port, durable), *of])
        redises.ports = ports[:1]
        redises.wait_until(lambda: _reach_all(redises.ports, ports), "two replicas of Redis did not follow")
        yield redises


def redis_command(redis: str, port: int, durable: bool) -> list[str]:
    """A Redis that syncs its log before it answers, or keeps none. Logs are not written anew meanwhile:
    that would be done by processes whose time is not counted."""
    log, when = LOGS[durable]
    return [
        redis, "--port", str(port), "--bind", HOST, "--dir", ".", "--save", "", "--loglevel", "warning",
        "--appendonly", log, "--appendfsync", when, "--auto-aof-rewrite-percentage", "0",
        "--repl-diskless-sync-delay", "0",
    ]  # fmt: skip


# --- Dynomite ------------------------------------------------------------------------------------


@contextmanager
def start_dynomite(parent: Path | None, dynomite: str, redis: str, durable: bool) -> Iterator[Neighbour]:
    """Three nodes, each with its Redis, that reach each other; CannotMeasure."""
    with neighbour(parent) as nodes:
        ports = free_ports(4 * NODES)
        stores, clients, peers, statistics = (ports[at::4] for at in range(4))
        for place in range(NODES):
            nodes.start(f"redis-{place + 1}", redis_command(redis, stores[place], durable))
        nodes.wait_until(
            lambda: all(ask(port, b"PING") == b"+PONG" for port in stores), "Redis did not start"
        )
        for place in range(NODES):
            config = nodes.directory / f"dynomite-{place + 1}.yml"
            config.write_text(dynomite_config(place, stores[place], clients[place], peers, statistics[place]))
            nodes.start(f"dynomite-{place + 1}", [dynomite, "-c", str(config), "-v", "3"])
        nodes.ports = clients
        nodes.wait_until(lambda: _reach_all(clients, stores), "the nodes of Dynomite did not find each other")
        yield nodes


def dynomite_config(place: int, store: int, client: int, peers: Sequence[int], statistics: int) -> str:
    """A node whose rack owns the whole ring."""
    seeds = "".join(f"  - {HOST}:{port}:rack{at + 1}:dc1:0\n" for at, port in enumerate(peers) if at != place)
    return f"""dyn_o_mite:
  datacenter: dc1
  rack: rack{place + 1}
  tokens: '0'
  listen: {HOST}:{client}
  dyn_listen: {HOST}:{peers[place]}
  stats_listen: {HOST}:{statistics}
  dyn_seed_provider: simple_provider
  dyn_seeds:
{seeds}  servers:
  - {HOST}:{store}:1
  data_store: 0
  preconnect: true
  secure_server_option: none
  read_consistency: DC_QUORUM
  write_consistency: DC_QUORUM
"""


def _reach_all(clients: Sequence[int], stores: Sequence[int]) -> bool:
    """Whether what any of those who take writes is told comes to every store."""
    for port in clients:
        word = b"%d %d" % (port, time.monotonic_ns())
        if ask(port, b"SET", PROBE, word) != b"+OK":
            return False
        time.sleep(POLL_S)  # the last store is told, but not waited for
        if not all(ask(store, b"GET", PROBE) == word for store in stores):
            return False
    return True


@contextmanager
def neighbour(parent: Path | None) -> Iterator[Neighbour]:
    with ExitStack() as stack:
        neighbour = Neighbour(Path(tempfile.mkdtemp(prefix="basestore-neighbour-", dir=parent)))
        stack.callback(neighbour.end)
        yield neighbour
