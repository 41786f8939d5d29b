"""Connections: the node's peers and clients, as far as they are connected.

Owns every link, from the first word to the last, and the outboxes of clients in this process. A connection
has a task of its own, but the task only waits: for a handshake, for the socket to take more, for the end.
What comes in is heard by the poller; what goes out is sent by `send`, after each step of the node.

    accept(stream)        somebody connects: handshake, then serve a peer or a client until it ends
    look_for_members()    of those that there are, and that come, each in one of these ways:
    dial_forever(index)   keep the connection to a peer that this node opens
    ask_forever(index)    ask a peer that should open it, and does not, why
    send()                what lies in the outboxes that the node calls ready

Two members never dial each other both: the one with the lower number does. A link that stands and was heard
lately is never replaced: who comes as a member that is linked is refused, and tells no address, for another
node may run as that member. It may also be the same, which has begun anew: then its old link ends, or falls
silent and is replaced, while it tries again. Who has left is not looked for any more, and not let in; its
link ends once it had time to hear of that.

It refuses who comes in too great a number (`slots.py`), and closes whom it cannot serve: a peer whose outbox
ran over (its loss must be seen as one), whoever takes no frame for too long, and whoever says what only
others may say. When the node is to end, it says goodbye to all, answers what is under way, and refuses what
comes later.
"""

import logging
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import trio

from basestore.cluster.outbox import Outbox
from basestore.cluster.peer import Peer
from basestore.config import NodeConfig
from basestore.coordinator.context import failure
from basestore.errors import Overloaded
from basestore.node import Node
from basestore.observe.complaints import Complaints, numberless
from basestore.protocol.codec import Message
from basestore.protocol.envelopes import Sealed
from basestore.protocol.handshake import Goodbye
from basestore.protocol.limits import ProtocolError, UnknownKind
from basestore.protocol.proof import Answer, refused, shown
from basestore.server.clock import instant
from basestore.server.handshakes import HANDSHAKE_S_MAX, Dismissed, Handshakes, NotMet
from basestore.server.link import Link, Signal
from basestore.server.listening import EXHAUSTED
from basestore.server.poller import Poller
from basestore.server.slots import IDLE_S_MIN, Client, Slots, slots_for
from basestore.transport.frames import CLIENT_FRAME_BYTES_MAX, FRAME_BYTES_MAX

BACKOFF_S_MIN, BACKOFF_S_MAX = 0.05, 2.0
ASK_S = 4.0
STALL_S_MAX = 30.0
GOODBYE_S_MAX = 1.5
QUIET_S = 0.2
BACKLOG_BYTES_MAX = 4 << 20
FOUND_AGAIN_S = 2 * ASK_S  # who has begun anew asks no sooner
STOPPING = "overloaded: this node stops, and takes no more requests; nothing was done. Ask another node"

log = logging.getLogger("basestore")


class Connections:
    """Everybody who is connected to a node. `wake` asks for a step of it."""

    def __init__(self, config: NodeConfig, node: Node, poller: Poller, wake: Callable[[], None]) -> None:
        self._node = node
        self._poller = poller
        self._wake = wake
        self._links: dict[Outbox, Link] = {}
        self._peer_links: dict[int, Link] = {}
        self._locals: dict[Outbox, Callable[[], None]] = {}
        self._slots = Slots(*slots_for(len(node.peers.all)), self.complain)
        self._handshakes = Handshakes(
            config, self.complain, self._seat, self._slots.stir, self._hindered,
            lambda: (node.feature_level.level, node.membership.group.topology),
        )  # fmt: skip
        self.goodbye: Goodbye | None = None  # what all are told, once it parts: then ticks come often
        self._told_s, self._parted = 0.0, trio.Event()
        self._parted_s: dict[int, float] = {}  # when a member's link ended
        self._complaints, self._come = Complaints(), Signal()
        node.peers.watch(come=lambda peer: self._come.set())

    def _opens(self, peer: Peer) -> bool:
        """Whether this node opens the connection to a member, and not that member."""
        return peer.number > self._node.peers.number_of[self._node.me]

    def _name(self, index: int) -> str:
        return self._node.peers.all[index].name

    async def look_for_members(self) -> None:
        """Have each member looked for, those that come as soon as they do, as long as it is one."""
        sought = set[int]()
        async with trio.open_nursery() as nursery:
            while True:
                for peer in self._node.peers.others:
                    if peer.index not in sought:
                        sought.add(peer.index)
                        look = self.dial_forever if self._opens(peer) else self.ask_forever
                        nursery.start_soon(look, peer.index)
                self._slots.bound(*slots_for(len(self._node.peers.present)))
                await self._come.wait()

    # --- after each step ---------------------------------------------------------------------

    def send(self) -> None:
        """Send what the node's step has left in outboxes. What a socket does not take now, its own task
        sends later."""
        node = self._node
        if node.introductions.take_relink():
            for link in self._peer_links.values():
                link.scope.cancel()
        broken = node.intake.broken
        while broken:
            outbox, reason = broken.popitem()
            if outbox in self._links:
                self._links[outbox].end(ProtocolError(reason))
        for outbox in list(node.ready):
            if outbox in self._locals:
                self._locals[outbox]()
            # That of a link which is just being made: it begins by sending what its outbox holds. Or the
            # node's own, which each step empties.
            if outbox not in self._links:
                continue
            if outbox.overflowed:  # what did not fit is lost: so is the link, for all to see
                self.complain(
                    logging.WARNING, "more waited to be sent to one place than may; its link is closed"
                )
                self._links[outbox].scope.cancel()
            self._links[outbox].send_nowait(outbox)
        node.ready.clear()

    def tick(self) -> None:
        """Close those that took no frame for too long, and clients that hold too much; read again from those
        that were paused; and see whether all have parted, once they were told goodbye."""
        clients = self._slots.clients
        members = [(outbox, link) for outbox, link in self._links.items() if outbox not in clients]
        self._slots.watch(sum(outbox.bytes + link.held for outbox, link in members))
        for level, text in self._complaints.rest(trio.current_time()):
            log.log(level, "%s: %s", self._node.name, text)
        for client in clients.values():
            client.link.resume()
        if self.goodbye is not None and self._quiet():
            self._parted.set()
        for index in self._node.peers.ends(instant()):
            if index in self._peer_links:
                self._peer_links[index].scope.cancel()
        stalled = trio.current_time() - STALL_S_MAX
        for link in self._links.values():
            if link.sending_since is not None and link.sending_since < stalled:
                self.complain(logging.WARNING, f"a connection took no frame within {STALL_S_MAX} s; closed")
                link.scope.cancel()

    # --- the end -----------------------------------------------------------------------------

    async def say_goodbye(self) -> None:
        """This node is about to end: tell everybody, and go on until all have their answers; GOODBYE_S_MAX
        at most."""
        self.goodbye = Goodbye(f"{self._node.name} stops; ask another node")
        self._told_s = trio.current_time()
        for outbox in self._links:
            outbox.put(self.goodbye)
        self._wake()
        if self._links:
            await self._parted.wait()

    def _quiet(self) -> bool:
        """Nothing is under way, for members neither, nor held back by a link. Outboxes empty in this turn."""
        told_s = trio.current_time() - self._told_s
        asked = self._node.rest.busy or any(client.busy for client in self._slots.clients.values())
        held = any(link.held for link in self._links.values())
        return told_s > GOODBYE_S_MAX or (told_s > QUIET_S and not asked and not held)

    # --- clients in this process -------------------------------------------------------------

    def address(self, number: int) -> str:
        """Where a member can be reached, as far as this node knows."""
        return self._handshakes.addresses.known(number)

    def open_local(self, deliver: Callable[[], None]) -> Outbox:
        """A client in this process; `deliver` is called when its outbox holds answers."""
        outbox = self._node.open_client(math.inf, tenant="this process")  # it is emptied in every turn
        self._locals[outbox] = deliver
        return outbox

    def close_local(self, outbox: Outbox) -> None:
        """That client is gone."""
        del self._locals[outbox]
        self._node.intake.close(outbox)

    # --- who connects ------------------------------------------------------------------------

    async def accept(self, stream: trio.SocketStream) -> None:
        """Serve a connection that somebody has opened, until it ends."""
        link = Link(stream)
        self._slots.arrive(link)
        try:
            with link.scope:
                with trio.fail_after(HANDSHAKE_S_MAX):
                    sender = await self._handshakes.admit(link)
                self._slots.known(link)
                if sender:
                    await self._serve_peer(link, self._node.peers.named[sender].index)
                else:
                    await self._serve_client(link)
        except (ProtocolError, ConnectionError, trio.TooSlowError) as error:
            peer = isinstance(error, NotMet) and error.peer
            kind = error.kind if isinstance(error, NotMet) else type(error).__name__
            reason = str(error) or "it was too slow to say hello"
            level = logging.WARNING if peer else logging.INFO
            self.complain(level, f"a connection was closed: {reason}", kind)
        finally:
            self._slots.known(link)
            link.close()

    def exhausted(self, error: OSError) -> None:
        """Nobody can be accepted, for lack of descriptors: a client that is idle may go."""
        self.complain(logging.WARNING, f"no connection can be accepted: {error.strerror}")
        self._slots.close_idle(IDLE_S_MIN)

    def _seat(self, answered: Answer) -> Answer:
        """The same, or a refusal if there is no slot for one more client."""
        if self.goodbye is not None:
            return refused(self.goodbye.reason)
        if not self._slots.room():
            return refused("too many clients are connected to this node; try again later, or ask another one")
        return answered

    def _hindered(self, name: str, address: str) -> str:
        """Why a member, which has proven itself and tells this address, is not let in; empty if it is. A
        link to it that stands is worth more than whoever comes as it from elsewhere; and so is the place
        where it was linked a moment ago, if this node is to go there."""
        index = self._node.peers.named[name].index
        if not self._node.peers.wanted(index):  # one of the two, since it has said hello perhaps
            return f"{name if self._node.peers.all[index].gone else self._node.name} has left the cluster"
        known = self.address(self._node.peers.number_of[index])
        twice = f"if two nodes run as {name}, stop one"
        link = self._peer_links.get(index)
        if link is not None and self._node.peers.hears(index, instant()):
            told = "" if address == known else f", and this one says that it is at {shown(address)}"
            return f"{name} is linked already, from {link.host}{told}; {twice}"
        ago_s = trio.current_time() - self._parted_s.get(index, -math.inf)
        if self._node.peers.all[index].leaving and link is not None:
            ago_s = 0.0
        if self._opens(self._node.peers.all[index]) and address != known and ago_s < FOUND_AGAIN_S:
            return f"{name} was linked at {known} a moment ago, and is looked for there first; {twice}"
        return ""

    async def dial_forever(self, index: int) -> None:
        """Keep a connection to a member, made anew whenever it ends, until one of the two has left."""
        backoff_s = BACKOFF_S_MIN
        while self._node.peers.wanted(index):
            try:
                async with self._handshakes.met(self._node.peers.all[index]) as link:
                    # Only now: who lets itself be dialled and then refuses is not dialled at full speed.
                    backoff_s = BACKOFF_S_MIN
                    await self._serve_peer(link, index)
            except (OSError, ProtocolError, trio.TooSlowError) as error:
                if isinstance(error, ProtocolError):
                    self._refused_by(index, error)
                elif isinstance(error, OSError) and error.errno in EXHAUSTED:
                    self.exhausted(error)
            # Shortened by chance, so that nodes which lost the same peer do not all come back at once.
            await trio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)

    async def ask_forever(self, index: int) -> None:
        """Say hello to a member that should open the connection, and has not for a while. It is refused, but
        it is told the address of this node: one that has another in its file would never come. And if their
        configurations differ both say in what."""
        away = 0
        while self._node.peers.wanted(index):
            await trio.sleep(ASK_S)
            away = 0 if index in self._peer_links else away + 1
            if away < 2 or not self._node.peers.wanted(index):  # it may be about to
                continue
            with suppress(OSError, trio.TooSlowError):
                try:
                    async with self._handshakes.met(self._node.peers.all[index]):
                        pass
                except ProtocolError as error:
                    self._refused_by(index, error)

    def _refused_by(self, index: int, error: ProtocolError) -> None:
        """A member, or who is in its place, does not let this node in."""
        self.complain(logging.WARNING, str(error), error.kind if isinstance(error, NotMet) else "")
        if isinstance(error, Dismissed):
            self._node.introductions.dismiss(index, instant())
            self._wake()

    def complain(self, level: int, text: str, kind: str = "") -> None:
        """Log it, but not the same over and over: who was refused will try again."""
        if self._complaints.tell(level, text, kind, trio.current_time()):
            log.log(level, "%s: %s", self._node.name, text)

    # --- who is connected --------------------------------------------------------------------

    async def _serve_peer(self, link: Link, index: int) -> None:
        """A link to a peer, until it breaks."""
        if not self._node.peers.wanted(index):
            raise NotMet(f"{self._name(index)} or {self._node.name} has left the cluster meanwhile")
        if index in self._peer_links:  # silent: the peer may have begun anew, and was not able to say so
            if self._node.peers.hears(index, instant()):  # two were let in at once
                raise NotMet(f"{self._name(index)} was linked meanwhile")
            self._peer_links[index].scope.cancel()
        outbox = self._node.link(index, instant())
        self._peer_links[index] = link
        if self.goodbye is not None:
            outbox.put(self.goodbye)

        unheard, named = link.decoder.unheard, set[int]()
        link.count = partial(self._node.metrics.count, "member_bytes_sent")

        def hear(messages: list[Message]) -> list[Message]:
            _check(self._node.receive(index, outbox, messages, instant()))
            if len(unheard) > len(named):
                self._name_unheard(index, link.version, unheard - named)
                named.update(unheard)
            return []

        try:
            with self._registered(outbox, link):
                await link.run(outbox, self._poller, hear, self._wake, FRAME_BYTES_MAX)
        except UnknownKind as error:
            self.complain(logging.WARNING, f"the link to {self._name(index)} broke: {error}")
        except (ConnectionError, ProtocolError) as error:
            log.info("%s: the link to %s broke: %s", self._node.name, self._name(index), error)
        finally:
            # A newer link may stand here by now: it had this one cancelled.
            if self._peer_links.get(index) is link:
                del self._peer_links[index]
                self._parted_s[index] = trio.current_time()
            self._node.unlink(index, outbox, instant())
            self._wake()

    def _name_unheard(self, index: int, version: int, kinds: set[int]) -> None:
        """A member says what may be left unheard, and is not known here: the link goes on."""
        for kind in sorted(kinds):
            said = f"{self._name(index)} says something of kind {kind}, which version {version} of the wire"
            self.complain(logging.INFO, f"{said} does not have; it may be left unheard, and is")

    async def _serve_client(self, link: Link) -> None:
        """A client's connection. What it asks goes to the intake, unopened. While it does not take its
        answers, it is not read from; and only so many of its requests are under way at once as their
        answers, going by the latest ones, will fit into the backlog."""

        def room() -> int:
            if outbox.bytes > BACKLOG_BYTES_MAX:
                return 0
            return link.room(BACKLOG_BYTES_MAX) - client.caller.under_way

        outbox = self._node.open_client(tenant=link.host, decoder=link.decoder, room=room)
        client = Client(link, self._node.intake.caller(outbox), trio.current_time())

        def hear(frames: list[Sealed]) -> list[Sealed]:
            if outbox.bytes > BACKLOG_BYTES_MAX or client.caller.clogged:
                return frames
            client.heard_s = trio.current_time()
            if self.goodbye is not None:
                _refuse(outbox, frames)
            elif not self._node.intake.offer(outbox, frames, instant()):
                link.pause()
            return []

        self._slots.clients[outbox] = client
        try:
            with self._registered(outbox, link):
                link.keep_sealed(lambda: self._node.intake.shut(client.caller))
                await link.run(outbox, self._poller, hear, self._wake, CLIENT_FRAME_BYTES_MAX)
        except (ConnectionError, ProtocolError) as error:
            level = logging.INFO if isinstance(error, ProtocolError) else logging.DEBUG
            self.complain(level, f"a client was disconnected: {error}", numberless(f"a client: {error}"))
        finally:
            self._slots.clients.pop(outbox, None)
            self._node.intake.close(outbox)

    @contextmanager
    def _registered(self, outbox: Outbox, link: Link) -> Iterator[None]:
        """For the length of the block `send` empties the outbox into the link."""
        self._links[outbox] = link
        self._wake()
        try:
            yield
        finally:
            del self._links[outbox]


def _refuse(outbox: Outbox, frames: list[Sealed]) -> None:
    """Say definitely that nothing was done of what came after the goodbye."""
    for frame in frames:
        for request in range(frame.first, frame.first + frame.asks):
            outbox.put(failure(request, Overloaded(STOPPING)))


def _check(unexpected: Message | None) -> None:
    if unexpected is not None:
        raise ProtocolError(f"a {type(unexpected).__name__} message is not for this kind of connection")
