"""A topology is what entries make of it. Covers `topology/topology.py`, and steps in `repair/seats.py`."""

from dataclasses import replace

import cbor2
import pytest

from basestore.config import MEMBERS_MAX, NUMBER_MAX, UNNUMBERED, BucketOptions
from basestore.repair.rule import Rule
from basestore.repair.seats import Seats, Stage
from basestore.topology.changes import (
    SETTINGS_BYTES_MAX,
    AddMember,
    Change,
    CreateBucket,
    DropBucket,
    ForgetDropped,
    Founded,
    SetMember,
    SetPlan,
    SetSeats,
    SetSetting,
    Standing,
    TakeIn,
    UnsetSetting,
)
from basestore.topology.entries import UnknownEntry, content_of
from basestore.topology.judgement import apply
from basestore.topology.topology import (
    BUCKETS_MAX,
    DROPPED_MAX,
    OTHER_CHANGE,
    OUTCOMES_MAX,
    Bucket,
    Dropped,
    MemberEntry,
    Outcome,
    Topology,
    later_label,
)
from tests.worlds.topologies import FWW, LWW, NO_OPTIONS, Log, cluster, entry, found, founded

CARTS = CreateBucket("carts", LWW, NO_OPTIONS)


def same_but(topology: Topology, other: Topology) -> bool:
    """Whether they differ in nothing but the epoch and what became of entries."""
    return replace(topology, epoch=0, outcomes={}) == replace(other, epoch=0, outcomes={})


def refused(log: Log, change: Change) -> str:
    """The error of a change that changes nothing."""
    before = log.topology
    outcome = log.add(change)
    assert outcome.error
    assert outcome.epoch == before.epoch + 1 == log.topology.epoch
    assert same_but(before, log.topology)
    return outcome.error


def done(log: Log, change: Change) -> Outcome:
    before = log.topology
    outcome = log.add(change)
    assert outcome.error == ""
    assert not same_but(before, log.topology)
    return outcome


# --- epochs --------------------------------------------------------------------------------------


def test_the_epoch_is_the_index_of_the_last_entry() -> None:
    topology = founded()
    assert apply(topology.pass_by(2), 3, entry(CARTS)).epoch == 3


@pytest.mark.parametrize("index", [0, 1, 3])
def test_an_entry_that_is_not_the_next_is_an_error(index: int) -> None:
    topology = founded()
    with pytest.raises(ValueError, match="goes on with another entry"):
        apply(topology, index, entry(CARTS))
    with pytest.raises(ValueError, match="goes on with another entry"):
        topology.pass_by(index)


@pytest.mark.parametrize("data", [b"", b"\xff", cbor2.dumps([1, 0, 1, 5, 1]), cbor2.dumps({}), b"\xa0" * 9])
def test_what_is_no_entry_to_any_release_changes_nothing_but_the_epoch(data: bytes) -> None:
    topology = founded()
    assert apply(topology, 2, data) == topology.pass_by(2)


@pytest.mark.parametrize("said", [[2], [1, 0, 1, 5, 99], [1, 0, 1, 5, 1, "b", "newest-wins", [0, 0, 0, 0]]])
def test_what_only_a_later_release_can_apply_is_not_passed_by(said: list[object]) -> None:
    with pytest.raises(UnknownEntry, match="run the release that wrote it"):
        apply(founded(), 2, cbor2.dumps(said))


# --- until the group is complete -------------------------------------------------------------------


@pytest.mark.parametrize("change", [CARTS, DropBucket("x"), SetSetting("k", "v"), UnsetSetting("k")])
def test_what_users_ask_for_waits_until_the_group_is_complete(change: Change) -> None:
    topology = found(cluster())
    assert not topology.founded
    early = apply(topology, 1, entry(change, 7))
    outcome = early.outcome(7)
    assert outcome is not None
    assert outcome.error.startswith("the metadata group is not complete yet: ")
    assert same_but(topology, early)
    assert "not complete" not in refused_or_empty(
        apply(apply(early, 2, entry(Founded())), 3, entry(change, 8)), 8
    )


def refused_or_empty(topology: Topology, identity: int) -> str:
    outcome = topology.outcome(identity)
    assert outcome is not None
    return outcome.error


def test_members_and_what_nobody_asked_for_need_not_wait() -> None:
    topology = found(cluster())
    moved = apply(topology, 1, entry(SetMember(1, address="10.0.0.9:7400"), 7))
    assert moved.members[0].address == "10.0.0.9:7400"
    assert "carts" in apply(topology, 1, entry(CARTS)).buckets


# --- said again ------------------------------------------------------------------------------------


def test_an_entry_that_is_said_again_is_applied_once_and_keeps_its_outcome() -> None:
    log = Log()
    log.append(entry(CARTS, 7))
    first = log.topology.outcome(7)
    assert first == Outcome(2, "", 3, content_of(CARTS))
    log.append(entry(DropBucket("carts"), 8))
    log.append(entry(CARTS, 7))
    assert "carts" not in log.topology.buckets
    assert (log.topology.epoch, log.topology.outcome(7)) == (4, first)


def test_under_the_identity_of_another_change_nothing_happens() -> None:
    log = Log()
    log.append(entry(CARTS, 7))
    made = log.topology.outcome(7)
    log.append(entry(DropBucket("carts"), 7))
    assert "carts" in log.topology.buckets
    assert log.topology.outcome(7) == made  # of the first
    assert made is not None
    other = made.of(content_of(DropBucket("carts")))
    assert (other.epoch, other.error, other.number) == (2, OTHER_CHANGE, UNNUMBERED)
    assert made.of(content_of(CARTS)) == made


def test_a_refusal_stands_though_it_would_make_sense_later() -> None:
    log = Log()
    log.append(entry(DropBucket("carts"), 7))
    log.append(entry(CARTS, 8))
    log.append(entry(DropBucket("carts"), 7))
    assert "carts" in log.topology.buckets
    assert "no bucket is called 'carts'" in refused_or_empty(log.topology, 7)


def test_the_last_outcomes_are_kept_and_unnamed_entries_have_none() -> None:
    topology = founded()
    for index in range(2, OUTCOMES_MAX + 3):
        topology = apply(topology, index, entry(SetSetting("k", f"{index}"), index))
    assert len(topology.outcomes) == OUTCOMES_MAX
    assert (topology.outcome(2), topology.outcome(3)) == (
        None,
        Outcome(3, "", content=content_of(SetSetting("k", "3"))),
    )
    again = apply(topology, topology.epoch + 1, entry(SetSetting("k", "last")))
    assert (again.outcomes, again.settings["k"]) == (topology.outcomes, "last")


# --- buckets -----------------------------------------------------------------------------------------


def test_a_bucket_gets_a_number_a_label_and_its_options() -> None:
    log = Log()
    assert done(log, CreateBucket("carts", LWW, [60, 1, 100, 10])).number == 3
    bucket = log.topology.buckets["carts"]
    assert (bucket.number, bucket.rule, bucket.label) == (3, Rule.LAST_WRITE_WINS, b"\0\0\0\0\3")
    assert bucket.options == BucketOptions(60, True, 100, 10)


def test_a_name_that_was_dropped_comes_back_under_another_number_and_label() -> None:
    log = Log(founded(cluster(buckets={"carts": Rule.FIRST_WRITE_WINS})))
    assert log.topology.buckets["carts"].label == b"carts"
    assert done(log, DropBucket("carts")).number == 3
    assert log.topology.dropped == (Dropped(3, b"carts", 2, "carts"),)
    assert done(log, CARTS).number == 4
    assert log.topology.buckets["carts"].label == later_label(4)
    done(log, DropBucket("carts"))
    assert done(log, CARTS).number == 5


def test_a_number_is_never_given_twice_though_its_bucket_is_forgotten() -> None:
    log = Log()
    done(log, CARTS)
    done(log, DropBucket("carts"))
    assert log.topology.dropped_since == 3
    done(log, ForgetDropped([3, 99]))
    assert log.topology.dropped == ()
    assert log.topology.dropped_since == 3  # who stands before it still must not be heard
    assert done(log, CARTS).number == 4


def test_why_a_bucket_is_not_created() -> None:
    log = Log()
    done(log, CARTS)
    assert refused(log, CARTS) == "bucket 'carts' exists, with this rule: use it, or drop it first"
    assert "exists with rule last-write-wins, which it keeps for life: use another name" in refused(
        log, CreateBucket("carts", FWW, NO_OPTIONS)
    )
    assert "exists" in refused(log, CreateBucket("once", FWW, NO_OPTIONS))


def test_why_a_bucket_is_not_dropped() -> None:
    log = Log()
    assert "no bucket is called 'carts': see `basestore bucket list`" in refused(log, DropBucket("carts"))
    for name in ("default", "once"):
        assert "is built in, and cannot be dropped: delete its keys" in refused(log, DropBucket(name))


def test_there_are_a_thousand_buckets_at_most() -> None:
    topology = founded()
    many = {f"b{n}": Bucket(n, f"b{n}", Rule.LAST_WRITE_WINS, later_label(n)) for n in range(3, BUCKETS_MAX)}
    log = Log(replace(topology, buckets={**topology.buckets, **many}, last_bucket=BUCKETS_MAX - 1))
    done(log, CARTS)
    assert len(log.topology.buckets) == BUCKETS_MAX
    error = refused(log, CreateBucket("one more", LWW, NO_OPTIONS))
    assert error == "there are 1000 buckets, and no more are allowed: drop one first"
    done(log, DropBucket("b3"))
    done(log, CreateBucket("one more", LWW, NO_OPTIONS))


def test_a_thousand_dropped_buckets_at_most_wait_to_be_purged() -> None:
    many = tuple(Dropped(n, later_label(n), 1, f"b{n}") for n in range(3, DROPPED_MAX + 2))
    log = Log(replace(founded(), dropped=many, last_bucket=DROPPED_MAX + 1))
    for name in ("a", "b"):
        done(log, CreateBucket(name, LWW, NO_OPTIONS))
    done(log, DropBucket("a"))
    assert len(log.topology.dropped) == DROPPED_MAX
    assert "are not purged on all members yet: see `basestore status`" in refused(log, DropBucket("b"))
    done(log, ForgetDropped([3]))
    done(log, DropBucket("b"))


# --- settings ----------------------------------------------------------------------------------------


def test_settings_are_set_changed_and_unset() -> None:
    log = Log()
    done(log, SetSetting("k", "v"))
    done(log, SetSetting("k", "w"))
    assert log.topology.settings == {"k": "w"}
    done(log, UnsetSetting("k"))
    assert log.topology.settings == {}
    assert refused(log, UnsetSetting("k")) == "there is no setting 'k': see `basestore settings get`"


def test_all_settings_together_have_64_kib() -> None:
    log = Log()
    done(log, SetSetting("k", "ü" * ((SETTINGS_BYTES_MAX - 3) // 2)))
    done(log, SetSetting("l", ""))
    error = refused(log, SetSetting("l", "xxx"))
    assert f"would have {SETTINGS_BYTES_MAX + 1} bytes" in error
    assert "unset some" in error
    done(log, SetSetting("l", "xx"))
    done(log, SetSetting("k", "small"))
    done(log, SetSetting("l", "xxx"))


# --- members -----------------------------------------------------------------------------------------


def joining(name: str, address: str) -> AddMember:
    return AddMember(name, address, "z", 2, b"s" * 16)


def test_a_member_gets_the_next_number_ever() -> None:
    log = Log(founded(cluster(3, step=3)))
    assert done(log, joining("n4", "10.0.0.4:7400")).number == 8
    assert log.topology.members[-1] == MemberEntry(
        8, "n4", "10.0.0.4:7400", "z", 2, Standing.JOINING, b"s" * 16
    )
    done(log, SetMember(8, standing="left"))
    assert done(log, joining("n4", "10.0.0.4:7400")).number == 9
    assert [each.number for each in log.topology.members] == [1, 4, 7, 8, 9]
    assert log.topology.member(8) == log.topology.members[3]
    assert log.topology.member(5) is None


def test_numbers_of_members_end() -> None:
    config = cluster(2, step=NUMBER_MAX - 1)
    assert config.members[-1].number == NUMBER_MAX
    log = Log(founded(config))
    error = refused(log, joining("n3", "10.0.0.3:7400"))
    assert error == f"the numbers of members end at {NUMBER_MAX}, and all were given: found a new cluster"


def test_why_a_member_is_not_added() -> None:
    log = Log()
    assert "a member is called 'n2' already: choose another" in refused(log, joining("n2", "10.0.0.4:7400"))
    assert "a member is at 10.0.0.2:7400 already" in refused(log, joining("n4", "10.0.0.2:7400"))


def test_there_are_a_thousand_members_at_most() -> None:
    many = tuple(MemberEntry(n, f"n{n}", f"h{n}:1") for n in range(1, MEMBERS_MAX))
    log = Log(replace(founded(), members=many))
    assert done(log, joining("n1000", "h1000:1")).number == MEMBERS_MAX
    assert "no more are allowed: remove one first" in refused(log, joining("one-more", "h:1"))
    done(log, SetMember(MEMBERS_MAX, standing="left"))
    done(log, joining("one-more", "h:1"))


def test_of_a_member_only_what_is_said_is_changed() -> None:
    log = Log()
    done(log, SetMember(2, standing="draining"))
    done(log, SetMember(2, address="h:1"))
    done(log, SetMember(2, zone="z", weight=3))
    done(log, SetMember(2, store=b"s" * 16))
    assert log.topology.members[1] == MemberEntry(2, "n2", "h:1", "z", 3, Standing.DRAINING, b"s" * 16)
    done(log, SetMember(2, zone="", store=b""))
    assert log.topology.members[1] == MemberEntry(2, "n2", "h:1", "", 3, Standing.DRAINING)


def test_why_a_member_is_not_changed() -> None:
    log = Log()
    assert refused(log, SetMember(9, zone="z")) == "no member has the number 9: see `basestore topology`"
    assert "another member is at 10.0.0.3:7400: give n2" in refused(
        log, SetMember(2, address="10.0.0.3:7400")
    )
    assert "holds partitions yet: drain it first" in refused(log, SetMember(2, standing="left"))
    assert log.add(SetMember(2, address="10.0.0.2:7400")).error == ""  # its own


def test_who_has_left_is_gone_for_good_and_its_name_and_address_are_free() -> None:
    log = Log()
    done(log, joining("n4", "h:1"))
    done(log, SetMember(4, standing="left"))
    assert "n4 has left, for good: let it join anew" in refused(log, SetMember(4, standing="member"))
    done(log, SetMember(3, address="h:1"))
    done(log, joining("n4", "h:2"))


def test_who_is_to_be_given_partitions_has_not_left() -> None:
    """Such a plan nobody could carry out, nor read again."""
    log = Log()
    done(log, joining("n4", "h:1"))
    old = log.topology.seats[0].old
    done(log, SetPlan(log.topology.epoch, [[0, *sorted((*old[:-1], 4))]]))
    assert "n4 is to be given partitions yet" in refused(log, SetMember(4, standing="left"))
    assert Topology.decode(log.topology.encode()) == log.topology


# --- seats -------------------------------------------------------------------------------------------


def seats(partition: int, stage: Stage, old: tuple[int, ...], new: tuple[int, ...]) -> SetSeats:
    return SetSeats([Seats(0, stage, old, new).row(partition)])


def moving() -> tuple[Log, tuple[int, ...], tuple[int, ...]]:
    """A log with a fourth member, who of partition 0 is to take the last place: and S and T of it."""
    log = Log()
    done(log, joining("n4", "h:1"))
    old = log.topology.seats[0].old
    return log, old, (*old[:-1], 4)


def test_seats_are_changed_in_three_steps() -> None:
    log, old, new = moving()
    other = log.topology.seats[1]
    for stage, held, holding in ((Stage.FILL, old, new), (Stage.JOINT, old, new), (Stage.STILL, new, new)):
        done(log, seats(0, stage, held, holding))
        assert log.topology.seats[0] == Seats(log.topology.epoch, stage, held, holding)
        assert log.topology.seats[0].since == log.topology.epoch
    assert log.topology.seats[1] == other
    assert log.topology.seats[1].since == 0


@pytest.mark.parametrize("stages", [[Stage.FILL], [Stage.FILL, Stage.JOINT]])
def test_a_change_can_be_cancelled_until_its_end(stages: list[Stage]) -> None:
    log, old, new = moving()
    for stage in stages:
        done(log, seats(0, stage, old, new))
    done(log, seats(0, Stage.STILL, old, old))
    assert log.topology.seats[0] == Seats.still(old, log.topology.epoch)
    done(log, seats(0, Stage.FILL, old, new))


def test_no_stage_is_left_out_and_nobody_is_exchanged_on_the_way() -> None:
    log, old, new = moving()
    third = (*old[:-1], ({1, 2, 3} - set(old)).pop())
    still, busy, other = (
        "the first stage of a change is to fill",
        "they can become still as",
        "another change",
    )
    assert still in refused(log, seats(0, Stage.JOINT, old, new))
    assert still in refused(log, seats(0, Stage.STILL, new, new))
    assert still in refused(log, seats(0, Stage.STILL, old, old))
    assert "plan the change anew" in refused(log, seats(0, Stage.FILL, new, old))
    assert "hold it already" in refused(log, seats(0, Stage.FILL, old, old))
    done(log, seats(0, Stage.FILL, old, new))
    assert busy in refused(log, seats(0, Stage.STILL, new, new))
    assert busy in refused(log, seats(0, Stage.STILL, old, new))
    assert busy in refused(log, seats(0, Stage.STILL, new, old))
    assert other in refused(log, seats(0, Stage.FILL, third, new))
    assert other in refused(log, seats(0, Stage.FILL, old, old))
    assert other in refused(log, seats(0, Stage.JOINT, old, third))
    done(log, seats(0, Stage.FILL, old, third))  # turned to others
    done(log, seats(0, Stage.FILL, old, new))
    assert other in refused(log, seats(0, Stage.JOINT, third, new))
    assert "at fill already" in refused(log, seats(0, Stage.FILL, old, new))
    done(log, seats(0, Stage.JOINT, old, new))
    assert "at joint already" in refused(log, seats(0, Stage.FILL, old, new))
    assert "at joint already" in refused(log, seats(0, Stage.JOINT, old, new))
    assert other in refused(log, seats(0, Stage.FILL, third, new))
    assert busy in refused(log, seats(0, Stage.STILL, third, third))
    done(log, seats(0, Stage.STILL, new, new))
    assert still in refused(log, seats(0, Stage.STILL, old, old))


def test_who_is_to_hold_a_partition_is_a_member_and_there_once() -> None:
    log, old, _ = moving()
    assert "no member, or has left" in refused(log, seats(0, Stage.FILL, old, (*old, 9)))
    assert "twice: name each once" in refused(log, seats(0, Stage.FILL, old, (*old, 4, 4)))
    assert "0 members are to hold it" in refused(log, seats(0, Stage.FILL, old, ()))
    for number in range(5, 17):
        done(log, joining(f"n{number}", f"h{number}:1"))
    assert "16 members are to hold it, and 1 to 15" in refused(
        log, seats(0, Stage.FILL, old, tuple(range(1, 17)))
    )
    done(log, SetMember(4, standing="left"))
    assert "no member, or has left" in refused(log, seats(0, Stage.FILL, old, (*old, 4)))
    done(log, seats(0, Stage.FILL, old, (*range(1, 4), *range(5, 17))))


def test_who_comes_or_goes_holds_the_partition_until_that_has_ended() -> None:
    log, old, new = moving()
    done(log, seats(0, Stage.FILL, old, new))
    assert "holds partitions yet" in refused(log, SetMember(4, standing="left"))


def test_seats_of_several_partitions_are_changed_together_or_not_at_all() -> None:
    log, old, new = moving()
    two = log.topology.seats[1].old
    rows = [Seats(0, Stage.FILL, old, new).row(0), Seats(0, Stage.JOINT, two, (4,)).row(1)]
    assert refused(log, SetSeats(rows)).startswith("partition 1: ")
    assert "there is no partition 4: they end at 3" in refused(log, seats(4, Stage.FILL, old, new))
    assert "there is no partition -1" in refused(log, seats(-1, Stage.FILL, old, new))
    rows[1] = Seats(0, Stage.FILL, two, (4,)).row(1)
    done(log, SetSeats(rows))
    assert log.topology.seats[0].since == log.topology.seats[1].since == log.topology.epoch


# --- which store a member runs on, and who is an acceptor --------------------------------------------

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


def bound(log: Log, number: int = 1, store: bytes = A) -> Log:
    done(log, SetMember(number, store=store))
    return log


def held(topology: Topology, number: int) -> set[int]:
    return {at for at, seats in enumerate(topology.seats) if number in seats.both}


def test_the_first_store_that_a_member_is_bound_to_changes_nothing_else() -> None:
    log = Log()
    before = log.topology
    bound(log)
    member = log.topology.member(1)
    assert member is not None
    assert member.store == A
    unbound = replace(log.topology, members=before.members)
    assert same_but(before, unbound)
    log.add(SetMember(1, store=A, zone="z"))  # the same again
    assert (log.topology.barred, log.topology.seats) == ({}, before.seats)


def test_one_that_has_come_to_another_store_is_barred_wherever_it_has_a_seat() -> None:
    log = bound(Log(founded(cluster(4))))
    before = log.topology
    theirs = held(before, 1)
    assert 0 < len(theirs) < len(before.seats)
    bound(log, 1, B)
    after = log.topology
    assert after.barred == dict.fromkeys(theirs, frozenset((1,)))
    for at, seats in enumerate(after.seats):
        assert seats == (before.seats[at]._replace(since=after.epoch) if at in theirs else before.seats[at])
    assert after.came == {}  # its seat it has kept
    bound(log, 1, C)  # once more, before it was taken in
    assert log.topology.barred == after.barred
    assert {log.topology.seats[at].since for at in theirs} == {log.topology.epoch}


def test_a_member_that_is_bound_to_nothing_any_more_is_barred_too() -> None:
    log = bound(bound(Log()), 1, b"")
    assert set(log.topology.barred) == held(log.topology, 1)
    bound(log, 1, B)
    assert set(log.topology.barred) == held(log.topology, 1)


def test_who_comes_is_barred_as_well_and_keeps_the_epoch_at_which_it_came() -> None:
    log = bound(Log(founded(cluster(3, replication=1))), 3)
    (old,) = log.topology.seats[0].old
    new = 3 if old != 3 else 2
    bound(log, new, B)
    done(log, SetSeats([Seats(0, Stage.FILL, (old,), (new,)).row(0)]))
    came = log.topology.epoch
    bound(log, new, C)
    seats = log.topology.seats[0]
    assert (seats.stage, seats.old, seats.new) == (Stage.FILL, (old,), (new,))
    assert seats.since == log.topology.epoch > came
    assert log.topology.came[0] == {new: came}
    assert log.topology.barred[0] == {new}
    done(log, SetSeats([Seats.still((old,)).row(0)]))  # it gives its seat up
    assert 0 not in log.topology.barred


def test_one_that_leaves_is_not_barred_any_more() -> None:
    log = bound(bound(Log(founded(cluster(3, replication=1, partitions=1)))), 1, B)
    (old,) = log.topology.seats[0].old
    other = next(each for each in (1, 2, 3) if each != old)
    bound(bound(log, old, A), old, C)
    assert log.topology.barred[0] == {old}
    for seats in (
        Seats(0, Stage.FILL, (old,), (other,)),
        Seats(0, Stage.JOINT, (old,), (other,)),
        Seats.still((other,)),
    ):
        done(log, SetSeats([seats.row(0)]))
    assert log.topology.barred == {}
    done(log, SetMember(old, standing="left"))
    assert log.topology.barred == {}


def test_who_is_taken_in_is_an_acceptor_since_then() -> None:
    log = bound(bound(bound(bound(Log(founded(cluster(3, replication=3)))), 1, B), 2, A), 2, B)
    before = log.topology
    assert before.barred == dict.fromkeys(range(4), frozenset((1, 2)))
    done(log, TakeIn([[0, 1], [1, 1, 2]]))
    after = log.topology
    assert after.barred == {0: {2}, 2: {1, 2}, 3: {1, 2}}
    assert [seats.since for seats in after.seats] == [
        after.epoch, after.epoch, before.seats[2].since, before.seats[3].since,
    ]  # fmt: skip
    done(log, TakeIn([[0, 2], [2, 1, 2], [3, 1, 2]]))
    assert (log.topology.barred, log.topology.came) == ({}, {})


def test_why_nobody_is_taken_in() -> None:
    log = bound(bound(Log(founded(cluster(4, replication=1)))), 1, B)
    theirs = held(log.topology, 1)
    at = min(theirs)
    other = next(each for each in range(4) if each not in theirs)
    error = "member n1 has no seat in partition %s: nothing is to be done"
    assert refused(log, TakeIn([[at, 1], [other, 1]])) == error % other
    assert refused(log, TakeIn([[9, 1]])) == "there is no partition 9: they end at 3"
    assert refused(log, TakeIn([[at, 9]])).startswith(f"member number 9 has no seat in partition {at}")
    done(log, TakeIn([[at, 1]]))
    assert (
        refused(log, TakeIn([[at, 1]])) == f"member n1 is not barred in partition {at}: nothing is to be done"
    )


def test_who_knows_nothing_of_serial_buckets_can_read_what_is_told_without_them() -> None:
    log = bound(bound(Log()), 1, B)
    done(log, CreateBucket("cas", "register", NO_OPTIONS))
    done(log, CARTS)
    told = log.topology.without_serial()
    assert (set(told.buckets), told.barred) == ({"default", "once", "carts"}, {})
    assert cbor2.loads(told.encode())[0] == 3
    assert Topology.decode(told.encode()) == told


def test_a_bucket_that_every_cluster_has_later_is_dropped_only_where_it_has_another_rule() -> None:
    log = Log()
    done(log, CreateBucket("cas", LWW, NO_OPTIONS))
    done(log, DropBucket("cas"))
    done(log, CreateBucket("cas", "register", NO_OPTIONS))
    assert "'cas' is built in, and cannot be dropped: delete its keys" in refused(log, DropBucket("cas"))
