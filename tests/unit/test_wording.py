"""Texts for people use the words that people use today."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
OLD: Final = re.compile(r"\b(anew|whoever|thereof|hence|lest|aught|nobody|betwixt|whence)\b", re.IGNORECASE)
SKIPPED: Final = frozenset({"completion_report.md", "performance.md"})  # records of earlier runs and measurements


def texts() -> Iterator[tuple[str, str]]:
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        if path.name not in SKIPPED:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def test_no_text_for_people_has_a_word_of_former_times() -> None:
    found = [f"{where}: {word}" for where, text in texts() for word in OLD.findall(text)]

    assert found == []
