"""Cluster view: what all members of a cluster say of its partitions, put together by a client.

A client asks one node for a survey; that node asks all members (scatter-gather), and answers with a page of
partitions at a time. Of each member and partition what was heard last counts. A member that does not answer
any more is unheard, and what it said before no longer counts. `Convergence` and `Repair` are worked out of a
view, each by a `Following`, which says what to ask next until there is a result. An `Obstacle` is what stands
in the way of it.

Members tell ages ("that exchange began 300 ms ago"), for their clocks and this one differ. An age is taken
off the moment at which the request was sent: that is never too late a moment, so that nothing that was begun
before the call counts as begun after it.

Pure: moments of the client's clock are arguments. Refuses to judge: what the view means for a proof or a
repair is `convergence.py` and `repair.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from basestore.errors import BasestoreError
from basestore.protocol.anti_entropy import LossRow
from basestore.protocol.codec import Message, decode
from basestore.protocol.handshake import Names
from basestore.protocol.limits import ProtocolError
from basestore.protocol.operator import NEVER, PAGE_PARTITIONS, Inspected, Survey, Surveyed
from basestore.repair.version import COUNTER_BITS
from basestore.results.answers import SENSELESS, error_of, senseless
from basestore.results.receipts import Writes

SURVEY_MS = 2000  # in which members have to answer one page
PAUSE_S = 0.25
_KEEPER_SILENT = "the node that keeps the deferred write does not answer"
_KEEPER_GONE = (
    "the node that kept the deferred write has lost its store since: what became of the write is not known. "
    "Read its key to see whether it is there"
)

T = TypeVar("T")


class Scope(NamedTuple):
    """Which partitions a survey is about: that of a key, if there is one, or this one, or, if it is -1,
    all."""

    bucket: str
    key: bytes
    partition: int


class Cause(NamedTuple):
    """Why something is not proven: kind and nodes as in `Obstacle`."""

    kind: str
    nodes: tuple[str, ...]
    text: str
    since_ms: int | None = None


class Side(NamedTuple):
    """What one replica of a partition says of its proofs with another.

    closed    the stamp it enforced in their newest certificate, 0 when there is none
    made_ms   when that was made, by its clock
    begun_s   not before this moment of the client's clock the last certified exchange was begun
    checked   whether that was after its last scrub had ended
    """

    closed: int
    made_ms: int
    begun_s: float
    checked: bool


class Holding(NamedTuple):
    """What one replica says of a partition: `records` with tombstones. `scrubbed_s` as `Side.begun_s`: of
    its last scrub."""

    records: int
    stable: int
    digest: bytes
    scrubbed_s: float


@dataclass(slots=True)
class NodeView:
    """What a member has said. `counts` as in `Inspected`: now, and when it was first heard."""

    said: Inspected
    first_counts: list[int]
    first_stamp: int
    holdings: dict[int, Holding] = field(default_factory=dict)
    sides: dict[int, dict[str, Side]] = field(default_factory=dict)  # by partition and other replica
    only_copies: dict[int, int] = field(default_factory=dict)  # by partition, their least stamp
    late_hints: dict[int, int] = field(default_factory=dict)  # by partition, their least stamp
    damaged: set[int] = field(default_factory=set)
    losses: dict[int, list[LossRow]] = field(default_factory=dict)  # by partition, accepted ones too


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands in the way.

    kind        down, forgetful, starting, memory, clock, damaged, lost, only copies, late hints, unapplied,
                no certificate, not compared, alone, waiting
    nodes       who it is about
    text        what it is, in words
    since_ms    of a missing certificate: when the last one was made, by the node's clock; None: never. Of
                a loss: what was written up to then may be lost
    partitions  of which nothing can be proven because of it
    """

    kind: str
    nodes: tuple[str, ...]
    text: str
    since_ms: int | None
    partitions: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "nodes": list(self.nodes),
            "text": self.text,
            "since_ms": self.since_ms,
            "partitions": list(self.partitions),
        }


@dataclass(slots=True)
class ClusterView:
    """All that was heard. `total`: partitions that are asked for. `first`: where the next page is to begin, 0
    when a round does."""

    total: int = 0
    nodes: dict[str, NodeView] = field(default_factory=dict)
    unheard: dict[str, str] = field(default_factory=dict)
    first: int = 0
    heard: bool = False  # a whole round
    members: dict[int, str] = field(default_factory=dict)  # names by number, of those that lost something

    def hear(self, answer: Message, members: Mapping[int, str], sent_s: float) -> None:
        """Take in the page from `first` on, which was asked for at `sent_s`. Raises the error that the answer
        stands for."""
        if not isinstance(answer, Surveyed):
            raise error_of(answer)
        try:
            self.total = answer.total
            self.unheard = {members[number]: reason for number, reason in answer.unheard}
            for at, told in answer.told:
                (said,) = decode(told)
                if not isinstance(said, Inspected):
                    raise ProtocolError("a survey holds what is not said by a member")
                self._forget(members[at])
                self._take(members[at], said, members, sent_s)
        except (*SENSELESS, ProtocolError) as error:
            raise senseless(answer) from error
        for name in self.unheard:
            self.nodes.pop(name, None)
        self.heard |= answer.next == NEVER  # the last page has been heard, so all of them have
        self.first = 0 if answer.next == NEVER else answer.next

    def miss(self, error: BasestoreError) -> None:
        """No answer came: a round begins anew. Raises the error if none ever did."""
        if not self.total:
            raise error
        self.first = 0

    def _forget(self, name: str) -> None:
        """Of this page a member will say what trouble there is now."""
        view = self.nodes.get(name)
        if view is not None:
            page = {*view.only_copies, *view.late_hints, *view.damaged, *view.losses}
            if self.total > 1:
                page &= {*range(self.first, self.first + PAGE_PARTITIONS)}
            for partition in page:
                view.only_copies.pop(partition, None)
                view.late_hints.pop(partition, None)
                view.damaged.discard(partition)
                view.losses.pop(partition, None)

    def _take(self, name: str, said: Inspected, members: Mapping[int, str], sent_s: float) -> None:
        view = self.nodes.get(name)
        if view is None:
            self.nodes[name] = view = NodeView(said, said.counts, said.stamp)
        view.said = said

        def moment(age_ms: int) -> float:
            return sent_s - age_ms / 1e3 if age_ms != NEVER else -1.0

        ended: dict[int, float] = {}
        for partition, count, stable, begun_ms, ended_ms, digest in said.partitions:
            view.holdings[partition] = Holding(count, stable, digest, moment(begun_ms))
            ended[partition] = moment(ended_ms)
        for partition, other, closed, made_ms, age_ms in said.pairs:
            begun_s = moment(age_ms)
            # Begun before the scrub ended, it may have compared by sums that were wrong.
            checked = begun_s >= ended[partition]
            sides = view.sides.setdefault(partition, {})
            sides[members[other]] = Side(closed, made_ms, begun_s, checked)
        view.only_copies.update(zip(said.only_copies[::2], said.only_copies[1::2], strict=True))
        view.late_hints.update(zip(said.late_hints[::2], said.late_hints[1::2], strict=True))
        view.damaged.update(said.damaged)
        for loss in said.losses:
            view.losses.setdefault(loss.partition, []).append(loss)
            self.members.setdefault(loss.number, members[loss.number])

    # --- looking -----------------------------------------------------------------------------

    @property
    def partitions(self) -> list[int]:
        """Those of which anything was said."""
        return sorted({partition for view in self.nodes.values() for partition in view.holdings})

    def replicas(self, partition: int) -> list[str]:
        """All replicas of a partition, heard or not."""
        names: dict[str, None] = {}
        for name, view in self.nodes.items():
            if partition in view.holdings:
                names[name] = None
                names |= dict.fromkeys(view.sides.get(partition, ()))
        return sorted(names)

    def pairs(self, partition: int) -> Iterator[tuple[str, str]]:
        """All pairs of replicas."""
        replicas = self.replicas(partition)
        return ((a, b) for at, a in enumerate(replicas) for b in replicas[at + 1 :])

    def side(self, partition: int, name: str, other: str) -> Side | None:
        view = self.nodes.get(name)
        return None if view is None else view.sides.get(partition, {}).get(other)

    def kept(self, partition: int, stamp: int) -> list[Cause]:
        """Hints of writes at or below `stamp` that no replica may hold."""
        causes = []
        for name, view in self.nodes.items():
            if view.only_copies.get(partition, stamp + 1) <= stamp:
                text = f"{name} keeps hints that are the only copies of writes"
                causes.append(Cause("only copies", (name,), text))
            if view.late_hints.get(partition, stamp + 1) <= stamp:
                text = (
                    f"{name} keeps late hints, which are not delivered any more: decide them with "
                    f"`basestore hints replay --late`"
                )
                causes.append(Cause("late hints", (name,), text))
        return causes

    def kept_by(self, store: bytes, partition: int, stamp: int) -> list[Cause]:
        """What is to come of a write of this stamp that this store alone has kept: nothing, once it keeps it
        no more, as an only copy or a late hint; or that nobody can tell."""
        if any(view.said.store == store for view in self.nodes.values()):
            return self.kept(partition, stamp)
        if self.unheard:
            return [Cause("only copies", (), _KEEPER_SILENT)]
        return [Cause("unapplied", (), _KEEPER_GONE)]

    def losses(self, partition: int, *, accepted: bool = False) -> list[LossRow]:
        """What is lost for good, as far as any member that was heard knows: of each that lost something, and
        number of sources, the latest. `accepted`: with those that an operator has accepted."""
        latest: dict[tuple[int, int], LossRow] = {}
        for view in self.nodes.values():
            for row in view.losses.get(partition, ()):
                what = row.number, row.sources
                latest[what] = latest.get(what, row).merged(row)
        return [row for row in latest.values() if accepted or row.open]

    def lost(self, partition: int) -> list[Cause]:
        """Losses that nobody has accepted."""
        return [self._lost(row) for row in self.losses(partition)]

    def _lost(self, row: LossRow) -> Cause:
        name = self.members[row.number]
        return Cause("lost", (name,), loss_text(name, row), wall_ms_of(row.upto))

    def may_lack(self, partition: int, writes: Writes) -> list[Cause]:
        """Why one of these may be gone, be it accepted, or be it that the stores are newer; none where none
        is."""
        newer = [
            Cause("lost", (name,), f"writes are lost: the store of {name} is newer", wall_ms_of(birth))
            for name, view in self.nodes.items()
            if (birth := view.said.birth) >= writes.stamp
        ]
        rows, there = self.losses(partition, accepted=True), len(self.replicas(partition))
        return newer + [self._lost(row) for row in rows if writes.may_be_in(row, there)]

    def in_doubt(self, partitions: Container[int]) -> list[tuple[int | None, Cause]]:
        """Replicas of these that may have lost something, and do not know yet what."""
        return [
            (
                partition,
                Cause("recovering", (name,), f"what {name} may have lost is known once it is up"),
            )
            for name, view in self.nodes.items()
            if view.said.state == "forgetful"
            for partition in view.holdings
            if partition in partitions
        ]

    @property
    def silent(self) -> list[Cause]:
        """Members that were not heard, and why."""
        return [
            Cause("down", (name,), f"{name} does not answer: {why}") for name, why in self.unheard.items()
        ]

    def absences(self, partition: int) -> list[Cause]:
        """Replicas that take part in no proof of this partition, and why."""
        causes = []
        replicas = self.replicas(partition)
        for name in replicas or self.unheard:
            view = self.nodes.get(name)
            trouble = _trouble(view, self.unheard.get(name, "it has not answered"), partition)
            if trouble is not None:
                kind, text = trouble
                causes.append(Cause(kind, (name,), f"{name} {text}"))
        return causes


class Following(ABC, Generic[T]):
    """Surveys that follow each other until there is a result. Whoever drives it sends what `request`
    makes, lets it `hear` the answer or `miss` it, and rests for `pause_s`, as long as `result` is None."""

    def __init__(self, scope: Scope, timeout_s: float, now_s: float) -> None:
        self._scope = scope
        self._begun_s = self._now_s = now_s
        self._deadline = now_s + timeout_s
        self.cluster_view = ClusterView()

    @abstractmethod
    def request(self, request: int) -> Survey:
        """The next request, with this id."""

    def hear(self, answer: Message, members: Names, sent_s: float) -> None:
        """The answer, to what was sent then; `members`: the names, by number. Raises the error
        that it stands for."""
        self.cluster_view.hear(answer, members, sent_s)

    def miss(self, error: BasestoreError) -> None:
        """None came. Raises the error if nothing was ever heard."""
        self.cluster_view.miss(error)

    @abstractmethod
    def result(self, now_s: float) -> T | None:
        """What became of it, if anything did by now."""

    def left_s(self, now_s: float) -> float:
        """How much time is left."""
        return max(0.0, self._deadline - now_s)

    @property
    def pause_s(self) -> float:
        """How long to rest before the next request: not before the next page of the same round."""
        return 0.0 if self.cluster_view.first else PAUSE_S

    @property
    @abstractmethod
    def progress(self) -> tuple[int, int]:
        """How much is done, and of how much."""


def loss_text(name: str, loss: LossRow) -> str:
    """What a member lost, in words, but for the moment."""
    return f"writes may be lost: {name} recovered from {loss.sources} of {loss.needed} sources needed"


def _trouble(view: NodeView | None, unheard: str, partition: int) -> tuple[str, str] | None:
    """Why a replica takes no part in any proof."""
    if view is None:
        return "down", f"does not answer: {unheard}"
    said = view.said
    if said.state != "up":
        return said.state, f"is {said.state}: {said.reason}"
    if said.durability == "memory":
        return "memory", "keeps nothing on a disk (durability memory): nothing is ever proven on its word"
    if said.clock:
        return "clock", f"does not trust its clock: {said.clock}"
    if partition in view.damaged:
        return "damaged", "holds a damaged record, or what it holds is being checked"
    return None


def gathered(found: Iterable[tuple[int | None, Cause]]) -> tuple[Obstacle, ...]:
    """Obstacles from the causes of partitions: one for each text."""
    partitions: dict[tuple[str, tuple[str, ...], str], set[int]] = {}
    since: dict[tuple[str, tuple[str, ...], str], int] = {}
    for partition, cause in found:
        what = (cause.kind, cause.nodes, cause.text)
        partitions.setdefault(what, set()).update(() if partition is None else (partition,))
        if cause.since_ms is not None:
            bound = max if cause.kind == "lost" else min
            since[what] = bound(cause.since_ms, since.get(what, cause.since_ms))
    return tuple(Obstacle(*what, since.get(what), tuple(sorted(which))) for what, which in partitions.items())


def wall_ms_of(stamp: int) -> int:
    """Milliseconds since 1970 of a stamp."""
    return stamp >> COUNTER_BITS
