"""The one rule for ids, and the one for durations; nothing that fails them reaches the disk."""

from __future__ import annotations

import math
import re
from typing import Final

from stackyard.errors import UsageError

ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)
ID_RULE: Final = "1 to 40 of a-z, 0-9, '_' and '-', the first a letter or digit"
LONGEST: Final = 30 * 86400.0  # seconds; a lease for longer is a forgotten one
_WIDTH: Final = 60  # columns of a wrong value that a message shows
_NUMBER: Final = re.compile(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?", re.ASCII)


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
    Return *value*, a number of seconds or its plain decimal text, as a float above 0 and up to 30 days.

    Raises:
        UsageError: If it is anything else: 0, negative, NaN, infinite, "08", "1e3", a boolean.
    """
    plain = bool(_NUMBER.fullmatch(value)) if isinstance(value, str) else type(value) in {int, float}
    seconds = float(str(value)) if plain else math.nan
    if not 0 < seconds <= LONGEST:
        raise UsageError(f"{what} must be seconds above 0 and up to {LONGEST:.0f}, got {_shown(value)}")
    return seconds


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _WIDTH else f"{shown[: _WIDTH - 3]}..."
