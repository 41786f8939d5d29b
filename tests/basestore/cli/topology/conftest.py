"""A node that answers those who ask what its cluster is; shared by the tests of this room."""

from collections.abc import Iterator

import pytest

from tests.worlds.fakes import FakeNode, fake
from tests.worlds.told_topologies import Answers
from tests.worlds.topologies import founded


@pytest.fixture
def answers() -> Answers:
    return Answers(founded())


@pytest.fixture
def node(answers: Answers) -> Iterator[FakeNode]:
    with fake(answer=answers) as started:
        yield started
