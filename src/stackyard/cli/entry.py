"""
Where the program `stackyard` begins: the steps that are done before its modules are imported.

Compose needs as long to read a project as Python needs to import the program, so both go on at once. And Invoke is
imported without three modules that take most of its time and that no command uses (docs/performance.md).
"""

from __future__ import annotations

import contextlib
import gc
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import LazyLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec

INTERRUPTED: Final = 130  # as a shell says it
STARTS: Final = frozenset({"up", "run"})
# with others, Compose has to be asked for another project, or for none
PLAIN_OPTIONS: Final = frozenset(
    {"--name", "--timeout", "--ttl", "--queue-timeout", "--resettable", "--json", "--graceful"}
)
OBJECTS: Final = 100_000  # new objects between two garbage collections; with Python's 700 the imports cause hundreds
YAML: Final = "invoke.vendor.yaml"
# what Invoke takes from two modules of Python when it is imported: a class for tests of tasks, and its own version
UNUSED: Final[Mapping[str, Mapping[str, object]]] = {
    "unittest.mock": {"Mock": object},
    "importlib.metadata": {"version": lambda _name: ""},
}


def main() -> None:
    """Run the command that was typed; Ctrl-C ends it without a traceback, also before there is a command."""
    try:
        _main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _main() -> None:
    gc.set_threshold(OBJECTS)
    if may_render_ahead(sys.argv[1:]):
        from stackyard.project.project import render_ahead

        with contextlib.suppress(OSError, RuntimeError):  # a folder that is gone, no thread; the command reports it
            render_ahead(Path.cwd())
    with lean_invoke():
        from stackyard.cli import console
    console.main()


def may_render_ahead(words: Sequence[str]) -> bool:
    """Say whether a command starts the current folder's project as Compose finds it without further options."""
    own = words[: words.index("--")] if "--" in words else words
    options = {word.partition("=")[0] for word in own if word.startswith("-")}
    return bool(own) and own[0] in STARTS and options <= PLAIN_OPTIONS


@contextlib.contextmanager
def lean_invoke() -> Iterator[None]:
    """
    Let a `with` block import Invoke without what it does not need.

    Its YAML reader, which is only for a user's configuration file of Invoke, is loaded at its first use.
    """
    made = {name: _stand_in(name) for name in UNUSED if name not in sys.modules}
    sys.modules.update(made)
    late = _LateYaml()
    sys.meta_path.insert(0, late)
    try:
        yield
    finally:
        sys.meta_path.remove(late)
        for name, module in made.items():
            _drop(name, module)


def _stand_in(name: str) -> ModuleType:
    """Return a module with what Invoke takes; anything else comes from the real one."""
    made = ModuleType(name)

    def other(attribute: str) -> object:
        if attribute.startswith("__"):  # such as __path__, which the import itself looks for
            raise AttributeError(attribute)
        _drop(name, made)
        return getattr(import_module(name), attribute)

    made.__dict__.update(UNUSED[name], __getattr__=other)
    return made


def _drop(name: str, made: ModuleType) -> None:
    if sys.modules.get(name) is made:
        del sys.modules[name]


class _LateYaml:
    """Finds one module, which is loaded when one of its names is used."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, path, target) if name == YAML else None
        if found and found.loader:
            found.loader = LazyLoader(found.loader)
        return found
