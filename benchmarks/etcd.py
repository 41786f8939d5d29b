"""etcd: three members on this machine, for the length of a block, as they are set up by default: whatever is
acknowledged was synced by two of them. Data lies where our nodes' does, and what is asked in clear goes over
loopback, as with ours.

Also what its members say of themselves: who leads, and the counters of their metrics pages.
"""

import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from basestore.server.local_cluster import HOST, free_ports
from benchmarks.cluster import NODES
from benchmarks.neighbours import VERSION_S_MAX, Neighbour, neighbour
from benchmarks.resp import ANSWER_S_MAX, CannotMeasure

_LEADS = "etcd_server_is_leader"
Reached = Callable[[list[str]], list[str]]


@dataclass(frozen=True, slots=True)
class Etcd:
    """Members that run; clients ask at `servers.ports`."""

    servers: Neighbour

    @property
    def pids(self) -> list[int]:
        return self.servers.pids

    def leader(self) -> int:
        """Its place; CannotMeasure if there is none just now."""
        for place, port in enumerate(self.servers.ports):
            if figures(port).get(_LEADS):
                return place
        raise CannotMeasure("no member of etcd leads: the machine may be too busy; try again")


def etcd_version(program: str) -> str:
    """3.4.23; CannotMeasure."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=VERSION_S_MAX)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotMeasure(f"{program} --version says nothing: {error}; name another program") from error
    found = re.search(r"etcd Version: (\S+)", done.stdout)
    return found[1] if found else "of unknown version"


def figures(port: int) -> dict[str, float]:
    """The counters of a member's metrics page that have no labels, or the sums over these; OSError."""
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=ANSWER_S_MAX) as page:
        text = page.read().decode()
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


@contextmanager
def start_etcd(parent: Path | None, program: str, peers: Reached = list) -> Iterator[Etcd]:
    """Three members, one of whom leads; CannotMeasure. `peers`: for the addresses at which they listen for
    each other, those by which they are reached."""
    with neighbour(parent) as servers:
        ports = free_ports(2 * NODES)
        servers.ports, own = ports[:NODES], [f"{HOST}:{port}" for port in ports[NODES:]]
        for place, port in enumerate(servers.ports):
            servers.start(f"etcd-{place + 1}", etcd_command(program, place, port, own, peers(own)))
        etcd = Etcd(servers)
        servers.wait_until(
            lambda: sum(figures(p).get(_LEADS, 0) for p in servers.ports) == 1, "nobody led etcd"
        )
        yield etcd


def etcd_command(program: str, place: int, port: int, own: list[str], peers: list[str]) -> list[str]:
    """A member that listens for others at its place in `own`, and is dialled at that in `peers`."""
    names = ",".join(f"etcd-{at + 1}=http://{peer}" for at, peer in enumerate(peers))
    client = f"http://{HOST}:{port}"
    return [
        program, "--name", f"etcd-{place + 1}", "--data-dir", "data", "--log-level", "error",
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", f"http://{own[place]}", "--initial-advertise-peer-urls", f"http://{peers[place]}",
        "--initial-cluster", names, "--initial-cluster-state", "new",
    ]  # fmt: skip
