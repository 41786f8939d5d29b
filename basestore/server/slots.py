"""Slots: how many may be connected to a node at once, and how much all connections together may hold in it.

    strangers   who has not said hello yet, or has called itself a member and not proven it: a few, for a few
                seconds. One more, and one goes: of the host from which most have come the one that has kept
                silent longest
    clients     as many as there are slots. One more takes that of the client that has been idle
                longest, if one has been for a while; else it is refused, in words
    members     always have room: those are counted apart, and no client or stranger can take it

Idle is who has nothing under way; a client that was idle connects anew with its next call. A frame that was
begun must end within FRAME_S_MAX. Nobody goes for what this node does not read: that time begins anew while
more lies there than is read at once, and when this node itself did not run for a while.

What a connection holds is what has come in and is not begun yet, and what waits to be sent. All of them,
strangers and members too, have one budget: at most HELD_BYTES_MAX together, or the client that holds most
goes, and the next. Only clients go for that: a member's link has bounds of its own, and is worth more than
any of them. And none that keeps within an equal share, for together those are within the budget.

Waits for nothing, and logs by `complain`, which does not say the same over and over.
"""

import logging
import math
import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import trio

from basestore.cluster.outbox import Outbox
from basestore.cluster.peers import ASLEEP_S
from basestore.intake.caller import Caller
from basestore.server.link import Link

STRANGERS_MAX = 256
CLIENTS_MAX = 2048
FILES_RESERVED = 256  # descriptors for the store, the log, the members
IDLE_S_MIN = 10.0
FRAME_S_MAX = 10.0
HELD_BYTES_MAX = 256 << 20

Complain = Callable[[int, str], None]


@dataclass(slots=True, eq=False)
class Client:
    """A client's connection. `heard_s`: when it last asked something."""

    link: Link
    caller: Caller
    heard_s: float

    @property
    def held(self) -> int:
        """What it holds here, in bytes."""
        return self.link.held + self.caller.held + self.caller.outbox.bytes

    @property
    def busy(self) -> bool:
        """Whether it will still be told something."""
        return self.caller.under_way > 0 or self.held > 0


def slots_for(members: int) -> tuple[int, int]:
    """How many slots there are for strangers and for clients: fewer where the process may open few files."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return STRANGERS_MAX, CLIENTS_MAX
    strangers = min(STRANGERS_MAX, files // 8)
    # A member that dials anew needs a descriptor before its old one is closed.
    return strangers, max(1, min(CLIENTS_MAX, files - FILES_RESERVED - strangers - 2 * members))


class Slots:
    """Of one node. `held`: what all connections held when they were last looked at, in bytes."""

    def __init__(self, strangers_max: int, clients_max: int, complain: Complain) -> None:
        self._strangers_max = strangers_max
        self._clients_max = clients_max
        self._complain = complain
        self._strangers: dict[Link, None] = {}  # the longest silent first
        self.clients: dict[Outbox, Client] = {}
        self.held = 0
        self._looked_s = self._awake_s = -math.inf  # at clients; since when this node has run

    def bound(self, strangers_max: int, clients_max: int) -> None:
        """So many are let in from now on."""
        self._strangers_max, self._clients_max = strangers_max, clients_max

    def arrive(self, link: Link) -> None:
        """Somebody has connected, and has to say hello."""
        if len(self._strangers) >= self._strangers_max:
            hosts = Counter(stranger.host for stranger in self._strangers)
            most = max(hosts.values())
            oldest = next(stranger for stranger in self._strangers if hosts[stranger.host] == most)
            del self._strangers[oldest]
            oldest.scope.cancel()
            text = f"more than {self._strangers_max} connections have not said hello; the oldest were closed"
            self._complain(logging.WARNING, text)
        self._strangers[link] = None

    def stir(self, link: Link) -> None:
        """It has said something, and is a stranger still."""
        if link in self._strangers:  # it may have had to go meanwhile
            del self._strangers[link]
            self._strangers[link] = None

    def known(self, link: Link) -> None:
        """It has said who it is, a member with proof; or is gone."""
        self._strangers.pop(link, None)

    def room(self) -> bool:
        """Whether there is a slot for one more client; perhaps the longest idle one had to go for it."""
        if len(self.clients) < self._clients_max:
            return True
        text = f"{self._clients_max} clients are connected; those that were idle longest make room"
        self._complain(logging.WARNING, text)
        return self.close_idle(IDLE_S_MIN)

    def close_idle(self, idle_s_min: float) -> bool:
        """Close the client that has been idle longest, if for so long; whether there was one."""
        before = trio.current_time() - idle_s_min
        idle = [each for each in self.clients.values() if each.heard_s <= before and not each.busy]
        if not idle:
            return False
        longest = min(idle, key=lambda client: client.heard_s)
        self._close(longest)
        return True

    def _close(self, client: Client) -> None:
        del self.clients[client.caller.outbox]  # at once: its end comes a little later
        client.link.scope.cancel()

    def watch(self, members: int) -> None:
        """Close who keeps a frame from ending, and who holds most as long as all hold too much. `members`:
        what their connections hold, in bytes."""
        clients = self.clients.values()
        now_s = trio.current_time()
        if now_s - self._looked_s > ASLEEP_S:
            self._awake_s = now_s
        self._looked_s = now_s
        for client in list(clients):
            begun = client.link.partial_since
            late = begun is not None and now_s - max(begun, self._awake_s) >= FRAME_S_MAX
            if late and not client.link.put_off:
                text = f"a client did not end a frame within {FRAME_S_MAX} s; closed"
                self._complain(logging.WARNING, text)
                self._close(client)
        strangers = sum(stranger.held for stranger in self._strangers)
        self.held = members + strangers + sum(client.held for client in clients)
        if self.held > HELD_BYTES_MAX:
            self._shrink()

    def _shrink(self) -> None:
        """Close those that hold most, until all together hold no more than they may."""
        share = HELD_BYTES_MAX // self._clients_max
        for client in sorted(self.clients.values(), key=lambda client: client.held, reverse=True):
            held = client.held
            if self.held <= HELD_BYTES_MAX or held <= share:
                break
            self.held -= held
            text = f"connections held more than {HELD_BYTES_MAX >> 20} MiB; the clients that held most were"
            self._complain(logging.WARNING, f"{text} closed")
            self._close(client)
