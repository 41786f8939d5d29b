"""Nodes: what a node says of itself, in words and for machines.

A node tells facts by name, and a client shows those too that it does not know: so a node of another version
may say more. Owns which facts have types and names of their own. Pure; concludes nothing from them.
"""

from dataclasses import dataclass
from typing import Any

from basestore.protocol.codec import Message
from basestore.protocol.operator import NodeStatus, UpgradeFinished
from basestore.results.answers import SENSELESS, error_of, senseless

# Facts that are numbers, and lists of names; all others are text.
_NUMBERS = (
    "damaged", "lossy", "lost until ms", "unproven", "stable lag ms", "disk free bytes", "disk reserve bytes",
    "deferred hints", "deferred bytes", "feature level",
)  # fmt: skip
_LISTS = ("alive", "stalled by")


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

    state    up, starting (not known to be whole yet), forgetful (recovering), or down
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
    def stalled_by(self) -> list[str]:
        """The members because of which it is further behind than it should be."""
        return self.facts.get("stalled by", "").split()

    def as_json(self) -> dict[str, Any]:
        """As `basestore status -o json` prints it."""
        return {
            "node": self.node,
            "endpoint": self.endpoint,
            "state": self.state,
            "pid": self.pid,
            "records": self.records,
            "hints": sum(self.hints.values()),
            "hints_for": self.hints,
            **_typed(self.facts),
        }


def _typed(facts: dict[str, str]) -> dict[str, Any]:
    """What a node says of itself, for machines: numbers and lists, under names without blanks; what it does
    not know is null."""
    typed: dict[str, Any] = {}
    for name, text in facts.items():
        if name.startswith("debt "):
            typed.setdefault("debt_for", {})[name[5:]] = int(text)
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
        return NodeState(
            facts.pop("node"), facts.pop("endpoint", ""), facts.pop("state"), pid, records, hints, facts
        )
    except SENSELESS as error:
        raise senseless(answer) from error


def down(name: str, endpoint: str, reason: str) -> NodeState:
    """The state of a node that does not answer."""
    return NodeState(name, endpoint, "down", None, None, {}, {"reason": reason})
