"""What a node answers to those who ask what its cluster is, a cluster of three with a log of some changes;
and a command that asks it."""

from typing import Any

from click.testing import CliRunner, Result

from basestore.cli import group
from basestore.protocol.codec import Message, encode
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
from basestore.protocol.operator import (
    COUNTS,
    NEVER,
    Fact,
    Inspected,
    NodeStatus,
    PartitionRow,
    Status,
    Survey,
    Surveyed,
    Told,
    Unheard,
)
from basestore.topology.entries import decode_entry
from basestore.topology.judgement import apply
from basestore.topology.topology import Topology
from tests.worlds.fakes import FakeNode

INSPECTED = Inspected(1, "up", "", "sync", "", 1, 1, 1, [0] * len(COUNTS), [], [], [], [], [], [], 0)
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
        self.records: dict[int, int] = {}  # of each of its partitions, by member

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
        if isinstance(request, Survey):
            return self.surveyed(request)
        if isinstance(request, Status):
            return NodeStatus(request.id, [Fact(*each) for each in self.facts().items()])
        if isinstance(request, ReadMoves):
            moves = (self.moves.pop(0) if len(self.moves) > 1 else self.moves[0]) if self.moves else []
            return MovesTold(request.id, self.topology.epoch, 2, False, moves)
        return None

    def facts(self) -> dict[str, str]:
        """What it says of itself, as far as it goes by this topology."""
        members = {each.number: each for each in self.topology.members}
        facts = {"node": "n1", "state": "up", "metadata role": "follower", "metadata term": "3"}
        for number, count in self.topology.stranded.items():
            each = members[number]
            facts[f"metadata stranded {each.name}"] = f"{each.standing.value} {count}"
        return facts

    def surveyed(self, request: Survey) -> Surveyed:
        """Every member has told its `records` of its partitions, or does not answer."""
        told, seats = [], self.topology.seats
        for number in self.records:
            rows = [
                PartitionRow(at, self.records[number], 0, NEVER, NEVER, bytes(8))
                for at, of in enumerate(seats)
                if number in of.old
            ]
            said = INSPECTED._replace(partitions=rows)
            told.append(Told(number, encode([said])))
        unheard = [Unheard(e.number, "down") for e in self.topology.members if e.number not in self.records]
        return Surveyed(request.id, len(seats), NEVER, told, unheard)


def ask(node: FakeNode, *words: str) -> Result:
    """What becomes of the command of these words, given to this node."""
    return CliRunner().invoke(group, ["-e", node.endpoint, *words], standalone_mode=False)
