"""Buckets: the buckets of a cluster, as one node goes by them, and by what their rows are known.

A bucket has a name, a number and a *label*: what its rows begin with, behind the partition. A request names
the bucket; from then on all goes by the label. One that was dropped and made anew under its name has another
number and label, so nothing that is still held of the old one, here, in a hint or at a member that was away,
can show: nobody looks for it, and what comes of it is refused.

One object for a node, made once and passed around: `adopt` changes it in place, in the step in which another
topology comes into use. Who keeps a table of its own asks `changes`. Holds no rows, and drops none.
"""

from collections.abc import Iterator, Mapping

from basestore.config import BucketOptions
from basestore.repair.rule import Rule
from basestore.topology.topology import Bucket, Dropped, Topology

_LENGTH_BYTES = 1


class Buckets:
    """`by_name`: those there are; `rules`: theirs, by label; `dropped`: those that are to go, by label;
    `changes`: how often they have changed."""

    def __init__(
        self, rules: Mapping[str, Rule], own: Mapping[str, BucketOptions], topology: Topology | None = None
    ) -> None:
        """Those of a topology, or of a configuration, with their names for labels. `own`: how this node
        serves some of them, whatever the cluster's log says."""
        self._own = own
        self.by_name = {
            name: Bucket(number, name, rule, name.encode())
            for number, (name, rule) in enumerate(rules.items(), 1)
        }
        self.rules: dict[bytes, Rule] = {}
        self.names: dict[bytes, str] = {}
        self.dropped: dict[bytes, Dropped] = {}
        self.options: dict[str, BucketOptions] = {}
        self.changes = 0
        self._settle()
        if topology is not None:
            self.adopt(topology)

    def adopt(self, topology: Topology) -> None:
        """From now on those of this topology."""
        dropped = {each.label: each for each in topology.dropped}
        if self.by_name != topology.buckets or self.dropped != dropped:
            self.by_name = dict(topology.buckets)
            self.dropped.clear()
            self.dropped.update(dropped)
            self._settle()

    def _settle(self) -> None:
        """In place, for others hold these."""
        self.changes += 1
        for table in (self.rules, self.names, self.options):
            table.clear()
        for name, bucket in self.by_name.items():
            self.rules[bucket.label], self.names[bucket.label] = bucket.rule, name
            options = self._own.get(name, bucket.options)
            if options != BucketOptions():
                self.options[name] = options

    def stem(self, name: str) -> bytes:
        """What the rows of a bucket go on with behind their partition, before the key."""
        label = self.by_name[name].label
        return len(label).to_bytes(_LENGTH_BYTES) + label

    def name_of(self, label: bytes) -> str:
        """For people."""
        if label in self.dropped:
            return f"dropped bucket {self.dropped[label].name}"
        return self.names.get(label) or label.decode(errors="backslashreplace")

    def gone(self, name: str) -> str:
        """That a bucket of this name was dropped, in words; empty if none was that is remembered."""
        since = max((each.since for each in self.dropped.values() if each.name == name), default=0)
        return f"; one of that name was dropped at epoch {since}" if since else ""

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __contains__(self, name: str) -> bool:
        return name in self.by_name
