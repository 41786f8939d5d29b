"""Trial: what a seed is played on, and what a run of many must have met."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from basestore.repair.rule import Rule
from tests.model.judge import Violation
from tests.model.world import ModelWorld

STEPS = 3000

BRANCHES = {
    "acknowledged", "all in doubt", "certificate", "certificate without a tag", "certificates lost",
    "claims of other tags", "complete up to a higher stamp", "closed held back by an only copy",
    "copy not vouched for", "copy of an older store", "copy refused: closed", "copy refused: settled",
    "corrupted", "crash", "crash in a session", "direct refused: closed", "disk lost", "ghost dropped",
    "entry changed since the snapshot", "hint late", "hint sent: copy", "hint sent: only copy",
    "hint sent: unsure", "merged into an overwritten row", "only copy refused: closed", "read repaired",
    "recovered", "recovered from all others", "rollback", "session broken off",
    "session given up: floor moved", "session opened", "session of two forgetful",
    "session refused: purge due", "session: FULL", "session: SAME", "session: delta",
    "silent while forgetful", "stable adopted", "stable advanced", "unsure refused: closed",
    "virtual roots unequal", "wanted, but beaten by a push", "writes lost with their coordinator",
}  # fmt: skip
BRANCHES_OF = {
    Rule.LAST_WRITE_WINS: {"purged tombstone", "purged expired"},
    Rule.FIRST_WRITE_WINS: {"first write final"},
}


class Trial(NamedTuple):
    seed: int
    rule: Rule
    places: int
    corrupt: bool = False

    def __str__(self) -> str:
        word = self.rule.value.partition("-")[0]
        return f"--seed {self.seed} --rule {word} --places {self.places}{' --corrupt' * self.corrupt}"


def trials(first: int, runs: int, rule: Rule | None, places: int | None) -> Iterator[Trial]:
    """Unless told otherwise, both rules in turn, some on five replicas, some with rows damaged in silence."""
    rules = [rule for rule in Rule if not rule.serial]
    for seed in range(first, first + runs):
        yield Trial(
            seed, rule or rules[seed % 2], places or (5 if seed % 8 > 5 else 3), corrupt=seed % 16 in (4, 5)
        )


def play(trial: Trial, counts: Counter[str]) -> Violation | None:
    """One history, counted."""
    try:
        ModelWorld(trial.seed, trial.rule, trial.places, counts, corrupt=trial.corrupt).run(STEPS)
    except Violation as violation:
        return violation
    return None


def never_met(counts: Counter[str], rules: set[Rule]) -> list[str]:
    expected = BRANCHES.union(*(BRANCHES_OF[rule] for rule in rules))
    return sorted(branch for branch in expected if not counts[branch])
