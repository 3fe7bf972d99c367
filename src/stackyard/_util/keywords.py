"""Options that a function takes by keyword and hands on: an unknown one is named, with the one that is meant."""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING, Any

from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def check(
    called: str, given: Iterable[str], *bodies: Callable[..., Any], meant: Mapping[str, str] | None = None
) -> None:
    """
    Refuse an option that no function takes.

    Args:
        called: What the caller called, for the message.
        given: The names of the options.
        bodies: The functions that take them, by keyword only.
        meant: Words that callers have for an option, each with its name.

    Raises:
        UsageError: If one is unknown; names the nearest, and all.
    """
    parameters = [one for body in bodies for one in inspect.signature(body).parameters.values()]
    known = sorted(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)
    for name in given:
        if name not in known:
            near = (meant or {}).get(name) or next(iter(difflib.get_close_matches(name, known, n=1)), "")
            proposed = f"did you mean {near!r}? " if near else ""
            raise UsageError(f"{called} takes no option {name!r}; {proposed}its options: {', '.join(known)}")
