"""Mutants: Raft with one of its rules left out, and how that is found out.

Each changes a few words in one function of the product, which must be there; the first eighteen leave out
what the model of this group does (the same names), the others what was added, or is easily lost.

    python -m tests.consensus --mutants [NAME ...] [--jobs N]

`seed`: the simulation finds it from this one on, within SEEDS_MAX; `case`: a scripted one does (`cases.py`),
for chance does not come by it.
"""

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import basestore.consensus.raft  # noqa: F401  # all of the room
from basestore.consensus.voters import Voter
from tests.consensus.cases import CASES
from tests.consensus.machines import Failure
from tests.consensus.trial import play

ROOM = "basestore.consensus"
SEEDS_MAX = 100


class Mutant(NamedTuple):
    """`place`: a function or constant of the room; `changes`: what stands there, and what in its place."""

    name: str
    about: str
    place: str
    changes: tuple[tuple[str, str], ...]
    seed: int = 0
    case: str = ""


def one(name: str, about: str, place: str, old: str, new: str, seed: int = 0, case: str = "") -> Mutant:
    return Mutant(name, about, place, ((old, new),), seed, case)


HEAR_STAND, HEAR_APPEND = "raft.Raft._hear_stand", "raft.Raft._hear_append"
READ, DECIDE, CHANGE = "raft.Raft.read", "raft.Raft.decide", "raft.Raft.change"

OF_THE_MODEL = [
    one(
        "vote-not-durable",
        "a vote is told before it is on the disk",
        HEAR_STAND,
        "promises.append((voter, Granted(said.term, said.pre, True)))",
        "messages.append((voter, Granted(said.term, said.pre, True)))",
        case="votes_durably",
    ),
    one(
        "log-not-durable",
        "entries are acknowledged before they are on the disk",
        HEAR_APPEND,
        "promises.append((voter, Appended(self.term, held",
        "messages.append((voter, Appended(self.term, held",
        case="acknowledges_durably",
    ),
    one(
        "leader-counts-unsynced",
        "a leader counts its own entry before it is on its disk",
        "leadership.Leadership.decided",
        "self._out.durable",
        "self._log.last",
        seed=5,
    ),
    one(
        "commits-old-term",
        "an entry of an earlier term is decided by counting",
        "leadership.Leadership.decided",
        "if self._log.term_at(held) == self._term else 0",
        "",
        case="counts_old_entries",
    ),
    one(
        "shorter-log-wins",
        "votes are granted whatever the log of the candidate",
        HEAR_STAND,
        "if (said.last_term, said.last) < (self.log.last_term, self.log.last):",
        "if False:",
        case="is_shorter",
    ),
    one(
        "two-votes",
        "a voter does not remember whom it voted for",
        HEAR_STAND,
        "if self.vote not in (None, voter):",
        "if False:",
        case="votes_once",
    ),
    one(
        "no-empty-entry",
        "voters are changed before an entry of the own term is decided",
        CHANGE,
        "not self.ready or ",
        "",
        case="changes_at_once",
    ),
    one(
        "two-changes",
        "voters are changed while another change is not decided",
        CHANGE,
        "self.log.voters_index > self.commit or ",
        "",
        seed=22,
    ),
    one(
        "two-at-once",
        "two voters are exchanged in one change",
        CHANGE,
        "len(voters ^ self.voters) == 1",
        "len(voters ^ self.voters) <= 2",
        case="exchanges_one",
    ),
    Mutant(
        "wiped-votes", "a wiped voter votes and acknowledges under its old name", "voters.Voter", (), seed=22
    ),
    Mutant(
        "learner-counts",
        "a learner counts for what is decided",
        "leadership.Leadership._majority",
        (
            (
                "voters, nothing = self._log.voters, 0",
                "voters, nothing = self._log.voters | self._learners, 0",
            ),
            ("majority(voters) - 1", "majority(self._log.voters) - 1"),
        ),
        seed=35,
    ),
    one(
        "truncates-always",
        "entries behind an append are cut though they do not conflict",
        HEAR_APPEND,
        "held = prev + len(entries)",
        "held = prev + len(entries); gone = max(held, self.commit) + 1; log.cut(gone); self._out.cut(gone)",
        seed=6,
    ),
    Mutant(
        "old-snapshot",
        "a snapshot replaces what is decided beyond it",
        "raft.Raft.install",
        (
            ("if snapshot.last <= self.commit:", "if False:"),
            ("if self.log.term_at(snapshot.last) != snapshot.term:", "if True:"),
        ),
    ),
    one(
        "read-at-once",
        "a consistent read is answered without a round",
        READ,
        "if lease and self.votes and",
        "if not lease or",
        case="lease_ends",
    ),
    one(
        "read-before-own-entry",
        "a consistent read is answered by what an earlier leader had decided",
        READ,
        " or not self.ready",
        "",
        seed=30,
    ),
    Mutant(
        "lease-too-long",
        "the lease lasts longer than voters keep still",
        "reads.LEASE_S",
        (("", "6.0"),),
        case="lease_ends",
    ),
    one(
        "lease-from-answer",
        "the lease counts from when answers came, not from when they were asked for",
        "leadership.Leadership.hear",
        "self._count_rounds()",
        "was = self.reads.lease_until_s; self._count_rounds();"
        " self.reads.lease_until_s += (now_s + 1.5 - was) * (self.reads.lease_until_s > was > 0)",
        case="answers_late",
    ),
    one(
        "votes-after-restart",
        "a voter that restarts votes at once",
        "raft.Raft.__init__",
        "self.heard_s = now_s",
        "self.heard_s = now_s - STILL_S",
        case="restarts",
    ),
]

MORE = [
    one(
        "candidate-counts-unsynced",
        "a candidate counts its own vote before it is on its disk",
        "raft.Raft._campaign",
        "if pre:",
        "if True:",
        case="waits_for_its_own_vote",
    ),
    one(
        "decides-anywhere",
        "what is told to be decided is joined to what is not",
        DECIDE,
        "if not first - 1 <= self.commit < last:",
        "if first - 1 > self.log.last or self.commit >= last:",
        case="joins_what_is_decided",
    ),
    one(
        "decided-is-cut",
        "a leader of the past replaces what is decided",
        "raft.Raft._take_over",
        "if at <= self.commit:",
        "if False:",
        case="outlives_a_leader",
    ),
    one(
        "base-unchecked",
        "an append is joined to a snapshot that it does not fit",
        HEAR_APPEND,
        "log.base.last, entries[known - 1].term, entries[known:]",
        "log.base.last, log.base.term, entries[known:]",
        case="outlives_a_leader_by_a_snapshot",
    ),
    one(
        "previous-unchecked",
        "an append is taken whatever it is to follow",
        HEAR_APPEND,
        "if log.term_at(prev) != prev_term:",
        "if prev > log.last:",
        seed=19,
    ),
    one(
        "commits-beyond-held",
        "what is decided elsewhere is, whatever stands there here",
        HEAR_APPEND,
        "min(said.commit, held)",
        "min(said.commit, log.last)",
        seed=35,
    ),
    one(
        "voters-when-decided",
        "candidates go by the voters that are decided",
        "raft.Raft.voters",
        "self.log.voters",
        "self.log.voters_at(self.commit)",
        case="goes_by_newest_voters",
    ),
    one(
        "cut-keeps-voters",
        "what a cut entry said of voters counts on",
        "log.Log.cut",
        "if self.voters_index > self.last:",
        "if False:",
        case="cuts_a_change",
    ),
    one(
        "pre-votes-count",
        "what was granted to a question counts as a vote",
        "raft.Raft._hear_granted",
        "self._standing == (said.term, said.pre)",
        "self._standing and self._standing[0] == said.term",
        case="asks_before_it_stands",
    ),
    one(
        "old-votes-count",
        "votes of an earlier term count",
        "raft.Raft._hear_granted",
        "self._standing == (said.term, said.pre)",
        "self._standing and self._standing[1] == said.pre",
        case="stands_twice",
    ),
    one(
        "term-not-stored",
        "a later term is not stored",
        "raft.Raft._come_to",
        "self.term, self.vote, self._out.voted = term, None, True",
        "self.term, self.vote = term, None",
        seed=3,
    ),
    one(
        "old-leader-heard",
        "a leader of an earlier term is followed",
        "raft.Raft._follow",
        "if term < self.term:",
        "if False:",
        case="hears_an_old_leader",
    ),
    one(
        "old-answers-count",
        "what was answered in an earlier term counts",
        "raft.Raft._hear_appended",
        " and said.term == self.term",
        "",
        case="answers_of_before",
    ),
    one(
        "half-is-enough",
        "half of an even number of voters is a majority",
        "voters.majority",
        "len(voters) // 2 + 1",
        "(len(voters) + 1) // 2",
    ),
    one(
        "acknowledges-all",
        "all that a follower has is acknowledged",
        HEAR_APPEND,
        "held = prev + len(entries)",
        "held = log.last",
        seed=27,
    ),
    one(
        "sent-is-held",
        "what was sent counts as held",
        "progress.Progress.sent",
        "self.next += count",
        "self.next += count; self.match = self.next - 1",
        seed=6,
    ),
    one(
        "tail-unchecked",
        "what is behind a snapshot is kept whatever it follows",
        "log.Log.install",
        "snapshot, []",
        "snapshot, self._entries[snapshot.last - self.base.last :]",
        case="installs_over_a_tail",
    ),
    one(
        "snapshot-of-newest-voters",
        "a snapshot names voters of after it",
        "log.Log.compact",
        "self.voters_at(index)",
        "self.voters",
        seed=27,
    ),
    one(
        "term-not-learned",
        "what is decided under a later term leaves the own as it was",
        DECIDE,
        "if entries[-1].term > self.term:",
        "if False:",
        seed=14,
    ),
    one(
        "leads-on",
        "a leader that others have replaced leads on",
        DECIDE,
        "if self.log.fresh(first, entries) <= last and",
        "if False and",
        case="learns_that_it_leads_no_more",
    ),
    one(
        "restless",
        "voters grant votes while they have a leader",
        "raft.Raft._follow",
        "self.leader, self.heard_s = voter, now_s",
        "self.leader = voter",
        case="keeps_still",
    ),
    one(
        "round-from-before",
        "a read is answered by a round that began before it",
        "reads.Reads.wait",
        "self.round + 1",
        "self.round",
        case="asks_anew",
    ),
    one(
        "lease-while-going",
        "a leader that is to go has a lease",
        READ,
        "self.votes and ",
        "",
        case="leaves_one_alone",
    ),
    one(
        "gone-at-once",
        "who is to go stands no more before that is decided",
        "raft.Raft._stands",
        "return self.votes or",
        "return self.votes and",
    ),
    one(
        "stays",
        "a leader that is no voter leads on",
        "raft.Raft._advance",
        "if not self.votes and",
        "if False and",
        case="is_removed",
    ),
    one(
        "nothing-again",
        "what was lost on the way is not sent again",
        "progress.Progress.beat",
        "if self.waiting or",
        "if False and",
        case="is_far_behind",
    ),
    one(
        "no-hint",
        "a follower does not say how far to go back",
        HEAR_APPEND,
        "promises.append((voter, Appended(self.term, hint",
        "promises.append((voter, Appended(self.term, prev + 9",
        case="goes_back_at_once",
    ),
    one(
        "old-marks-count",
        "what was cut is durable when its mark comes back",
        "output.Pending.stored",
        "if mark.number >= self._valid:",
        "if True:",
        case="marks_of_before_a_cut",
    ),
    one(
        "strangers-refused",
        "votes are given only to whom this store knows for a voter",
        "raft.Raft.hear",
        "self._hear_stand(voter, message, now_s)",
        "voter in self.voters and self.votes and self._hear_stand(voter, message, now_s)",
        seed=5,
    ),
    one(
        "no-pre-vote",
        "who hears no leader begins a new term at once",
        "raft.Raft.tick",
        "pre=True",
        "pre=False",
        case="is_isolated",
    ),
    one(
        "no-check-quorum",
        "a leader that nobody answers leads on",
        "raft.Raft.tick",
        "if not leadership.has_quorum(now_s):",
        "if False:",
        case="is_alone",
    ),
]

MUTANTS = OF_THE_MODEL + MORE


def _changed(function: Any, mutant: Mutant) -> Any:
    """The function, with other words in it."""
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in mutant.changes:
        assert source.count(old) == 1, f"{mutant.name} does not fit the product: {old!r}"
        source = source.replace(old, new)
    names: dict[str, Any] = {}
    exec(compile(source, mutant.name, "exec"), sys.modules[function.__module__].__dict__, names)
    return names[function.__name__]


def patches(mutant: Mutant) -> Iterator[Any]:
    """What puts it into the product."""
    module, _, path = mutant.place.partition(".")
    owner: Any = sys.modules[f"{ROOM}.{module}"]
    *outer, attribute = path.split(".")
    for each in outer:
        owner = getattr(owner, each)
    old = inspect.getattr_static(owner, attribute)
    if old is Voter:
        number = Voter.__getitem__
        yield patch.multiple(
            Voter,
            __eq__=lambda a, b: isinstance(b, Voter) and number(a, 0) == number(b, 0),
            __ne__=lambda a, b: not isinstance(b, Voter) or number(a, 0) != number(b, 0),
            __hash__=lambda a: number(a, 0),
            create=True,
        )
    elif isinstance(old, property):
        assert old.fget is not None
        names = _changed(old.fget, mutant)
        yield patch.object(owner, attribute, names)
    elif inspect.isfunction(old) and not outer:  # it may have been imported by others
        new = _changed(old, mutant)
        for name, other in list(sys.modules.items()):
            if name.startswith((ROOM, "tests.consensus")) and getattr(other, attribute, None) is old:
                yield patch.object(other, attribute, new)
    else:
        yield patch.object(owner, attribute, _changed(old, mutant) if inspect.isfunction(old) else 6.0)


@contextmanager
def switched_on(mutant: Mutant | None) -> Iterator[None]:
    """The product with this bug in it."""
    with ExitStack() as stack:
        for each in patches(mutant) if mutant is not None else ():
            stack.enter_context(each)
        yield


def caught(mutant: Mutant, seeds: int = SEEDS_MAX) -> str:
    """How it is found out, within so many seeds; empty if it is not."""
    with switched_on(mutant):
        if mutant.case:
            try:
                CASES[mutant.case]()
            except Failure as failure:
                return f"case {mutant.case}: {failure}"
            return ""
        for seed in range(mutant.seed, mutant.seed + seeds):
            found = play(seed).failure
            if found:
                return f"seed {seed}: {found}"
    return ""
