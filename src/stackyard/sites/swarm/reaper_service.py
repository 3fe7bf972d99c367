"""
The reaper as a service of a Swarm: one replica on a manager, which the Swarm starts again elsewhere when it is lost.

Its image is this program and any Python. It talks to its manager through the engine's socket, and so may do there
what root may do.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard import __version__
from stackyard._util.advice import Action, how
from stackyard.docker import images as engine_images
from stackyard.docker.swarm import SERVICE_LABEL
from stackyard.errors import ImageError, RefusedError
from stackyard.sites.swarm import own_services, reaper, registry
from stackyard.sites.swarm.images import reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.docker.swarm import Item, Swarm, Task

NAME: Final = "stackyard-reaper"
LABEL: Final = "stackyard.swarm.reaper"  # on the service: the version of the program in it
IMAGE: Final = "python:3.13-slim"
BUILT: Final = f"{NAME}:{__version__}"
SOCKET: Final = "/var/run/docker.sock"
PACKAGES: Final = ("stackyard", "docker", "requests", "urllib3", "idna", "certifi", "charset_normalizer")
INSIDE: Final = "/stackyard"
SECOND: Final = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaper:
    """
    The reaper of a Swarm.

    Attributes:
        version: Of the program in it.
        node: The name of the manager where it runs.
    """

    version: str
    node: str

    @property
    def old(self) -> bool:
        """True if its program is not of this version."""
        return self.version != __version__


def start(swarm: Swarm, *, image: str = IMAGE) -> Reaper:
    """
    Run the reaper, and return it once it has looked for the first time; one that runs is returned as it is.

    Args:
        swarm: The Swarm.
        image: An image with Python 3.11 or newer, on which its own is built.

    Raises:
        ImageError: If its image cannot be built or pushed.
        NotReadyError: If it does not run; what was made is removed.
        EngineError: If the manager refuses something.
    """
    if standing := swarm.labelled("service", LABEL):
        return _running(swarm, standing[0], fresh=False)
    named = build(swarm, image)
    try:
        swarm.create_service(NAME, _service(named))
    except RefusedError:
        if standing := swarm.labelled("service", LABEL):  # another user has started it in the meantime
            return _running(swarm, standing[0], fresh=False)
        raise
    with own_services.or_nothing(lambda: remove(swarm)):
        return _running(swarm, swarm.labelled("service", LABEL)[0], fresh=True)


def build(swarm: Swarm, base: str) -> str:
    """
    Build the reaper's image on the manager's engine; return the name by which the other managers find it.

    Raises:
        ImageError: If it cannot be built or pushed.
    """
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "content")
        (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY content {INSIDE}\n", encoding="utf-8")
        done = engine_images.build(
            BUILT, dockerfile=folder / "Dockerfile", context=folder, arguments={}, labels={LABEL: __version__},
            contexts={}, on_line=lines.append,
        )  # fmt: skip
    if not done:
        why = lines[-1] if lines else "docker said nothing"
        raise ImageError(f"the reaper's image cannot be built from {base}: {why}")
    return reference(swarm, BUILT, registry.find(swarm))


def fill(folder: Path) -> None:
    """Copy this program, and the packages that its reaper imports, as source that any Python reads."""
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        for place in (found and found.submodule_search_locations) or ():
            shutil.copytree(place, folder / package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))


def _service(image: str) -> dict[str, Any]:
    labels = {LABEL: __version__}
    inside = {
        "Image": image, "Labels": {**labels, SERVICE_LABEL: NAME}, "User": "0", "ReadOnly": True,
        "CapabilityDrop": ["ALL"], "Command": ["python3", "-m", reaper.__name__],
        "Env": [f"PYTHONPATH={INSIDE}", "PYTHONDONTWRITEBYTECODE=1", f"DOCKER_HOST=unix://{SOCKET}"],
        "Mounts": [
            {"Type": "bind", "Source": SOCKET, "Target": SOCKET},
            {"Type": "tmpfs", "Target": str(reaper.BEAT.parent)},
        ],
        "Healthcheck": {
            "Test": ["CMD", "python3", "-S", "-c", reaper.HEALTH], "Interval": 60 * SECOND, "Timeout": 10 * SECOND,
            "Retries": 3, "StartPeriod": 60 * SECOND, "StartInterval": SECOND,
        },
    }  # fmt: skip
    return {
        "TaskTemplate": {
            "ContainerSpec": inside, "Placement": {"Constraints": ["node.role == manager"]},
            "RestartPolicy": {"Condition": "any", "Delay": SECOND},
        },
        "Labels": labels, "Mode": {"Replicated": {"Replicas": 1}}, "EndpointSpec": {"Mode": "dnsrr"},
    }  # fmt: skip


def _running(swarm: Swarm, service: Item, *, fresh: bool) -> Reaper:
    """Wait until it runs, and return where."""
    version = service.labels[LABEL]

    def look(tasks: Sequence[Task]) -> Reaper | None:
        running = [task for task in tasks if task.state == "running" and task.desired == "running"]
        names = {node.id: node.name for node in swarm.nodes()} if running else {}
        return Reaper(version=version, node=names.get(running[-1].node, running[-1].node)) if running else None

    return own_services.wait(
        swarm, f"{LABEL}={version}", look, lambda tasks: _why(swarm, service, tasks), fresh=fresh
    )  # fmt: skip


def _why(swarm: Swarm, service: Item, tasks: Sequence[Task]) -> str:
    said = own_services.said(tasks)
    if any(task.state == "rejected" for task in tasks):
        return f"the reaper does not run: {said}; load {BUILT} on each manager, or {how(Action.RUN_REGISTRY)}"
    return ": ".join(["the reaper does not run", said, *swarm.logs(service.id, tail=1)])


def remove(swarm: Swarm) -> list[str]:
    """
    Remove the reaper; return the names of what was removed.

    Raises:
        EngineError: If the manager does not answer or refuses.
    """
    return own_services.remove(swarm, LABEL)
