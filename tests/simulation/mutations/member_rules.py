"""Bugs of members that come and go: rules by which they join, are drained, replaced and removed, and by which
as many of them as must hold each partition, left out."""

from functools import partial

from basestore.membership import adoption
from basestore.membership.adoption import Adoption
from basestore.membership.membership import Membership
from basestore.membership.topology_requests import TopologyRequests
from basestore.moves.conductor import Conductor
from basestore.repair import moving
from basestore.topology import judgement, member_changes
from tests.simulation.mutations.registry import LOG, STALE, reworded

HELD = STALE | {"quorums", "moved", "shown", "whole", "stable stamps", "receipts", "convergence", "converged"}
KEPT = HELD | {"only copies", "acks", "losses", "late hints"}
ENDS = {"moves end", "recovery", "crash", "quiet", "log ends", "sessions", "voters"}

left_out = partial(reworded, clients=None)

# --- who is a member -----------------------------------------------------------------------------

left_out("members: a number is given twice", LOG | HELD, member_changes, "add_member",
         "was.members[-1].number + 1", "was.present[-1].number + 1", "moves")  # fmt: skip
left_out("members: two have one name", LOG | HELD, member_changes, "add_member",
         "each.name == name", "False", "moves")  # fmt: skip
left_out("members: two have one address", LOG | HELD, member_changes, "add_member",
         "each.address == address", "False", "moves")  # fmt: skip
left_out("members: who holds partitions has left", LOG | HELD, member_changes, "set_member",
         "new.standing is Standing.LEFT and any(held.number in each.both",
         "False and any(held.number in each.both", "moves")  # fmt: skip
left_out("members: who has left is one again", LOG | HELD, member_changes, "set_member",
         "if held.standing is Standing.LEFT:", "if False:", "moves")  # fmt: skip
left_out("members: who has left is drained", LOG | HELD, member_changes, "_stands",
         "if held.standing is Standing.LEFT:", "if False:", "moves")  # fmt: skip

# --- who stays -----------------------------------------------------------------------------------

left_out("members: too few stay", LOG | ENDS, member_changes, "_check_enough",
         "if left < was.replication:", "if False:", "moves")  # fmt: skip
left_out("members: more replicas than members", LOG | ENDS, member_changes, "set_replication",
         "if change.replicas > len(was.staying):", "if False:", "moves")  # fmt: skip
left_out("members: who is dead is drained", LOG | ENDS, member_changes, "drain_member",
         "if held.standing in _GOING:", "if held.standing is Standing.DRAINING:", "moves")  # fmt: skip
left_out("members: nobody stays after all", LOG | ENDS, member_changes, "_taken_back",
         "each._replace(standing=Standing.MEMBER)", "each", "moves")  # fmt: skip

# --- who takes whose place -----------------------------------------------------------------------

left_out("members: one takes a place beside itself", LOG | HELD, member_changes, "replace_member",
         "if twice:", "if False:", "moves")  # fmt: skip
left_out("members: one that goes takes a place", LOG | ENDS, member_changes, "replace_member",
         "if by.standing in _GOING:", "if False:", "moves")  # fmt: skip
left_out("members: one takes its own place", LOG | ENDS, judgement, "fault",
         "if number == by else", "if number < 0 else", "moves")  # fmt: skip
left_out("members: who is replaced stays", LOG | ENDS, member_changes, "replace_member",
         "held._replace(standing=standing)", "held", "moves")  # fmt: skip

# --- what is planned -----------------------------------------------------------------------------

left_out("members: a plan names one that goes", LOG | ENDS, member_changes, "set_plan",
         " or not able >= set(goal)", "", "moves")  # fmt: skip
left_out("members: a plan names fewer than there are to be", LOG | HELD, member_changes, "set_plan",
         "len(set(goal)) != was.replication or len(goal) != was.replication", "not goal",
         "moves")  # fmt: skip
left_out("members: one that joins counts before it is given anything", LOG | ENDS, member_changes, "set_plan",
         " and e.number in named", "", "moves")  # fmt: skip
left_out("members: one that is not there is given partitions", ENDS, Conductor, "_next",
         "_without(topology, joining - there)", "topology", "moves")  # fmt: skip

# --- who has gone --------------------------------------------------------------------------------

left_out("members: who has left serves", {"members"}, Membership, "closed", "if peers.left:", "if False:",
         "changes")  # fmt: skip
left_out("members: who votes has left", LOG | ENDS | {"members"}, Conductor, "_gone",
         "held |= {voter.number for voter in raft.voters}", "pass", "changes")  # fmt: skip
left_out("members: who keeps an only copy has left", KEPT, Conductor, "_gone",
         "self._has_none(index, self._idle[member.number], now)", "now", "moves")  # fmt: skip
left_out("members: who answers is dead", KEPT | {"members"}, TopologyRequests, "_check",
         "if index == peers.me or peers.hears(index, now):", "if False:", "changes")  # fmt: skip
left_out("members: who is dead is waited for", ENDS | {"members"}, moving, "awaited",
         "(set(seats.old) - new - dead - handed)", "(set(seats.old) - new - handed)",
         "changes")  # fmt: skip
left_out("members: as many are to be met though they are dead", ENDS, moving, "covers",
         "bool(left and known >= left)", "False", "moves")  # fmt: skip
left_out("members: what only the dead had is no loss", KEPT | {"sessions"}, adoption, "_left_of",
         "if count is not None", "if count == -1", "changes")  # fmt: skip
left_out("members: who joins is waited for by clocks", ENDS | {"clocks"}, Adoption, "adopt",
         "if e.standing in _BY_CLOCK", "if e.standing.value", "moves")  # fmt: skip
