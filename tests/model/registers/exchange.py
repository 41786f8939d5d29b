"""Exchange: two members compare what they have learned, and hold the same afterwards.

Syn brings the snapshot of who opens, Merged that of the other, Certified ends it. Each side raises its closed
stamp, takes its snapshot, and only then merges; all that is told is durable before. It proves that the other
had finished only if that was heard before the exchange began: links are ordered, so then the snapshot is
later.
"""

from typing import TYPE_CHECKING, NamedTuple

from tests.model.registers.messages import Certified, Finished, Merged, Message, Syn
from tests.model.registers.store import Snapshot

if TYPE_CHECKING:
    from tests.model.registers.node import Node


class Half(NamedTuple):
    """What one side knows of an exchange."""

    peer: int
    mine: Snapshot
    finished: bool
    theirs: Snapshot | None = None


class Exchanges:
    """All of one node."""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self.number = 0
        self.opened: dict[int, Half] = {}
        self.entered: dict[tuple[int, int], Half] = {}

    def end(self) -> None:
        self.opened.clear()
        self.entered.clear()

    def open(self, peer: int) -> None:
        node = self.node
        if not node.store.seated or peer not in node.entry.members:
            return
        self.number += 1
        half = self.half(peer)
        self.opened = {number: each for number, each in self.opened.items() if each.peer != peer}
        self.opened[self.number] = half
        node.reply(peer, Syn(self.number, half.mine))

    def half(self, peer: int) -> Half:
        node = self.node
        node.tend()
        word = Finished(node.entry.stores.get(peer, -1), node.store.since)
        return Half(peer, node.store.snapshot(), self.has_heard(peer, word))

    def has_heard(self, peer: int, word: Finished) -> bool:
        return self.node.heard.get(peer) == word

    def receive(self, sender: int, message: Message) -> None:
        match message:
            case Syn(number, theirs):
                if self.is_with(sender, theirs):
                    half = self.half(sender)._replace(theirs=theirs)
                    self.entered[sender, number] = half
                    self.node.store.merge(theirs)
                    self.node.reply(sender, Merged(number, half.mine))
            case Merged(number, theirs):
                if number in self.opened and self.is_with(sender, theirs):
                    half = self.opened.pop(number)
                    self.node.store.merge(theirs)
                    self.certify(half._replace(theirs=theirs))
                    self.node.reply(sender, Certified(number))
            case Certified(number):
                if (sender, number) in self.entered:
                    self.certify(self.entered.pop((sender, number)))
        self.node.tell_finished()

    def is_with(self, peer: int, theirs: Snapshot) -> bool:
        """Both are of the same entry, and the stores that it means."""
        node = self.node
        same = theirs.since == node.store.since and node.entry.stores.get(peer) == theirs.store
        return same and node.store.seated

    def certify(self, half: Half) -> None:
        node, store = self.node, self.node.store
        assert half.theirs is not None
        store.certify(half.peer, half.mine, half.theirs, finished=half.finished)
        store.recover(node.number, node.entry)
        store.settle(node.number, node.entry)
        node.world.counts["certificate"] += 1
        node.world.judge.look_at_stable(node)
