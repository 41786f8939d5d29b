"""A node that answers those who ask what its cluster is; shared by the tests of this room."""

from collections.abc import Iterator

import pytest

from basestore.protocol.handshake import MemberRow
from tests.worlds.fakes import WELCOME, FakeNode, fake
from tests.worlds.told_topologies import Answers
from tests.worlds.topologies import founded


@pytest.fixture
def answers() -> Answers:
    return Answers(founded())


@pytest.fixture
def node(answers: Answers) -> Iterator[FakeNode]:
    # Where nobody listens: what each member says of itself is not known then.
    rows = [MemberRow(each.number, each.name, "127.0.0.1:1") for each in answers.topology.members]
    with fake(WELCOME._replace(members=rows), answer=answers) as started:
        yield started
