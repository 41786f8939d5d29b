"""A cluster whose nodes live in network namespaces of their own, joined by a bridge.

Here the kernel loses packets: streams have no holes, TCP sends again and gives up after a while, and
who dies behind a cut is not heard. A way is cut by pointing the sender's neighbour entry to a
hardware address that nobody has, so one way can be cut and the other not.

Whoever makes such a cluster must be in a network namespace of his own (`unshare --net`) and may
configure it; his end of the bridge is the clients' place. All of it goes when its processes end.
"""

import subprocess
from collections import Counter
from pathlib import Path

from tests.cluster.links import CLIENTS, LinkedCluster, Links
from tests.cluster.nemesis import KINDS, RELAY_ONLY
from tests.cluster.relay import PASS, Shape
from tests.worlds.patience import eventually

NOBODY = "02:00:00:00:00:ff"
FAULTS = [kind for kind in KINDS if kind[0] not in RELAY_ONLY]


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


class Place:
    """One namespace at the bridge: number 0 is where the clients and the bridge are."""

    def __init__(self, number: int) -> None:
        self.host = f"10.77.0.{number + 1}"
        self.hardware = f"02:00:00:00:00:{number:02x}"
        self.device = "eth0" if number else "bridge"
        self._holder: subprocess.Popen[bytes] | None = None
        self.enter: list[str] = []
        if number:
            self._holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
            namespace = Path(f"/proc/{self._holder.pid}/ns/net")
            ours = Path("/proc/self/ns/net").readlink()
            eventually(lambda: namespace.readlink() != ours, "the holder is in a namespace of its own")
            self.enter = ["nsenter", f"--net={namespace}", "--"]
            port = f"port{number}"
            self._ip_here("link", "add", port, "type", "veth", "peer", "eth0", "netns", str(self._holder.pid))
            self._ip_here("link", "set", port, "master", "bridge", "up")
        else:
            self._ip_here("link", "add", "bridge", "type", "bridge")
        self.ip("link", "set", "lo", "up")
        self.ip("link", "set", self.device, "address", self.hardware, "up")
        self.ip("address", "add", f"{self.host}/24", "dev", self.device)

    @staticmethod
    def _ip_here(*words: str) -> None:
        run("ip", *words)

    def ip(self, *words: str) -> None:
        """The ip command, in there."""
        run(*self.enter, "ip", *words)

    def find(self, other: "Place", hardware: str) -> None:
        """Where packets for the other one are sent to."""
        self.ip(
            "neighbour", "replace", other.host, "lladdr", hardware, "dev", self.device, "nud", "permanent"
        )  # fmt: skip

    def end(self) -> None:
        if self._holder is not None:
            self._holder.communicate()  # the end of its stdin ends it


class Wires(Links):
    """Ways between places, by name. All that is not passed is lost."""

    def __init__(self, places: dict[str, Place]) -> None:
        super().__init__()
        self._places = places
        self._counts: Counter[str] = Counter()
        for one in places:
            for other in places:
                if one != other:
                    self.reshape(one, other, Shape())

    def reshape(self, source: str, target: str, shape: Shape) -> None:
        there = self._places[target]
        self._places[source].find(there, there.hardware if shape.mode == PASS else NOBODY)
        self._counts["ways cut"] += shape.mode != PASS

    def counts(self) -> dict[str, int]:
        return dict(self._counts)

    def end(self) -> None:
        for place in self._places.values():
            place.end()


class NamespacedCluster(LinkedCluster):
    """One on such wires."""

    def __init__(self, root: Path, nodes: int = 3) -> None:
        places = {CLIENTS if number == 0 else f"n{number}": Place(number) for number in range(nodes + 1)}
        super().__init__(root, nodes, hosts=[places[f"n{i}"].host for i in range(1, nodes + 1)])
        for node in self.nodes:
            node.command = (*places[node.name].enter, *node.command)
        self.doors = [node.endpoint for node in self.nodes]
        self.links = Wires(places)
