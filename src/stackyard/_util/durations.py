"""Lengths of time as people write and read them: ``30``, ``30s``, ``5m``, ``1h30m``, ``250ms``."""

from __future__ import annotations

import math
import re
from typing import Final

from stackyard.errors import UsageError

LONGEST: Final = 30 * 86400.0  # seconds; a lease for longer is a forgotten one
UNITS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER: Final = r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,6})?"
_PLAIN: Final = re.compile(_NUMBER, re.ASCII)
_PARTS: Final = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?", re.ASCII)
_PART: Final = re.compile(rf"({_NUMBER})(ms|[dhms])", re.ASCII)
_WIDTH: Final = 60  # columns of a wrong value that a message shows


def parsed(text: str) -> float | None:
    """
    Return the seconds that *text* says: a plain number of seconds, or numbers with units, the longest unit first.

    None for anything else: ``08``, ``1e3``, ``5 m``, ``30s1h``, nothing.
    """
    if _PLAIN.fullmatch(text):
        return float(text)
    if not text or not _PARTS.fullmatch(text):
        return None
    return math.fsum(float(number) * UNITS[unit] for number, unit in _PART.findall(text))


def seconds(what: str, value: object, *, most: float = LONGEST) -> float:
    """
    Return the seconds that *value*, a number or text, says; above 0 and up to *most*.

    Args:
        what: The option or setting, for the message.
        value: Seconds as a number, or text as `parsed` reads it.
        most: The longest that makes sense, in seconds.

    Raises:
        UsageError: If it is anything else; the text names *what*, the rule and the value.
    """
    text = value if isinstance(value, str) else str(value) if type(value) in {int, float} else ""
    found = float(text) if text is not value and text else parsed(text)
    if found is None or not 0 < found <= most:
        shown = repr(value)
        cut = shown if len(shown) <= _WIDTH else f"{shown[: _WIDTH - 3]}..."
        raise UsageError(f"{what} {rule(most)}, got {cut}")
    return found


def rule(most: float) -> str:
    """Return what a time up to *most* seconds must be, for a message."""
    return f"must be a time such as 30s, 5m or 1h30m, above 0 and up to {said(most)}"


def said(length: float) -> str:
    """Return *length*, in seconds, in its one or two largest units: ``250 ms``, ``12.5 s``, ``1 h 30 min``."""
    if length < 1:
        return f"{length * 1000:.0f} ms"
    if length < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{length:.3g} s"
    whole = round(length)
    for unit, size, lower, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            count, rest = divmod(whole, size)
            return f"{count} {unit}" + (f" {rest // part} {lower}" if rest >= part else "")
    return f"{whole} s"


RULE: Final = rule(LONGEST)
