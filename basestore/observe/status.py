"""Status: what a node says of itself, for `basestore status`, `top` and `hints`.

Facts are names and values in words, in the order in which they are shown; a client passes on what it does
not know. Everything here is read off the rooms that it is about, and changes nothing.
"""

from collections.abc import Mapping

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.recovery import Recovery
from basestore.cluster.peers import Peers
from basestore.config import NodeConfig
from basestore.handoff.debts import Debts
from basestore.handoff.hints import Hints
from basestore.instant import Instant
from basestore.metrics import Metrics
from basestore.protocol.operator import DebtRow, Fact, HintPiles, NodeStatus, PileRow
from basestore.protocol.proof import JOIN_ANEW
from basestore.repair.version import COUNTER_BITS
from basestore.replica.identity import State, StoreIdentity
from basestore.replica.losses import Losses
from basestore.replica.replica import Replica

_WORD = (
    "It waits for them, or for your word: if all were moved, or restored together, and nothing newer is "
    "left, have them taken as they are: basestore repair --as-is; if it is an old copy, start it once with "
    "--forgetful"
)

_LOST = (
    "; start the others, and it goes on; if all that could are lost for good, take it as it is: basestore "
    "repair --as-is"
)

RETIRED = "it has left the cluster"  # what a member is told that does not know it yet


def state(identity: StoreIdentity) -> str:
    """up, starting (not yet known to be whole), forgetful or left (the cluster, for good)."""
    if identity.retired:
        return "left"
    if identity.state is State.FORGETFUL:
        return "forgetful"
    return "up" if identity.counts else "starting"


def reason(identity: StoreIdentity, peers: Peers, certificates: Certificates) -> str:
    """Why the store does not count, in words; empty when it does."""
    if identity.counts:
        return ""
    if identity.retired:
        return _farewell(peers.dismissed_by)
    why = identity.reason or identity.waits_for
    seen = [peer for peer in peers.others if peer.introduced]
    up = sum(peer.whole for peer in seen)
    few = not all(map(certificates.recoverable, certificates.others))
    if identity.unconfirmed and not up:
        why += _LOST
    elif identity.takeable and few and (seen or not peers.others):
        why += f"; {'too few members' if up else 'no member'} that it sees is up. {_WORD}"
    elif identity.state is State.FORGETFUL and any(peer.takeable for peer in seen):
        names = ", ".join(peer.name for peer in seen if peer.takeable)
        why += f"; where too few others are up it waits for what an operator says of {names}"
    return why


def _farewell(by: str) -> str:
    """What to tell an operator once the node's member has left. `by`: who says so, where its log does not."""
    left = (
        f"{by} says that this node has left the cluster meanwhile" if by else "this node has left the cluster"
    )
    return (
        f"{left}: it serves nothing, and its store holds nothing that the cluster needs. Stop it, and "
        f"{JOIN_ANEW}"
    )


def facts(
    config: NodeConfig,
    identity: StoreIdentity,
    peers: Peers,
    replica: Replica,
    certificates: Certificates,
    recovery: Recovery,
    hints: Hints,
    debts: Debts,
    losses: Losses,
    disk: str,
    clock: str,
) -> dict[str, str]:
    """Of the store and of the members, as they are seen from here."""
    recovered, of = recovery.progress()
    lost = losses.all_open
    worst = max(lost, key=lambda row: row.upto, default=None)
    return {
        "node": config.name,
        "state": state(identity),
        "reason": reason(identity, peers, certificates),
        "copied": "yes" if recovery.takeable else "",
        "recovered": f"{recovered}/{of}" if of and not identity.counts else "",
        "records": str(replica.summaries.records),
        "alive": " ".join(peer.name for peer in peers.present if peers.alive[peer.index]),
        "durability": config.durability,
        "damaged": str(len(replica.damaged)),
        "disk": disk,
        "clock": clock,
        "clock jump ms": str(peers.clock.ahead_ms or ""),
        "lossy": str(len({row.partition for row in lost})),
        "lost until ms": str(worst.upto >> COUNTER_BITS) if worst else "",
        "lost sources": f"{worst.sources} of {worst.needed}" if worst else "",
        "deferred hints": str(hints.deferred_count),
        "deferred bytes": str(hints.deferred_bytes),
        **{f"hints {peer.name}": str(hints.count(peer.index)) for peer in peers.present},
        **{f"debt {peer.name}": str(len(debts.of[peer.index])) for peer in peers.present},
    }


def answer(request: int, facts: Mapping[str, str]) -> NodeStatus:
    """The answer to a Status or Counters."""
    return NodeStatus(request, [Fact(*fact) for fact in facts.items()])


def hint_piles(
    request: int, name: str, hints: Hints, peers: Peers, metrics: Metrics, now: Instant
) -> HintPiles:
    """The answer to a HintsOf: hints and debts by member."""
    piles, debts = [], []
    for pile in hints.summary():
        number, alive = peers.number_of[pile.member], peers.alive[pile.member]
        piles.append(
            PileRow(
                number, alive, pile.count, pile.bytes, pile.only_copies, pile.oldest_ms or 0, pile.late,
                pile.deferred,
            )
        )  # fmt: skip
        debts += [DebtRow(number, partition, since_ms) for partition, since_ms in pile.debt.items()]
    decided = [metrics.counts[f"hints_late_{how}"] for how in ("rewritten", "superseded")]
    return HintPiles(request, name, now.wall_ms, piles, debts, *decided)
