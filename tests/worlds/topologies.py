"""Topologies to test with: a small cluster, and entries for it."""

from collections.abc import Mapping

from basestore.cluster.placement import Placement
from basestore.config import BUILT_IN, ClusterConfig, Member
from basestore.repair.rule import Rule
from basestore.topology import founding
from basestore.topology.changes import Change, Founded
from basestore.topology.entries import UNNAMED, Suggestion, encode_entry
from basestore.topology.judgement import apply
from basestore.topology.topology import Outcome, Topology

LWW, FWW = Rule.LAST_WRITE_WINS.value, Rule.FIRST_WRITE_WINS.value
NO_OPTIONS = [0, 0, 0, 0]


def found(config: ClusterConfig) -> Topology:
    """The topology that a configuration founds, placed as a cluster without a log is."""
    return founding.found(config, Placement.of(config).replicas)


def cluster(
    count: int = 3,
    *,
    zones: int = 0,
    replication: int = 2,
    partitions: int = 4,
    step: int = 1,
    buckets: Mapping[str, Rule] | None = None,
) -> ClusterConfig:
    """Members n1, n2 and so on, with the numbers 1, 1 + step and so on."""
    members = tuple(
        Member(1 + at * step, f"n{at + 1}", f"10.0.0.{at + 1}:7400", f"z{at % zones}" if zones else "")
        for at in range(count)
    )
    rules = {**BUILT_IN, **(buckets or {})}
    return ClusterConfig(b"c" * 16, b"k" * 32, members, replication, partitions, rules)


def entry(change: Change, identity: int = UNNAMED, by: int = 1) -> bytes:
    return encode_entry(Suggestion(change, identity, by, 1_760_000_000_000))


def founded(config: ClusterConfig | None = None) -> Topology:
    """Of which users may ask for changes: at epoch 1."""
    return apply(found(cluster() if config is None else config), 1, entry(Founded()))


class Log:
    """A topology, and the entries that have made it of another. Each gets an id of its own."""

    def __init__(self, topology: Topology | None = None) -> None:
        self.first = self.topology = founded() if topology is None else topology
        self.entries: list[bytes] = []
        self._identity = 1000

    def add(self, change: Change) -> Outcome:
        self._identity += 1
        self.append(entry(change, self._identity))
        outcome = self.topology.outcome(self._identity)
        assert outcome is not None
        return outcome

    def append(self, data: bytes) -> None:
        self.entries.append(data)
        self.topology = apply(self.topology, self.topology.epoch + 1, data)
