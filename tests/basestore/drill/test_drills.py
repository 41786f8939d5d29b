"""Drills: they are what they say for any seed; and whatever they claim, they end where it is not so.

Each claim has its break in `BREAKS`: something in the simulated world, or in the store, is made to go wrong,
and the drill has to end at just that claim. Where nothing that goes wrong would come to that claim first, an
answer is told otherwise than it was.
"""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from basestore.drill import (
    answers,
    cap,
    drills,
    simulation,
    split_brain,
    textbook,
    three_phase,
    transfer,
    two_phase,
)
from basestore.drill.drills import DRILLS, play
from basestore.drill.machine import Machine
from basestore.drill.proof import tell_proof
from basestore.drill.report import Claim, Report
from basestore.drill.simulation import Client, Pending, Simulation
from basestore.drill.textbook import Protocol, State
from basestore.handoff.delivery import Delivery
from basestore.handoff.hints import Hints
from basestore.registers import records
from basestore.repair.compare_and_set import Attempt, Condition, Next
from basestore.repair.intents import ABORTED, decided
from basestore.repair.rule import Rule
from basestore.transactions import helping, transaction
from basestore.transactions.decisions import commit

SEED = 3
NEAR, FAR = "n1", "n2"  # as `drill/transfer.py` names them, by this seed
Patch = pytest.MonkeyPatch
Break = Callable[[Patch], None]
SEEDS = range(10, 16)


@pytest.mark.parametrize("name", DRILLS)
@pytest.mark.parametrize("seed", SEEDS)
def test_all_claims_are_so_for_any_seed(name: str, seed: int) -> None:
    report = play(name, seed)
    assert report.failed is None
    assert set(report.claims) == {claim for drill, claim in CLAIMED if drill == name}


@pytest.mark.parametrize("name", DRILLS)
def test_a_seed_decides_all_of_it(name: str) -> None:
    first, again, other = (json.dumps(play(name, seed).as_json()) for seed in (SEED, SEED, SEED + 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", DRILLS)
def test_what_is_shown_is_there_for_machines_too(name: str) -> None:
    report = play(name, SEED)
    shown = json.loads(json.dumps(report.as_json()))
    assert (shown["drill"], shown["seed"], shown["failed"]) == (name, SEED, None)
    for act, told in zip(report.acts, shown["acts"], strict=True):
        claims = [each for each in act.shown if isinstance(each, Claim)]
        assert told["claims"] == [{"claim": each.claim, "found": each.found} for each in claims]
        assert claims
        assert len(told["answers"]) == len(act.answers)
        for answer in told["answers"]:
            assert answer["took_ms"] > 0
            assert answer["at_s"] >= 0


# --- what goes wrong -----------------------------------------------------------------------------


def told(node: str, asked: str, **otherwise: Any) -> Break:
    """What a node answers to this is told otherwise."""

    def put(patch: Patch) -> None:
        read = Client.read

        def forged(self: Client, pending: Pending) -> answers.Answer:
            answer = read(self, pending)
            return answer._replace(**otherwise) if (answer.node, answer.asked) == (node, asked) else answer

        patch.setattr(Client, "read", forged)

    return put


def from_the_start(change: Callable[[Simulation], None]) -> Break:
    """Once the cluster is ready."""

    def put(patch: Patch) -> None:
        make = Simulation.__init__

        def made(self: Simulation, count: int, seed: int) -> None:
            make(self, count, seed)
            change(self)

        patch.setattr(Simulation, "__init__", made)

    return put


def from_then(what: str, change: Callable[[Patch, Simulation], None]) -> Break:
    """As soon as this is called of the simulation, before it is done."""

    def put(patch: Patch) -> None:
        real = getattr(Simulation, what)

        def called(self: Simulation, *given: Any) -> Any:
            change(patch, self)
            return real(self, *given)

        patch.setattr(Simulation, what, called)

    return put


def nothing(kind: type, what: str) -> Break:
    """It is not done."""
    return lambda patch: patch.setattr(kind, what, lambda *_: None)


def reverse(patch: Patch, rule: Rule) -> None:
    """Of two records the wrong one wins."""
    beats = Rule.beats
    patch.setattr(
        Rule,
        "beats",
        lambda self, one, two: beats(self, two, one) if self is rule else beats(self, one, two),
    )


def compare_nothing(patch: Patch, *, agreed: bool) -> None:
    """Whatever a write depends on is taken to be so: of keys that are written once, or of others."""
    weigh = Attempt.weigh

    def weighed(self: Attempt, *given: Any) -> Next:
        found = weigh(self, *given)
        once = self.condition is Condition.IF_ABSENT
        return Next.PROPOSE if found is Next.LOST and once is agreed else found

    patch.setattr(Attempt, "weigh", weighed)


def sleep(*at: int) -> Callable[[Simulation], None]:
    def put(self: Simulation) -> None:
        for each in at:
            self.machines[each].pause()

    return put


def notice_first(patch: Patch) -> None:
    part = Simulation.part

    def parted(self: Simulation, *sides: tuple[int, ...]) -> None:
        part(self, *sides)
        self.rest(2.0)

    patch.setattr(Simulation, "part", parted)


def bridge(_: Patch, self: Simulation) -> None:
    """n1 and n4 see each other again, and nobody else."""
    self.heal()
    self.part((1, 2), (3, 4))
    self.part((0,), (4,))
    self.rest(3.0)


def once_asked(value: str, then: Break) -> Break:
    """As soon as a transaction is to write this, before it is asked for."""

    def put(patch: Patch) -> None:
        real = Client.commit

        def commit(self: Client, writes: Any, versions: Any) -> Pending:
            if value in writes.values():
                patch.setattr(Client, "commit", real)
                then(patch)
            return real(self, writes, versions)

        patch.setattr(Client, "commit", commit)

    return put


def undo_unasked(patch: Patch) -> None:
    """Who meets an intent of what is not decided undoes it, and has not decided that it is aborted."""
    patch.setattr(helping, "decided", lambda record: decided(record) or ABORTED)


def commit_whatever(patch: Patch) -> None:
    """A coordinator has it committed whatever was decided: under any ballot, as anybody writes a register."""
    patch.setattr(transaction, "commit", lambda *given: commit(*given)._replace(ballot=b""))


def undo_everything(patch: Patch) -> None:
    """Whatever was decided, who meets an intent undoes it."""
    patch.setattr(helping, "decided", lambda record: ABORTED)


def ends(state: State | None) -> Break:
    """Of the textbook: whoever asks the others goes by this, whatever they say."""
    return lambda patch: patch.setattr(Protocol, "end_of", lambda self, states: state)


def mend(patch: Patch) -> None:
    """Of the textbook: when the network heals both sites hold the same."""

    def heal(self: Protocol) -> None:
        for site in self.sites:
            site.value = textbook.AFTER

    patch.setattr(Protocol, "heal", heal)


def settle_with(settled: str) -> Break:
    """Hints are counted as something else than delivered."""

    def put(patch: Patch) -> None:
        settle = Hints.settle
        patch.setattr(
            Hints, "settle", lambda self, pile, row, hint, _: settle(self, pile, row, hint, settled)
        )

    return put


def sleep_when_proven(patch: Patch) -> None:
    def proven(self: Simulation, report: Report) -> None:
        tell_proof(self, report)
        self.machines[4].pause()

    patch.setattr(cap, "tell_proof", proven)


def compare_nothing_asleep(patch: Patch) -> None:
    pause = Machine.pause

    def paused(self: Machine) -> None:
        compare_nothing(patch, agreed=False)
        pause(self)

    patch.setattr(Machine, "pause", paused)


LWW, FWW = Rule.LAST_WRITE_WINS, Rule.FIRST_WRITE_WINS
TERM, ALL_SAME = "leader of term 2", "all replicas are proven equal"
# By drill and claim. Those that are only waited for are claims as well.
WAITED: dict[tuple[str, str], Break] = {
    ("cap", "the cluster is founded"): lambda patch: patch.setattr(simulation, "READY_S", 0.5),
    ("cap", "both sides notice that they are parted"): nothing(Simulation, "part"),
    ("cap", "both sides see each other again"): nothing(Simulation, "heal"),
    ("cap", "no hint is left"): nothing(Delivery, "tick"),
    ("split-brain", "both sides notice that they are parted"): nothing(Simulation, "part"),
    ("split-brain", "both sides see each other again"): nothing(Simulation, "heal"),
    ("split-brain", "no hint is left"): nothing(Delivery, "tick"),
    ("split-brain", "others notice who is asleep"): nothing(Machine, "pause"),
    ("split-brain", "every request is answered"): nothing(Machine, "resume"),
    ("two-phase", "all intents of the transaction are laid"): from_then(
        "moment", lambda _, self: sleep(self.home)(self)
    ),
    ("two-phase", "the transaction comes to be decided"): lambda patch: patch.setattr(
        transfer, "Phase", SimpleNamespace(DECIDE=None)
    ),
    ("two-phase", "all others accept what decides it"): from_then("part", lambda _, self: sleep(0, 2)(self)),
    ("two-phase", "no intent of a transaction is left"): lambda patch: patch.setattr(
        Simulation, "intents", lambda self: [1]
    ),
    ("three-phase", "both sides notice that they are parted"): nothing(Simulation, "part"),
    ("three-phase", "both sides see each other again"): nothing(Simulation, "heal"),
}
CLAIMED: dict[tuple[str, str], Break] = {
    ("cap", "every level answers at every node"): from_the_start(sleep(4)),
    ("cap", "what is asked before the cut is noticed may end in doubt, and is told so"): notice_first,
    ("cap", "the majority does all but ALL"): from_then("chance", lambda _, self: sleep(1, 2)(self)),
    ("cap", "the minority does what one replica can do, and refuses the rest"): from_then("chance", bridge),
    ("cap", "a read at ONE may be stale"): told("n4", "get quorum at ONE", version=None),
    ("cap", "every hint is delivered"): settle_with("hints_expired"),
    ("cap", "of two writes at ANY that of the later stamp is left"): from_then(
        "heal", lambda p, _: reverse(p, LWW)
    ),
    ("cap", "of two writes at ONE that of the later stamp is left"): told(
        "n5", "get one at ONE", version=None
    ),
    ("cap", "what ended in doubt may have happened"): told("n1", "get early n4 at ONE", value=None),
    ("cap", ALL_SAME): lambda patch: patch.setattr(simulation, "PROVEN_S", 0.1),
    ("cap", "every level answers at every node again"): sleep_when_proven,
    ("cap", "no increment is lost, or counted twice"): lambda patch: patch.setattr(
        records, "added", lambda *_: b"1"
    ),
    ("split-brain", "Bob sees that Ada leads"): from_the_start(lambda self: self.part((2,), (0, 1))),
    ("split-brain", "where the last write wins there are two leaders at ONE"): told(
        "n3", "get leader at ONE", value="bob"
    ),
    ("split-brain", "where the first write wins both have won at ONE, provisionally"): told(
        "n3", f"set {TERM}=ada at ONE", final=True
    ),
    ("split-brain", "where it is agreed one has won, at once and for good"): told(
        "n3", f"set {TERM}=ada at QUORUM", outcome="stored", definite=None, final=True
    ),
    ("split-brain", "in a register there is one leader"): told(
        "n3", "set leader=ada at QUORUM", outcome="stored", definite=None
    ),
    (
        "split-brain",
        "where the last write wins one of the two is left, and who wrote the other is not told",
    ): from_then("heal", lambda patch, _: reverse(patch, LWW)),
    (
        "split-brain",
        "where the first write wins one of the two is left, and who wrote the other is not told",
    ): from_then("heal", lambda patch, _: reverse(patch, FWW)),
    ("split-brain", ALL_SAME): lambda patch: patch.setattr(simulation, "PROVEN_S", 0.1),
    ("split-brain", "the first write is final once all know that it is stable"): told(
        "n3", f"get {TERM} at QUORUM", final=False
    ),
    ("split-brain", "who was cut off loses the register, and is told to whom"): from_then(
        "heal", lambda patch, _: compare_nothing(patch, agreed=False)
    ),
    ("split-brain", "who was cut off loses what is agreed, and is told to whom"): from_then(
        "heal", lambda patch, _: compare_nothing(patch, agreed=True)
    ),
    ("split-brain", "a leader that wakes up loses by its old version, and is told to whom"): (
        compare_nothing_asleep
    ),
    ("split-brain", "there is one leader in the end"): told("n1", "get leader at QUORUM", version=None),
    ("two-phase", "in two-phase commit all wait for as long as the coordinator is away"): ends(State.ABORTED),
    ("two-phase", "it goes on only with the coordinator"): nothing(textbook.Coordinator, "recover"),
    ("two-phase", "who meets what was left there goes on, in 2 s and 3 round trips"): (
        lambda patch: patch.setattr(helping, "PATIENCE_S", 3.0)
    ),
    ("two-phase", "what was not decided is undone"): told(NEAR, "get ada at QUORUM", value="7"),
    ("two-phase", "the coordinator wakes up, and cannot commit any more"): commit_whatever,
    ("two-phase", "nothing of it was done, anywhere"): told(FAR, "get bob at QUORUM", value="7"),
    ("two-phase", "who meets it finds out what was decided, and no later"): once_asked(
        "4", told(NEAR, "get ada at QUORUM", took_s=3.0)
    ),
    ("two-phase", "what was decided is done, by whoever meets it"): once_asked("4", undo_everything),
    ("two-phase", "who had asked is not told that nothing was done"): told(
        FAR, "transaction ada=4 bob=4", outcome="conflict", definite=True
    ),
    ("two-phase", "all of it was done, everywhere"): once_asked(
        "4", told(FAR, "get bob at QUORUM", value="10")
    ),
    ("two-phase", ALL_SAME): lambda patch: patch.setattr(simulation, "PROVEN_S", 0.1),
    ("three-phase", "in three-phase commit nobody waits for a coordinator that has stopped"): ends(None),
    ("three-phase", "in three-phase commit two sides of a parted network decide differently"): nothing(
        Protocol, "part"
    ),
    ("three-phase", "and stay so when it heals"): mend,
    ("three-phase", "the majority decides"): told(NEAR, "transaction ada=7 bob=7", outcome="conflict"),
    ("three-phase", "the minority decides nothing, and says nothing that may be wrong"): told(
        FAR, "get ada at QUORUM", definite=False
    ),
    ("three-phase", "when it heals there is one outcome, everywhere"): from_then(
        "heal", lambda patch, _: told(FAR, "get bob at QUORUM", value="10")(patch)
    ),
    ("three-phase", "the majority ends what the minority cannot decide"): undo_unasked,
    ("three-phase", "the minority does not claim to have committed it"): told(
        FAR, "transaction ada=4 bob=4", outcome="committed", definite=None
    ),
    ("three-phase", "when it heals that too has one outcome, everywhere"): once_asked(
        "4", told(FAR, "get ada at QUORUM", value="4")
    ),
    ("three-phase", ALL_SAME): lambda patch: patch.setattr(simulation, "PROVEN_S", 0.1),
}
BREAKS = WAITED | CLAIMED


@pytest.mark.parametrize(("name", "claim"), BREAKS, ids=lambda each: str(each).replace(" ", "-"))
def test_a_drill_ends_at_the_claim_that_is_not_so(
    name: str, claim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    BREAKS[name, claim](monkeypatch)
    report = play(name, SEED)
    assert report.failed is not None
    assert report.failed.claim == claim, report.failed.found[:300]
    assert claim not in report.claims


@pytest.mark.parametrize("name", ["two-phase", "three-phase"])
def test_undoing_what_was_not_decided_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is how a decision splits here: the rows are undone, and the register may come to say COMMITTED."""
    undo_unasked(monkeypatch)
    failed = play(name, SEED).failed
    assert failed is not None
    assert failed.claim in {
        "the coordinator wakes up, and cannot commit any more",
        "the majority ends what the minority cannot decide",
    }


def test_what_a_node_raises_is_no_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a bug, and is not caught."""

    def stumble(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Delivery, "tick", stumble)
    with pytest.raises(ZeroDivisionError):
        drills.play("cap", SEED)


def test_each_drill_says_what_it_shows() -> None:
    plays = [each.play for each in (cap, split_brain, two_phase, three_phase)]
    assert [drill.play for drill in DRILLS.values()] == plays
    assert all(drill.summary.endswith(".") for drill in DRILLS.values())
