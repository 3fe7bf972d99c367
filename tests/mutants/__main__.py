"""
Change the code in small ways, one at a time, and see whether a unit test fails.

The words are modules, such as `cleanup.plan` or `leases.book`; without any it takes all that stand in front of a loss,
and that lasts hours. Verdicts are kept in .cache/mutants, so an interrupted run goes on where it ended: it tries
again only what survived without a reason, and the functions that have changed. `--again` tries everything, as is needed
after a test has gone.

A change that no test notices, and that `survivors.yml` does not list with a reason, fails the run. So does a module in
which fewer than 90 % are noticed. Changes that leave the program the same do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.mutants.survivors import SAME, UNNOTICED, Change, accepted, reason

from stackyard._util import process
from stackyard.errors import CommandError, StackyardError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

ROOT: Final = Path(__file__).parents[2]
WORK: Final = ROOT / ".cache" / "mutants"
LEAST: Final = 90.0  # per cent
SHARED: Final = ("src", "tests", "compose", "envs")
NOTICED: Final = frozenset({"killed", "timeout", "segfault", "suspicious"})
# Texts for people, and what only the log gets: other tests read them, and a change of them loses nothing.
TEXTS: Final = (r"^\s*raise \w+\(", r"^\s*f?\"[^\"]* [^\"]*\"$", r"logging\.getLogger", r"\breach\(")
CLEANING: Final = ("test_cleanup.py", "test_cleanup_plan.py", "test_docker_ownership.py")
LEASES: Final = (
    "grants.requests owners staleness recovery.lost_book records recovery.lost_leases needs recovery.damaged_rows book "
    "grants.waiting database.store database.schema database.header directory.draft database.rows database.column_rules "
    "names grants.allocation grants.host_ports grants.admission grants.messages context fair_lock grants.queue warm "
    "port_format"
).split()
# The others have the tests of guards alone, which need no port of the host: two runs at once do not disturb each other.
BESIDES: Final = frozenset({"owners", "directory.draft", "grants.host_ports", "grants.admission", "fair_lock"})
# The most dangerous first. The tests are those that are quick and about the module.
MODULES: Final[dict[str, tuple[str, ...]]] = {
    "docker.ownership": CLEANING[1:],
    "cleanup.removal": (*CLEANING, "test_remote_lease_book.py", "test_copies.py", "leases/test_leases_warm.py"),
    "cleanup.graceful": CLEANING,
    "cleanup.outcome": CLEANING,
    "leases.directory.files": ("leases/test_leases_draft.py",),
    "stacks.environments.stack": ("test_stacks.py",),
    "cleanup.plan": CLEANING,
    "stacks.data.snapshot": ("test_data_reset.py",),
    "stacks.data.resetting": ("test_data_reset.py",),
    "stacks.data.drivers": ("test_data_drivers.py",),
    "sites.swarm.removal": ("test_swarm_leases.py", "test_swarm_running.py"),
    "sites.swarm.leases": ("test_swarm_leases.py",),
    "images.copy_images": ("test_copied_images.py",),
    "images.holds": ("test_copied_images.py",),
    **{f"leases.{name}": (f"leases/test_leases_{name.split('.')[-1]}.py",) * (name in BESIDES) for name in LEASES},
    "leases.database.rows": ("leases/test_leases_copies.py",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of the mutants of one module."""

    module: str
    counts: Counter[str]
    listed: list[tuple[Change, str]]
    unlisted: list[Change]

    @property
    def noticed(self) -> int:
        """How many a test has noticed."""
        return sum(self.counts[name] for name in NOTICED)

    @property
    def same(self) -> int:
        """How many leave the program as it is, so that no test can notice them."""
        return sum(why == SAME for _, why in self.listed)

    @property
    def share(self) -> float:
        """Per cent noticed of those that have been run and change the program."""
        run = self.noticed + sum(self.counts[name] for name in UNNOTICED) - self.same
        return 100.0 * self.noticed / run if run else 0.0

    @property
    def passed(self) -> bool:
        """True when no survivor is unlisted, all have been run, and enough are noticed."""
        return not self.unlisted and not self.not_run and self.share >= LEAST

    @property
    def not_run(self) -> int:
        """How many have no verdict."""
        return self.counts.total() - self.noticed - sum(self.counts[name] for name in UNNOTICED)

    def __str__(self) -> str:
        return (
            f"{self.module}: {self.counts.total()} mutants, {self.noticed} killed ({self.share:.1f} %), "
            f"{self.same} are the same program, {len(self.listed) - self.same} survived with a reason, "
            f"{len(self.unlisted)} without, {self.not_run} not run"
        )


def main(words: Sequence[str]) -> int:
    """Run the modules one after another; return 0 if all pass."""
    parser = argparse.ArgumentParser(prog="nox -s mutants --", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"one of {', '.join(MODULES)}")
    parser.add_argument("--again", action="store_true", help="forget earlier verdicts")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="mutants tried at once (default 2)")
    parser.add_argument("--report", action="store_true", help="run nothing; judge the verdicts that are there")
    given = parser.parse_args(words)
    try:
        modules = [_known(name) for name in given.modules or MODULES]
        if given.again:
            for module in modules:
                shutil.rmtree(WORK / module, ignore_errors=True)
        verdicts = [_judge(module, given.workers, run=not given.report) for module in modules]
    except StackyardError as error:
        _say(f"error: {error}")
        return error.exit_code
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def _known(name: str) -> str:
    if name not in MODULES:
        raise UsageError(f"module {name!r} is none of those that are mutated: {', '.join(MODULES)}")
    return name


def _judge(module: str, workers: int, *, run: bool) -> Verdict:
    folder = WORK / module
    if run:
        lay_out(module, folder)
        command = [sys.executable, "-m", "tests.mutants.session", "run", "--max-children", str(workers)]
        if code := process.passthrough(command, cwd=folder, env=_environment()):
            raise CommandError(command, code, "its tests fail without a mutant, or it could not begin")
    verdict = _read(module, folder)
    _say(str(verdict))
    for change in verdict.unlisted:
        _say(f"  {change}")
    return verdict


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT)}


def lay_out(module: str, folder: Path) -> None:
    """Make a project of links to this one, with settings for mutmut that name one module."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "mutants" / _source(module)
    meta = source.with_name(f"{source.name}.meta")
    if not _is_whole(meta):
        meta.unlink(missing_ok=True)  # mutmut was ended while it wrote it
    if meta.exists() and source.exists():
        retry(meta, [mutant for mutant, _, why in _survivors(_states(folder)) if why is None])
    # which tests call which function: mutmut would not look again for old tests that call a new function
    (folder / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    if not meta.exists():
        source.unlink(missing_ok=True)  # mutmut was ended while it wrote it, and would take it for whole
    elif source.exists():
        os.utime(source, (0, 0))  # mutmut would take it for new if the code came from another checkout
    for name in SHARED:
        link = folder / name
        if link.resolve() != ROOT / name:  # verdicts may come from another worktree
            link.unlink(missing_ok=True)
            link.symlink_to(ROOT / name)
    text = (ROOT / "pyproject.toml").read_text() + settings(module)
    if not (folder / "pyproject.toml").exists() or (folder / "pyproject.toml").read_text() != text:
        (folder / "pyproject.toml").write_text(text)


def _is_whole(meta: Path) -> bool:
    try:
        return bool(json.loads(meta.read_text()))
    except (OSError, ValueError):
        return False


def retry(meta: Path, mutants: Collection[str]) -> None:
    """Forget the verdicts on *mutants*: a test may have been written since."""
    data = json.loads(meta.read_text())
    codes = data["exit_code_by_key"]
    data["exit_code_by_key"] = {name: None if name in mutants else code for name, code in codes.items()}
    meta.write_text(json.dumps(data))


def _source(module: str) -> str:
    return f"src/stackyard/{module.replace('.', '/')}.py"


def settings(module: str) -> str:
    """Return mutmut's settings for one module, as TOML."""
    tests = [f"tests/unit/{name}" for name in MODULES[module]]
    package, _, name = module.partition(".")  # a package's modules share files, but those of docker
    guards = sorted((ROOT / "tests/unit").glob(f"test_guards_{name if package == 'docker' else package}*.py"))
    tests[:0] = [file.relative_to(ROOT).as_posix() for file in guards]
    lines = [
        "\n[tool.mutmut]",
        'source_paths = ["src"]',
        'also_copy = ["compose", "envs"]',
        f"only_mutate = [{json.dumps(_source(module))}]",
        f"do_not_mutate_patterns = [{', '.join(map(json.dumps, TEXTS))}]",
        'pytest_add_cli_args = ["-p", "tests.mutants.quick", "-p", "no:cacheprovider"]',
        f"pytest_add_cli_args_test_selection = [{', '.join(map(json.dumps, tests))}]",
    ]
    return "\n".join(lines) + "\n"


def _read(module: str, folder: Path) -> Verdict:
    """Compare the survivors with the list."""
    found = _states(folder)
    listed, unlisted = list[tuple[Change, str]](), list[Change]()
    for _, change, why in _survivors(found):
        if why is None:
            unlisted.append(change)
        else:
            listed.append((change, why))
    counts = Counter(state for state, _ in found.values())
    return Verdict(module=module, counts=counts, listed=listed, unlisted=unlisted)


def _states(folder: Path) -> dict[str, tuple[str, str]]:
    """Ask mutmut for the state of each mutant, and for what it changes if no test has noticed it."""
    if not (folder / "mutants").exists():
        return {}
    command = [sys.executable, "-m", "tests.mutants.verdicts"]
    return dict(json.loads(process.run(command, deadline=300, cwd=folder, env=_environment()).stdout))


def _survivors(found: dict[str, tuple[str, str]]) -> Iterator[tuple[str, Change, str | None]]:
    """Return each mutant that no test has noticed, what it changes, and why it may survive; None if it may not."""
    known = accepted()
    for mutant, (state, diff) in found.items():
        if state in UNNOTICED:
            change = Change.of(mutant, diff)
            yield mutant, change, reason(change, known)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
