"""Machines that hang, and such as leave: what their clients and the other machines see of it."""

from dataclasses import replace

from basestore.consistency import Level
from tests.simulation import history as h
from tests.simulation.clients import Client
from tests.simulation.drawing import draw
from tests.simulation.goodbyes import say_goodbye
from tests.simulation.plan import ClientPlan
from tests.simulation.world import PlannedWorld


class Trio:
    """Three machines with right clocks and quick disks, and a client that asks only what it is told to."""

    def __init__(self) -> None:
        plan = draw(5)
        alike = (plan.machines[0]._replace(offset_ms=0, rate=1.0, sync_s=0.0005),) * 3
        self.world = PlannedWorld(
            replace(plan, faults=(), machines=alike, replication=3, durability="sync", rest=None, seconds=0.0)
        )
        self.world.network.calm = True
        for machine in self.world.machines:
            machine.start()
        self.run(1.0)
        self.client = Client(self.world, ClientPlan(1, "hot", False, 0.01, False, False))

    def run(self, seconds: float) -> None:
        self.world.clockwork.run(self.world.clockwork.now + seconds)

    def write(self, at: int, level: Level = Level.QUORUM, key: str = "k") -> h.Operation:
        operation = self.client.operation(h.SET, "default", key, level)
        operation.timeout_ms = 500
        self.client.ask(self.world.machines[at], operation)
        return operation


def test_a_disk_that_hangs_keeps_its_node_from_acknowledging_and_soon_from_taking_writes() -> None:
    trio = Trio()
    trio.world.machines[0].hang()
    first, other = trio.write(0, Level.ALL), trio.write(1, key="another")
    trio.run(4.0)
    assert first.outcome in (h.TIMEOUT, h.FAILED)
    assert other.outcome == h.STORED
    refused = trio.write(0, key="one more")
    trio.run(0.4)
    assert refused.outcome == h.REFUSED
    trio.world.machines[0].go_on()
    trio.run(1.0)
    again = trio.write(0, Level.ALL, key="one more")
    trio.run(0.4)
    assert again.outcome == h.STORED


def test_no_store_is_opened_on_a_disk_that_hangs_and_its_node_ends_as_in_a_crash() -> None:
    trio = Trio()
    machine = trio.world.machines[0]
    machine.hang()
    trio.write(0)
    trio.run(0.1)
    machine.stop()
    assert machine.disk.pending == []
    machine.start()
    trio.run(1.0)
    assert machine.node is None
    machine.go_on()
    trio.run(1.0)
    assert machine.node is not None


def test_who_leaves_answers_what_it_was_asked_and_refuses_what_comes_later() -> None:
    trio = Trio()
    machine = trio.world.machines[0]
    before = trio.write(0)
    trio.run(0.0005)
    say_goodbye(machine, 0.5)
    later = trio.write(0, key="later")
    trio.run(0.1)
    assert (before.outcome, later.outcome) == (h.STORED, h.REFUSED)
    others = [each.node for each in trio.world.machines[1:]]
    assert not any(node.peers.alive[0] for node in others if node)
    trio.run(0.3)
    assert machine.node is None
    trio.run(4.0)
    assert machine.node is not None
    assert all(node.peers.alive[0] for node in others if node)


def test_a_write_whose_answer_was_lost_is_repeated_as_itself() -> None:
    trio = Trio()
    writes = [trio.write(0, key=f"k{at}") for at in range(20)]
    while not any(each.disk.get(b"r" + trio.world.row("default", "k19")) for each in trio.world.machines):
        trio.run(0.0005)
    trio.world.machines[0].crash("the answers are lost")
    trio.run(2.0)
    assert trio.world.counts["repeated by its proposal"] > 0
    told = [write for write in writes if write.identity and write.outcome == h.STORED]
    assert told
    for write in told:
        held = trio.world.machines[1].disk.get(b"r" + trio.world.row("default", write.key))
        assert held is not None
        assert held.startswith(write.version)
    assert trio.world.violations == []
