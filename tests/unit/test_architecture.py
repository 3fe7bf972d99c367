"""docs/architecture.md names every module of the library."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import stackyard

FOLDER: Final = Path(stackyard.__file__).parent
PAGE: Final = (FOLDER.parents[1] / "docs/architecture.md").read_text(encoding="utf-8")


def modules() -> set[str]:
    return {path.stem for path in FOLDER.iterdir() if path.stem[0] != "_" and (path.suffix == ".py" or path.is_dir())}


def told() -> set[str]:
    table = PAGE.partition("## The modules")[2].partition("\n## ")[0]
    cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_the_table_of_modules_names_every_module_and_no_other() -> None:
    assert told() == modules()


def test_every_word_has_one_line() -> None:
    table = PAGE.partition("## Words")[2].partition("\n## ")[0]
    words = re.findall(r"^\| ([a-z ,]+) \|", table, re.MULTILINE)[1:]

    assert len(words) == len(set(words)) > 10
