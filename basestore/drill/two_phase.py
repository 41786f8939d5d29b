"""Two-phase: the coordinator of a commit stops, and who waits for it.

Between its vote and the word of the coordinator nobody may do anything alone: that is two-phase commit. With
it each site that has voted stays locked for as long as the coordinator is away. Here the decision is not the
coordinator's: it is what a register comes to hold, which any node can ask, or settle, by Paxos (Gray and
Lamport, "Consensus on Transaction Commit", 2006).

    n3 has laid intents on both keys, and stops     the register of its transaction holds nothing
    n1 is asked for one of them                     it waits for 2 s; then has ABORTED decided, unless
                                                    COMMITTED was; and does what that says
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from basestore.drill.answers import COMMITTED, Answer
from basestore.drill.clockwork import Clockwork
from basestore.drill.network import DELAY_S_MAX
from basestore.drill.proof import tell_proof
from basestore.drill.report import Report
from basestore.drill.simulation import Simulation
from basestore.drill.textbook import BEFORE, Protocol, State
from basestore.drill.transfer import NEW, NEWER, NODES, OLD, Transfer, slowest_s

SUMMARY: Final = "Who waits for whom when the coordinator of a commit stops: in two-phase commit, and here."
AWAY_S: Final = (3.0, 30.0, 300.0)  # for which the coordinator of the textbook is, each time anew
WAIT_S_MAX: Final = 2.0 + 3 * 2 * DELAY_S_MAX + 0.1  # 2 s, three round trips, and turns and disks on the way
__all__ = ["NODES", "SUMMARY", "play"]


class Away(NamedTuple):
    """What was seen of the textbook, whose coordinator was away for so long. `waiting`: reads without an
    answer behind that; `asked`: how often the sites have asked how it has ended; `locked`: sites that did not
    know even then; `waited_s`: of each read, once it was back; `values`: that the keys have in the end."""

    away_s: float
    waiting: int
    asked: int
    locked: int
    waited_s: list[float]
    values: list[str]


def play(simulation: Simulation, report: Report) -> None:
    """All acts. NotSo if one of its claims is not so."""
    _TwoPhase(simulation, report).play()


class _TwoPhase:
    def __init__(self, simulation: Simulation, report: Report) -> None:
        self._simulation, self._report = simulation, report
        self._transfer = Transfer(simulation)
        self._at = self._transfer.far  # who coordinates
        self._asker = self._transfer.near

    def play(self) -> None:
        self._textbook()
        self._undecided()
        self._decided()
        tell_proof(self._simulation, self._report)

    # --- acts --------------------------------------------------------------------------------

    def _textbook(self) -> None:
        report = self._report
        report.act("Two-phase commit, as in textbooks: the coordinator stops behind the votes")
        seen = [self._away(away_s) for away_s in AWAY_S]
        times = _listed(f"{each.away_s:.0f}" for each in seen)
        report.tell(
            f"In a world of its own n1 coordinates, and n2 and n3 hold a key each. Both have voted, and have "
            f"locked their keys, when n1 stops: for {times} s, each time anew. Somebody reads each key. Both "
            f"sites ask each other, and n1, how it has ended: {_listed(each.asked for each in seen)} times.",
            waiting=[each.waiting for each in seen], asked=[each.asked for each in seen],
        )  # fmt: skip
        report.claim(
            "in two-phase commit all wait for as long as the coordinator is away",
            holds=all(each.waiting == each.locked == 2 < each.asked for each in seen),
            found=f"of 2 reads {_listed(each.waiting for each in seen)} are not answered after {times} s: n1 "
            f"may have decided either, and neither site knows",
        )
        least_s = [min(each.waited_s, default=0.0) for each in seen]
        report.claim(
            "it goes on only with the coordinator",
            holds=all(
                len(each.waited_s) == 2 and least >= each.away_s and each.values == [BEFORE] * 2
                for each, least in zip(seen, least_s, strict=True)
            ),
            found=f"n1 is back, and aborts what it had not decided; the reads were answered after "
            f"{_listed(f'{each:.1f}' for each in least_s)} s",
        )
        report.note(waited_s=[[round(each, 6) for each in one.waited_s] for one in seen])

    def _away(self, away_s: float) -> Away:
        protocol = Protocol(2, Clockwork(), self._simulation.chance(f"textbook, away for {away_s:g} s"))
        sites, coordinator = protocol.sites, protocol.coordinator
        coordinator.begin()
        protocol.clockwork.run(lambda: all(site.state is State.VOTED for site in sites), 1.0)
        coordinator.stopped = True
        for site in sites:
            site.read()
        protocol.rest(away_s)
        waiting, asked = sum(len(site.waiting) for site in sites), sum(site.asked for site in sites)
        locked = sum(site.state is State.VOTED for site in sites)
        coordinator.recover()
        protocol.rest(1.0)
        waited_s = [end_s - begun_s for site in sites for begun_s, end_s, _ in site.answered]
        return Away(away_s, waiting, asked, locked, waited_s, [site.value for site in sites])

    def _undecided(self) -> None:
        simulation, report, transfer = self._simulation, self._report, self._transfer
        who, asker = transfer.name(self._at), transfer.name(self._asker)
        report.act(f"Here: {who} stops when all intents are laid")
        transfer.set_up(OLD)
        pending = transfer.begin(self._at, NEW)
        transfer.until_laid()
        simulation.machines[self._at].pause()
        reads = simulation.answers(*transfer.reads(self._asker))
        self._tell_reads(
            f"Two keys of registers hold {OLD!r}. {who} is asked to have both hold {NEW!r}, in one "
            f"transaction, and stops before that is decided. Its intents lie on both keys; {asker} is asked "
            f"for both.",
            reads,
        )
        self._claim_waits("who meets what was left there goes on, in 2 s and 3 round trips", reads)
        transfer.claim_found(report, "what was not decided is undone", reads, OLD)
        simulation.machines[self._at].resume()
        (answer,) = simulation.answers(pending)
        report.claim(
            "the coordinator wakes up, and cannot commit any more",
            holds=answer.outcome != COMMITTED,
            found=f"who had asked {who} is told: {answer.words}",
        )
        transfer.claim_same(report, "nothing of it was done, anywhere", OLD)

    def _decided(self) -> None:
        simulation, report, transfer = self._simulation, self._report, self._transfer
        who = transfer.name(self._at)
        report.act(f"Here: {who} stops when that is decided, and nobody knows")
        transfer.set_up(OLD)
        pending = transfer.begin(self._at, NEWER)
        transfer.until_deciding(self._at)
        others = tuple(at for at in range(NODES) if at != self._at)
        simulation.part((self._at,), others)  # what it has said is on its way
        simulation.machines[self._at].pause()
        accepted, know = transfer.until_accepted(self._at)
        reads = simulation.answers(*transfer.reads(self._asker))
        self._tell_reads(
            f"Again, with {NEWER!r}. {who} has asked all for the decision, and hears no answer: it is cut "
            f"off, and stops. {accepted} of {NODES} nodes accept the decision, and {know} know that it is "
            f"one.",
            reads,
        )
        report.note(accepted=accepted, know=know)
        self._claim_waits("who meets it finds out what was decided, and no later", reads)
        transfer.claim_found(report, "what was decided is done, by whoever meets it", reads, NEWER)
        simulation.machines[self._at].resume()
        simulation.heal()
        (answer,) = simulation.answers(pending)
        report.claim(
            "who had asked is not told that nothing was done",
            holds=answer.outcome == COMMITTED or answer.definite is False,
            found=f"{who} is back, and says: {answer.words}",
        )
        transfer.claim_same(report, "all of it was done, everywhere", NEWER)

    # --- what acts share -----------------------------------------------------------------------

    def _tell_reads(self, text: str, reads: list[Answer]) -> None:
        self._report.tell(text)
        self._transfer.table(self._report, reads)

    def _claim_waits(self, claim: str, reads: list[Answer]) -> None:
        self._report.claim(
            claim, holds=slowest_s(reads) <= WAIT_S_MAX, found=f"after {slowest_s(reads):.3f} s"
        )


def _listed(each: Iterable[object]) -> str:
    """As 3, 30 and 300."""
    *first, last = map(str, each)
    return f"{', '.join(first)} and {last}"
