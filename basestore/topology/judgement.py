"""Topology judgement: what becomes of an entry, as the cluster is when it is applied.

An entry that makes no sense when it comes to be applied (somebody else's came first) changes nothing but the
epoch, and has an error for its outcome. One that is said again, under the id of another, is applied once, and
answered as the first time.

Every release must come to the same value, so the bounds here are part of what is decided (`changes.py`
says how such things are changed), and nothing is asked of Python that another Python may answer otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from basestore.config import UNNUMBERED
from basestore.topology import bucket_changes, member_changes
from basestore.topology.changes import (
    OF_USERS,
    AddMember,
    CancelMoves,
    CreateBucket,
    DrainMember,
    DropBucket,
    ForgetDropped,
    Founded,
    Rebalance,
    RemoveMember,
    ReplaceMember,
    SetMember,
    SetPlan,
    SetReplication,
    SetSeats,
    SetSetting,
    TakeBack,
    TakeIn,
    UnsetSetting,
)
from basestore.topology.entries import UNNAMED, BrokenEntry, Suggestion, content_of, decode_entry
from basestore.topology.faults import fault
from basestore.topology.topology import OUTCOMES_MAX, Outcome, Refused, Topology

_INCOMPLETE: Final = (
    "the metadata group is not complete yet: its voters are still being gathered. See `basestore topology`, "
    "start the members that are missing, and try again"
)

Applier = Callable[[Topology, Any, int], tuple[Topology, int]]


class Judged(NamedTuple):
    """What an entry makes of a topology. `said`: what it asks for, and `outcome`: what became of that; None
    of what is an entry to no release."""

    topology: Topology
    said: Suggestion | None
    outcome: Outcome | None


def apply(was: Topology, index: int, data: bytes) -> Topology:
    """As `judge`, of which only the topology is wanted."""
    return judge(was, index, data).topology


def judge(was: Topology, index: int, data: bytes) -> Judged:
    """After this entry, the next. What is an entry to no release is passed by, as every release does;
    UnknownEntry for one of a later release. Of one that was said before: what became of it then."""
    passed = was.pass_by(index)
    try:
        said = decode_entry(data)
    except BrokenEntry:
        return Judged(passed, None, None)
    content, first = content_of(said.change), was.outcomes.get(said.id)
    if first is not None:
        return Judged(passed, said, first.of(content))
    try:
        if said.id != UNNAMED and not was.founded and isinstance(said.change, OF_USERS):
            raise Refused(_INCOMPLETE)
        if wrong := fault(said.change):
            raise Refused(wrong)
        changed, number = _APPLIERS[type(said.change)](passed, said.change, index)
        outcome = Outcome(index, "", number, content)
    except Refused as refused:
        changed, outcome = passed, Outcome(index, str(refused), UNNUMBERED, content)
    if said.id == UNNAMED:
        return Judged(changed, said, outcome)
    outcomes = {**was.outcomes, said.id: outcome}
    if len(outcomes) > OUTCOMES_MAX:
        del outcomes[next(iter(outcomes))]
    return Judged(replace(changed, outcomes=outcomes), said, outcome)


_APPLIERS: Final[Mapping[type, Applier]] = {
    CreateBucket: bucket_changes.create_bucket,
    DropBucket: bucket_changes.drop_bucket,
    ForgetDropped: bucket_changes.forget_dropped,
    SetSetting: bucket_changes.set_setting,
    UnsetSetting: bucket_changes.unset_setting,
    AddMember: member_changes.add_member,
    SetMember: member_changes.set_member,
    SetSeats: member_changes.set_seats,
    Founded: lambda was, change, index: (replace(was, founded=True), UNNUMBERED),
    SetPlan: member_changes.set_plan,
    DrainMember: member_changes.drain_member,
    RemoveMember: member_changes.remove_member,
    ReplaceMember: member_changes.replace_member,
    Rebalance: member_changes.rebalance,
    CancelMoves: member_changes.cancel_moves,
    SetReplication: member_changes.set_replication,
    TakeIn: member_changes.take_in,
    TakeBack: member_changes.take_back,
}
