"""Transfer: what the drills of commit do with the store: two keys of registers are changed in one
transaction, and something happens to whoever coordinates that.

The keys are `ada` and `bob`, on all three nodes. Of two that know nothing of each other one would do half.
"""

from typing import Final

from basestore.drill.answers import Answer
from basestore.drill.network import DELAY_S_MIN
from basestore.drill.report import Report
from basestore.drill.simulation import REGISTER, Client, Pending, Simulation
from basestore.repair.version import Version
from basestore.transactions.decisions import decision_row
from basestore.transactions.transaction import Phase

NODES: Final = 3
KEYS: Final = ("ada", "bob")
OLD, NEW, NEWER = "10", "7", "4"  # what they hold, one after the other
LEFT_S: Final = 1.5 * DELAY_S_MIN  # behind the turn in which it was said; no answer is as fast


class Transfer:
    """`home`: the index of the node that writes the keys; `near`, `far`: of the two others. Each has a client
    of its own: `clients`."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.home = simulation.home
        self.near, self.far = (at for at in range(NODES) if at != self.home)
        self.clients: list[Client] = [simulation.client(at) for at in range(NODES)]
        self._versions: dict[str, Version] = {}

    def name(self, at: int) -> str:
        return self._simulation.machines[at].name

    def set_up(self, value: str) -> list[Answer]:
        """Both keys hold this."""
        client = self.clients[self.home]
        answers = self._simulation.answers(*(client.set(key, value, bucket=REGISTER) for key in KEYS))
        self._versions = {
            key: answer.version for key, answer in zip(KEYS, answers, strict=True) if answer.version
        }
        return answers

    def begin(self, at: int, value: str) -> Pending:
        """Its client there asks this node to have both hold this."""
        return self.clients[at].commit(dict.fromkeys(KEYS, value), self._versions)

    def until_laid(self) -> None:
        """The home has all intents, and who coordinates does not know yet."""
        home = self._simulation.machines[self.home].node
        self._simulation.moment(
            lambda: home.transactions.intents == len(KEYS), "all intents of the transaction are laid"
        )

    def until_deciding(self, at: int) -> None:
        """What is to decide it has left this node, and no answer to that can be there."""
        node = self._simulation.machines[at].node
        self._simulation.moment(
            lambda: any(each.phase is Phase.DECIDE for each in node.transactions.open),
            "the transaction comes to be decided",
        )
        self._simulation.rest(LEFT_S)

    def until_accepted(self, at: int) -> tuple[int, int]:
        """All nodes but this, which has asked them to, have accepted what decides it. How many that are; and
        how many of all know that it is decided."""
        machines = self._simulation.machines
        asker, others = machines[at].node, [each.node for each in machines if each is not machines[at]]
        (transaction,) = asker.transactions.open
        row = decision_row(asker.context, transaction.id)

        def accepted() -> int:
            return sum(bool(each.registers.acceptors.standing(row)[0].accepted) for each in others)

        self._simulation.moment(lambda: accepted() == len(others), "all others accept what decides it")
        return accepted(), sum(each.node.replica.record(row) is not None for each in machines)

    def reads(self, at: int) -> list[Pending]:
        """The client there asks for both keys."""
        return [self.clients[at].get(key, bucket=REGISTER, patient=True) for key in KEYS]

    def all_reads(self) -> dict[str, list[Answer]]:
        """What every node answers by now."""
        simulation = self._simulation
        return {
            f"get {key}": simulation.answers(
                *(client.get(key, bucket=REGISTER, patient=True) for client in self.clients)
            )
            for key in KEYS
        }

    @staticmethod
    def table(report: Report, *sides: list[Answer]) -> None:
        """What each of these sides was answered, of both keys."""
        rows = {f"get {key}": list(of_key) for key, *of_key in zip(KEYS, *sides, strict=True)}
        report.table([f"asked of {side[0].node}" for side in sides], rows)

    @staticmethod
    def claim_found(report: Report, claim: str, reads: list[Answer], value: str) -> None:
        """Both keys were found to hold this."""
        found = [each.value for each in reads]
        report.claim(
            claim,
            holds=found == [value] * len(KEYS),
            found=f"{reads[0].node} finds {found[0]!r} and {found[1]!r}",
        )

    def claim_same(self, report: Report, claim: str, value: str) -> None:
        """Every node finds this under both keys, and no intent is left anywhere."""
        tidied_s = self._simulation.wait(
            lambda: not any(self._simulation.intents()), "no intent of a transaction is left"
        )
        rows = self.all_reads()
        found = {answer.value for row in rows.values() for answer in row}
        report.claim(
            claim,
            holds=found == {value},
            found=f"all {NODES} nodes find {' and '.join(map(repr, sorted(map(str, found))))} under both "
            f"keys, and no intent is left after {tidied_s:.2f} s more",
        )
        report.note(found=sorted(map(str, found)))
        for row in rows.values():
            report.acts[-1].answers += row


def slowest_s(answers: list[Answer]) -> float:
    return max(answer.took_s for answer in answers)
