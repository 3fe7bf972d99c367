"""The records of a plan: what was changed for a copy, and what its user has to know or decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["copies", "one at a time", "not possible"]
Kind = Literal["port", "variable", "name", "network", "address", "volume", "image", "restart", "value", "site"]
Level = Literal["careful", "asks", "one at a time", "not possible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    One value of the model that a copy has otherwise.

    Attributes:
        kind: What was changed.
        place: Dotted path in the model.
        before: The value in the user's files.
        after: The value in the copy.
        why: The reason, for a person.
    """

    kind: Kind
    place: str
    before: str
    after: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """
    Something that a plan leaves as it is, and that its user has to know.

    Attributes:
        level: ``careful`` is only said; ``asks`` wants a decision; ``one at a time`` and ``not possible`` decide the
            verdict.
        place: Dotted path in the model.
        text: What it is.
        advice: What the user can do.
    """

    level: Level
    place: str
    text: str
    advice: str
