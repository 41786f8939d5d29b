"""Leader watch: who leads the metadata group, as far as this node can tell, and how long ago that was heard.

A voter hears its leader. All others go by what voters say in their heartbeats; of these the one of the latest
term counts. It is only where to ask: whether somebody leads indeed, the answer tells.

Where nobody has answered, it says why, by the state that things are in as far as this node can tell:

    there is no group yet      who has not been heard, for all must be
    it is not complete         whom it waits for
    somebody leads             and has not answered in time, or only others reach it
    a majority is reached      an election is under way
    none is                    which voters are missing, and what to do if their stores are lost
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from basestore.cluster.peers import Peers
from basestore.consensus.leadership import QUORUM_S
from basestore.consensus.raft import Raft
from basestore.consensus.voters import Voter, majority
from basestore.instant import Instant
from basestore.membership.following import SINCE, Following
from basestore.membership.metadata_group import MetadataGroup

NOBODY: Final = 0


class _Heard(NamedTuple):
    term: int
    leader: int
    heard_s: float


class LeaderWatch:
    """Of one node."""

    def __init__(self, group: MetadataGroup, peers: Peers, following: Following) -> None:
        self._group, self._peers, self._following = group, peers, following
        self._told: dict[int, _Heard] = {}
        peers.watch(leave=lambda peer, now: self._forget(peer.index))

    def _forget(self, member: int) -> None:
        """It has left: by its word nobody leads."""
        self._told.pop(member, None)

    def hear(self, member: int, term: int, leader: int, now: Instant) -> None:
        """What a member's heartbeat says: the leader's number, plus one, or NOBODY."""
        if leader != NOBODY:
            self._told[member] = _Heard(term, leader - 1, now.monotonic)

    def told(self, now: Instant) -> tuple[int, int]:
        """What this node's heartbeat says: a term, and the leader's number, plus one, as a voter hears it."""
        raft = self._group.raft
        if raft is None or not raft.votes or raft.leader is None:
            return 0, NOBODY
        if not raft.leads and now.monotonic - raft.heard_s > QUORUM_S:
            return raft.term, NOBODY
        return raft.term, raft.leader.number + 1

    def number(self, now: Instant) -> int | None:
        """The leader's number; None if none is heard of."""
        heard = self._latest(now)
        return heard.leader if heard is not None and now.monotonic - heard.heard_s <= QUORUM_S else None

    def member(self, now: Instant) -> int | None:
        """The same, by its index."""
        number = self.number(now)
        return self._peers.index_of.get(number) if number is not None else None

    def term(self, now: Instant) -> int:
        """The latest that this node has heard of, with a leader or, as a voter, without."""
        raft, heard = self._group.raft, self._latest(now)
        return max(raft.term if raft is not None else 0, heard.term if heard is not None else 0)

    def heard_ms(self, now: Instant) -> int:
        """How long ago a leader was heard of; -1: never, since this node was started."""
        heard = self._latest(now)
        return -1 if heard is None else max(0, int((now.monotonic - heard.heard_s) * 1e3))

    def _latest(self, now: Instant) -> _Heard | None:
        raft, heard = self._group.raft, list(self._told.values())
        if raft is not None and raft.leader is not None:
            heard_s = now.monotonic if raft.leads else raft.heard_s
            heard.append(_Heard(raft.term, raft.leader.number, heard_s))
        return max(heard, default=None)

    # --- in words ----------------------------------------------------------------------------

    def absence(self, so: str, now: Instant) -> str:
        """Why no leader has answered, and what to do. `so`: what follows from it."""
        group = self._group
        if self._peers.left:
            return f"this node has left the cluster, so {so}. Ask another one"
        if group.raft is None or group.topology is None:
            why, advice = self.unfounded()
        elif not group.topology.founded:
            why, advice = self._incomplete(now)
        else:
            why, advice = self._silent(group.raft, now)
        served = "; data are served all the same" if group.confirmed else ""
        return f"{why}, so {so}{served}. {advice}"

    def unfounded(self) -> tuple[str, str]:
        """Why no group is known, and what to do."""
        told, others = self._following.told, self._peers.others
        knowing = [peer.name for peer in others if peer.index in told and told[peer.index].group]
        unheard = [peer.name for peer in others if peer.index not in told]
        if knowing:
            return (
                f"this node does not know the metadata group yet, and hears of it from {', '.join(knowing)}",
                "Try again in a few seconds",
            )
        if not self._following.spoken and all(peer.wire >= SINCE for peer in others):
            return (
                f"there is no metadata group yet, for the cluster's feature level is below {SINCE}, though "
                f"all members speak that version of the wire",
                "See `basestore status`; once no node is to go back to an older release: `basestore upgrade "
                "finish`",
            )
        if not self._following.spoken:
            return (
                f"there is no metadata group yet, for not all members were heard to speak version {SINCE} of "
                f"the wire",
                "See `basestore status`: start the members that are missing, upgrade those that speak less, "
                "and try again",
            )
        if unheard:
            return (
                f"there is no metadata group yet, for it is founded once all members are heard, and "
                f"{', '.join(unheard)} {'is' if len(unheard) == 1 else 'are'} not",
                f"See `basestore status`: start {', '.join(unheard)}, and try again",
            )
        return (
            "there is no metadata group yet, for the store of who is to found it does not count",
            "See `basestore status`: where it says `starting` or `forgetful`, it says what that waits for; "
            "see to that, and try again",
        )

    def _incomplete(self, now: Instant) -> tuple[str, str]:
        away = [peer.name for peer in self._peers.others if not self._peers.hears(peer.index, now)]
        waits = f", and {', '.join(away)} {'is' if len(away) == 1 else 'are'} not heard" if away else ""
        start = f"start {', '.join(away)}, and try again" if away else "try again in a few seconds"
        return (
            f"the metadata group is not complete yet: its voters are being gathered{waits}",
            f"See `basestore topology --mode stale`: {start}",
        )

    def _silent(self, raft: Raft, now: Instant) -> tuple[str, str]:
        """Of a group that is complete."""
        leader, see = self.member(now), "See `basestore topology --mode stale`"
        if leader is not None and (leader == self._peers.me or self._peers.hears(leader, now)):
            name = self._peers.all[leader].name
            return (
                f"{name} leads the metadata group, and has not answered in time",
                f"{see} and whether {name} is overloaded (`basestore status`), and try again",
            )
        latest = self._latest(now)
        only_others = raft.votes and latest is not None and latest.heard_s - raft.heard_s > QUORUM_S
        if leader is not None and only_others:
            name = self._peers.all[leader].name
            return (
                f"{name} leads the metadata group, by what other members say, and is not reached from here",
                f"Ask another node; for what lies between this one and {name} see `basestore status` of both",
            )
        missing = sorted(raft.voters - self.reached(raft, now))
        if self._group.allegiance.follows and missing:
            return (
                "this node waits for one whose metadata group has taken the place of its own",
                "See `basestore status`: start the node on which `basestore node rebuild-group` was run, and "
                "try again",
            )
        if raft.votes and not self._group.confirmed:
            return (
                "nobody is heard to lead the metadata group, and this node does not vote itself before its "
                "store counts",
                "See `basestore status`: it says what that waits for; see to that, and try again",
            )
        if len(raft.voters) - len(missing) >= majority(raft.voters):
            return (
                "nobody leads the metadata group for the moment: a majority of its voters is reached, and is "
                "to elect a leader",
                f"Try again in a few seconds; if that lasts, {see[0].lower()}{see[1:]}",
            )
        there = [voter for voter in missing if self._is_heard(voter.number, now)]
        away, names = self._names(set(missing) - set(there)), self._names(missing)
        acts = [f"start {away}"] if away else []
        acts += [f"bring back the stores by which {self._names(there)} voted"] if there else []
        return (
            f"nobody leads the metadata group, for no majority of its voters is reached: {names} of "
            f"{len(raft.voters)} {'is' if len(missing) == 1 else 'are'} missing",
            f"{see}, {', '.join(acts)}, and try again; if most voters' stores are lost for good, see "
            f"`basestore node rebuild-group --help`",
        )

    def reached(self, raft: Raft, now: Instant) -> set[Voter]:
        """The voters that are there, on the stores by which they vote, as seen from here."""
        return {voter for voter in raft.voters if self._votes(voter) and self._is_heard(voter.number, now)}

    def _votes(self, voter: Voter) -> bool:
        """Whether its member votes by that now."""
        return voter in (self._group.me, self._group.voter_of(voter.number))

    def _is_heard(self, number: int, now: Instant) -> bool:
        index = self._peers.index_of.get(number)
        return index is not None and (index == self._peers.me or self._peers.hears(index, now))

    def _names(self, voters: Iterable[Voter]) -> str:
        indices = [(voter.number, self._peers.index_of.get(voter.number)) for voter in sorted(voters)]
        return ", ".join(
            f"member {number}" if index is None else self._peers.all[index].name for number, index in indices
        )
