"""A node with a bug on purpose: one replica is a quorum to it. It shows what the checkers can see."""

from basestore.consistency import Level
from tests.cluster import detour


def required(level: Level, replicas: int) -> int:
    return 1


if __name__ == "__main__":
    Level.required = required  # type: ignore[assignment, method-assign]
    detour.main()
