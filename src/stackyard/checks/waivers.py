"""Waivers: findings that may stay, each with a reason and a last day."""

from __future__ import annotations

import datetime as dt
import fnmatch
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from stackyard.errors import ConfigError
from stackyard.project.environments.files import read_text
from stackyard.project.environments.rules import mapping
from stackyard.project.environments.yaml_tree import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from stackyard.checks.records import Outcome

FILE: Final = "envs/waivers.yaml"
MAX_BYTES: Final = 64 * 1024
KEYS: Final = ("check", "target", "reason", "until")
SHORTEST_REASON: Final = 10  # characters; less explains nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """Leave to stay until a last day; in *target*, `*` matches any text."""

    check: str
    target: str
    reason: str
    until: dt.date

    def covers(self, check: str, target: str) -> bool:
        """Tell whether it is about *check* on *target*."""
        return check == self.check and fnmatch.fnmatchcase(target, self.target)


def load(root: Path, known: Iterable[str], *, today: dt.date | None = None) -> list[Waiver]:
    """
    Read the project's waivers; without the file there are none. *known* are the ids of all checks, *today* is in UTC.

    Raises:
        ConfigError: If one is malformed, has expired, or names no check.
    """
    if not (root / FILE).exists():
        return []
    top = mapping(FILE, "", parse_yaml(read_text(root / FILE, FILE, limit=MAX_BYTES), FILE), ("waivers",))
    rows = top["waivers"]
    if not isinstance(rows, list):
        raise ConfigError(FILE, "waivers", rows, "must be a list")
    day = today or dt.datetime.now(dt.UTC).date()
    return [_waiver(f"waivers.{number}", row, frozenset(known), day) for number, row in enumerate(rows)]


def _waiver(key: str, row: Any, known: frozenset[str], today: dt.date) -> Waiver:
    if not isinstance(row, dict) or set(row) != set(KEYS):
        raise ConfigError(FILE, key, row, f"must have the keys {', '.join(KEYS)}")
    if row["check"] not in known:
        raise ConfigError(FILE, f"{key}.check", row["check"], "must be a check of docs/checks.md")
    if not isinstance(row["target"], str) or not row["target"]:
        raise ConfigError(FILE, f"{key}.target", row["target"], "must name a target as reports do")
    if not isinstance(row["reason"], str) or len(row["reason"]) < SHORTEST_REASON:
        raise ConfigError(FILE, f"{key}.reason", row["reason"], "must be a reason that explains")
    until = _day(row["until"])
    if until is None:
        raise ConfigError(FILE, f"{key}.until", row["until"], "must be a day such as 2027-03-31")
    if until < today:
        raise ConfigError(
            FILE, f"{key}.until", str(until), "the waiver has expired; fix the finding or give a later day"
        )
    return Waiver(check=row["check"], target=row["target"], reason=row["reason"], until=until)


def _day(value: Any) -> dt.date | None:
    try:
        return dt.date.fromisoformat(str(value))
    except ValueError:
        return None


def apply(waivers: Sequence[Waiver], outcomes: Iterable[Outcome]) -> list[Outcome]:
    """
    Mark what is waived.

    Raises:
        ConfigError: If a waiver's check looked at its target and found nothing: it must go.
    """
    marked = [_marked(waivers, outcome) for outcome in outcomes]
    for number, waiver in enumerate(waivers):
        looks = [outcome for outcome in marked if waiver.covers(outcome.check, outcome.target)]
        if looks and not any(outcome.findings for outcome in looks):
            raise ConfigError(FILE, f"waivers.{number}.target", waiver.target, "nothing is left to waive; remove it")
    return marked


def _marked(waivers: Sequence[Waiver], outcome: Outcome) -> Outcome:
    waiver = next((each for each in waivers if each.covers(outcome.check, outcome.target)), None)
    if waiver is None:
        return outcome
    why = f"{waiver.reason} (until {waiver.until})"
    return replace(outcome, findings=tuple(replace(each, waived=why) for each in outcome.findings))
