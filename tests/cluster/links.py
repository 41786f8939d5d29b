"""Links: the ways between nodes, and between clients and nodes, as something that can be broken.

A way goes from one name to another; names are those of the nodes, and CLIENTS for all clients. What
carries the bytes is a relay (`relayed.py`) or the kernel (`namespaces.py`).
"""

from abc import ABC, abstractmethod
from types import TracebackType

from tests.cluster.processes import Cluster
from tests.cluster.relay import DROP, GARBLE, HOLD, PASS, Shape

CLIENTS = "clients"
WORST = (PASS, GARBLE, HOLD, DROP)
CLEAR = Shape()


class Links(ABC):
    """Shapes are imposed on ways and lifted again; of several, the worst of each trait counts."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, str], list[Shape]] = {}

    def impose(self, source: str, target: str, shape: Shape) -> None:
        """Bytes from source to target meet this too, until it is lifted."""
        self._shapes.setdefault((source, target), []).append(shape)
        self._combine(source, target)

    def lift(self, source: str, target: str, shape: Shape) -> None:
        """Take back one `impose`."""
        self._shapes[source, target].remove(shape)
        self._combine(source, target)

    def _combine(self, source: str, target: str) -> None:
        shapes = [CLEAR, *self._shapes[source, target]]
        worst = Shape(
            max((shape.mode for shape in shapes), key=WORST.index),
            max(shape.delay_s for shape in shapes),
            max(shape.jitter_s for shape in shapes),
            min(shape.bytes_per_s for shape in shapes),
        )
        self.reshape(source, target, worst)

    @abstractmethod
    def reshape(self, source: str, target: str, shape: Shape) -> None:
        """Bytes from source to target meet this and nothing else from now on."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """What was carried and done so far, as far as it is known."""

    @abstractmethod
    def end(self) -> None:
        """Leave nothing behind."""


class LinkedCluster(Cluster):
    """A cluster with such links; leaving its block ends them too. `doors`: where clients find each
    node, in order."""

    links: Links
    doors: list[str]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.links.end()
