"""The readiness of one service as a user configures it: `http: /healthz`, `tcp: 5432` and so on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from stackyard.project.environments.rules import hint as near

Kind = Literal["http", "ws", "tcp", "log", "exit", "running"]
KINDS: Final = ("http", "ws", "tcp", "log", "exit")
RUNNING: Final = "running"
RULE: Final = (
    'must be {http = "/path"}, {http = "PORT/path"}, {ws = "/path"}, {tcp = PORT}, {log = "REGULAR EXPRESSION"}, '
    '{exit = 0} or "running"'
)
_PATH: Final = re.compile(r"(?:([0-9]{1,5})(?=/))?(/[!-~]*)")
_HIGHEST: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """
    One hint.

    Attributes:
        kind: What to ask.
        value: A path for ``http`` and ``ws``, a regular expression for ``log``; else empty.
        port: The container's port; 0 if the hint names none.
    """

    kind: Kind
    value: str = ""
    port: int = 0

    def __str__(self) -> str:
        match self.kind:
            case "tcp":
                return f"tcp: {self.port}"
            case "exit":
                return "exit: 0"
            case "running":
                return RUNNING
        return f"{self.kind}: {self.port or ''}{self.value}"

    @classmethod
    def parse(cls, given: object) -> Hint:
        """
        Read the hint of one service.

        Args:
            given: ``"running"``, or a mapping with one entry, such as ``{"http": "/healthz"}`` or ``{"tcp": 5432}``.

        Raises:
            ValueError: If it is anything else; the text is the rule.
        """
        if given == RUNNING:
            return cls(kind="running")
        if isinstance(given, dict) and len(given) == 1:
            kind, value = next(iter(given.items()))
            if str(kind) not in KINDS:
                raise ValueError(f"{RULE}; {kind!r} is none of them{near(str(kind), KINDS)}")
            if (found := _read(kind, value)) is not None:
                return found
        raise ValueError(RULE)


def _read(kind: str, value: object) -> Hint | None:
    text = "" if isinstance(value, bool) else str(value)
    match kind:
        case "http" | "ws":
            found = _PATH.fullmatch(text)
            return Hint(kind=kind, value=found[2], port=_port(found[1] or "0", 0)) if found else None
        case "tcp":
            port = _port(text, 0)
            return Hint(kind=kind, port=port) if port else None
        case "exit":
            return Hint(kind=kind) if text == "0" else None
        case "log":
            return Hint(kind=kind, value=text) if text and _is_pattern(text) else None
    return None


def _port(text: str, otherwise: int) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) and 0 < int(text) <= _HIGHEST else otherwise


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True
