"""Bugs of registers: a rule of a proposer, an acceptor or a learner, of skipped prepares, of what is purged
or of who is an acceptor, left out. The first are those of the reference model, on the real
code; that acceptors answer under any epoch is among the bugs of moves (`no fence`)."""

from functools import partial

from basestore.anti_entropy.closed_stamps import ClosedStamps
from basestore.cluster.finishing import Finishing
from basestore.cluster.seating import Seating
from basestore.consistency import JointQuorum
from basestore.coordinator.stamper import Stamper
from basestore.registers import proposer as proposers
from basestore.registers import round as rounds
from basestore.registers.acceptors import Acceptors
from basestore.registers.forwarded import Forwarded
from basestore.registers.proposer import Proposer
from basestore.registers.registers import Registers
from basestore.registers.round import Round
from basestore.registers.skipped_prepares import SkippedPrepares
from basestore.repair import paxos
from basestore.repair.compare_and_set import Attempt
from basestore.repair.paxos import Acceptor
from tests.simulation.mutations.registry import reworded

CHAIN = {
    "one chain",
    "twice",
    "stored",
    "lost",
    "refused",
    "chosen",
    "reads",
    "time",
    "conditions",
    "numbers",
}
SEEN = CHAIN | {"learned", "held", "ballots", "replicas", "sessions"}
ENDS = SEEN | {"finished", "recovery", "moves end", "answers"}

LOSS = ("wipe", "ambush", "rollback", "wipe after ack")
CHANGE = ("moves", *LOSS)

left_out = partial(reworded, clients=None, registers=True)

# --- those of the reference ----------------------------------------------------------------------

left_out("registers: a promise is told before it is durable", SEEN, Acceptors, "prepare",
         "self._group_commit.reply(outbox, Promised(message.id, *told), None, size, surely=True)",
         "outbox.put(Promised(message.id, *told))")  # fmt: skip
left_out("registers: an acceptance is told before it is durable", SEEN, Acceptors, "accept",
         "self._group_commit.ack(outbox, message.id, surely=True)",
         "self._group_commit.ack(outbox, message.id, b'', surely=True)")  # fmt: skip
left_out("registers: a store that was wiped votes at once", ENDS, Seating, "votes",
         "self.is_bound(store) and partition in self.seats and partition not in self.out",
         "partition in self.seats", *LOSS)  # fmt: skip
left_out("registers: a read shows what is not known to be chosen", SEEN, Proposer, "_peeked",
         "if found.chosen and attempt is None:", "if attempt is None:")  # fmt: skip
left_out("registers: only what is learned is told", SEEN, Acceptor, "told",
         "ballot_of(self.accepted) > ballot_of(learned)", "False")  # fmt: skip
left_out("registers: anything learned makes what is greatest chosen", SEEN, paxos, "gathered",
         "greatest, learned = each.record, each.learned",
         "greatest, learned = each.record, each.learned or (greatest != b'' and learned)")  # fmt: skip
left_out("registers: prepare is skipped with a ballot that nobody promised", SEEN, Proposer, "begin",
         "self._ballot = skip.ballot",
         "later = max(skip.ballot[:8], (now.wall_ms << 16 | 0xFFFF).to_bytes(8))\n"
         "            self._ballot = later + skip.ballot[8:]")  # fmt: skip
left_out("registers: prepare is skipped though the acceptors changed", SEEN, SkippedPrepares, "get",
         "skip.since != since or ", "", "moves")  # fmt: skip
left_out("registers: what is finished keeps its ballot", ENDS, proposers, "again",
         "version = context.stamper.version(ballot, row)", "version = found.version")  # fmt: skip
left_out("registers: what is accepted goes when it is old", SEEN, Acceptors, "_see_to",
         "self.finish(row, now)", "self._drop(row)")  # fmt: skip
left_out("registers: a promise goes though it is not closed", SEEN, Acceptor, "needed",
         " or not is_closed(closed, self.promised)", "")  # fmt: skip
left_out("registers: acceptors change before all is finished", SEEN, Acceptors, "unfinished",
         "bool(self._owed[partition])", "False", "moves")  # fmt: skip
left_out("registers: in joint the old ones are enough", SEEN, JointQuorum, "met",
         "all(lacks <= 0 for lacks, _ in self.lacking(set(members).difference(less)))",
         "self.lacking(set(members).difference(less))[0][0] <= 0", "moves")  # fmt: skip
left_out("registers: what was refused is proposed again without a look", SEEN, Attempt, "weigh",
         "if self.begun:", "if False:")  # fmt: skip
left_out("registers: what may have been applied is lost", SEEN, Attempt, "_look",
         "return None\n    return Next.UNKNOWN", "return None\n    return Next.LOST")  # fmt: skip
left_out("registers: a minority chooses", SEEN, Round, "met",
         "return heard and self.quorum.met(self._answered)",
         "return heard and (len(self.acks) > 0 if self.phase is Phase.ACCEPT else "
         "self.quorum.met(self._answered))")  # fmt: skip
left_out("registers: an acceptor accepts below what it has promised", SEEN, Acceptor, "accept",
         "ballot < max(self.promised, ballot_of(self.accepted))\n",
         "ballot < ballot_of(self.accepted)\n")  # fmt: skip

# --- proposers -----------------------------------------------------------------------------------

left_out("registers: a record names nothing that it replaced", SEEN, Attempt, "proposed",
         "known.record.known_as if known.record is not None else NOTHING", "NOTHING")  # fmt: skip
left_out("registers: who finishes a write makes it its own", SEEN, proposers, "again",
         "descent=found.descent", "descent=version.encode() + found.descent[24:]")  # fmt: skip
left_out("registers: a compare is lost to what is not known to be chosen", SEEN, Proposer, "_weigh",
         "elif weighed in (Next.UNKNOWN, Next.BLOCKED) or found.record is None or "
         "(found.chosen and not lost):",
         "elif True:")  # fmt: skip
left_out("registers: what was sent is lost, and may be chosen yet", SEEN, Proposer, "_weigh",
         "lost = weighed in (Next.LOST, Next.NO_NUMBER) and", "lost = False and")  # fmt: skip
left_out("registers: what may have expired elsewhere is lost to it", SEEN, Attempt, "_has_passed",
         "return self.final or (self.condition is Condition.IF_VERSION and replaced == self.expected)",
         "return True")  # fmt: skip
left_out("registers: a version that is not there never comes", SEEN, Attempt, "_has_passed",
         "replaced == self.expected", "record and record.known_as != self.expected")  # fmt: skip
left_out("registers: a peek counts any accepted by a quorum as chosen", SEEN, rounds, "gathered_at",
         "ballot_of(each.record) == found.ballot and ", "")  # fmt: skip
left_out("registers: a repetition is a write of its own", SEEN, Attempt, "weigh",
         "if self.begun:", "if self.identity:")  # fmt: skip
left_out("registers: a lost home has done nothing", SEEN, Forwarded, "lost",
         "_replace(again=True)", "_replace(again=False)")  # fmt: skip
left_out("registers: whoever takes over is sure for the lost home", SEEN, Forwarded, "lost",
         "report = doubting(report, ", "(report, ")  # fmt: skip
left_out("registers: nothing that is purged is doubted", SEEN, Attempt, "_look",
         "replaced == NOTHING and is_closed(known.purged, self.identity)", "False")  # fmt: skip
left_out("registers: what a round finds answers those that were asked for later", SEEN, Proposer, "see",
         "self._queued_s > shown.asked_s or ", "")  # fmt: skip
left_out("registers: what a round finds answers repetitions", SEEN, Proposer, "see",
         " or (attempt and attempt.begun)", "")  # fmt: skip
left_out("registers: what expires never does", SEEN, Proposer, "_judge_time",
         "expires = record is not None and record.expires_ms", "expires = False")  # fmt: skip

left_out("registers: what is written lives from when its ballot was drawn", SEEN, Stamper,
         "expiry_of_proposed_ms", "max(self.expiry_ms(version, ttl_ms, now), time_ms + ttl_ms)",
         "self.expiry_ms(version, ttl_ms, now)")  # fmt: skip
left_out("registers: what acceptors tell is not looked at", SEEN, Proposer, "promised",
         "if told.record and not Record(told.record).intact(self._context.digester, self._task.row):",
         "if False:", "spoil")  # fmt: skip
left_out("registers: a row that is healed forgets what it had accepted", SEEN, Acceptors, "_healed",
         "self._note(row, ballot_of(state.accepted), 0.0)",
         "self._known[row] = state.learn(state.accepted)", "spoil")  # fmt: skip
left_out("registers: what is told of what others have accepted is counted", SEEN, Acceptors, "_healed",
         "Acceptor(TOLD, ", "Acceptor(self._seating.since(row_partition(row)) or 0, ", "spoil")  # fmt: skip
left_out("registers: what was void takes promises with it", SEEN, Acceptors, "_see_to",
         "self._forget(row)", "self._drop(row)", "moves")  # fmt: skip
left_out("registers: a write that is proposed again is another one", SEEN, Attempt, "proposed",
         "self.identity or version", "version")  # fmt: skip

# --- skipped prepares ----------------------------------------------------------------------------

left_out("registers: a ballot that was skipped to is not promised", SEEN, Acceptor, "accept",
         "max(self.promised, ballot, following)", "max(self.promised, ballot)")  # fmt: skip
left_out("registers: a ballot is skipped to twice", SEEN, Proposer, "begin",
         "self._skips.drop(task.row)\n", "pass\n")  # fmt: skip
left_out("registers: a compare is lost to what this node remembers", SEEN, Proposer, "begin",
         "self._propose(found, now)\n        else:\n            self._peek(now)",
         "self._propose(found, now)\n        else:\n            self._round = Round(Phase.ACCEPT, "
         "self._context.placement.quorums[row_partition(task.row)][Level.SERIAL], 0, 0)\n"
         "            self._conclude(Next.LOST, skip.record, now)")  # fmt: skip

# --- acceptors and learners ------------------------------------------------------------------------

left_out("registers: an acceptor promises below what it has promised", SEEN, Acceptor, "prepare",
         "greatest = max(self.promised, ballot_of(self.accepted), ballot_of(learned))",
         "greatest = max(ballot_of(self.accepted), ballot_of(learned))")  # fmt: skip
left_out("registers: an acceptor accepts what is closed", SEEN, Acceptor, "accept",
         "or is_closed(closed, ballot)", "or False")  # fmt: skip
left_out("registers: what is shown is not durable", SEEN, Acceptors, "peek",
         "self._group_commit.reply_group(outbox, Promised(message.id, *told), keys, size, surely=True)",
         "outbox.put(Promised(message.id, *told))")  # fmt: skip
left_out("registers: any accepted is learned", SEEN, Acceptors, "learn",
         "self._unlearned.get(partition, {}).get(row) != ballot or",
         "row not in self._unlearned.get(partition, {}) or")  # fmt: skip
left_out("registers: a stamp is closed over what is not learned", SEEN, ClosedStamps, "_least_unlearned",
         "if unlearned else STAMP_MAX", "if False else STAMP_MAX")  # fmt: skip
left_out("registers: nobody finishes what is left", ENDS, Registers, "_finish",
         "if row in self._finishing or len(self._finishing) >= FINISHING_MAX:", "if True:")  # fmt: skip
left_out("registers: what comes in leaves what was accepted", ENDS, Acceptors, "_learned",
         "if rows.get(row, _ABOVE) <= ballot:", "if False:")  # fmt: skip

# --- who is an acceptor: others are in `acceptor_rules.py` -------------------------------------------

left_out("registers: no floor is raised", SEEN, Finishing, "hear",
         "self.raise_floor(partition, floor)", "pass", *CHANGE)  # fmt: skip
