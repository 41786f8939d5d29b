"""TOML tables: read once, value by value, and checked; what is wrong in a file is told all at once.

Knows no setting of any file. Pure.
"""

import math
from collections.abc import Collection
from typing import Any

from basestore.errors import ConfigurationError

MISTAKES_SHOWN = 10


class Mistakes:
    """What is wrong in one file. It is read to its end, so that who corrects it is told of all at once."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._found: list[str] = []

    def add(self, text: str) -> None:
        self._found.append(text)

    def end(self) -> None:
        """ConfigurationError if there were any so far; what follows may build on there being none."""
        shown = self._found[:MISTAKES_SHOWN]
        if len(self._found) > MISTAKES_SHOWN:
            shown.append(f"and {len(self._found) - MISTAKES_SHOWN} more mistakes")
        if shown:
            raise ConfigurationError(f"{self._source}: " + "\n    ".join(shown))


class Table:
    """A TOML table that is read once: values are checked, what nobody asked for is a mistake. In the place of
    a value that is wrong or lacking something of its kind is read."""

    def __init__(self, mistakes: Mistakes, name: str, values: Any) -> None:
        self._where = f"[{name}]"
        self.mistakes = mistakes
        self._known = isinstance(values, dict)  # else that is the one mistake
        self._values = dict(values) if self._known else {}
        if not self._known:
            mistakes.add(f"{self._where} is missing or not a table")

    def wrong(self, text: str) -> None:
        if self._known:
            self.mistakes.add(f"{self._where} {text}")

    def take(self, key: str, kind: type[Any], default: Any = None) -> Any:
        value = self._values.pop(key, default)
        if type(value) is kind:
            return value
        text = f"lacks {key!r}" if value is None else f"{key} = {value!r} must be of type {kind.__name__}"
        self.wrong(text)
        return kind() if default is None else default

    def number(self, key: str, default: int, low: int, high: float) -> int:
        if type(self._values.get(key)) is not int:
            return int(self.take(key, int, default))
        value = int(self._values.pop(key))
        if not low <= value <= high:
            bounds = f"lie between {low} and {high}" if high < math.inf else f"be {low} or more"
            self.wrong(f"{key} = {value} must {bounds}")
        return value

    def share(self, key: str, default: float) -> float:
        value = self._values.pop(key, default)
        if type(value) not in (int, float):
            self.wrong(f"{key} = {value!r} must be a number")
            return default
        if not 0 <= value <= 1:
            self.wrong(f"{key} = {value} must lie between 0 and 1")
        return float(value)

    def secret(self, key: str, length: int) -> bytes:
        given = type(self._values.get(key)) is str
        text: str = self.take(key, str)
        try:
            value = bytes.fromhex(text)
        except ValueError:
            value = b""
        if given and len(value) != length:
            self.wrong(f"{key} must be {length * 2} hexadecimal digits")
        return value

    def choice(self, key: str, choices: Collection[str], default: str | None = None) -> str:
        given = type(self._values.get(key)) is str
        text: str = self.take(key, str, default)
        if given and text not in choices:
            *first, last = choices
            self.wrong(f"{key} = {text!r}; use {', '.join(first)} or {last}")
        return text

    def end(self) -> None:
        if self._values:
            self.wrong(f"has unknown settings: {', '.join(sorted(self._values))}; remove or correct them")
