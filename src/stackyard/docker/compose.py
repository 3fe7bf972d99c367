"""`docker compose` for an environment's stack: the words of a command, the rendered model, and `up`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stackyard._util import files, process
from stackyard._util.advice import Action, how
from stackyard.docker.endpoint import version_tuple
from stackyard.docker.versions import OLDEST_COMPOSE as OLDEST
from stackyard.errors import CommandError, ConfigError, EngineError
from stackyard.project.model import read_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

# Conditions make services start one after another; probes from the host find out sooner, so all may start at once.
RESET_DEPENDENCIES = "  {service}: {{depends_on: !reset null}}\n"
UP = ("up", "--detach", "--no-build", "--quiet-pull", "--no-color")
PROGRESS = re.compile(r'^ *(Container|Network|Volume) +"?([^"\s]+)"? +(\w+)', re.MULTILINE)
CONFLICTS = {
    "port is already allocated": "port", "address already in use": "port",
    "pool overlaps": "subnet", "networks have overlapping ipv": "subnet",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Compose:
    """
    One Compose project: a file, an env file and a project name.

    Attributes:
        file: The Compose file.
        env_file: The only source of its variables; the caller's own environment is kept out.
        project: Compose project name.
        overrides: Further Compose files, merged in order.
    """

    file: Path
    env_file: Path
    project: str
    overrides: tuple[Path, ...] = ()

    def command(self, *arguments: str) -> list[str]:
        """Return the words of a `docker compose` command for this project."""
        files = [word for path in (self.file, *self.overrides) for word in ("-f", str(path))]
        return ["docker", "compose", *files, "--env-file", str(self.env_file), "-p", self.project, *arguments]

    def model(self, *, deadline: float = 15.0) -> dict[str, Any]:
        """
        Return Compose's own rendering of the file, every variable filled in.

        Raises:
            CommandError: If Compose refuses the file or needs more than *deadline* seconds.
            EngineError: If it prints no model.
        """
        return read_model(process.run(self.command("config", "--format", "json"), deadline=deadline).stdout)

    async def rendered(self, *, deadline: float) -> dict[str, Any]:
        """
        Return what `model` returns, without blocking the event loop.

        Raises:
            CommandError: If Compose refuses the file or needs more than *deadline* seconds.
            EngineError: If it prints no model.
        """
        return read_model((await _run(self.command("config", "--format", "json"), deadline=deadline)).stdout)


async def up(
    words: Sequence[str],
    *,
    deadline: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    errors: bytearray | None = None,
) -> process.Completed:
    """
    Create and start every service without waiting for any to be ready.

    Cancelling ends the command's process group before it returns.

    Args:
        words: The words of the `docker compose` command before ``up``.
        deadline: Seconds it may take.
        env: Variables for the command.
        cwd: Its working directory.
        errors: Gets what Compose writes to its standard error, also if it is ended: a line for each thing it begins to
            make, and for each that is made (`unmade`).

    Raises:
        CommandError: If Compose fails or needs more than *deadline* seconds.
        EngineError: If that is because the plugin is missing or too old.
    """
    return await _run([*words, *UP], deadline=deadline, env=env, cwd=cwd, errors=errors)


def unmade(errors: str) -> list[tuple[str, str]]:
    """Return kind and name of what Compose began to make and has not seen made, from what an `up` wrote."""
    last = {(kind.lower(), name): word for kind, name, word in PROGRESS.findall(errors)}
    return [what for what, word in last.items() if word == "Creating"]


async def _run(words: Sequence[str], *, deadline: float, **options: Any) -> process.Completed:
    try:
        return await process.run_async(words, deadline=deadline, **options)
    except CommandError as error:
        if not taken(error):
            check_plugin()  # only now, because asking costs 50 ms
        raise


def start_at_once(file: Path, directory: Path) -> Path:
    """
    Write an override into *directory* that frees every service of *file* from its `depends_on`.

    Raises:
        ConfigError: If *file* is no Compose file.
    """
    override = directory / "at-once.yml"
    services = sorted(_dependent_services(file))
    body = "".join(RESET_DEPENDENCIES.format(service=json.dumps(name)) for name in services)
    files.write(override, (f"services:\n{body}" if body else "services: {}\n").encode())
    return override


def _dependent_services(file: Path) -> Iterable[str]:
    import yaml

    try:
        content = yaml.load(file.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # a number of thousands of digits, too
        raise ConfigError(str(file), "(file)", " ".join(str(error).split()), "must be a Compose file") from None
    services = content.get("services") if isinstance(content, dict) else None
    if not isinstance(services, dict):
        raise ConfigError(str(file), "services", services, "must be a mapping of services")
    return [str(name) for name, service in services.items() if isinstance(service, dict) and "depends_on" in service]


def check_plugin(*, deadline: float = 10.0) -> None:
    """
    Ask the docker client for its Compose plugin's version, and give up only if the answer is clear.

    Args:
        deadline: Seconds it may take.

    Raises:
        EngineError: If there is no plugin, or one too old; names what was found and what is needed.
    """
    needed = f"{'.'.join(map(str, OLDEST))} or newer; {how(Action.MEND_HOST)}, or use your package manager"
    done = process.run(["docker", "compose", "version", "--short"], deadline=deadline, check=False)
    found = version_tuple(done.stdout)
    if "is not a docker command" in done.stderr:
        raise EngineError(f"the docker client has no Compose plugin; stackyard needs {needed}")
    if found and found < OLDEST:
        raise EngineError(f"the Compose plugin is {done.stdout.strip()[:40]}; stackyard needs {needed}")


def taken(error: EngineError) -> str:
    """
    Return what somebody else took after it was leased: port or subnet; empty if that is not why an `up` failed.

    The texts are Docker Engine's: of libnetwork's port allocator, the kernel's bind, libnetwork's address manager, and
    its bridge driver, which sees a network that was made in the same instant.
    """
    text = str(error).lower()
    return next((what for words, what in CONFLICTS.items() if words in text), "")
