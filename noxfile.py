"""
The flows and the gates.

Flows start real stacks: dev, test, alpine_test, ci.
Gates check the tree: lint, types, unit, projects, integration, swarm, faults, verify, browser.
Others: bench measures, mutants tests the tests, matrix writes the build servers' jobs.

Every session runs in the environment that `./noxw` made from requirements.lock. What follows `--` goes to pytest,
except --keep (leave the stack running), --wait 60s (wait up to 60 s while the host has no room for another stack),
--force (start without asking about memory) and, for dev, down. The exit code is that of the session that failed.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from pathlib import Path

import nox
from nox.command import CommandFailed

try:
    from stackyard.cli import sessions
except ModuleNotFoundError:
    print(
        f"noxfile.py: {sys.executable} has no stackyard; run ./noxw instead of nox, or first `. .venv/bin/activate`",
        file=sys.stderr,
    )
    sys.exit(2)

sessions.take_over()
nox.options.sessions = ["lint", "types", "unit"]
nox.options.default_venv_backend = "none"

PYTHON = sys.executable
os.environ.setdefault("UV", str(Path(PYTHON).with_name("uv")))  # nox finds it here even if PATH has none
WORKFLOWS = {
    "vendor.github-workflows": ".github/workflows/ci.yml",
    "custom.github-workflows-require-timeout": ".github/workflows/ci.yml",
    "vendor.gitlab-ci": ".gitlab-ci.yml",
}
SOURCES = ("src", "tests", "compose", "scripts", "noxfile.py", "tasks.py", "noxw")


@sessions.session(default=False, tags=["flow"])
def dev(session: nox.Session) -> int:
    """Start the platform to work on and leave it running; `-- down` stops it and keeps its data."""
    from stackyard.cli import flows

    return flows.dev(session.posargs)


@sessions.session(default=False, tags=["flow", "matrix", "engine"], allow_parallel=True)
def test(session: nox.Session) -> int:
    """Run the platform's tests against a private stack of Debian images."""
    return _platform("test", session.posargs)


@sessions.session(default=False, tags=["flow", "matrix", "engine"], allow_parallel=True)
def alpine_test(session: nox.Session) -> int:
    """Run the platform's tests against a private stack of Alpine images."""
    return _platform("alpine-test", session.posargs)


@sessions.session(default=False, tags=["flow"])
def ci(session: nox.Session) -> int:
    """Run everything, the quickest first: lint, types, unit, platforms, verify, projects, integration, core faults."""
    lint(session)
    types(session)
    unit(session)
    code = _platform("ci", session.posargs) or _platform("alpine-test", session.posargs)
    if code:
        return code
    sessions.run_module(session, "invoke", "verify.all")
    projects(session)
    integration(session)
    _faults(session, "-m", "core")
    return 0


@sessions.session(tags=["gate", "matrix"], allow_parallel=True)
def lint(session: nox.Session) -> None:
    """Check style of Python, Dockerfiles, the Compose file, the build servers' workflows, and licences."""
    session.run(PYTHON, "-m", "ruff", "check", *SOURCES)
    session.run(PYTHON, "-m", "ruff", "format", "--check", *SOURCES)
    session.run(_tool("hadolint"), *map(str, sorted(Path("compose").rglob("Dockerfile*"))))
    session.run(PYTHON, "-m", "stackyard.cli.pipelines.composition")
    for schema, workflow in WORKFLOWS.items():
        session.run(_tool("check-jsonschema"), "--builtin-schema", schema, workflow)
    session.run(PYTHON, "-m", "stackyard.cli.pipelines.licences")


@sessions.session(tags=["gate", "matrix"], allow_parallel=True)
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.run(PYTHON, "-m", "mypy")


@sessions.session(tags=["gate", "matrix", "pythons"], allow_parallel=True)
def unit(session: nox.Session) -> None:
    """Run the unit tests, with branch coverage unless words after -- may choose some of them; needs no engine."""
    whole = [] if _words(session) else ["--cov", "--cov-report=term", "-n", "logical", "--dist", "worksteal"]
    _pytest(session, "unit", *whole)


@sessions.session(default=False, tags=["gate", "matrix", "engine"])
def projects(session: nox.Session) -> None:
    """Check small Compose projects, each with one special feature: two copies at once; and generated files."""
    _pytest(session, "projects", *([] if _words(session) else ["-n", "logical", "--dist", "worksteal"]))


@sessions.session(default=False, tags=["gate", "matrix", "engine"])
def integration(session: nox.Session) -> None:
    """Run the tests that start real containers and many processes."""
    spread = ["-n", "logical", "--maxprocesses", "4", "--dist", "loadfile"]
    _pytest(session, "integration", *([] if _words(session) else spread))


@sessions.session(default=False, tags=["gate"])
def swarm(session: nox.Session) -> None:
    """Run copies on a Docker Swarm of three privileged containers that it makes and removes; `-- -m core` is short."""
    _pytest(session, "swarm")


@sessions.session(default=False, tags=["gate", "matrix", "engine"])
def faults(session: nox.Session) -> None:
    """Kill, starve, hang and mislead real runs; STACKYARD_FULL=1 does it for an hour, `-- -m core` for a minute."""
    _faults(session)


def _faults(session: nox.Session, *words: str) -> None:
    _pytest(session, "faults", *words)


@sessions.session(default=False, tags=["gate", "matrix", "engine"])
def verify(session: nox.Session) -> None:
    """Check Dockerfiles, images, the Compose model and a running stack, of both flavours; docs/checks.md explains."""
    sessions.run_module(session, "invoke", "verify.all", *session.posargs)


@sessions.session(default=False, tags=["gate"], venv_backend="uv|venv", reuse_venv=True)
def browser(session: nox.Session) -> None:
    """Open the report page in headless Chromium: layout, contrast, keyboard; `-- --yes` installs one with apt."""
    consent = [word for word in session.posargs if word == "--yes"]
    session.run(PYTHON, "-m", "stackyard.host.browser", *consent, external=True)
    # uv takes no constraint with a range beside hashes, and the lock leaves no choice
    session.install("--no-deps", "--require-hashes", "-r", "requirements-browser.lock", env={"UV_CONSTRAINT": ""})
    rest = [word for word in session.posargs if word != "--yes"]
    session.run(
        PYTHON, "-m", "pytest", "tests/browser", "--junit-xml=reports/junit-browser.xml", *rest,
        env={"PYTHONPATH": sysconfig.get_path("purelib", "venv", {"base": session.virtualenv.location})}, external=True,
    )  # fmt: skip


@sessions.session(default=False, tags=["gate"])
def bare(session: nox.Session) -> None:
    """Run the README's commands on a bare Debian: `-- --full` runs both, `-- --month-later` offers newer packages."""
    session.env["PYTHONPATH"] = "compose/images"  # the builder of images makes the machine
    sessions.run_module(session, "tests.bare", *session.posargs)


@sessions.session(default=False, tags=["build server"])
def matrix(session: nox.Session) -> None:
    """Print the build servers' jobs as JSON; `-- --write` rewrites their workflow files from it."""
    from stackyard.cli import pipelines

    if set(session.posargs) - {"--write"}:
        session.error(f"the matrix session takes --write or nothing, got {' '.join(session.posargs)}")
    found = pipelines.jobs(Path.cwd())
    if "--write" in session.posargs:
        print(
            *(f"wrote {path}" for path in pipelines.write(found, Path.cwd()) or ["nothing: all is up to date"]),
            sep="\n",
        )
    else:
        print(json.dumps(pipelines.matrix(found)))


@sessions.session(default=False, tags=["bench"])
def bench(session: nox.Session) -> None:
    """Compare stackyard with its peers: `-- [NAME…] [--quick|--full] [--report]`, `-- --help`."""
    sessions.run_module(session, "stackyard.cli.benchmarks", *session.posargs)


@sessions.session(default=False, tags=["gate"])
def mutants(session: nox.Session) -> None:
    """Change the code in small ways and see whether a unit test fails: `-- [MODULE…] [--report]`; hours without one."""
    sessions.run_module(session, "tests.mutants", *session.posargs)


def _tool(name: str) -> str:
    """Return a program of stackyard's environment, whatever PATH says."""
    return str(Path(PYTHON).with_name(name))


def _words(session: nox.Session) -> list[str]:
    """Return the user's words for pytest; those of ci are for the platform's tests."""
    return [] if session.name == "ci" else session.posargs


def _pytest(session: nox.Session, name: str, *words: str) -> None:
    """Run pytest on tests/NAME, or on what the user's words name; fail with stackyard's exit code."""
    from stackyard.cli import pytest_run

    own = _words(session)
    words = (*pytest_run.folder(Path.cwd(), f"tests/{name}", own), *words)
    try:
        sessions.run_module(session, "pytest", *words, f"--junit-xml=reports/junit-{name}.xml", *own)
    except CommandFailed as failure:
        code, line = pytest_run.verdict(failure.return_code or 1)
        if line:
            session.log(line)
        raise sessions.failed(code) from None


def _platform(environment: str, arguments: list[str]) -> int:
    from stackyard.cli import flows

    return flows.test(environment, arguments)
