"""Report: what a drill shows, act by act.

Whatever it says was found in this very run. A *claim* is what the store promises, or what a weaker level
costs: it is told only if it is so, and the drill ends with `NotSo` if it is not. How it is printed is the
command's affair.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from basestore.drill.answers import Answer


class NotSo(Exception):
    """Something did not come to be that a drill says of the store. `claim`: what; `found`: what was."""

    def __init__(self, claim: str, found: str) -> None:
        super().__init__(f"it is not so that {claim}: {found}")
        self.claim, self.found = claim, found


class Told(NamedTuple):
    """Some sentences."""

    text: str


class Claim(NamedTuple):
    """What is so, and what was seen of it."""

    claim: str
    found: str


class Table(NamedTuple):
    """Answers by what was asked, in columns by who was asked."""

    header: tuple[str, ...]
    rows: Mapping[str, Sequence[Answer]]


@dataclass(slots=True)
class Act:
    """One part of a drill. `at_s`: when it began, in simulated seconds. `facts`: what `shown` says, for
    machines; `answers`: all that it is about."""

    title: str
    at_s: float
    shown: list[Told | Claim | Table] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def claims(self) -> list[Claim]:
        return [each for each in self.shown if isinstance(each, Claim)]

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "at_s": round(self.at_s, 6),
            "told": [each.text for each in self.shown if isinstance(each, Told)],
            "answers": [answer.as_json() for answer in self.answers],
            "claims": [claim._asdict() for claim in self.claims],
            "facts": self.facts,
        }


class Report:
    """Of one drill. `failed`: the claim at which it ended, if that was not so."""

    def __init__(self, drill: str, seed: int, now_s: Callable[[], float]) -> None:
        """`now_s`: in simulated seconds."""
        self.drill, self.seed, self._now_s = drill, seed, now_s
        self.acts: list[Act] = []
        self.failed: NotSo | None = None

    def act(self, title: str) -> None:
        """What follows belongs to this."""
        self.acts.append(Act(title, self._now_s()))

    def tell(self, text: str, answers: Sequence[Answer] = (), **facts: Any) -> None:
        """Some sentences, and the answers and facts that they are about."""
        self.acts[-1].shown.append(Told(text))
        self.acts[-1].answers += answers
        self.note(**facts)

    def note(self, **facts: Any) -> None:
        """For machines alone."""
        self.acts[-1].facts |= facts

    def table(self, header: Sequence[str], rows: Mapping[str, Sequence[Answer]]) -> None:
        act = self.acts[-1]
        act.shown.append(Table(tuple(header), rows))
        act.answers += [answer for row in rows.values() for answer in row]

    def claim(self, claim: str, *, holds: bool, found: str) -> None:
        """NotSo unless it holds."""
        if not holds:
            raise NotSo(claim, found)
        self.acts[-1].shown.append(Claim(claim, found))

    @property
    def claims(self) -> list[str]:
        """All that are so."""
        return [claim.claim for act in self.acts for claim in act.claims]

    @property
    def seconds(self) -> float:
        """How long it was, in simulated time."""
        return self._now_s()

    def as_json(self) -> dict[str, Any]:
        """As `basestore drill -o json` prints it."""
        failed = self.failed
        return {
            "drill": self.drill,
            "seed": self.seed,
            "acts": [act.as_json() for act in self.acts],
            "failed": None if failed is None else {"claim": failed.claim, "found": failed.found},
            "seconds": round(self.seconds, 6),
        }
