"""Bugs of transactions: a rule of intents, of who meets one, of what is decided and by whom, of who helps,
and of what is left, left out. The first are those of the reference model, on the real code. In whole worlds
some are hardly seen; each has a case."""

from typing import Any
from unittest.mock import patch

from basestore.coordinator import get
from basestore.coordinator.range_scan import RangeScan
from basestore.instant import Instant
from basestore.registers import forwarded, records
from basestore.registers import proposer as proposers
from basestore.registers.acceptors import Acceptors
from basestore.registers.floors import Floors
from basestore.registers.laid_intents import LaidIntents
from basestore.registers.proposer import Proposer
from basestore.repair.compare_and_set import Attempt
from basestore.transactions import helping, transaction
from basestore.transactions.helping import Help
from basestore.transactions.leftovers import Leftovers
from basestore.transactions.transaction import Phase, Transaction
from basestore.transactions.transactions import Transactions
from tests.simulation.mutations.registers import ENDS
from tests.simulation.mutations.registry import MUTANTS, Mutant, reworded
from tests.simulation.plan import Plan
from tests.simulation.serializable import KINDS

CYCLES = {kind for kind, _, _ in KINDS}
TOLD = CYCLES | {
    "G1a", "G1b", "phantom", "absent", "doubled", "lost", "intents", "decisions", "atomic", "answers",
    "scans", "left", "blocked",
} | ENDS  # fmt: skip
CLIENTS_MAX = 12


def _is_small(plan: Plan) -> bool:
    """Whether it is soon over."""
    few = len(plan.registers) <= CLIENTS_MAX and len(plan.machines) <= 3
    return few and plan.seconds < 9.5 and not plan.moves and plan.theme != "nothing"


def left_out(name: str, target: Any, attribute: str, old: str, new: str) -> None:
    reworded(f"transactions: {name}", TOLD, target, attribute, old, new, clients=None, transactions=True)
    MUTANTS[-1] = MUTANTS[-1]._replace(suits=_is_small)


# --- those of the reference ----------------------------------------------------------------------

left_out("what was only read is not looked at again", Transaction, "_answered_one",
         "self.phase is Phase.LAY and self._must_validate", "False")  # fmt: skip


def _validate_first(self: Transaction, ballot: bytes, now: Instant) -> None:
    if not self._reads:
        begin(self, ballot, now)
        return
    self.id, self.begun_s = ballot, now.monotonic
    self._lay_s = self._deadline = now.monotonic + self._timeout_s
    self._validate(now)


def _then_lay(self: Transaction, now: Instant) -> None:
    if self.phase is Phase.VALIDATE and self._waits == 1 and self._failure is None and self._writes:
        self._waits, self._reads = 0, []
        self.phase = Phase.LAY
        begin(self, self.id, now)
    else:
        answered_one(self, now)


begin, answered_one = Transaction.begin, Transaction._answered_one  # private: the steps change places
MUTANTS.append(
    Mutant(
        "transactions: what was only read is looked at before intents are laid", TOLD,
        lambda: [
            patch.object(Transaction, "begin", _validate_first),
            patch.object(Transaction, "_answered_one", _then_lay),
        ],
        suits=_is_small, transactions=True,
    )
)  # fmt: skip
left_out("a read finds what was there before an intent", Proposer, "_conclude",
         "if weighed is Next.BLOCKED and record is not None:",
         "if weighed is Next.BLOCKED and self._attempt is None:\n"
         "        from basestore.repair.intents import before\n"
         "        record, weighed = before(record), Next.STORED\n"
         "    if weighed is Next.BLOCKED and record is not None:")  # fmt: skip
left_out("who helps undoes an intent without a word of it", Help, "_looked",
         "self._registers.route(task, self._aborted, now)", "self._settle(ABORTED, now)")  # fmt: skip
left_out("a coordinator has it committed whatever was decided", transaction, "commit",
         "return task._replace(ballot=transaction)", "return task")  # fmt: skip
left_out("what was decided goes before all intents are settled", Transaction, "_settle",
         "len(settled) == len(rows)", "len(settled) == 1")  # fmt: skip
left_out("an intent of another is settled as if it were of this one", Attempt, "weigh",
         "Next.PROPOSE if lies_here(record, self.expected) else Next.LOST",
         "Next.PROPOSE if record is not None and record.intent else Next.LOST")  # fmt: skip
left_out("nobody ends what a dead coordinator has left", Help, "_looked",
         "elif now.monotonic < self._due_s:", "elif now.monotonic < self._due_s + 15.0:")  # fmt: skip

# --- intents -------------------------------------------------------------------------------------

left_out("an intent does not hold what was there", proposers, "own",
         'old = found.record.blob if found.record is not None else b""', 'old = b""')  # fmt: skip
left_out("an intent of what goes may be purged", proposers, "own",
         "tombstone, expires_ms = False, 0", "tombstone = False")  # fmt: skip
left_out("what is rolled back is another version", records, "settled",
         "old.expires_ms, old.proposal, old.descent",
         "old.expires_ms, old.proposal, record.descent")  # fmt: skip
left_out("what is rolled back lives for ever", records, "settled",
         "old.tombstone, old.expires_ms", "old.tombstone, 0")  # fmt: skip
left_out("where nothing was there is an empty value", records, "settled",
         'Settled(b"", True,', 'Settled(b"", False,')  # fmt: skip
left_out("what is committed lives for ever", records, "settled",
         "intent.expires_ms, record.proposal", "0, record.proposal")  # fmt: skip
left_out("a delete leaves an empty value", records, "settled",
         "intent.tombstone, intent", "False, intent")  # fmt: skip
left_out("what is committed names what it replaced as itself", records, "settled",
         "record.proposal, record.descent)", "record.proposal, record.descent[24:] * 2)")  # fmt: skip
left_out("a committed transaction names one of its rows", transaction, "commit",
         "commitment(rows)", "commitment(rows[:1])")  # fmt: skip
left_out("what is gone was committed", helping, "decided",
         "ABORTED if record.tombstone", "COMMITTED if record.tombstone")  # fmt: skip

# --- who meets one ---------------------------------------------------------------------------------

left_out("a write takes the place of an intent", Attempt, "weigh",
         "if record is not None and record.intent:",
         "if record is not None and record.intent and lies_here(record, self.lays):")  # fmt: skip
left_out("an intent is in the way of its own transaction", Attempt, "weigh",
         "Next.STORED if lies_here(record, self.lays) else Next.BLOCKED", "Next.BLOCKED")  # fmt: skip
left_out("a read shows an intent", Proposer, "_read_weighed",
         "record is not None and record.intent and not self._task.as_is", "False")  # fmt: skip
left_out("who waits is shown the intent that another has found", Proposer, "see",
         "if weighed not in (Next.PROPOSE, Next.BLOCKED):", "if weighed is not Next.PROPOSE:")  # fmt: skip
left_out("a read at one shows an intent", get.ClientGet, "_answer",
         "before(finding.record)", "finding.record")  # fmt: skip
left_out("a page at one shows an intent", RangeScan, "_merge",
         "self._level is Level.ONE, before(record)", "self._level is Level.ONE, record")  # fmt: skip
left_out("a page shows what was there before an intent", RangeScan, "_merge",
         "self._level is Level.ONE, before(record)", "True, before(record)")  # fmt: skip
left_out("a write that was blocked forgets that it was sent", Transactions, "_blocked",
         "task = task._replace(write=task.write._replace(attempt=blocked.attempt))", "pass")  # fmt: skip
left_out("a write that was sent before it was blocked has done nothing", Transactions, "_blocked",
         "report = doubting(", "(")  # fmt: skip
left_out("two wait for each other's intents", Transactions, "_blocked",
         "if lays and gives_way(lays, blocked.record, now):", "if False:")  # fmt: skip
left_out("two wait for each other to look at what they have read", Transaction, "_looked",
         "if gives_way(self.id, record, now):", "if False:")  # fmt: skip
left_out("a home lays no intent for another node", forwarded, "_forward",
         "left_ms, attempt.lays,", "left_ms, b'',")  # fmt: skip

# --- what is decided -------------------------------------------------------------------------------

left_out("it is committed though an intent could not be laid", Transaction, "_laid",
         "else:\n        self._fail(part, result)",
         "else:\n        self._versions[part.row] = bytes(24)")  # fmt: skip
left_out("what was read is not what intents are laid on", transaction, "_condition",
         "return Condition.IF_VERSION, expected", 'return Condition.UNCONDITIONAL, b""')  # fmt: skip
left_out("intents are laid where something is there after all", transaction, "_condition",
         'return Condition.IF_ABSENT, b""', 'return Condition.UNCONDITIONAL, b""')  # fmt: skip
left_out("what was read may lie under an intent of another", Transaction, "_looked",
         "record = result.record if isinstance(result, Done) else None",
         "from basestore.repair.intents import before\n"
         "    record = before(result.record) if isinstance(result, Done) else None")  # fmt: skip
left_out("what was read may be another version by now", Transaction, "_holds",
         "and record.known_as == part.expected", "")  # fmt: skip
left_out("what held nothing when it was read is not locked", Transaction, "__init__",
         "if part.writes is not None]", "if part.writes is not None and not part.absent]")  # fmt: skip
left_out("what has expired since it was read is there", Transaction, "_holds",
         "live = record.live(time_ms)", "live = True")  # fmt: skip
left_out("it is proposed again under a later ballot", Proposer, "_prepare",
         "if self._task.ballot:", "if False:")  # fmt: skip
left_out("a register of a transaction is born with no promise", Floors, "bind",
         "if row_bucket(row) == DECISIONS:", "if False:")  # fmt: skip
left_out("it is told before it is decided", Transaction, "_decide",
         "self.phase = Phase.DECIDE",
         "self.phase = Phase.DECIDE\n"
         "    self._answer(Outcome(self.rows, [self._versions[row] for row in self.rows]), now)")  # fmt: skip
left_out("a coordinator that does not know undoes it", Transaction, "_decided",
         "self._registers.route(task, self._doubted, now)",
         "self._answer(too_slow(), now)\n    self._settle(ABORTED, now)")  # fmt: skip
left_out("a coordinator that was ended by others has it committed", Transaction, "_doubted",
         "elif verdict == ABORTED:",
         "elif verdict == ABORTED and isinstance(result, Done):\n"
         "        self._commit(result.order, now)\n"
         "    elif verdict == ABORTED:")  # fmt: skip

left_out("a write alone is committed though it is lost", Transaction, "_write_alone",
         "if isinstance(result, Done) and result.outcome == OUTCOME_STORED:",
         "if isinstance(result, Done):\n"
         "            result = result._replace(version=result.version or bytes(24))")  # fmt: skip
left_out("a write alone of which nobody knows has done nothing", Transaction, "_write_alone",
         "undone(part.name) if unknown else result", "contended(part.name, result)")  # fmt: skip

# --- who helps, and what is left ---------------------------------------------------------------------

left_out("who ends it writes over what was decided", helping, "abort",
         "Condition.UNDECIDED", "Condition.UNCONDITIONAL")  # fmt: skip
left_out("who ends it takes what was committed before for ended", Help, "_aborted",
         "if isinstance(result, Done) and result.outcome == OUTCOME_STORED:",
         "if isinstance(result, Done):")  # fmt: skip
left_out("an intent that was undone without a word is waited for", Help, "_looked",
         "task = Task(self.row, now.monotonic + STEP_S, as_is=True)\n"
         "        self._registers.read(task, self._seen, now)", "self._wait(now)")  # fmt: skip
left_out("a transaction waits longer than its time", Transaction, "_wait",
         "waiter.begin(self._lay_s)", "waiter.begin(self._lay_s + 9.0)")  # fmt: skip
left_out("by a clock that is behind one waits longer", Help, "begin",
         "max(0.0, min(PATIENCE_S, PATIENCE_S - age_s))", "max(0.0, PATIENCE_S - age_s)")  # fmt: skip
left_out("nobody waits for a coordinator that lives", Help, "begin",
         "if patient else 0.0", "if False else 0.0")  # fmt: skip
left_out("what has been left by the dead is looked for nowhere", Leftovers, "tick",
         "for row in list(islice(self._laid.rows, BUSY_MAX)):", "for row in ():")  # fmt: skip
left_out("what was decided stays", Leftovers, "_tidy_some",
         "for partition in self._decided.partitions():", "for partition in ():")  # fmt: skip
left_out("what was committed goes before it is settled", Leftovers, "_tidy",
         "committed_rows(record.value) if decided(record) == COMMITTED else []", "[]")  # fmt: skip
left_out("what was committed goes though some cannot be settled", Leftovers, "_tidy",
         "if failed:", "if False:")  # fmt: skip
left_out("who lives is taken for dead", Leftovers, "_is_due",
         "> LEFT_S * 1e3", "> 0")  # fmt: skip
left_out("behind a start nobody knows where intents lie", LaidIntents, "__init__",
         "self.rows[row] = None", "pass")  # fmt: skip
left_out("it is not noted where intents are learned", Acceptors, "learn",
         "(MARKED | LAID)", "MARKED")  # fmt: skip
left_out("what is settled is noted for ever", LaidIntents, "note",
         "elif self.rows.pop(row, self) is None:", "elif False:")  # fmt: skip
