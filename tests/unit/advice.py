"""Every command line that the project tells a user to type: in messages, help and documents."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import at_site
from stackyard.cli import console
from stackyard.cli.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from invoke.collection import Collection

    from stackyard.cli.task import Command

CLI: Final = "stackyard.cli"
ROOT: Final = Path(__file__).parents[2]
PLACE: Final = "dev"  # what stands where a message puts in a name: an environment, a session and a lease can have it
OF_CONSOLE: Final = rf"{console.NAME} (?:{'|'.join(console.namespace().tasks)})"
STARTS: Final = rf"(?:invoke (?:[a-z]+\.[a-z]+|doctor)|\./noxw|nox -s|{OF_CONSOLE})"
QUOTED: Final = re.compile(rf"(['`])({STARTS}\b[^'`\n]*)\1")  # a message or a document names a command
CONSOLE: Final = re.compile(rf"^\s*(?:\$ )?({STARTS}\b.*)$", re.MULTILINE)  # a block to copy shows it
BLOCK: Final = re.compile(r"^```(?:console|sh|bash)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
TABLE: Final = "src/stackyard/cli/commands.py"  # the lines that the library's texts put in
HISTORY: Final = frozenset(["CHANGELOG.md", "docs/completion_report.md"])  # what was typed then; written by a command


@dataclass(frozen=True, slots=True)
class Advice:
    """
    One command line.

    Attributes:
        text: The line, names filled in.
        where: File that says it.
    """

    text: str
    where: str


def found() -> list[Advice]:
    """Return every command line, each once for a file."""
    return sorted({*_in_code(), *_in_documents()}, key=lambda advice: (advice.where, advice.text))


def _in_code() -> Iterator[Advice]:
    folders = ("src", "scripts")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    for path in [*files, ROOT / "noxfile.py", ROOT / "noxw"]:
        for text in _texts(ast.parse(path.read_text(encoding="utf-8"))):
            yield from (Advice(line, str(path.relative_to(ROOT))) for line in _commands(text))
    for line in [*COMMANDS.values(), *console.COMMANDS.values()]:
        yield Advice(re.sub(r"\{flavour\}", "alpine", re.sub(r"\{(name|environment)\}", PLACE, line)), TABLE)


def _texts(tree: ast.AST) -> Iterator[str]:
    """Return every text of a program; what an f-string puts in is a made-up name."""
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else PLACE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == at_site.__name__:
            yield from (f"'{text}'" for text in _texts(node.args[0]))


def told_by(collection: Collection, *, without: str = "") -> Iterator[str]:
    """
    Return what the tasks of *collection* can say: their help, and texts of what they reach in `cli` *without* a module.

    Other packages name no commands, as `test_no_library_module_names_a_command` holds.
    """
    bodies = [task.body for task in _tasks(collection)]
    yield from (task.usage("") for task in _tasks(collection))
    reached, queue = set[tuple[str, str]](), [(body.__module__, body.__name__) for body in bodies]
    while queue:
        module, name = place = queue.pop()
        tree = _definitions(module).get(name)
        if tree is None or place in reached or module == without:
            continue
        reached.add(place)
        yield from _texts(_without_docstring(tree))
        queue += _called(module, tree)


def _tasks(collection: Collection) -> list[Command]:
    return [*collection.tasks.values(), *(task for inner in collection.collections.values() for task in _tasks(inner))]


@functools.cache
def _module(name: str) -> ast.Module:
    return ast.parse((ROOT / "src" / name.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8"))


@functools.cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """Return the functions and constants of a module of `cli`."""
    if not module.startswith(f"{CLI}.") or not (ROOT / "src" / module.replace(".", "/")).with_suffix(".py").is_file():
        return {}
    found: dict[str, ast.stmt] = {}
    for node in _module(module).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def _without_docstring(tree: ast.stmt) -> ast.AST:
    if isinstance(tree, ast.FunctionDef) and ast.get_docstring(tree):
        return ast.Module(tree.body[1:], [])
    return tree


def _called(module: str, tree: ast.stmt) -> Iterator[tuple[str, str]]:
    """Give each thing of `cli` that a function or constant names: its module's own, or one that is imported."""
    imports = [node for top in (_module(module), tree) for node in ast.walk(top) if isinstance(node, ast.ImportFrom)]
    taken = {alias.asname or alias.name: (node.module or "", alias.name) for node in imports for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield taken.get(node.id, (module, node.id))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in taken:
            yield ".".join(taken[node.value.id]), node.attr


def _in_documents() -> Iterator[Advice]:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        where = str(path.relative_to(ROOT))
        if where in HISTORY:
            continue
        text = path.read_text(encoding="utf-8")
        blocks = [line for block in BLOCK.findall(text) for line in CONSOLE.findall(block)]
        yield from (Advice(line, where) for line in [*_commands(text), *map(_plain, blocks)])


def _commands(text: str) -> list[str]:
    return [_plain(match[2]) for match in QUOTED.finditer(text)]


def _plain(line: str) -> str:
    """Return a line without what follows the command: a synopsis, a comment, an explanation, a pipe, a full stop."""
    line = re.sub(r"\bNAME\b", PLACE, line)
    command = re.split(r"\s+#|\s+\[|\s{2,}|\s*\||\s*>|\s*…|\s+\.\.\.|\s*&&|\)\"", line)[0]
    return command.rstrip(" .,;)")
