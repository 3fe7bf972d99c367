"""The options that tasks share: one name for one thing, and the names of the last release as aliases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from stackyard.cli.common import current_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.project import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """
    One option of a task.

    Attributes:
        help: What it does, in one or two sentences.
        value: What its value is called in the help, such as NAME; empty for a switch.
        short: Its letter; empty for none.
        old: Names of the last release, without dashes; they still work and are mentioned.
        hidden: Whether it cannot be typed, because only words after ``--`` fill it.
        is_time: Whether its value is a length of time; the task gets its seconds.
    """

    help: str
    value: str = ""
    short: str = ""
    old: tuple[str, ...] = ()
    hidden: bool = False
    is_time: bool = False

    def but(self, **changes: object) -> Option:
        """Return the same option with *changes*, for a task that needs other words."""
        return replace(self, **changes)  # type: ignore[arg-type] # the caller names fields of this class


NAME: Final = Option(
    help="Name of the stack's lease, or the lease's id; not needed if there is only one.",
    value="NAME", short="n", old=("parallel-id", "p", "lease", "l"),
)  # fmt: skip
ENVIRONMENT: Final = Option(
    help="Environment: dev, test, alpine-test or ci (default: test).", value="ENVIRONMENT", short="e", old=("env",)
)
OF_NAME: Final = ENVIRONMENT.but(help="Environment, if the name is used in several.")
JSON: Final = Option(help="Print JSON; docs/reference/json.md describes it.", short="j")
TIME: Final = Option(help="", value="TIME", is_time=True)
TTL: Final = TIME.but(help="How long the lease lasts, such as 30m or 4h (default: 1h).", short="t")
TIMEOUT: Final = TIME.but(help="How long to wait before giving up, such as 30s or 2m.", short="t")
QUEUE_TIMEOUT: Final = TIME.but(
    help="Wait this long for a free place if the host has none; without it, fail at once.", short="q", old=("wait", "w")
)
INTERVAL: Final = TIME.but(help="Time between two updates (default: 1s).", short="i", old=("every", "e"))
FORCE: Final = Option(help="Go ahead even if the host seems to have too little memory.", short="f")
VOLUMES: Final = Option(
    help="Also remove named volumes of environments' stacks; copies' volumes always go, kept data (dev) never.",
    short="v",
)
YES: Final = Option(help="Do not ask.", short="y")
DRY_RUN: Final = Option(help="Only show what would be removed.", short="d", old=("plan", "check-only"))
SERVICE: Final = Option(help="A service of the stack.", value="SERVICE", short="s")
FLAVOUR: Final = Option(help="Images to use: debian, alpine or all (default: all).", value="FLAVOUR", short="f")
SITE: Final = Option(
    help="Where the copy runs: local, context:NAME (the engine of a Docker context) or swarm (default: local).",
    value="SITE",
)  # fmt: skip
COPY_NAME: Final = NAME.but(help="Name of the copy, or its lease's id; not needed if there is only one.", old=())
COPY_SITE: Final = SITE.but(help=SITE.help.replace("runs:", "is:"))
LOGGED: Final = SERVICE.but(help="Only this service; may be given more than once. All without it.")
# what a task's parameter of this name is, unless the task says otherwise
USUAL: Final = {
    "name": NAME, "environment": ENVIRONMENT, "service": SERVICE, "site": SITE, "ttl": TTL, "timeout": TIMEOUT,
    "queue_timeout": QUEUE_TIMEOUT, "interval": INTERVAL, "force": FORCE, "volumes": VOLUMES, "yes": YES,
    "dry_run": DRY_RUN, "flavour": FLAVOUR, "json": JSON,
    "file": Option(
        help="A Compose file, instead of those that Compose finds; can be repeated.", value="FILE", short="f"
    ),
    "profile": Option(help="A profile to enable; can be repeated.", value="PROFILE", short="p"),
    "env_file": Option(help="An env file, instead of .env; can be repeated.", value="FILE"),
    "tail": Option(
        help="Number of last lines of each service, or all (default: 100; with --since all).", value="LINES", short="t"
    ),
    "since": Option(
        help="Only lines from this moment on: a time ago such as 10m, or a moment such as 2026-11-28T14:30.",
        value="TIME",
    ),
    "follow": Option(help="Keep showing new lines until Ctrl-C.", short="f"),
    "timestamps": Option(help="Begin each line with its time."),
    "words": Option(help="", value="COMMAND...", hidden=True),
}  # fmt: skip


def project(
    file: Sequence[str] | None, profile: Sequence[str] | None, env_file: Sequence[str] | None, folder: str = "."
) -> Project:
    """Return the Compose project of *folder*, with the values of the options `--file`, `--profile` and `--env-file`."""
    from stackyard.project import Project

    place = current_folder() / folder
    return Project.find(place, files=file or (), profiles=profile or (), env_files=env_file or ())
