"""docs/architecture.md names every package of the library, in the order of their imports."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import stackyard

FOLDER: Final = Path(stackyard.__file__).parent
PAGE: Final = (FOLDER.parents[1] / "docs/architecture.md").read_text(encoding="utf-8")
# Programs have environments made from settings, and settings have times in them: these two share a floor.
FLOOR: Final = frozenset({"errors", "_util", "settings"})

LONGEST: Final = 400  # lines of a module, which is about one noun


def packages() -> set[str]:
    found = (path for path in FOLDER.iterdir() if path.suffix == ".py" or (path.is_dir() and list(path.glob("*.py"))))
    return {path.stem for path in found} - {"__init__", "__main__"}


def told() -> list[str]:
    table = PAGE.partition("## The packages")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    """Return the packages that a file imports anywhere in it, for types too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "stackyard":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stackyard."):
            found.add(package(node.module or ""))
        elif isinstance(node, ast.Import):
            found |= {package(alias.name) for alias in node.names if alias.name.startswith("stackyard.")}
    return found & packages()


def test_the_table_of_packages_names_every_package_and_no_other() -> None:
    assert sorted(told()) == sorted(packages())


def test_each_package_imports_only_what_stands_above_it() -> None:
    order, wrong = told(), []
    for path in FOLDER.rglob("*.py"):
        own = path.relative_to(FOLDER).with_suffix("").parts[0]
        if own not in {"__init__", "__main__"}:
            above = {*order[: order.index(own) + 1], *(FLOOR if own in FLOOR else ())}
            wrong += [f"{path.relative_to(FOLDER)} imports {name}" for name in imported(path) - above]

    assert wrong == []


def imported_to_run(path: Path) -> set[str]:
    """Return the full names of what a file imports anywhere in it, but not for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    found = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return {f"{node.module}.{alias.name}" for node in found for alias in node.names}


def inner_packages() -> dict[Path, dict[str, set[str]]]:
    """Return for each folder its packages, and the others of them that each imports."""
    found: dict[Path, dict[str, set[str]]] = {}
    for inner in sorted(path.parent for path in FOLDER.glob("*/**/__init__.py") if path.parent.parent != FOLDER):
        names = {name for path in inner.rglob("*.py") for name in imported_to_run(path)}
        outer = ".".join(("stackyard", *inner.parent.relative_to(FOLDER).parts, ""))
        below = {name.removeprefix(outer).split(".")[0] for name in names if name.startswith(outer)}
        found.setdefault(inner.parent, {})[inner.name] = below - {inner.name}
    return found


def test_the_packages_inside_a_package_import_each_other_in_one_direction() -> None:
    found = inner_packages()

    assert {"leases", "stacks"} <= {folder.name for folder in found}
    for graph in found.values():
        TopologicalSorter({name: below & graph.keys() for name, below in graph.items()}).prepare()  # raises at a circle


def test_a_package_has_more_than_one_module() -> None:
    alone = [path for path in FOLDER.rglob("__init__.py") if len(list(path.parent.rglob("*.py"))) == 2]

    assert alone == []


def test_no_module_is_long() -> None:
    lengths = {
        str(path.relative_to(FOLDER)): len(path.read_text(encoding="utf-8").splitlines())
        for path in FOLDER.rglob("*.py")
    }

    assert {name: length for name, length in lengths.items() if length >= LONGEST} == {}


def test_every_word_has_one_line() -> None:
    table = PAGE.partition("## Words")[2].partition("\n## ")[0]
    words = re.findall(r"^\| ([a-z ,]+) \|", table, re.MULTILINE)[1:]

    assert len(words) == len(set(words)) > 10


def test_documents_name_only_files_that_exist() -> None:
    root = FOLDER.parents[1]
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    skipped = {"CHANGELOG.md", "completion_report.md"}  # what was true then
    named = {
        (page.name, path)
        for page in pages
        if page.name not in skipped
        for path in re.findall(r"`((?:src/stackyard|tests|scripts)/[a-z0-9_/]+\.py)`", page.read_text(encoding="utf-8"))
    }

    assert len(named) > 10
    assert [(page, path) for page, path in sorted(named) if not (root / path).exists()] == []
