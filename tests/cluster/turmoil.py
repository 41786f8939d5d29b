"""Turmoil: what is done at random to the nodes of a cluster whose registers are written meanwhile.

    die      it ends at a moment of a write that it proposes (`dying.py`)
    kill     kill -9: of one, of a majority, of all
    stop     SIGTERM
    pause    SIGSTOP, of one or of a majority
    wipe     its store is gone. Not while another one that was lost is not taken in again: that may lose
             writes for good. Of one that is lost while seats move nobody can tell when it is: it is the last
    come     a member is added, and gets seats
    leave    a member is drained, and goes. Neither while a store is lost

One thing after the other, while those that were wiped, or moved, take their time behind it.
"""

import random
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

from basestore.errors import RequestFailed, Unreachable
from tests.cluster.dying import MOMENTS, dies_at, mortal
from tests.cluster.members import ask, come, numbers
from tests.cluster.processes import Cluster, NodeProcess
from tests.cluster.register_end import entries, epoch_of, is_taken_in, seats_of
from tests.worlds.patience import eventually

GAP_S = (0.0, 1.5)
LASTS_S = (0.1, 3.0)
AFTER_MAX = 25  # records, until one dies
MEMBERS = (3, 4)
KINDS = (("die", 8), ("kill", 3), ("stop", 1), ("pause", 3), ("wipe", 3), ("come", 2), ("leave", 2))
ENDED_BY = (0, -signal.SIGTERM, -signal.SIGKILL)
VOTERS = "the voters are "


class Lost(NamedTuple):
    """A store that was lost at this epoch. `seats`: in how many partitions its member is to be taken in, if
    that is known; `voted`: whether it is to vote again."""

    node: NodeProcess
    epoch: int
    seats: int | None
    voted: bool


class Turmoil:
    """Of one cluster, in the thread that calls it. `counts`: what was done; `complaints`: of nodes that have
    ended by themselves."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._cluster = cluster
        self._draw = random.Random(f"{seed} turmoil")
        self._doomed: set[str] = set()
        self._lost: Lost | None = None
        self._leaving: NodeProcess | None = None
        self._came = len(cluster.nodes)
        self._clock = threading.Event()
        for node in cluster:
            mortal(node)

    def strike(self) -> None:
        """One thing, and its mending."""
        names, weights = zip(*KINDS, strict=True)
        (kind,) = self._draw.choices(names, weights)
        done: bool = getattr(self, f"_{kind}")()
        self.counts[kind if done else f"no {kind}"] += 1
        self._rest(GAP_S)
        self.watch()

    def watch(self) -> None:
        """Start again those that have died as they were told."""
        for node in self._cluster:
            if node.running:
                continue
            code = node.wait()
            if node.name not in self._doomed or code != -signal.SIGKILL:
                self.complaints.append(f"{node.name} ended by itself with code {code}")
            self.counts["died as told"] += 1
            self._doomed.discard(node.name)
            self._start(node)
        self._goes()

    def calm(self) -> None:
        """All run as nodes do, and are linked."""
        self.watch()
        for node in list(self._cluster):
            if node.name in self._doomed:
                self._end(node, node.kill)
                self._doomed.discard(node.name)
                node.start()
        self._cluster.wait_linked([node for node in self._cluster if node is not self._leaving])

    def settle(self) -> None:
        """Until nothing is under way any more."""
        self.calm()
        eventually(lambda: self._goes() is None, "who is to leave has left")
        eventually(self._moved, "all moves are done")
        if self._lost is not None and self._lost.seats is not None:
            eventually(self._is_whole, "all that was lost is taken in again")

    # --- what is done ------------------------------------------------------------------------

    def _die(self) -> bool:
        (node,) = self._some(1)
        self._end(node, node.kill)
        moment = self._draw.choice(MOMENTS)
        self._doomed.add(node.name)
        node.start(dies_at(moment, self._draw.randrange(AFTER_MAX)))
        self.counts[f"to die {moment}"] += 1
        return True

    def _kill(self) -> bool:
        return self._down(lambda node: node.kill, self._several())

    def _stop(self) -> bool:
        return self._down(lambda node: lambda: node.signal(signal.SIGTERM), 1)

    def _down(self, way: Callable[[NodeProcess], Callable[[], None]], count: int) -> bool:
        struck = self._some(count)
        for node in struck:
            self._end(node, way(node))
        self._rest(LASTS_S)
        for node in struck:
            self._start(node)
        return True

    def _pause(self) -> bool:
        struck = self._some(self._several())
        for node in struck:
            node.pause()
        self._rest(LASTS_S)
        for node in struck:
            node.resume()
        return True

    def _wipe(self) -> bool:
        if not self._is_whole():
            return False
        (node,) = self._some(1)
        if node is self._leaving:
            return False
        teller = next(each for each in self._cluster if each is not node)
        try:
            seats = seats_of(teller, node) if self._moved() and self._leaving is None else None
            self._lost = Lost(node, epoch_of(teller), seats, votes(teller, node))
        except (RequestFailed, Unreachable):
            return False
        self._end(node, node.kill)
        shutil.rmtree(node.directory)
        self.counts["wiped while seats move"] += seats is None
        self._rest((0.0, 1.0))
        self._start(node)
        return True

    def _come(self) -> bool:
        if len(self._cluster.nodes) >= MEMBERS[1] or self._leaving or not self._is_whole():
            return False
        self.calm()
        self._came += 1
        mortal(come(self._cluster, f"n{self._came}"))
        return True

    def _leave(self) -> bool:
        if (
            len(self._cluster.nodes) <= MEMBERS[0]
            or self._leaving
            or not self._is_whole()
            or not self._moved()
        ):
            return False
        self.calm()
        node, other = self._some(2)
        ask(other, lambda store: store.drain(node.name))
        self._leaving = node
        return True

    # --- how far it has come -----------------------------------------------------------------

    def _goes(self) -> NodeProcess | None:
        """Who is to leave, while it has not left."""
        node = self._leaving
        if node is not None:
            with suppress(RequestFailed, Unreachable):
                if node.name not in numbers(next(each for each in self._cluster if each is not node)):
                    self._cluster.nodes.remove(node)
                    self._doomed.discard(node.name)
                    node.end()
                    self._leaving = None
                    self.counts["left"] += 1
        return self._leaving

    def _is_whole(self) -> bool:
        """Whether the store that was lost last was taken in again, as an acceptor and as a voter."""
        if self._lost is None:
            return True
        node, epoch, seats, voted = self._lost
        if seats is None:
            return False
        teller = next(each for each in self._cluster if each is not node)
        told = entries(teller, epoch)
        again = not voted or votes_again([entry.text for entry in told], node)
        if again and is_taken_in(told, node, seats):
            self._lost = None
            self.counts["taken in"] += 1
        return self._lost is None

    def _moved(self) -> bool:
        try:
            with self._cluster.nodes[0].store() as store:
                return store.moves().done
        except (RequestFailed, Unreachable):
            return False

    # --- nodes -------------------------------------------------------------------------------

    def _some(self, count: int) -> list[NodeProcess]:
        return self._draw.sample(self._cluster.nodes, count)

    def _several(self) -> int:
        nodes = len(self._cluster.nodes)
        return self._draw.choices((1, nodes // 2 + 1, nodes), (6, 1, 1))[0]

    def _start(self, node: NodeProcess) -> None:
        if node in self._cluster.nodes and not node.running:
            node.start()

    def _end(self, node: NodeProcess, end: Callable[[], None]) -> None:
        if node.running:
            node.resume()
            end()
        code = node.wait()
        if code not in ENDED_BY:
            self.complaints.append(f"{node.name} ended with code {code}")
        self._doomed.discard(node.name)

    def _rest(self, between_s: tuple[float, float]) -> None:
        self._clock.wait(self._draw.uniform(*between_s))


def votes(teller: NodeProcess, node: NodeProcess) -> bool:
    """Whether it votes, as another knows."""
    with teller.store() as store:
        return node.name in store.topology("stale").voters


def votes_again(texts: Iterable[str], node: NodeProcess) -> bool:
    """Whether the store that was lost is no voter any more, and the one in its place is, or nobody."""
    told = [text.removeprefix(VOTERS).split(", ") for text in texts if text.startswith(VOTERS)]
    both = f"{node.name} (on two stores)"
    instead = any(both in these and node.name in then for these, then in pairwise(told))
    return instead or (bool(told) and not {both, node.name} & set(told[-1]))
