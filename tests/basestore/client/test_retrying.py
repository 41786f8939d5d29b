"""A store that retries: only what a retry may help, no write twice, within its budget and the call's timeout.

Covers `client/retrying.py`.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from basestore import (
    BasestoreError,
    ConnectionLost,
    Contended,
    InvalidRequest,
    OutcomeUnknown,
    Overloaded,
    ReplicaFailure,
    Unavailable,
    Unreachable,
    WriteTimeout,
)
from basestore.client.calls import Calls
from basestore.client.channel import Batch
from basestore.client.many import Lot, get_many, set_many
from basestore.client.retrying import PAUSE_S, TOKENS_MAX, Attempts, Budget
from basestore.errors import RequestFailed
from basestore.protocol.client import Failed, Get, Got, Page, Set, Shed, Written
from basestore.protocol.codec import Message
from basestore.protocol.groups import singly
from basestore.protocol.handshake import Names
from basestore.repair.version import IDENTITY_BYTES, PROPOSAL_BYTES, Identity
from tests.worlds.fakes import WELCOME, fake
from tests.worlds.flavours import FLAVOURS, run

CALLS = Calls("quorum", 10.0)
NAMES = Names([(0, "n1")])


def failed(number: int, error: RequestFailed) -> Failed:
    """As a node says it."""
    identity = error.identity.encode() if error.identity else b""
    return Failed(number, error.code, str(error), identity, [str(word) for word in error.details()])


def served(request: Any) -> Message:
    if isinstance(request, Set):
        stamped = request.identity[:PROPOSAL_BYTES].ljust(IDENTITY_BYTES, b"\0")
        return Written(request.id, 0, 0, stamped, 1, 1, [], b"", 0)
    if isinstance(request, Get):
        return Got(request.id, False, b"", b"", 0, 1, 1, False, 0)
    return Page(request.id, [], b"", False)


class Course:
    """One call in the course of its attempts, each of which is answered by `answer`; what each asked stands
    in `asked`, and the pauses between them in `pauses`."""

    def __init__(
        self, asking: Any, answer: Callable[[int, Any], Message | Exception], budget: float = 0.1
    ) -> None:
        self.budget = Budget(budget)
        self.asked: list[list[Any]] = []
        self.pauses: list[float] = []
        attempts = Attempts(asking, 10.0, self.budget, lambda: 0.5)
        first, now, pause_s = 1, 0.0, 0.0
        while True:
            batch = Batch(first, attempts.asking)
            first, requests = batch.last + 1, singly(batch.requests)
            self.asked.append(requests)
            heard: Batch | BasestoreError = batch
            for request in requests:
                said = answer(len(self.asked), request)
                if isinstance(said, Exception):
                    if said.args[-1:] == ("raised",):
                        assert isinstance(said, BasestoreError)
                        heard = said
                        break
                    batch.fail(request.id, said)
                else:
                    batch.hear(said)
            pause = attempts.hear(heard, now)
            if pause is None:
                break
            pause_s = pause
            self.pauses.append(pause_s)
            now += pause_s
        self.attempts = attempts

    def result(self) -> Batch:
        return self.attempts.result()

    def error(self) -> Any:
        with pytest.raises(BasestoreError) as caught:
            CALLS.set("k", "v", "b", None, None, None).read(self.result().answer(), NAMES)
        return caught.value


def a_set() -> Any:
    return CALLS.set("k", "v", "b", None, None, None)


def first_times(count: int, error: Callable[[Any], Exception | Message]) -> Any:
    return lambda attempt, request: error(request) if attempt <= count else served(request)


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("too much"),
        Unavailable(2, 1),
        Unreachable("nobody", "raised"),
        Overloaded("x", 0.2),
        Contended("others were at it"),
    ],
    ids=repr,
)
def test_what_did_nothing_is_asked_again_as_it_was(error: Exception) -> None:
    course = Course(a_set(), first_times(2, lambda request: error))
    assert CALLS.set("k", "v", "b", None, None, None).read(course.result().answer(), NAMES)
    assert len(course.asked) == 3
    for again in course.asked:
        assert again[0]._replace(id=0) == course.asked[0][0]._replace(id=0)
    assert len({again[0].id for again in course.asked}) == 3
    assert course.budget.retries == 2
    assert course.result().first == course.result().told[0].id  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequest("no", "raised"),
        ReplicaFailure("they refuse", {}, None),
        OutcomeUnknown("who knows", None, None),
    ],
    ids=repr,
)
def test_what_no_retry_helps_is_not_asked_again(error: Exception) -> None:
    course = Course(a_set(), first_times(9, lambda request: error))
    assert len(course.asked) == 1
    assert type(course.error()) is type(error)


def test_a_write_that_may_have_happened_is_repeated_as_itself() -> None:
    known = Identity.decode(bytes(range(IDENTITY_BYTES)))

    def answer(attempt: int, request: Any) -> Message:
        if attempt == 1:
            return failed(request.id, WriteTimeout("late", 1, 2, None))
        if attempt == 2:
            return failed(request.id, WriteTimeout("late", 1, 2, known))
        return served(request)

    course = Course(a_set(), answer)
    (first,), (second,), (third,) = course.asked
    assert not first.repeats
    assert second == first._replace(id=second.id, repeats=True)
    assert third == first._replace(id=third.id, repeats=True, identity=known.encode())
    assert not course.result().failed


@pytest.mark.parametrize(
    "later",
    [
        lambda request: failed(request.id, Overloaded("too much")),
        lambda request: failed(request.id, Unavailable(2, 1)),
        lambda request: Failed(request.id, 1, "no such bucket", b"", []),
        lambda request: Unreachable("nobody", "raised"),
        lambda request: InvalidRequest("closed", "raised"),
        lambda request: Overloaded("shed"),
    ],
)
def test_what_may_have_happened_is_never_told_as_if_nothing_was_done(later: Any) -> None:
    def answer(attempt: int, request: Any) -> Message | Exception:
        lost = ConnectionLost("lost")
        lost.identity = Identity.decode(request.identity)
        said: Message | Exception = lost if attempt == 1 else later(request)
        return said

    course = Course(a_set(), answer)
    error = course.error()
    assert len(course.asked) > 1
    assert isinstance(error, ConnectionLost)
    assert not error.definite
    assert error.identity == Identity.decode(course.asked[0][0].identity)
    assert error.attempts == len(course.asked)


def test_a_read_that_was_lost_is_asked_again() -> None:
    asking = CALLS.get("k", "b", None, None)
    course = Course(asking, first_times(1, lambda request: ConnectionLost("lost")))
    assert len(course.asked) == 2
    assert not asking.read(course.result().answer(), NAMES).found


@given(st.lists(st.lists(st.sampled_from(["served", "shed", "unavailable", "lost", "unknown"]), min_size=12)))
def test_of_many_those_are_asked_again_that_failed_and_each_has_one_outcome(says: list[list[str]]) -> None:
    """Whatever is answered: each has its result, and what was served is not asked again."""
    served_keys: list[bytes] = []
    lost_keys: set[bytes] = set()

    def answer(attempt: int, request: Any) -> Message | Exception:
        number = int(request.key)
        word = says[attempt - 1][number] if attempt <= len(says) else "served"
        assert request.repeats == (request.key in lost_keys)
        if word == "served":
            served_keys.append(request.key)
            return served(request)
        if word == "lost":
            lost_keys.add(request.key)
            return ConnectionLost("lost")
        if word == "unknown":
            return failed(request.id, OutcomeUnknown("?", None, None))
        return Overloaded("shed") if word == "shed" else failed(request.id, Unavailable(2, 1))

    lot: Lot[Any] = set_many(CALLS, [(f"{n}", "v") for n in range(12)], "b", None, None, None)
    course = Course(lot, answer)
    results = lot.results(course.result(), NAMES)
    assert len(results) == 12
    assert len(served_keys) == len(set(served_keys))
    for number, result in enumerate(results):
        key = f"{number}".encode()
        assert isinstance(result, BasestoreError) != (key in served_keys)
        if isinstance(result, BasestoreError) and key in lost_keys:
            assert not result.definite
    if len(says) < TOKENS_MAX and all("unknown" not in said for said in says):
        assert len(served_keys) == 12


def test_columns_of_reads_are_put_together() -> None:
    lot: Lot[Any] = get_many(CALLS, [f"{n}" for n in range(9)], "b", None, None)
    course = Course(
        lot,
        lambda attempt, request: (
            served(request) if attempt == 2 or request.key < b"5" else failed(request.id, Unavailable(2, 1))
        ),
    )
    assert [request.key for request in course.asked[1]] == [b"5", b"6", b"7", b"8"]
    assert not any(lot.results(course.result(), NAMES))


def test_pauses_double_and_do_not_end_before_the_node_has_said() -> None:
    course = Course(a_set(), first_times(3, lambda request: Overloaded("too much")))
    assert course.pauses == pytest.approx([PAUSE_S / 2, PAUSE_S, 2 * PAUSE_S])
    course = Course(a_set(), first_times(3, lambda request: Overloaded("too much", 0.4)))
    assert course.pauses == pytest.approx([0.4 + 0.2, 0.4 + 0.4, 0.4 + 0.8])


def test_there_is_no_retry_that_would_begin_behind_the_timeout() -> None:
    course = Course(a_set(), first_times(99, lambda request: Overloaded("too much", 3.0)))
    assert len(course.pauses) == 1  # 4.5 s; then it would be 3 + 3 more, and there are 5.5
    error = course.error()
    assert error.attempts == 2
    assert error.retry_after == 3.0


def test_the_budget_is_ten_and_what_successes_add() -> None:
    budget = Budget(0.5)
    taken = 0
    while budget.take():
        taken += 1
    assert taken == TOKENS_MAX == budget.retries

    def retries() -> int:
        before = budget.retries
        attempts = Attempts(a_set(), 1e9, budget, lambda: 0.0)
        while attempts.hear(Overloaded("too much"), 0.0) is not None:
            pass
        with pytest.raises(Overloaded, match=r"^too much$"):
            attempts.result()
        return budget.retries - before

    assert retries() == 0
    for _ in range(4):
        batch = Batch(1, a_set())
        batch.hear(served(batch.requests[0]))
        assert Attempts(a_set(), 1.0, budget).hear(batch, 0.0) is None
    assert retries() == 2
    assert Budget(0).take()
    for wrong in (-0.1, 1.5, "much", float("nan")):
        with pytest.raises(InvalidRequest, match="0 to 1"):
            Budget(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("flavour", FLAVOURS)
class TestStores:
    def test_it_tries_again_and_counts_and_who_did_not_ask_for_it_has_the_error(self, flavour: str) -> None:
        asked: list[Any] = []

        def answer(request: Any) -> Message:
            asked.append(request)
            return Shed([request.id, 1], 10, 100) if len(asked) % 3 else served(request)

        with fake(WELCOME, answer=answer) as node:

            async def body(store: Any) -> None:
                with pytest.raises(Overloaded) as caught:
                    await store.set("k", "v")
                assert (caught.value.attempts, store.retries) == (1, 0)
                asked.clear()
                patient = store.retrying()
                assert await patient.set("k", "v")
                assert not (await patient.get("k")).found
                assert [item async for item in patient.scan("k")] == []
                assert (len(asked), patient.retries) == (9, 6)
                again = patient.retrying()
                assert not (await again.get("k")).found
                assert (len(asked), patient.retries, again.retries) == (12, 6, 2)

            run(flavour, node.endpoint, body)

    def test_the_error_says_how_often_it_was_tried(self, flavour: str) -> None:
        with fake(WELCOME, answer=lambda request: failed(request.id, Unavailable(2, 1))) as node:

            async def body(store: Any) -> None:
                patient = store.retrying(budget=0.0)
                with pytest.raises(Unavailable) as caught:
                    await patient.set("k", "v", timeout=1.0)
                assert caught.value.attempts == 1 + patient.retries > 1
                results = await patient.set_many([("a", "1"), ("b", "2")], timeout=1.0)
                assert [type(result) for result in results] == [Unavailable] * 2
                assert results[0].attempts > 1

            run(flavour, node.endpoint, body)

    def test_a_session_keeps_its_promises_over_attempts(self, flavour: str) -> None:
        """Each attempt says what the session has seen by then, and what it tells is learned."""
        asked: list[Any] = []
        stamped = Identity.decode(bytes(PROPOSAL_BYTES) + (7 << 16).to_bytes(8) + bytes(range(24)))

        def answer(request: Any) -> Message:
            asked.append(request)
            if len(asked) == 1:
                late = WriteTimeout("late", 1, 2, stamped._replace(proposal=request.identity))
                return failed(request.id, late)
            return Shed([request.id, 1], 10, 100) if len(asked) == 2 else served(request)

        with fake(WELCOME, answer=answer) as node:

            async def body(store: Any) -> None:
                async with store.session() as session:
                    patient = session.retrying()
                    assert await patient.set("k", "v")
                    assert (len(asked), patient.retries) == (3, 2)
                    assert [request.after for request in asked[:3]] == [0, 7 << 16, 7 << 16]
                    assert [request.repeats for request in asked[:3]] == [False, True, True]
                    assert patient.token == session.token

            run(flavour, node.endpoint, body)
