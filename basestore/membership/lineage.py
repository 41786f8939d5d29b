"""Lineage: which metadata group took the place of which, and who may go over from one to the other.

A group that was rebuilt (`rebuilding.py`) names those whose place it took, its *formers*. With group A, whose
majority was lost, and B, that was put in its place on n1:

    n1   B, formers A                        n2, of A, refuses n1, and is refused by it: each says why
    n2   A, and an operator said --follow    it takes up B, once it is linked with n1
    n3   C, formers A: rebuilt by mistake    it is parted from B; with --follow it takes up B, if that is at a
                                             later epoch: rebuilt once more on n1

Decides only, by what is told; whether what comes can be taken up is a matter of what stands in it
(`hindrance`).
"""

from typing import Protocol

from basestore.protocol.membership import GROUP_BYTES
from basestore.topology.topology import Topology

_REBUILD = "basestore node rebuild-group --config FILE"


class Follower(Protocol):
    """Who follows a group, and has said which."""

    @property
    def group(self) -> bytes: ...

    @property
    def formers(self) -> bytes: ...


class Movable(Follower, Protocol):
    """Who may have been told to follow another."""

    @property
    def follows(self) -> bool: ...


def goes_over(held: Movable, said: Follower) -> bool:
    """Whether an operator has said that who follows this group may take up a later one, and that is such: one
    that took the place of it, or of one whose place it took itself."""
    own = {held.group, *_split(held.formers)}
    return held.follows and said.group not in own and not own.isdisjoint(_split(said.formers))


def hindrance(was: Topology | None, new: Topology) -> str:
    """Why a store that has gone by the one topology cannot go by the other, of another group, and what to do;
    empty if it can."""
    if was is None:
        return ""
    if new.epoch <= was.epoch:
        return (
            f"epoch {new.epoch} is in use there, and epoch {was.epoch} was here. Stop a node of that group, "
            f"run `{_REBUILD}` on it once more, and start it: that skips epochs"
        )
    held = {each.number: (each.name, each.rule) for each in was.buckets.values()}
    for bucket in new.buckets.values():
        if bucket.number <= was.last_bucket and held.get(bucket.number) != (bucket.name, bucket.rule):
            return (
                f"bucket '{bucket.name}' is there, and this store has dropped it, with what it held. Stop "
                f"this node, move its directory away, and start it again: it recovers from the others"
            )
    return ""


def parted(name: str, said: Follower, own: Follower) -> str:
    """Why a node and a member do not speak, in words."""
    theirs, ours = said.group.hex()[:8], own.group.hex()[:8]
    text = f"{name} follows the metadata group {theirs}, and this node {ours}"
    if own.group in _split(said.formers):
        return (
            f"{text}, in whose place that was put with `{_REBUILD}`. If most voters of {ours} are lost for "
            f"good, stop this node, and run `{_REBUILD} --follow`"
        )
    if said.group in _split(own.formers):
        return (
            f"{text}, which was put in its place with `{_REBUILD}`. If most voters of {theirs} are lost for "
            f"good, stop {name}, and run `{_REBUILD} --follow` there"
        )
    if not set(_split(own.formers)).isdisjoint(_split(said.formers)):
        return (
            f"{text}; both were put in the place of the same one. Choose which is to stay: stop a node of "
            f"that, run `{_REBUILD}` on it once more, and start it; and stop each node of the other, run "
            f"`{_REBUILD} --follow` on it, and start it"
        )
    return f"{text}: one of the two was founded by mistake; see `basestore topology` of both"


def _split(formers: bytes) -> list[bytes]:
    return [formers[at : at + GROUP_BYTES] for at in range(0, len(formers), GROUP_BYTES)]
