"""Mutants that may survive, each with the reason, as `survivors.yml` lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

FILE: Final = Path(__file__).with_name("survivors.yml")
_SQL: Final = re.compile(r'"(?:(?:SELECT|INSERT|UPDATE|DELETE|PRAGMA|BEGIN|COMMIT|SAVEPOINT|ROLLBACK)\b| AND ")')
_QUOTED: Final = re.compile(r"'[^']*'")  # a text inside a statement; its case counts
_ENCODING: Final = re.compile(r'\b(?:encoding=|(?:en|de)code\()"(?:ascii|utf-8)"', re.IGNORECASE)
UNNOTICED: Final = frozenset({"survived", "no tests"})
SAME: Final = "SQLite reads keywords and names in any case, and Python the names of encodings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    What one mutant changes.

    Attributes:
        function: The function, such as ``stackyard.cleanup.removal.remove`` or ``stackyard.leases.book.LeaseBook.get``.
        was: The changed lines of the source, without indentation, joined by a blank.
        now: The lines in their place.
    """

    function: str
    was: str
    now: str

    @classmethod
    def of(cls, mutant: str, diff: str) -> Change:
        """Read the change from the diff that mutmut shows for *mutant*."""
        lines = [line for line in diff.splitlines() if line.startswith(("-", "+"))]
        body = [line for line in lines if not line.startswith(("---", "+++"))]
        return cls(function=function_of(mutant), was=_joined(body, "-"), now=_joined(body, "+"))

    def __str__(self) -> str:
        return f"{self.function}\n    was: {self.was}\n    now: {self.now}"


def function_of(mutant: str) -> str:
    """Return the function that mutmut's name of a mutant means."""
    module, _, mangled = mutant.partition("__mutmut_")[0].rpartition(".")
    name = mangled.removeprefix("xǁ").replace("ǁ", ".") if mangled.startswith("xǁ") else mangled.removeprefix("x_")
    return f"{module}.{name}"


def _joined(lines: list[str], sign: str) -> str:
    return " ".join(line[1:].strip() for line in lines if line.startswith(sign))


def accepted() -> dict[str, list[dict[str, Any]]]:
    """Return what may survive, by function: ``was``, ``now`` (left out: any change of that line) and ``reason``."""
    return dict(yaml.safe_load(FILE.read_text()) or {})


def reason(change: Change, known: dict[str, list[dict[str, Any]]]) -> str | None:
    """Return why *change* may survive; None if it may not."""
    if _differs_in_case(change):
        return SAME
    for entry in known.get(change.function, []):
        if entry["was"] == change.was and entry.get("now", change.now) == change.now:
            return str(entry["reason"])
    return None


def _differs_in_case(change: Change) -> bool:
    """Say whether only the case of a statement in SQL has changed, outside its own texts, or of an encoding's name."""
    quoted = [_QUOTED.findall(text) for text in (change.was, change.now)]
    same = change.was.casefold() == change.now.casefold() and quoted[0] == quoted[1]
    return same and (bool(_SQL.search(change.was)) or _without_encoding(change.was) == _without_encoding(change.now))


def _without_encoding(text: str) -> str:
    return _ENCODING.sub("", text)
