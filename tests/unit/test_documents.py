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
RECORD: Final = ROOT / "docs/completion_report.md"  # quotes the pages as they were at its measurement
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
BLOCK: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)
COMMENT: Final = re.compile(r"<!--.*?-->\s*", re.DOTALL)


def picture() -> str:
    return html.unescape((ROOT / PICTURE).read_text(encoding="utf-8")).replace("\N{NO-BREAK SPACE}", " ")


def test_documents_and_picture_name_as_many_tests_as_the_platform_has() -> None:
    words = [sys.executable, "-m", "pytest", "tests/platform", "--collect-only", "--quiet", "-p", "no:cacheprovider"]
    collected = process.run(words, cwd=ROOT, deadline=240).stdout.splitlines()[-1].split()[0]

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


def headings(path: Path) -> set[str]:
    """Return what a link to a heading of the page says after `#`."""
    found = HEADING.findall(BLOCK.sub("", path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path != RECORD], ids=lambda path: path.stem)
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    dead = []
    for link in LINK.findall(BLOCK.sub("", path.read_text(encoding="utf-8"))):
        name, _, heading = link.partition("#")
        target = path.parent / name if name else path
        if "://" not in link and (not target.exists() or (heading and heading not in headings(target))):
            dead.append(link)

    assert dead == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_page_begins_with_a_sentence_that_says_what_it_is_for(path: Path) -> None:
    title, text = COMMENT.sub("", path.read_text(encoding="utf-8")).split("\n", 1)

    assert title.startswith("# ")
    assert re.match(r"(\*\*)?[\w`]", text.lstrip()), "begins with a block, a table or a list"


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs/README.md"
    named = {(index.parent / link).resolve() for link in LINK.findall(index.read_text(encoding="utf-8"))}

    assert {path for path in DOCUMENTS if path.name != "README.md"} <= named
