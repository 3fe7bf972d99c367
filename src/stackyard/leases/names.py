"""The rules for ids, names and times; a value that breaks them never reaches the disk."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stackyard._util.durations import seconds
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection

ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)
ID_RULE: Final = "1 to 40 of a-z, 0-9, '_' and '-', the first a letter or digit"
# what only one copy can have: a kind, and after a colon which
EXCLUSIVE: Final = re.compile(r"[a-z][a-z-]{0,30}(:[A-Za-z0-9:._@-]{1,400})?", re.ASCII)
_FIRST: Final = "amber brave brisk calm clear coral early fair green keen light lively mild neat quick quiet".split()
_SECOND: Final = "acorn badger birch brook cedar crane finch heron lark maple otter pine raven river robin wren".split()
_TRIES: Final = 20  # of 250 names; a book with more leases than that gives a number instead
_WIDTH: Final = 60  # columns of a wrong value that a message shows


def check_id(what: str, text: object) -> str:
    """
    Return *text* if it is a valid id.

    Raises:
        UsageError: If it is not; the text names *what* and the rule.
    """
    if not isinstance(text, str) or not ID.fullmatch(text):
        raise UsageError(f"{what} must be {ID_RULE}, got {_shown(text)}")
    return text


def check_seconds(what: str, value: object) -> float:
    """
    Return *value*, a number of seconds or a time such as ``30s``, ``5m`` or ``1h30m``, in seconds.

    Raises:
        UsageError: If it is not a time, is 0, or is longer than 30 days.
    """
    return seconds(what, value)


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _WIDTH else f"{shown[: _WIDTH - 3]}..."


def made_up(taken: Collection[str | None]) -> str:
    """Return a name of two words that is not in *taken*, such as ``quiet-otter``."""
    import secrets

    for _ in range(_TRIES):
        name = f"{secrets.choice(_FIRST)}-{secrets.choice(_SECOND)}"
        if name not in taken:
            return name
    return f"lease-{secrets.token_hex(4)}"
