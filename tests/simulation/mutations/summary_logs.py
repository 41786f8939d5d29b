"""Bugs of the summary log: what a checkpoint does."""

from typing import Any

from basestore.anti_entropy.certificates import Certificates
from basestore.replica.summary_log import SummaryLog
from tests.simulation.mutations.registry import mutant

LACKING = {"log", "mismatches", "convergence"}


@mutant("lines are dropped on the word of one replica", {"floors", *LACKING}, Certificates, "passed")
def _passed_by_one(self: Any, partition: int) -> int:
    certificates = self.certificates(partition).values()
    return max((certificate.mine for certificate in certificates), default=0)


_deal = SummaryLog._deal


@mutant("a log record goes before its lines are stored", LACKING, SummaryLog, "_deal")
def _lose_lines(self: Any, apply_log: Any, last: int, most: int, passed: Any) -> int:
    floor = apply_log.summary.floor
    dealt = _deal(self, apply_log, last, most, lambda _: 1 << 63)
    apply_log.summary.floor = floor
    return dealt
