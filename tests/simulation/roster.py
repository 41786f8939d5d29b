"""Roster: who is a member of a world's cluster by what is decided, and which machines come and go with that.

    comes     an entry adds a member: a machine is made for it, with a file that names those who are members
              then; it is started a while later, late, or never
    leaves    an entry says that one has left: its machine is ended after a while, and may be started again,
              on its own store, on an empty disk, or as a member that comes by its name
    dies      a machine is never started again: an operator has it removed, or replaced
    away      a machine is down for long, and called dead meanwhile; it comes back, whatever was decided

What must hold: only who was asked to leaves, holding nothing and voting no more. Who has left serves nothing
and leads nobody: not once its node knows it, nor ever after a start. Its store opens nobody's door: neither
its own, once it knows, nor that of who comes by its name. In the end the machines that are left are the
members.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from basestore.config import Member
from basestore.errors import ConfigurationError
from basestore.node import Node
from basestore.protocol.client import OUTCOME_DEFERRED, OUTCOME_STORED, Got, Page, Written
from basestore.protocol.codec import Message
from basestore.replica.identity import Fresh
from tests.simulation.clockwork import Stream
from tests.simulation.decided import Decided
from tests.simulation.log_watch import BASE
from tests.simulation.losses import may_lose
from tests.simulation.machine import Machine
from tests.simulation.plan import MachinePlan
from tests.simulation.seats import DEAD, LEFT
from tests.worlds.disk import Disk

if TYPE_CHECKING:
    from tests.simulation.seats import Held
    from tests.simulation.world import PlannedWorld

NEVER = 0.06  # so many of those that are added are never started
LATE = 0.15
STAYS_S = 3.0  # for so long at most a machine runs on that has left


class Roster:
    """Of one world. `members`: the machines that are, or are to be; `asked`: the numbers of those whom
    somebody wanted to leave; `formers`: machines that have left."""

    def __init__(self, world: "PlannedWorld") -> None:
        self._world = world
        self._stream = Stream(world.plan.seed, "roster")
        self.members: list[Machine] = world.machines
        self.asked = set[int]()
        self._late = set[int]()  # requests that came to who had left, and knew it, or could not tell
        self.formers: dict[Machine, int] = {}  # and in which life they were then
        self.joined_s: dict[int, float] = {}  # by machine: when it was added

    # --- what is decided ---------------------------------------------------------------------

    def decided(self, log: "Decided") -> None:
        """Another entry."""
        was, now = log.held(log.last - 1), log.held(log.last)
        if was.standing is now.standing:
            return
        for number, standing in now.standing.items():
            before = was.standing.get(number)
            if before is None:
                self._come(number, now)
            elif standing != before and standing in (DEAD, LEFT):
                machine = self._world.machines[self._world.index_of[number]]
                if standing == DEAD:
                    self._called_dead(machine)
                else:
                    self._leave(machine)

    def _come(self, number: int, now: "Held") -> None:
        """A machine for it."""
        world, index = self._world, len(self._world.machines)
        name, address = now.called[number]
        stream = Stream(world.plan.seed, f"newcomer {index}")
        plan = MachinePlan(
            stream.pick((0.0005, 0.004, 0.02)), stream.pick((0.0001, 0.0005)),
            int(stream.uniform(-0.45, 0.45) * world.plan.drift_ms_max), 1 + stream.uniform(-1e-4, 1e-4),
        )  # fmt: skip
        world.names.append(name)
        world.numbers.append(number)
        world.index_of[number] = index
        world.log_watch.come()
        cluster = replace(world.cluster, members=self._filed(now), replication=now.replicas)
        machine = Machine(world, index, replace(world.config, cluster=cluster, name=name), plan)
        marching = world.plan.march > 0 or world.network.calm  # then all come, and soon
        machine.ended = not marching and stream.chance(NEVER)
        world.machines.append(machine)
        self.joined_s[index] = world.clockwork.now
        world.counts["members: added"] += 1
        world.counts["members: never started"] += machine.ended
        world.say(index, "added", f"{number}, {name} at {address}")
        late = not marching and stream.chance(LATE)
        wait_s = stream.uniform(2.0, 5.0) if late else stream.exponential(0.3)
        world.clockwork.after(wait_s, machine.start)
        self._see()

    @staticmethod
    def _filed(now: "Held") -> tuple[Member, ...]:
        """The members as a file names them."""
        return tuple(Member(number, *now.called[number]) for number in sorted(now.present))

    def refile(self, machine: Machine) -> None:
        """Its disk is empty. If its file names nobody who is a member yet, an operator corrects that."""
        log, cluster = self._world.log_watch.log, machine.config.cluster
        if not self._world.plan.changes or log is None:
            return
        held, me = log.held(log.last), machine.config.member.number
        if me in held.present and not ({each.number for each in cluster.members} - {me}) & held.present:
            self._world.counts["members: file corrected"] += 1
            machine.config = replace(machine.config, cluster=replace(cluster, members=self._filed(held)))

    def _called_dead(self, machine: Machine) -> None:
        """Others do without it from now on: what only it has is lost."""
        world = self._world
        world.counts["members: called dead"] += 1
        if machine.node is not None and not machine.away:
            world.counts["members: called dead, and alive"] += 1
            machine.away = world.history.stores_lost = True

    def _leave(self, machine: Machine) -> None:
        """By the log it is no member any more."""
        world, name = self._world, f"n{machine.index + 1}"
        world.counts["members: left"] += 1
        world.say(machine.index, "left", "")
        if machine.config.member.number not in self.asked:
            world.blame("members", f"{name} has left, and nobody wanted it to")
        if world.log_watch.votes(machine) and not world.log_watch.blind:
            world.blame("members", f"{name} has left, and votes")
        machine.gone = True
        self.formers[machine] = machine.life
        self._see()
        if machine.node is not None:
            world.clockwork.after(self._stream.uniform(0.1, STAYS_S), self._retire, machine)

    def _see(self) -> None:
        """Say anew who is a member."""
        self.members = [each for each in self._world.machines if not each.gone and not each.ended]

    # --- machines that go --------------------------------------------------------------------

    def die(self, machine: Machine) -> None:
        """It is gone for good, with its disk."""
        machine.crash("dies", noticed_s=self._stream.pick((0.01, 0.5)))
        machine.replace_disk(None)
        machine.ended = True
        self._world.counts["members: died"] += 1
        self._see()

    def go_away(self, machine: Machine, lasts: float) -> None:
        """It is down, for so long that it is called dead."""
        self._world.counts["members: away"] += 1
        machine.crash("away", noticed_s=self._stream.pick((0.01, 0.5)))
        machine.away = self._world.history.stores_lost = True
        self._world.clockwork.after(lasts, self.come_back, machine)

    def come_back(self, machine: Machine) -> None:
        """On the store that it had."""
        if machine.away and machine.node is None:
            self._world.counts["members: back"] += 1
            self._world.counts["members: back, and has left"] += machine.gone
            machine.away = machine.gone
            machine.buried = self._is_dead(machine)
            machine.start()
            if machine.gone:
                self._world.clockwork.after(self._stream.uniform(0.5, STAYS_S), self._retire, machine)

    def _is_dead(self, machine: Machine) -> bool:
        """Whether it is called so: then it leaves, and what only it has goes with it."""
        log = self._world.log_watch.log
        return log is not None and log.held(log.last).standing.get(machine.config.member.number) == DEAD

    def _retire(self, machine: Machine) -> None:
        """Its machine is used for nothing any more; or tried once more."""
        how, world = self._stream.random(), self._world
        if machine.ended or world.network.calm:
            return
        if machine.node is not None and how < 0.5:
            machine.stop()
        machine.crash("retired")
        if how < 0.25 or how > 0.9:
            if how > 0.9:  # its file is there yet, and its disk is not
                machine.replace_disk(None)
            machine.start()
            world.counts["members: started once more"] += 1
            world.clockwork.after(1.0, self._end, machine)
            return
        self._end(machine)

    def _end(self, machine: Machine) -> None:
        if not self._world.network.calm:
            machine.crash("retired")
            self._judge_old_store(machine)
            machine.ended = True

    def _judge_old_store(self, machine: Machine) -> None:
        """A member of its name may come, and find the old store: it is not taken for its own."""
        disk, name = machine.disk, machine.config.name
        others = [each for each in self._world.machines if each.config.name == name and each is not machine]
        if not others or disk.get(BASE) is None or others[-1].index < machine.index:
            return
        bits = self._stream.bytes
        fresh = Fresh(bits(16), bits(8), int.from_bytes(bits(6)), disk.places, None, machine.held)
        opened = Disk.restored(disk.copy(), frozenset())
        self._world.counts["members: an old store tried"] += 1
        try:
            Node(others[-1].config, opened, fresh, others[-1].instant(), {})
        except ConfigurationError:
            return
        self._world.blame("members", f"the store that {name} left is opened by who comes by its name")

    def refused(self, machine: Machine, error: Exception) -> None:
        """It is not started, for it has left, it says."""
        self._world.counts["members: not started, for it has left"] += 1
        if not machine.gone:
            self._world.blame("members", f"n{machine.index + 1} is not started, and has not left: {error}")
        machine.ended = True

    # --- who has left ------------------------------------------------------------------------

    def is_asked(self, machine: Machine, request: int) -> None:
        """A client's request comes to it: what is under way while it leaves may be answered yet."""
        life = self.formers.get(machine)
        if life is not None and (machine.life > life or (machine.node and machine.node.peers.left)):
            self._late.add(request)

    def answers(self, machine: Machine, request: int, message: Message) -> None:
        """It tells a client what has come of that."""
        if request in self._late:
            self._late.discard(request)
            self._world.counts["members: asked, and has left"] += 1
            if isinstance(message, Written) and not message.acknowledged and self.is_untold(machine):
                return
            done = isinstance(message, Written) and message.outcome in (OUTCOME_STORED, OUTCOME_DEFERRED)
            if done or isinstance(message, Got | Page):
                text = f"n{machine.index + 1} has left, and answers {str(message)[:200]}"
                self._world.blame("members", text)

    def is_untold(self, machine: Machine) -> bool:
        """Whether it was away, or cut off, when it left: nobody links with it any more, so it never hears of
        that, and takes writes at ANY, as any node that is alone. An operator is to stop it."""
        untold = machine.node is not None and not machine.node.peers.left
        self._world.counts["spared: who has left, and was not told, takes writes at ANY"] += untold
        return untold

    def leads(self, machine: Machine) -> None:
        """It leads."""
        if machine.life > self.formers.get(machine, machine.life):
            self._world.blame("members", f"n{machine.index + 1} has left, is started, and leads")

    # --- in the end --------------------------------------------------------------------------

    def may_die(self, machine: Machine) -> bool:
        """Whether that can be survived, and it can be removed."""
        log = self._world.log_watch.log
        if machine.gone or machine.ended or machine.away or log is None or not log.founded:
            return False
        held, number = log.held(log.last), machine.config.member.number
        enough = len(held.staying - self.bodies - {number}) > held.replicas
        return enough and may_lose(self._world, machine)

    @property
    def bodies(self) -> set[int]:
        """Numbers of the machines that will not come back, or are said not to, and have not left."""
        return {
            each.config.member.number
            for each in self._world.machines
            if (each.ended or each.away) and not each.gone
        }

    def judge(self) -> None:
        """The machines that are left are the members."""
        log = self._world.log_watch.log
        if log is None or self._world.log_watch.blind:
            return
        present = {self._world.index_of[number] for number in log.held(log.last).present}
        members = {each.index for each in self.members}
        if present != members:
            text = f"members are {sorted(present)} by the log, and machines {sorted(members)}"
            self._world.blame("members", text)
