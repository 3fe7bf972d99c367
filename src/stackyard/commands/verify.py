"""`invoke verify.*`: check Dockerfiles, images, the Compose model and running stacks."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.tasks import task

from stackyard.commands.common import JSON_HELP, attach, failing_cleanly
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from invoke.context import Context

    from stackyard.verify import Verifier

FLAVOUR_HELP = "Which images: debian, alpine or all."
LEASE_HELP = "Lease or parallel id of the stack; the only one without it."
DOCS = "docs/checks.md"
# one environment of each flavour; those of the same flavour start the same images
STACKS = {"debian": "test", "alpine": "alpine-test"}


@task(help={"fix": "First mend what a machine can mend.", "json": JSON_HELP})
@failing_cleanly
def dockerfiles(_c: Context, fix: bool = False, json: bool = False) -> None:
    """Check the Dockerfiles; exit code 9 when one has an error."""
    verifier = _verifier(json=json)
    if fix:
        for path in verifier.mend():
            verifier.say(f"mended {path}")
    verifier.dockerfiles()
    show(verifier, as_json=json)


@task(help={"flavour": FLAVOUR_HELP, "json": JSON_HELP})
@failing_cleanly
def images(_c: Context, flavour: str = "all", json: bool = False) -> None:
    """Check the images without starting them, and list their packages; builds what is missing."""
    verifier = _verifier(json=json)
    verifier.images(flavours(flavour))
    show(verifier, as_json=json)


@task(help={"environment": "Environment to render the Compose file for; all without it.", "json": JSON_HELP})
@failing_cleanly
def compose(_c: Context, environment: str | None = None, json: bool = False) -> None:
    """Check the Compose file as Compose renders it."""
    verifier = _verifier(json=json)
    verifier.compose([environment] if environment else [])
    show(verifier, as_json=json)


@task(
    help={
        "lease": LEASE_HELP,
        "environment": "Instead start a stack of this environment, look at it, remove it.",
        "json": JSON_HELP,
    }
)
@failing_cleanly
def stack(_c: Context, lease: str | None = None, environment: str | None = None, json: bool = False) -> None:
    """Check a running stack: what the kernel enforces."""
    if lease and environment:
        raise UsageError("give --lease for a running stack or --environment for a new one, not both")
    verifier = _verifier(json=json)
    if environment:
        verifier.private_stack(environment)
    else:
        verifier.stack(attach(lease))
    show(verifier, as_json=json)


@task(help={"environment": "Environment of the stack that is started for it.", "json": JSON_HELP})
@failing_cleanly
def detection(_c: Context, environment: str = "test", json: bool = False) -> None:
    """Measure how soon a paused, frozen, starved and killed service shows, in a stack of its own."""
    verifier = _verifier(json=json)
    verifier.detection(environment)
    show(verifier, as_json=json)


@task(name="all", help={"flavour": FLAVOUR_HELP, "json": JSON_HELP})
@failing_cleanly
def all_(_c: Context, flavour: str = "all", json: bool = False) -> None:
    """Check everything, a stack of each flavour included; exit code 9 when there is an error."""
    verifier = _verifier(json=json)
    everything(verifier, flavours(flavour))
    show(verifier, as_json=json)


@task
@failing_cleanly
def docs(_c: Context) -> None:
    """Write docs/checks.md from the checks."""
    from stackyard.environments import project_root  # noqa: PLC0415 - keeps `invoke -l` quick
    from stackyard.verify import page  # noqa: PLC0415 - as above

    (project_root() / DOCS).write_text(page(), encoding="utf-8")
    print(f"wrote {DOCS}")


def flavours(name: str) -> tuple[str, ...]:
    """Return the flavours *name* stands for; one that does not exist is refused where it is used."""
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
    from stackyard.verify.outputs import detections_table, findings_table  # noqa: PLC0415 - keeps `invoke -l` quick

    report = verifier.report()
    if as_json:
        print(jsonlib.dumps(report.to_json(), indent=2))
    else:
        if report.findings:
            print(findings_table(report.findings) + "\n")
        if report.detections:
            print(detections_table(report.detections) + "\n")
        print(report.summary())
    report.check()


def _verifier(*, json: bool) -> Verifier:
    from stackyard.verify import Verifier  # noqa: PLC0415 - as above

    return Verifier() if json else Verifier(say=_say)


def _say(line: str) -> None:
    print(line, flush=True)


collection = Collection("verify", dockerfiles, images, compose, stack, detection, all_, docs)
