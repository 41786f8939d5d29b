"""Nodes: what a node says of itself, in words and for machines.

A node tells facts by name, and a client shows those too that it does not know: so a node of another version
may say more. Owns which facts have types and names of their own. Pure; concludes nothing from them.
"""

from dataclasses import asdict, dataclass
from typing import Any

from basestore.protocol.codec import Message
from basestore.protocol.envelopes import ADMIN, CLASSES
from basestore.protocol.operator import NodeStatus, UpgradeFinished
from basestore.results.answers import SENSELESS, encode_text, error_of, senseless
from basestore.results.metadata import PREFIX, Metadata

# Facts that are numbers, and lists of names; all others are text.
_NUMBERS = (
    "damaged", "lossy", "lost until ms", "unproven", "stable lag ms", "disk free bytes", "disk reserve bytes",
    "deferred hints", "deferred bytes", "deferred bytes max", "requests max", "unopened bytes", "window",
    "brownout", "retry ms", "feature level", "record bytes", "register rows unlearned",
    "register rows unlearned age ms", "register partitions barred",
    "transactions open", "transactions open age ms", "transaction intents", "transaction rows blocked",
    "locks held", "batch parts unfinished", "batch parts unfinished age ms",
    "watchers", "watch lag ms", "feeds served", "feed changes behind",
)  # fmt: skip
_LISTS = ("alive", "stalled by")
_HOT_KEY = "hot key "
_LIMIT = "limit "
_MOST_SHED = "most shed "
_TOLD_APART = (_HOT_KEY, _LIMIT, _MOST_SHED, PREFIX)  # they have places of their own


@dataclass(frozen=True, slots=True)
class HotKey:
    """A key that a node is asked for more than for others: about how many gets, sets and deletes a second.
    `key`: as much of it as the node tells; `key_bytes`: how many it has."""

    bucket: str
    key: bytes
    key_bytes: int
    requests_per_s: int

    def as_json(self) -> dict[str, Any]:
        key, encoding = encode_text(self.key)
        return {
            "bucket": self.bucket,
            "key": key,
            "key_encoding": encoding,
            "key_bytes": self.key_bytes,
            "requests_per_s": self.requests_per_s,
        }


@dataclass(frozen=True, slots=True)
class Limit:
    """What a node takes of a bucket in a second, and of each key of it; None: as much as there is. Each node
    has its own. `clipped_by_bucket`, `clipped_by_key`: requests that were refused or deferred, for they were
    over it, since the store was opened; `..._lately`: in the last minute."""

    bucket: str
    requests_per_s: int | None
    key_requests_per_s: int | None
    clipped_by_bucket: int
    clipped_by_key: int
    clipped_by_bucket_lately: int
    clipped_by_key_lately: int

    @property
    def lately(self) -> int:
        """How many requests were over it in the last minute."""
        return self.clipped_by_bucket_lately + self.clipped_by_key_lately


@dataclass(frozen=True, slots=True)
class Refused:
    """A tenant (the address that requests come from), and how many of its requests were shed in the last
    minute."""

    tenant: str
    requests: int


_BY_CLASS = ("offered", "admitted", "shed", "shed lately", "under way", "waiting")  # and the class


@dataclass(frozen=True, slots=True)
class Pressure:
    """What a node does with what clients ask; what is a dict is by class (admin, read, write, bulk).

    offered, admitted, shed  requests since the store was opened: all, those that were begun, and those that
                             were refused unopened; `shed_lately`: in the last minute
    under_way                begun, and not answered yet; of all but admin at most about `requests_max`
    window                   how many requests a client should have under way that has the fewest; None:
                             no client is connected
    brownout                 0 to 2: how much the node leaves out
    """

    offered: dict[str, int]
    admitted: dict[str, int]
    shed: dict[str, int]
    shed_lately: dict[str, int]
    under_way: dict[str, int]
    waiting: dict[str, int]
    requests_max: int
    window: int | None
    brownout: int

    @property
    def busy(self) -> int:
        """Requests under way that count for `requests_max`."""
        return sum(count for kind, count in self.under_way.items() if kind != CLASSES[ADMIN])


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What became of the word that all members are upgraded; true if nobody is behind.

    level   the feature level that holds now: no member may speak an older version of the wire any more
    behind  who hinders that it rises, and why, a text each
    """

    level: int
    behind: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.behind

    def as_json(self) -> dict[str, Any]:
        """As `basestore upgrade finish -o json` prints it."""
        return {"finished": bool(self), "feature_level": self.level, "behind": list(self.behind)}


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node says of itself.

    state    up, starting (not known to be whole yet), forgetful (recovering), left (the cluster), or down
    records  rows that hold a value, expired ones too until they are purged; `hints` kept, by the node they
             are for
    facts    everything else it says, by name
    """

    node: str
    endpoint: str
    state: str
    pid: int | None
    records: int | None
    hints: dict[str, int]
    facts: dict[str, str]

    @property
    def alive(self) -> list[str]:
        """The members that count for levels as the node sees it."""
        return self.facts.get("alive", "").split()

    @property
    def debt(self) -> dict[str, int]:
        """Partitions in debt, by the member that may lack their writes."""
        return {name[5:]: int(text) for name, text in self.facts.items() if name.startswith("debt ")}

    @property
    def stable_lag_ms(self) -> int | None:
        """How far what is proven is behind the clock, at the partition where that is furthest; None: nothing
        is proven."""
        lag_ms = self.facts.get("stable lag ms")
        return int(lag_ms) if lag_ms else None

    @property
    def loss(self) -> tuple[int, int, str] | None:
        """Of how many partitions writes may be lost, up to when (ms since 1970), and from how many of the
        sources needed was recovered; None: none, or an operator has accepted it."""
        lossy = int(self.facts.get("lossy", "0"))
        if not lossy:
            return None
        return lossy, int(self.facts.get("lost until ms", "0")), self.facts.get("lost sources", "")

    @property
    def pressure(self) -> Pressure | None:
        """What it does with what clients ask; None: it does not say so, for it is down, or older."""
        facts = self.facts
        if "requests max" not in facts or "brownout" not in facts:
            return None
        by_class = {
            name.replace(" ", "_"): {
                kind: int(facts[f"{name} {kind}"]) for kind in CLASSES if f"{name} {kind}" in facts
            }
            for name in _BY_CLASS
        }
        window = int(facts["window"]) if facts.get("window") else None
        requests_max, brownout = int(facts["requests max"]), int(facts["brownout"])
        return Pressure(**by_class, requests_max=requests_max, window=window, brownout=brownout)

    @property
    def stalled_by(self) -> list[str]:
        """The members because of which it is further behind than it should be."""
        return self.facts.get("stalled by", "").split()

    @property
    def hot_keys(self) -> list[HotKey]:
        """Those that are asked for most, the first most of all; none where there is nothing to speak of."""
        hot = []
        for name, text in self.facts.items():
            if name.startswith(_HOT_KEY):
                per_s, size, key, bucket = text.split(" ", 3)
                hot.append(HotKey(bucket, bytes.fromhex(key), int(size), int(per_s)))
        return hot

    @property
    def limits(self) -> list[Limit]:
        """What it takes of buckets and keys, where that is limited."""
        limits = []
        for name, text in self.facts.items():
            if name.startswith(_LIMIT):
                of_bucket, of_key, *clipped = map(int, text.split(" ", 5))
                limits.append(Limit(name.removeprefix(_LIMIT), of_bucket or None, of_key or None, *clipped))
        return limits

    @property
    def most_shed(self) -> list[Refused]:
        """The tenants of whom most was shed in the last minute, the first most of all; connected or not."""
        told = [text.split(" ", 1) for name, text in self.facts.items() if name.startswith(_MOST_SHED)]
        return [Refused(tenant, int(count)) for count, tenant in told]

    @property
    def metadata(self) -> Metadata | None:
        """How it sees the metadata group; None: it does not say so, for it is down, or older."""
        return Metadata.of(self.facts)

    def as_json(self) -> dict[str, Any]:
        """As `basestore status -o json` prints it."""
        metadata = self.metadata
        return {
            "node": self.node,
            "endpoint": self.endpoint,
            "state": self.state,
            "pid": self.pid,
            "records": self.records,
            "hints": sum(self.hints.values()),
            "hints_for": self.hints,
            "hot_keys": [hot.as_json() for hot in self.hot_keys],
            "limits": [asdict(limit) for limit in self.limits],
            "most_shed": [asdict(refused) for refused in self.most_shed],
            "metadata": None if metadata is None else metadata.as_json(),
            **_typed(self.facts),
        }


def _typed(facts: dict[str, str]) -> dict[str, Any]:
    """What a node says of itself, for machines: numbers and lists, under names without blanks; what it does
    not know is null."""
    typed: dict[str, Any] = {}
    for name, text in facts.items():
        if name.startswith("debt "):
            typed.setdefault("debt_for", {})[name[5:]] = int(text)
        elif name.startswith(_TOLD_APART):
            continue
        elif (parts := name.rpartition(" "))[0] in _BY_CLASS:
            typed.setdefault(parts[0].replace(" ", "_"), {})[parts[2]] = int(text)
        elif name in _LISTS:
            typed[name.replace(" ", "_")] = text.split()
        elif name in _NUMBERS:
            typed[name.replace(" ", "_")] = int(text) if text else None
        else:
            typed[name.replace(" ", "_")] = text
    return typed


def upgrade(answer: Message) -> Upgrade:
    """Read the answer to a FinishUpgrade; raises the error it stands for."""
    if not isinstance(answer, UpgradeFinished):
        raise error_of(answer)
    return Upgrade(answer.level, tuple(answer.behind))


def node_state(answer: Message) -> NodeState:
    """Read the answer to a status request; raises the error it stands for."""
    if not isinstance(answer, NodeStatus):
        raise error_of(answer)
    try:
        facts = dict(answer.facts)
        hints = {name[6:]: int(facts.pop(name)) for name in list(facts) if name.startswith("hints ")}
        pid, records = int(facts.pop("pid", "0")), int(facts.pop("records", "0"))
        state = NodeState(
            facts.pop("node"), facts.pop("endpoint", ""), facts.pop("state"), pid, records, hints, facts
        )
        _ = (
            state.hot_keys,
            state.limits,
            state.most_shed,
            state.metadata,
        )  # of whose form nothing is known yet
        return state
    except SENSELESS as error:
        raise senseless(answer) from error


def down(name: str, endpoint: str, reason: str) -> NodeState:
    """The state of a node that does not answer."""
    return NodeState(name, endpoint, "down", None, None, {}, {"reason": reason})
