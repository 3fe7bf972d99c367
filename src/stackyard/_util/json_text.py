"""JSON from outside: a text that Python cannot read, or that is nested too deeply for what follows, is one error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

DEEPEST: Final = 100  # levels; Python itself copies, shows and writes about 300


class TooDeepError(ValueError):
    """A text is nested too deeply."""

    def __init__(self) -> None:
        super().__init__(f"nested more than {DEEPEST} levels deep")


def read(text: str | bytes) -> Any:
    """
    Return what a JSON text says.

    Raises:
        ValueError: If it is damaged, is no UTF-8, has a number of thousands of digits, or is nested too deeply.
    """
    try:
        found = json.loads(text)
    except RecursionError:
        raise TooDeepError from None
    check_depth(found)
    return found


def check_depth(content: object) -> None:
    """
    Refuse what has more than `DEEPEST` objects and lists inside one another.

    Raises:
        TooDeepError: If it has.
    """
    level = _holding([content])
    for _ in range(DEEPEST):
        level = _holding(part for one in level for part in (one.values() if isinstance(one, dict) else one))
    if level:
        raise TooDeepError


def _holding(parts: Iterable[object]) -> list[dict[Any, Any] | list[Any]]:
    return [part for part in parts if isinstance(part, dict | list)]
