"""`invoke verify.*`: check Dockerfiles, images, the Compose model and running stacks."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from invoke.collection import Collection

from stackyard.cli import options
from stackyard.cli.common import answer, attach, say
from stackyard.cli.options import Option
from stackyard.cli.task import command
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.checks.verification import Verifier

DOCS = "docs/checks.md"
# one environment of each flavour; those of the same flavour start the same images
STACKS = {"debian": "test", "alpine": "alpine-test"}


@command(options={"fix": Option(help="First fix what can be fixed automatically.", short="f")})
def dockerfiles(fix: bool = False, json: bool = False) -> None:
    """Check the Dockerfiles; exit code 9 if one has an error."""
    with _verifying(json=json) as verifier:
        if fix:
            for path in verifier.fix():
                verifier.say(f"fixed {path}")
        verifier.dockerfiles()


@command()
def images(flavour: str = "all", json: bool = False) -> None:
    """Check the images without starting them, and list their packages; builds what is missing."""
    with _verifying(json=json) as verifier:
        verifier.images(flavours(flavour))


@command(
    words=["environment"],
    options={"environment": options.ENVIRONMENT.but(help="Check only what this environment gives; all without it.")},
)
def compose(environment: str = "", json: bool = False) -> None:
    """Check the Compose file as Compose renders it."""
    with _verifying(json=json) as verifier:
        verifier.compose([environment] if environment else [])


@command(
    words=["name"],
    options={
        "environment": options.ENVIRONMENT.but(
            help="Start a stack of this environment instead, check it, and remove it."
        ),
    },
)
def stack(name: str = "", environment: str = "", json: bool = False) -> None:
    """Check a running stack: what the kernel enforces."""
    if name and environment:
        raise UsageError("give --name for a running stack or --environment for a new one, not both")
    with _verifying(json=json) as verifier:
        if environment:
            verifier.private_stack(environment)
        else:
            with attach(name) as running:
                verifier.stack(running)


@command(
    words=["environment"],
    options={"environment": options.ENVIRONMENT.but(help="Environment of the stack that is started (default: test).")},
)
def detection(environment: str = "test", json: bool = False) -> None:
    """Measure how quickly a paused, frozen, starved and killed service is detected, in a stack started for this."""
    with _verifying(json=json) as verifier:
        verifier.detection(environment)


@command(name="all")
def all_(flavour: str = "all", json: bool = False) -> None:
    """Check everything, including a stack of each flavour; exit code 9 if there is an error."""
    with _verifying(json=json) as verifier:
        everything(verifier, flavours(flavour))


@command()
def docs(json: bool = False) -> None:
    """Write docs/checks.md, the description of the checks, for a checkout that has changed them."""
    from stackyard.cli.checks_page import page
    from stackyard.project.environments import project_root

    (project_root() / DOCS).write_text(page(), encoding="utf-8")
    answer({"files": [DOCS]}, f"wrote {DOCS}", as_json=json)


def flavours(name: str) -> tuple[str, ...]:
    """Return the flavours that *name* means; one that does not exist is refused where it is used."""
    return tuple(STACKS) if name == "all" else (name,)


def everything(verifier: Verifier, chosen: tuple[str, ...]) -> None:
    """
    Run every group of checks.

    Raises:
        StackyardError: If something cannot be looked at.
    """
    verifier.dockerfiles()
    verifier.compose()
    verifier.images(chosen)
    for flavour in chosen:
        verifier.private_stack(STACKS[flavour])
        verifier.detection(STACKS[flavour])


def show(verifier: Verifier, *, as_json: bool) -> None:
    """
    Write and print what was found.

    Raises:
        VerifyError: If there is an error that nothing waives.
    """
    from stackyard.checks.outputs import detections_table, findings_table

    report = verifier.report()
    parts = [findings_table(report.findings) + "\n"] if report.findings else []
    parts += [detections_table(report.detections) + "\n"] if report.detections else []
    answer(report.to_json(), "\n".join([*parts, report.summary()]), as_json=as_json)
    report.check()


@contextlib.contextmanager
def _verifying(*, json: bool) -> Iterator[Verifier]:
    """Give a `with` block what checks, and then show what it has found."""
    from stackyard.checks.verification import Verifier

    verifier = Verifier() if json else Verifier(say=say)
    yield verifier
    show(verifier, as_json=json)


collection = Collection("verify", dockerfiles, images, compose, stack, detection, all_, docs)
