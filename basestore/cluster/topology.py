"""Topology: what a cluster is: its members, who holds which partition, its buckets and its settings.

A frozen value. It is built by the entries of the cluster's log, one after the other, and by nothing else, so
every node that has applied the same entries has the same one. Its *epoch* is the index of the last of them.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from basestore.cluster.seats import Seats
from basestore.config import BucketOptions
from basestore.repair.rule import Rule


class Standing(enum.Enum):
    """Of a member: whether it is to be given seats, keeps them, or gives them up."""

    JOINING = "joining"
    MEMBER = "member"
    DRAINING = "draining"
    DEAD = "dead"
    LEFT = "left"


class MemberEntry(NamedTuple):
    """A member as the log has it. `store`: the id of the store that it is known to run on, 16 bytes; empty
    until it is known."""

    number: int
    name: str
    address: str
    zone: str = ""
    weight: int = 1
    standing: Standing = Standing.MEMBER
    store: bytes = b""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A named keyspace with one conflict rule. `label`: what its rows begin with, behind the partition."""

    number: int
    name: str
    rule: Rule
    label: bytes
    options: BucketOptions = field(default_factory=BucketOptions)


class Dropped(NamedTuple):
    """A bucket that is no more: of its rows nothing may be shown, and all are to go."""

    number: int
    label: bytes
    since: int


@dataclass(frozen=True, slots=True)
class Topology:
    """`group`: the id of the metadata group that decides it, 16 bytes. `members` by ascending number; those
    that have left are among them. `seats` by partition, in members' numbers."""

    epoch: int
    group: bytes
    cluster: bytes
    replication: int
    members: tuple[MemberEntry, ...]
    seats: tuple[Seats, ...]
    buckets: Mapping[str, Bucket]
    dropped: tuple[Dropped, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
