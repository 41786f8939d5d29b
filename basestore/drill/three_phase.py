"""Three-phase: the network parts while a commit goes on, and who decides.

Three-phase commit waits for nobody: who hears nothing asks the others, and goes by what those say that
answer. That is right where whoever does not answer has stopped. Where the network has parted each side takes
the other for stopped, and one may have come further than the other: then they decide differently, and
nothing mends that. Here a side decides only with a majority, and the other waits, or refuses.

    n1 n2 | n3    PREPARE has come to n2, and not to n3
    n2            somebody is prepared: it commits
    n3            nobody is, of all that it hears: it aborts
"""

from typing import Final

from basestore.drill.answers import COMMITTED
from basestore.drill.clockwork import Clockwork
from basestore.drill.proof import tell_proof
from basestore.drill.report import Report
from basestore.drill.simulation import Simulation
from basestore.drill.textbook import AFTER, BEFORE, Protocol, State
from basestore.drill.transfer import NEW, NEWER, NODES, OLD, Transfer

SUMMARY: Final = "Who decides when the network parts during a commit: in three-phase commit, and here."
LOOK_S: Final = 10.0
ABORTS: Final = "transaction_aborts"  # counted by who has had that decided
__all__ = ["NODES", "SUMMARY", "play"]


def play(simulation: Simulation, report: Report) -> None:
    """All acts. NotSo if one of its claims is not so."""
    _ThreePhase(simulation, report).play()


class _ThreePhase:
    """`_left`: the side of the majority, with the home of the keys; `_right`: the other."""

    def __init__(self, simulation: Simulation, report: Report) -> None:
        self._simulation, self._report = simulation, report
        self._transfer = transfer = Transfer(simulation)
        self._left, self._right = (transfer.home, transfer.near), (transfer.far,)
        left = " ".join(sorted(transfer.name(at) for at in self._left))
        self._sides = f"{left} | {transfer.name(transfer.far)}"

    def play(self) -> None:
        self._textbook_stops()
        self._textbook_parts()
        self._majority()
        self._minority()
        tell_proof(self._simulation, self._report)

    # --- acts --------------------------------------------------------------------------------

    def _textbook_stops(self) -> None:
        report = self._report
        report.act("Three-phase commit, as in textbooks: the coordinator stops")
        ends = [self._stopped(state) for state in (State.VOTED, State.PREPARED)]
        told = [" and ".join(sorted({state.value for state in each})) for each in ends]
        report.tell(
            "In a world of its own n1 coordinates, and n2 and n3 hold a key each. n1 stops, once when both "
            "have voted, and once when both are prepared.",
            ends=told,
        )
        report.claim(
            "in three-phase commit nobody waits for a coordinator that has stopped",
            holds=ends == [[State.ABORTED] * 2, [State.COMMITTED] * 2],
            found=f"n2 and n3 have {told[0]} the first, and {told[1]} the second, by themselves",
        )

    def _stopped(self, when: State) -> list[State]:
        """How it has ended at both, where the coordinator has stopped in this state."""
        protocol = Protocol(3, Clockwork(), self._simulation.chance(f"textbook, {when.value}"))
        sites = protocol.sites
        protocol.coordinator.begin()
        protocol.clockwork.run(lambda: all(site.state is when for site in sites), 1.0)
        protocol.coordinator.stopped = True
        protocol.rest(LOOK_S)
        return [site.state for site in sites]

    def _textbook_parts(self) -> None:
        report, protocol = self._report, Protocol(3, Clockwork(), self._simulation.chance("textbook, parted"))
        report.act("Three-phase commit, as in textbooks: the network parts: n1 n2 | n3")
        n2, n3 = protocol.sites
        protocol.coordinator.begin()
        protocol.clockwork.run(lambda: n2.state is n3.state is State.VOTED, 1.0)
        protocol.part(n3.name)
        protocol.rest(LOOK_S)
        _read(protocol)
        report.tell(
            f"Both have voted, and the network parts before n3 is told to prepare. {LOOK_S:.0f} s later n2 "
            f"has {n2.state.value}, and n3 has {n3.state.value}.",
            ends=[n2.state.value, n3.state.value],
        )
        report.claim(
            "in three-phase commit two sides of a parted network decide differently",
            holds=(n2.state, n3.state) == (State.COMMITTED, State.ABORTED),
            found=f"of one transaction n2 holds {n2.value!r}, and n3 {n3.value!r}",
        )
        protocol.heal()
        protocol.rest(LOOK_S)
        told = _read(protocol)
        words = [" and ".join(map(repr, each)) for each in told]
        report.claim(
            "and stay so when it heals",
            holds=told == [[AFTER] * 2, [BEFORE] * 2],
            found=f"before that, and {LOOK_S:.0f} s after, who reads is told {words[0]} by n2, and "
            f"{words[1]} by n3",
        )
        report.note(told=told)

    def _majority(self) -> None:
        simulation, report, transfer = self._simulation, self._report, self._transfer
        who, cut = transfer.name(transfer.near), transfer.name(transfer.far)
        report.act(f"Here: the network parts: {self._sides}, and the majority coordinates")
        transfer.set_up(OLD)
        pending = transfer.begin(transfer.near, NEW)
        transfer.until_laid()
        simulation.part(self._left, self._right)
        (answer,) = simulation.answers(pending)
        simulation.await_parting(self._left, self._right)
        reads = simulation.answers(*transfer.reads(transfer.near), *transfer.reads(transfer.far))
        report.tell(
            f"Two keys of registers hold {OLD!r}. {who} is asked to have both hold {NEW!r}, in one "
            f"transaction; the network parts when its intents are laid, and {cut} is alone."
        )
        transfer.table(report, reads[:2], reads[2:])
        report.claim(
            "the majority decides",
            holds=answer.outcome == COMMITTED and [each.value for each in reads[:2]] == [NEW, NEW],
            found=f"{who} has committed it after {answer.took_s * 1e3:.1f} ms",
        )
        report.claim(
            "the minority decides nothing, and says nothing that may be wrong",
            holds=all(each.refused for each in reads[2:]),
            found=f"{cut} refuses, for it reaches 1 of {NODES} replicas",
        )
        self._heal()
        transfer.claim_same(report, "when it heals there is one outcome, everywhere", NEW)

    def _minority(self) -> None:
        simulation, report, transfer = self._simulation, self._report, self._transfer
        who, asker = transfer.name(transfer.far), transfer.name(transfer.near)
        report.act(f"Here: the network parts: {self._sides}, and the minority coordinates")
        transfer.set_up(OLD)
        pending = transfer.begin(transfer.far, NEWER)
        transfer.until_laid()
        simulation.part(self._left, self._right)
        aborts = simulation.counted(ABORTS)
        reads = simulation.answers(*transfer.reads(transfer.near))
        aborts = simulation.counted(ABORTS) - aborts
        (answer,) = simulation.answers(pending)
        report.tell(
            f"The same with {NEWER!r}, asked of {who}, which is alone before it could have that decided. Its "
            f"intents lie on both keys; {asker} is asked for both.",
            [answer],
        )
        transfer.table(report, reads)
        report.claim(
            "the majority ends what the minority cannot decide",
            holds=[each.value for each in reads] == [OLD, OLD] and aborts > 0,
            found=f"{asker} finds {reads[0].value!r} and {reads[1].value!r}; ABORTED was decided "
            f"{aborts} time{'s' * (aborts != 1)}",
        )
        report.claim(
            "the minority does not claim to have committed it",
            holds=answer.outcome != COMMITTED,
            found=f"who had asked {who} is told, after {answer.took_s:.2f} s: {answer.words}",
        )
        self._heal()
        transfer.claim_same(report, "when it heals that too has one outcome, everywhere", OLD)

    def _heal(self) -> None:
        self._simulation.heal()
        self._simulation.await_meeting(self._left, self._right)


def _read(protocol: Protocol) -> list[list[str]]:
    """Somebody reads the key of each site. What each has told so far."""
    for site in protocol.sites:
        site.read()
    return [[value for _, _, value in site.answered] for site in protocol.sites]
