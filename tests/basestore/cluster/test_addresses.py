"""Where a member is looked for: by its own word, and by the file in turn.

Covers `cluster/addresses.py`.
"""

import pytest

from basestore.cluster.addresses import Addresses
from basestore.config import Member
from basestore.errors import ConfigurationError

FILED, TOLD = "10.0.0.2:7400", "10.0.0.9:7400"


def addresses() -> Addresses:
    return Addresses([Member(0, "n1", "10.0.0.1:7400"), Member(1, "n2", FILED)], 0)


def test_a_member_that_has_told_nothing_is_looked_for_where_the_file_says() -> None:
    known = addresses()
    for _ in range(3):
        assert known.to_dial(1) == known.known(1) == FILED
        known.missed(1)


def test_a_member_that_has_told_its_address_is_looked_for_there_and_if_missed_where_the_file_says() -> None:
    known = addresses()
    known.missed(1)
    assert known.tell(1, TOLD)
    tried = []
    for _ in range(3):
        tried.append(known.to_dial(1))
        known.missed(1)
        assert not known.tell(1, TOLD)  # told again, it changes nothing
    assert tried == [TOLD, FILED, TOLD]
    assert known.known(1) == FILED  # no proof yet
    assert known.known(0) == "10.0.0.1:7400"


def test_where_it_was_found_it_is_looked_for_again() -> None:
    known = addresses()
    known.tell(1, TOLD)
    known.missed(1)
    assert [known.to_dial(1) for _ in range(3)] == [FILED] * 3


def test_what_is_no_address_is_refused_and_changes_nothing() -> None:
    known = addresses()
    for wrong in ("", "nowhere", "10.0.0.9:0", "http://10.0.0.9:7400"):
        with pytest.raises(ConfigurationError, match="is not an address"):
            known.tell(1, wrong)
    assert known.to_dial(1) == known.known(1) == FILED


class TestWhatOthersAreTold:
    """This node is n2: n1 dials it, and it dials n3 and n4."""

    FILED = tuple(f"10.0.0.{number}:7400" for number in (1, 2, 3, 4))

    def known(self, at: Addresses) -> list[str]:
        return [at.known(index) for index in range(4)]

    @pytest.fixture
    def at(self) -> Addresses:
        members = [Member(n, f"n{n + 1}", address) for n, address in enumerate(self.FILED)]
        return Addresses(members, 1)

    def test_the_word_of_a_member_that_is_dialled_counts_when_it_has_proven_to_be_there(
        self, at: Addresses
    ) -> None:
        at.tell(2, TOLD)
        assert self.known(at) == list(self.FILED)
        at.found(2, TOLD)
        assert at.known(2) == TOLD
        at.tell(2, self.FILED[0])
        assert at.known(2) == TOLD
        at.found(2, self.FILED[2])
        assert self.known(at) == list(self.FILED)

    def test_the_word_of_a_member_that_dials_counts_unless_another_is_there(self, at: Addresses) -> None:
        at.tell(0, TOLD)
        assert at.known(0) == TOLD
        for taken in self.FILED[1:]:
            at.tell(0, taken)
            assert self.known(at) == list(self.FILED)
        at.found(3, TOLD)  # it has left its own
        assert self.known(at) == [self.FILED[3], *self.FILED[1:3], TOLD]
        at.found(3, self.FILED[3])
        assert self.known(at) == list(self.FILED)

    def test_where_one_has_proven_to_be_another_is_no_more(self, at: Addresses) -> None:
        at.found(2, TOLD)
        at.found(3, TOLD)
        assert self.known(at) == [*self.FILED[:3], TOLD]

    def test_of_two_that_tell_one_address_it_is_the_first_ones_and_two_may_change_theirs(self) -> None:
        at = Addresses([Member(n, f"n{n + 1}", address) for n, address in enumerate(self.FILED)], 3)
        at.tell(1, TOLD)
        at.tell(0, TOLD)
        assert self.known(at) == [self.FILED[0], TOLD, *self.FILED[2:]]
        at.tell(1, self.FILED[0])
        at.tell(0, self.FILED[1])
        assert self.known(at) == [self.FILED[1], self.FILED[0], *self.FILED[2:]]

    def test_of_one_that_has_come_the_log_says_where_it_is_and_where_one_has_left_others_may_be(
        self, at: Addresses
    ) -> None:
        at.found(2, TOLD)
        members = {0: self.FILED[0], 1: self.FILED[1], 3: self.FILED[3], 9: self.FILED[2]}
        at.adopt(members)
        assert (at.known(9), at.to_dial(9)) == (self.FILED[2], self.FILED[2])
        at.tell(0, TOLD)  # where the one was that has left
        assert at.known(0) == TOLD
        at.found(9, "10.0.0.8:7400")
        at.adopt(members)  # a later epoch, the same members
        assert at.known(9) == "10.0.0.8:7400"
        assert at.known(0) == TOLD

    def test_where_the_log_comes_to_say_another_address_it_is_looked_for_there(self, at: Addresses) -> None:
        members = dict(enumerate(self.FILED))
        at.adopt(members)
        at.tell(0, "10.0.0.8:7400")
        at.found(3, "10.0.0.7:7400")
        at.tell(3, "10.0.0.7:7400")
        at.missed(2)
        at.adopt({**members, 0: TOLD, 2: "10.0.0.5:7400", 3: "10.0.0.6:7400"})
        assert [at.to_dial(number) for number in (2, 3)] == ["10.0.0.5:7400", "10.0.0.6:7400"]
        # Others are told where it was found last, as long as it is not found elsewhere.
        assert self.known(at) == [TOLD, self.FILED[1], "10.0.0.5:7400", "10.0.0.7:7400"]
        at.found(3, "10.0.0.6:7400")
        assert at.known(3) == "10.0.0.6:7400"
        at.adopt({**members, 0: TOLD, 2: "10.0.0.5:7400", 3: "10.0.0.6:7400"})  # a later epoch
        at.tell(2, "10.0.0.4:7401")  # the member knows better
        assert at.to_dial(2) == "10.0.0.4:7401"

    def test_where_the_file_and_the_log_differ_from_the_start_the_log_is_tried_in_turn(
        self, at: Addresses
    ) -> None:
        at.adopt({**dict(enumerate(self.FILED)), 2: TOLD})
        tried = []
        for _ in range(3):
            tried.append(at.to_dial(2))
            at.missed(2)
        assert tried == [self.FILED[2], TOLD, self.FILED[2]]
        assert at.known(2) == self.FILED[2]

    def test_who_has_told_its_address_before_the_log_was_known_is_looked_for_there(
        self, at: Addresses
    ) -> None:
        at.tell(2, "10.0.0.8:7400")
        at.adopt({**dict(enumerate(self.FILED)), 2: TOLD})
        assert at.to_dial(2) == "10.0.0.8:7400"
