"""Cap: what each level answers on both sides of a network that has parted, and after it.

Named after the theorem (Gilbert and Lynch, "Brewer's conjecture and the feasibility of consistent, available,
partition-tolerant web services", 2002): of a store that goes on while its network is parted either some
requests are refused, or some answers do not know of each other. Here each request chooses.

    n1 n2 n3 | n4 n5       QUORUM, and registers, go on at the left and are refused at the right
                           ANY and ONE go on at both, and one of two writes is superseded in the end
"""

from typing import Final

from basestore.consistency import COUNTED, Level
from basestore.drill.answers import FOUND, STORED, Answer
from basestore.drill.proof import tell_proof
from basestore.drill.report import Report
from basestore.drill.simulation import REGISTER, Simulation, stamped
from basestore.protocol.client import ADD, IF_VERSION
from basestore.repair.version import Version

NODES: Final = 5
SUMMARY: Final = (
    "What each level answers on both sides of a parted network, and how the sides come together again."
)
_MAJORITY, _MINORITY = (0, 1, 2), (3, 4)
_ASKED = (0, 3)  # a node of each side
_QUORUM = Level.QUORUM.required(NODES)
_SETS = {level: f"set at {level.name}" for level in COUNTED}
_GETS = {level: f"get at {level.name}" for level in (Level.ONE, Level.QUORUM, Level.ALL)}
_ADD, _REGISTER, _COMPARE = "register: increment", "register: get", "register: set --if-version"
_WEAK = (_SETS[Level.ANY], _SETS[Level.ONE], _GETS[Level.ONE])
_STRONG = (_SETS[Level.QUORUM], _GETS[Level.QUORUM], _ADD, _REGISTER, _COMPARE)
_READ = "quorum"  # the key that is read
_NONE = Version(0, 0, 0)
_WHOLE = (_SETS[Level.ALL], _GETS[Level.ALL])


def play(simulation: Simulation, report: Report) -> None:
    """All acts. NotSo if one of its claims is not so."""
    _Cap(simulation, report).play()


class _Cap:
    """What has happened so far. `_known`: the version of the register that each side was told of last;
    `_increments`: how many were acknowledged; `_apart`: what was answered while the network was parted."""

    def __init__(self, simulation: Simulation, report: Report) -> None:
        self._simulation, self._report = simulation, report
        self._clients = [simulation.client(at) for at in _ASKED]
        self._names = [client.machine.name for client in self._clients]
        self._known: list[Version | None] = [None, None]
        self._increments = 0
        self._apart: dict[str, list[Answer]] = {}

    def play(self) -> None:
        self._begin()
        self._part()
        self._go_on_apart()
        self._heal()
        self._go_on()

    # --- acts --------------------------------------------------------------------------------

    def _begin(self) -> None:
        simulation, report = self._simulation, self._report
        report.act("All is well")
        (first,) = simulation.answers(self._clients[0].set("leader", "nobody", bucket=REGISTER))
        self._known = [first.version] * 2
        rows = self._round("before")
        report.tell(
            f"Every key is on all {NODES} nodes, and QUORUM is {_QUORUM} of them. Their clocks are up to "
            f"{max(abs(m.offset_ms) for m in simulation.machines)} ms wrong. The cluster was founded, and "
            f"its registers could be asked, after {simulation.ready_s:.2f} s.",
            [answer for row in rows.values() for answer in row],
            ready_s=round(simulation.ready_s, 6),
            clocks_ms={machine.name: machine.offset_ms for machine in simulation.machines},
        )
        self._claim_all_answer("every level answers at every node", rows)

    def _part(self) -> None:
        simulation, report = self._simulation, self._report
        report.act("The network parts: n1 n2 n3 | n4 n5")
        simulation.part(_MAJORITY, _MINORITY)
        pending = [client.set(f"early {client.machine.name}", "early") for client in self._clients]
        noticed_s = simulation.await_parting(_MAJORITY, _MINORITY)
        answers = simulation.answers(*pending)
        left, right = answers
        report.tell(
            f"In that moment both sides are asked to set a key at QUORUM. {left.node}: {left.words}, after "
            f"{left.took_s:.3f} s. {right.node}: {right.words}, after {right.took_s:.3f} s. Both sides took "
            f"the other for dead after {noticed_s:.2f} s.",
            answers,
            noticed_s=round(noticed_s, 6),
        )
        report.claim(
            "what is asked before the cut is noticed may end in doubt, and is told so",
            holds=left.outcome == STORED and right.definite is False,
            found=f"{right.node} had heard of {right.reached} of {right.required} replicas by then",
        )

    def _go_on_apart(self) -> None:
        report = self._report
        report.act("Parted, and both sides know it")
        first = int(self._simulation.chance("who asks first").uniform(0, 2))
        rows = self._apart = self._round("apart", (first, 1 - first))
        report.table(
            [f"asked of {self._names[0]}, in the majority", f"asked of {self._names[1]}, in the minority"],
            rows,
        )
        report.tell("Definite: certainly nothing was done.")
        left, right = ({asked: row[side] for asked, row in rows.items()} for side in (0, 1))
        report.claim(
            "the majority does all but ALL",
            holds=all(_done(left[each]) for each in _WEAK + _STRONG)
            and all(left[each].refused for each in _WHOLE),
            found=f"{self._names[0]} reaches {len(_MAJORITY)} of {NODES} replicas",
        )
        refused = [right[each] for each in _STRONG + _WHOLE]
        report.claim(
            "the minority does what one replica can do, and refuses the rest",
            holds=all(_done(right[each]) for each in _WEAK) and all(each.refused for each in refused),
            found=f"{self._names[1]} reaches {len(_MINORITY)} of {NODES}, and refuses in "
            f"{max(each.took_s for each in refused) * 1e3:.1f} ms or less",
        )
        (stale,) = self._simulation.answers(self._clients[1].get(_READ, Level.ONE))
        newer = left[_GETS[Level.QUORUM]]
        report.claim(
            "a read at ONE may be stale",
            holds=stale.version is not None and newer.version is not None and stale.version < newer.version,
            found=f"{stale.node} still finds {stale.value!r}, {newer.node} reads {newer.value!r} at QUORUM",
        )

    def _heal(self) -> None:
        simulation, report = self._simulation, self._report
        report.act("The network heals")
        kept, delivered = simulation.hints(), simulation.counted("hints_delivered")
        simulation.heal()
        met_s = simulation.await_meeting(_MAJORITY, _MINORITY)
        healed_s = met_s + simulation.wait(lambda: not simulation.hints(), "no hint is left")
        delivered, count = simulation.counted("hints_delivered") - delivered, sum(kept.values())
        report.claim(
            "every hint is delivered",
            holds=delivered == count > 0,
            found=f"{' and '.join(sorted({keeper for keeper, _ in kept}))} have kept {count} for the other "
            f"side, and {delivered} were taken, {healed_s:.2f} s after the network healed",
        )
        report.note(
            hints=[[keeper, peer, count] for (keeper, peer), count in sorted(kept.items())],
            met_s=round(met_s, 6), healed_s=round(healed_s, 6),
        )  # fmt: skip
        self._tell_superseded(Level.ANY)
        self._tell_superseded(Level.ONE)
        self._tell_early()
        tell_proof(simulation, report)

    def _tell_superseded(self, level: Level) -> None:
        """Of two writes of a key one is left."""
        writes, held = self._apart[_SETS[level]], self._simulation.everywhere(level.name.lower())
        lost, won = sorted(writes, key=lambda answer: answer.version or _NONE)
        self._report.claim(
            f"of two writes at {level.name} that of the later stamp is left",
            holds={each.version for each in held} == {won.version},
            found=f"all nodes hold {held[0].value!r} ({stamped(won)}); what was set through {lost.node} "
            f"({stamped(lost)}) is superseded",
        )
        self._report.note(**{f"superseded_{level.name.lower()}": str(lost.version)})

    def _tell_early(self) -> None:
        held = self._simulation.everywhere(f"early {self._names[1]}")
        self._report.claim(
            "what ended in doubt may have happened",
            holds={each.value for each in held} == {"early"},
            found=f"this had, and {len(held)} of {NODES} nodes hold it now",
        )

    def _go_on(self) -> None:
        simulation, report = self._simulation, self._report
        report.act("Together again")
        rows = self._round("after")
        report.table([f"asked of {name}" for name in self._names], rows)
        self._claim_all_answer("every level answers at every node again", rows)
        (counter,) = simulation.answers(self._clients[1].get("counter", bucket=REGISTER))
        report.claim(
            "no increment is lost, or counted twice",
            holds=counter.value == str(self._increments),
            found=f"the counter is {counter.value}, and {self._increments} increments were acknowledged",
        )

    # --- what acts share -----------------------------------------------------------------------

    def _round(self, phase: str, order: tuple[int, int] = (0, 1)) -> dict[str, list[Answer]]:
        """Everything once, of one side after the other. By what was asked, in the order of the sides."""
        by_side = {side: self._ask_all(side, phase) for side in order}
        return {asked: [by_side[0][asked], by_side[1][asked]] for asked in by_side[0]}

    def _ask_all(self, side: int, phase: str) -> dict[str, Answer]:
        client, simulation = self._clients[side], self._simulation
        value, answers = f"{client.machine.name} {phase}", dict[str, Answer]()
        for level, asked in _SETS.items():
            (answers[asked],) = simulation.answers(client.set(level.name.lower(), value, level))
        for level, asked in _GETS.items():
            (answers[asked],) = simulation.answers(client.get(_READ, level))
        (added,) = simulation.answers(client.set("counter", "1", bucket=REGISTER, condition=ADD))
        (leader,) = simulation.answers(client.get("leader", bucket=REGISTER))
        known = self._known[side] = leader.version or self._known[side]
        (compared,) = simulation.answers(
            client.set("leader", value, bucket=REGISTER, condition=IF_VERSION, expected=known)
        )
        self._increments += added.outcome == STORED
        return answers | {_ADD: added, _REGISTER: leader, _COMPARE: compared}

    def _claim_all_answer(self, claim: str, rows: dict[str, list[Answer]]) -> None:
        answers = [answer for row in rows.values() for answer in row]
        self._report.claim(
            claim,
            holds=all(map(_done, answers)),
            found=f"{sum(map(_done, answers))} of {len(answers)} requests, the slowest in "
            f"{max(answer.took_s for answer in answers) * 1e3:.1f} ms",
        )


def _done(answer: Answer) -> bool:
    return answer.outcome in (STORED, FOUND)
