"""Examination: what must be true of a world in the end, when every fault is over.

All replicas become equal by exchanges alone. Every node takes a write; every key can be read at QUORUM
and at ALL, and then takes a write at QUORUM; sessions of the library read what they have seen. Where
replicas close themselves early it can be proven that all has converged. What summaries and logs say fits
what is on the disks. And while nobody asks anything then, no counter of mended things moves.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from basestore.anti_entropy.exchanges import SILENCE_S_MAX
from basestore.consistency import Level
from basestore.coordinator.quorum_read import LINGER_S
from basestore.node import Node
from tests.simulation import history as h
from tests.simulation import stored as s
from tests.simulation.clients import EXAMINE, Client
from tests.simulation.log_watch import is_later
from tests.simulation.operators import Operator, keeps_late
from tests.simulation.plan import ClientPlan

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld

EXAMINE_S_MAX = 15.0
ROUNDS_MAX = 6
WRITABLE_S_MAX = 12.0  # a start begins above the last ceiling, which may be some seconds ahead
CONVERGE_S_MAX = 30.0
PROVE_S_MAX = 20.0
REST_S = 3.0
AT_REST = {  # what may go on while nobody asks anything, and there is nothing to mend
    "exchanges_same", "exchanges_delta", "exchanges_aborted", "exchange_bytes_sent", "partitions_scrubbed",
    "records_purged", "debts_ended",
}  # fmt: skip
TROUBLE = (  # what nobody counts where there was no fault; in some worlds hints expire after a second
    "hints_damaged", "hints_late", "hints_refused", "mismatches", "records_dropped",
    "leaves_corrected", "records_healed", "disk_stalls",
)  # fmt: skip
VERSION_LOST = 11  # the code of an error
IN_SESSIONS_MAX = 60
WRITTEN_MAX = 24
SHOWN_MAX = 5
RECEIPTS_MAX = 4
InSession = tuple[Client, tuple[str, str]]


class Examination:
    """Of one world."""

    def __init__(self, world: "PlannedWorld", clients: Sequence[Client]) -> None:
        self._world = world
        self._clients = clients
        plan = ClientPlan(len(world.plan.clients), EXAMINE, True, 1.0, False, False)
        self._examiner = Client(world, plan)

    def examine(self) -> None:
        """All of it, in order."""
        if self._world.plan.rounds:
            self._await_convergence()
        self._take_writes()
        self._read_all()
        if self._world.plan.wide:
            self._read_in_sessions()
            self._write_all()
            self._prove()
        self._judge_losses()
        self._ask_formers()
        if self._world.plan.wide or not self._world.plan.faults:
            self._rest()

    def _await_convergence(self) -> None:
        """All replicas become equal by exchanges alone: nobody reads."""
        world = self._world
        differing = self._left_differing()
        if differing and world.clocks_misled and not world.vouched:
            world.clocks_are_right()  # until then stamps that lie far ahead are believed by nobody
            differing = self._left_differing()
        for row, replicas in differing[:SHOWN_MAX]:
            self._world.blame("convergence", f"{row!r} differs on {replicas}, though exchanges run")
        self._world.witness.copied()

    def _take_writes(self) -> None:
        """Every node takes a write; where most clocks were wrong perhaps only at an operator's word."""
        if (asked := self._refused_writes()) and self._world.clocks_misled:
            self._world.clocks_are_right()
            self._world.await_health()
            asked = self._refused_writes()
        for machine, op in asked:
            self._world.blame("recovery", f"n{machine.index + 1} does not take writes again: {op}")

    def _refused_writes(self) -> list[tuple["Machine", h.Operation]]:
        """Every node is asked for a write, again and again for some time: those that did not take one."""
        takers: list[Machine] = self._world.roster.members
        asked: list[tuple[Machine, h.Operation]] = []
        end = self._world.clockwork.now + WRITABLE_S_MAX
        while self._world.clockwork.now < end:
            asked = [
                (each, self._examiner.operation(h.SET, "default", f"examined {each.index}", Level.ALL))
                for each in takers
            ]
            self._ask_all(asked)
            takers = [machine for machine, op in asked if op.outcome != h.STORED]
            if not takers:
                break
        return [(machine, op) for machine, op in asked if op.outcome != h.STORED]

    def _read_all(self) -> None:
        """Every key is read, twice."""
        every = sorted({(op.bucket, op.key) for op in self._world.history.operations if op.kind != h.SCAN})
        for level in (Level.QUORUM, Level.ALL):
            keys = every
            for _ in range(ROUNDS_MAX):
                asked = self._anywhere(h.GET, keys, level)
                self._ask_all(asked)
                keys = [(op.bucket, op.key) for _, op in asked if op.outcome != h.FOUND]
                if not keys:
                    break
            if keys:
                self._world.blame("recovery", f"keys cannot be read at {level.name}: {keys[:5]}")
            self._await_quiet()
            self._compare(f"after it was read at {level.name}")

    def _anywhere(
        self, kind: str, keys: list[tuple[str, str]], level: Level
    ) -> list[tuple["Machine", h.Operation]]:
        """An operation for each key, at some node."""
        machines, examiner = self._world.roster.members, self._examiner
        return [
            (examiner.stream.pick(machines), examiner.operation(kind, bucket, key, level))
            for bucket, key in keys
        ]

    def _read_in_sessions(self) -> None:
        """Every session reads what it has seen, or something newer, or is told that a disk has lost it."""
        asking = self._unanswered([(client, at) for client in self._clients for at in sorted(client.seen())])
        if asking and self._late():  # they wait for what an operator says of hints that came too late
            self._decide_late()
            asking = self._unanswered(asking)
        if not asking:
            return
        plan = self._world.plan
        # Or nothing can be proven, not that a version is lost either; nor while stamps are ahead of clocks.
        ahead = any(machine.config.clock_is_right for machine in self._world.roster.members)
        if plan.rounds and plan.hasty and not ahead:
            self._world.blame("sessions", f"no read answers in a session: {asking[:SHOWN_MAX]}")
            return
        self._world.counts["spared: a session waits for what may be lost, and nothing is proven"] += 1

    def _unanswered(self, asking: list[InSession]) -> list[InSession]:
        """What no read has answered in any of several rounds."""
        for _ in range(ROUNDS_MAX):
            asked = [(client, client.read(*at)) for client, at in asking[:IN_SESSIONS_MAX]]
            self._ask_all(
                [(client.stream.pick(self._world.roster.members), op) for client, op in asked],
                [client for client, _ in asked],
            )
            for client, op in asked:
                if op.code == VERSION_LOST:
                    self._world.counts["a session's version was lost"] += 1
                    self.judge_lost(op, client.seen()[op.bucket, op.key])
            asking = [
                (client, (op.bucket, op.key))
                for client, op in asked
                if op.outcome != h.FOUND and op.code != VERSION_LOST
            ]
            if not asking:
                break
        return asking

    def _decide_late(self) -> None:
        """An operator has all hints that came too late decided."""
        operator, ended = Operator(self._world, len(self._world.plan.clients) + 10), []
        keepers = [machine for machine in self._world.roster.members if keeps_late(machine)]
        for machine in keepers:
            operator.replay(machine, lambda: ended.append(True))
        end = self._world.clockwork.now + EXAMINE_S_MAX
        while self._world.clockwork.now < end and (len(ended) < len(keepers) or self._late()):
            self._world.clockwork.run(self._world.clockwork.now + 0.25)
        self._await_quiet()

    def judge_lost(self, read: h.Operation, version: bytes) -> None:
        """A session is told that what it had seen is lost."""
        world, row = self._world, self._world.row(read.bucket, read.key)
        for machine in world.witness.holdings.replicas(row):
            if s.holds(row, machine.disk.durable(s.DATA + row), version):
                text = f"{read} is told that {s.short(version)} is lost, and n{machine.index + 1} holds it"
                world.blame("sessions", text)
        lost = world.history.stores_lost or world.doubted
        late = self._late() or version in world.history.late.get((read.bucket, read.key), ())
        if world.history.sync and not (lost or late):  # one that came too late may have been decided by now
            world.blame("sessions", f"{read} is told that {s.short(version)} is lost, and no disk was")

    def _write_all(self) -> None:
        """Once clocks are right every key takes a write at QUORUM."""
        every = sorted({(op.bucket, op.key) for op in self._world.history.operations if op.kind != h.SCAN})
        stream = self._examiner.stream
        keys = every if len(every) <= WRITTEN_MAX else [stream.pick(every) for _ in range(WRITTEN_MAX)]
        asked: list[tuple[Machine, h.Operation]] = []
        for _ in range(ROUNDS_MAX):
            asked = self._anywhere(h.SET, keys, Level.QUORUM)
            self._ask_all(asked)
            keys = [(op.bucket, op.key) for _, op in asked if op.outcome not in (h.STORED, h.LOST)]
            if not keys:
                return
        self._world.blame("writable", f"keys take no write: {[op for _, op in asked][:3]}")

    def _prove(self) -> None:
        """That all has converged can be proven, unless some hints came too late."""
        world = self._world
        if not (world.plan.rounds and world.plan.hasty and world.history.sync):
            return
        late = self._late()
        operator = Operator(world, len(world.plan.clients) + 9)
        self._world.await_answer(partial(operator.prove, world.roster.members[0], timeout_s=PROVE_S_MAX))
        if not operator.proven and world.say_of_jumps():
            self._world.await_answer(partial(operator.prove, world.roster.members[0], timeout_s=PROVE_S_MAX))
        kinds = {kind for kind, _ in operator.obstacles}
        lost = "lost" in kinds and (world.history.stores_lost or world.doubted)
        if not operator.proven and lost:  # until that is accepted
            self._world.await_answer(partial(operator.accept, world.roster.members[0]))
            self._world.await_answer(partial(operator.prove, world.roster.members[0], timeout_s=PROVE_S_MAX))
            if not operator.accepted:
                world.blame("converged", "a loss could not be accepted, and all members answer")
            kinds = {kind for kind, _ in operator.obstacles}
        ahead = "clock" in kinds and any(machine.config.clock_is_right for machine in world.roster.members)
        world.counts["spared: nothing is proven while stamps are ahead of the clocks"] += ahead
        if not operator.proven and not (late or ahead):
            world.blame("converged", f"nothing could be proven in {PROVE_S_MAX} s: {operator.obstacles}")
        self._prove_receipts(operator)

    def _prove_receipts(self, operator: Operator) -> None:
        """Some receipts, first of what some replica lacks."""
        world = self._world
        told, lacks = world.witness.receipts, world.witness.lacks
        gone = [(operation, written) for operation, written in told if lacks(operation, written.version)]
        receipts = [each for some in (gone, told) for each in some[:: max(1, len(some) // RECEIPTS_MAX)]]
        for operation, written in receipts:
            machine = self._examiner.stream.pick(world.roster.members)
            self._world.await_answer(partial(operator.prove_receipt, machine, operation, written))

    def _judge_losses(self) -> None:
        """Where no store was lost, but at most doubted, nobody notes that writes may be lost."""
        world = self._world
        if not world.history.sync or world.history.stores_lost or world.counts["broken log left by a crash"]:
            return
        for machine in world.roster.members:
            for partition in world.seating.held_by(machine.index):
                if s.may_be_lost(machine.disk, partition):
                    if world.seating.may_doubt(partition):
                        world.counts["spared: who doubts that it kept its seat takes something for lost"] += 1
                        continue
                    text = f"n{machine.index + 1} notes that some of {partition} may be lost, and no disk was"
                    world.blame("losses", text)

    def _ask_formers(self) -> None:
        """Who has left, and runs yet, does nothing for clients."""
        world = self._world
        formers = [each for each in world.machines if each.gone and each.node is not None]
        asked = [
            (machine, self._examiner.operation(kind, "default", f"examined {machine.index}", level))
            for machine in formers
            for kind, level in ((h.SET, Level.ANY), (h.GET, Level.ONE))
            if level is not Level.ANY or not world.roster.is_untold(machine)
        ]
        for machine, operation in asked:
            world.counts["members: examined, and has left"] += 1
            self._examiner.ask(machine, operation)
        world.clockwork.run(world.clockwork.now + (1.5 if asked else 0.0))
        for machine, operation in asked:
            if operation.outcome in (h.STORED, h.FOUND):
                world.blame("members", f"n{machine.index + 1} has left, and does {operation}")

    def _late(self) -> bool:
        """Whether some hints came too late."""
        return any(map(keeps_late, self._world.roster.members))

    def _rest(self) -> None:
        """Nobody asks anything, and all is well: what compares and cleans up goes on, and finds nothing."""
        world = self._world
        self._await_quiet()
        before = [
            (machine, machine.life, dict(machine.node.metrics.counts))
            for machine in world.roster.members
            if machine.node is not None
        ]
        world.clockwork.run(world.clockwork.now + REST_S)
        for machine, life, counts in before:
            if machine.node is not None and machine.life == life:
                self.judge_rest(machine, counts, machine.node.metrics.counts)

    def judge_rest(self, machine: "Machine", old: Mapping[str, int], new: Mapping[str, int]) -> None:
        """What a node has counted while nobody asked it anything; and ever, where there was no fault."""
        world, name = self._world, f"n{machine.index + 1}"
        moved = {counter: new[counter] - old[counter] for counter in new if new[counter] != old[counter]}
        if moved.keys() - AT_REST:
            world.blame("quiet", f"{name} counts {moved}, and nobody asks anything")
        trouble = {counter: new[counter] for counter in TROUBLE if new[counter]}
        faults = world.plan.faults or world.plan.network.loss or world.ambushes.struck
        if trouble and not faults:
            world.blame("quiet", f"{name} counts {trouble}, and there was no fault")

    def _await_quiet(self) -> None:
        """Until what goes on behind the answers has ended, healing and scrubs too, at the latest when it is
        given up: a scrub waits for an exchange, which may have fallen silent."""
        end = self._world.clockwork.now + max(LINGER_S, SILENCE_S_MAX) + 0.5
        busy = True
        while busy and self._world.clockwork.now < end:
            self._world.clockwork.run(self._world.clockwork.now + 0.1)
            busy = any(
                each.node is not None
                and (
                    each.node.operations.count or each.node.replica.damaged or each.node.maintenance.suspects
                )
                for each in self._world.roster.members
            )

    def _ask_all(self, asked: list[tuple["Machine", h.Operation]], clients: Sequence[Client] = ()) -> None:
        """Ask, as the examiner or as these clients, and wait for the answers; then a moment longer."""
        for (machine, operation), client in zip(asked, clients or [self._examiner] * len(asked), strict=True):
            operation.timeout_ms = self._world.plan.timeout_ms_max
            machine.start()  # a fault planned earlier may still have ended it
            client.ask(machine, operation)
        end = self._world.clockwork.now + EXAMINE_S_MAX
        while self._world.clockwork.now < end and any(op.outcome == h.PENDING for _, op in asked):
            self._world.clockwork.run(self._world.clockwork.now + 0.05)
        if any(op.outcome not in (h.STORED, h.FOUND) for _, op in asked):
            self._world.clockwork.run(self._world.clockwork.now + 0.5)

    def _compare(self, when: str) -> None:
        """Reading has repaired everything: replicas are equal, and no record is spoilt."""
        for machine in self._world.roster.members:
            self._recount(machine)
        for row, replicas in self._differences():
            self._world.blame("convergence", f"{row!r} differs on {replicas} {when}")
        for machine in self._world.roster.members:
            for key, stored in machine.disk.scan(s.DATA, bytes((s.DATA[0] + 1,))):
                if not self._world.intact(key, stored):
                    self._world.blame("convergence", f"{key!r} is damaged on n{machine.index + 1}")

    def _recount(self, machine: "Machine") -> None:
        """The summaries fit what is on the disk."""
        if machine.node is None:
            return
        for partition in self._world.seating.held_by(machine.index):
            true, held = s.Counted(machine.disk, partition), machine.node.summaries.of[partition]
            leaves = [{leaf: total for leaf, total in each.leaves.items() if total} for each in (held, true)]
            if (held.count, held.live, held.root) != (true.count, true.live, true.root) or len(
                {str(sorted(each.items())) for each in leaves}
            ) > 1:
                text = f"{held.count} records, {held.live} of them live, of {true.count} and {true.live}"
                self._world.blame("counts", f"n{machine.index + 1} counts in {partition} {text}")
            self._judge_log(machine.node, partition, true.lines)

    def _judge_log(self, node: Node, partition: int, lines: dict[int, bytes]) -> None:
        """The log has a line for each record that came after the floor, and none for what does not stand."""
        summary = node.summaries.of[partition]
        log = dict(node.summaries.summary_log.log(partition, 0, summary.sequence))
        lacking = [number for number in lines if number > summary.floor and number not in log]
        if lacking or not log.items() <= lines.items():
            self._world.blame(
                "log", f"{node.name}, {partition}: {len(lacking)} of {len(lines)} lines are not there"
            )

    def _left_differing(self) -> list[tuple[bytes, tuple[int, ...]]]:
        """What still differs when exchanges have had their time."""
        end = self._world.clockwork.now + CONVERGE_S_MAX
        while (differing := self._unexplained()) and self._world.clockwork.now < end:
            self._world.clockwork.run(self._world.clockwork.now + 0.5)
        return differing

    def _unexplained(self) -> list[tuple[bytes, tuple[int, ...]]]:
        """Rows that differ, but for those that are spoilt and that nobody has looked at since."""
        spoilt = {key for machine in self._world.roster.members for key in machine.spoilt}
        return [found for found in self._differences() if found[0] not in spoilt]

    def _differences(self) -> list[tuple[bytes, tuple[int, ...]]]:
        """Rows that replicas do not hold alike. Who has purged what others still hold does not differ."""
        found = []
        for partition, seats in enumerate(self._world.seating.all()):
            replicas = seats.both
            start, end = s.DATA + partition.to_bytes(2), s.DATA + (partition + 1).to_bytes(2)
            machines = {replica: self._world.machines[replica] for replica in replicas}
            held = {replica: dict(machine.disk.scan(start, end)) for replica, machine in machines.items()}
            for key in sorted({key for rows in held.values() for key in rows}):
                rests = self._world.plan.rounds and not self._world.log_watch.dropped(key[1:])
                if is_later(key[1:]) and not rests:  # it is to go, or nobody has read it
                    continue
                records = {rows[key][: -s.SEQUENCE] for rows in held.values() if key in rows}
                lacking = [machines[replica] for replica, rows in held.items() if key not in rows]
                version = next(iter(records))[: s.VERSION]
                if len(records) > 1 or not all(
                    self._world.witness.holdings.gone(machine, key[1:], version) for machine in lacking
                ):
                    found.append((key, replicas))
        return found
