"""Make sure that a usable engine answers: the quick check at every start, and the set-up if it fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import Action, how
from stackyard.docker.client_settings import client_folder, client_settings
from stackyard.docker.endpoint import Endpoint, permission_fix, version_tuple
from stackyard.docker.versions import OLDEST_ENGINE
from stackyard.errors import EngineError, StackyardError
from stackyard.host.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stackyard.docker.endpoint import PingResult

PLUGIN_FOLDERS: Final = (
    "usr/local/lib/docker/cli-plugins",
    "usr/local/libexec/docker/cli-plugins",
    "usr/lib/docker/cli-plugins",
    "usr/libexec/docker/cli-plugins",
)


def progress(line: str) -> None:
    """Write one line of progress to standard error, where it does not mix with a command's output."""
    print(f"noxw: {line}", file=sys.stderr, flush=True)  # noqa: T201 - progress of a command-line program


def consents(env: Mapping[str, str] | None = None, *, yes: bool = False) -> bool:
    """Tell whether installing was agreed to beforehand: by --yes, or by CI=true."""
    return yes or (os.environ if env is None else env).get("CI") == "true"


def ensure_engine(
    machine: Machine | None = None,
    *,
    consent: bool = False,
    say: Callable[[str], None] = progress,
    ask: Callable[[str], bool] | None = None,
) -> str:
    """
    Return the version of an engine that is usable, after starting or installing it where that is needed.

    Installing is agreed to beforehand, by *consent*, or by a person on the terminal.

    Raises:
        EngineError: If there is no usable engine and none could be made; the text says what to do.
    """
    machine = machine or Machine()
    ask = ask or ask_on_terminal
    endpoint = Endpoint.find()
    ping = endpoint.ping()
    if ping.state in {"missing", "refused"} and endpoint.standard:
        ping = _revive(machine, endpoint, consent=consent, say=say, ask=ask)
    _refuse_unusable(machine, endpoint, ping)
    if not has_plugins(machine):
        _install(machine, "the Compose or the buildx plugin", consent=consent, say=say, ask=ask, engine=False)
    return ping.version


def _revive(
    machine: Machine, endpoint: Endpoint, *, consent: bool, say: Callable[[str], None], ask: Callable[[str], bool]
) -> PingResult:
    """Start the system's own engine, installed first where it is missing; clear what dead runs left in it."""
    from stackyard.host import daemon

    if machine.program("dockerd") is None:
        _install(machine, "Docker Engine, Compose and buildx", consent=consent, say=say, ask=ask, engine=True)
        ping = endpoint.ping()
        if ping.state not in {"missing", "refused"}:  # the packages start it where they can
            return ping
        return daemon.start(machine, endpoint, say)
    ping = daemon.start(machine, endpoint, say)
    if ping.state == "answers":
        say(f"engine {ping.version} answers")
        sweep(say)
    return ping


def _install(
    machine: Machine, what: str, *, consent: bool, say: Callable[[str], None], ask: Callable[[str], bool], engine: bool
) -> None:
    from stackyard.host import docker_packages

    if not machine.has_apt:
        raise EngineError(f"not installed: {what}, on {machine.distribution.title}:\n{docker_packages.ELSEWHERE}")
    if not (consent or ask(f"not installed: {what}. Install with apt?")):
        raise EngineError(f"not installed: {what}; {how(Action.INSTALL)}, or do it yourself")
    docker_packages.install(machine, say, engine=engine)


def _refuse_unusable(machine: Machine, endpoint: Endpoint, ping: PingResult) -> None:
    """
    Raise where only a person can help.

    Raises:
        EngineError: With the reason and the next step.
    """
    where = endpoint.where
    if ping.state == "forbidden":
        raise EngineError(f"{machine.user} may not use {where}; {permission_fix(machine.user)}")
    if ping.state == "silent":
        raise EngineError(f"the engine at {where} accepts connections but gives {ping.detail}; restart it")
    if ping.state != "answers":
        raise EngineError(f"no engine answers at {where}: {ping.detail}; {endpoint.remedy}")
    if not new_enough(ping.version):
        raise EngineError(
            f"engine {ping.version} found at {where}, {OLDEST_ENGINE[0]} or newer needed (health checks with"
            " start_interval); upgrade it; its containers stop during the upgrade"
        )


def new_enough(version: str) -> bool:
    """Tell whether an engine's version is enough; Podman's numbers are its own and never are."""
    return version_tuple(version) >= OLDEST_ENGINE


def plugin(machine: Machine, name: str) -> Path | None:
    """Return the file of a docker client's plugin, looked for where the client looks; None when there is none."""
    extra = client_settings().get("cliPluginsExtraDirs") or ()
    folders = [*map(Path, extra), client_folder() / "cli-plugins", *(machine.base / path for path in PLUGIN_FOLDERS)]
    return next((path / name for path in folders if os.access(path / name, os.X_OK)), None)


def has_plugins(machine: Machine) -> bool:
    """Tell whether a docker client with Compose and buildx is installed; their versions are not asked."""
    names = ("docker-compose", "docker-buildx")
    return machine.program("docker") is not None and all(plugin(machine, name) for name in names)


def sweep(say: Callable[[str], None]) -> None:
    """Remove what dead owners left in an engine that has just come back; a failure is said, not raised."""
    from stackyard.cleanup.removal import remove_stale

    try:
        removal = remove_stale()
    except StackyardError as error:
        say(f"what earlier runs left could not be removed: {error}")
        return
    if removal.removed:
        say(f"removed what dead runs had left: {', '.join(removal.removed)}")
    for left in removal.left:
        say(f"could not remove {left}")


def ask_on_terminal(question: str) -> bool:
    """Ask yes or no on the terminal; without one the answer is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"noxw: {question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201 - a question to a person
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
