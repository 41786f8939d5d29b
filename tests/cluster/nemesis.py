"""Nemesis: a seeded plan of faults, and who carries it out on a relayed cluster.

Faults of processes (kill -9, SIGTERM, SIGSTOP) end with a restart or SIGCONT, faults of links with
their mending; several may be under way at once. `heal` ends them all. A node that ends without
having been told to is a violation.
"""

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import product
from typing import NamedTuple

from tests.cluster.links import CLIENTS, LinkedCluster
from tests.cluster.processes import NodeProcess
from tests.cluster.relay import DROP, GARBLE, HOLD, Shape
from tests.cluster.relayed import Relay
from tests.simulation.clockwork import Stream
from tests.simulation.history import Violation

LOOK_S = 0.25  # how often processes are looked at
GAP_S = (0.3, 1.9)  # between two faults
LASTS_S = (0.3, 3.0)
PAUSES_S = {"pause": (0.1, 1.2), "pause majority": (0.1, 1.2), "long pause": (2.4, 4.0)}  # silent: 2.0
Way = tuple[str, str]
Kind = tuple[str, float]  # its name, and how likely it comes next
KINDS: list[Kind] = [
    ("kill", 3.0), ("kill again", 1.0), ("kill majority", 1.0), ("kill all", 1.0), ("stop", 1.0),
    ("pause", 2.0), ("long pause", 1.0), ("pause majority", 1.0),
    ("cut", 2.0), ("cut one way", 2.0), ("isolate", 2.0), ("split", 1.0), ("hold", 2.0),
    ("hold one way", 2.0), ("delay", 1.5), ("slow", 1.0), ("half-close", 1.5), ("reset", 1.5),
    ("refuse", 1.0), ("flap", 1.5), ("garble", 1.0), ("garble clients", 0.5),
    ("cut from clients", 1.0), ("break with clients", 1.0), ("half-close to clients", 0.5),
    ("kill behind a cut", 1.5), ("wake into a cut", 1.0),
]  # fmt: skip
MAJORITIES = ("kill majority", "pause majority", "split")

RELAY_ONLY = (
    "delay", "slow", "garble", "garble clients", "half-close", "reset", "refuse", "break with clients",
    "half-close to clients",
)  # fmt: skip


class Fault(NamedTuple):
    """`nodes`: all of them in the order drawn; the first that run are struck. `size` from 0 to 1."""

    at_s: float
    kind: str
    nodes: tuple[int, ...]
    lasts_s: float
    size: float


Strike = Callable[[Fault, list[NodeProcess], list[NodeProcess]], bool]  # struck, all; whether it struck


class Plan:
    """Draws faults; every kind has its turn before one comes again."""

    def __init__(self, seed: int, nodes: int, kinds: Sequence[Kind] = KINDS) -> None:
        self._all_kinds = kinds
        self._stream = Stream(seed, "faults")
        self._nodes = nodes
        self._kinds: list[Kind] = []

    def draw(self, seconds: float) -> list[Fault]:
        """What happens in the next so many seconds."""
        faults = []
        at_s = self._stream.uniform(*GAP_S)
        while at_s < seconds:
            faults.append(self._fault(at_s))
            at_s += self._stream.uniform(*GAP_S)
        return faults

    def _fault(self, at_s: float) -> Fault:
        stream = self._stream
        self._kinds = self._kinds or list(self._all_kinds)
        kind = stream.weighted(self._kinds)
        self._kinds = [pair for pair in self._kinds if pair[0] != kind]
        left = list(range(self._nodes))
        order = tuple(left.pop(stream.below(len(left))) for _ in range(self._nodes))
        lasts_s = stream.uniform(*PAUSES_S.get(kind, LASTS_S))
        return Fault(at_s, kind, order, lasts_s, stream.random())


class Nemesis:
    """Carries a plan out, in the thread that calls `run`."""

    def __init__(self, cluster: LinkedCluster, counts: Counter[str]) -> None:
        self.violations: list[Violation] = []
        self._cluster = cluster
        self._links = cluster.links
        self._counts = counts
        self._down: set[str] = set()
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._planned = 0
        self._waiting = threading.Event()

    def run(self, faults: Iterable[Fault], seconds: float) -> None:
        """Strike when it is time, for so long; then heal."""
        begun = time.monotonic()
        for fault in faults:
            self._at(begun + fault.at_s, partial(self._strike, fault))
        while (left_s := begun + seconds - time.monotonic()) > 0:
            due_s = self._agenda[0][0] - time.monotonic() if self._agenda else left_s
            if due_s <= 0:
                heappop(self._agenda)[2]()
            else:
                self._waiting.wait(min(due_s, left_s, LOOK_S))
            self.watch()
        self.heal()

    def heal(self) -> None:
        """Carry out at once all that was put off: what is still broken is mended then."""
        while self._agenda:
            _, _, action = heappop(self._agenda)
            action()
        self.watch()

    def watch(self) -> None:
        """Find nodes that have ended by themselves, and start them again."""
        for node in self._cluster:
            if not node.running and node.name not in self._down:
                text = f"{node.name} ended by itself with code {node.wait()}"
                self.violations.append(Violation("processes", text))
                node.start()

    def _at(self, moment: float, action: Callable[[], object]) -> None:
        self._planned += 1
        heappush(self._agenda, (moment, self._planned, action))

    def _after(self, seconds: float, action: Callable[[], object]) -> None:
        self._at(time.monotonic() + seconds, action)

    # --- what a fault does -------------------------------------------------------------------

    def _strike(self, fault: Fault) -> None:
        cluster, kind = self._cluster, fault.kind
        nodes = sorted((cluster.nodes[index] for index in fault.nodes), key=lambda node: not node.running)
        struck = nodes[: len(nodes) // 2 + 1] if kind in MAJORITIES else nodes[:1]
        struck = nodes if kind == "kill all" else struck
        # The first word of a kind names the method.
        strike: Strike = getattr(self, "_" + kind.split()[0].replace("-", "_"))
        done = strike(fault, struck, nodes)
        self._counts[f"fault: {kind}" if done else "no fault: all nodes were down"] += 1

    def _kill(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        if fault.kind == "kill behind a cut":
            self._sever(nodes[1], nodes, fault.lasts_s + 1.0)
        fell = [self._fell(node) for node in struck]
        if not any(fell):
            return False
        together = fault.size < 0.5  # or one after the other
        for number, node in enumerate(struck):
            self._after(fault.lasts_s * (1.0 if together else 1.0 + 0.4 * number), self._starter(node))
        if fault.kind == "kill again":  # while it starts, or recovers
            moment = fault.lasts_s + 0.2 + fault.size
            self._after(moment, partial(self._fell, struck[0]))
            self._after(moment + 0.3, self._starter(struck[0]))
        return True

    def _fell(self, node: NodeProcess) -> bool:
        """kill -9; False when it did not run."""
        if not node.running:
            return False
        self._down.add(node.name)
        node.kill()
        return True

    def _starter(self, node: NodeProcess) -> Callable[[], None]:
        def start() -> None:
            if not node.running:
                node.start()
                self._down.discard(node.name)

        return start

    def _stop(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        (node,) = struck
        if not node.running:
            return False
        self._down.add(node.name)
        node.resume()  # it may be paused: it has to hear this
        node.signal(signal.SIGTERM)
        code = node.wait()
        if code not in (0, -signal.SIGTERM):  # the latter if it did not even listen yet
            self.violations.append(Violation("processes", f"{node.name}, told to stop, ended with {code}"))
        self._after(fault.lasts_s, self._starter(node))
        return True

    def _long(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        return self._pause(fault, struck, nodes)

    def _wake(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        """It sleeps, is cut off meanwhile, and wakes up alone."""
        self._after(fault.lasts_s / 2, partial(self._sever, struck[0], nodes, fault.lasts_s + 0.5))
        return self._pause(fault, struck, nodes)

    def _pause(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        running = [node for node in struck if node.running]
        for node in running:
            node.pause()
            self._after(fault.lasts_s, node.resume)
        return bool(running)

    def _cut(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        a, b = nodes[0].name, nodes[1].name
        if fault.kind == "cut from clients":
            b = CLIENTS
        ways = [(a, b)] if fault.kind == "cut one way" else [(a, b), (b, a)]
        return self._impose(ways, Shape(DROP), fault.lasts_s)

    def _isolate(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        return self._sever(struck[0], nodes, fault.lasts_s)

    def _sever(self, node: NodeProcess, nodes: list[NodeProcess], seconds: float) -> bool:
        """Nothing between the node and its peers."""
        peers = [other for other in nodes if other is not node]
        return self._impose(both_ways([node], peers), Shape(DROP), seconds)

    def _split(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        return self._impose(both_ways(struck, nodes[len(struck) :]), Shape(DROP), fault.lasts_s)

    def _hold(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        a, b = nodes[0].name, nodes[1].name
        ways = [(a, b)] if fault.kind == "hold one way" else [(a, b), (b, a)]
        return self._impose(ways, Shape(HOLD), fault.lasts_s)

    def _garble(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        a, b = nodes[0].name, CLIENTS if fault.kind == "garble clients" else nodes[1].name
        return self._impose([(a, b), (b, a)], Shape(GARBLE), fault.lasts_s)

    def _delay(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        shape = Shape(delay_s=0.005 + 0.2 * fault.size, jitter_s=0.1 * fault.size)
        return self._impose(both_ways(struck, nodes[1:]), shape, fault.lasts_s)

    def _slow(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        shape = Shape(bytes_per_s=2_000 + 50_000 * fault.size)
        return self._impose(both_ways(struck, nodes[1:]), shape, fault.lasts_s)

    @property
    def _relay(self) -> Relay:
        """What the faults in RELAY_ONLY need."""
        assert isinstance(self._links, Relay)
        return self._links

    def _impose(self, ways: list[Way], shape: Shape, seconds: float) -> bool:
        for way in ways:
            self._links.impose(*way, shape)
            self._after(seconds, partial(self._links.lift, *way, shape))
        return True

    def _half_close(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        other = CLIENTS if fault.kind.endswith("clients") else nodes[1].name
        self._relay.half_close(nodes[0].name, other)
        return True

    def _break(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        self._relay.reset(CLIENTS, struck[0].name)
        return True

    def _reset(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        self._relay.reset(nodes[0].name, nodes[1].name)
        return True

    def _refuse(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        """The link breaks, and for a while no new one can be made."""
        a, b = nodes[0].name, nodes[1].name
        for way in ((a, b), (b, a)):
            self._relay.refuse(*way, True)
            self._after(fault.lasts_s, partial(self._relay.refuse, *way, False))
        return self._reset(fault, struck, nodes)

    def _flap(self, fault: Fault, struck: list[NodeProcess], nodes: list[NodeProcess]) -> bool:
        """Cut and mended, again and again."""
        a, b = nodes[0].name, nodes[1].name
        period_s = 0.1 + 0.3 * fault.size
        at_s = 0.0
        while at_s < fault.lasts_s:
            self._after(at_s, partial(self._impose, [(a, b), (b, a)], Shape(DROP), period_s / 2))
            at_s += period_s
        return True


def both_ways(some: list[NodeProcess], others: list[NodeProcess]) -> list[Way]:
    """Every way between one of these and one of those."""
    pairs = list(product((node.name for node in some), (node.name for node in others)))
    return pairs + [(b, a) for a, b in pairs]
