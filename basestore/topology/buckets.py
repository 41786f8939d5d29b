"""Buckets: the buckets of a cluster, as one node goes by them, and by what their rows are known.

A bucket has a name, a number and a *label*: what its rows begin with, behind the partition. A request names
the bucket; from then on all goes by the label. One that was dropped and made anew under its name has another
number and label, so nothing that is still held of the old one, here, in a hint or at a member that was away,
can show: nobody looks for it, and what comes of it is refused.

    epoch 0    "carts" is in the file        label b"carts", its name
    epoch 5    it is dropped                 b"carts" is in `dropped`: its rows are refused, and purged
    epoch 6    "carts" is created            label b"\\0" 0000 0017: of the name only this one is known
    epoch 9    all have purged the first     b"carts" is in no table, and gone all the same (`is_gone`)

A label that is not known, and not gone, is of a bucket that was created later than the topology in use here:
its rows are refused for the moment, in any way, for its rule is not known.

One object for a node, made once and passed around: `adopt` changes it in place, in the step in which another
topology comes into use. Who keeps a table of its own asks `changes`. Holds no rows, and drops none.

Besides there are rows that nodes and clients keep for themselves, in buckets with names that no user can give
(OWN): every release knows those of its own, so none is made or dropped, or listed.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from basestore.config import UNNUMBERED, BucketOptions
from basestore.leases import LOCKS
from basestore.repair.rule import Rule
from basestore.rows import row_bucket, row_key
from basestore.topology.topology import LABEL_START, OWN_LABEL_START, Bucket, Dropped, Topology

DROPPED: Final = "the bucket was dropped"
NOT_HELD: Final = "this replica does not hold such a row"
UNKNOWN_YET: Final = "this replica does not know the bucket yet"
DECISIONS: Final = OWN_LABEL_START + b"d"  # what was decided of transactions (`repair/intents.py`)
PARTS: Final = OWN_LABEL_START + b"b"  # of atomic batches, each in its partition (`basestore/batches`)
LOCKED: Final = OWN_LABEL_START + b"l"  # who holds locks (`basestore/leases.py`)
OWN: Final = {
    "\1decisions": Bucket(UNNUMBERED, "decisions of transactions", Rule.REGISTER, DECISIONS),
    "\1batches": Bucket(UNNUMBERED, "parts of batches", Rule.LAST_WRITE_WINS, PARTS),
    LOCKS: Bucket(UNNUMBERED, "locks", Rule.REGISTER, LOCKED),
}
_LENGTH_BYTES = 1
_NO_OPTIONS: Final = BucketOptions()


class Buckets:
    """`by_name`: those there are; `rules`: theirs, by label; `dropped`: those that are to go, by label;
    `dropped_since`: the epoch of the last drop, 0 without one; `changes`: how often they have changed."""

    def __init__(
        self,
        rules: Mapping[str, Rule],
        own: Mapping[str, BucketOptions] | None = None,
        topology: Topology | None = None,
    ) -> None:
        """Those of a topology, or of a configuration, with their names for labels. `own`: how this node
        serves some of them, whatever the cluster's log says."""
        self._own = own or {}
        self.by_name = {
            name: Bucket(number, name, rule, name.encode())
            for number, (name, rule) in enumerate(rules.items(), 1)
        }
        self.rules: dict[bytes, Rule] = {}
        self.names: dict[bytes, str] = {}
        self.dropped: dict[bytes, Dropped] = {}
        self.options: dict[str, BucketOptions] = {}
        self.dropped_since = self.changes = self._last = 0
        self._logged = False
        self._settle()
        if topology is not None:
            self.adopt(topology)

    def adopt(self, topology: Topology) -> None:
        """From now on those of this topology."""
        dropped = {each.label: each for each in topology.dropped}
        self._logged, self._last = True, topology.last_bucket
        others = self.by_name != topology.buckets or self.dropped != dropped
        if others or self.dropped_since != topology.dropped_since:
            self.by_name, self.dropped_since = dict(topology.buckets), topology.dropped_since
            self.dropped.clear()
            self.dropped.update(dropped)
            self._settle()

    def _settle(self) -> None:
        """In place, for others hold these."""
        self.changes += 1
        for table in (self.rules, self.names, self.options):
            table.clear()
        for bucket in OWN.values():
            self.rules[bucket.label], self.names[bucket.label] = bucket.rule, bucket.name
        for name, bucket in self.by_name.items():
            self.rules[bucket.label], self.names[bucket.label] = bucket.rule, name
            options = self._own.get(name, bucket.options)
            if options != _NO_OPTIONS:
                self.options[name] = options

    def stem(self, name: str) -> bytes:
        """What the rows of a bucket go on with behind their partition, before the key."""
        label = (self.by_name.get(name) or OWN[name]).label
        return len(label).to_bytes(_LENGTH_BYTES) + label

    def rows(self) -> list[tuple[str, Rule, int]]:
        """Name and rule of each, and its number unless the cluster was founded with it."""
        return [
            (name, bucket.rule, bucket.number if bucket.label.startswith(LABEL_START) else 0)
            for name, bucket in self.by_name.items()
        ]

    def asked_for(self, name: str) -> Bucket | None:
        """That of a name that a client has said; of what nodes keep for themselves the locks alone."""
        return self.by_name.get(name) or (OWN[LOCKS] if name == LOCKS else None)

    # --- labels ------------------------------------------------------------------------------

    def is_gone(self, label: bytes) -> bool:
        """Whether this is the label of a bucket that was dropped, be it long ago. Without a topology none is
        dropped; and with one, no bucket gets its name for a label any more."""
        if label in self.rules or not self._logged:
            return False
        return not label.startswith(LABEL_START) or int.from_bytes(label[1:]) <= self._last

    def is_strange(self, row: bytes) -> bool:
        """Whether a row is of no bucket that there is, so that its rule is not known."""
        return self._logged and row_bucket(row) not in self.rules

    def refusal(self, row: bytes) -> tuple[str, bool]:
        """Why a row of no bucket is not taken, in words; and whether it may be taken later."""
        label = row_bucket(row) if len(row) > 3 else b""
        if not label or not self._logged or label in self.rules:
            return NOT_HELD, False
        return (DROPPED, False) if self.is_gone(label) else (UNKNOWN_YET, True)

    # --- texts -------------------------------------------------------------------------------

    def name_of(self, label: bytes) -> str:
        """For people."""
        if label in self.names:
            return self.names[label]
        if label in self.dropped:
            return f"dropped bucket {self.dropped[label].name}"
        later = label.startswith(LABEL_START)
        name = f"{int.from_bytes(label[1:])}" if later else label.decode(errors="backslashreplace")
        if self.is_gone(label):
            return f"dropped bucket {name}"
        return f"unknown bucket {name}" if later else name

    def row_name(self, row: bytes) -> str:
        """A row in words."""
        return f"bucket {self.name_of(row_bucket(row))!r}, key {row_key(row)[:64]!r}"

    def gone(self, name: str) -> str:
        """That a bucket of this name was dropped, in words; empty if none was that is remembered."""
        since = max((each.since for each in self.dropped.values() if each.name == name), default=0)
        return f"; one of that name was dropped at epoch {since}" if since else ""

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)
