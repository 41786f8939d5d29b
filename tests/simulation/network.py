"""Network: connections between machines, and everything that can happen to what is said on them.

As in the service, the lower member dials, both ends get an outbox of their own from their node, and
what arrives on an end that its node has given up is gone. Two ends notice a break at different
times. A `stream` keeps order; on other networks every message makes its own way. What was on a
broken link may come on the next one (`stray`), but for the words by which two nodes introduce
themselves, or take their leave: a late one of those speaks of another life. So does one of the log; and under
which epoch a node speaks, or what follows an epoch, is said in order on all links, and lost only with them.
So is what one node asks another to do with a register: done twice it would be two writes.
"""

from collections import Counter
from typing import TYPE_CHECKING

from basestore.cluster.outbox import Outbox
from basestore.protocol.codec import Message, decode, encode
from basestore.protocol.handshake import Goodbye
from basestore.protocol.heartbeats import Confirmed, Ping, Pong, Remembered, StoreClaim
from basestore.protocol.membership import OF_RAFT, At, Base, Lacking
from basestore.protocol.replication import Forward
from tests.simulation.clockwork import Clockwork, Stream
from tests.simulation.plan import NetworkPlan

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

ATTEMPT_S_MAX = 0.6
ORDERED = (At, Base, Lacking, Forward)
INTRODUCTIONS = (StoreClaim, Remembered, Confirmed, Ping, Pong, Goodbye, *ORDERED, *OF_RAFT)


class Link:
    """One connection. `outboxes` holds each end's while its node holds on to it; `last` is when
    the latest frame each way arrives; `stuck` what a cut holds back."""

    __slots__ = ("broken", "ends", "last", "outboxes", "resume", "stuck")

    def __init__(self, a: "Machine", b: "Machine") -> None:
        self.ends = (a, b)
        self.outboxes: dict[int, Outbox] = {}
        self.last = {a.index: 0.0, b.index: 0.0}
        self.stuck: dict[int, list[list[Message]]] = {a.index: [], b.index: []}
        self.resume = {a.index: 0.0, b.index: 0.0}
        self.broken = False

    def other(self, machine: "Machine") -> "Machine":
        a, b = self.ends
        return b if machine is a else a


class Network:
    """All links, and the cuts and slow ways of the moment: ways are (source, target)."""

    def __init__(self, clockwork: Clockwork, plan: NetworkPlan, seed: int, counts: Counter[str]) -> None:
        self._clockwork = clockwork
        self._plan = plan
        self._latency_s, self._heavy = plan.latency_s, plan.heavy
        self._stream = Stream(seed, "network")
        self._counts = counts
        self.cuts: Counter[tuple[int, int]] = Counter()
        self.slow: dict[tuple[int, int], float] = {}
        self.links: dict[tuple[int, int], Link] = {}
        self.calm = False  # the faults are over

    def delay(self) -> float:
        return 5e-5 + self._stream.tail(self._latency_s, 0.0 if self.calm else self._heavy)

    # --- links -------------------------------------------------------------------------------

    def dial(self, a: "Machine", b: "Machine", life: int) -> None:
        """The lower member tries to connect, and again after a while, for as long as it lives."""
        if a.life != life or a.node is None or (a.index, b.index) in self.links or b.ended:
            return
        way, back = (a.index, b.index), (b.index, a.index)
        apart = a.paused or b.paused or b.node is None or self.cuts[way] or self.cuts[back]
        if apart or not (a.knows(b.index) and b.knows(a.index)):
            self._clockwork.after(self._stream.uniform(0.05, ATTEMPT_S_MAX), self.dial, a, b, life)
            return
        link = self.links[way] = Link(a, b)
        hello, welcome = self.delay(), self.delay()
        link.last[a.index] = self._clockwork.now + hello + welcome
        link.last[b.index] = self._clockwork.now + hello
        self._clockwork.after(hello, b.enter, self._open, link, b, b.life)
        self._clockwork.after(hello + welcome, a.enter, self._open, link, a, a.life)

    def _open(self, link: Link, machine: "Machine", life: int) -> None:
        known = machine.knows(link.other(machine).index)
        if link.broken or machine.node is None or machine.life != life or not known:
            self.break_link(link)
            return
        link.outboxes[machine.index] = machine.open_link(link)

    def break_link(self, link: Link, noticed_s: float = 0.05) -> None:
        """The connection is gone; each end notices after a time of its own."""
        if link.broken:
            return
        link.broken = True
        self._counts["link broken"] += 1
        a, b = link.ends
        for machine in (a, b):
            self._clockwork.after(
                self._stream.exponential(noticed_s), machine.enter, self._notice, link, machine, machine.life
            )
        # an end that is never opened, or whose machine is gone, is made good by the next attempt
        self._clockwork.after(self._stream.uniform(0.05, 0.3) + noticed_s, self._forget, link)

    def break_between(self, a: int, b: int) -> None:
        """Whatever connects the two is gone."""
        for link in list(self.links.values()):
            if {end.index for end in link.ends} == {a, b}:
                self.break_link(link)

    def _notice(self, link: Link, machine: "Machine", life: int) -> None:
        outbox = link.outboxes.pop(machine.index, None)
        if outbox is not None and machine.life == life and machine.node is not None:
            machine.close_link(link, outbox)

    def _forget(self, link: Link) -> None:
        a, b = link.ends
        if self.links.get((a.index, b.index)) is link:
            del self.links[a.index, b.index]
            self.dial(a, b, a.life)

    def leave(self, machine: "Machine", noticed_s: float) -> None:
        """A machine has died: the other ends learn it at some time."""
        for link in list(self.links.values()):
            if machine in link.ends:
                link.outboxes.pop(machine.index, None)
                self.break_link(link, noticed_s)

    def break_all(self, machine: "Machine") -> None:
        """The machine gives up its links itself."""
        for link in list(self.links.values()):
            if machine in link.ends:
                self._notice(link, machine, machine.life)
                self.break_link(link, 0.001)

    # --- messages ----------------------------------------------------------------------------

    def carry(self, link: Link, source: "Machine", messages: list[Message]) -> None:
        """What an outbox held is on its way."""
        plan, random = self._plan, self._stream.random
        if plan.encoded:
            messages = decode(encode(messages))
        a, b = link.ends
        target = b if source is a else a
        way = (source.index, target.index)
        slow = self.slow.get(way, 0.0) if self.slow else 0.0
        cut = self.cuts.get(way, 0) > 0
        if plan.stream:
            if link.broken:
                self._stray(target, source, messages)
            elif cut:
                link.stuck[target.index].append(messages)
            elif not self.calm and random() < plan.loss:
                self.break_link(link)
            else:
                self._in_order(link, target, source, messages, slow)
            return
        for message in messages:
            if type(message) in ORDERED and not link.broken:
                if cut:
                    link.stuck[target.index].append([message])
                else:
                    self._in_order(link, target, source, [message], slow)
        messages = [message for message in messages if type(message) not in ORDERED]
        frames = [messages] if messages else []
        if len(messages) > 1 and random() < 0.3:
            frames = [[message] for message in messages]
        for frame in frames:
            for _ in range(2 if random() < plan.double else 1):
                if cut or (not self.calm and random() < plan.loss):
                    self._counts["message lost"] += 1
                    continue
                self._clockwork.after(self.delay() + slow, self._arrive, link, target, source, frame)

    def _in_order(
        self, link: Link, target: "Machine", source: "Machine", messages: list[Message], slow: float
    ) -> None:
        """It arrives behind all that was sent so before."""
        last, arrival = link.last, self._clockwork.now + self.delay() + slow
        least = last[target.index] + 1e-6
        last[target.index] = arrival = arrival if arrival >= least else least
        self._clockwork.at(arrival, self._arrive, link, target, source, messages)

    def mend(self, a: int, b: int) -> None:
        """A cut has ended: what it held back moves on."""
        for (first, second), link in self.links.items():
            if link.broken or {first, second} != {a, b}:
                continue
            for target in link.ends:
                held, link.stuck[target.index] = link.stuck[target.index], []
                for messages in held:
                    source = link.other(target)
                    arrival = max(self._clockwork.now + self.delay(), link.last[target.index] + 1e-6)
                    link.last[target.index] = arrival
                    self._clockwork.at(arrival, self._arrive, link, target, source, messages)

    def _arrive(self, link: Link, target: "Machine", source: "Machine", messages: list[Message]) -> None:
        if target.paused:
            target.enter(self._arrive, link, target, source, messages)
            return
        outbox = link.outboxes.get(target.index)
        if outbox is not None:
            target.hear(source.index, outbox, messages)
        else:
            self._stray(target, source, messages)

    def _stray(self, target: "Machine", source: "Machine", messages: list[Message]) -> None:
        pair = (min(target.index, source.index), max(target.index, source.index))
        link = self.links.get(pair)
        outbox = None if link is None else link.outboxes.get(target.index)
        late: list[Message] = [message for message in messages if not isinstance(message, INTRODUCTIONS)]
        if self._plan.stray and outbox is not None and late:
            self._counts["stray message"] += len(late)
            target.hear(source.index, outbox, late)
