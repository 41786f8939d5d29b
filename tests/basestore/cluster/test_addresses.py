"""Where a member is looked for: by its own word, and by the file in turn.

Covers `cluster/addresses.py`.
"""

import pytest

from basestore.cluster.addresses import Addresses
from basestore.config import Member
from basestore.errors import ConfigurationError

FILED, TOLD = "10.0.0.2:7400", "10.0.0.9:7400"


def addresses() -> Addresses:
    return Addresses([Member(0, "n1", "10.0.0.1:7400"), Member(1, "n2", FILED)])


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
    assert known.known(1) == TOLD
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
