"""The protocol of batches with one of its rules left out."""

from typing import Any

from tests.model.batches import batch
from tests.model.batches.batch import Answers, states
from tests.model.batches.elsewhere import ELSEWHERE
from tests.model.batches.records import Answer, Batch, State
from tests.model.batches.store import QUORUM, REPLICAS, Store
from tests.model.batches.world import World
from tests.model.patches import Breakage, Patch, constant, instead


def refused_by_a_quorum(answers: dict[int, Answer]) -> bool:
    return len(states(answers, State.NEVER)) >= QUORUM


def not_here_is_never(answers: dict[int, Answer]) -> bool:
    return len(states(answers, State.NEVER, State.NONE)) == REPLICAS


def silence_is_never(answers: dict[int, Answer]) -> bool:
    return len(answers) >= QUORUM and len(states(answers, State.NEVER)) == len(answers)


def held_somewhere(answers: Answers) -> bool:
    return any(batch.is_held(each) for each in answers.values())


def held_by_one(answers: dict[int, Answer]) -> bool:
    return bool(states(answers, State.HELD, State.COMMITTED, State.DONE))


def applied_somewhere(answers: Answers) -> bool:
    return any(batch.is_held(each) for each in answers.values())


def whatever_is_refused(self: Store, *, vouched: bool) -> int:
    return self.stable if vouched else self.closed


def told_closed(self: Store) -> int:
    return self.closed if self.whole else 0


def restamped(self: Store, held: Batch) -> int:
    """By the clock, near enough: what it is applied at."""
    return max([held.stamp + 1, self.closed + 1, *(each.stamp + 1 for each in self.rows.values())])


def without_batches(snapshot: Any) -> Any:
    return lambda self: snapshot(self)._replace(batches={})


def forgets_at_once(self: Store, stamp: int) -> bool:
    return True


def committed_goes(take: Any) -> Any:
    """A store that has applied its rows keeps nothing of the batch."""

    def made(self: Store, held: Batch) -> None:
        take(self, held)
        if held.state is State.COMMITTED:
            self.batches.pop(held.stamp, None)

    return made


BREAKAGES = [
    Breakage("the record lies elsewhere, and is named by heartbeats", ELSEWHERE),
    Breakage("the record lies elsewhere, and nobody names it", [*ELSEWHERE[:2]]),
    Breakage("commits what one partition holds", [instead(batch, "may_commit", held_somewhere)]),
    Breakage("commits what one store of each partition holds", [instead(batch, "is_held", held_by_one)]),
    Breakage("gives up what a quorum refuses", [instead(batch, "is_never", refused_by_a_quorum)]),
    Breakage("gives up what is not here", [instead(batch, "is_never", not_here_is_never)]),
    Breakage("gives up without who does not answer", [instead(batch, "is_never", silence_is_never)]),
    Breakage("never gives up", [constant(batch, "is_never", False)]),
    Breakage("done before all is applied", [constant(batch, "is_applied", True)]),
    Breakage("done once a partition has applied it", [instead(batch, "is_applied", applied_somewhere)]),
    Breakage("nobody goes on with it", [constant(World, "goes_on", False)]),
    Breakage("closed is not held", [constant(Store, "holds", [])]),
    Breakage("only closed is held, not what is told of it", [instead(Store, "told", told_closed)]),
    Breakage("none is refused before it is closed", [instead(Store, "refuse", Store.ask)]),
    Breakage("what is refused is taken all the same", [instead(Store, "least_batch", whatever_is_refused)]),
    Breakage("a batch is taken below closed", [constant(Store, "least_batch", 0)]),
    Breakage("copies are not vouched for", [constant(batch, "is_vouched", True)]),
    Breakage("copies are taken as first deliveries", [constant(batch, "is_vouched", False)]),
    Breakage("rows are applied below stable", [constant(Store, "may_apply", True)]),
    Breakage("rows are applied under a new stamp", [instead(Store, "stamp_of", restamped)]),
    Breakage("tombstones go before they are stable", [instead(Store, "is_due", forgets_at_once)]),
    Breakage("who has applied it keeps nothing of it", [Patch(Store, "take", committed_goes)]),
    Breakage("exchanges carry no batches", [Patch(Store, "snapshot", without_batches)]),
    Breakage("a wiped store counts at once", [constant(World, "is_whole", True)]),
    Breakage(
        "what may be purged is reported not applied", [constant(batch, "proves_nothing_was_purged", True)]
    ),
]
