"""Rules that whole worlds seldom come by: each has a case that holds, and does not where it is left out."""

import pytest

from tests.simulation.cases import CASES
from tests.simulation.mutants import family, switched_on
from tests.simulation.mutations import MUTANTS, mutant_named

FAMILIES = {"acceptors", "batches", "members", "moves", "transactions"}


@pytest.mark.parametrize("mutant", CASES)
def test_a_rule_holds_and_not_where_it_is_left_out(mutant: str) -> None:
    for case in CASES[mutant]:
        case()
    bug = mutant_named(mutant)
    with switched_on(bug):
        for case in CASES[mutant]:
            with pytest.raises(AssertionError):
                case()


def test_each_rule_of_these_has_its_case() -> None:
    names = {each.name for each in MUTANTS}
    assert {each.name for each in MUTANTS if family(each) in FAMILIES} <= CASES.keys() <= names
