"""
The README's commands on a machine that has nothing: what each takes, and what it installs.

`--full` runs the second command too; `--month-later` puts an index in front of pip's that offers newer releases of ten
locked packages. Exit code: of the first command that fails; 1 if something else than the lock was installed.
"""

from __future__ import annotations

import argparse
import ast
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bare import locks
from tests.bare.machine import BUNDLE, SUITE, TREE, bare_machine

from stackyard._util import process
from stackyard.errors import StackyardError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bare.machine import Machine

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
COMMAND = ("./noxw", "--yes", "-s")
OFFERED = 10  # packages with a newer release
PORT = 8099
INDEX_LOG = "/tmp/index.log"
PASSED_ON = frozenset({"index-url", "extra-index-url", "trusted-host"})
PIP_INDEX = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
INSTALLED = """
import re
from importlib.metadata import distributions
for each in distributions():
    print(re.sub("[-_.]+", "-", each.name).lower(), each.version)
"""


def main(words: Sequence[str]) -> int:
    """Run it all; return the exit code."""
    parser = argparse.ArgumentParser(prog="./noxw -s bare --", description=__doc__)
    parser.add_argument("--full", action="store_true", help="run `./noxw --yes -s ci` as well")
    parser.add_argument("--month-later", action="store_true", help="offer newer releases of ten locked packages")
    given = parser.parse_args(words)
    began = time.monotonic()
    try:
        with bare_machine(ROOT) as machine:
            say(f"Debian {SUITE} with {len(machine.packages())} packages, made in {time.monotonic() - began:.0f} s")
            return _commands(machine, full=given.full, month_later=given.month_later)
    except StackyardError as error:
        say(f"error: {error}")
        return error.exit_code


def _commands(machine: Machine, *, full: bool, month_later: bool) -> int:
    before = machine.packages()
    newer = _configure_pip(machine, month_later=month_later)
    code, took = 0, list[str]()
    for session in ("test", "test", *(["ci"] if full else [])):
        words = (*COMMAND, session)
        say(f"$ {shlex.join(words)} </dev/null")
        code, seconds = machine.run(*words)
        took.append(f"{shlex.join(words)}: exit code {code} after {seconds:.0f} s")
        if code:
            break
    else:
        _tell_installed(machine, before)
    for line in took:
        say(line)
    if code:
        return code
    return _check_lock(machine, newer)


def _configure_pip(machine: Machine, *, month_later: bool) -> dict[str, str]:
    """Give the machine the host's index, or the one that is a month ahead; return the releases that this one offers."""
    settings = {name: value for name, value in _pip_settings().items() if name in PASSED_ON and "://" in value}
    settings = {name: value for name, value in settings.items() if "file://" not in value}
    newer: dict[str, str] = {}
    if month_later:
        newer = locks.most_wanted(LOCK.read_text(encoding="utf-8"), OFFERED)
        upstream = settings.get("index-url") or _python("-c", PIP_INDEX).strip()
        offers = [f"{name}=={version}" for name, version in newer.items()]
        machine.start("python3", f"{TREE}/tests/bare/index.py", str(PORT), upstream, *offers, log=INDEX_LOG)
        settings = {"index-url": f"http://127.0.0.1:{PORT}/simple/"}
        say(f"the index offers {', '.join(offers)}")
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        lines = [f"{name} = {value}\n" for name, value in settings.items()]
        file.writelines(["[global]\n", f"cert = {BUNDLE}\n", *lines])
        file.flush()
        machine.copy(Path(file.name), "/etc/pip.conf")
        machine.read("chmod", "644", "/etc/pip.conf")
    return newer


def _pip_settings() -> dict[str, str]:
    """Return pip's settings on this host, without the section each stands in."""
    rows = (row.partition("=") for row in _python("-m", "pip", "config", "list").splitlines())
    return {name.rpartition(".")[2]: str(ast.literal_eval(value)) for name, _, value in rows}


def _python(*words: str) -> str:
    return process.run([sys.executable, *words], deadline=60).stdout


def _tell_installed(machine: Machine, before: dict[str, str]) -> None:
    """Say what the commands have brought onto the machine, and what of their stacks is left."""
    debian = sorted(machine.packages().keys() - before.keys())
    python = _installed(machine)
    images = machine.read("docker", "image", "ls", "--quiet", "--no-trunc").split()
    say(f"installed by apt, {len(debian)} packages: {', '.join(debian)}")
    say(f"installed in .venv, {len(python)} packages: {', '.join(f'{n} {v}' for n, v in sorted(python.items()))}")
    say(f"installed in .uv: {machine.read(f'{TREE}/.uv/bin/uv', '--version').strip()}; images: {len(set(images))}")
    left = [
        machine.read("docker", *words).split()
        for words in (
            ("ps", "--all", "--quiet"),
            ("volume", "ls", "--quiet"),
            ("network", "ls", "--quiet", "--filter", "type=custom"),
        )
    ]
    say("left: {} containers, {} volumes, {} networks".format(*map(len, left)))


def _installed(machine: Machine) -> dict[str, str]:
    rows = machine.read(f"{TREE}/.venv/bin/python", "-c", INSTALLED).splitlines()
    return dict(row.split(" ", 1) for row in rows)


def _check_lock(machine: Machine, newer: dict[str, str]) -> int:
    """Return 1 if another version than the locked one is installed, or the newer ones were never offered."""
    wrong = locks.differences(locks.pins(LOCK.read_text(encoding="utf-8")), _installed(machine))
    if newer:
        offered = set(machine.read("cat", INDEX_LOG).splitlines())
        seen = sorted(row.removeprefix("offered ") for row in offered)
        say(f"newer releases that the installer saw: {', '.join(seen) or 'none'}")
        wrong += [
            f"{name} {version} was not offered"
            for name, version in newer.items()
            if f"offered {name} {version}" not in offered
        ]
    for line in wrong:
        say(f"error: {line}")
    if not wrong:
        say("every installed package is the locked one")
    return 1 if wrong else 0


def say(line: str) -> None:
    """Print one line of the story, apart from what the commands print."""
    print(f"bare: {line}", flush=True)  # noqa: T201 - this is a command-line program


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
