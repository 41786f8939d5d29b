"""Registry: what a case is, and the table of all, by the mutants that they show."""

from collections.abc import Callable

Case = Callable[[], None]
CASES: dict[str, list[Case]] = {}


def shows(*mutants: str, family: str = "moves") -> Callable[[Case], Case]:
    """This case does not hold where one of these rules is left out: mutants of this family."""

    def register(case: Case) -> Case:
        for mutant in mutants:
            CASES.setdefault(f"{family}: {mutant}", []).append(case)
        return case

    return register


def shown_by(mutant: str) -> str:
    """The first of its cases that does not hold, as the product is now; empty when all do."""
    for case in CASES.get(mutant, ()):
        try:
            case()
        except AssertionError:
            return case.__name__
    return ""
