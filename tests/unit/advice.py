"""Every command line that the project tells a user to type: in messages, help and documents."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import at_site
from stackyard.cli import console
from stackyard.cli.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

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
