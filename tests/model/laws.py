"""Laws: what the judge of a model demands, and what is raised where it does not hold."""


class Violation(Exception):
    """The protocol, or its model, is wrong."""


def demand(truth: object, law: str, *details: object) -> None:
    if not truth:
        raise Violation(f"{law}: {', '.join(map(str, details))}"[:300])
