"""Judge: sees all rows and all answers, and says what must never be.

The versions of each key are in one order, that in which they stood undisputed. From it follows who comes
before whom: who wrote what was read, who wrote over what was read or written, and who had ended before
another began. A circle is a history that no order of whole transactions explains.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from tests.model.laws import demand
from tests.model.transactions.records import Ballot, Decision, Intent, has_committed
from tests.model.transactions.rows import FIRST, KEYS

if TYPE_CHECKING:
    from tests.model.transactions.world import World

DONE = ("committed", "stored", "read")
NOT_DONE = ("conflict", "aborted by others", "lost")


@dataclass(eq=False)
class Told:
    """What somebody wanted, and was told. Without an `outcome` it died."""

    judge: "Judge"
    begun: int
    ended: float = inf
    outcome: str = "died"
    reads: dict[str, int] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)
    expected: int | None = None

    def __post_init__(self) -> None:
        self.judge.told.append(self)

    def answer(self, outcome: str) -> None:
        self.outcome = outcome
        self.judge.counts[outcome] += 1
        if outcome != "unknown":
            self.ended = self.judge.world.now


class Judge:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.counts = world.counts
        self.identities = FIRST
        self.told: list[Told] = []
        self.chain: dict[str, list[int]] = {key: [FIRST] for key in KEYS}
        self.decided: dict[Ballot, bool] = {}
        self.waiting: dict[Ballot, Ballot] = {}
        self.same: dict[int, int] = {}  # other names of what was there before

    def fresh(self) -> int:
        self.identities += 1
        return self.identities

    def put(self, key: str, identity: int) -> None:
        """This record stands in the row, and no intent."""
        identity = self.same.get(identity, identity)
        if identity != self.chain[key][-1]:
            self.chain[key].append(identity)

    def lay(self, key: str, intent: Intent) -> None:
        self.counts["laid"] += 1
        self.counts["laid after the end"] += intent.transaction in self.decided

    def decide(self, row: Ballot, decision: Decision) -> None:
        """A quorum has accepted this."""
        committed = has_committed(decision, row)
        if committed is not None:
            known = self.decided.setdefault(row, committed)
            demand(known is committed, "a transaction is both committed and aborted", row)

    def wait(self, mine: Ballot, other: Ballot) -> None:
        self.waiting[mine] = other
        met: Ballot | None = other
        while met is not None and met != mine:
            met = self.waiting.get(met)
        demand(met is None, "they wait for each other", mine, other)

    def wait_no_more(self, mine: Ballot) -> None:
        self.waiting.pop(mine, None)

    # At the end.

    def judge(self) -> None:
        for told in self.told:
            self.look_at(told)
        self.look_at_chains()
        self.look_at_order([told for told in self.told if told.outcome in DONE or self.is_there(told)])

    def is_there(self, told: Told) -> bool:
        return any(identity in self.chain[key] for key, identity in told.writes.items())

    def look_at(self, told: Told) -> None:
        there = [identity in self.chain[key] for key, identity in told.writes.items()]
        if told.outcome in NOT_DONE:
            demand(not any(there), f"reported {told.outcome}, and was applied", told.writes)
        elif told.outcome in DONE or any(there):
            demand(all(there), "a committed write is not there", told.outcome, told.writes)
        if told.expected is None:
            return
        expected = self.same.get(told.expected, told.expected)
        for key, identity in told.writes.items():
            if told.outcome == "lost":
                seen = self.same.get(told.reads[key], told.reads[key])
                demand(seen != expected, "lost to what it named", key, seen)
            elif identity in self.chain[key]:
                before = self.chain[key][self.chain[key].index(identity) - 1]
                demand(before == expected, "a compare succeeded on something else", key, expected)

    def look_at_chains(self) -> None:
        for key, chain in self.chain.items():
            known = {told.writes[key] for told in self.told if key in told.writes} | {FIRST}
            demand(set(chain) <= known, "something is there that nobody wrote", key)
            demand(len(set(chain)) == len(chain), "what was there before is there again", key)

    def look_at_order(self, done: list[Told]) -> None:
        writers = {(key, identity): told for told in done for key, identity in told.writes.items()}
        after: dict[Told, set[Told]] = {told: set() for told in done}
        for told in done:
            for key, identity in [*told.reads.items(), *told.writes.items()]:
                chain, seen = self.chain[key], self.same.get(identity, identity)
                demand(seen in chain, "something was read that was never committed", key, seen)
                place = chain.index(seen)
                if told.writes.get(key) != seen and place > 0:
                    after[writers[key, seen]].add(told)
                if place + 1 < len(chain):
                    after[told].add(writers[key, chain[place + 1]])
            after[told] |= {other for other in done if other.begun > told.ended}
            after[told].discard(told)
        demand(not has_circle(after), "not serializable in real time")
        self.counts["in the order"] += len(done)


def has_circle(after: dict[Told, set[Told]]) -> bool:
    """Those of whom nobody comes before are taken away until nobody is left."""
    before = Counter(each for others in after.values() for each in others)
    free = [told for told in after if not before[told]]
    taken = 0
    while free:
        told = free.pop()
        taken += 1
        for other in after[told]:
            before[other] -= 1
            if not before[other]:
                free.append(other)
    return taken < len(after)
