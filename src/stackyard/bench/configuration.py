"""
What a project tells the benchmarks about its services, in `envs/bench.yaml`.

The file is optional; without an entry, the figures that need it are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Struct, field

from stackyard.project import validation
from stackyard.project.environments.files import read_text
from stackyard.project.environments.schema import Version  # noqa: TC001 - msgspec reads it
from stackyard.project.environments.yaml_tree import parse_yaml

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "envs/bench.yaml"
MAX_BYTES: Final = 64 * 1024

Target = Annotated[str, validation.text("/[!-~]*", "a path that begins with /")]


class Ready(Struct, frozen=True, forbid_unknown_fields=True):
    """
    How another tool sees that a service is ready.

    Attributes:
        log: A line of its log, as a pattern; empty if it is asked.
        path: What it is asked over HTTP.
    """

    log: str = ""
    path: Target = "/"


class Accounts(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Where clients log in.

    Attributes:
        service: The service that knows them.
        register: Where an account is made.
        login: Where it logs in.
        token: The field of the answer that holds its token.
    """

    service: str
    register: Target
    login: Target
    token: str


class Box(Struct, frozen=True, forbid_unknown_fields=True):
    """The image of *service* in *environment*, with Python in it: the base of the projects of the suite `projects`."""

    environment: str
    service: str


class Description(Struct, frozen=True, forbid_unknown_fields=True):
    """
    The whole file.

    Attributes:
        version: Always 1.
        ready: For each service, how another tool sees that it is ready.
        health: What services that speak HTTP are asked again and again.
        accounts: Where clients log in; None if they do not.
        greeting: What the first message of a WebSocket holds; empty if it sends none.
        box: The base image of the containers of the suite `projects`.
    """

    version: Version = "1"
    ready: dict[str, Ready] = field(default_factory=dict)
    health: Target = "/"
    accounts: Accounts | None = None
    greeting: str = ""
    box: Box | None = None


def read(root: Path) -> Description:
    """
    Return what the project at *root* says; nothing without the file.

    Raises:
        ConfigError: If the file cannot be read or has another shape.
    """
    if not (root / FILE).exists():
        return Description()
    return validation.convert(FILE, parse_yaml(read_text(root / FILE, FILE, limit=MAX_BYTES), FILE), Description)
