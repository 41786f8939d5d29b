"""Bucket changes: what becomes of a topology when its buckets or settings change.

Each takes the topology, the change and the index of its entry, and gives the topology after it, and the
number that was given to something, if one was. Refused, in words, for what makes no sense as the cluster is.
"""

from dataclasses import replace

from basestore.config import BUILT_IN, BUILT_IN_LATER, UNNUMBERED
from basestore.repair.rule import Rule
from basestore.topology.changes import (
    SETTINGS_BYTES_MAX,
    CreateBucket,
    DropBucket,
    ForgetDropped,
    SetSetting,
    UnsetSetting,
    options_of,
)
from basestore.topology.topology import (
    BUCKETS_MAX,
    DROPPED_MAX,
    Bucket,
    Dropped,
    Refused,
    Topology,
    later_label,
)


def create_bucket(was: Topology, change: CreateBucket, index: int) -> tuple[Topology, int]:
    name, rule, held = change.name, Rule(change.rule), was.buckets.get(change.name)
    if held is not None and held.rule is rule:
        raise Refused(f"bucket '{name}' exists, with this rule: use it, or drop it first")
    if held is not None:
        raise Refused(
            f"bucket '{name}' exists with rule {held.rule}, which it keeps for life: use another name, "
            f"or drop it first, with all that it holds"
        )
    if len(was.buckets) >= BUCKETS_MAX:
        raise Refused(f"there are {BUCKETS_MAX} buckets, and no more are allowed: drop one first")
    number = was.last_bucket + 1
    bucket = Bucket(number, name, rule, later_label(number), options_of(change.options))
    return replace(was, buckets={**was.buckets, name: bucket}, last_bucket=number), number


def drop_bucket(was: Topology, change: DropBucket, index: int) -> tuple[Topology, int]:
    name, bucket = change.name, was.buckets.get(change.name)
    later = bucket is not None and BUILT_IN_LATER.get(name) is bucket.rule
    if name in BUILT_IN or later:
        raise Refused(f"bucket '{name}' is built in, and cannot be dropped: delete its keys instead")
    if bucket is None:
        raise Refused(f"no bucket is called '{name}': see `basestore bucket list`")
    if len(was.dropped) >= DROPPED_MAX:
        raise Refused(
            f"{DROPPED_MAX} buckets that were dropped are not purged on all members yet: see `basestore "
            f"status`, start the members that are missing, and try again"
        )
    buckets = {each: held for each, held in was.buckets.items() if each != name}
    dropped = (*was.dropped, Dropped(bucket.number, bucket.label, index, name))
    return replace(was, buckets=buckets, dropped=dropped, dropped_since=index), bucket.number


def forget_dropped(was: Topology, change: ForgetDropped, index: int) -> tuple[Topology, int]:
    gone = set(change.numbers)
    return replace(was, dropped=tuple(each for each in was.dropped if each.number not in gone)), UNNUMBERED


# --- settings ------------------------------------------------------------------------------------


def set_setting(was: Topology, change: SetSetting, index: int) -> tuple[Topology, int]:
    settings = {**was.settings, change.key: change.value}
    size = sum(len(text.encode()) for pair in settings.items() for text in pair)
    if size > SETTINGS_BYTES_MAX:
        raise Refused(
            f"all settings together would have {size} bytes, and at most {SETTINGS_BYTES_MAX} are allowed, "
            f"for every node keeps them in memory: unset some, or keep this under a key of a bucket"
        )
    return replace(was, settings=settings), UNNUMBERED


def unset_setting(was: Topology, change: UnsetSetting, index: int) -> tuple[Topology, int]:
    if change.key not in was.settings:
        raise Refused(f"there is no setting '{change.key}': see `basestore settings get`")
    left = {key: text for key, text in was.settings.items() if key != change.key}
    return replace(was, settings=left), UNNUMBERED
