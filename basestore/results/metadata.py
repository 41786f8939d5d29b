"""Metadata: how a node sees the metadata group, the voters that decide what the cluster is.

A node of a release before there was such a group says nothing of it: then there is no Metadata, and what is
not known is not taken for well. Pure.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple, Self

PREFIX: Final = "metadata "  # of the facts
_OF, _BEHIND, _SILENT = f"{PREFIX}of ", f"{PREFIX}behind ", f"{PREFIX}silent "
_STRANDED = f"{PREFIX}stranded "


class Behind(NamedTuple):
    """By how many entries a member is behind, and since when, in ms since 1970 by the clock of the node that
    says so."""

    entries: int
    since_ms: int


class Stranded(NamedTuple):
    """A member that is to leave, `standing` draining or dead, and holds so many partitions for which nothing
    is planned, since that was cancelled."""

    standing: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """As one node sees it.

    role      leader, voter, learner (to become a voter), follower (votes not), or none: no group is known,
              and `waits` says why
    leader    its name; None: none is known, `no_leader_since_ms`. Data are served, changes are refused
    epoch     that this node uses; `decided`: the latest it knows to be decided; None: there is none
    epochs    in use on each member, None where that is not known; `behind`: who uses an earlier one
    silent    voters that this node, the leader, does not hear, and when it did last
    untaken   members whose former store is a voter, and not yet the one that they run on
    stranded  members that are to leave, and for some of whose partitions nothing is planned
    """

    role: str
    leader: str | None
    term: int
    epoch: int | None
    decided: int | None
    no_leader_since_ms: int | None
    voters: tuple[str, ...]
    epochs: dict[str, int | None]
    behind: dict[str, Behind]
    silent: dict[str, int]
    untaken: tuple[str, ...]
    waits: str
    stranded: dict[str, Stranded]

    @classmethod
    def of(cls, facts: Mapping[str, str]) -> Self | None:
        """What a node's facts say; None if they say nothing of it. ValueError where they make no sense."""
        if f"{PREFIX}role" not in facts:
            return None

        def number(name: str) -> int | None:
            text = facts.get(PREFIX + name, "")
            return int(text) if text else None

        behind = {}
        for name, text in _told(facts, _BEHIND).items():
            entries, since_ms = map(int, text.split(" "))
            behind[name] = Behind(entries, since_ms)
        return cls(
            facts[f"{PREFIX}role"],
            facts.get(f"{PREFIX}leader") or None,
            number("term") or 0,
            number("epoch"),
            number("decided"),
            number("no leader since ms"),
            tuple(facts.get(f"{PREFIX}voters", "").split()),
            {name: int(text) if text else None for name, text in _told(facts, _OF).items()},
            behind,
            {name: int(text) for name, text in _told(facts, _SILENT).items()},
            tuple(facts.get(f"{PREFIX}untaken", "").split()),
            facts.get(f"{PREFIX}waits", ""),
            {
                name: Stranded(standing, int(count))
                for name, text in _told(facts, _STRANDED).items()
                for standing, count in (text.split(" "),)
            },
        )

    def as_json(self) -> dict[str, Any]:
        told = {name: each._asdict() for name, each in self.behind.items()}
        stranded = {name: each._asdict() for name, each in self.stranded.items()}
        lists = {"voters": list(self.voters), "untaken": list(self.untaken)}
        return asdict(self) | lists | {"behind": told, "stranded": stranded}


def _told(facts: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): text for name, text in facts.items() if name.startswith(prefix)}
