"""Outcomes: the errors in which a request to a register ends, in words: what is known, and what to do."""

from basestore.coordinator.attempts import OTHER_CONTENT
from basestore.errors import Contended, InvalidRequest, OutcomeUnknown, RequestFailed
from basestore.instant import Instant
from basestore.protocol.client import OUTCOME_LOST, OUTCOME_STORED
from basestore.registers.task import Done, Report, Result, Task
from basestore.repair.compare_and_set import NUMBER_BYTES_MAX, Attempt, Condition, Next, number_of
from basestore.repair.version import VERSION_BYTES, Identity, Record, Version

_WHO = "; `basestore status` shows who is down, or not taken in yet"
UNREAD = (
    "timeout: too few replicas of this register have answered in time, or others were at it; a read changes "
    f"nothing. Try again later, or with more time; or read at one, which may be stale{_WHO}"
)


def concluded(
    weighed: Next, record: Record | None, attempt: Attempt | None, judged_ms: int, required: int,
    replicas: list[int],
) -> Result:  # fmt: skip
    """What became of it, by the record that is chosen. `required` and `replicas` as in `Written`."""
    if weighed is Next.NO_NUMBER:
        return no_number(record.value if record is not None else b"")
    outcome = OUTCOME_LOST if weighed is Next.LOST else OUTCOME_STORED
    order = record.blob[:VERSION_BYTES] if record is not None else b""
    told = attempt is not None and attempt.condition is Condition.UNDECIDED
    if record is not None and outcome == OUTCOME_LOST and not record.live(judged_ms) and not told:
        record = None
    version = attempt.identity if attempt is not None else b""
    same = record is not None and (attempt is None or record.proposal == attempt.proposal)
    if outcome == OUTCOME_STORED and same and record is not None:
        version = record.known_as  # another proposer may have made it, under a version of its own
    return Done(outcome, version, order, record, required, replicas)


def contended() -> Contended:
    return Contended(
        "contended: others were at this register, or too few of its replicas answered, for as long as the "
        "request could last; nothing was proposed, so nothing was done. Try again later, or with more time"
        + _WHO
    )


def unknown(
    identity: Identity, found: Version | None, why: str, error: RequestFailed | InvalidRequest | None = None
) -> OutcomeUnknown:
    """`error`: what the latest attempt has come to, if that has done nothing: an earlier one may have."""
    latest = f". The latest attempt did nothing: {error}" if error is not None else ""
    return OutcomeUnknown(
        f"unknown: {why}; the write may have happened. Repeat it as {identity} (it is then the same write), "
        f"or read{latest}",
        found, identity,
    )  # fmt: skip


def undecided(identity: Identity, held: Record | None, *, chosen: bool) -> OutcomeUnknown:
    """By what the row holds nobody can tell whether a write was made before: to repeat it tells no more."""
    now = "nothing" if held is None else "what others are writing"
    version = Version.decode(held.known_as) if held is not None and chosen else None
    if version is not None:
        now = f"version {version}"
    return OutcomeUnknown(
        f"unknown: the key holds {now}, and whether the write was made before that, or may be yet, cannot be "
        f"told. Read the key; if what it holds will not do, write anew, without `repeat`",
        version, identity,
    )  # fmt: skip


def no_number(value: bytes) -> InvalidRequest:
    shown = value[:40].decode(errors="backslashreplace") + "..." * (len(value) > 40)
    why = "which is no decimal number" if number_of(value) is None else "and the sum would be too long"
    return InvalidRequest(
        f"the key holds {shown!r}, {why}, so nothing can be added to it; nothing was done. Set it to a "
        f"number of at most {NUMBER_BYTES_MAX} characters, or use another key"
    )


def checked(task: Task, result: Result) -> Result:
    """The same, unless what was found by the identity of a repeated write holds another value than that. What
    an addition has added cannot be seen by what the row holds."""
    if task.write is None or not isinstance(result, Done) or result.outcome != OUTCOME_STORED:
        return result
    content, attempt, found = *task.write, result.record
    mine = found is not None and found.proposal == attempt.proposal
    if found is None or not (mine and attempt.again) or attempt.condition is Condition.ADD or attempt.lays:
        return result
    same = (found.value, found.tombstone) == (content.value, content.tombstone)
    return result if same else InvalidRequest(OTHER_CONTENT)


def doubting(report: Report, identity: Identity, why: str) -> Report:
    """Of a write that may have been done before: that nothing was done is only true of this attempt."""

    def doubt(result: Result, now: Instant) -> None:
        if isinstance(result, InvalidRequest) or (isinstance(result, RequestFailed) and result.definite):
            result = unknown(identity, None, why, result)
        report(result, now)

    return doubt
