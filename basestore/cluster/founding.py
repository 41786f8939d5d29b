"""Founding: the topology that a configuration file stands for, and the configuration that a topology stands
for.

Entry 0 of a cluster's log is a pure function of its configuration: members keep their numbers, and hold what
they held; buckets keep their names as labels. So a cluster that ran by its files goes on without a row being
moved. From then on the files' members and buckets are not read any more, and `differing` says in what they
say otherwise.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from basestore.cluster.placement import assign
from basestore.cluster.seats import Seats
from basestore.cluster.topology import LABEL_START, Bucket, MemberEntry, Standing, Topology
from basestore.config import BUILT_IN, ClusterConfig, Member
from basestore.errors import ConfigurationError

VOTERS_MAX: Final = 5


def found(cluster: ClusterConfig) -> Topology:
    """Epoch 0. ConfigurationError for a bucket whose name could be a label of another."""
    odd = [name for name in cluster.buckets if name.encode().startswith(LABEL_START)]
    if odd:
        raise ConfigurationError(f"the name of bucket {odd[0]!r} begins with a NUL, which no name may")
    members = tuple(MemberEntry(each.number, each.name, each.address, each.zone) for each in cluster.members)
    numbers = [member.number for member in members]
    table = assign(cluster.members, cluster.partitions, cluster.replication)
    seats = tuple(Seats.still(tuple(numbers[index] for index in indices)) for indices in table)
    names = [*BUILT_IN, *sorted(cluster.buckets.keys() - BUILT_IN.keys())]
    buckets = {
        name: Bucket(number, name, cluster.buckets[name], name.encode())
        for number, name in enumerate(names, 1)
    }
    return Topology(
        0, cluster.id, cluster.replication, cluster.drift_ms_max, cluster.timeout_ms_max, members, seats,
        buckets, len(buckets),
    )  # fmt: skip


def cluster_of(topology: Topology, cluster: ClusterConfig) -> ClusterConfig:
    """The configuration with all that the topology says; id, key and partitions are as they are."""
    members = tuple(
        Member(each.number, each.name, each.address, each.zone)
        for each in topology.members
        if each.standing is not Standing.LEFT
    )
    rules = {name: bucket.rule for name, bucket in topology.buckets.items()}
    return replace(
        cluster, members=members, replication=topology.replication, buckets=rules,
        drift_ms_max=topology.drift_ms_max, timeout_ms_max=topology.timeout_ms_max,
    )  # fmt: skip


def differing(cluster: ClusterConfig, topology: Topology) -> list[str]:
    """In what a configuration says something else, in words. Addresses aside: each member tells its own."""
    log = cluster_of(topology, cluster).binding()
    ours = cluster.binding()
    return [
        f"{name}: {ours.get(name, 'absent')} in the file, {log.get(name, 'absent')} in the cluster's log"
        for name in sorted(ours.keys() | log.keys())
        if ours.get(name) != log.get(name)
    ]


def voters_wanted(
    members: Sequence[MemberEntry], lasting: Mapping[int, bool], voting: Collection[int]
) -> tuple[int, ...] | None:
    """Which members should be voters, by number: as many as are an odd number, five at most, of those that
    stay and whose stores are on a disk (all, where none is); in as many zones as there are; who votes already
    goes first. None while it is not known of somebody whether its store is on a disk: wait."""
    staying = [each for each in members if each.standing in (Standing.JOINING, Standing.MEMBER)]
    if not staying or any(each.number not in lasting for each in staying):
        return None
    able = [each for each in staying if lasting[each.number]] or staying
    count = min(VOTERS_MAX, len(able) - (len(able) + 1) % 2)
    chosen: list[MemberEntry] = []
    while len(chosen) < count:
        zones = [each.zone for each in chosen]
        rest = (each for each in able if each not in chosen)
        chosen.append(
            min(rest, key=lambda each: (zones.count(each.zone), each.number not in voting, each.number))
        )
    return tuple(sorted(each.number for each in chosen))
