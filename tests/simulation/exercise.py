"""Exercise: what a range of seeds has met, and the least it must have met.

A mild world proves nothing: a range whose counts, for each hundred seeds, fall under these minimums
has failed, whatever its checkers say.
"""

from collections import Counter
from collections.abc import Mapping

SEEDS = 100
SEEDS_MIN = 40  # fewer prove nothing either way
EXPECTED_MIN = 2  # what should be met once may be missed by chance
MINIMUMS = {
    "fault: break": 20, "fault: clock back": 8, "fault: clock beyond": 8, "fault: clock within": 8,
    "fault: crash": 30, "fault: crash after ack": 40, "fault: crash in replay": 5,
    "fault: crash of replayer": 5, "fault: cut": 25, "fault: cut one way": 25, "fault: disk full": 15,
    "fault: ambush": 5, "fault: failed fsync": 8, "fault: isolate": 15, "fault: log cut": 2,
    "fault: flap": 12, "link flapped": 60,
    "fault: pause": 5, "fault: power": 8, "fault: power after ack": 18, "fault: rollback": 4,
    "fault: slow disk": 15, "fault: swap": 3, "fault: wipe after ack": 1, "page turned": 20,
    "fault: all moved": 2, "fault: all restored": 2, "fault: backup": 2, "fault: remount": 4,
    "fault: disk fills": 6, "fault: disks fill": 2, "log without room": 3, "refused to open: no room": 3,
    "fault: disk hangs": 3, "sync hung": 3, "disk_stalls": 3, "refused: a disk does not keep up": 200,
    "goodbye said": 3, "answered after a goodbye": 15, "refused after a goodbye": 10,
    "repeated by its proposal": 200, "repeated by its proposal, and told": 15, "repeated, and unknown": 30,
    "fault: burst": 5, "fault: bursts": 3, "too many under way": 500,
    "fault: slow link": 20, "fault: spoil": 4, "fault: stop": 6, "fault: wipe": 3,
    "set QUORUM stored": 8000, "set QUORUM superseded": 800, "set QUORUM timeout": 100,
    "set QUORUM lost": 2000, "set QUORUM refused": 1000, "set QUORUM failed": 100,
    "set QUORUM gone": 100, "set ALL stored": 500, "set ALL superseded": 50, "set ONE stored": 500,
    "set ANY stored": 500, "get QUORUM found": 20000, "get ALL found": 2000, "get ONE found": 1500,
    "delete QUORUM stored": 1000, "delete ANY stored": 50, "scan QUORUM found": 150,
    "ClockSkew": 500, "Overloaded": 500, "Unavailable": 5000, "Rejected": 1000, "Superseded": 5000,
    "write-back": 4000, "hint delivered": 1500, "message lost": 500, "stray message": 50,
    "write deferred": 150,
    "fault: flood": 2, "fault: floods": 1, "liar shown the door": 3, "window watched": 2,
    "link broken": 200, "record healed": 2, "record spoilt": 4, "repeated with its version": 300,
    "read degraded": 100, "batch refused": 20, "batch taken after long": 3, "refused to open": 2,
    "receipt: proven": 30, "receipt: not proven": 5,
    "rollback noticed": 3, "stopped by a failed fsync": 4,
    "upheaval": 4, "log: election": 80, "log: entry": 600, "log: snapshot": 8, "log: change of voters": 150,
    "log: voter lost its store": 5, "log: change acknowledged": 250, "log: change repeated": 25,
    "log: consistent read": 75, "log: default read": 80, "log: stale read": 140, "log: row stored": 40,
    "log: row read": 50, "log: row found": 12, "log: row purged": 40,
    "moves: plan": 30, "moves: begun": 60, "moves: joint": 35, "moves: ended": 25, "moves: fit": 60,
    "moves: cancelled in fill": 20, "moves: cancelled in joint": 4, "moves: crash in fill": 8,
    "moves: crash in joint": 4, "moves: row given up": 800, "moves: hint moved": 20,
    "moves: only copy moved": 5, "moves: to another number of replicas": 30,
    "moves: of more than one seat": 15,
    "acceptors: barred": 30, "acceptors: barred no more": 20,
    "moves: to nobody who held it": 8, "moves: ambush, a quorum is parted from the rest": 20,
    "members: added": 10, "members: left": 8, "members: asked for DrainMember": 15, "members: called dead": 3,
    "members: died": 2, "members: asked, and has left": 3, "members: a name used anew": 1,
    "members: a majority of those that vote is stopped": 3,
    "flush begun": 1000, "life ended in a flush": 8, "partition spilled": 800, "partition with a floor": 80,
}  # fmt: skip


OF_REGISTERS = {
    "chosen": 20_000, "register_skips": 5000, "register_helps": 30, "register_conflicts": 200,
    "set/0 stored": 1500, "set/1 stored": 200, "set/2 stored": 700, "set/3 stored": 200,
    "set/4 stored": 4000, "set/1 lost": 500, "set/2 lost": 1000, "set/3 lost": 300, "set/0 unknown": 50,
    "set/2 unknown": 50,
    "set/4 unknown": 100, "delete/0 stored": 300, "delete/2 stored": 200, "get/0 found": 15_000,
    "repeated by its proposal": 300, "repeated by its version": 100, "repeated much later": 500,
    "record purged": 50, "moves: ended": 8, "members: added": 5, "fault: wipe": 3, "fault: rollback": 4,
    "fault: clock beyond": 8, "fault: crash": 30, "fault: pause": 5, "fault: power after ack": 15,
}  # fmt: skip
OF_TRANSACTIONS = {
    "Transact committed": 2500, "Transact conflict": 3000, "Transact unknown": 100, "Sweep found": 300,
    "begun anew": 1500, "transaction_helps": 3000, "transaction_aborts": 80, "transaction_leftovers": 300,
    "transactions committed": 2000, "transactions ended by others": 100, "get/0 found": 10_000,
    "committed, and not known to be": 8, "fault: crash of coordinator": 20, "fault: pause of coordinator": 3,
    "crash of coordinator laying intents": 8, "crash of coordinator validating": 2,
    "crash of coordinator deciding": 2, "crash of coordinator settling": 3,
    "waited for a second or longer": 4, "set/4 stored": 300, "set/2 stored": 150, "set/2 lost": 200,
    "moves: ended": 8, "fault: wipe": 2, "fault: crash": 10, "fault: pause": 4, "fault: clock beyond": 3,
    "record purged": 50,
}  # fmt: skip


def shortfalls(counts: Counter[str], seeds: int, least_of: Mapping[str, int] = MINIMUMS) -> list[str]:
    """What was met too rarely; nothing is asked of a handful of seeds."""
    if seeds < SEEDS_MIN:
        return []
    share = seeds / SEEDS
    return [
        f"{name}: {counts[name]}, at least {int(least * share)} expected"
        for name, least in least_of.items()
        if int(least * share) >= EXPECTED_MIN and counts[name] < int(least * share)
    ]


def table(counts: Counter[str]) -> str:
    """Two columns: what, and how often."""
    width = max(map(len, counts), default=0)
    return "\n".join(f"{name:{width}}  {counts[name]:>10,}" for name in sorted(counts))
