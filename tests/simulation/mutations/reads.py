"""Bugs of reads: what a read or a scan takes for the truth."""

from typing import Any

from basestore.coordinator import get, quorum_read
from basestore.coordinator.finding import Aim, Finding
from basestore.coordinator.quorum_read import QuorumRead
from basestore.coordinator.range_scan import RangeScan
from basestore.errors import RequestFailed
from basestore.repair.read_repair import plan
from basestore.repair.rule import Rule
from tests.simulation.mutations.registry import STALE, mutant


@mutant("no blocking read repair", STALE, quorum_read, "plan")
def _all_confirm(rule: Rule, replies: Any, *more: Any) -> Any:
    return plan(rule, replies, *more)._replace(confirmed=len(replies))


@mutant("a superseded write-back confirms", STALE, QuorumRead, "superseded", "races")
def _superseded_confirms(self: Any, member: int, answer: Any, now: Any) -> None:
    self._under_way.pop(member, None)
    self._heads[member] = self._write_backs.get(answer.id, answer.head)
    self.consider(now)


@mutant("a read that believes the first reply", STALE, QuorumRead, "consider")
def _first_reply(self: Any, now: Any) -> None:
    if self._records and not self._answered:
        record = next(iter(self._records.values()))
        self._context.operations.drop(self)
        required, responded = self._quorum.told(self._heads)
        self._report(Finding(record, required, responded, False, 0), now)


_merge = RangeScan._merge


@mutant("a scan that passes over what was not answered", {"scans"}, RangeScan, "_merge")
def _merge_all(self: Any, now: Any) -> None:
    more, self._more = self._more, False
    _merge(self, now)
    self._more = self._more or more


@mutant("what a session has seen is not asked for", {"sessions"}, quorum_read, "reaches")
def _any_will_do(rule: Rule, head: bytes, floor: bytes) -> bool:
    return True


_answer = QuorumRead._answer


@mutant("a digest answered with another record", {"versions", *STALE}, QuorumRead, "_answer")
def _some_record(self: Any, weighed: Any, now: Any) -> None:
    if weighed.winner and weighed.winner not in self._records and self._records:
        self._records[weighed.winner] = next(iter(self._records.values()))
    _answer(self, weighed, now)


@mutant("the other replicas are never compared", {"convergence"}, QuorumRead, "_go_on", "no rounds")
def _stop(self: Any, now: Any) -> None:
    self._context.operations.drop(self)


# --- degraded reads ---------------------------------------------------------------------------------

_doubt_about, _degraded_aim = get.doubt_about, get.degraded_aim


@mutant("a read is degraded whatever the staleness", {"staleness"}, get, "doubt_about")
def _no_doubt(result: Any, stale_ms: int, degrade_ms: int, rule: Rule) -> str:
    failed = isinstance(result, RequestFailed) or rule.final_when_stable
    return _doubt_about(result, stale_ms, degrade_ms, rule) if failed else ""


@mutant("one replica says who was first before that is final", {"final"}, get, "doubt_about")
def _first_enough(result: Any, stale_ms: int, degrade_ms: int, rule: Rule) -> str:
    return _doubt_about(result, stale_ms, degrade_ms, Rule.LAST_WRITE_WINS)


@mutant("a degraded read forgets the session's floor", {"sessions"}, get, "degraded_aim", "haste")
def _no_floor(aim: Aim) -> Aim:
    return _degraded_aim(aim)._replace(floor=b"")


mutant("a read is degraded before its level had its time", {"degraded"}, get, "ASKED_SHARE")(0.2)
mutant("a read is degraded while all are well", {"degraded"}, get, "BROWNOUT_DEGRADING")(0)
