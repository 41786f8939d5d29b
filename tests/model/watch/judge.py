"""Judge: sees all that was ever taken, and says what a mark must not be told before."""

from collections.abc import Iterable

from tests.model.watch.store import Record, Store, Version


class Violation(AssertionError):
    """A law was broken."""


class Judge:
    """`taken`: by key, all versions that a store has taken from a client, and that were not lost."""

    def __init__(self) -> None:
        self.taken: dict[str, dict[Version, Record]] = {}

    def note(self, key: str, record: Record) -> None:
        self.taken.setdefault(key, {})[record.version] = record

    def wiped(self, store: Store, others: Iterable[Store]) -> None:
        """What only that store held is lost, and nobody is to be told of it."""
        others = list(others)
        for key, versions in self.taken.items():
            held = [each.rows[key].record.version for each in others if key in each.rows]
            stable = max(each.stable for each in others)
            for version in [
                each for each in versions if each[0] > stable and each > max(held, default=(0, 0))
            ]:
                del versions[version]

    def mark(self, stable: int, heard: dict[str, Version]) -> None:
        """Every change up to this stamp was heard, or what has replaced it."""
        for key, versions in self.taken.items():
            due = max((each for each in versions if each[0] <= stable), default=(0, 0))
            # Who has heard nothing of a key need not hear that it was deleted, nor what was before that.
            deleted = any(record.value is None for each, record in versions.items() if each >= due)
            if heard.get(key, (0, 0)) < due and (key in heard or not deleted):
                raise Violation(f"{key} {due} was not heard before the mark {stable}; {heard.get(key)} was")

    def end(self, heard: dict[str, Version], stores: Iterable[Store]) -> None:
        """Nothing is under way any more: what was heard is what is held."""
        for store in stores:
            for key, held in store.rows.items():
                if heard.get(key, (0, 0)) < held.record.version and (key in heard or held.record.value):
                    raise Violation(f"{key} {held.record.version} was never heard; {heard.get(key)} was")
