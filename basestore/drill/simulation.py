"""Simulation: a cluster of real nodes, with its network, its clocks and its clients, all out of one seed.

    simulation = Simulation(5, 1)           five machines, linked, the metadata group founded
    simulation.part((0, 1, 2), (3, 4))      the network parts
    client = simulation.client(3)           who asks n4
    simulation.answers(client.set("a", "1", Level.ONE))
    simulation.heal()

Every key is on every node, and all are in one partition: what a level means is then the same of each. A
request travels to its node, and the answer back, as between two processes on one machine. Who waits for
something says what for, and for how long at most: `NotSo` if it does not come to be.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from basestore.config import BUILT_IN, NOWHERE, ClusterConfig, Member, NodeConfig
from basestore.consistency import Level
from basestore.drill.answers import Answer, Asked
from basestore.drill.clockwork import Chance, Clockwork
from basestore.drill.machine import WALL_MS, Machine
from basestore.drill.network import Network
from basestore.drill.report import NotSo
from basestore.protocol.client import NO_CONDITION, SET, Commit, Get, Set
from basestore.protocol.codec import Message, decode, encode
from basestore.protocol.groups import singly
from basestore.protocol.handshake import Names
from basestore.repair.rule import Rule
from basestore.repair.version import Version
from basestore.results.cluster_view import Scope
from basestore.results.convergence import Convergence, Proving

REGISTER, AGREED, ONCE = "cas", "agreed", "once"
DRIFT_MS_MAX = 500
OFFSET_MS_MAX = 40  # by how much a clock is wrong
TIMEOUT_MS = 1000
PATIENT_MS = 3000  # of a transaction, so that its time is not what ends it; and of who waits behind one
CALL_S_MIN, CALL_S_MAX = 0.0001, 0.0003  # from a client to its node
READY_S = 60.0
PATIENCE_S = 60.0
PROVEN_S = 60.0
LOOK_S = 0.01  # between two looks at what is waited for
_ALL = 0  # the only partition


class Client:
    """A program that talks to one node, on the same machine."""

    def __init__(self, machine: Machine, members: Names, clockwork: Clockwork, chance: Chance) -> None:
        self.machine, self._members = machine, members
        self._clockwork, self._chance = clockwork, chance
        self._outbox = machine.open_client(self._receive)
        self._asked = 0
        self.answered: dict[int, tuple[Message, float]] = {}  # and when

    def set(
        self, key: str, value: str, level: Level = Level.QUORUM, *, bucket: str = "default",
        condition: int = NO_CONDITION, expected: Version | None = None,
    ) -> "Pending":  # fmt: skip
        """Write. `condition` and what is `expected` as in `protocol.client.Set`."""
        version = expected.encode() if expected else b""
        told = bucket, key.encode(), value.encode(), level, TIMEOUT_MS, 0, b"", False, 0, False
        return self.ask(
            f"set {key}={value} at {level.name}", lambda at: Set(at, *told, condition, version), level
        )

    def get(
        self, key: str, level: Level = Level.QUORUM, *, bucket: str = "default", patient: bool = False
    ) -> "Pending":
        """Read. At ONE it compares with no other replica, so that a look changes nothing."""
        timeout_ms = PATIENT_MS if patient else TIMEOUT_MS
        told = bucket, key.encode(), level, timeout_ms, b"", level is not Level.ONE
        return self.ask(f"get {key} at {level.name}", lambda at: Get(at, *told), level)

    def commit(self, writes: Mapping[str, str], versions: Mapping[str, Version]) -> "Pending":
        """Set these keys of registers in one transaction, if each has this version still."""
        count = len(writes)
        told = (
            [REGISTER] * count, [key.encode() for key in writes], [SET] * count,
            [versions[key].encode() for key in writes], [value.encode() for value in writes.values()],
            [0] * count,
        )  # fmt: skip
        what = " ".join(f"{key}={value}" for key, value in writes.items())
        return self.ask(f"transaction {what}", lambda at: Commit(at, PATIENT_MS, *told), Level.SERIAL)

    def ask(self, what: str, make: Callable[[int], Message], level: Level = Level.ONE) -> "Pending":
        """Send what is made for an id."""
        self._asked += 1
        request = make(self._asked)
        asked = Asked(self.machine.name, what, self._clockwork.now_s, not isinstance(request, Get), level)
        self._clockwork.after(
            self._chance.uniform(CALL_S_MIN, CALL_S_MAX),
            self.machine.enter, self.machine.hear_client, self._outbox, decode(encode([request])),
        )  # fmt: skip
        return Pending(self, self._asked, asked)

    def _receive(self, messages: list[Message]) -> None:
        took_s = self._chance.uniform(CALL_S_MIN, CALL_S_MAX)
        self._clockwork.after(took_s, self._answered, decode(encode(messages)))

    def _answered(self, messages: list[Message]) -> None:
        for message in singly(messages):
            if (request := getattr(message, "id", None)) is not None:  # others are of members and windows
                self.answered[request] = message, self._clockwork.now_s

    def read(self, pending: "Pending") -> Answer:
        """What it was answered, which must have come."""
        message, now_s = self.answered[pending.request]
        return pending.asked.answered(message, now_s, self._members)


class Pending:
    """A request on its way."""

    def __init__(self, client: Client, request: int, asked: Asked) -> None:
        self.client, self.request, self.asked = client, request, asked

    @property
    def done(self) -> bool:
        return self.request in self.client.answered

    @property
    def answer(self) -> Answer:
        return self.client.read(self)


class Simulation:
    """`ready_s`: how long it took until the cluster was founded and its registers could be asked."""

    def __init__(self, count: int, seed: int) -> None:
        self.clockwork, self._seed = Clockwork(), seed
        chance = Chance(seed, "cluster")
        members = tuple(Member(at + 1, f"n{at + 1}", f"127.0.0.1:{7400 + at}") for at in range(count))
        buckets = {REGISTER: Rule.REGISTER, AGREED: Rule.FIRST_WRITE_AGREED}
        cluster = ClusterConfig(
            chance.bytes(16), chance.bytes(32), members, count, 1, BUILT_IN | buckets, DRIFT_MS_MAX,
            PATIENT_MS,
        )  # fmt: skip
        self.members = Names(cluster.names.items(), cluster.id)
        self.machines = [
            Machine(
                at, NodeConfig(cluster, member.name, NOWHERE), self.clockwork,
                Chance(seed, f"machine {member.name}"),
                round(chance.uniform(-OFFSET_MS_MAX, OFFSET_MS_MAX)),
            )
            for at, member in enumerate(members)
        ]  # fmt: skip
        self._network = Network(self.clockwork, Chance(seed, "network"))
        for a, b in combinations(self.machines, 2):
            self._network.connect(a, b)
        self._clients = 0
        self.wait(lambda: all(map(_is_ready, self.machines)), "the cluster is founded", READY_S)
        self.ready_s = self.now_s

    @property
    def now_s(self) -> float:
        return self.clockwork.now_s

    def chance(self, concern: str) -> Chance:
        """For what a drill itself draws."""
        return Chance(self._seed, concern)

    def client(self, at: int) -> Client:
        """A new one, of the node at this index."""
        self._clients += 1
        return Client(
            self.machines[at], self.members, self.clockwork, Chance(self._seed, f"client {self._clients}")
        )

    # --- time --------------------------------------------------------------------------------

    def wait(self, until: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> float:
        """Until it is so. Returns for how long; NotSo if it does not come to be."""
        begun_s, end_s = self.now_s, self.now_s + patience_s
        while not until():
            if self.now_s >= end_s:
                raise NotSo(what, f"not within {patience_s:g} s")
            self.rest(LOOK_S)
        return self.now_s - begun_s

    def moment(self, until: Callable[[], bool], what: str) -> None:
        """The very one in which it comes to be so; NotSo if that does not come."""
        if not self.clockwork.run(until, PATIENCE_S):
            raise NotSo(what, f"not within {PATIENCE_S:g} s")

    def rest(self, seconds: float) -> None:
        """Time passes."""
        self.clockwork.run(lambda: False, seconds)

    def answers(self, *pending: Pending) -> list[Answer]:
        """What these were answered, once all were."""
        self._await(pending)
        return [each.answer for each in pending]

    def _await(self, pending: Sequence[Pending]) -> None:
        if not self.clockwork.run(lambda: all(each.done for each in pending), PATIENCE_S):
            raise NotSo("every request is answered", f"not within {PATIENCE_S:g} s")

    # --- trouble -----------------------------------------------------------------------------

    def part(self, left: tuple[int, ...], right: tuple[int, ...]) -> None:
        """Nothing passes between the two sides."""
        for a in left:
            for b in right:
                self._network.part(self.machines[a], self.machines[b])

    def heal(self) -> None:
        self._network.heal()

    def await_parting(self, left: tuple[int, ...], right: tuple[int, ...]) -> float:
        """Until each side takes all of the other for dead. Returns for how long."""
        return self.wait(
            lambda: self.blindness(left, right) and self.blindness(right, left),
            "both sides notice that they are parted",
        )

    def await_meeting(self, left: tuple[int, ...], right: tuple[int, ...]) -> float:
        """Until all of them see each other. Returns for how long."""
        return self.wait(
            lambda: self.sight(left, right) and self.sight(right, left), "both sides see each other again"
        )

    def sight(self, seen: tuple[int, ...], by: tuple[int, ...]) -> bool:
        """Whether each of these counts for levels, as each of those sees it."""
        machines = self.machines
        return all(machines[b].sees(machines[a]) for a in seen for b in by)

    def blindness(self, unseen: tuple[int, ...], by: tuple[int, ...]) -> bool:
        """Whether none of these does."""
        machines = self.machines
        return not any(machines[b].sees(machines[a]) for a in unseen for b in by)

    # --- what nodes hold and keep, and what is proven ---------------------------------------------------

    def everywhere(self, key: str, bucket: str = "default") -> list[Answer]:
        """What each node itself holds of a key."""
        clients = map(self.client, range(len(self.machines)))
        return self.answers(*(client.get(key, Level.ONE, bucket=bucket) for client in clients))

    @property
    def home(self) -> int:
        """The index of the node that writes registers, while it is alive."""
        return self.machines[0].node.context.placement.replicas[_ALL][0]

    def intents(self) -> list[int]:
        """How many rows hold an intent of a transaction, of each node."""
        return [machine.node.transactions.intents for machine in self.machines]

    def hints(self) -> dict[tuple[str, str], int]:
        """How many are kept, by who keeps them and for whom."""
        return {
            (keeper.name, peer.name): count
            for keeper in self.machines
            for peer in keeper.node.peers.others
            if (count := keeper.node.hints.count(peer.index))
        }

    def counted(self, name: str) -> int:
        """What all nodes have counted together, since they were started."""
        return sum(machine.node.metrics.counts[name] for machine in self.machines)

    def prove(self, at: int) -> Convergence:
        """Have one node asked, over and over, for the proof that all replicas hold all that was written by
        now, as `basestore converged` does."""
        client, begun_s = self.client(at), self.now_s
        proving = Proving(Scope("", b"", -1), None, PROVEN_S, begun_s)
        while (found := proving.result(self.now_s)) is None:
            sent_s = self.now_s
            pending = client.ask("survey", proving.request)
            self._await((pending,))
            proving.hear(client.answered[pending.request][0], self.members, sent_s)
            if proving.result(self.now_s) is None:
                self.rest(proving.pause_s)
        return found


def _is_ready(machine: Machine) -> bool:
    """Whether it sees all others, knows that the metadata group was founded, and votes for registers."""
    node = machine.node
    topology = node.membership.group.topology
    founded = topology is not None and topology.founded
    return (
        node.linked and founded and node.certificates.seating.votes(_ALL, node.registers.acceptors.accepts())
    )


def stamped(answer: Answer) -> str:
    """When a write was made, by the clock of its node."""
    assert answer.version is not None
    return f"stamped {(answer.version.wall_ms - WALL_MS) / 1e3:.3f} s"
