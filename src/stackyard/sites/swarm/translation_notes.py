"""What a translation drops, changes and refuses, each in one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Note:
    """
    One line about one place of a model.

    Attributes:
        place: Dotted path in the model.
        does: What happens to it.
        text: What it becomes, or why it is left out.
    """

    place: str
    does: Literal["dropped", "changed", "refused"]
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" if self.does == "refused" else f"{self.place} is {self.does}: {self.text}"


@dataclass(slots=True)
class Notes:
    """The lines of one translation, in the order of the model."""

    changed: list[Note] = field(default_factory=list)
    refused: list[Note] = field(default_factory=list)

    def drop(self, place: str, why: str) -> None:
        """Say that something is left out."""
        self.changed.append(Note(place, "dropped", why))

    def change(self, place: str, becomes: str) -> None:
        """Say that something becomes something else."""
        self.changed.append(Note(place, "changed", becomes))

    def refuse(self, place: str, why: str) -> None:
        """Say that a Swarm cannot have it."""
        self.refused.append(Note(place, "refused", why))
