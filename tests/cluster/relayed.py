"""A cluster whose nodes, and whose clients, meet only through a relay."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

from basestore.config import parse_address
from tests.cluster.links import CLIENTS, LinkedCluster, Links
from tests.cluster.processes import SERVE
from tests.cluster.relay import Shape
from tests.worlds.patience import PATIENCE_S
from tests.worlds.ports import free_ports

ROOT = Path(__file__).parent.parent.parent
NODE = "tests.cluster.detour"


class Route(NamedTuple):
    """Who calls himself `source` and connects to `port` gets to `address`, which is `target`'s."""

    source: str
    target: str
    port: int
    address: str


class Relay(Links):
    """The relay's process. A command has been carried out when its method returns."""

    def __init__(self, routes: Sequence[Route]) -> None:
        super().__init__()
        told = [[r.source, r.target, r.port, *parse_address(r.address)] for r in routes]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.relay", json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the relay did not start"

    def end(self) -> None:
        """End the process; all its connections end with it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()

    def reset(self, source: str, target: str) -> None:
        """RST to both ends of every connection between the two."""
        self._command("reset", source, target)

    def half_close(self, source: str, target: str) -> None:
        """FIN to the target on every connection between the two."""
        self._command("half_close", source, target)

    def refuse(self, source: str, target: str, refusing: bool) -> None:
        """Whether new connections from source to target are refused."""
        self._command("refuse", source, target, refusing)

    def counts(self) -> dict[str, int]:
        """What was carried and done so far."""
        counts: dict[str, int] = self._command("counts")
        return counts

    def reshape(self, source: str, target: str, shape: Shape) -> None:
        told = shape if shape.bytes_per_s < math.inf else shape[:-1]  # JSON knows no infinity
        self._command("shape", source, target, *told)

    def _command(self, *words: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the relay has ended; it was told {words}"
        return json.loads(answer)


class RelayedCluster(LinkedCluster):
    """`program`: the module that runs a node; it takes what `detour.py` takes."""

    def __init__(self, root: Path, nodes: int = 3, program: str = NODE) -> None:
        super().__init__(root, nodes)
        address = {node.name: node.endpoint for node in self.nodes}
        pairs = [*permutations(address, 2), *((CLIENTS, name) for name in address)]
        routes = [Route(source, target, free_ports(1), address[target]) for source, target in pairs]
        path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
        for node in self.nodes:
            detours = {r.address: f"127.0.0.1:{r.port}" for r in routes if r.source == node.name}
            node.command = (sys.executable, "-m", program, json.dumps(detours), *SERVE)
            node.environment = {"PYTHONPATH": path.rstrip(os.pathsep)}
        self.doors = [f"127.0.0.1:{route.port}" for route in routes if route.source == CLIENTS]
        self.links = Relay(routes)
