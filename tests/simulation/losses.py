"""Losses: stores that are wiped, rolled back or cut, as far as the cluster promises to survive it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cbor2

from basestore.replica.group_commit import PROGRESS
from basestore.replica.identity import IDENTITY, Place, State
from basestore.storage import keyspace
from tests.simulation.plan import Fault
from tests.simulation.seats import JOINT

if TYPE_CHECKING:
    from tests.simulation.machine import Machine
    from tests.simulation.world import PlannedWorld


RECALLED = 4  # copies of disks, one each half second, since the one that comes back


def restart_s(fault: Fault) -> float:
    """How long a machine stays down."""
    return 0.01 + (0.05 if fault.size < 0.4 else fault.lasts)


def may_lose(world: "PlannedWorld", machine: "Machine") -> bool:
    """Whether the cluster promises to survive it: with more than N - Q of N stores lost it does not."""
    plan = world.plan
    if machine.gone or machine.ended:
        return False
    if plan.moves and any(_too_few(world, machine, at) for at in world.seating.held_by(machine.index)):
        return False
    lost = sum(each.impaired or each.in_doubt for each in world.roster.members if each is not machine)
    spare = plan.replication - (plan.replication // 2 + 1)
    spare = len(world.machines) if plan.moves else spare  # there it was asked of each partition
    sound = not machine.impaired and not machine.in_doubt
    return lost < spare and sound and world.log_watch.may_lose(machine)


def _too_few(world: "PlannedWorld", machine: "Machine", partition: int) -> bool:
    """Whether of those that have held a partition too many have lost it, or are to get it yet, so that it
    cannot be lost there, too."""
    seating = world.seating
    seats = seating.now(partition)

    def few(held: Sequence[int]) -> bool:
        if machine.index not in held:
            return False  # what it is to be given others hold
        others = [world.machines[at] for at in held if at != machine.index]
        lost = [each for each in others if each.impaired or each.in_doubt or not seating.fit(each, partition)]
        return len(lost) >= (len(held) - 1) // 2

    # That a joint stage ends may be about to be decided, by what those have said that are lost now.
    return few(seats.old) or (seats.stage == JOINT and few(seats.new))


def may_doubt(world: "PlannedWorld", machine: "Machine") -> bool:
    """Whether it promises to survive that the machine doubts its store, of which nothing is lost."""
    trouble = any(each.impaired or each.in_doubt for each in world.roster.members)
    return not trouble or may_lose(world, machine)


def lose_store(world: "PlannedWorld", machine: "Machine", fault: Fault) -> None:
    """The machine dies, and what it finds when it comes back is not its latest disk."""
    copies = list(machine.copies)
    # A backup of files knows that it is one, of whatever age it is; of one of blocks only the peers know.
    blocks = fault.kind == "rollback" and fault.digit(3) % 2 == 1
    if blocks:
        copies = [copy for copy in copies if would_be_noticed(world, machine, copy)]
    machine.crash(fault.kind, noticed_s=0.01)
    if fault.kind.startswith("wipe") or not copies:
        machine.replace_disk(None)
    else:
        old = copies[int(fault.size * len(copies))]
        places = place_of(old) if blocks or fault.kind == "log cut" else frozenset()
        # RocksDB does not see each: then it is seen by what a file beside the store says.
        cut = fault.kind == "log cut"
        seen = cut and (fault.digit(4) < 5 or not _is_remembered(world, machine, old))
        loss = "the log was cut" if seen else ""
        machine.replace_disk(old, loss, places, keeps_held=cut)
        machine.announced = not places and not _are_whole(world, machine)
    world.clockwork.after(restart_s(fault), machine.start)


def _are_whole(world: "PlannedWorld", machine: "Machine") -> bool:
    """Whether the others are, which may all have been killed under `interval`: among forgetful ones a copy
    waits for an operator's word, and of this one it would be that it is old."""
    others = [each for each in world.roster.members if each is not machine]
    return world.history.sync or all(each.node is not None and each.node.identity.counts for each in others)


def recall(world: "PlannedWorld", machine: "Machine", fault: Fault, *, blocks: bool) -> None:
    """The machine dies, and comes back with what it held so long ago that all others have surely written
    down how much more it has said since."""
    copies = list(machine.copies)
    if len(copies) > RECALLED:
        old = copies[-1 - RECALLED]
        machine.crash(fault.kind, noticed_s=0.01)
        machine.replace_disk(old, "", place_of(old) if blocks else frozenset())
        world.clockwork.after(restart_s(fault), machine.start)


def place_of(copy: dict[bytes, bytes]) -> frozenset[Place]:
    """The file by which the store that was copied knew where it lay."""
    stored = copy.get(IDENTITY)
    place = cbor2.loads(stored)[8] if stored is not None else None
    return frozenset((Place(*place),)) if place else frozenset()


def held_in(copy: dict[bytes, bytes] | None) -> int:
    """What was written down beside a store that was copied, of how much it held; at most."""
    return int.from_bytes((copy or {}).get(PROGRESS, b"")[:8])


def newborn(copy: dict[bytes, bytes]) -> bool:
    """Whether the store that was copied had not been born yet."""
    stored = copy.get(IDENTITY)
    return stored is None or cbor2.loads(stored)[1] == State.NEWBORN.value


def would_be_noticed(world: "PlannedWorld", machine: "Machine", copy: dict[bytes, bytes]) -> bool:
    """Whether each peer remembers, durably, more than the copy holds. One that does not would
    vouch for it: a limit of the design (peers write down what they hear once a second)."""
    remember = remembering(world, machine, copy)
    return bool(remember) and all(remember)


def _is_remembered(world: "PlannedWorld", machine: "Machine", copy: dict[bytes, bytes]) -> bool:
    """Whether somebody knows, durably, that it held more than that: what went in the last second may be known
    to nobody."""
    if machine.held > held_in(copy) or would_be_noticed(world, machine, copy):
        return True
    world.counts["spared: a log was cut by so little that nobody remembers more"] += 1
    return False


def _more(known: list[Any], generations: dict[bytes, int], sequence: int) -> bool:
    """Whether what a peer remembers is more than a store held that knew these generations."""
    end = generations.get(known[1])
    return end is None or known[2] > (sequence if end < 0 else end)


def remembering(world: "PlannedWorld", machine: "Machine", copy: dict[bytes, bytes]) -> list[bool]:
    """Which of the peers remember, durably, more than the copy holds."""
    stored = copy.get(IDENTITY)
    if stored is None:
        return [True]
    generations = dict(cbor2.loads(stored)[4])
    sequence = int.from_bytes(copy[PROGRESS][:8])
    remember = []
    for peer in world.roster.members:
        if peer is not machine:
            known = peer.disk.durable(keyspace.peer(machine.config.name))
            remember.append(known is not None and _more(cbor2.loads(known), generations, sequence))
    return remember
