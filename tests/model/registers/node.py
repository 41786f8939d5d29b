"""Node: a member with its store, its place in the topology, and the operations that it coordinates.

What it answers leaves when what it says is durable. A crash takes back what was not, and ends all that was
under way; another store begins with nothing. A request is served only under the entry that its sender meant,
and only by a store that counts.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from tests.model.registers.exchange import Exchanges
from tests.model.registers.messages import (
    Accept,
    Answer,
    Asked,
    Finished,
    Learn,
    Message,
    Moved,
    Peek,
    Prepare,
    Refused,
    Request,
)
from tests.model.registers.operations import Kept, Result, Steps, finish
from tests.model.registers.records import Ballot, Record
from tests.model.registers.rounds import Rounds, Task
from tests.model.registers.store import Known, Store
from tests.model.registers.topology import Entry

if TYPE_CHECKING:
    from tests.model.registers.world import World

GIVEN_UP_US = 300_000  # finishing is begun anew


class Report(NamedTuple):
    """What a member tells of its store; it stays so under that entry."""

    store: int
    since: int
    fit: bool
    met: frozenset[int]
    finished: bool


class Node:
    def __init__(self, world: "World", number: int, skew_us: int) -> None:
        self.world = world
        self.number = number
        self.skew_us = skew_us
        self.up = True
        self.store = Store(world.new_store())
        self.disk = self.store.image()
        self.forget()

    def forget(self) -> None:
        """What a crash takes beside what was not durable."""
        self.origin = self.world.new_origin(self.number)
        self.last = 0
        self.store = self.disk.image()
        self.store.owe()
        self.rounds = Rounds(self)
        self.exchanges = Exchanges(self)
        self.kept: dict[int, Kept] = {}
        self.heard: dict[int, Finished] = {}
        self.told = -1  # the entry under which it told that it had finished
        self.finishing: set[int] = set()
        self.accepted_at: dict[Ballot, int] = {}
        self.waiting: list[Callable[[], None]] = []  # for what is to be durable
        self.syncing = False

    @property
    def entry(self) -> Entry:
        return self.world.log[self.store.epoch]

    def clock(self) -> int:
        return self.world.now + self.skew_us

    def stamp(self, above: Ballot | None = None) -> Ballot:
        self.last = max(self.last + 1, self.clock(), above.stamp + 1 if above else 0)
        return Ballot(self.last, self.origin)

    def observe(self, ballot: Ballot) -> None:
        self.last = max(self.last, ballot.stamp)

    # What is durable, and what leaves.

    def send(self, to: int, message: Message) -> None:
        self.world.send(self.number, to, self.store.epoch, message)

    def reply(self, to: int, message: Message) -> None:
        """Once all that is known here now is durable."""
        epoch = self.store.epoch
        self.when_durable(lambda: self.world.send(self.number, to, epoch, message))

    def when_durable(self, then: Callable[[], None]) -> None:
        self.waiting.append(then)
        if not self.syncing:
            self.syncing = True
            self.world.after(self.world.sync_us(), self.alive(self.sync))

    def alive(self, act: Callable[[], None]) -> Callable[[], None]:
        """Unless there was a crash in between."""
        origin = self.origin
        return lambda: act() if self.up and origin == self.origin else None

    def sync(self) -> None:
        self.disk, self.syncing = self.store.image(), False
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then()

    def crash(self) -> None:
        self.up = False
        self.rounds.end()
        self.forget()

    def wipe(self) -> None:
        """Another store, which knows nothing."""
        self.crash()
        self.disk = Store(self.world.new_store())
        self.store = self.disk.image()

    # The topology.

    def catch_up(self, epoch: int) -> None:
        since = self.entry.since
        for entry in self.world.log[self.store.epoch + 1 : epoch + 1]:
            self.store.enter(entry, self.number)
        if self.entry.since != since:
            self.exchanges.end()
            self.heard = {who: word for who, word in self.heard.items() if word.since >= self.entry.since}
            self.rounds.begin_anew()
        self.when_durable(self.tell_finished)

    def counts(self) -> bool:
        """Whether this is the store that the topology means, and it is not barred."""
        entry = self.entry
        bound = entry.stores.get(self.number) == self.store.id
        return bound and self.number in entry.acceptors and self.number not in entry.barred

    def is_meant(self, epoch: int) -> bool:
        """Whether who had told this epoch means the acceptors that there are."""
        return epoch >= self.entry.since

    # Messages.

    def receive(self, sender: int, epoch: int, message: Message) -> None:
        if epoch > self.store.epoch:
            self.catch_up(epoch)
        match message:
            case Asked():
                self.asked(sender, epoch, message)
            case Answer():
                self.rounds.hear(sender, message)
            case Learn():
                if self.is_meant(epoch) and self.counts():
                    self.store.learn(message.key, message.ballot)
                    self.tell_finished()
            case Finished():
                self.heard[sender] = message
            case _:
                self.exchanges.receive(sender, message)

    def asked(self, sender: int, epoch: int, asked: Asked) -> None:
        if not self.is_meant(epoch):
            self.reply(sender, Answer(asked.number, Moved()))
        elif self.counts():
            self.reply(sender, Answer(asked.number, self.answer(asked.request)))

    def answer(self, request: Request) -> Known | Refused:
        store = self.store
        match request:
            case Prepare(key, ballot):
                said = store.prepare(key, ballot)
                return said if isinstance(said, Known) else Refused(said)
            case Accept(key, record, following):
                refused = store.accept(key, record, following)
                if refused is not None:
                    return Refused(refused)
                self.note(key, record)
                return store.known(key)
            case Peek(key):
                return store.known(key)

    def note(self, key: int, record: Record) -> None:
        """The judge counts it once it is durable."""
        self.accepted_at[record.ballot] = self.world.now
        since = self.entry
        self.when_durable(lambda: self.world.judge.accept(key, record, self.number, since))

    # What it does by itself.

    def tell_finished(self) -> None:
        """To all that compare the partition with it, when it becomes so."""
        if self.store.seated and self.told != self.store.since and self.store.has_finished():
            self.told = self.store.since
            for member in self.entry.members - {self.number}:
                self.say_finished(member)

    def linked(self, member: int) -> None:
        """A new link."""
        if self.told == self.store.since and member in self.entry.members:
            self.say_finished(member)

    def say_finished(self, member: int) -> None:
        self.reply(member, Finished(self.store.id, self.told))

    def sweep(self) -> None:
        """Finishes what may otherwise stay accepted for ever."""
        for key, row in self.store.unlearned():
            assert row.accepted is not None
            old = self.world.now - self.accepted_at.get(row.accepted.ballot, 0) > self.world.old_us
            if self.store.seated and key not in self.finishing and (key in self.store.owed or old):
                self.finishing.add(key)
                self.world.counts["finished by who held it"] += 1
                task = self.run(finish(self, key, own=True), partial(self.finished, key))
                self.world.after(GIVEN_UP_US, task.give_up)

    def finished(self, key: int, result: Result | None) -> None:
        self.finishing.discard(key)
        if result is not None and result.record is not None:
            self.store.take(key, result.record)
            self.tell_finished()

    def tend(self) -> None:
        """Now and then."""
        if self.store.seated and self.store.fit:
            self.store.close(self.clock() - self.world.lag_us)
        self.store.recover(self.number, self.entry)
        self.store.forget_promises()
        for key, record in self.store.purge():
            self.world.judge.purge(key, record)

    def report(self) -> Report:
        """By what is durable."""
        disk = self.disk
        entry = self.world.log[disk.epoch]
        return Report(disk.id, disk.since, disk.fit, frozenset(disk.met(entry)), disk.has_finished())

    def run(self, steps: Steps, then: Callable[[Result | None], None]) -> Task:
        """`then` is called once, with None if it was given up."""
        return self.rounds.run(steps, then)
