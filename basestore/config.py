"""Configuration of a cluster and of one of its nodes, as values; `config_file.py` reads and writes them.

The cluster part must be the same on every node, for placement and rules read it; nodes tell each other its
digest, and those whose digests differ compare the canonical texts. Addresses are not compared: each member
tells its own, and those in the file are where it is looked for at first. The node part (directory,
durability) is the node's own affair. Decides nothing by itself.
"""

import hashlib
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from basestore.errors import ConfigurationError
from basestore.protocol.limits import WIRE_HIGHEST
from basestore.repair.rule import Rule
from basestore.repair.seats import SEATS_MAX

Durability = Literal["sync", "interval", "memory"]
Syncs = Literal["always", "interval", "never"]
_STORING: Mapping[str, tuple[str, Syncs]] = {
    "sync": ("rocks", "always"), "interval": ("rocks", "interval"), "memory": ("memory", "never"),
}  # fmt: skip
BUILT_IN = {"default": Rule.LAST_WRITE_WINS, "once": Rule.FIRST_WRITE_WINS}
BUILT_IN_LATER = {"cas": Rule.REGISTER}  # made by the leader once all members can serve it, for good
PARTITIONS_DEFAULT = 64
PARTITIONS_MAX = 4096
MEMBERS_MAX = 1000
UNNUMBERED = -1
NUMBER_MAX = 65534  # of a member; one more must fit into the 16 bits that an origin begins with
DRIFT_MS_DEFAULT = 2000
TIMEOUT_MS_DEFAULT = 10_000
REPLICATION_MAX = SEATS_MAX
CLOSED_MARGIN_MS = 1000
HINT_BYTES_DEFAULT = 1 << 30
HINT_AGE_S_DEFAULT = 3 * 3600
MARKS_BYTES_DEFAULT = 256 << 20  # of over a million rows
DEFERRED_BYTES_DEFAULT = 256 << 20
RESERVE_UNSET = -1
REQUESTS_MAX_DEFAULT = 256  # of clients under way: as many as are answered in time
REQUESTS_MAX_MAX = 8192
REQUESTS_PER_S_MAX = 1_000_000
READ_REPAIR_DEFAULT = 0.1
CLUSTER_ID_BYTES = 16
NOWHERE = Path("/nowhere")  # the directory of a node that is simulated: it keeps no files
HOST_BYTES_MAX = 253  # of a name, as names are looked up (RFC 1035, 2.3.4)
LABEL_BYTES_MAX = 63


@dataclass(frozen=True, slots=True)
class Member:
    """One node of the cluster as all others know it. `address`: host:port at which others and clients reach
    it; of itself a node tells them the one in its own file. By its `number` the wire, the stamps of its
    writes and its store know it: it is the member's for life, and never another's."""

    number: int
    name: str
    address: str
    zone: str = ""


@dataclass(frozen=True, slots=True)
class BucketOptions:
    """How one node serves a bucket: its own affair. `degrade_s`: a read at QUORUM or ALL that cannot be had
    may be answered by one replica, if that is surely no staler (0: it may not). `defer`: its writes at ANY
    are kept for later while the node has too much to do, though they do not ask for it. `requests_per_s`:
    that many requests of clients it takes up in a second, and `key_requests_per_s` of those for one key (0:
    as many as come)."""

    degrade_s: int = 0
    defer: bool = False
    requests_per_s: int = 0
    key_requests_per_s: int = 0


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What all nodes must agree on. `id` has 16 bytes; `key` has 32 and is secret: of it only a digest is
    ever shown. `members` are sorted by number, in whatever order they are given: a member's place among
    them is good for arrays inside a node, and for nothing that is stored or sent. `load` checks what it
    reads; who builds one by hand sees to that himself."""

    id: bytes
    key: bytes = field(repr=False)
    members: tuple[Member, ...]
    replication: int = 3
    partitions: int = PARTITIONS_DEFAULT
    buckets: Mapping[str, Rule] = field(default_factory=lambda: dict(BUILT_IN))
    drift_ms_max: int = DRIFT_MS_DEFAULT
    timeout_ms_max: int = TIMEOUT_MS_DEFAULT

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(sorted(self.members, key=lambda member: member.number)))

    def binding(self) -> dict[str, str | int]:
        """What placement and rules read, by name, the key as its digest: data are bound to it. Without the
        built-in buckets, which exist from a version on."""
        return {
            "cluster id": self.id.hex(),
            "cluster key": hashlib.blake2b(self.key, digest_size=8, person=b"cluster-key").hexdigest(),
            "replication": self.replication,
            "partitions": self.partitions,
            **{f"member {m.number}": f"{m.name} zone={m.zone!r}" for m in self.members},
            **{f"bucket {name}": rule.value for name, rule in self.buckets.items() if name not in BUILT_IN},
        }

    def canonical(self) -> str:
        """One text for all that nodes must agree on: JSON with sorted keys. Addresses are none of it."""
        facts = {
            **self.binding(),
            "clock drift bound in ms": self.drift_ms_max,
            "longest timeout in ms": self.timeout_ms_max,
        }
        return json.dumps(facts, sort_keys=True)

    @property
    def digest(self) -> bytes:
        return hashlib.blake2b(self.canonical().encode(), digest_size=16).digest()

    @property
    def proof_key(self) -> bytes:
        """By which members prove to each other that they hold the cluster's key, itself as secret as that."""
        return hashlib.blake2b(key=self.key, digest_size=32, person=b"basestore-proofs").digest()

    def member_index(self, name: str) -> int:
        """The place of `name` among the members; ConfigurationError if it has none."""
        for index, member in enumerate(self.members):
            if member.name == name:
                return index
        names = ", ".join(member.name for member in self.members)
        raise ConfigurationError(f"no member is called {name!r}; the cluster has {names}")

    @property
    def names(self) -> dict[int, str]:
        """The names of the members by number, ascending."""
        return {member.number: member.name for member in self.members}

    @property
    def closed_lag_ms(self) -> int:
        """How far behind its clock a replica closes itself to direct writes: more than the longest request
        lasts, and twice as much as clocks may differ."""
        return self.timeout_ms_max + 2 * self.drift_ms_max + CLOSED_MARGIN_MS

    @property
    def open_ms(self) -> int:
        """How old a write may be, by any node's clock, for replicas to stay open to it while a hint of it is
        made known: less than `closed_lag_ms` by that, and by as much as clocks may differ."""
        return self.closed_lag_ms - self.drift_ms_max - CLOSED_MARGIN_MS


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """One node: which member it is, where its store lies, how durable a promise is; how many bytes of
    hints it keeps for each member, and for how long; after which share of the reads at ONE it compares
    the other replicas. `metrics`: host:port at which its metrics are shown, or empty. `directory` is made
    absolute, once and here: a program may change its own later. `disk_reserve_bytes`: how much of its disk
    it leaves free, for requests under way and for what the store writes by itself (`own_bytes` in
    `storage/rocks.py`: 896 MiB, less on a small disk); unset, as `replica/disk_space.py` says.
    `marks_bytes_max`: memory for what rows hold (`storage/marks.py`). `deferred_bytes_max`: how many bytes of
    hints it keeps of deferred writes, for all members together (`handoff/deferred_writes.py`). `listen`:
    host:port at which it listens, empty for its own address as the others know it. `wire_highest`: the
    highest version of the protocol that it speaks.
    `requests_max`: how many requests of clients are under way at once (`intake/room.py`).
    `clock_is_right`: an operator's word for this start, which stands in no file."""

    cluster: ClusterConfig
    name: str
    directory: Path
    durability: Durability = "sync"
    hint_bytes_max: int = HINT_BYTES_DEFAULT
    hint_age_s_max: int = HINT_AGE_S_DEFAULT
    read_repair: float = READ_REPAIR_DEFAULT
    metrics: str = ""
    disk_reserve_bytes: int = RESERVE_UNSET
    marks_bytes_max: int = MARKS_BYTES_DEFAULT
    bucket_options: Mapping[str, BucketOptions] = field(default_factory=dict)  # of those that have any
    deferred_bytes_max: int = DEFERRED_BYTES_DEFAULT
    listen: str = ""
    wire_highest: int = WIRE_HIGHEST
    requests_max: int = REQUESTS_MAX_DEFAULT
    clock_is_right: bool = False
    forgetful: bool = False  # an operator's word for this start, in no file: the store may be an old copy
    file: str = field(default="", compare=False)  # that it was read from, if it was

    def __post_init__(self) -> None:
        object.__setattr__(self, "directory", self.directory.absolute())

    @property
    def member(self) -> Member:
        return self.cluster.members[self.cluster.member_index(self.name)]

    @property
    def listens_on(self) -> str:
        """host:port of its own socket; others may reach it by another address, `member.address`."""
        return self.listen or self.member.address

    @property
    def engine(self) -> str:
        """Which engine the store runs on. For users engine and syncs are one word, the durability."""
        return _STORING[self.durability][0]

    @property
    def syncs(self) -> Syncs:
        """When what is stored is synced: always before it is acknowledged, once an interval, or never."""
        return _STORING[self.durability][1]


_ADDRESS = re.compile(r"(?:([^\s:/@\[\]]+)|\[([0-9a-fA-F.:]*:[0-9a-fA-F.:]*(?:%[\w.-]+)?)\]):([0-9]{1,9})")


def parse_address(address: str) -> tuple[str, int]:
    """Split host:port (or [v6]:port); ConfigurationError that shows the form."""
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[3]) < 65536:
        raise ConfigurationError(
            f"{address!r:.200} is not an address; write host:port, as in 127.0.0.1:7400 or [::1]:7400"
        )
    host = match[1] or match[2]
    if wrong := _wrong_host(host):
        raise ConfigurationError(
            f"{address!r:.200} is not an address: {wrong}; correct the name, or write an IP address"
        )
    return host, int(match[3])


def parse_member_address(address: str) -> tuple[str, int]:
    """The same, of an address at which others reach a member; ConfigurationError if nobody could there."""
    host, port = parse_address(address)
    if _is_wildcard(host):
        raise ConfigurationError(
            f"{address!r} is no address at which others reach a member: it stands for every interface of a "
            f"machine; write it as `listen` under [node], and here the host by which others know it"
        )
    return host, port


def _wrong_host(host: str) -> str:
    """What is wrong with the name of a host, which no look-up could be asked for; empty if nothing is."""
    if not host.isprintable():
        return "its host has a character that does not print"
    labels = host.removesuffix(".").split(".")
    if not all(labels):
        return "its host has an empty part between two dots"
    try:
        encoded = host.encode("idna")  # as whoever looks it up does
    except UnicodeError:
        encoded = b""
    if not encoded or len(encoded) > HOST_BYTES_MAX or max(map(len, labels)) > LABEL_BYTES_MAX:
        return "its host is no name, or has a part that is too long"
    return ""


def _is_wildcard(host: str) -> bool:
    """Whether it stands for every address of a machine, in whatever form: 0.0.0.0, 0, ::"""
    for packed in (socket.inet_aton, _packed_v6):
        try:
            return not any(packed(host))
        except OSError:
            continue
    return False


def _packed_v6(host: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
