"""Clients: who wants what of which row, waits for it, and asks again.

A client that hears in time that its write may be applied is told its identity, and may repeat it under that.
One that hears nothing can only repeat its proposal, and so must go on to do, for it may then have two
identities.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from tests.model.registers.decision import Attempt, Kind, Verdict, Wish
from tests.model.registers.operations import Result, Steps, read, write
from tests.model.registers.records import KEYS, Ballot, is_absent, name

if TYPE_CHECKING:
    from tests.model.registers.node import Node
    from tests.model.registers.world import World

DEADLINE_US = 250_000
REPEATS_MAX = 3


class Told(NamedTuple):
    """What a client was told of a write, or of a read (`wish` is None): the identity that was seen."""

    key: int
    wish: Wish | None
    verdict: Verdict
    seen: Ballot | None
    absent: bool
    began: int
    ended: int


class Asking(NamedTuple):
    """A write that a client wants, and what it knows of its earlier tries since it `began`."""

    wish: Wish
    began: int
    repeats: int = 0
    identity: Ballot | None = None
    blind: bool = False


class Client:
    """One after the other, on one row, by way of one node or another. `routed`: how often by the home."""

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.node = number % len(world.nodes)
        self.key = KEYS[number % len(KEYS)]
        self.seen: Ballot | None = None  # what it saw last

    def again(self) -> None:
        self.world.after(self.world.think_us(), self.begin)

    def begin(self) -> None:
        """Nothing more once the world calms down."""
        world = self.world
        if world.is_over:
            return
        if world.now < world.quiet_until:
            world.after(world.quiet_until - world.now + world.random.randrange(50_000), self.begin)
            return
        if world.random.random() < 0.3:
            self.read()
        else:
            self.write(Asking(self.wish(), world.now))

    def where(self) -> "Node":
        world = self.world
        if world.random.random() < world.routed:
            return world.home()
        return world.nodes[
            self.node if world.random.random() < 0.7 else world.random.randrange(len(world.nodes))
        ]

    def wish(self) -> Wish:
        chance, judge = self.world.random, self.world.judge
        value = None if chance.random() < self.world.deleting else chance.randrange(1 << 30)
        proposal = judge.new_proposal()
        if self.seen is not None and chance.random() < 0.5:
            return Wish(self.key, Kind.IF_VERSION, proposal, value, self.seen)
        if chance.random() < 0.4:
            return Wish(self.key, Kind.IF_ABSENT, proposal, value)
        return Wish(self.key, Kind.SET, proposal, value)

    def read(self) -> None:
        node, began = self.where(), self.world.now

        def then(result: Result | None, told: bool) -> None:
            if result is not None:
                self.hear(None, result, began)
            self.again()

        self.wait_for(node, read(node, self.key), then)

    def write(self, asked: Asking) -> None:
        node, wish = self.where(), asked.wish
        attempt = Attempt(wish, asked.identity, sent=asked.identity is not None, blind=asked.blind)
        if asked.identity is not None and wish.kind is Kind.IF_VERSION:
            attempt.named, attempt.meant = True, wish.expected

        def then(result: Result | None, told: bool) -> None:
            if result is not None and result.verdict is not Verdict.UNKNOWN:
                self.hear(wish, result, asked.began)
                self.again()
            elif told and self.is_definite(attempt):
                self.world.counts["contended"] += 1
                self.world.judge.contend(wish)
                self.again()
            else:
                self.world.counts["unknown"] += 1
                self.repeat(asked, attempt, told=told)

        self.wait_for(node, write(node, attempt), then)

    def repeat(self, asked: Asking, attempt: Attempt, *, told: bool) -> None:
        """`told`: there was an answer, with the identity."""
        world = self.world
        if asked.repeats == REPEATS_MAX or world.random.random() < 0.3 or world.is_over:
            self.again()
            return
        blind = self.is_blind(attempt, told=told)
        again = asked._replace(
            repeats=asked.repeats + 1, identity=None if blind else attempt.identity, blind=blind
        )
        world.counts["repeated by proposal" if blind else "repeated by identity"] += 1
        world.after(world.random.choice((1, 20_000, 400_000, 1_000_000)), lambda: self.write(again))

    def is_definite(self, attempt: Attempt) -> bool:
        """Nothing was ever sent that may be accepted."""
        return not attempt.sent and not attempt.blind

    def is_blind(self, attempt: Attempt, *, told: bool) -> bool:
        return attempt.blind or not told

    def wait_for(self, node: "Node", steps: Steps, then: Callable[[Result | None, bool], None]) -> None:
        """`then` is given the result, and whether there was an answer at all. Where the answer is lost, the
        operation may go on for some time, or may have ended in its midst."""
        world, over = self.world, False

        def once(result: Result | None, told: bool) -> None:
            nonlocal over
            if not over:
                over = True
                then(result, told)

        if not node.up:
            once(None, False)
            return
        task = node.run(steps, lambda result: once(result, result is not None))
        lost = world.random.random() < world.losing
        ends = world.random.choice((3_000, 10_000, 2 * DEADLINE_US)) if lost else DEADLINE_US

        def stop() -> None:
            task.over = True
            once(None, not lost)

        world.after(ends, stop)
        if lost:
            world.after(min(ends, DEADLINE_US), lambda: once(None, False))

    def hear(self, wish: Wish | None, result: Result, began: int) -> None:
        world, record = self.world, result.record
        told = Told(self.key, wish, result.verdict, name(record), is_absent(record), began, world.now)
        world.judge.tell(told)
        if not is_absent(record):
            self.seen = name(record)
        elif world.random.random() < 0.5:
            self.seen = None
        kind = "read" if wish is None else result.verdict.value
        world.counts[kind] += 1
        world.counts[f"{kind} in one trip"] += result.one_trip
