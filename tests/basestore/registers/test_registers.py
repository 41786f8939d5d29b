"""Registers as clients see them, over real nodes. Covers `registers/registers.py`, `registers/proposer.py`,
`registers/forwarded.py` and `registers/skipped_prepares.py`."""

import pytest

from basestore.consistency import Level
from basestore.errors import Contended, InvalidRequest, OutcomeUnknown, Overloaded, Unavailable
from basestore.protocol.client import (
    FINAL,
    OUTCOME_LOST,
    OUTCOME_STORED,
    Failed,
    Get,
    Got,
    Set,
    Written,
)
from basestore.protocol.replication import Accept, Applied, Forward, Learn, Peek, Prepare, Promised
from basestore.registers.registers import QUEUE_MAX
from basestore.repair.rule import Rule
from basestore.repair.version import IDENTITY_BYTES, PROPOSAL_BYTES, Version
from tests.worlds.registers import ADD, IF_ABSENT, IF_VALUE, IF_VERSION, RegisterWorld
from tests.worlds.world import Call, Sent, World


def failed(call: Call) -> Failed:
    answer = call.reply()
    assert isinstance(answer, Failed), answer
    return answer


class TestCompareAndSet:
    @pytest.mark.parametrize("count", [1, 2, 3, 5])
    def test_a_value_is_set_if_absent_and_then_by_its_version(self, count: int) -> None:
        world = RegisterWorld(count)
        first = world.put_register(0, "k", "1", IF_ABSENT)
        assert first.outcome == OUTCOME_STORED
        again = world.put_register(count - 1, "k", "2", IF_ABSENT)
        assert (again.outcome, again.better, again.value, again.held) == (
            OUTCOME_LOST,
            first.version,
            b"1",
            True,
        )
        second = world.put_register(count - 1, "k", "3", IF_VERSION, first.version)
        assert second.outcome == OUTCOME_STORED
        late = world.put_register(0, "k", "4", IF_VERSION, first.version)
        assert (late.outcome, late.better, late.value) == (OUTCOME_LOST, second.version, b"3")
        assert [world.found_at(at, "k") for at in range(count)] == [b"3"] * count

    def test_or_by_its_value(self) -> None:
        world = RegisterWorld()
        world.put_register(0, "k", "1")
        assert world.put_register(1, "k", "2", IF_VALUE, b"1").outcome == OUTCOME_STORED
        assert world.put_register(2, "k", "3", IF_VALUE, b"1").outcome == OUTCOME_LOST
        assert world.found_at(0, "k") == b"2"

    def test_a_version_that_was_compared_with_is_what_a_get_shows(self) -> None:
        world = RegisterWorld()
        stored = world.put_register(1, "k", "1")
        for at in range(3):
            got = world.done(world.seek(at, "k"))
            assert (got.version, got.order) == (stored.version, stored.order)
        assert world.put_register(2, "k", "2", IF_VERSION, got.version).outcome == OUTCOME_STORED

    def test_what_is_deleted_is_absent(self) -> None:
        world = RegisterWorld()
        stored = world.put_register(0, "k", "1")
        removed = world.done(world.remove(1, "k", Version.decode(stored.version)))
        assert removed.outcome == OUTCOME_STORED
        assert world.found_at(2, "k") is None
        lost = world.put_register(0, "k", "2", IF_VERSION, removed.version)
        assert (lost.outcome, lost.better, lost.held) == (OUTCOME_LOST, b"", False)
        assert world.done(world.remove(1, "k", Version.decode(stored.version))).outcome == OUTCOME_LOST
        assert world.put_register(0, "k", "3", IF_ABSENT).outcome == OUTCOME_STORED

    def test_what_has_expired_is_absent(self) -> None:
        world = RegisterWorld()
        stored = world.done(world.write(0, "k", "1", ttl_s=2.0))
        assert world.put_register(0, "k", "2", IF_ABSENT).outcome == OUTCOME_LOST
        world.run(2.5)
        assert world.found_at(1, "k") is None
        assert world.put_register(0, "k", "3", IF_VERSION, stored.version).outcome == OUTCOME_LOST
        assert world.put_register(0, "k", "4", IF_ABSENT).outcome == OUTCOME_STORED

    def test_numbers_are_added_to(self) -> None:
        world = RegisterWorld()
        numbers = [world.put_register(at, "k", by, ADD).value for at, by in ((0, "1"), (1, "41"), (2, "-50"))]
        assert numbers == [b"1", b"42", b"-8"]
        assert world.found_at(1, "k") == b"-8"

    def test_what_is_no_number_is_not_added_to(self) -> None:
        world = RegisterWorld()
        world.put_register(0, "k", "one")
        call = world.write(1, "k", "1", ADD)
        world.settle()
        with pytest.raises(InvalidRequest, match="the key holds 'one', which is no decimal number"):
            call.receipt()
        assert world.found_at(0, "k") == b"one"

    def test_what_would_be_too_long_to_be_a_number_is_not_added_to(self) -> None:
        world = RegisterWorld()
        world.put_register(0, "k", "9" * 64)
        call = world.write(1, "k", "1", ADD)
        world.settle()
        with pytest.raises(InvalidRequest, match=r"999\.\.\.', and the sum would be too long"):
            call.receipt()
        assert world.put_register(1, "k", "-1", ADD).value == b"9" * 63 + b"8"

    def test_many_at_once_each_take_the_place_of_another(self) -> None:
        world = RegisterWorld()
        calls = [world.write(at % 3, "k", "1", ADD) for at in range(48)]
        world.until(lambda: all(call.done for call in calls))
        assert sorted(int(call.reply().value) for call in calls) == list(range(1, 49))  # type: ignore[attr-defined]

    def test_of_many_that_compare_with_the_same_one_wins(self) -> None:
        world = RegisterWorld()
        first = world.put_register(0, "k", "0")
        calls = [world.write(at % 3, "k", f"{at}", IF_VERSION, first.version) for at in range(12)]
        world.until(lambda: all(call.done for call in calls))
        outcomes = [call.reply().outcome for call in calls]  # type: ignore[attr-defined]
        assert outcomes.count(OUTCOME_STORED) == 1
        assert world.found_at(0, "k") == str(outcomes.index(OUTCOME_STORED)).encode()

    def test_those_that_were_asked_for_before_a_round_began_are_lost_by_what_it_finds(self) -> None:
        world = RegisterWorld()
        home = world.home("k")
        first = world.put_register(home, "k", "0")
        world.settle()
        world.rounds()
        calls = [world.write(home, "k", f"v{at}", IF_VERSION, first.version) for at in range(12)]
        calls += [world.write(home, "k", "no", IF_ABSENT), world.write(home, "k", "no", IF_VALUE, b"0")]
        world.until(lambda: all(call.done for call in calls))
        answers = [call.reply() for call in calls]
        assert all(isinstance(each, Written) for each in answers)
        assert [each.outcome for each in answers] == [OUTCOME_STORED] + 13 * [OUTCOME_LOST]  # type: ignore[attr-defined]
        assert {each.value for each in answers[1:]} == {b"v0"}  # type: ignore[attr-defined]
        assert world.rounds() == ["Accept"]

    def test_but_not_those_that_were_asked_for_later(self) -> None:
        world = RegisterWorld()
        home = world.home("k")
        first = world.put_register(home, "k", "0")
        world.settle()
        world.rounds()
        calls = [world.write(home, "k", "1", IF_VERSION, first.version)]
        world.run(0.001)
        calls += [world.write(home, "k", "2", IF_VERSION, first.version) for _ in range(3)]
        world.until(lambda: all(call.done for call in calls))
        outcomes = [call.reply().outcome for call in calls]  # type: ignore[attr-defined]
        assert outcomes == [OUTCOME_STORED] + 3 * [OUTCOME_LOST]
        assert world.rounds() == ["Accept", "Peek"]  # of one, which the others have asked for before


class TestAgreed:
    def test_the_first_write_is_final_at_once(self) -> None:
        world = RegisterWorld()
        first = world.done(world.write(0, "k", "1", bucket="agreed"))
        assert (first.outcome, first.final) == (OUTCOME_STORED, FINAL)
        second = world.done(world.write(1, "k", "2", bucket="agreed"))
        assert (second.outcome, second.final) == (OUTCOME_LOST, FINAL)
        assert (second.better, second.value) == (first.version, b"1")
        got = world.done(world.seek(2, "k", bucket="agreed"))
        assert (got.value, got.final) == (b"1", FINAL)

    def test_nothing_but_absence_can_be_compared_with(self) -> None:
        world = RegisterWorld()
        leave, use = "Leave the condition out", r"nothing can be added to it: use .* \(built in: cas\)"
        for condition, expected, text in (
            (IF_VALUE, b"1", leave), (IF_VERSION, bytes(24), leave), (ADD, b"", use),
        ):  # fmt: skip
            call = world.write(0, "k", "2", condition, expected, bucket="agreed")
            world.settle()
            with pytest.raises(InvalidRequest, match=f"the first write wins, for good.*{text}"):
                call.receipt()
        assert world.done(world.write(0, "k", "2", IF_ABSENT, bucket="agreed")).outcome == OUTCOME_STORED


class TestRounds:
    def test_the_first_write_of_a_row_takes_two_rounds_and_the_next_one_each(self) -> None:
        world = RegisterWorld()
        home = world.home("k")
        stored = world.put_register(home, "k", "1")
        assert world.rounds() == ["Prepare", "Accept"]
        stored = world.put_register(home, "k", "2", IF_VERSION, stored.version)
        assert world.rounds() == ["Accept"]
        world.put_register(home, "k", "3")
        assert world.rounds() == ["Accept"]

    def test_asked_of_another_node_it_is_handed_to_the_home_of_the_row(self) -> None:
        world = RegisterWorld()
        home = world.home("k")
        world.put_register(home, "k", "1")
        world.rounds()
        world.put_register((home + 1) % 3, "k", "2")
        assert world.rounds() == ["Forward", "Accept"]

    def test_a_read_takes_one_round_and_writes_nothing(self) -> None:
        world = RegisterWorld()
        world.put_register(0, "k", "1")
        world.rounds()
        for at in range(3):
            assert world.found_at(at, "k") == b"1"
            assert world.rounds() == ["Peek"]

    def test_a_lost_compare_too(self) -> None:
        world = RegisterWorld()
        home = world.home("k")
        world.put_register(home, "k", "1")
        world.rounds()
        assert world.put_register(home, "k", "2", IF_ABSENT).outcome == OUTCOME_LOST
        assert world.rounds() == ["Peek"]
        world.put_register(home, "k", "3")
        assert world.rounds() == ["Accept"]  # nobody was disturbed by it

    def test_reads_between_accept_and_learn_see_what_is_chosen(self) -> None:
        """A quorum that has accepted the same is enough."""
        world = RegisterWorld()
        home = world.home("k")
        world.put_register(home, "k", "1")
        world.settle()
        world.lose = lambda sent: isinstance(sent.message, Learn)
        world.put_register(home, "k", "2")
        world.rounds()
        reader = next(at for at in range(3) if at != home)
        assert world.found_at(reader, "k") == b"2"
        assert set(world.rounds()) == {"Peek"}

    def test_what_one_acceptor_has_accepted_a_read_finishes(self) -> None:
        world = RegisterWorld()
        home = world.home("k")
        others = [at for at in range(3) if at != home]
        world.put_register(home, "k", "1")
        world.settle()

        def loses(sent: Sent) -> bool:
            return isinstance(sent.message, Accept) and sent.source == home

        world.lose = loses
        call = world.write(home, "k", "2", timeout_s=0.3)
        world.until(lambda: call.done)
        assert failed(call).code == OutcomeUnknown.code
        world.lose = lambda sent: False
        values = {world.found_at(at, "k") for at in others}
        assert len(values) == 1  # whichever it is, all see the same from now on
        assert world.found_at(home, "k") in values


class TestTrouble:
    def test_without_a_quorum_nothing_is_done_and_that_is_definite(self) -> None:
        world = RegisterWorld()
        world.part(0, 1)
        world.part(0, 2)
        world.run(5)
        for call, instead in (
            (world.write(0, "k", "1"), ""),
            (world.seek(0, "k"), ", or read at one, which may be behind"),
        ):
            world.settle()
            assert failed(call).code == Unavailable.code
            assert failed(call).text.endswith(f"nodes (see `basestore status`){instead}")
        assert world.put_register(1, "k", "2").outcome == OUTCOME_STORED

    def test_where_too_few_answer_in_time_nothing_was_done(self) -> None:
        world = RegisterWorld()
        home = world.home("k")
        world.lose = lambda sent: isinstance(sent.message, Prepare)
        call = world.write(home, "k", "1", timeout_s=0.3)
        world.until(lambda: call.done)
        assert failed(call).code == Contended.code
        assert "`basestore status` shows who is down, or not taken in yet" in failed(call).text
        world.lose = lambda sent: False
        assert world.found_at(0, "k") is None

    def test_what_was_sent_and_not_answered_may_have_happened_and_is_repeated_as_itself(self) -> None:
        world = RegisterWorld()
        home = world.home("k")
        world.put_register(home, "k", "0")
        world.lose = lambda sent: isinstance(sent.message, Applied)
        call = world.write(home, "k", "1", ADD, timeout_s=0.3)
        world.until(lambda: call.done)
        answer = failed(call)
        assert answer.code == OutcomeUnknown.code
        assert len(answer.identity) == IDENTITY_BYTES
        world.lose = lambda sent: False
        for at in range(3):
            repeated = world.done(world.write(at, "k", "1", ADD, identity=answer.identity, again=True))
            assert repeated.outcome == OUTCOME_STORED
            assert repeated.version == answer.version
        assert world.found_at(1, "k") == b"1"

    def test_of_a_repetition_it_is_never_certain_that_nothing_was_done(self) -> None:
        world = RegisterWorld()
        first = world.put_register(0, "k", "1")
        for at in (1, 2):
            world.part(0, at)
        world.run(5)
        for identity in (first.identity, first.identity[:PROPOSAL_BYTES]):
            call = world.write(0, "k", "1", identity=identity, again=True)
            world.settle()
            assert failed(call).code == OutcomeUnknown.code
            assert failed(call).identity == identity
            before, _, latest = failed(call).text.partition(" The latest attempt did nothing: ")
            assert before.startswith(
                "unknown: an earlier attempt may have done it; the write may have happen"
            )
            assert latest.startswith("unavailable: 2 replicas are required and 1 is alive; nothing was done")
            assert "nothing was done" not in before
        new = world.write(0, "k", "2")
        world.settle()
        assert failed(new).code == Unavailable.code

    def test_an_identity_is_of_no_use_for_another_write(self) -> None:
        world = RegisterWorld()
        stored = world.put_register(0, "k", "1")
        for value, condition in (("2", 0), ("1", IF_ABSENT)):
            call = world.write(0, "k", value, condition, identity=stored.identity, again=True)
            world.settle()
            with pytest.raises(InvalidRequest, match="made with another key"):
                call.receipt()

    def test_of_a_short_identity_what_was_found_must_hold_the_same(self) -> None:
        world = RegisterWorld()
        short = world.put_register(0, "k", "1").identity[:PROPOSAL_BYTES]
        for at in range(3):
            same, other = (world.write(at, "k", value, identity=short, again=True) for value in ("1", "2"))
            world.settle()
            assert world.done(same).outcome == OUTCOME_STORED
            assert failed(other).code == OutcomeUnknown.code
            assert "made with another key, bucket, value" in failed(other).text
        assert world.found_at(0, "k") == b"1"

    def test_a_write_that_nobody_can_find_any_more_stays_unknown(self) -> None:
        world = RegisterWorld()
        first = world.put_register(0, "k", "1")
        for value in ("2", "3", "4"):
            world.put_register(1, "k", value)
        call = world.write(0, "k", "1", identity=first.identity, again=True)
        world.settle()
        assert failed(call).code == OutcomeUnknown.code
        assert "Read the key" in failed(call).text
        assert "Repeat it" not in failed(call).text  # that would tell no more
        assert world.found_at(0, "k") == b"4"
        never = world.write(0, "fresh", "1", identity=b"8 random", again=True)
        world.settle()
        assert failed(never).text.startswith("unknown: the key holds nothing, and whether the write was made")

    def test_where_the_home_is_lost_another_node_finds_out_what_became_of_it(self) -> None:
        world = RegisterWorld()
        home = world.home("k")
        asked = next(at for at in range(3) if at != home)
        first = world.put_register(home, "k", "0")
        world.lose = lambda sent: type(sent.message).__name__ == "ForwardDone"
        call = world.write(asked, "k", "1", IF_VERSION, first.version, timeout_s=1.0)
        world.settle()
        assert not call.done
        world.lose = lambda sent: False
        world.crash(home)
        world.until(lambda: call.done)
        answer = call.reply()
        assert isinstance(answer, Written), answer
        assert answer.outcome == OUTCOME_STORED
        assert world.found_at(asked, "k") == b"1"

    def test_where_the_home_is_lost_before_it_began_the_write_is_made(self) -> None:
        world = RegisterWorld()
        home = world.home("k")
        asked = next(at for at in range(3) if at != home)
        first = world.put_register(home, "k", "0")
        world.lose = lambda sent: isinstance(sent.message, Forward)
        call = world.write(asked, "k", "1", IF_VERSION, first.version)
        world.settle()
        world.lose = lambda sent: False
        world.crash(home)
        world.until(lambda: call.done)
        assert call.reply().outcome == OUTCOME_STORED  # type: ignore[attr-defined]

    def test_where_the_home_reaches_too_few_the_node_that_was_asked_tries_it_itself(self) -> None:
        world = RegisterWorld(5, replication=5)
        home = world.home("k")
        asked, *others = (each for each in range(5) if each != home)
        for other in others:
            world.part(home, other)
        world.run(3)
        assert world.put_register(asked, "k", "1").outcome == OUTCOME_STORED
        assert world.found_at(asked, "k") == b"1"
        answer = world.done(world.write(home, "k", "2"))
        assert isinstance(answer, Failed)
        assert answer.code == Unavailable.code

    def test_more_than_a_row_can_bear_is_refused_before_anything_is_sent(self) -> None:
        world = RegisterWorld()
        home = world.home("k")
        world.lose = lambda sent: isinstance(sent.message, Promised)
        calls = [world.write(home, "k", f"{at}") for at in range(QUEUE_MAX + 10)]
        world.settle()
        refused = [call for call in calls if call.done]
        assert [failed(call).code for call in refused] == [Overloaded.code] * 9
        world.lose = lambda sent: False
        world.run(2.0)
        assert all(call.done for call in calls)


class TestRefused:
    @pytest.mark.parametrize(
        ("request_", "text"),
        [
            (Set(1, "default", b"k", b"v", 2, 500, 0, b"", condition=IF_ABSENT), "does not compare"),
            (
                Set(1, "once", b"k", b"v", 2, 500, 0, b"", condition=IF_VALUE, expected=b"x"),
                "does not compare",
            ),
            (Set(1, "default", b"k", b"v", Level.SERIAL, 500, 0, b""), "level serial is for registers"),
            (Set(1, "cas", b"k", b"v", Level.ANY, 500, 0, b""), "level any is refused"),
            (Set(1, "cas", b"k", b"v", 2, 500, 0, b"", condition=9), "no such condition"),
            (
                Set(1, "cas", b"k", b"v", 2, 500, 0, b"", condition=IF_ABSENT, expected=b"x"),
                "no such condition",
            ),
            (Set(1, "cas", b"k", b"v", 2, 500, 0, b"", condition=IF_VERSION, expected=b"x"), "malformed"),
            (Set(1, "cas", b"k", b"one", 2, 500, 0, b"", condition=ADD), "must be a whole number"),
            (
                Set(1, "cas", b"k", b"v", 2, 500, 0, b"", defer=True),
                "agree on each write to bucket 'cas', so none can be deferred",
            ),
            (
                Set(1, "agreed", b"k", b"v", Level.ANY, 500, 0, b""),
                "agree on each write to bucket 'agreed', so level any is refused",
            ),
            (
                Get(1, "agreed", b"k", 2, 500, b"", True, degrade_ms=60_000),
                r"agree on each write to bucket 'agreed', .* leave degrade and max_staleness out \(--d",
            ),
        ],
    )
    def test_what_makes_no_sense_is_refused_by_name(self, request_: Set | Get, text: str) -> None:
        world = RegisterWorld()
        call = world.ask(0, lambda number: request_._replace(id=number))
        world.settle()
        with pytest.raises(InvalidRequest, match=text):
            call.receipt()
        assert not world.sent(Prepare)

    def test_a_store_that_does_not_outlive_its_process_keeps_no_registers(self) -> None:
        world = World(3, durability="memory", logged=True, buckets={"cas": Rule.REGISTER})
        for level in (Level.QUORUM, Level.ONE):
            call = world.ask(0, lambda number: Set(number, "cas", b"k", b"v", level, 500, 0, b""))  # noqa: B023
            world.settle()
            with pytest.raises(InvalidRequest, match="its durability is memory"):
                call.receipt()


def test_a_write_that_two_nodes_propose_is_told_under_the_version_that_the_key_holds() -> None:
    """The home and the node that was asked lose sight of each other: each proposes it under a version of its
    own. The home's record is the one that is chosen; the other node finds it, and tells of it."""
    world = RegisterWorld(timeout_ms_max=10_000, reconcile=True)
    home, asked, other = world.replicas("k", "cas")
    first = world.put_register(home, "k", "0")
    world.settle()
    world.log.clear()
    kept, ballots = list[Sent](), dict[int, bytes]()

    def lose(sent: Sent) -> bool:
        message = sent.message
        if (
            not isinstance(message, Accept)
            or ballots.setdefault(sent.source, message.record[:16]) != (message.record[:16])
        ):
            return False
        kept.append(sent)  # the first record of each comes to nobody else, but late
        return True

    def late(source: int) -> None:
        found = next(sent for sent in kept if (sent.source, sent.target) == (source, other))
        world.ways[source, other].append(found.message)

    world.lose = lose
    call = world.write(asked, "k", "1", IF_VERSION, first.version, timeout_s=9.0)
    world.settle()
    world.part(asked, home)
    world.until(lambda: any(sent.source == asked for sent in kept), 8)
    late(home)  # and is refused: the home begins anew, under a later ballot
    world.until(lambda: any(isinstance(s.message, Prepare) and s.source == home for s in world.log), 5)
    world.settle()
    late(asked)
    world.until(lambda: call.done, 9)
    answer, held = call.reply(), world.done(world.seek(other, "k"))
    assert isinstance(answer, Written)
    assert isinstance(held, Got)
    assert (answer.outcome, held.value) == (OUTCOME_STORED, b"1")
    assert len(set(ballots)) == 2, "both have proposed it"
    assert answer.version == held.version


class TestReads:
    def test_at_one_a_replica_shows_what_it_has_learned(self) -> None:
        world = RegisterWorld()
        world.put_register(0, "k", "1")
        world.settle()
        world.isolate(2)
        assert world.home("k") != 2
        world.put_register(0, "k", "2")
        stale = world.done(world.seek(2, "k", Level.ONE))
        assert isinstance(stale, Got)
        assert stale.value == b"1"

    def test_serial_reads_go_on_while_one_replica_is_away(self) -> None:
        world = RegisterWorld()
        world.put_register(0, "k", "1")
        world.crash(2)
        world.run(5)
        assert world.found_at(0, "k") == world.found_at(1, "k") == b"1"
        assert world.put_register(1, "k", "2").outcome == OUTCOME_STORED

    def test_what_was_learned_while_a_replica_was_away_comes_to_it_by_an_exchange(self) -> None:
        world = RegisterWorld(reconcile=True)
        world.put_register(0, "k", "1")
        world.crash(2)
        world.run(5)
        world.put_register(1, "k", "2")
        world.start(2)
        world.until(lambda: world.values("k", "cas") == [b"2"] * 3)


class TestScans:
    def test_a_scan_shows_what_is_chosen_with_the_versions_that_a_get_shows(self) -> None:
        world = RegisterWorld()
        stored = {key: world.put_register(0, key, key.upper()) for key in ("a", "b", "c")}
        world.put_register(1, "b", "B2", IF_VALUE, b"B")
        world.done(world.remove(2, "c"))
        for at in range(3):
            for level in (Level.QUORUM, Level.SERIAL, Level.ALL):
                items, _ = world.done_page(world.scan(at, bucket="cas", level=level))
                assert [(item.key, item.value) for item in items] == [(b"a", b"A"), (b"b", b"B2")]
                assert items[0].version.encode() == stored["a"].version

    def test_what_is_accepted_and_not_learned_is_on_the_page(self) -> None:
        world = RegisterWorld()
        world.put_register(0, "a", "A")
        world.settle()
        world.lose = lambda sent: isinstance(sent.message, Learn)
        for key in ("a", "b"):
            world.put_register(world.home(key), key, "new")
        world.lose = lambda sent: False
        for at in range(3):
            items, _ = world.done_page(world.scan(at, bucket="cas"))
            assert [(item.key, item.value) for item in items] == [(b"a", b"new"), (b"b", b"new")]

    def test_at_one_it_shows_what_one_replica_has_learned(self) -> None:
        world = RegisterWorld()
        world.put_register(0, "a", "A")
        world.settle()
        items, _ = world.done_page(world.scan(1, bucket="cas", level=Level.ONE))
        assert [item.value for item in items] == [b"A"]


def test_a_write_without_a_proposal_gets_one() -> None:
    world = RegisterWorld()
    stored = world.put_register(0, "k", "1")
    assert stored.identity[:PROPOSAL_BYTES] != bytes(PROPOSAL_BYTES)


def test_peeks_are_asked_of_as_few_as_suffice() -> None:
    world = RegisterWorld(5, replication=5)
    world.put_register(0, "k", "1")
    world.settle()
    world.log.clear()
    world.found_at(0, "k")
    assert len(world.sent(Peek)) == 2
