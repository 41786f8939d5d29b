"""Callers: who asks in the worlds in which more is offered than can be done (`overloads.py`)."""

from typing import TYPE_CHECKING, NamedTuple

from basestore.cluster.outbox import Outbox
from basestore.consistency import Level
from basestore.intake.caller import ROOM_MAX
from basestore.protocol.client import Credit, Failed, Set, Shed
from basestore.protocol.codec import Message, encode
from basestore.protocol.envelopes import READ, WRITE, class_of, enveloped
from basestore.protocol.handshake import Goodbye
from basestore.protocol.operator import Status
from basestore.transport.window import Window
from tests.simulation import history as h
from tests.simulation.clients import Client, Session, request_of
from tests.simulation.clockwork import Stream
from tests.simulation.operators import Line
from tests.simulation.plan import ClientPlan

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

OVERLOADED = 3  # the code of an error
TIMEOUTS_MS = (20, 40, 40, 150, 400, 900)
PROBE_S = 0.1
PROBED_S_MAX = 0.25  # a step and the network take no longer
WAITS_S = 0.5  # for an answer that does not come
ANSWERS_MIN = 2  # so many windows of answers make one wider
DEAF_S = 0.08  # it takes no answers for so long, again and again
DEAF_ROOM = 6
LIE = b"lie"


class Hostile(Client):
    """Asks whatever it is told, and takes no notice of windows."""

    def __init__(self, world: "PlannedWorld", plan: ClientPlan) -> None:
        super().__init__(world, plan)
        self.tenant = f"hostile {plan.number}"
        self.deaf = plan.number % 4 == 0

    def room(self, session: Session) -> int:
        now = self.world.clockwork.now
        if not self.deaf or now >= self.world.plan.seconds:
            return ROOM_MAX
        if int(now / DEAF_S) % 2:
            return 0
        node = session.machine.node
        assert node is not None
        return DEAF_ROOM - node.intake.caller(session.outbox).under_way

    def pour(self, machine: "Machine", size: int) -> None:
        """Ask so much of a machine at once."""
        if machine.node is None:
            return
        timeout_ms = self.stream.pick(TIMEOUTS_MS)
        asked = [self._draw() for _ in range(size)]
        asked.sort(key=lambda each: class_of(request_of(each, 0)))  # each class in a frame
        self._together_s = self.world.client_delay()
        for operation in asked:
            operation.timeout_ms = timeout_ms
            operation.place, self._place = self._place, self._place + 1
            self._outstanding += 1
            self.ask(machine, operation)
        self._together_s = None


class _Word(NamedTuple):
    """How many a connection should have under way, by its node's word, and when that came."""

    at: float
    window: int


class Own(Client):
    """Keeps to its windows, as the library does, and asks as much as they allow."""

    tenant = "own"

    def __init__(self, world: "PlannedWorld", plan: ClientPlan) -> None:
        super().__init__(world, plan)
        self._at = plan.number % len(world.machines)
        self._windows: dict[Session, Window] = {}
        self._words: dict[Session, list[_Word]] = {}
        self._refused: dict[Session, tuple[int, int]] = {}  # how wide it was then, and answers since

    def begin(self) -> None:
        """Ask as much as there is room for, and do it again soon."""
        world = self.world
        if world.clockwork.now >= world.plan.seconds:
            return
        world.clockwork.after(self.stream.exponential(self.plan.loop_s), self.begin)
        machine = world.machines[self._at]
        if machine.node is None or machine.leaving:
            return
        self._together_s = world.client_delay()
        for _ in range(1 + self.stream.below(4)):
            session = self._sessions.get(machine.index)
            window = None if session is None else self._windows.get(session)
            under_way = 0 if session is None or session.life != machine.life else len(session.waiting)
            if under_way and window is not None and not window.takes(under_way, 0):
                world.counts["held back by its window"] += 1
                break
            self.ask(machine, self._draw())
            self._outstanding += 1
            session = self._sessions[machine.index]
            self._windows.setdefault(session, Window())
        self._together_s = None

    def _try(self, operation: h.Operation) -> None:
        """What is repeated is repeated here."""
        machine = self.world.machines[self._at]
        if machine.node is None or machine.leaving:
            self._end(operation, h.TIMEOUT if operation.stamped else h.REFUSED)
        else:
            self.ask(machine, operation)

    def heed(self, session: Session, message: Shed | Credit) -> None:
        window = self._windows.get(session)
        if window is None or session not in self._sessions.values():
            return
        if isinstance(message, Shed):
            window.refused(self.world.clockwork.now)
            self._refused[session] = window.limit, 0
        window.told(message.window)
        self._words.setdefault(session, []).append(_Word(self.world.clockwork.now, message.window))

    def hear(self, answers: list[tuple[h.Operation, Message]]) -> None:
        for operation, message in answers:
            session = self._sessions.get(operation.node)
            window = None if session is None else self._windows.get(session)
            if window is None or session is None:
                continue
            if isinstance(message, Failed) and message.code == OVERLOADED:
                if message.details:  # as the library: of the node, and not of one request
                    window.refused(self.world.clockwork.now)
                    self._refused[session] = window.limit, 0
            else:
                window.answered(1)
                wide, count = self._refused.get(session, (0, 0))
                self._refused[session] = wide, count + 1
        super().hear(answers)

    def judge(self, machine: "Machine", since: float, until: float) -> None:
        """A machine was flooded between these moments, and is not any more: has its window grown again?"""
        session = self._sessions.get(machine.index)
        if session is None or session.life != machine.life or session not in self._windows:
            return
        window, words = self._windows[session], self._words.get(session, [])
        wide, count = self._refused.get(session, (0, 0))
        told = words[-1].window if words else window.limit
        if count >= ANSWERS_MIN * (wide + 1) and window.limit <= wide and window.limit < told:
            text = f"c{self.index} has {count} answers since it was refused, and still a window of {wide}"
            self.world.blame("windows", f"{text}, where n{machine.index + 1} takes {told}")
        during = [word.window for word in words if since <= word.at <= until]
        answered = any(operation.end > until + 1.3 for operation in self._answered(machine))
        if during and answered:
            self.world.counts["window watched"] += 1
            if told <= min(during):
                text = f"n{machine.index + 1} takes {told} at once of c{self.index}"
                self.world.blame("windows", f"{text}, as it did while it was flooded")

    def _answered(self, machine: "Machine") -> list[h.Operation]:
        """What was, there, by a receipt or a value."""
        return [
            each
            for each in self.world.history.operations
            if each.client == self.index
            and each.node == machine.index
            and each.outcome in (h.STORED, h.FOUND)
        ]


class Prober:
    """An operator who wants to know how each node is, all the time."""

    tenant, lies = "operator", False

    def __init__(self, world: "PlannedWorld", index: int) -> None:
        self.world = world
        self.index = index
        self._request = 0

    def begin(self) -> None:
        world = self.world
        if world.clockwork.now >= world.plan.seconds:
            return
        world.clockwork.after(PROBE_S, self.begin)
        for machine in world.machines:
            if machine.node is not None and not machine.leaving and not machine.paused:
                self._probe(machine)

    def _probe(self, machine: "Machine") -> None:
        world, life, pauses, asked_s = self.world, machine.life, machine.pauses, self.world.clockwork.now
        self._request += 1

        def heard(answer: Message | None) -> None:
            if (machine.life, machine.pauses) != (life, pauses) or machine.leaving or machine.paused:
                return
            took_s = world.clockwork.now - asked_s
            world.counts["status while much is asked"] += 1
            if answer is None or isinstance(answer, Failed) or took_s > PROBED_S_MAX:
                text = f"n{machine.index + 1} was asked for its status, and {took_s:.3f} s later said"
                world.blame("admin", f"{text} {answer}")

        Line(self, machine, heard).ask(Status(self._request), WAITS_S)


class Liar:
    """A connection that says in envelopes what is not so. Of what it asks nothing may ever be done."""

    def __init__(self, world: "PlannedWorld", machine: "Machine", lie: int) -> None:
        self.world = world
        self.client = self
        self.index = 999
        self.tenant, self.lies = "liar", True
        self._machine = machine
        self._life = machine.life
        self._lie = lie
        self._stream = Stream(world.plan.seed, f"liar {machine.index} {lie}")

    def begin(self, after_s: float) -> None:
        self.world.clockwork.after(after_s, self._ask)

    def _ask(self) -> None:
        machine = self._machine
        if machine.node is None or machine.paused or machine.leaving:
            return
        outbox: Outbox = machine.open_client(self)
        count = 2 + self._stream.below(6)
        level, bucket = int(Level.ONE), "default"
        requests = [
            Set(each, bucket, b"hot0", LIE, level, 900, 0, b"", False) for each in range(1, count + 1)
        ]
        said = (
            (1, count - 1, 900, WRITE),
            (1, count + 1, 900, WRITE),
            (2, count, 900, WRITE),
            (1, count, 400, WRITE),
            (1, count, 900, READ),
        )[self._lie % 5]
        self.world.counts["envelope that lies"] += 1
        machine.hear_sealed(outbox, enveloped(encode(list(requests)), *said))

    def carry(self, messages: list[Message]) -> None:
        """It may only be told that it is not let in, or that the node stops."""
        for message in messages:
            refused = isinstance(message, Failed) and message.code == OVERLOADED
            if not (refused or isinstance(message, Goodbye)):
                self.world.blame("envelopes", f"n{self._machine.index + 1} has answered a liar: {message}")

    def heed(self, message: Shed | Credit) -> None:
        """It does not."""

    def room(self) -> int:
        return ROOM_MAX

    @property
    def waits(self) -> bool:
        return False

    def lost(self) -> None:
        self.world.counts["liar shown the door"] += 1
