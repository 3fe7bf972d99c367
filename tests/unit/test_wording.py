"""Texts for people use the words that people use today."""

from __future__ import annotations

import ast
import io
import itertools
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
OLD: Final = re.compile(
    r"\b(anew|whoever|thereof|hence|lest|aught|nobody|betwixt|whence|for ever|stood already|told|is given a line|"
    r"mend(?:s|ed|ing)?|heed(?:s|ed)?|knock(?:s|ed)?|doors?|pass(?:es|ed)? over|stands? (?:for|on))\b",
    re.IGNORECASE,
)
TEST: Final = re.compile(r"def (test_\w+)")
SKIPPED: Final = frozenset({"completion_report.md", "performance.md"})  # records of earlier runs and measurements


def texts() -> Iterator[tuple[str, str]]:
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        if path.name not in SKIPPED:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def remarks() -> Iterator[tuple[str, str]]:
    """Give what those read who change the code: docstrings, comments and the names of tests."""
    for path in itertools.chain.from_iterable((ROOT / folder).rglob("*.py") for folder in ("src", "tests", "scripts")):
        name, text = path.relative_to(ROOT), path.read_text(encoding="utf-8")
        yield str(name), " ".join(TEST.findall(text)).replace("_", " ")
        if OLD.search(text):  # to read a file word by word takes long
            for token in tokenize.generate_tokens(io.StringIO(text).readline):
                if token.type == tokenize.COMMENT:
                    yield f"{name}:{token.start[0]}", token.string
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{name}: {getattr(node, 'name', '')}", ast.get_docstring(node) or ""


def test_no_text_for_people_has_a_word_of_former_times() -> None:
    found = [f"{where}: {word}" for where, text in texts() for word in OLD.findall(text)]

    assert found == []


def test_no_remark_in_the_code_has_one_either() -> None:
    found = [f"{where}: {word}" for where, text in remarks() for word in OLD.findall(text)]

    assert found == []
