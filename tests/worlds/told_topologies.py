"""What a node answers to those who ask what its cluster is, a cluster of three with a log of some changes;
and a command that asks it."""

from typing import Any

from click.testing import CliRunner, Result

from basestore.cli import group
from basestore.protocol.codec import Message
from basestore.protocol.membership import (
    ChangeTopology,
    HistoryRow,
    HistoryTold,
    MoveState,
    MovesTold,
    ReadHistory,
    ReadMoves,
    ReadTopology,
    TopologyChanged,
    TopologyTold,
)
from basestore.topology.entries import decode_entry
from basestore.topology.judgement import apply
from basestore.topology.topology import Topology
from tests.worlds.fakes import FakeNode

GROUP = bytes.fromhex("1a2b3c4d") + bytes(12)


def told(request: ReadTopology, of: Topology, **others: Any) -> TopologyTold:
    """By member 1, which heard of the leader, member 2, a moment ago; it is not linked with 3."""
    fields = {"topology": of.encode(), **others}
    voters = [each.number for each in of.members]
    epochs = [1, of.epoch, 2, of.epoch - 1]
    return TopologyTold(request.id, b"", GROUP, 2, 1500, 3, voters, [], epochs)._replace(**fields)


class Answers:
    """A node that answers by this topology, and decides what it is asked for; `asked`: all that was. `moves`:
    what it says of moves, one answer after the other; the last one stands, and without any nothing moves."""

    def __init__(self, topology: Topology, **others: Any) -> None:
        self.topology, self._others = topology, others
        texts = {1: "the voters are members 1", 2: "create bucket 'carts'", 3: "drop bucket 'carts'"}
        self.rows = [HistoryRow(at, 1_760_000_000_000 * (at > 1), text) for at, text in texts.items()]
        self.asked: list[Any] = []
        self.moves: list[list[MoveState]] = []

    def __call__(self, request: Any) -> Message | None:
        self.asked.append(request)
        if isinstance(request, ReadTopology):
            return told(request, self.topology, **self._others)
        if isinstance(request, ReadHistory):
            rows = [row for row in self.rows if row.epoch > request.after][: request.limit]
            return HistoryTold(request.id, self.rows[0].epoch, self.rows[-1].epoch, rows)
        if isinstance(request, ChangeTopology):
            epoch = self.topology.epoch + 1
            self.topology = apply(self.topology, epoch, request.entry)
            outcome = self.topology.outcomes[decode_entry(request.entry).id]
            return TopologyChanged(request.id, outcome.epoch, outcome.error, outcome.number)
        if isinstance(request, ReadMoves):
            moves = (self.moves.pop(0) if len(self.moves) > 1 else self.moves[0]) if self.moves else []
            return MovesTold(request.id, self.topology.epoch, 2, False, moves)
        return None


def ask(node: FakeNode, *words: str) -> Result:
    """What becomes of the command of these words, given to this node."""
    return CliRunner().invoke(group, ["-e", node.endpoint, *words], standalone_mode=False)
