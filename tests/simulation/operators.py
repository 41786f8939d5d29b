"""Operators: who asks what operators ask, while the clients ask what clients do.

    converged       whether all that was written by now is on all replicas, for good
    explain KEY     why a key is as it is
    replay --late   deliver hints, and decide those that came too late

and in the end whether writes are everywhere of which there is a receipt; and who accept what may be lost.

Surveys and what follows from their answers are the product's (`results/`), driven as its client does. A proof
is judged on the spot (`proofs.py`), and held against the disks from then on.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from basestore.cluster.outbox import Outbox
from basestore.errors import BasestoreError, ConnectionLost
from basestore.intake.caller import ROOM_MAX
from basestore.protocol.client import Credit, Failed, Shed, Written
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Goodbye, Names
from basestore.protocol.operator import Explain, Replay, Status
from basestore.results.cluster_view import SURVEY_MS, Following, Scope
from basestore.results.convergence import Convergence, Proving
from basestore.results.loss import AcceptedLoss, Accepting
from basestore.results.readers import receipt
from basestore.results.weighing import explanation
from tests.simulation.clockwork import Stream
from tests.simulation.history import Operation

if TYPE_CHECKING:
    from tests.simulation.callers import Prober
    from tests.simulation.governors import Governor
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

T = TypeVar("T")
EVERY_S = 0.8
PROVING_S = 4.0
ACCEPT_S = 10.0
GRACE_S = 0.5
Heard = Callable[[Message | None], None]


class Line:
    """An operator's connection to a machine: one question, one answer."""

    def __init__(self, operator: "Operator | Prober | Governor", machine: "Machine", heard: Heard) -> None:
        self.client = operator
        self._machine = machine
        self._life = machine.life
        self._heard: Heard | None = heard
        self._outbox: Outbox = machine.open_client(self)

    def ask(self, message: Message, timeout_s: float) -> None:
        world, machine = self.client.world, self._machine
        arguments = machine.hear_client, self._outbox, self._life, message
        world.clockwork.after(world.client_delay(), machine.enter, *arguments)
        world.clockwork.after(timeout_s + GRACE_S, self._end, None)

    def carry(self, messages: list[Message]) -> None:
        """The answer leaves the node, perhaps behind a goodbye."""
        world = self.client.world
        for answer in messages:
            if not isinstance(answer, Goodbye):
                world.clockwork.after(world.client_delay(), self._end, answer)

    def heed(self, message: Shed | Credit) -> None:
        """It asks for one thing only."""

    def room(self) -> int:
        """For answers: always enough."""
        return ROOM_MAX

    @property
    def waits(self) -> bool:
        """Whether it lacks an answer."""
        return self._heard is not None

    def lost(self) -> None:
        """The machine is gone."""
        self.client.world.clockwork.after(0.0, self._end, None)

    def _end(self, answer: Message | None) -> None:
        heard, self._heard = self._heard, None
        if heard is not None:
            heard(answer)


def keeps_late(machine: "Machine") -> bool:
    """Whether it keeps hints that came too late."""
    return machine.node is not None and any(pile.late for pile in machine.node.hints.summary())


class Operator:
    """One of them. It asks again a while after it has been answered."""

    tenant, lies = "", False

    def __init__(self, world: "PlannedWorld", index: int) -> None:
        self.world = world
        self.index = index
        self._stream = Stream(world.plan.seed, f"operator {index}")
        self._request = 0
        self.proven = self.accepted = False  # what came of the last proof, and acceptance
        self.obstacles: list[tuple[str, str]] = []

    def begin(self) -> None:
        """Ask something, unless the clients' time is over."""
        world = self.world
        if world.clockwork.now < world.plan.seconds:
            wait_s = EVERY_S * (20 if world.resting else 1)
            world.clockwork.after(self._stream.exponential(wait_s), self.ask_any)

    def ask_any(self) -> None:
        machine = self._stream.pick(self.world.roster.members)
        keepers = [each for each in self.world.roster.members if keeps_late(each)]
        if keepers and self._stream.chance(0.7):
            machine = self._stream.pick(keepers)
        what = self._stream.weighted([(self.prove, 3.0), (self.explain, 1.0), (self.replay, 2.0)])
        if machine.node is None:
            self.begin()
        else:
            what(machine, self.begin)

    def _next(self) -> int:
        self._request += 1
        return self._request

    def _ask(self, machine: "Machine", message: Message, timeout_s: float, heard: Heard) -> None:
        if self.world.recording:
            self.world.say(machine.index, "an operator asks", repr(message))
        Line(self, machine, heard).ask(message, timeout_s)

    def replay(self, machine: "Machine", after: Callable[[], None]) -> None:
        """Hints are to be delivered, and late ones decided."""
        self.world.counts["replay --late"] += 1
        self._ask(machine, Replay(self._next(), late=True), 1.0, lambda answer: after())

    def take_as_is(self, machine: "Machine") -> None:
        """Its store is to be taken as it is, though it may be a copy."""
        self.world.counts["repair --as-is"] += 1
        self.world.log_watch.vouched(machine)
        self._ask(machine, Status(self._next(), True), 1.0, lambda answer: None)

    def explain(self, machine: "Machine", after: Callable[[], None]) -> None:
        """Why a key is as it is."""
        keys = sorted({(op.bucket, op.key) for op in self.world.history.operations if op.kind != "scan"})
        if not keys:
            after()
            return
        bucket, key = self._stream.pick(keys)

        def heard(answer: Message | None) -> None:
            if answer is not None and not isinstance(answer, Failed):
                self.world.counts["explained"] += 1
                told = explanation(answer, bucket, key.encode(), self.world.called)
                winner = told.winner.encode() if told.winner is not None else b""
                self.world.witness.proofs.explained(bucket, key, told.settled, winner)
            after()

        self._ask(machine, Explain(self._next(), bucket, key.encode(), 1000), 1.0, heard)

    def prove(self, machine: "Machine", after: Callable[[], None], timeout_s: float = PROVING_S) -> None:
        """Whether all has converged."""
        world = self.world
        begun_s = world.clockwork.now
        self.proven = False

        def done(result: Convergence) -> None:
            self.proven = result.proven
            self.obstacles = [(obstacle.kind, obstacle.text) for obstacle in result.obstacles]
            world.counts["converged: proven" if result.proven else "converged: not proven"] += 1
            if result.proven:
                world.witness.proofs.proven(result.stamp, begun_s, bool(result.unheard))

        self._follow(machine, Proving(Scope("", b"", -1), None, timeout_s, begun_s), done, after)

    def prove_receipt(
        self, machine: "Machine", operation: Operation, written: Written, after: Callable[[], None]
    ) -> None:
        """Whether the write of a receipt is everywhere, for good."""
        world = self.world
        names = Names(world.called.items(), world.cluster.id)
        told = receipt(written, operation.level, names)

        def done(result: Convergence) -> None:
            world.counts["receipt: proven" if result.proven else "receipt: not proven"] += 1
            if result.proven:
                world.witness.proofs.receipted(operation, written.version)

        begun_s = world.clockwork.now
        self._follow(machine, Proving(Scope("", b"", -1), told, PROVING_S, begun_s), done, after)

    def accept(self, machine: "Machine", after: Callable[[], None]) -> None:
        """What may be lost is accepted."""
        world = self.world
        self.accepted = False

        def done(result: AcceptedLoss) -> None:
            self.accepted = result.complete
            if result.complete:
                world.witness.proofs.accepted()
            world.counts["repair --accept-loss"] += 1

        self._follow(machine, Accepting(Scope("", b"", -1), ACCEPT_S, world.clockwork.now), done, after)

    def _follow(
        self, machine: "Machine", following: Following[T], done: Callable[[T], None],
        after: Callable[[], None],
    ) -> None:  # fmt: skip
        """Ask as long as there is no result."""
        world = self.world

        def ask() -> None:
            sent_s = world.clockwork.now
            if machine.node is None:
                after()
                return
            survey = following.request(self._next())
            self._ask(machine, survey, SURVEY_MS / 1e3, lambda answer: heard(answer, sent_s))

        def heard(answer: Message | None, sent_s: float) -> None:
            try:
                if answer is None:
                    following.miss(ConnectionLost("no answer came"))
                else:
                    following.hear(answer, Names(world.called.items(), world.cluster.id), sent_s)
            except BasestoreError:
                after()
                return
            result = following.result(world.clockwork.now)
            if result is None:
                world.clockwork.after(following.pause_s, ask)
                return
            done(result)
            after()

        ask()
