"""
The flows and the gates.

Flows (they start real stacks): dev test alpine_test ci.
Gates: lint types unit integration faults verify browser.
Build servers: matrix, which runs what has the tag matrix.

Every session runs in the environment that `./noxw` made from requirements.lock, so nothing is installed twice. What
follows `--` goes to pytest, except --keep (leave the stack standing), --wait SECONDS (queue while the host has no place
or memory for another stack), --force (do not ask about memory) and, for dev, down. `nox -l` lists all.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path

import nox

nox.needs_version = ">=2026.10.20"
nox.options.sessions = ["lint", "types", "unit"]
nox.options.default_venv_backend = "none"

PYTHON = sys.executable
WORKFLOWS = {
    "vendor.github-workflows": ".github/workflows/ci.yml",
    "custom.github-workflows-require-timeout": ".github/workflows/ci.yml",
    "vendor.gitlab-ci": ".gitlab-ci.yml",
}
SOURCES = ("src", "tests", "compose", "scripts", "noxfile.py", "tasks.py", "noxw")


@nox.session(default=False, tags=["flow"])
def dev(session: nox.Session) -> None:
    """Start the platform to work on and leave it up; `-- down` ends it, data kept."""
    from stackyard import flows  # noqa: PLC0415 - `nox -l` must not wait for it

    _finish(session, flows.dev(session.posargs))


@nox.session(default=False, tags=["flow", "matrix", "engine"], allow_parallel=True)
def test(session: nox.Session) -> None:
    """Run the platform's tests against a private stack of its own, Debian images."""
    _platform(session, "test", session.posargs)


@nox.session(default=False, tags=["flow", "matrix", "engine"], allow_parallel=True)
def alpine_test(session: nox.Session) -> None:
    """Run the platform's tests against a private stack of its own, Alpine images."""
    _platform(session, "alpine-test", session.posargs)


@nox.session(default=False, tags=["flow"])
def ci(session: nox.Session) -> None:
    """Run everything: lint, types, the platform on both flavours, verify, integration, core faults, unit tests."""
    lint(session)
    types(session)
    _platform(session, "ci", session.posargs)
    _platform(session, "alpine-test", session.posargs)
    session.run(PYTHON, "-m", "invoke", "verify.all")
    integration(session)
    _faults(session, "-m", "core")
    unit(session)


@nox.session(tags=["gate", "matrix"], allow_parallel=True)
def lint(session: nox.Session) -> None:
    """Check style of Python, Dockerfiles, the Compose file and the build servers' workflows."""
    session.run(PYTHON, "-m", "ruff", "check", *SOURCES)
    session.run(PYTHON, "-m", "ruff", "format", "--check", *SOURCES)
    session.run(_tool("hadolint"), *map(str, sorted(Path("compose").rglob("Dockerfile*"))))
    session.run(
        _tool("compose-lint"), "check", "--fail-on", "low", "--config", "compose/.compose-lint.yml", "--strict-config",
        "compose/docker-compose.unified.yml",
    )  # fmt: skip
    for schema, workflow in WORKFLOWS.items():
        session.run(_tool("check-jsonschema"), "--builtin-schema", schema, workflow)


@nox.session(tags=["gate", "matrix"], allow_parallel=True)
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.run(PYTHON, "-m", "mypy")


@nox.session(tags=["gate", "matrix", "pythons"], allow_parallel=True)
def unit(session: nox.Session) -> None:
    """Run the unit tests with branch coverage; needs no engine."""
    session.run(PYTHON, "-m", "pytest", "tests/unit", "--cov", "--cov-report=term", *_pytest(session, "unit"))


@nox.session(default=False, tags=["gate", "matrix", "engine"])
def integration(session: nox.Session) -> None:
    """Run the tests that start real containers and many processes."""
    session.run(PYTHON, "-m", "pytest", "tests/integration", *_pytest(session, "integration"))


@nox.session(default=False, tags=["gate", "matrix", "engine"])
def faults(session: nox.Session) -> None:
    """Kill, starve, hang and mislead real runs; STACKYARD_FULL=1 does it for an hour, `-- -m core` for a minute."""
    _faults(session)


def _faults(session: nox.Session, *words: str) -> None:
    session.run(PYTHON, "-m", "pytest", "tests/faults", *words, *_pytest(session, "faults"))


@nox.session(default=False, tags=["gate", "matrix", "engine"])
def verify(session: nox.Session) -> None:
    """Check Dockerfiles, images, the Compose model and a running stack, of both flavours; docs/checks.md explains."""
    session.run(PYTHON, "-m", "invoke", "verify.all", *session.posargs)


@nox.session(default=False, tags=["gate"], venv_backend="uv", reuse_venv=True)
def browser(session: nox.Session) -> None:
    """Open the report page in headless Chromium: layout, contrast, keyboard; `-- --yes` installs one with apt."""
    consent = [word for word in session.posargs if word == "--yes"]
    session.run(PYTHON, "-m", "stackyard.host.browser", *consent, external=True)
    # uv takes no constraint with a range beside hashes, and the lock leaves no choice
    session.install("--require-hashes", "-r", "requirements-browser.lock", env={"UV_CONSTRAINT": ""})
    rest = [word for word in session.posargs if word != "--yes"]
    session.run(
        PYTHON, "-m", "pytest", "tests/browser", "--junit-xml=reports/junit-browser.xml", *rest,
        env={"PYTHONPATH": sysconfig.get_path("purelib", "venv", {"base": session.virtualenv.location})}, external=True,
    )  # fmt: skip


@nox.session(default=False, tags=["build server"])
def matrix(session: nox.Session) -> None:
    """Print the build servers' jobs as JSON; `-- --write` rewrites their workflow files from it."""
    from stackyard import pipelines  # noqa: PLC0415 - as in dev

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


@nox.session(default=False, tags=["bench"])
def bench(session: nox.Session) -> None:
    """Measure stackyard beside its peers: `-- [NAME…] [--quick|--full] [--report]`, `-- --help`."""
    session.run(PYTHON, "-m", "stackyard.bench", *session.posargs, env={"STACKYARD_BENCH_PYTHON": PYTHON})


def _tool(name: str) -> str:
    """Return a program of our own environment, whatever PATH says."""
    return str(Path(PYTHON).with_name(name))


def _pytest(session: nox.Session, name: str) -> list[str]:
    """Return pytest's arguments: a JUnit file named after the session, then the user's own."""
    own = [] if session.name == "ci" else session.posargs
    return [f"--junit-xml=reports/junit-{name}.xml", *own]


def _platform(session: nox.Session, environment: str, arguments: list[str]) -> None:
    from stackyard import flows  # noqa: PLC0415 - as in dev

    _finish(session, flows.test(environment, arguments))


def _finish(session: nox.Session, code: int) -> None:
    if code:
        session.error(f"exit code {code}")
