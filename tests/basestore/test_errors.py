"""Errors cross process boundaries as they are: pickled by process pools and task queues, copied by tools."""

import concurrent.futures
import copy
import importlib
import multiprocessing
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import basestore
from basestore import errors
from basestore.repair.version import Version

VERSION = Version(1 << 40, 2, 3)
# What each kind is made of, where that is more than a text.
MADE_OF: dict[type[errors.BasestoreError], tuple[Any, ...]] = {
    errors.DamagedRecord: (b"row", "damaged"),
    errors.VersionLost: ("lost", VERSION),
    errors.OutcomeUnknown: ("unknown", VERSION, None),
    errors.Unavailable: (3, 2, True),
    errors.Overloaded: ("too much", 0.35),
    errors.ReplicaFailure: ("refused", {"n1": "full", "n2": "closed"}, VERSION),
    errors.WriteTimeout: ("late", 1, 2, VERSION),
    errors.ReadTimeout: ("late", None, None, None),
}


def kinds(root: type[errors.BasestoreError] = errors.BasestoreError) -> Iterator[type[errors.BasestoreError]]:
    """The root and all that the product derives from it, wherever that is."""
    if root.__module__.startswith("basestore") and not root.__name__.startswith("_"):
        yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


for found in pkgutil.walk_packages(basestore.__path__, "basestore."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)


def made(kind: type[errors.BasestoreError]) -> errors.BasestoreError:
    error = kind(*MADE_OF.get(kind, ("text",)))
    error.reason_beside = "kept"  # type: ignore[attr-defined]
    error.add_note("a note")
    return error


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_every_error_is_pickled_and_copied_as_it_is(kind: type[errors.BasestoreError]) -> None:
    error = made(kind)
    protocols = range(2, pickle.HIGHEST_PROTOCOL + 1)
    copies = [pickle.loads(pickle.dumps(error, protocol)) for protocol in protocols]
    for again in [*copies, copy.copy(error), copy.deepcopy(error)]:
        assert type(again) is kind
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
        assert again.definite == error.definite


def refuse() -> None:
    raise errors.Unavailable(3, 2)


def test_a_pool_of_processes_hands_an_error_on_and_goes_on() -> None:
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(errors.Unavailable, match="3 replicas are required") as refused:
            pool.submit(refuse).result()
        assert (refused.value.required, refused.value.alive) == (3, 2)
        assert pool.submit(abs, -1).result() == 1


def test_what_is_overloaded_says_when_to_try_again_on_both_sides_of_a_connection() -> None:
    error = errors.Overloaded("too much", 0.35)
    assert str(error) == "too much. Try again in 0.35 s"
    details = [str(word) for word in error.details()]
    again = errors.revive(error.code, str(error), None, details)
    assert isinstance(again, errors.Overloaded)
    assert (str(again), again.retry_after) == (str(error), 0.35)
    plain = errors.Overloaded("too much")
    assert (str(plain), plain.retry_after, plain.details()) == ("too much", 0.0, [])
    for said, heard in (("-5", 0.0), ("99999999999999999999", errors.RETRY_MS_MAX / 1e3)):
        revived = errors.revive(error.code, "x", None, [said])
        assert isinstance(revived, errors.Overloaded)
        assert revived.retry_after == heard


@pytest.mark.parametrize(
    ("required", "alive", "told"),
    [
        (1, 0, "1 replica is required and 0 are alive;"),
        (2, 1, "2 replicas are required and 1 is alive;"),
        (3, 2, "3 replicas are required and 2 are alive;"),
    ],
)
def test_one_is_said_as_one(required: int, alive: int, told: str) -> None:
    assert told in str(errors.Unavailable(required, alive))
