"""Cases of transactions: what intents come to, who waits for whom, what is decided by whom, and what the dead
have left."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from basestore.consistency import Level
from basestore.errors import OutcomeUnknown
from basestore.instant import Instant
from basestore.protocol.client import (
    ADD,
    IF_VERSION,
    OUTCOME_LOST,
    OUTCOME_STORED,
    SET,
    Commit,
    Committed,
    Failed,
    Written,
)
from basestore.protocol.replication import Accept, Applied, Forward, Prepare, Promised, Refused
from basestore.registers import records
from basestore.registers.task import Done, Report, Task
from basestore.repair.compare_and_set import NOTHING, Attempt, Condition, Next
from basestore.repair.intents import ABORTED, COMMITTED, Intent, Settled, commitment
from basestore.repair.paxos import Known
from basestore.repair.version import Digester, Record, Version
from basestore.storage import keyspace
from basestore.transactions import helping, transaction
from basestore.transactions.decisions import decision_row
from basestore.transactions.transaction import Phase
from tests.simulation.cases import registry
from tests.worlds.transacting import answered_and_left, begun, come_to, key_at, left, silence, speak
from tests.worlds.transactions import HOLDS_NOTHING, TransactionWorld, accepts_decision, deletes, reads, sets
from tests.worlds.world import Call

shows = partial(registry.shows, family="transactions")
T, OTHER = (1_760_000_000_000 << 16).to_bytes(8) + b"o" * 8, b"\xff" * 16
DIGESTER: Final = Digester(bytes(32))
V1, V2 = Version(1, 1, 1).encode(), Version(2, 1, 2).encode()


# --- what intents come to --------------------------------------------------------------------------


def old(*, expires_ms: int = 0) -> Record:
    return Record.seal(
        DIGESTER, b"row", Version(1, 1, 1), b"old", expires_ms=expires_ms, proposal=b"proposed",
        descent=V1 + NOTHING,
    )  # fmt: skip


def intent(was: Record | None, *, transaction: bytes = T, tombstone: bool = False, ttl: int = 0) -> Record:
    value = Intent(transaction, b"new", tombstone, ttl, was.blob if was is not None else b"").encode()
    return Record.seal(
        DIGESTER, b"row", Version(2, 1, 2), value, proposal=b"intended",
        descent=V2 + (V1 if was is not None else NOTHING), intent=True,
    )  # fmt: skip


def comes_to(record: Record, *, committed: bool) -> Settled:
    settles: Callable[..., Settled] = getattr(records, "settled")  # noqa: B009  as it goes by it
    return settles(record, committed=committed)


@shows("what is rolled back is another version", "what is rolled back lives for ever")
def what_is_rolled_back_is_the_record_that_was_there() -> None:
    was = old(expires_ms=99)
    assert comes_to(intent(was), committed=False) == (b"old", False, 99, was.proposal, was.descent)


@shows("where nothing was there is an empty value")
def where_nothing_was_there_is_nothing() -> None:
    assert comes_to(intent(None), committed=False).tombstone


@shows("what is committed lives for ever", "what is committed names what it replaced as itself")
def what_is_committed_is_the_same_write() -> None:
    record = intent(old(), ttl=99)
    assert comes_to(record, committed=True) == (b"new", False, 99, record.proposal, record.descent)


@shows("a delete leaves an empty value")
def a_delete_leaves_nothing() -> None:
    assert comes_to(intent(old(), tombstone=True), committed=True).tombstone


@shows("an intent does not hold what was there")
def what_was_rolled_back_is_found() -> None:
    world = TransactionWorld()
    first = world.put_register(0, "a", "1").version
    world.put_register(0, "b", "1")
    world.refused(1, sets("a", "2", first), sets("b", "2", first))
    assert (world.version_of("a"), world.found_at(1, "a")) == (first, b"1")


@shows("an intent of what goes may be purged")
def an_intent_never_goes_by_itself() -> None:
    world = TransactionWorld()
    world.put_register(0, "a", "1")
    left(world, 1, Phase.DECIDE, deletes("a"), sets("b", "1", ttl_s=1.0))
    for key in "ab":
        stored = world.stored(0, key, "cas")
        assert stored is not None
        assert (stored.intent, stored.tombstone, stored.expires_ms) == (True, False, 0)


@shows("a committed transaction names one of its rows")
def what_is_committed_names_all_its_rows() -> None:
    world = TransactionWorld()
    rows = [world.row(key, "cas") for key in "ab"]
    commits = getattr(transaction, "commit")  # noqa: B009  as it goes by it
    task = commits(world.node(0).context, T, rows, 9.0)
    assert task.write.content.value == commitment(rows)


@shows("what is gone was committed")
def what_is_gone_undoes_what_is_met_behind_it() -> None:
    gone = Record.seal(DIGESTER, b"row", Version(3, 1, 3), b"", tombstone=True)
    decides = getattr(helping, "decided")  # noqa: B009  as it goes by it
    assert decides(gone) == ABORTED


# --- who meets one ---------------------------------------------------------------------------------


@shows("a write takes the place of an intent")
def a_write_waits_for_an_intent() -> None:
    write = Attempt(Condition.UNCONDITIONAL, b"", b"proposal")
    assert write.weigh(Known(intent(old()), True), 0) is Next.BLOCKED


@shows("an intent is in the way of its own transaction")
def an_intent_that_lies_is_laid() -> None:
    lay = Attempt(Condition.IF_VERSION, V1, b"intended", again=True, lays=T)
    assert lay.weigh(Known(intent(old()), True), 0) is Next.STORED
    assert lay.weigh(Known(intent(old(), transaction=OTHER), True), 0) is Next.BLOCKED


@shows("an intent of another is settled as if it were of this one")
def only_an_intent_of_this_transaction_is_settled() -> None:
    settle = Attempt(Condition.SETTLE, T, b"proposal")
    assert settle.weigh(Known(intent(old()), True), 0) is Next.PROPOSE
    assert settle.weigh(Known(intent(old(), transaction=OTHER), True), 0) is Next.LOST


@shows("a read finds what was there before an intent", "a read shows an intent")
def a_read_finds_what_was_told_to_be_committed() -> None:
    world = TransactionWorld()
    world.put_register(0, "a", "1")
    answered_and_left(world, 0, sets("a", "2"))
    assert world.found_at(1, "a") == b"2"


@shows("a page shows what was there before an intent")
def a_page_shows_what_was_told_to_be_committed() -> None:
    world = TransactionWorld()
    world.put_register(0, "a", "1")
    answered_and_left(world, 0, sets("a", "2"))
    items, _ = world.done_page(world.scan(1, bucket="cas"))
    assert (b"a", b"2") in [(item.key, item.value) for item in items]


@shows("a read at one shows an intent", "a page at one shows an intent")
def at_one_is_shown_what_was_there() -> None:
    world = TransactionWorld()
    world.put_register(0, "a", "1")
    left(world, 0, Phase.DECIDE, sets("a", "2"))
    assert world.found_at(1, "a", Level.ONE) == b"1"
    items, _ = world.done_page(world.scan(1, "", Level.ONE, bucket="cas"))
    assert [item.value for item in items] == [b"1"]


@shows("who waits is shown the intent that another has found")
def a_compare_that_waits_behind_an_intent_is_judged_by_what_that_comes_to() -> None:
    world = TransactionWorld()
    home = world.home("a")
    other = (home + 1) % 3
    world.put_register(home, "a", "0")
    world.node(other).peers.disk_behind[home] = True
    first = world.put_register(other, "a", "1")  # so that the ballot which the home would use is too low
    world.settle()
    laid = world.transact(home, sets("a", "2"))
    compared = world.write(home, "a", "3", IF_VERSION, first.version)
    answer = world.answered(compared)
    assert isinstance(world.answered(laid), Committed)
    assert isinstance(answer, Written)
    assert answer.outcome == OUTCOME_LOST


def sent_before_an_intent(timeout_s: float) -> tuple[TransactionWorld, Any, int]:
    """1 is added to 5 at the home of the row, which one acceptor has taken; another node, which lays an
    intent in the place of that, is dead."""
    world = TransactionWorld()
    home = world.home("a")
    other, third = (at for at in range(3) if at != home)
    world.put_register(home, "a", "5")
    world.settle()
    row = world.row("a", "cas")
    world.lose = lambda sent: isinstance(sent.message, Accept) and sent.message.row == row
    call = world.write(home, "a", "1", ADD, timeout_s=timeout_s)
    world.settle()
    world.lose = accepts_decision
    world.part(other, third)
    for at in (home, third):
        world.node(other).peers.disk_behind[at] = True
    world.transact(other, sets("a", "100"))
    world.run(0.3)
    world.crash(other)
    world.lose = lambda sent: False
    world.part(home, third)
    world.join(home, third)
    return world, call, third


@shows("a write that was blocked forgets that it was sent")
def what_was_sent_before_an_intent_was_laid_on_it_is_done_once() -> None:
    world, call, third = sent_before_an_intent(3.0)
    assert world.answered(call).outcome == OUTCOME_STORED
    assert world.found_at(third, "a") == b"6"


@shows("a write that was sent before it was blocked has done nothing")
def of_what_was_sent_before_it_was_blocked_nobody_says_that_nothing_was_done() -> None:
    world, call, _ = sent_before_an_intent(1.0)
    answer = world.answered(call)
    assert isinstance(answer, Failed)
    assert answer.code == OutcomeUnknown.code


@shows("two wait for each other's intents")
def of_two_that_write_the_same_rows_one_gives_way() -> None:
    world = TransactionWorld()
    a, b = key_at(world, 1), key_at(world, 2)
    calls = [world.transact(1, sets(a, "1"), sets(b, "1")), world.transact(2, sets(b, "2"), sets(a, "2"))]
    world.run(0.5)
    assert sorted(type(each.reply()).__name__ for each in calls) == ["Committed", "Failed"]


@shows(
    "two wait for each other to look at what they have read",
    "what was read may lie under an intent of another",
    "what was only read is looked at before intents are laid",
)  # fmt: skip
def of_two_that_write_what_the_other_reads_one_gives_way() -> None:
    world = TransactionWorld()
    a, b = key_at(world, 1), key_at(world, 2)
    first_a, first_b = (world.put_register(0, key, "1").version for key in (a, b))
    world.settle()
    calls = [
        world.transact(1, reads(b, first_b), sets(a, "2")),
        world.transact(2, reads(a, first_a), sets(b, "2")),
    ]  # fmt: skip
    world.run(0.5)
    assert sorted(type(each.reply()).__name__ for each in calls) == ["Committed", "Failed"]


@shows("a home lays no intent for another node")
def a_home_lays_intents_for_others() -> None:
    world = TransactionWorld()
    a = key_at(world, 1)
    world.put_register(0, a, "1")
    left(world, 0, Phase.DECIDE, sets(a, "2"))
    assert world.found_at(1, a, Level.ONE) == b"1"


# --- what is decided -------------------------------------------------------------------------------


@shows(
    "what was only read is not looked at again", "what was read may be another version by now",
)  # fmt: skip
def what_was_only_read_is_looked_at_again() -> None:
    world = TransactionWorld()
    first = world.put_register(0, "a", "1").version
    world.put_register(1, "a", "2")
    assert isinstance(world.answered(world.transact(2, reads("a", first), sets("b", "1"))), Failed)


@shows("what held nothing when it was read is not locked")
def what_held_nothing_when_it_was_read_is_locked() -> None:
    world = TransactionWorld()
    world.put_register(0, "a", "1")
    assert isinstance(world.answered(world.transact(2, reads("a", HOLDS_NOTHING), sets("b", "1"))), Failed)


@shows("what has expired since it was read is there")
def what_has_expired_since_it_was_read_is_not_there() -> None:
    world = TransactionWorld()
    first = world.done(world.write(0, "a", "1", ttl_s=0.3)).version
    world.run(0.5)
    assert isinstance(world.answered(world.transact(2, reads("a", first), sets("b", "1"))), Failed)


@shows(
    "it is committed though an intent could not be laid", "what was read is not what intents are laid on",
    "intents are laid where something is there after all",
)  # fmt: skip
def nothing_is_written_where_what_was_read_has_changed() -> None:
    world = TransactionWorld()
    first = world.put_register(0, "a", "1").version
    world.put_register(0, "a", "2")
    for expected in first, HOLDS_NOTHING:
        answer = world.answered(world.transact(1, sets("b", "3"), sets("a", "3", expected)))
        assert isinstance(answer, Failed)
    assert (world.found_at(0, "a"), world.found_at(0, "b")) == (b"2", None)


def ended_by_a_reader() -> tuple[TransactionWorld, Any]:
    """What its coordinator decides is heard only once a reader has waited for it in vain."""
    world = TransactionWorld(timeout_ms_max=9000)
    a = key_at(world, 1)
    world.put_register(1, a, "1")
    world.settle()
    call = begun(world, 0, Phase.DECIDE, sets(a, "2"), timeout_s=8.0)
    silence(world, 0)
    for _ in range(4):
        world.done(world.seek(1, a))
    speak(world, 0)
    world.answered(call, 12.0)
    return world, call


@shows(
    "who helps undoes an intent without a word of it", "a coordinator has it committed whatever was decided",
    "it is proposed again under a later ballot", "a coordinator that was ended by others has it committed",
)  # fmt: skip
def what_was_ended_by_others_is_not_committed() -> None:
    world, call = ended_by_a_reader()
    assert isinstance(call.reply(), Failed)
    assert world.found_at(1, key_at(world, 1)) == b"1"


@shows("a coordinator that does not know undoes it")
def a_coordinator_that_does_not_know_finds_out() -> None:
    world = TransactionWorld()
    a = key_at(world, 1)
    call = begun(world, 0, Phase.DECIDE, sets(a, "2"), timeout_s=1.0)
    world.lose = lambda sent: sent.target == 0 and isinstance(sent.message, Applied)
    world.settle()
    world.lose = lambda sent: False
    assert isinstance(world.answered(call), Committed)
    assert world.found_at(1, a) == b"2"


@shows("a register of a transaction is born with no promise")
def nobody_else_may_decide_below_the_ballot_of_a_transaction() -> None:
    world = TransactionWorld()
    stamp = world.now(0).wall_ms << 16
    row = decision_row(world.node(0).context, (stamp + 500).to_bytes(8) + b"\1" * 8)
    low, high = stamp.to_bytes(8) + b"\1" * 8, (stamp + 600).to_bytes(8) + b"\1" * 8
    assert isinstance(world.answers(0, Prepare(1, row, low, 0))[0], Refused)
    assert isinstance(world.answers(0, Prepare(2, row, high, 0))[0], Promised)


@shows("it is told before it is decided")
def nobody_is_told_before_it_is_decided() -> None:
    world = TransactionWorld()
    call = begun(world, 0, Phase.DECIDE, sets("a", "1"))
    silence(world, 0)
    world.run(0.2)
    assert not call.done


def alone(world: TransactionWorld, at: int, value: str, expected: bytes) -> Call:
    """One write of a, and nothing besides."""
    return world.ask(
        at,
        lambda request: Commit(request, 600, ["cas"], [b"a"], [SET], [expected], [value.encode()], [0]),
    )


@shows("a write alone is committed though it is lost")
def a_write_alone_is_not_committed_where_it_is_lost() -> None:
    world = TransactionWorld()
    first = world.put_register(0, "a", "1").version
    world.put_register(0, "a", "2")
    assert isinstance(world.answered(alone(world, 1, "3", first)), Failed)


@shows("a write alone of which nobody knows has done nothing")
def of_a_write_alone_nobody_says_that_nothing_was_done_once_it_was_sent() -> None:
    world = TransactionWorld()
    first = world.put_register(0, "a", "1").version
    world.settle()
    world.lose = lambda sent: isinstance(sent.message, Accept)
    answer = world.answered(alone(world, world.home("a"), "2", first))
    assert isinstance(answer, Failed)
    assert answer.code == OutcomeUnknown.code


# --- who helps -------------------------------------------------------------------------------------


class Asked:
    """Registers that answer what they are told to: `said` holds what they were asked, in order."""

    def __init__(self) -> None:
        self.said: list[tuple[Task, Report]] = []

    def route(self, task: Task, report: Report, now: Instant) -> None:
        self.said.append((task, report))

    read = route


class Helped:
    """One row that is helped, by a node whose registers are in hand. Time counts from the beginning."""

    def __init__(self, *, age_s: float = 0.0, patient: bool = True) -> None:
        world = TransactionWorld(1)
        registers: Any = Asked()
        self.said: list[tuple[Task, Report]] = registers.said
        self.now = world.now(0)
        begun_ms = self.now.wall_ms - round(age_s * 1e3)
        transaction = (begun_ms << 16).to_bytes(8) + b"o" * 8
        self.gone: list[object] = []
        help_ = helping.Help(
            world.node(0).context, registers, world.row("a", "cas"), transaction,
            lambda help_, error, now: self.gone.append(error),
        )  # fmt: skip
        help_.begin(self.now, patient=patient)
        self.help = help_

    def at(self, seconds: float) -> Instant:
        return Instant(self.now.wall_ms + round(seconds * 1e3), self.now.monotonic + seconds)

    def answer(self, record: Record | None, seconds: float = 0.0, outcome: int = OUTCOME_STORED) -> None:
        """What was asked last."""
        self.said[-1][1](Done(outcome, b"", b"", record, 1, []), self.at(seconds))

    @property
    def asks(self) -> str:
        """What was asked last: to look, to abort, or to settle as so."""
        task = self.said[-1][0]
        if task.write is None:
            return "row" if task.as_is else "look"
        settles = task.write.attempt.condition is Condition.SETTLE
        return f"settle {task.write.content.value.decode()}" if settles else "abort"


DECIDED = Record.seal(DIGESTER, b"row", Version(5, 1, 5), COMMITTED)


@shows("who ends it takes what was committed before for ended")
def who_comes_too_late_to_end_it_has_it_committed() -> None:
    scene = Helped(patient=False)
    scene.answer(None)
    assert scene.asks == "abort"
    scene.answer(DECIDED, outcome=OUTCOME_LOST)
    assert scene.asks == "settle C"


@shows("who ends it writes over what was decided")
def who_ends_it_writes_over_nothing() -> None:
    world = TransactionWorld()
    answered_and_left(world, 0, sets("a", "2"))
    laid, context = world.stored(1, "a", "cas"), world.node(1).context
    assert laid is not None
    ended: list[object] = []
    aborts = getattr(helping, "abort")  # noqa: B009  as it goes by it
    task = aborts(context, Intent.of(laid).transaction, world.monotonic + 1)
    world.node(1).registers.route(task, lambda result, now: ended.append(result), world.now(1))
    world.until(lambda: bool(ended))
    assert world.found_at(2, "a") == b"2"


@shows("nobody ends what a dead coordinator has left", "by a clock that is behind one waits longer")
def two_seconds_are_waited_for_the_dead_by_any_clock() -> None:
    for age_s in (0.0, -1.5):  # by the clock of its coordinator, which may be ahead
        scene = Helped(age_s=age_s)
        scene.help.alarm(scene.at(2.0))
        scene.answer(None, 2.0)
        assert scene.asks == "abort"


@shows("nobody waits for a coordinator that lives")
def nobody_ends_what_was_begun_just_now() -> None:
    scene = Helped(age_s=0.5)
    assert not scene.said
    scene.help.alarm(scene.at(1.4))
    scene.answer(None, 1.4)
    assert scene.asks == "row"


@shows("an intent that was undone without a word is waited for")
def who_waits_goes_on_where_an_intent_was_undone_without_a_word() -> None:
    scene = Helped()
    scene.help.alarm(scene.at(0.1))
    scene.answer(None, 0.1)
    scene.answer(old(), 0.1)
    assert scene.gone == [None]


@shows("a transaction waits longer than its time")
def a_transaction_is_answered_in_its_time() -> None:
    world = TransactionWorld()
    a, b = key_at(world, 1), key_at(world, 2)
    first = world.put_register(0, a, "1").version
    world.settle()
    call = begun(world, 0, Phase.LAY, reads(a, first), sets(b, "2"), timeout_s=1.0)
    left(world, 1, Phase.DECIDE, sets(a, "2"))
    world.run(1.1)
    assert call.done


# --- what is left ----------------------------------------------------------------------------------


def committed_and_left() -> tuple[TransactionWorld, str, str]:
    """Of what was committed on two rows nobody has settled either, and nobody looks for intents."""
    world = TransactionWorld()
    a, b = key_at(world, 1), key_at(world, 2)
    answered_and_left(world, 0, sets(a, "1"), sets(b, "2"))
    for at in (1, 2):
        world.node(at).registers.laid.rows.clear()
    return world, a, b


@shows("what was decided goes before all intents are settled")
def what_was_decided_stays_until_all_intents_are_settled() -> None:
    world = TransactionWorld()
    a, b = key_at(world, 1), key_at(world, 2)
    row = world.row(b, "cas")
    call = world.transact(0, sets(a, "1"), sets(b, "2"))
    come_to(world, 0, Phase.SETTLE)
    world.lose = lambda sent: isinstance(sent.message, Forward) and sent.message.row == row
    world.settle()
    assert call.done
    world.crash(0)
    world.lose = lambda sent: False
    assert (world.found_at(1, a), world.found_at(2, b)) == (b"1", b"2")


@shows("what was committed goes before it is settled")
def what_was_committed_is_settled_before_it_goes() -> None:
    world, a, b = committed_and_left()
    world.run(8.0)
    assert not world.decisions()
    assert (world.found_at(1, a), world.found_at(2, b)) == (b"1", b"2")


@shows("what was committed goes though some cannot be settled")
def what_was_committed_stays_while_some_cannot_be_settled() -> None:
    world, a, b = committed_and_left()
    world.restart(2)  # of what it writes next it is to prepare the ballot
    world.node(2).registers.laid.rows.clear()
    row = world.row(b, "cas")
    world.lose = lambda sent: isinstance(sent.message, Accept | Prepare) and sent.message.row == row
    world.run(11.0)
    world.lose = lambda sent: False
    world.run(6.0)
    assert (world.found_at(1, a), world.found_at(2, b)) == (b"1", b"2")


@shows(
    "what has been left by the dead is looked for nowhere", "behind a start nobody knows where intents lie",
    "it is not noted where intents are learned", "what was decided stays",
    "what is settled is noted for ever",
)  # fmt: skip
def nothing_is_left_of_what_the_dead_had_begun() -> None:
    world = TransactionWorld()
    left(world, 0, Phase.DECIDE, sets("a", "1"), sets("b", "1"))
    world.run(0.2)  # it is learned
    for at in (1, 2):
        world.restart(at)
    world.run(14.0)
    assert (world.intents(), world.decisions()) == (0, {})
    for at in (1, 2):
        assert not list(world.node(at).group_commit.scan(*keyspace.intents()))


@shows("who lives is taken for dead")
def what_takes_a_second_is_committed() -> None:
    world = TransactionWorld()
    a, b = key_at(world, 1), key_at(world, 2)
    call = begun(world, 0, Phase.LAY, sets(a, "1"), sets(b, "1"))
    world.hold(0, 2)
    world.run(0.9)
    world.release(0, 2)
    assert isinstance(world.answered(call), Committed)
