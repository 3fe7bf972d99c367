"""
Writes docs/reference and the JSON Schemas from the tasks, the shapes of their JSON, and the settings.

``python -m stackyard.cli.reference`` runs it.
A test compares the files with what this makes, so that they cannot lag behind.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from stackyard.cli import console
from stackyard.cli.json_output import CONSOLE, SHAPES
from stackyard.cli.task import Command, dashed, flagged
from stackyard.project import configuration_schema
from stackyard.project.environments import schema
from stackyard.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from invoke.collection import Collection

    from stackyard.cli.options import Option

FOLDER: Final = "docs/reference"
WRITTEN: Final = "<!-- Written by `python -m stackyard.cli.reference`; change the code, not this file. -->"
OPENING: Final = (
    "Every `invoke` task takes `--help` (`-h`) and `--json` (`-j`) after its name. Times are written `30s`, `5m`, "
    "`1h30m`, `250ms` or plain seconds. Words in `[...]` may be left out: where there is only one lease, it is the one."
)
PROGRAM: Final = (
    "It works in any folder with a Compose file ([your-project.md](../your-project.md)). Each command takes `--help` "
    "(`-h`). Words in `[...]` may be left out: a command without a name means the only copy of this folder's project, "
    "or the one named after the git worktree or branch. In a folder with `envs/docker_environments.yaml` and no nearer "
    "Compose file, `up`, `down`, `ps`, `ports`, `logs` and `exec` are the tasks of the environments "
    "([commands.md](commands.md)), and there are `wait` and `reset`."
)
SESSIONS: Final = "Run one with `./noxw -s NAME`; its own options follow `--`."
KEYS: Final = (
    "What each task prints with `--json`. Every key is always there; it may be null where that is said. `lease` is the "
    "id of a lease, and `name` next to it the name that you gave it. Moments are seconds since 1970. Times are "
    "`seconds` or end in `_seconds`, sizes end in `_bytes`."
)
EXIT_CODES: Final = (
    ("0", "all is well"),
    ("1", "a test or another command failed, or a benchmark requirement is not met"),
    ("2", "a wrong argument, option, value or setting"),
    ("3", "the Docker engine is missing, too old, or refused"),
    ("4", "no free ports, network or memory for another stack"),
    ("5", "the lease book cannot be used, or has no such lease"),
    ("6", "an image is missing or could not be built"),
    ("7", "a stack is not ready, or a service is not running or not healthy"),
    ("8", "something is left after a removal, or a lease still has a stack"),
    ("9", "a check found an error"),
    ("124", "the tests ran longer than `STACKYARD_PAYLOAD_TIMEOUT`"),
    ("130, 143", "ended by Ctrl-C or SIGTERM; what was started is removed"),
)


def pages() -> dict[str, str]:
    """Return the text of each page by its name."""
    return {
        "commands.md": commands_page(), "stackyard.md": console_page(), "json.md": json_page(),
        "settings.md": settings_page(),
    }  # fmt: skip


def commands_page() -> str:
    """Return the page of all sessions, tasks, options and exit codes."""
    parts = ["# Commands", WRITTEN, "", OPENING, "", "## Sessions", SESSIONS, ""]
    parts += _table(("session", "what it does"), [(f"`{name}`", purpose) for name, purpose in sessions()])
    parts += ["", "## Tasks", ""]
    parts += _table(("task", "what it does"), [(f"[`{n}`](#{_anchor(n)})", t.summary()) for n, t in tasks()])
    for name, task in tasks():
        parts += ["", *_task(name, task)]
    return "\n".join([*parts, *_exit_codes()]) + "\n"


def console_page() -> str:
    """Return the page of the console program."""
    found = commands()
    parts = ["# The program `stackyard`", WRITTEN, "", PROGRAM, ""]
    parts += _table(("command", "what it does"), [(f"[`{n}`](#stackyard-{n})", t.summary()) for n, t in found])
    for name, task in found:
        parts += ["", *_task(name, task, program=console.NAME)]
    return "\n".join([*parts, *_exit_codes()]) + "\n"


def _exit_codes() -> list[str]:
    return ["", "## Exit codes", "", *_table(("code", "meaning"), EXIT_CODES)]


def commands() -> list[tuple[str, Command]]:
    """Return every command of the console program in a folder with a Compose file."""
    found = console.namespace()
    return [(name, cast("Command", found[name])) for name in sorted(found.task_names)]


def json_page() -> str:
    """Return the page of the shapes of all answers in JSON."""
    parts = ["# JSON", WRITTEN, "", KEYS]
    shapes = {**SHAPES, **{f"{console.NAME} {name}": shape for name, shape in CONSOLE.items()}}
    for name in sorted(shapes):
        parts += ["", f"## {name}", *_shape(shapes[name])]
    return "\n".join(parts) + "\n"


def settings_page() -> str:
    """Return the page of all settings."""
    rows = [(f"`{item.name}`", f"`{item.default}`", item.rule, item.text) for item in SETTINGS]
    parts = ["# Settings", WRITTEN, "", "Environment variables. An empty value counts as unset.", ""]
    parts += _table(("variable", "without it", "value", "what it sets"), rows)
    return "\n".join(parts) + "\n"


def sessions() -> list[tuple[str, str]]:
    """Return name and first line of every session of noxfile.py, read and not run."""
    found = []
    for node in ast.parse((_root() / "noxfile.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and any("session" in ast.unparse(each) for each in node.decorator_list):
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            if not node.name.startswith("_"):
                found.append((node.name, summary))
    return found


def tasks() -> list[tuple[str, Command]]:
    """Return every task by its full name."""
    spec = importlib.util.spec_from_file_location("tasks_of_the_reference", _root() / "tasks.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError("tasks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Collection = module.ns
    return [(name, cast("Command", found[name])) for name in sorted(found.task_names)]


def write() -> list[Path]:
    """Write the pages and the schema; return their paths."""
    (_root() / FOLDER).mkdir(parents=True, exist_ok=True)
    texts = {f"{FOLDER}/{name}": text for name, text in pages().items()}
    texts |= {schema.FILE: schema.for_editors(), configuration_schema.SCHEMA: configuration_schema.for_editors()}
    for name, text in texts.items():
        (_root() / name).write_text(text, encoding="utf-8")
    return [_root() / name for name in texts]


def _root() -> Path:
    return Path(__file__).resolve().parents[3]


def _anchor(name: str) -> str:
    return name.replace(".", "")


def _task(name: str, task: Command, *, program: str = "invoke") -> list[str]:
    rows = [
        (_spelt(parameter, option), option.help, ", ".join(f"`{flagged(old)}`" for old in option.old))
        for parameter, option in task.options.items()
        if not option.hidden
    ]
    usage = f"`{program} {name}{task.pattern()} [options]`"
    head = name if program == "invoke" else f"{program} {name}"
    columns = 3 if program == "invoke" else 2  # the program has no old names
    table = _table(("option", "what it does", "old names")[:columns], [row[:columns] for row in rows])
    return [f"### {head}", task.summary(), "", usage, "", *table]


def _spelt(parameter: str, option: Option) -> str:
    value = f" {option.value}" if option.value else ""
    return f"`--{dashed(parameter)}{value}`" + (f", `-{option.short}`" if option.short else "")


def _table(heads: tuple[str, ...], rows: Any) -> list[str]:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return [f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines]


def _shape(schema: dict[str, Any]) -> list[str]:
    if "anyOf" in schema:
        first, second = schema["anyOf"]
        return [*_shape(first), "", second["description"], *_shape(second | {"description": ""})]
    about = [schema["description"]] if schema.get("description") else []
    kind = "A list of objects:" if schema["type"] == "array" else "An object:"
    return [*about, kind, "", *_table(("key", "type", "meaning"), list(_keys(schema, "")))]


def _keys(schema: dict[str, Any], above: str) -> Iterator[tuple[str, str, str]]:
    """Yield a row for each key of an object, and for each key of the objects inside it."""
    if "array" in schema["type"]:
        yield from _keys(schema["items"], f"{above}[]" if above else "")
        return
    for key, value in schema.get("properties", {}).items():
        path = f"{above}.{key}" if above else key
        yield f"`{path}`", _kind(value), value.get("description", "")
        if "array" in value["type"] or "properties" in value:
            yield from _keys(value, path)


def _kind(schema: dict[str, Any]) -> str:
    kind = schema["type"]
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


if __name__ == "__main__":
    for path in write():
        print(f"wrote {path}")
