"""What the documents show is what there is: the platform's tests, the picture of a run, and examples in Python."""

from __future__ import annotations

import ast
import html
import re
import sys
from pathlib import Path
from typing import Final

import pytest

from stackyard._util import process

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURE: Final = "docs/pictures/test-run.svg"
PLACES: Final = ("README.md", "docs/README.md", "docs/platform.md", PICTURE)
COUNT: Final = re.compile(r"(\d+) (?:passed|tests passed|tests of the running platform)")
EXAMPLE: Final = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOCUMENTS: Final = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def picture() -> str:
    return html.unescape((ROOT / PICTURE).read_text(encoding="utf-8")).replace("\N{NO-BREAK SPACE}", " ")


def test_documents_and_picture_name_as_many_tests_as_the_platform_has() -> None:
    words = [sys.executable, "-m", "pytest", "tests/platform", "--collect-only", "--quiet", "-p", "no:cacheprovider"]
    collected = process.run(words, cwd=ROOT, deadline=120).stdout.splitlines()[-1].split()[0]

    named = {place: COUNT.findall(picture() if place == PICTURE else (ROOT / place).read_text()) for place in PLACES}

    assert named == {place: [collected] for place in PLACES}


def test_the_picture_shows_the_run_of_the_readme() -> None:
    text = picture()
    lines = [line for line in re.findall(r"<text[^>]*>(.*?)</text>", text) if line not in {"", "..."}]

    assert lines[0] == "$ ./noxw --yes -s test"
    assert [line for line in lines[1:] if line not in README.splitlines()] == []
    assert len(lines) > 8


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_example_in_python_is_python(path: Path) -> None:
    for example in EXAMPLE.findall(path.read_text(encoding="utf-8")):
        ast.parse(example)
