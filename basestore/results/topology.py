"""Topology: what a cluster is, as a node has told it; what became of a change of it, and the log of those.

It is read in one of three modes (Consul's names), each with one caveat:

    default      as it was decided, unless the rates of two clocks differ by more than a third
    consistent   as it was decided when it was read; a round of messages more
    stale        as the node that was asked knows it, which may be old (`heard_ms`); needs nobody else

Owns what these look like to a caller, and what a change looks like before it is sent. What an entry means is
`topology`'s, which is loaded when it is used: a plain request does without. Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from basestore.config import BucketOptions
from basestore.errors import ChangeUnknown, InvalidRequest
from basestore.protocol.codec import Message
from basestore.protocol.handshake import Names
from basestore.protocol.membership import (
    CONSISTENT,
    DEFAULT,
    STALE,
    ChangeTopology,
    HistoryTold,
    ReadHistory,
    ReadTopology,
    TopologyChanged,
    TopologyTold,
)
from basestore.repair.rule import Rule
from basestore.repair.version import PROPOSAL_BYTES, Identity
from basestore.results.answers import SENSELESS, error_of, senseless

if TYPE_CHECKING:
    from basestore.topology.changes import Change
    from basestore.topology.topology import MemberEntry, Topology

MODES: Final = {"default": DEFAULT, "consistent": CONSISTENT, "stale": STALE}
HISTORY_MAX: Final = 1000  # entries of one answer
LAST: Final = -1  # in place of an entry: the last ones
NOBODY: Final = -1  # in place of a number
STILL: Final = "still"
LEFT: Final = "left"  # the standing of a member that is none any more: another may have its name
NAMELESS: Final = "?"  # of a member whose number the topology does not have


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """A member. `standing`: joining, member, draining, dead, or left for good; `weight`: how many partitions
    it is to hold, beside others."""

    number: int
    name: str
    address: str
    zone: str
    weight: int
    standing: str


@dataclass(frozen=True, slots=True)
class PartitionSeats:
    """Who holds a partition, by name; and, while that is being changed, the stage of it (fill or joint), and
    who is to hold it."""

    replicas: tuple[str, ...]
    stage: str = STILL
    to: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        moving = {"stage": self.stage, "to": list(self.to)} if self.stage != STILL else {}
        return {"replicas": list(self.replicas), **moving}


@dataclass(frozen=True, slots=True)
class ClusterBucket:
    """A bucket. `number`: never given to another, not to one of the same name either; `options`: how nodes
    serve it whose own files say nothing of it."""

    number: int
    name: str
    rule: Rule
    options: BucketOptions

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "name": self.name,
            "rule": self.rule.word,
            "agreed": self.rule.agreed,
            "options": asdict(self.options),
        }


@dataclass(frozen=True, slots=True)
class ClusterTopology:
    """What a cluster is.

    epoch      the entry of the log up to which this is
    cluster    its id, and `group` that of its metadata group, in hexadecimal digits
    partitions by their numbers, from 0
    replication, drift_ms_max, timeout_ms_max   as a node's file has them, in force now
    settings   users' own, by key
    mode       in which it was read; `leader`: of the metadata group, as far as the node that was asked knows,
               in this `term`; `heard_ms`: how long ago it heard of it (0: it leads), None if it never has
    voters     whose majority decides, by name; `learners` are about to become voters, as far as the node
               that was asked knows
    lag        how many entries each member is behind this epoch, as it has told the node that was asked; None
               for those that are not linked with it
    """

    epoch: int
    cluster: str
    members: tuple[ClusterMember, ...]
    partitions: tuple[PartitionSeats, ...]
    buckets: tuple[ClusterBucket, ...]
    settings: Mapping[str, str]
    mode: str
    group: str
    leader: str | None
    heard_ms: int | None
    term: int
    voters: tuple[str, ...]
    learners: tuple[str, ...]
    lag: Mapping[str, int | None]
    replication: int
    drift_ms_max: int
    timeout_ms_max: int

    @property
    def caveat(self) -> str:
        """Under what condition it is not as it was decided when it was read."""
        if self.mode == "consistent":
            return "as it was decided when it was read"
        if self.mode == "default":
            return (
                "as it was decided, unless the rates of two clocks differ by more than a third, or one stood "
                "still while its machine was suspended"
            )
        if self.heard_ms is None:
            return "may be old: the node that was asked has heard of no leader since it was started"
        return f"may be old: the node that was asked heard of the leader {self.heard_ms / 1e3:.1f} s ago"

    def as_json(self) -> dict[str, Any]:
        """All but buckets and settings, which have commands of their own."""
        return {
            "epoch": self.epoch,
            "cluster": self.cluster,
            "replication": self.replication,
            "drift_ms_max": self.drift_ms_max,
            "timeout_ms_max": self.timeout_ms_max,
            "members": [asdict(member) for member in self.members],
            "partitions": [seats.as_json() for seats in self.partitions],
            "group": self.group,
            "leader": self.leader,
            "term": self.term,
            "voters": list(self.voters),
            "learners": list(self.learners),
            "lag": dict(self.lag),
            "mode": self.mode,
            "heard_ms": self.heard_ms,
        }


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An entry of the cluster's log, in words. `epoch`: that it made; `wall_ms`: when, in milliseconds since
    1970 by the clock of the member through which it came, None where nobody says."""

    epoch: int
    wall_ms: int | None
    text: str


@dataclass(frozen=True, slots=True)
class History:
    """Entries of the cluster's log, in its order. `first`: the first that is still there, for of older ones
    only what they made is kept; `last`: the last that the node that was asked knows."""

    first: int
    last: int
    entries: tuple[HistoryEntry, ...]

    @property
    def more(self) -> bool:
        """There are entries behind these."""
        return bool(self.entries) and self.entries[-1].epoch < self.last

    def as_json(self) -> dict[str, Any]:
        entries = [asdict(entry) for entry in self.entries]
        return {"first": self.first, "last": self.last, "entries": entries}


@dataclass(frozen=True, slots=True)
class Decided:
    """A change was decided, by the entry `epoch` of the cluster's log: whatever is read from that epoch on
    has it. `number`: that of the bucket, if it was about one."""

    epoch: int
    number: int | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


# --- what is asked ---------------------------------------------------------------------------------


def read_topology(mode: str, timeout_ms: int) -> Callable[[int], ReadTopology]:
    """By the id that it gets; InvalidRequest."""
    if mode not in MODES:
        raise InvalidRequest(f"the mode of a read is one of {', '.join(MODES)}, not {mode!r:.80}")
    return lambda request: ReadTopology(request, MODES[mode], timeout_ms)


def read_history(after: int | None, limit: int, timeout_ms: int) -> Callable[[int], ReadHistory]:
    """By the id that it gets; InvalidRequest."""
    if not _counts(limit, 1, HISTORY_MAX):
        raise InvalidRequest(f"limit must be 1 to {HISTORY_MAX} entries, not {limit!r:.80}")
    if after is not None and not _counts(after, 0, (1 << 63) - 1):
        raise InvalidRequest(f"after must be the number of an entry, 0 or more, not {after!r:.80}")
    return lambda request: ReadHistory(request, LAST if after is None else after, limit, timeout_ms)


def change_topology(
    change: "Change", identity: bytes, timeout_ms: int, *, again: bool
) -> Callable[[int], ChangeTopology]:
    """By the id that it gets; `again`: it may have been asked for before. InvalidRequest for what is wrong
    with it whatever the cluster is."""
    from basestore.topology.entries import UNNAMED, Suggestion, encode_entry
    from basestore.topology.faults import fault

    number = int.from_bytes(identity)
    if number == UNNAMED or len(identity) != PROPOSAL_BYTES:
        raise InvalidRequest(f"{Identity.decode(identity)} is the identity of no change: leave it out")
    if wrong := fault(change):
        raise InvalidRequest(wrong)
    try:
        entry = encode_entry(Suggestion(change, number, 0, 0))
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    return lambda request: ChangeTopology(request, entry, timeout_ms, again)


def create_bucket(name: str, rule: Rule | str, options: BucketOptions, agreed: bool = False) -> "Change":
    """`agreed`: of a rule that is named by its word. InvalidRequest."""
    from basestore.topology.changes import CreateBucket, options_list

    if not isinstance(agreed, bool):
        raise InvalidRequest(f"agreed must be True or False, not {agreed!r:.80}")
    if not isinstance(rule, Rule) or agreed:
        try:
            rule = Rule.of(rule.word if isinstance(rule, Rule) else rule, agreed=agreed)
        except ValueError as error:
            raise InvalidRequest(str(error)) from None
    numbers = options_list(options)
    if not all(map(_is_int, numbers)) or not isinstance(options.defer, bool):
        raise InvalidRequest(
            "degrade_s, requests_per_s and key_requests_per_s are whole numbers, and defer is True or False"
        )
    return CreateBucket(_text("name of a bucket", name), rule.value, numbers)


def drop_bucket(name: str) -> "Change":
    """InvalidRequest."""
    from basestore.topology.changes import DropBucket

    return DropBucket(_text("name of a bucket", name))


def set_setting(key: str, value: str) -> "Change":
    """InvalidRequest."""
    from basestore.topology.changes import SetSetting

    return SetSetting(_text("key of a setting", key), _text("value of a setting", value))


def unset_setting(key: str) -> "Change":
    """InvalidRequest."""
    from basestore.topology.changes import UnsetSetting

    return UnsetSetting(_text("key of a setting", key))


def _text(what: str, given: str) -> str:
    if not isinstance(given, str):
        raise InvalidRequest(f"the {what} is text (str), not {type(given).__name__}")
    return given


def _is_int(given: object) -> bool:
    return type(given) is int


def _counts(given: object, least: int, most: int) -> bool:
    return type(given) is int and least <= given <= most


# --- what is answered ------------------------------------------------------------------------------


def cluster_topology(mode: str, answer: Message, _: Names) -> ClusterTopology:
    """Read the answer to a ReadTopology; raises the error it stands for."""
    from basestore.topology.topology import Topology

    if not isinstance(answer, TopologyTold):
        raise error_of(answer)
    try:
        return _shown(mode, answer, Topology.decode(answer.topology))
    except SENSELESS as error:
        raise senseless(answer) from error


def _shown(mode: str, told: TopologyTold, topology: "Topology") -> ClusterTopology:
    named, heard = partial(_named, topology), dict(zip(told.epochs[::2], told.epochs[1::2], strict=True))
    partitions = [
        PartitionSeats(tuple(map(named, seats.old)))
        if seats.stage.name.lower() == STILL
        else PartitionSeats(
            tuple(map(named, seats.old)), seats.stage.name.lower(), tuple(map(named, seats.new))
        )
        for seats in topology.seats
    ]
    buckets = sorted(topology.buckets.values(), key=lambda bucket: bucket.number)
    return ClusterTopology(
        epoch=topology.epoch,
        cluster=topology.cluster.hex(),
        members=tuple(map(_member, topology.members)),
        partitions=tuple(partitions),
        buckets=tuple(ClusterBucket(each.number, each.name, each.rule, each.options) for each in buckets),
        settings=dict(topology.settings),
        mode=mode,
        group=told.group.hex(),
        leader=None if told.leader == NOBODY else named(told.leader),
        heard_ms=told.heard_ms if told.heard_ms >= 0 else None,
        term=told.term,
        voters=tuple(map(named, told.voters)),
        learners=tuple(map(named, told.learners)),
        lag={
            each.name: max(0, topology.epoch - at) if (at := heard.get(each.number, -1)) >= 0 else None
            for each in topology.members
        },
        replication=topology.replication,
        drift_ms_max=topology.drift_ms_max,
        timeout_ms_max=topology.timeout_ms_max,
    )


def _named(topology: "Topology", number: int) -> str:
    member = topology.member(number)
    return NAMELESS if member is None else member.name


def _member(entry: "MemberEntry") -> ClusterMember:
    number, name, address, zone, weight, standing, _ = entry
    return ClusterMember(number, name, address, zone, weight, standing.value)


def cluster_history(answer: Message, _: Names) -> History:
    """Read the answer to a ReadHistory; raises the error it stands for."""
    if not isinstance(answer, HistoryTold):
        raise error_of(answer)
    entries = [HistoryEntry(epoch, wall_ms or None, text) for epoch, wall_ms, text in answer.rows]
    return History(answer.first, answer.epoch, tuple(entries))


def decided(identity: bytes, answer: Message, _: Names) -> Decided:
    """Read the answer to a ChangeTopology; raises the error it stands for, which names the change, and for
    one that was decided to change nothing InvalidRequest."""
    if isinstance(answer, TopologyChanged):
        if answer.error:
            raise InvalidRequest(f"{answer.error} (decided at epoch {answer.epoch})")
        return Decided(answer.epoch, None if answer.number == NOBODY else answer.number)
    error = error_of(answer)
    if isinstance(error, ChangeUnknown):
        error.identity = Identity(identity)
        error.args = (f"{error}: repeat it as {error.identity}",)
    raise error
