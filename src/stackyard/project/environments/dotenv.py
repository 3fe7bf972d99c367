"""
Env files: the subset that Docker Compose, a POSIX shell (`set -a; . file`) and stackyard read in the same way.

A line is blank, a comment, or `[export ]NAME=value [# comment]`. A value is bare (letters, digits and any of
`. , : / @ % + = ^ _ -`), 'in single quotes', or "in double quotes".
Nothing is expanded; a text that Compose or a shell would expand is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from stackyard.errors import ConfigError
from stackyard.project.environments.files import read_text

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 64 * 1024
ASSIGNMENT: Final = re.compile(r"(?:export[ \t]+)?([^=]*)=(.*)")
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
VALUE: Final = re.compile(
    # a comment needs a value before it: Compose reads the comment in "NAME= # words" as the value
    r"""(?:'(?P<single>[^'\\]*)'|"(?P<double>[^"\\$`]*)"|(?P<bare>[A-Za-z0-9_.,:/@%+=^-]+))(?:[ \t]+(?:\#.*)?)?|"""
)
SECRET: Final = re.compile(r"PASSWORD|SECRET|TOKEN|KEY|_URL", re.IGNORECASE)


def read_env(path: Path, shown: str) -> dict[str, str]:
    """
    Return the variables of the env file at *path*, called *shown* in messages.

    Raises:
        ConfigError: If the file cannot be read or a line is outside the subset.
    """
    return parse_env(read_text(path, shown, limit=MAX_BYTES), shown)


def parse_env(text: str, shown: str) -> dict[str, str]:
    """
    Return the variables in *text*, in file order.

    Raises:
        ConfigError: If a line is outside the subset or a variable is set twice.
    """
    found: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        name, value = _assignment(line, shown, f"line {number}")
        if name in found:
            raise ConfigError(shown, f"line {number}", name, "a variable may be set only once")
        found[name] = value
    return found


def _assignment(line: str, shown: str, where: str) -> tuple[str, str]:
    match = ASSIGNMENT.fullmatch(line)
    if not match or not NAME.fullmatch(match[1]):
        raise ConfigError(shown, where, _safe(line), "must be NAME=value, with no space around the equals sign")
    value = VALUE.fullmatch(match[2])
    if not value:
        rule = "a value with spaces or special characters needs 'single quotes'; backslashes are not allowed"
        raise ConfigError(shown, f"{where}, {match[1]}", _safe(line), rule)
    return match[1], value["single"] or value["double"] or value["bare"] or ""


def _safe(line: str) -> str:
    return "(hidden, it may hold a secret)" if SECRET.search(line) else line
