"""Split brain: two programs, one on each side of a parted network, and each takes itself for the leader.

The same is tried in four buckets at once:

    default   the last write wins    both are told that they lead; one has lost, and is not told
    once      the first write wins   both are told that they have won, provisionally; one has lost
    agreed    written once, agreed   one has won, for good; the other is refused
    cas       a register             one takes over; the other is refused, and later beaten by name

In the end nobody is cut off, but the leader's node is paused, as a virtual machine that is moved: what it
was asked then is done when it wakes, and must have no effect (Kleppmann, "How to do distributed locking",
2016). That is what versions are for: a compare with an old one loses.
"""

from collections.abc import Callable
from typing import Final

from basestore.consistency import Level
from basestore.drill.answers import LOST, STORED, Answer
from basestore.drill.proof import tell_proof
from basestore.drill.report import Report
from basestore.drill.simulation import AGREED, ONCE, REGISTER, Client, Pending, Simulation, stamped
from basestore.protocol.client import IF_ABSENT, IF_VERSION
from basestore.repair.version import Version

NODES: Final = 3
SUMMARY: Final = (
    "Two clients on two sides both take themselves for the leader: which buckets let them, and which do not."
)
PAUSE_S: Final = 3.0
_MAJORITY, _MINORITY = (0, 1), (2,)
_LEADER = "leader"
_TERM = "leader of term 2"
_SET, _GET, _ONCE, _AGREED = "set at ONE", "get at ONE", "once: set at ONE", "agreed: set"
_REGISTER = "register: set --if-version"
ADA, BOB = "ada", "bob"


def play(simulation: Simulation, report: Report) -> None:
    """All acts. NotSo if one of its claims is not so."""
    _SplitBrain(simulation, report).play()


class _SplitBrain:
    """What has happened so far. Ada asks n3, Bob n1. `_held`: the version under which Ada last held the
    register; `_apart`: what the two were answered while the network was parted, by bucket."""

    def __init__(self, simulation: Simulation, report: Report) -> None:
        self._simulation, self._report = simulation, report
        self._bob, self._ada = simulation.client(_MAJORITY[0]), simulation.client(_MINORITY[0])
        self._held: Version | None = None
        self._apart: dict[str, list[Answer]] = {}

    def play(self) -> None:
        self._elect()
        self._part()
        self._heal()
        self._pause()

    # --- acts --------------------------------------------------------------------------------

    def _elect(self) -> None:
        simulation, report = self._simulation, self._report
        report.act("Ada leads")
        report.tell(
            f"Every key is on all {NODES} nodes, and QUORUM is {Level.QUORUM.required(NODES)} of them. Ada "
            f"asks {self._ada.machine.name}, Bob {self._bob.machine.name}. Ada sets {_LEADER!r} in a bucket "
            f"where the last write wins, and in a register, if it is absent there."
        )
        plain, register = simulation.answers(
            self._ada.set(_LEADER, ADA),
            self._ada.set(_LEADER, ADA, bucket=REGISTER, condition=IF_ABSENT),
        )
        self._held = register.version
        seen = simulation.answers(
            self._bob.get(_LEADER), self._bob.get(_LEADER, bucket=REGISTER),
        )  # fmt: skip
        report.table(["asked of n3 by Ada"], {"set": [plain], "register: set --if-absent": [register]})
        report.claim(
            "Bob sees that Ada leads",
            holds=[each.value for each in seen] == [ADA, ADA],
            found="in both buckets",
        )

    def _part(self) -> None:
        simulation, report = self._simulation, self._report
        report.act("The network parts: n1 n2 | n3")
        simulation.part(_MAJORITY, _MINORITY)
        noticed_s = simulation.await_parting(_MAJORITY, _MINORITY)
        apart_ms = abs(self._bob.machine.offset_ms - self._ada.machine.offset_ms)
        report.tell(
            f"Bob's side takes Ada's for dead after {noticed_s:.2f} s, and Bob himself for the leader. Ada "
            f"knows nothing of that, and goes on. Both say so, at the same time, though the clocks of their "
            f"nodes differ by {apart_ms} ms:",
            noticed_s=round(noticed_s, 6),
            clocks_apart_ms=apart_ms,
        )
        self._apart = rows = {
            _SET: self._both(lambda c, name: c.set(_LEADER, name, Level.ONE)),
            _GET: self._both(lambda c, name: c.get(_LEADER, Level.ONE)),
            _ONCE: self._both(lambda c, name: c.set(_TERM, name, Level.ONE, bucket=ONCE)),
            _AGREED: self._both(lambda c, name: c.set(_TERM, name, bucket=AGREED)),
            _REGISTER: self._both(self._renew),
        }
        report.table(["asked of n1 by Bob", "asked of n3 by Ada"], rows)
        self._claim_apart()

    def _claim_apart(self) -> None:
        report, apart = self._report, self._apart
        seen = [each.value for each in apart[_GET]]
        report.claim(
            "where the last write wins there are two leaders at ONE",
            holds=[each.outcome for each in apart[_SET]] == [STORED, STORED] and seen == [BOB, ADA],
            found=f"both were stored; Bob reads {seen[0]!r}, Ada reads {seen[1]!r}",
        )
        report.claim(
            "where the first write wins both have won at ONE, provisionally",
            holds=[(each.outcome, each.final) for each in apart[_ONCE]] == [(STORED, False)] * 2,
            found="neither is told that it is final",
        )
        bob, ada = apart[_AGREED]
        report.claim(
            "where it is agreed one has won, at once and for good",
            holds=(bob.outcome, bob.final, ada.refused) == (STORED, True, True),
            found=f"Bob; Ada was refused in {ada.took_s * 1e3:.1f} ms, with nothing done",
        )
        bob, ada = apart[_REGISTER]
        report.claim(
            "in a register there is one leader",
            holds=bob.outcome == STORED and ada.refused,
            found=f"Bob took over from Ada's version; she was refused in {ada.took_s * 1e3:.1f} ms",
        )

    def _heal(self) -> None:
        simulation, report = self._simulation, self._report
        report.act("The network heals")
        simulation.heal()
        healed_s = simulation.await_meeting(_MAJORITY, _MINORITY) + simulation.wait(
            lambda: not simulation.hints(), "no hint is left"
        )
        report.tell(
            f"Both sides see each other, and all hints are delivered, after {healed_s:.2f} s.",
            healed_s=round(healed_s, 6),
        )
        self._claim_one_left("default", _LEADER, _SET, "last")
        self._claim_one_left(ONCE, _TERM, _ONCE, "first")
        tell_proof(simulation, report)
        self._claim_final()
        self._claim_beaten()

    def _claim_one_left(self, bucket: str, key: str, asked: str, which: str) -> None:
        """Of two writes that were stored."""
        lost, won = sorted(self._apart[asked], key=_version, reverse=which == "first")
        held = self._simulation.everywhere(key, bucket)
        self._report.claim(
            f"where the {which} write wins one of the two is left, and who wrote the other is not told",
            holds={each.version for each in held} == {won.version},
            found=f"all nodes hold {self._name(won)!r} ({stamped(won)}); {self._name(lost)!r} "
            f"({stamped(lost)}) was stored, too",
        )

    def _claim_final(self) -> None:
        """Each node tells so once it has heard itself that the stamp is stable."""
        simulation, claim = self._simulation, "the first write is final once all know that it is stable"
        reads = list[Answer]()

        def is_final() -> bool:
            reads[:] = self._both(lambda client, _: client.get(_TERM, bucket=ONCE))
            return all(each.final for each in reads)

        more_s = simulation.wait(is_final, claim)
        self._report.claim(
            claim,
            holds=len({each.version for each in reads}) == 1,
            found=f"through {reads[0].node} and {reads[1].node} it is {reads[0].value!r}, which cannot be "
            f"contested any more, {more_s:.2f} s after the proof",
        )

    def _claim_beaten(self) -> None:
        """Whoever was cut off tries again, and learns who has won."""
        report = self._report
        renewed, agreed = self._simulation.answers(
            self._renew(self._ada, ADA), self._ada.set(_TERM, ADA, bucket=AGREED)
        )
        report.table(["asked of n3 by Ada"], {_REGISTER: [renewed], _AGREED: [agreed]})
        for what, answer, asked in (
            ("the register", renewed, _REGISTER),
            ("what is agreed", agreed, _AGREED),
        ):
            winner = self._apart[asked][0].version
            report.claim(
                f"who was cut off loses {what}, and is told to whom",
                holds=(answer.outcome, answer.value) == (LOST, BOB) and answer.winner == winner is not None,
                found=f"to {answer.value!r}, version {answer.winner}",
            )

    def _pause(self) -> None:
        simulation, report = self._simulation, self._report
        report.act("The leader's node falls asleep")
        sleeper = self._bob.machine
        held = self._apart[_REGISTER][0].version
        sleeper.pause()
        renewal = self._bob.set(_LEADER, BOB, bucket=REGISTER, condition=IF_VERSION, expected=held)
        noticed_s = simulation.wait(
            lambda: simulation.blindness(_MAJORITY[:1], (1, 2)), "others notice who is asleep"
        )
        (taken,) = simulation.answers(
            self._ada.set(_LEADER, ADA, bucket=REGISTER, condition=IF_VERSION, expected=held)
        )
        simulation.rest(PAUSE_S)
        sleeper.resume()
        (late,) = simulation.answers(renewal)
        report.tell(
            f"Bob leads, and renews that; just then {sleeper.name} is paused. The others take it for dead "
            f"after {noticed_s:.2f} s, and Ada takes over. {late.took_s:.2f} s after Bob had asked "
            f"{sleeper.name} is awake, and has answered.",
            noticed_s=round(noticed_s, 6),
        )
        report.table(["answered"], {"Ada: set --if-version": [taken], "Bob: set --if-version": [late]})
        report.claim(
            "a leader that wakes up loses by its old version, and is told to whom",
            holds=(taken.outcome, late.outcome, late.value) == (STORED, LOST, ADA)
            and late.winner == taken.version is not None,
            found=f"to {late.value!r}, version {late.winner}",
        )
        seen = simulation.answers(*(each.get(_LEADER, bucket=REGISTER) for each in (self._bob, self._ada)))
        report.claim(
            "there is one leader in the end",
            holds=[each.version for each in seen] == [taken.version] * 2,
            found=f"through {seen[0].node} and {seen[1].node} the register is {seen[0].value!r}",
        )

    # --- what acts share -----------------------------------------------------------------------

    def _both(self, ask: Callable[[Client, str], Pending]) -> list[Answer]:
        """What Bob and Ada are answered who ask at the same time."""
        return self._simulation.answers(ask(self._bob, BOB), ask(self._ada, ADA))

    def _renew(self, client: Client, name: str) -> Pending:
        """Take the register, or keep it, by the version under which Ada held it first."""
        return client.set(_LEADER, name, bucket=REGISTER, condition=IF_VERSION, expected=self._held)

    def _name(self, answer: Answer) -> str:
        return BOB if answer.node == self._bob.machine.name else ADA


def _version(answer: Answer) -> Version:
    assert answer.version is not None
    return answer.version
