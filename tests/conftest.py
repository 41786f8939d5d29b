"""What all tests may use: transcripts, and `--update`, which writes them anew."""

import pytest

from tests.worlds.transcripts import Transcribe, transcriber


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write the transcripts of conversations anew")


@pytest.fixture
def transcript(request: pytest.FixtureRequest) -> Transcribe:
    """The transcript that this test is held against: see tests/worlds/transcripts.py."""
    name = request.node.originalname.removeprefix("test_")
    file = request.path.parent / "transcripts" / f"{name}.txt"
    return transcriber(file, update=request.config.getoption("--update"))
