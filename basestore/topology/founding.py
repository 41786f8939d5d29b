"""Founding: the topology that a configuration file stands for, and the configuration that a topology stands
for.

Entry 0 of a cluster's log is a pure function of its configuration: members keep their numbers, and hold what
they held; buckets keep their names as labels. So a cluster that ran by its files goes on without a row being
moved. From then on the files' members and buckets are not read any more, and `differing` says in what they
say otherwise.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from basestore.config import BUILT_IN, ClusterConfig, Member, NodeConfig
from basestore.errors import ConfigurationError
from basestore.repair.rule import Rule
from basestore.repair.seats import Seats
from basestore.topology.changes import Standing
from basestore.topology.topology import LABEL_START, OWN_LABEL_START, Bucket, MemberEntry, Topology

VOTERS_MAX: Final = 5
DIFFERENCES_SHOWN: Final = 10


def found(cluster: ClusterConfig, table: Sequence[Sequence[int]]) -> Topology:
    """Epoch 0. `table`: who holds each partition, as places among the members. ConfigurationError for a
    bucket whose name could be a label of another."""
    odd = [name for name in cluster.buckets if name.encode().startswith((LABEL_START, OWN_LABEL_START))]
    if odd:
        raise ConfigurationError(
            f"the name of bucket {odd[0]!r} begins with a control character, which no name may"
        )
    members = tuple(MemberEntry(each.number, each.name, each.address, each.zone) for each in cluster.members)
    numbers = [member.number for member in members]
    seats = tuple(Seats.still(tuple(numbers[index] for index in indices)) for indices in table)
    rules = {**BUILT_IN, **cluster.buckets}
    names = [*BUILT_IN, *sorted(rules.keys() - BUILT_IN.keys())]
    buckets = {name: Bucket(number, name, rules[name], name.encode()) for number, name in enumerate(names, 1)}
    return Topology(
        0, cluster.id, cluster.replication, cluster.drift_ms_max, cluster.timeout_ms_max, members, seats,
        buckets, len(buckets),
    )  # fmt: skip


def cluster_of(topology: Topology, cluster: ClusterConfig) -> ClusterConfig:
    """The configuration with all that the topology says; id, key and partitions are as they are, and so are
    addresses that stand in it: each node knows its own best."""
    addresses = {(each.number, each.name): each.address for each in cluster.members}
    members = tuple(
        Member(each.number, each.name, addresses.get((each.number, each.name), each.address), each.zone)
        for each in topology.members
        if each.standing is not Standing.LEFT
    )
    return replace(
        cluster, members=members, replication=topology.replication, buckets=topology.rules,
        drift_ms_max=topology.drift_ms_max, timeout_ms_max=topology.timeout_ms_max,
    )  # fmt: skip


def in_force(config: NodeConfig, topology: Topology | None) -> NodeConfig:
    """A node's configuration, the cluster's part by its log if there is one. A node that joins may have been
    told what the cluster was before its own entry, and have ended before it was told of that: unless another
    has its name by then, it goes on from there."""
    if topology is None:
        return config
    cluster, me = cluster_of(topology, config.cluster), config.member
    if me.number > topology.members[-1].number and me.name not in cluster.names.values():
        cluster = replace(cluster, members=(*cluster.members, me))
    return replace(config, cluster=cluster)


def differing(cluster: ClusterConfig, topology: Topology) -> list[str]:
    """What a configuration file says of the cluster, and is otherwise by now, in words, the first ten.
    Addresses aside: each member tells its own. What came later stands in no file."""
    ours = {member.number: member for member in cluster.members}
    theirs = {each.number: each for each in topology.members}
    found = [
        f"{fact} is {getattr(cluster, fact)} in the file, and {getattr(topology, fact)} in the cluster's log"
        for fact in ("replication", "drift_ms_max", "timeout_ms_max")
        if getattr(cluster, fact) != getattr(topology, fact)
    ]
    for number, mine in sorted(ours.items()):
        other = theirs.get(number)
        if other is None:
            found.append(f"member {number}, {mine.name}, is only in the file")
        elif other.standing is Standing.LEFT:
            found.append(f"member {number}, {mine.name}, is in the file, and has left the cluster")
        elif (mine.name, mine.zone) != (other.name, other.zone):
            found.append(
                f"member {number} is {mine.name}, zone {mine.zone!r}, in the file; and in the cluster's log "
                f"{other.name}, zone {other.zone!r}"
            )
    found += _differing_buckets({**BUILT_IN, **cluster.buckets}, topology)
    more = len(found) - DIFFERENCES_SHOWN
    return found[:DIFFERENCES_SHOWN] + ([f"and {more} more"] if more > 0 else [])


def _differing_buckets(rules: Mapping[str, Rule], topology: Topology) -> list[str]:
    found = []
    for name, rule in sorted(rules.items()):
        bucket = topology.buckets.get(name)
        if bucket is None:
            found.append(f"bucket {name!r} is only in the file")
        elif rule is not bucket.rule:
            found.append(
                f"bucket {name!r} is of rule {rule} in the file, and in the cluster's log of {bucket.rule}"
            )
    return found


def voters_wanted(
    members: Sequence[MemberEntry], lasting: Mapping[int, bool], voting: Collection[int],
    away: Collection[int] = (),
) -> tuple[int, ...] | None:  # fmt: skip
    """Which members should be voters, by number: as many as are an odd number, five at most, of those that
    stay and whose stores are on a disk (all, where none is); in as many zones as there are; who votes already
    goes first. Who is `away` counts too, and is one of them where there are too few others: with fewer voters
    the loss of one more would be the end of the group. None while it is not known of somebody else whether
    its store is on a disk: wait."""
    staying = [each for each in members if each.standing in (Standing.JOINING, Standing.MEMBER)]
    if not staying or any(each.number not in lasting for each in staying if each.number not in away):
        return None
    able = [each for each in staying if lasting.get(each.number, each.number in voting)] or staying
    count = min(VOTERS_MAX, len(able) - (len(able) + 1) % 2)
    chosen: list[MemberEntry] = []
    while len(chosen) < count:
        zones = Counter(each.zone for each in chosen if each.zone)
        rest = [each for each in able if each not in chosen]

        def ranked(each: MemberEntry, zones: Counter[str] = zones) -> tuple[bool, int, bool, int]:
            return each.number in away, zones[each.zone], each.number not in voting, each.number

        chosen.append(min(rest, key=ranked))
    return tuple(sorted(each.number for each in chosen))
