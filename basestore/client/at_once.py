"""At once: the same asked of several, each in a thread of its own, so that the slowest sets the pace.

Refuses to set a deadline: what is asked has one.
"""

from collections.abc import Callable, Sequence
from threading import Thread
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


def at_once(ask: Callable[[A], T], each: Sequence[A]) -> list[T]:
    """What each of them answers, in their order. Raises the first error among what they raise."""
    answers: dict[int, T] = {}
    errors: dict[int, BaseException] = {}

    def ask_one(place: int) -> None:
        try:
            answers[place] = ask(each[place])
        except BaseException as error:
            errors[place] = error
            raise

    # Of no concern to a program that ends meanwhile.
    threads = [Thread(target=ask_one, args=(place,), daemon=True) for place in range(len(each))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place in sorted(errors):
        raise errors[place]
    return [answers[place] for place in range(len(each))]
