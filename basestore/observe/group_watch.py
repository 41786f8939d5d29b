"""Group watch: how the metadata group stands as this node sees it, and what is worth a line in its log.

    role      leader; voter; learner, who is fed the log to become one; follower, who only hears what is
              decided; none, while no group is known
    behind    members that use an earlier epoch than is known to be decided, and since when
    silent    voters that this node, as the leader, has not heard for QUORUM_S

What is not known is told as that: the epoch of a member without a link, and who is silent, but by the leader.
Whoever drives the node calls `look` now and then, and writes what it returns: one line for each change, not
for each look, and a bounded number of bounded lines. Changes nothing.
"""

from typing import Final, NamedTuple

from basestore.cluster.peers import Peers
from basestore.consensus.leadership import QUORUM_S
from basestore.consensus.log import Entry, Kind
from basestore.consensus.raft import Raft
from basestore.instant import Instant
from basestore.membership.membership import Membership
from basestore.protocol.membership import NOWHERE
from basestore.topology.changes import Founded
from basestore.topology.entries import UNNAMED, Suggestion, decode_entry

ROLES: Final = ("leader", "voter", "learner", "follower", "none")
SERVED: Final = "data are served, changes of what the cluster is are refused"
ELECTED_S: Final = 10.0  # after its opening a node warns of no leader only once this has passed
ENTRIES_MAX: Final = 20  # a look
SKIPPED_MIN: Final = 200  # entries that come at once are told as a number
LINE_CHARACTERS_MAX: Final = 300


class Line(NamedTuple):
    """Of the node's log. `warns`: it is a warning."""

    text: str
    warns: bool = False


class Behind(NamedTuple):
    """By how many entries a member is behind, and since when, in ms since 1970 by this node's clock."""

    entries: int
    since_ms: int


class GroupState(NamedTuple):
    """At one moment. `decided`: the latest epoch that is known to be; `epoch`: in use here; both NOWHERE
    where there is none. `no_leader_since_ms`: None while a leader is known. `epochs`: in use on each member,
    None where that is not known. `silent`: voters, and when they were heard last. `untaken`: members whose
    former store votes, and not yet the one that they run on. `waits`: why there is no group."""

    role: str
    leader: str
    term: int
    epoch: int
    decided: int
    no_leader_since_ms: int | None
    voters: tuple[str, ...]
    epochs: dict[str, int | None]
    behind: dict[str, Behind]
    silent: dict[str, int]
    untaken: tuple[str, ...]
    waits: str
    stranded: dict[str, tuple[str, int]]

    def facts(self) -> dict[str, str]:
        """For `basestore status`, as names and values (`results/metadata.py` reads them)."""
        since_ms = self.no_leader_since_ms
        facts = {
            "metadata role": self.role,
            "metadata leader": self.leader,
            "metadata term": str(self.term),
            "metadata epoch": _text(self.epoch),
            "metadata decided": _text(self.decided),
            "metadata no leader since ms": "" if since_ms is None else str(since_ms),
            "metadata voters": " ".join(self.voters),
            "metadata untaken": " ".join(self.untaken),
            "metadata waits": self.waits,
        }
        for name, epoch in self.epochs.items():
            facts[f"metadata of {name}"] = _text(NOWHERE if epoch is None else epoch)
        for name, behind in self.behind.items():
            facts[f"metadata behind {name}"] = f"{behind.entries} {behind.since_ms}"
        for name, heard_ms in self.silent.items():
            facts[f"metadata silent {name}"] = str(heard_ms)
        for name, (standing, partitions) in self.stranded.items():
            facts[f"metadata stranded {name}"] = f"{standing} {partitions}"
        return facts


def _known(epoch: int | None) -> int | None:
    return None if epoch == NOWHERE else epoch


def _text(epoch: int) -> str:
    return "" if epoch == NOWHERE else str(epoch)


class GroupWatch:
    """Of one node."""

    def __init__(self, membership: Membership, peers: Peers, now: Instant) -> None:
        self._membership, self._peers, self._opened = membership, peers, now
        self._behind_ms: dict[int, int] = {}  # since when a member is, by index
        group = membership.group
        self._group = group.group
        self._epoch = group.topology.epoch if group.topology is not None else None  # as it was written last
        self._leader: tuple[int, int] | None = None  # number and term, as it was written last
        self._lost = False
        self._silent: dict[str, int] = {}

    # --- how it stands ---------------------------------------------------------------------------

    def state(self, now: Instant) -> GroupState:
        """As of `now`."""
        group, leader = self._membership.group, self._membership.leader
        number, raft, epochs = leader.number(now), group.raft, self._epochs()
        decided = self._decided(epochs)
        since_ms = None if number is not None else self._heard_ms(now)
        names = {peer.index: peer.name for peer in self._peers.present}
        behind = {
            names[at]: Behind(decided - epoch, self._behind_ms.get(at, now.wall_ms))
            for at, epoch in epochs.items()
            if epoch < decided and at in names
        }
        voters = sorted(voter.number for voter in raft.voters) if raft is not None else []
        return GroupState(
            self._role(now), "" if number is None else self._name(number), leader.term(now), group.epoch,
            decided, since_ms, tuple(map(self._name, voters)),
            {name: _known(epochs.get(at)) for at, name in names.items()}, behind, self._unheard(now),
            self._untaken(), self._waits(), self._stranded(),
        )  # fmt: skip

    def _stranded(self) -> dict[str, tuple[str, int]]:
        """Members that are to leave, and of how many partitions of theirs nothing is planned."""
        topology = self._membership.group.topology
        if topology is None or not (held := topology.stranded):
            return {}
        going = [each for each in topology.members if each.number in held]
        return {each.name: (each.standing.value, held[each.number]) for each in going}

    def _role(self, now: Instant) -> str:
        raft = self._membership.group.raft
        if raft is None:
            return "none"
        if raft.leads:
            return "leader"
        if raft.votes:
            return "voter"
        # Nobody but voters and learners hears a leader itself.
        fed = raft.leader is not None and now.monotonic - raft.heard_s <= QUORUM_S
        return "learner" if fed else "follower"

    def _epochs(self) -> dict[int, int]:
        """In use, by member, as far as that is known."""
        epochs = {self._peers.me: self._membership.group.epoch}
        epochs |= {member: at.epoch for member, at in self._membership.following.told.items()}
        return epochs

    def _decided(self, epochs: dict[int, int]) -> int:
        return max(self._membership.group.decided, *epochs.values(), NOWHERE)

    def _heard_ms(self, now: Instant) -> int:
        """When a leader was heard of last, or the store was opened."""
        ago_ms = self._membership.leader.heard_ms(now)
        return self._opened.wall_ms if ago_ms < 0 else now.wall_ms - ago_ms

    def _unheard(self, now: Instant) -> dict[str, int]:
        """Voters that are silent, and when this node, the leader, heard them last."""
        raft, silent = self._membership.group.raft, dict[str, int]()
        if raft is not None and raft.leadership is not None:
            for voter, progress in raft.leadership.followers.items():
                ago_s = now.monotonic - progress.contact_s
                if voter in raft.voters and ago_s >= QUORUM_S:
                    silent[self._name(voter.number)] = now.wall_ms - int(ago_s * 1e3)
        return silent

    def _untaken(self) -> tuple[str, ...]:
        group = self._membership.group
        voters = group.raft.voters if group.raft is not None else frozenset()
        numbers = sorted({voter.number for voter in voters})
        return tuple(self._name(each) for each in numbers if group.voter_of(each) not in {None, *voters})

    def _waits(self) -> str:
        if self._membership.group.raft is not None:
            return ""
        why, advice = self._membership.leader.unfounded()
        return f"{why}. {advice}"

    def _name(self, number: int) -> str:
        topology = self._membership.group.topology
        entry = topology.member(number) if topology is not None else None
        index = self._peers.index_of.get(number)
        if entry is None and index is not None:
            return self._peers.all[index].name
        return entry.name if entry is not None else f"number {number}"

    # --- what is new -----------------------------------------------------------------------------

    def look(self, now: Instant) -> list[Line]:
        """What is to be written since the last look."""
        epochs = self._epochs()
        decided = self._decided(epochs)
        late = [member for member, epoch in epochs.items() if epoch < decided]
        if late or self._behind_ms:
            self._behind_ms = {member: self._behind_ms.get(member, now.wall_ms) for member in late}
        return [*self._of_group(), *self._of_leaders(now), *self._of_entries(), *self._of_voters(now)]

    def _of_group(self) -> list[Line]:
        group, former = self._membership.group.group, self._group
        if group == former:
            return []
        self._group, self._epoch = group, None
        if not former:
            return [Line(f"the metadata group is founded: {group.hex()}")]
        return [Line(f"goes over to the metadata group {group.hex()}, which was rebuilt", warns=True)]

    def _of_leaders(self, now: Instant) -> list[Line]:
        leader, raft = self._membership.leader, self._membership.group.raft
        number = leader.number(now)
        if number is not None:
            is_new = self._leader != (number, leader.term(now))
            self._leader, self._lost = (number, leader.term(now)), False
            text = f"{self._name(number)} leads the metadata group, in term {leader.term(now)}"
            return [Line(text)] if is_new else []
        long = now.monotonic - self._opened.monotonic >= ELECTED_S
        if self._lost or raft is None or self._peers.left or not (self._leader or long):
            return []
        self._leader, self._lost = None, True
        reached = len(leader.reached(raft, now))
        text = (
            f"no leader of the metadata group is known: {reached} of its {len(raft.voters)} voters are seen "
            f"from here; {SERVED} until a majority has elected one"
        )
        return [Line(text, warns=True)]

    def _of_entries(self) -> list[Line]:
        group, told = self._membership.group, self._epoch
        raft, topology = group.raft, group.topology
        if raft is None or topology is None or topology.epoch == told:
            return []
        self._epoch = topology.epoch
        if told is None:
            done = f": {_complete(self._voters(raft))}" if topology.founded else ""
            return [Line(f"epoch {topology.epoch} is in use, the first one here{done}")]
        if raft.log.base.last > told or topology.epoch - told > SKIPPED_MIN:
            text = f"epochs {told + 1} to {topology.epoch} came at once (basestore topology history)"
            return [Line(f"epoch {topology.epoch} is in use: {text}")]
        self._epoch = min(topology.epoch, told + ENTRIES_MAX)
        lines = list[Line]()
        for epoch, _, text in group.log.history.between(told, self._epoch):
            said = _said(raft.log.entry(epoch))
            if said is not None and isinstance(said.change, Founded):
                lines.append(Line(f"epoch {epoch} is in use: {_complete(self._voters(raft))}"))
            elif said is not None and said.id != UNNAMED:
                lines.append(Line(_cut(f"epoch {epoch} is in use: {text}")))
        return lines

    def _voters(self, raft: Raft) -> list[str]:
        return [self._name(voter.number) for voter in sorted(raft.voters)]

    def _of_voters(self, now: Instant) -> list[Line]:
        raft, silent, had = self._membership.group.raft, self._unheard(now), self._silent
        if not (silent or had) or raft is None:
            return []
        self._silent, voters = silent, self._voters(raft)
        heard = len(voters) - len(silent)
        lines = [
            Line(f"voter {name} of the metadata group is not heard: {heard} of {len(voters)} are", warns=True)
            for name in silent.keys() - had.keys()
        ]
        if raft.leads:
            back = (had.keys() - silent.keys()) & {*voters}
            lines += [Line(f"voter {name} of the metadata group is heard again") for name in back]
        return sorted(lines)


def _complete(voters: list[str]) -> str:
    return f"the metadata group is complete, its voters are {', '.join(voters)}"


def _said(entry: Entry) -> Suggestion | None:
    """What an entry asked for; None for what only raft reads, or nobody can."""
    try:
        return decode_entry(entry.data) if entry.kind is Kind.DATA else None
    except ValueError:
        return None


def _cut(text: str) -> str:
    return text if len(text) <= LINE_CHARACTERS_MAX else f"{text[:LINE_CHARACTERS_MAX]}..."
