"""Reading the engine's JSON: each value is checked where it is read, so that a wrong one has a place and a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

T = TypeVar("T")
NAMES: Final = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}
WIDTH: Final = 60  # characters of a wrong value that a message shows


class AnswerError(ValueError):
    """A value of an answer is missing or of the wrong kind."""


@dataclass(frozen=True, slots=True)
class Part:
    """
    One value of an answer, with its place.

    Attributes:
        value: What the engine sent.
        place: Dotted path inside the answer; empty for the whole of it.
    """

    value: Any
    place: str = ""

    def get(self, key: str) -> Part:
        """
        Return a member of an object; its value is None where the object has none, or null.

        Raises:
            AnswerError: If this is not an object.
        """
        place = f"{self.place}.{key}" if self.place else key
        return Part(self._as(dict).get(key), place)

    def text(self, key: str, default: str | None = None) -> str:
        """
        Return a member that is a text.

        Raises:
            AnswerError: If it is something else, or missing without a *default*.
        """
        return self._member(key, str, default)

    def whole(self, key: str, default: int | None = None) -> int:
        """
        Return a member that is a whole number.

        Raises:
            AnswerError: If it is something else, or missing without a *default*.
        """
        return self._member(key, int, default)

    def truth(self, key: str, *, default: bool | None = None) -> bool:
        """
        Return a member that is true or false.

        Raises:
            AnswerError: If it is something else, or missing without a *default*.
        """
        return self._member(key, bool, default)

    def items(self) -> Iterator[Part]:
        """
        Give the elements of a list; null is an empty one inside an answer, not as the whole of it.

        Raises:
            AnswerError: If this is something else.
        """
        found = [] if self.value is None and self.place else self._as(list)
        return (Part(value, f"{self.place}[{number}]") for number, value in enumerate(found))

    def members(self) -> Iterator[tuple[str, Part]]:
        """
        Give the members of an object; null is an empty one inside an answer, not as the whole of it.

        Raises:
            AnswerError: If this is something else.
        """
        found = {} if self.value is None and self.place else self._as(dict)
        return ((key, Part(value, f"{self.place}.{key}")) for key, value in found.items())

    def texts(self) -> Mapping[str, str]:
        """
        Return an object of texts, such as labels.

        Raises:
            AnswerError: If this is something else.
        """
        return {key: part._as(str) for key, part in self.members()}  # noqa: SLF001 - one of our own

    def words(self) -> tuple[str, ...]:
        """
        Return a list of texts.

        Raises:
            AnswerError: If this is something else.
        """
        return tuple(part._as(str) for part in self.items())  # noqa: SLF001 - one of our own

    def _member(self, key: str, kind: type[T], default: T | None) -> T:
        found = self.get(key)
        return default if found.value is None and default is not None else found._as(kind)  # noqa: SLF001 - as above

    def _as(self, kind: type[T]) -> T:
        if type(self.value) is not kind:  # a truth is no number here, whatever Python says
            shown = repr(self.value)
            shown = shown if len(shown) <= WIDTH else f"{shown[:WIDTH]}…"
            raise AnswerError(f"{self.place or 'the answer'} must be {NAMES[kind]}, got {shown}")
        return self.value
