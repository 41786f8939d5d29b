"""Cases: scripted turns of a group in which one rule is what keeps it right, where chance seldom comes by.

Each raises Failure where the rule is left out, and nothing otherwise. For the commands see
tests/worlds/raft_stage.py.
"""

from collections.abc import Callable
from itertools import combinations
from unittest.mock import patch

from basestore.consensus import log as log_module
from basestore.consensus.log import Entry, Kind, Log, Snapshot
from basestore.consensus.output import Pending
from basestore.consensus.voters import encode_voters
from tests.consensus.machines import Failure
from tests.worlds.raft_stage import Stage, voter

CASES: dict[str, Callable[[], None]] = {}


def case(act: Callable[[], None]) -> Callable[[], None]:
    CASES[act.__name__] = act
    return act


def must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failure(otherwise)


def agree(stage: Stage) -> None:
    """One leader a term; what is decided is the same; logs that match at an index match before it."""
    terms = [raft.term for raft in stage.rafts.values() if raft.leads]
    must(len(terms) == len(set(terms)), "two leaders in one term")
    for one, other in combinations(stage.rafts.values(), 2):
        low = max(one.log.base.last, other.log.base.last)
        high = min(one.log.last, other.log.last)
        same = [one.log.term_at(index) == other.log.term_at(index) for index in range(low, high + 1)]
        decided = min(one.commit, other.commit) - low + 1
        must(all(same[: max(0, decided)]), "two entries are decided at one index")
        must(same == sorted(same, reverse=True), "logs match, and not before that")


def elect(stage: Stage, number: int, *others: int) -> None:
    """By these; what it says as a leader stays on its way."""
    for _ in range(4):
        stage.do(f"wait 5\ntick {number}")
        for other in others * 2:
            stage.do(f"deliver {number}->{other}\ndeliver {other}->{number}")
            if stage.rafts[number].leads:
                return
    raise Failure(f"{number} is not elected: {stage.do('show')}")


def read(stage: Stage, number: int, kind: str) -> None:
    """It must see what is decided anywhere, or not be answered."""
    known = max(raft.commit for raft in stage.rafts.values())
    before = set(stage.answers)
    stage.do(f"{kind} {number}\ndeliver 2->1\ndeliver 3->1")
    for key in stage.answers.keys() - before:
        must(stage.answers[key] in (-1, *range(known, known + 9)), "a read does not see what was decided")


def led(count: int = 3) -> Stage:
    """1 leads, and its lease is kept up by 2 only, until 3 is about to stand."""
    stage = Stage()
    stage.do("found " + " ".join(map(str, range(1, count + 1))) + "\nelect 1\ncut 1 3")
    for _ in range(6):
        stage.do("wait 0.5\ntick 1\ndeliver")
    return stage


@case
def restarts() -> None:
    """The only one that has promised to keep still for the leader starts anew."""
    stage = led()
    stage.do("cut 1 2\ncrash 2\ntick 3\ndeliver\npropose 3 z\ndeliver")
    read(stage, 1, "lease")


@case
def keeps_still() -> None:
    stage = led()
    stage.do("cut 1 2\ntick 3\ndeliver\npropose 3 z\ndeliver")
    read(stage, 1, "lease")


@case
def answers_late() -> None:
    """A round is answered in time, but the answer takes long."""
    stage = led()
    stage.do("wait 0.5\ntick 1\ndeliver 1->2\nwait 1.9\ndeliver 2->1\ncut 1 2\nwait 0.2\ntick 3\ndeliver")
    stage.do("propose 3 z\ndeliver")
    read(stage, 1, "lease")


@case
def answers_of_before() -> None:
    """1 leads a second time; answers to its first rounds come late, and 3 follows another by then."""
    stage = Stage()
    stage.do("found 1 2 3\nelect 1\nwait 0.5\ntick 1\ndeliver\nwait 0.5\ntick 1\ndeliver 1->3\ncrash 1")
    elect(stage, 1, 2)
    stage.do("deliver 1->2\ndeliver 2->1\ncut 1 2")
    elect(stage, 2, 3)
    stage.do("deliver 2->3\ndeliver 3->2\ndeliver 2->3\ndeliver 3->2")
    must(stage.rafts[1].ready and stage.rafts[2].ready, "this case does not come about")
    read(stage, 1, "read")


@case
def lease_ends() -> None:
    """1 is cut off, but for less than it takes to step down."""
    stage = led()
    stage.do("cut 1 2\nwait 2.1\ntick 3\ndeliver\npropose 3 z\ndeliver")
    read(stage, 1, "lease")
    read(stage, 1, "read")


@case
def asks_anew() -> None:
    """A round was answered before a read comes, and the answer comes after it."""
    stage = led()
    stage.do("wait 0.5\ntick 1\ndeliver 1->2")
    elect(stage, 3, 2)
    stage.do("deliver 3->2\ndeliver 2->3\npropose 3 z\ndeliver 3->2\ndeliver 2->3")
    must(stage.rafts[1].leads and stage.rafts[3].commit > stage.rafts[1].commit, "this does not come about")
    read(stage, 1, "read")


@case
def leaves_one_alone() -> None:
    """1 removes itself; 2 is alone then, waits for nobody, and decides, before 1 hears of it."""
    stage = Stage()
    stage.do("found 1 2\nelect 1\nwait 0.5\ntick 1\ndeliver\nchange 1 -1\ndeliver 1->2\ncut 1 2\ntick 2")
    must(stage.rafts[1].leads and stage.rafts[2].commit > stage.rafts[1].commit, "this does not come about")
    read(stage, 1, "lease")


@case
def is_removed() -> None:
    stage = Stage()
    stage.do("found 1 2 3\nelect 1\nchange 1 -1\ndeliver")
    must(not stage.rafts[1].leads, "a leader that is no voter leads on")


@case
def is_shorter() -> None:
    """3 lacks what 1 and 2 have decided, and asks 2 for its vote."""
    stage = Stage()
    stage.do("found 1 2 3\nelect 1\ncut 1 3\npropose 1 x\ndeliver\ncut 1 2\nelect 3\nwait 5\ntick 3\ndeliver")
    agree(stage)


@case
def waits_for_its_own_vote() -> None:
    stage = Stage()
    stage.do("found 1\nhold 1\ntick 1")
    must(not stage.rafts[1].leads, "it leads, and its own vote is not on its disk")
    stage.do("sync 1")
    must(stage.rafts[1].leads, "a voter that is alone does not lead")


@case
def votes_once() -> None:
    """Two stand in one term, and 3 is asked by both."""
    stage = Stage()
    stage.do("found 1 2 3\ncut 1 2\nwait 3\ntick 1\ntick 2")
    for _ in range(2):
        stage.do("deliver 1->3\ndeliver 2->3\ndeliver 3->1\ndeliver 3->2")
    agree(stage)


@case
def asks_before_it_stands() -> None:
    """3 would vote for 1, says so late, and votes for 2."""
    stage = Stage()
    stage.do("found 1 2 3\nwait 3\ntick 1\ntick 2\ndeliver 1->2\ndeliver 1->3\ndeliver 2->3\ndeliver 2->1")
    stage.do("cut 1 2")
    for _ in range(2):
        stage.do("deliver 3->2\ndeliver 2->3")
    stage.do("deliver 3->2\ndeliver 3->1")
    must(stage.rafts[2].leads, "this case does not come about")
    agree(stage)


@case
def stands_twice() -> None:
    """3 votes for 1, which hears of it when it stands again, and 3 has voted for 2."""
    stage = Stage()
    stage.do(
        "found 1 2 3\nwait 3\ntick 1\ndeliver 1->3\ndeliver 3->1\ndrop 1->2\ndeliver 1->3\nwait 5\ntick 1"
    )
    stage.do("deliver 1->2\ndeliver 2->1\ndrop 1->2\ndrop 1->3\ncut 1 2")
    elect(stage, 2, 3)
    stage.do("deliver 3->1")
    must(stage.rafts[1].term == stage.rafts[2].term == 2, "this case does not come about")
    agree(stage)


@case
def votes_durably() -> None:
    """3 votes, and starts anew before that is on its disk."""
    stage = Stage()
    stage.do("found 1 2 3\ncut 1 2\nhold 3\nwait 3\ntick 1")
    stage.do("deliver 1->3\ndeliver 3->1\ndeliver 1->3\ndeliver 3->1\ndrop\ncrash 3\nwait 3\ntick 2")
    stage.do("deliver 2->3\ndeliver 3->2\ndeliver 2->3\ndeliver 3->2")
    agree(stage)


@case
def acknowledges_durably() -> None:
    stage = Stage()
    stage.do("found 1 2 3\nelect 1\ncut 1 2\nhold 3\npropose 1 x\ndeliver\ncrash 3\ncut 1 3\nelect 2")
    agree(stage)


@case
def changes_at_once() -> None:
    """The bug that was found in changes of one voter: a new leader makes one on top of what another began."""
    stage = Stage()
    stage.do("found 1 2 3 4\nlearner 5\nelect 1\nfeed 1 5\ndeliver\nwait 0.5\ntick 1\ndeliver")
    stage.do("cut 1 2\ncut 1 3\ncut 1 4\nchange 1 +5\ndeliver\nwait 5\ntick 1\ntick 2")
    stage.do(
        "deliver 2->3\ndeliver 3->2\ndeliver 2->4\ndeliver 4->2\ndeliver 2->3\ndeliver 3->2\ndeliver 2->4"
    )
    stage.do("deliver 4->2\ncut 2 4\nchange 2 -1\ndeliver\nheal\ncut 1 2\ncut 1 3\ncut 2 4\ncut 3 4")
    stage.do("wait 5\ntick 1\ndeliver\nwait 5\ntick 1\ndeliver")
    agree(stage)


@case
def exchanges_one() -> None:
    """One voter in another's place: the majorities of before and after have nobody in common."""
    stage = Stage()
    stage.do(
        "found 1 2 3\nlearner 4\nelect 1\nfeed 1 4\ndeliver\nwait 0.5\ntick 1\ndeliver\ncut 1 2\ncut 1 3"
    )
    stage.do("change 1 +4-3\ndeliver\ncut 2 4\ncut 3 4\nelect 2")
    agree(stage)


@case
def counts_old_entries() -> None:
    """Figure 8 of the paper."""
    stage = Stage()
    with patch.object(log_module, "BATCH_ENTRIES_MAX", 1):
        stage.do("found 1 2 3 4 5\nelect 1\ncut 1 3\ncut 1 4\ncut 1 5\npropose 1 one\ndeliver")
        elect(stage, 5, 3, 4)
        stage.do("drop\ncrash 5\nheal\ncut 1 4\ncut 1 5\ncut 2 5")
        elect(stage, 1, 2, 3)
        stage.do("deliver 1->2\ndeliver 2->1\ndeliver 1->3\ndeliver 3->1\ndeliver 1->3\ndeliver 3->1\ndrop")
        must(stage.rafts[3].log.last == 2 and stage.rafts[2].log.last == 3, "this case does not come about")
        stage.do("cut 1 2\ncut 1 3\ncut 2 3")
        elect(stage, 5, 3, 4)
        stage.do("deliver")
    agree(stage)


@case
def goes_by_newest_voters() -> None:
    """2 has not heard that a fourth voter is decided, and a fifth is by 1, 4 and 5."""
    stage = Stage()
    stage.do("found 1 2 3\nlearner 4\nlearner 5\nelect 1\nfeed 1 4 5\ndeliver\nwait 0.5\ntick 1\ndeliver")
    stage.do("cut 1 3\nchange 1 +4\ndeliver\ncut 1 2\nchange 1 +5\ndeliver\ncut 1 4\ncut 1 5\nelect 2")
    agree(stage)


def outlived() -> Stage:
    """3 leads term 3, and what it says to 5 takes long; 2 leads term 4, and decides one of term 2, too."""
    stage = Stage()
    stage.do("found 1 2 3 4 5\nelect 1\ncut 1 2\ncut 1 4\ncut 1 5\npropose 1 a\npropose 1 b\ndeliver\nheal")
    elect(stage, 2, 4, 5)
    stage.do("deliver 2->4\ndrop\ntick 1")
    elect(stage, 3, 1, 5)
    stage.do("deliver 3->5\ndeliver 5->3")
    elect(stage, 2, 4, 1)
    for _ in range(3):
        stage.do("deliver 2->4\ndeliver 4->2\ndeliver 2->1\ndeliver 1->2")
    terms = [stage.rafts[number].log.term_at(2) for number in (2, 3, 4)]
    if stage.rafts[2].commit != 3 or not stage.rafts[3].leads or terms != [2, 1, 2]:
        raise Failure(f"this case does not come about: {stage.do('show')}")
    return stage


@case
def outlives_a_leader() -> None:
    """5 has followed 3, and hears from others what is decided; then 3 says its entries again."""
    stage = outlived()
    stage.do("tell 2->5 1 2\ndeliver 3->5")
    agree(stage)


@case
def outlives_a_leader_by_a_snapshot() -> None:
    stage = outlived()
    stage.do("compact 2 2\ngive 2->5\ndeliver 3->5")
    agree(stage)


@case
def learns_that_it_leads_no_more() -> None:
    stage = outlived()
    stage.do("tell 2->3 2 2")
    must(not stage.rafts[3].leads, "a leader whose entry is not what was decided leads on")


@case
def hears_an_old_leader() -> None:
    """What 1 said as a leader comes late, where another has begun since."""
    stage = Stage()
    stage.do("found 1 2 3\nelect 1\npropose 1 a\ndrop 1->2")
    elect(stage, 2, 3)
    stage.do("deliver 2->3\ndeliver 3->2\ncut 1 2\ncut 2 3\ndeliver 1->3\ndrop 3->1\ndrop")
    for _ in range(4):
        stage.do("wait 5\ntick 1\ndeliver")
    agree(stage)


@case
def joins_what_is_decided() -> None:
    """3 has entries of 1 that nobody else gets, and hears the end of what others decided."""
    stage = Stage()
    stage.do("found 1 2 3 4 5\nelect 1\ncut 1 2\ncut 1 4\ncut 1 5\npropose 1 a\npropose 1 b\ndeliver")
    stage.do("cut 2 3\ncut 1 3\nelect 2\npropose 2 x\ndeliver\ntell 2->3 3")
    agree(stage)


@case
def installs_over_a_tail() -> None:
    """5 has entries of 1 that nobody else gets, and then a snapshot of what others decided."""
    stage = Stage()
    stage.do(
        "found 1 2 3 4 5\nelect 1\ncut 1 2\ncut 1 3\ncut 1 4\npropose 1 a\npropose 1 b\ndeliver\ncut 5 2"
    )
    stage.do("elect 2\npropose 2 x\ndeliver\ncompact 2 2\ngive 2->5")
    agree(stage)


@case
def cuts_a_change() -> None:
    few, more = frozenset({voter(1)}), frozenset({voter(1), voter(2)})
    log = Log(Snapshot(0, 0, few, b""), [Entry(1, Kind.CHANGE, encode_voters(more))])
    log.cut(1)
    must(log.voters == few, "the voters are those of an entry that was cut")


@case
def marks_of_before_a_cut() -> None:
    log, out = Log(Snapshot(0, 0, frozenset({voter(1)}), b""), [Entry(1, Kind.DATA, b"")]), Pending(0)
    first = out.take(1, None, log)
    log.cut(1)
    out.cut(1)
    log.append([Entry(2, Kind.DATA, b"")])
    out.take(2, None, log)
    assert first is not None
    out.stored(first.mark)
    must(out.durable == 0, "what is not stored is taken for durable")


@case
def is_isolated() -> None:
    stage = Stage()
    stage.do("found 1 2 3\nelect 1\ncut 3 1\ncut 3 2\nwait 5\ntick 3\ndeliver\nwait 5\ntick 3\ndeliver")
    must(stage.rafts[3].term == 1, "an isolated voter begins terms")


@case
def is_alone() -> None:
    stage = Stage()
    stage.do("found 1 2 3\nelect 1\ncut 1 2\ncut 1 3\nwait 5\ntick 1")
    must(not stage.rafts[1].leads, "a leader that nobody answers leads on")


@case
def is_far_behind() -> None:
    stage = Stage()
    stage.do("found 1 2 3\nelect 1\ncut 1 3")
    stage.do("propose 1 x\n" * 30 + "deliver\ncompact 1 9\nheal\ndrop\nwait 0.5\ntick 1")
    stage.do("deliver 1->3\ndeliver 3->1\ndrop\nwait 0.5\ntick 1\ndeliver")
    must(stage.rafts[3].log.last == 31, "what was lost is not sent again")


@case
def goes_back_at_once() -> None:
    stage = Stage()
    stage.do("found 1 2 3\nelect 1\ncut 1 3")
    stage.do("propose 1 x\n" * 30 + "deliver\nheal\ncrash 1")
    lines = stage.do("elect 2")
    must(sum("2 -> 3  in 2" in line for line in lines) <= 3, "a leader goes back entry by entry")
    must(stage.rafts[3].log.last == 32, "a leader does not go back")
