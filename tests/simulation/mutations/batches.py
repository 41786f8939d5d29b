"""Bugs of atomic batches: when one is committed, given up or over, what holds stamps back, what comes in."""

from functools import partial

from basestore.anti_entropy.closed_stamps import ClosedStamps
from basestore.batches import course, verdicts
from basestore.batches.batches import Batches
from basestore.batches.course import Course
from basestore.batches.parts import Parts
from basestore.batches.round import Round
from tests.simulation.batch_worlds import SPLIT_UP
from tests.simulation.mutations.registry import reworded

LAW = {"batches"}
STAMPS = {*LAW, "stable stamps", "purges", "closed", "goes back", "acks", "receipts"}
of_batches = partial(reworded, clients=None, batches=True)

of_batches(
    "batches: committed once one partition holds it", LAW, course, "may_commit",
    "all(is_held", "any(is_held",
)  # fmt: skip
of_batches(
    "batches: one store holds it for all of its partition", LAW, verdicts, "is_held",
    "quorum.met(saying(answers, HELD, COMMITTED))", "bool(saying(answers, HELD, COMMITTED))",
)  # fmt: skip
of_batches(
    "batches: given up where a quorum never held it", LAW, verdicts, "is_never",
    "set(saying(answers, NEVER)) >= set(replicas)", "2 * len(saying(answers, NEVER)) > len(replicas)",
    SPLIT_UP,
)  # fmt: skip
of_batches(
    "batches: given up where it has not come yet", LAW, verdicts, "is_never",
    "saying(answers, NEVER)", "saying(answers, NEVER, 0)", SPLIT_UP,
)  # fmt: skip
of_batches(
    "batches: given up without who does not answer", LAW, verdicts, "is_never",
    ">= set(replicas)", ">= (set(answers) or {-1})", SPLIT_UP,
)  # fmt: skip
of_batches(
    "batches: over before it is applied", LAW, Course, "_is_applied",
    "is_applied(answers, self.quorum, self._level)", "True",
)  # fmt: skip
of_batches(
    "batches: nobody goes on with what was left", LAW, Batches, "tick",
    "self._see_to(row, entry, now)", "pass",
)  # fmt: skip
of_batches("batches: never given up", LAW, course, "is_dead", "any(", "False and any(")
of_batches(
    "batches: stamps do not wait for what is held", STAMPS, ClosedStamps, "_least_unapplied",
    "if parts else", "if parts and False else",
)  # fmt: skip
of_batches(
    "batches: others are told of all that is closed", STAMPS, ClosedStamps, "_told",
    "min(summary.closed, self._least_unapplied(partition))", "summary.closed",
)  # fmt: skip
of_batches(
    "batches: a part comes in however late", STAMPS, Parts, "_is_open",
    "> least", "> 0",
)  # fmt: skip
of_batches(
    "batches: none is refused before it is closed", LAW, Parts, "ask",
    "message.first == REFUSE and not refusal", "False", SPLIT_UP,
)  # fmt: skip
of_batches(
    "batches: what is refused is taken all the same", STAMPS, Parts, "_is_open",
    "self._floor(partition)", "self._replica.summaries.of[partition].closed",
)  # fmt: skip
of_batches(
    "batches: what was refused is forgotten at an opening", STAMPS, Parts, "__init__",
    "in group_commit.scan(*keyspace.all_refused())", "in ()",
)  # fmt: skip
of_batches(
    "batches: a refusal is told before it is durable", STAMPS, Parts, "_tell",
    "keyspace.refused(partition), ", "",
)  # fmt: skip
of_batches(
    "batches: whoever sends a copy vouches for it", STAMPS, Parts, "hold",
    "bool(message.store) and self._voucher(row_partition(row), message.store)", "bool(message.store)",
)  # fmt: skip
of_batches(
    "batches: copies come in as first deliveries do", LAW, Parts, "hold",
    "bool(message.store) and self._voucher(row_partition(row), message.store)", "False",
)  # fmt: skip
of_batches(
    "batches: rows are applied below what is stable", STAMPS, Parts, "_may_apply", "> stable", "> 0",
)  # fmt: skip
of_batches(
    "batches: what is held is told before it is durable", STAMPS, Parts, "_tell",
    "self._group_commit.reply_group(outbox, told, keys, SMALL_BYTES + len(blob), surely=True)",
    "outbox.put(told, SMALL_BYTES + len(blob))",
)  # fmt: skip
of_batches(
    "batches: what is held counts as applied", STAMPS, Parts, "_state",
    "entry is not None and entry.applied", "entry is not None",
)  # fmt: skip
of_batches(
    "batches: an opening takes what is held for applied", STAMPS, Parts, "__init__",
    "stored[STAMP_BYTES:] == _APPLIED", "True",
)  # fmt: skip
of_batches(
    "batches: nobody is given copies", LAW, Course, "_spread",
    "if any(saying(of", "if False and any(saying(of",
)  # fmt: skip
of_batches(
    "batches: a repetition is written anew", LAW, Batches, "_begin",
    "(writing.repeat if admitted.repeats else writing.begin)(now)", "writing.begin(now)",
)  # fmt: skip
of_batches(
    "batches: nothing is done, it is told, before anybody knows", LAW, Course, "_give_up",
    "(How.NOTHING if is_sealed else How.NOT_YET) if sure else How.UNKNOWN", "How.NOTHING",
)  # fmt: skip
of_batches(
    "batches: who had the seats counts yet", LAW, Round, "moved", "self.answers[partition] = {}", "pass",
)  # fmt: skip
