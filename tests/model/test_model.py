"""The protocol keeps its laws by chance and by ambush, and the laws notice when a rule is left out."""

from collections import Counter
from collections.abc import Callable

import pytest

from basestore.repair.rule import Rule
from tests.model.breakages import BREAKAGES, HARMLESS, catch
from tests.model.interleavings import INTERLEAVINGS
from tests.model.judge import Violation
from tests.model.patches import Breakage, broken
from tests.model.trial import BRANCHES, BRANCHES_OF, Trial, never_met, play, trials

# Those that need more seeds than a test should play; `python -m tests.model --breakages` does.
RARE = {
    "closed not inherited",
    "closed stamp of the session's end",
    "floor moved, session goes on",
    "forgetful replicas drop nothing",
    "purge in a session",
}
CPU_S_MAX = 10.0


def test_the_protocol_keeps_its_laws() -> None:
    counts: Counter[str] = Counter()
    for trial in trials(0, 64, None, None):
        assert play(trial, counts) is None, trial
    assert len(never_met(counts, set(BRANCHES_OF))) < len(BRANCHES) // 10


@pytest.mark.parametrize("interleaving", INTERLEAVINGS, ids=lambda interleaving: interleaving.__name__)
def test_the_protocol_stands_what_was_made_to_break_it(interleaving: Callable[[], None]) -> None:
    interleaving()


@pytest.mark.parametrize(
    "breakage",
    [breakage for breakage in BREAKAGES if breakage.name not in RARE | HARMLESS.keys()],
    ids=lambda breakage: breakage.name,
)
def test_a_rule_left_out_is_noticed(breakage: Breakage) -> None:
    law, _ = catch(breakage, CPU_S_MAX)
    assert law


def test_nothing_stays_broken() -> None:
    by_name = {breakage.name: breakage for breakage in BREAKAGES}
    trial = Trial(0, Rule.LAST_WRITE_WINS, 3)
    with broken(by_name["no copy on write"]):
        assert isinstance(play(trial, Counter()), Violation)
    assert play(trial, Counter()) is None


def test_one_seed_is_one_history() -> None:
    counts: list[Counter[str]] = [Counter(), Counter()]
    for each in counts:
        play(Trial(5, Rule.LAST_WRITE_WINS, 5), each)
    assert counts[0] == counts[1]
