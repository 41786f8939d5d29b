"""Bugs of moves: rules by which a partition goes from member to member while it is served, left out. They are
called as the model's mutants are, where it has one. Those of "crossings" are played in worlds where one move
follows the other."""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

from basestore.anti_entropy.certificates import Certificates
from basestore.anti_entropy.exchange import Exchange
from basestore.anti_entropy.exchanges import Exchanges
from basestore.anti_entropy.recovery import Recovery
from basestore.cluster.operations import Operations
from basestore.cluster.placement import Placement
from basestore.cluster.seating import Seating
from basestore.consistency import JointQuorum, Level
from basestore.coordinator.quorum_read import QuorumRead
from basestore.coordinator.quorum_write import QuorumWrite
from basestore.handoff.hints import Hints
from basestore.handoff.moved_hints import MovedHints
from basestore.membership.metadata_group import MetadataGroup
from basestore.moves import conductor
from basestore.moves.reports import MoveReports
from basestore.repair import moving
from basestore.repair.certificate import LastExchange
from basestore.repair.seats import Seats
from basestore.replica.admission import Admission
from basestore.replica.dropped_rows import GivenUpRows
from basestore.replica.summaries import Summaries
from basestore.topology import member_changes
from tests.simulation.mutations.registry import LOG, MUTANTS, STALE, reworded

HELD = STALE | {"quorums", "moved", "shown", "whole", "stable stamps", "receipts", "convergence", "converged"}
STAMPS = {"purges", "stable stamps", "final", "closed", "convergence", "converged", "counts"} | HELD
HINTS = {"moved hints", "moved", "debts", "lost writes", "acks", "late hints", "only copies", "receipts"}
ENDS = {"moves end", "recovery", "crash", "quiet", "log ends", "sessions"}

MET = "self._answered, self._quorum.met"
CONFIRMED = "__import__('tests.simulation.mutations.move_rules').simulation.mutations.move_rules.confirmed"

left_out = partial(reworded, clients=None)


def confirmed(quorum: Any, members: str) -> Callable[..., bool]:
    """In place of `Quorum.met` while two quorums are asked: by one, of these members."""
    those = getattr(quorum, members, ())

    def met(heard: Iterable[int], less: Collection[int] = ()) -> bool:
        level: Level = quorum.level
        return len({*those} & {*heard} - {*less}) >= level.required(len(those))

    return met if isinstance(quorum, JointQuorum) else quorum.met


# --- epochs --------------------------------------------------------------------------------------

left_out("moves: no fence", HELD | HINTS, Admission, "_level",
         "return level or told >= max(map(self._placement.since, _partitions(message)), default=0)",
         "return True", "crossings")  # fmt: skip
left_out("moves: the fence is not durable", LOG | HELD, MetadataGroup, "_note",
         "self._coming, self._sure = coming, False", "self._coming, self._sure = coming, True",
         "moves")  # fmt: skip
left_out("moves: what is said under a later epoch is answered by an earlier one", HELD | HINTS, Admission,
         "_awaits", "if told > self._peers.heard_epoch:", "if False:", "crossings")  # fmt: skip
left_out("moves: acknowledgements are kept", HELD | HINTS, Operations, "moved",
         "operation.moved(partitions, now)", "pass", "crossings")  # fmt: skip
left_out("moves: sessions of any epoch", STAMPS, Certificates, "_epochs",
         "if self.seating.dropped_since is None:", "if True:", "crossings")  # fmt: skip
left_out("moves: a session goes on over an entry", STAMPS, Recovery, "adopt",
         "self._scheduler.exchanges.end_of(list(ended),", "self._scheduler.exchanges.end_of(gone,",
         "crossings")  # fmt: skip

# --- quorums -------------------------------------------------------------------------------------

for whose, what in (("old", "self._old"), ("new", "self._new"), ("all", "self.replicas")):
    left_out(f"moves: a joint quorum is one of the {whose} members", HELD, JointQuorum, "_halves_at",
             "else (self._old, self._new)", f"else ({what},)", "moves")  # fmt: skip
    left_out(f"moves: a joint read is confirmed by one quorum, of the {whose}", HELD, QuorumRead,
             "consider", MET, f"self._answered, {CONFIRMED}(self._quorum, {what!r}[5:])",
             "moves")  # fmt: skip
left_out("moves: one on a leaver", HELD, JointQuorum, "_halves_at",
         "if level is _ALL else", "if level is not _QUORUM else", "moves")  # fmt: skip
left_out(
    "moves: one on a newcomer",
    HELD,
    JointQuorum,
    "_halves_at",
    "else (self._old, self._new)",
    "else (self._old, self._new) if level is _QUORUM else (self._new,)",
    "moves",
)
left_out("moves: those that come are written nothing", HELD | ENDS, Placement, "agreeing",
         "seats.new if joint else seats.old", "seats.old", "moves")  # fmt: skip

# --- when a stage may end ------------------------------------------------------------------------

left_out("moves: old certificates", HELD, Certificates, "seat",
         "for each in (self._last_exchanges, self._durable):", "for each in ():", "crossings")  # fmt: skip
left_out("moves: one source makes complete", HELD, moving, "complete",
         "covers(known, seats.old, away, new)", "bool(known & set(seats.old))", "crossings")  # fmt: skip
left_out("moves: one source makes fit", HELD, Seating, "covered",
         "covers(met, self.seats[partition].old, self.dead)", "bool(met)", "moves")  # fmt: skip
left_out("moves: who is dead stands for who is left", HELD, moving, "covers",
         "known >= left", "len(known) >= len(left)", "moves")  # fmt: skip
left_out("moves: of nobody all are met", HELD, moving, "covers",
         "bool(left and known >= left)", "known >= left", "moves")  # fmt: skip
left_out("moves: back to too few", HELD, moving, "_keep_enough",
         "has_left_enough(seats, away | (set(seats.old) - fit))", "True", "moves")  # fmt: skip
left_out("moves: who is dead is taken nothing from", HELD, moving, "next_seats",
         "only_dead or ", "", "moves")  # fmt: skip
left_out("moves: cancelled, with too few left", HELD, member_changes, "_taken_back",
         " and not has_left_enough(of, away[at])", " and False", "moves")  # fmt: skip
left_out("moves: turned, and what was given is given up", HELD, moving, "next_seats",
         "if turned else", "if False else", "moves")  # fmt: skip
left_out("moves: so many are needed, less one", HELD, moving, "needed",
         "len(old) - _quorum(old) + 1", "len(old) - _quorum(old)", "crossings")  # fmt: skip
left_out("moves: one complete", HELD, moving, "_lacking",
         "if len(ready) >= _quorum(new)", "if ready", "crossings")  # fmt: skip
left_out("moves: one complete less than a quorum", HELD, moving, "_lacking",
         "if len(ready) >= _quorum(new)", "if len(ready) >= _quorum(new) - 1", "crossings")  # fmt: skip
left_out("moves: stayers are complete", HELD, moving, "complete",
         "nobody or covers", "member in seats.old or nobody or covers",
         "crossings")  # fmt: skip
left_out("moves: a leaver is not asked", HELD, moving, "awaited",
         "return _lacking(ready, new) | (set(seats.old) - new - dead - handed)",
         "return _lacking(ready, new)", "crossings")  # fmt: skip
left_out("moves: no joint", LOG | HELD | ENDS, conductor, "next_seats",
         "return Seats(0, Stage.JOINT, seats.old, seats.new)", "return Seats.still(seats.new)",
         "moves")  # fmt: skip
left_out("moves: a report counts after its link", HELD, MoveReports, "of",
         "rows.get(partition) if peer.linked and peer.outbox is on else None", "rows.get(partition)",
         "moves")  # fmt: skip
left_out("moves: a report counts after its entry", HELD, MoveReports, "of",
         "row if row is not None and row.since == seats.since else None", "row", "moves")  # fmt: skip
left_out("moves: what lacks itself is a source", HELD, Exchanges, "_conclude",
         "whole = exchange.completeness.peer_whole", "whole = True", "crossings")  # fmt: skip
left_out("moves: what is not durable yet is proven", HELD, LastExchange, "holds",
         "self.stores == stores and self.batch <= durable", "self.stores == stores", "crossings")  # fmt: skip

# --- who counts ----------------------------------------------------------------------------------

left_out("moves: the unfit answer", HELD | HINTS, Admission, "_is_unfit",
         "return not self._unfit.isdisjoint(_partitions(message))", "return False", "crossings")  # fmt: skip
left_out("moves: a returner is trusted", HELD | STAMPS, Recovery, "_take_up",
         "self._doubt(partition)", "self._certificates.take_up(partition)", "moves")  # fmt: skip
left_out("moves: what a returner had proven still is", HELD | STAMPS, Certificates, "take_up",
         "self.withdraw(partition, member)", "pass", "moves")  # fmt: skip
left_out("moves: who may have missed a move trusts itself", HELD | STAMPS, Recovery, "_news",
         "return DOUBTED if partition in unsure else b\"\"", "return b\"\"", "moves")  # fmt: skip
left_out("moves: that something is lacking is not noted", HELD | STAMPS, Summaries, "foresee_unfit",
         "self._group_commit.stage(keyspace.unfit(partition), how)", "pass", "moves")  # fmt: skip
left_out("moves: fit before that is durable", HELD | STAMPS, Summaries, "make_fit",
         "self._group_commit.when_durable(become_fit)", "become_fit()", "moves")  # fmt: skip

# --- stamps --------------------------------------------------------------------------------------

left_out("moves: stable without the new", STAMPS, Certificates, "advance",
         "others = self.others[partition]",
         "others = [e for e in self.others[partition] if e in self.seating.seats[partition].old]",
         "moves")  # fmt: skip
left_out("moves: stable by claims of any epoch", STAMPS, Certificates, "_tag",
         "tag = stores_tag([stores[replica] for replica in replicas], since)",
         "tag = stores_tag([stores[replica] for replica in replicas], 0)", "moves")  # fmt: skip
# In place of the model's `purge-in-session`, which spoils nothing here: while an exchange has a snapshot open
# no stamp becomes stable but by its own end, and all that was due was purged before it began; what only the
# root was told of may go, for what was proven is of the moment at which it was told.
left_out("moves: what was purged comes back with a returner", STAMPS, Exchange, "__init__",
         "counts = self._certificates.counts(partition)", "counts = local.identity.counts",
         "moves")  # fmt: skip

# --- hints, and rows -----------------------------------------------------------------------------

left_out("moves: an only copy is dropped", HINTS, MovedHints, "_move",
         "copy = not (hint.only_copy or hint.late) and self._in_use(partition, hint.stores)",
         "copy = True", "moves")  # fmt: skip
left_out("moves: any hint for who left is a copy", HINTS, MovedHints, "_move",
         " and self._in_use(partition, hint.stores)", "", "moves")  # fmt: skip
left_out("moves: what a leaver has taken is kept no more", HINTS | HELD, Hints, "lasts",
         "taken = not hint.only_copy or", "taken = True or", "moves")  # fmt: skip
left_out("moves: a leaver is a taker", HINTS, QuorumWrite, "_keep",
         "if member in lasting and member not in parted", "if member not in parted", "moves")  # fmt: skip
left_out("moves: a leaver has been told of as a taker", HINTS, Admission, "taken_by",
         "for index in indices if index in lasting]", "for index in indices if index >= 0]",
         "moves")  # fmt: skip
_KEPT, _TOLD = MUTANTS[-2:]  # either of them would do
MUTANTS[-2:] = [_KEPT._replace(patches=lambda: [*_KEPT.patches(), *_TOLD.patches()])]
left_out("moves: who gives up a move has handed over", HINTS, Seating, "seat",
         "ended = (was.stage, seats.stage, seats.old) == (Stage.JOINT, Stage.STILL, was.new)",
         "ended = True", "moves")  # fmt: skip
left_out("moves: hints for who left stay", HINTS | ENDS, MovedHints, "look",
         "self._look(pile, changed)", "pass", "moves")  # fmt: skip
left_out("moves: given up rows go though they were given back", {"purges"} | STAMPS | ENDS, GivenUpRows,
         "look", "self.pending = {each: None for each in self.pending if each not in held}", "held",
         "moves")  # fmt: skip
left_out("moves: given up rows stay", ENDS, GivenUpRows, "look",
         "self.pending |= dict.fromkeys(given_up)", "given_up", "moves")  # fmt: skip

# --- what entries say ----------------------------------------------------------------------------

left_out("moves: a cancelled move ends", LOG | HELD, member_changes, "cancel_moves",
         "Seats.still(of.old, index)", "Seats.still(of.new, index)", "moves")  # fmt: skip
left_out("moves: what is taken back goes on", LOG | HELD, member_changes, "take_back",
         "dict.fromkeys(under_way, TAKEN_BACK)", "{}", "moves")  # fmt: skip
left_out("moves: what has ended is taken back", LOG | HELD, member_changes, "_planned",
         "goal != TAKEN_BACK and ", "", "moves")  # fmt: skip
left_out("moves: a plan is not bound to its epoch", LOG | HELD, member_changes, "set_plan",
         "if change.made_at != index - 1:", "if False:", "moves")  # fmt: skip
left_out("moves: any step is as good as the next", LOG | HELD, member_changes, "set_seats",
         "was.seats[partition].wrong_step(new) or new.wrong(able)", "new.wrong(able)", "moves")  # fmt: skip
left_out("moves: a move is taken back after its end", LOG | HELD, Seats, "wrong_step",
         "if self.stage is Stage.STILL:",
         'if self.stage is after.stage is Stage.STILL:\n        return ""\n    if self.stage is Stage.STILL:',
         "moves")  # fmt: skip
left_out("moves: seats keep the epoch that they had", LOG | HELD, member_changes, "set_seats",
         "seats[partition] = new", "seats[partition] = new._replace(since=was.seats[partition].since)",
         "moves")  # fmt: skip
