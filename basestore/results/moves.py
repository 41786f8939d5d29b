"""Moves: how far partitions have come that are moved from member to member, as the leader has told it; and
what a change would move, before it is asked for.

Owns what these look like to a caller. What a move is `topology` says, which is loaded when it is used. Pure.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, Self

from basestore.errors import BasestoreError, InvalidRequest
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Names
from basestore.protocol.membership import MoveState, MovesTold, ReadMoves, TopologyTold
from basestore.protocol.operator import NEVER, Survey
from basestore.repair.seats import Stage, unpacked
from basestore.results.answers import SENSELESS, error_of, senseless
from basestore.results.cluster_view import SURVEY_MS, Following, Scope
from basestore.results.nodes import NodeState

if TYPE_CHECKING:
    from basestore.topology.changes import Change
    from basestore.topology.topology import Topology

WAITS: Final = "waits"  # the stage of a move that is to begin yet
GOING: Final = ("draining", "dead")  # standings of members that are to leave


@dataclass(frozen=True, slots=True)
class Move:
    """A partition that is being moved, or is to be. `stage`: waits, fill or joint, for `stage_s` seconds by
    now; `replicas`: who holds it, `to`: who is to; `records`: so many it has, and `left` are lacking yet
    where most are, None where that is not known; `waits_for`: the members for whom it waits."""

    partition: int
    stage: str
    stage_s: float
    replicas: tuple[str, ...]
    to: tuple[str, ...]
    records: int | None
    left: int | None
    waits_for: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ClusterMoves:
    """All moves, at an epoch. `unplanned`: what is to move is to be planned yet. `leader`: whose word it is;
    None where the node that was asked knows of none, and not for whom moves wait."""

    epoch: int
    leader: str | None
    unplanned: bool
    moves: tuple[Move, ...]

    @property
    def done(self) -> bool:
        """Nothing moves, nor is to."""
        return not (self.moves or self.unplanned)

    def as_json(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "leader": self.leader,
            "unplanned": self.unplanned,
            "moves": [move.as_json() for move in self.moves],
        }


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """A partition that others are to hold. `records`: about so many it has; None where that is not known."""

    partition: int
    replicas: tuple[str, ...]
    to: tuple[str, ...]
    records: int | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """Replicas that go from one member to another. `source`: who gives them up, or None, where there is to be
    one more; `to`: who is given them, or None, where there is to be one less. `records` and `bytes`: about so
    many are copied; None where that is not known."""

    source: str | None
    to: str | None
    partitions: int
    records: int | None
    bytes: int | None

    def as_json(self) -> dict[str, Any]:
        return {
            "from": self.source,
            "to": self.to,
            "partitions": self.partitions,
            "records": self.records,
            "bytes": self.bytes,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change would move, at an epoch. `seats`: replicas that come to a member that has none of that
    partition; `held`: of each member, how many partitions it holds, and is to hold; `remark`: what an
    operator should know of it, empty if nothing. `record_bytes`: of a record, on average; None where that is
    not known."""

    epoch: int
    moves: tuple[PlannedMove, ...]
    seats: int
    held: dict[str, tuple[int, int]]
    remark: str
    record_bytes: int | None = None

    @property
    def flows(self) -> tuple[Flow, ...]:
        """From whom to whom."""
        carried: dict[tuple[str | None, str | None], list[int | None]] = {}
        for move in self.moves:
            goes = [name for name in move.replicas if name not in move.to]
            comes = [name for name in move.to if name not in move.replicas]
            for pair in zip_longest(goes, comes):
                carried.setdefault(pair, []).append(move.records if pair[1] is not None else 0)
        return tuple(
            Flow(*pair, len(records), _sum(records), self._bytes(_sum(records)))
            for pair, records in sorted(carried.items(), key=lambda item: tuple(map(str, item[0])))
        )

    @property
    def records(self) -> int | None:
        """About so many are copied, in all; None where that is not known of one of the partitions."""
        return _sum([flow.records for flow in self.flows])

    @property
    def bytes(self) -> int | None:
        """The same in bytes."""
        return self._bytes(self.records)

    def _bytes(self, records: int | None) -> int | None:
        if not records:
            return records
        return None if self.record_bytes is None else records * self.record_bytes

    def weighed(self, records: Mapping[int, int], states: Iterable[NodeState]) -> "Plan":
        """With what nodes know of what they hold: records by partition, and how large those are."""
        moves = tuple(replace(move, records=records.get(move.partition)) for move in self.moves)
        sizes = [(int(size), state.records or 0) for state in states if (size := _size(state))]
        held = sum(count for _, count in sizes)
        mean = round(sum(size * count for size, count in sizes) / held) if held else None
        return replace(self, moves=moves, record_bytes=mean)

    def as_json(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "seats": self.seats,
            "records": self.records,
            "bytes": self.bytes,
            "flows": [flow.as_json() for flow in self.flows],
            "moves": [asdict(move) for move in self.moves],
            "held": {name: {"now": now, "then": then} for name, (now, then) in self.held.items()},
            "remark": self.remark,
        }


def _sum(counts: Sequence[int | None]) -> int | None:
    """None where one of them is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _size(state: NodeState) -> str:
    """Of its records, on average, in bytes, as a node says it; empty where it does not."""
    size = state.facts.get("record bytes", "")
    return size if size.isascii() and size.isdecimal() else ""


class Counting(Following[dict[int, int]]):
    """How many records each partition has, by what its replicas say: one round of questions, and whatever is
    known by its end. A replica that is being filled has fewer."""

    @classmethod
    def until(cls, deadline_s: float, now_s: float) -> Self:
        """Of all partitions; half of the time that is left at most."""
        return cls(Scope("default", b"", -1), (deadline_s - now_s) / 2, now_s)

    def request(self, request: int) -> Survey:
        """The next request."""
        bucket, key, partition = self._scope
        first = self.cluster_view.first
        return Survey(request, bucket, key, partition, first, NEVER, False, [], SURVEY_MS)

    def miss(self, error: BasestoreError) -> None:
        """None came: what is not known by now will not be."""
        self._deadline = -math.inf

    def result(self, now_s: float) -> dict[int, int] | None:
        """By partition."""
        view = self.cluster_view
        if now_s < self._deadline and not (view.heard and not view.first):
            return None
        records: dict[int, int] = {}
        for node in view.nodes.values():
            for partition, holding in node.holdings.items():
                records[partition] = max(records.get(partition, 0), holding.records)
        return records

    @property
    def progress(self) -> tuple[int, int]:
        """Partitions that were heard of, and all."""
        return len(self.cluster_view.partitions), self.cluster_view.total


def read_moves(timeout_ms: int) -> Callable[[int], ReadMoves]:
    """By the id that it gets."""
    return lambda request: ReadMoves(request, timeout_ms)


def cluster_moves(answer: Message, names: Names) -> ClusterMoves:
    """Read the answer to a ReadMoves; raises the error it stands for."""
    if not isinstance(answer, MovesTold):
        raise error_of(answer)
    try:
        leader = names.get(answer.leader) if answer.leader >= 0 else None
        moves = tuple(_move(row, names) for row in answer.rows)
        return ClusterMoves(answer.epoch, leader, answer.unplanned, moves)
    except SENSELESS as error:
        raise senseless(answer) from error


def _move(row: MoveState, names: Names) -> Move:
    stage = Stage(row.stage)
    return Move(
        row.partition,
        WAITS if stage is Stage.STILL else stage.name.lower(),
        row.stage_ms / 1e3,
        _named(row.old, names),
        _named(row.new, names),
        row.records if row.records >= 0 else None,
        row.left if row.left >= 0 else None,
        _named(row.awaited, names),
    )


def _named(numbers: bytes, names: Names) -> tuple[str, ...]:
    return tuple(names.get(number, f"member {number}") for number in unpacked(numbers))


# --- what is asked for ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MemberChange:
    """A change of who holds what, with members by name. Made by the functions below."""

    word: str
    name: str = ""
    by: str = ""
    dead: bool = False
    partitions: tuple[int, ...] = ()
    replicas: int = 0
    address: str = ""
    zone: str = ""
    weight: int = 1

    def entry(self, topology: "Topology") -> "Change":
        """As an entry of the log has it; InvalidRequest for a name that no member has."""
        from basestore.topology import changes

        if self.word == "rebalance":
            return changes.Rebalance()
        if self.word == "cancel":
            return changes.CancelMoves(list(self.partitions))
        if self.word == "replication":
            return changes.SetReplication(self.replicas)
        if self.word == "add":
            return changes.AddMember(self.name, self.address, self.zone, self.weight, b"")
        number = _number(topology, self.name)
        if self.word == "drain":
            return changes.DrainMember(number)
        if self.word == "remove":
            return changes.RemoveMember(number)
        return changes.ReplaceMember(number, _number(topology, self.by), self.dead)


def added(name: str, address: str, *, zone: str = "", weight: int = 1) -> MemberChange:
    """A member joins; InvalidRequest for what is no text, or no whole number."""
    return MemberChange("add", _text(name), address=_text(address), zone=_text(zone), weight=_whole(weight))


def drained(name: str) -> MemberChange:
    """A member gives up all that it holds, and leaves."""
    return MemberChange("drain", _text(name))


def removed(name: str) -> MemberChange:
    """A member is dead."""
    return MemberChange("remove", _text(name))


def replaced(name: str, by: str, *, dead: bool) -> MemberChange:
    """Another takes the place of a member."""
    return MemberChange("replace", _text(name), _text(by), dead)


def rebalanced() -> MemberChange:
    """Who holds what is planned anew."""
    return MemberChange("rebalance")


def cancelled(partitions: Iterable[int]) -> MemberChange:
    """These partitions stay, or all; InvalidRequest for what is no number of one."""
    return MemberChange("cancel", partitions=tuple(map(_whole, partitions)))


def replicated(replicas: int) -> MemberChange:
    """Each partition has so many replicas; InvalidRequest."""
    return MemberChange("replication", replicas=_whole(replicas))


def _text(name: str) -> str:
    if not isinstance(name, str):
        raise InvalidRequest(f"name, address and zone of a member are text (str), not {type(name).__name__}")
    return name


def _whole(given: int) -> int:
    if type(given) is not int:
        raise InvalidRequest(f"{given!r:.80} is not a whole number")
    return given


def _number(topology: "Topology", name: str) -> int:
    """Of the member of that name that has not left."""
    present = {each.name: each.number for each in topology.present}
    if name not in present:
        raise InvalidRequest(f"no member is called {name!r:.80}: the cluster has {', '.join(present)}")
    return present[name]


def topology_of(answer: Message, _: Names) -> "Topology":
    """What a TopologyTold says; raises the error it stands for."""
    from basestore.topology.topology import Topology

    if not isinstance(answer, TopologyTold):
        raise error_of(answer)
    try:
        return Topology.decode(answer.topology)
    except SENSELESS as error:
        raise senseless(answer) from error


def plan_of(topology: "Topology", wanted: MemberChange) -> Plan:
    """What would move if this change were made now; InvalidRequest where it would be refused."""
    from basestore.topology.balance import plan, zones_short
    from basestore.topology.entries import UNNAMED, Suggestion, encode_entry
    from basestore.topology.judgement import judge

    said = Suggestion(wanted.entry(topology), UNNAMED, 0, 0)
    judged = judge(topology, topology.epoch + 1, encode_entry(said))
    if judged.outcome is not None and judged.outcome.error:
        raise InvalidRequest(judged.outcome.error)
    after = judged.topology
    goals = plan(after) if after.unplanned else after.plan
    now = [seats.new for seats in topology.seats]
    then = [goals.get(at, seats.new) or seats.old for at, seats in enumerate(after.seats)]
    names = {each.number: each.name for each in after.members}
    moves = tuple(
        PlannedMove(at, tuple(names[each] for each in old), tuple(names[each] for each in new))
        for at, (old, new) in enumerate(zip(now, then, strict=True))
        if set(old) != set(new)
    )
    held = {
        each.name: (sum(each.number in of for of in now), sum(each.number in of for of in then))
        for each in after.present
    }
    seats = sum(len(set(new) - set(old)) for old, new in zip(now, then, strict=True))
    return Plan(topology.epoch, moves, seats, held, zones_short(after))
