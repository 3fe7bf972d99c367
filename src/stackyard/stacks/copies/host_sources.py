"""
Files and folders of this host that a copy mounts, and which of them have been replaced since.

A mount is of the file that had the name when the container started. An editor, git or a build that puts another file
in its place changes nothing for the container, and Compose does not notice it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard.probes.container_answers import unix_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from stackyard.docker.records import ContainerState

FROM_HOST: Final = ("configs", "secrets")  # each that is a file of this host is mounted, too


def noted(model: Mapping[str, Any]) -> dict[str, str]:
    """Return what each path of this host that *model* mounts is now; the lease's model keeps it for `replaced`."""
    paths = {path for _, path in _mounted(model)}
    return {path: found for path in sorted(paths) if (found := _identity(path))}


def replaced(
    before: Mapping[str, str], model: Mapping[str, Any], states: Iterable[ContainerState]
) -> dict[str, list[str]]:
    """
    Return the running services that still have an earlier file or folder, by its path.

    Args:
        before: What `noted` found at the start.
        model: The copy's model.
        states: The copy's containers; one that has started since a replacement has what is there now.
    """
    changed = {path for path, earlier in before.items() if _identity(path) not in {"", earlier}}
    running = [state for state in states if state.status in {"running", "paused"}] if changed else []
    found: dict[str, set[str]] = {path: set() for path in sorted(changed)}
    for service, path in _mounted(model):
        if path in changed and any(
            state.service == service and unix_time(state.started_at) < _changed_at(path) for state in running
        ):
            found[path].add(service)
    return {path: sorted(services) for path, services in found.items() if services}


def told(found: Mapping[str, Sequence[str]], project: str) -> str:
    """Say in one line what `replaced` has found in the copy whose Compose project is *project*, and what helps."""
    paths = ", ".join(path.removeprefix(f"{Path.cwd()}/") for path in found)
    services = " ".join(sorted({service for services in found.values() for service in services}))
    return (
        f"replaced since this copy was started: {paths}; 'docker compose -p {project} restart {services}' lets its "
        "services have what is there now"
    )


def _mounted(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give each service with each path that it mounts."""
    for name, service in model["services"].items():
        for mount in service.get("volumes") or ():
            if mount["type"] == "bind":
                yield name, mount["source"]
        for kind in FROM_HOST:
            for entry in service.get(kind) or ():
                if path := model[kind][entry["source"]].get("file"):
                    yield name, path


def _identity(path: str) -> str:
    """Return the device and the inode behind *path*; empty if nothing is there. A mount keeps its inode in use."""
    try:
        found = Path(path).stat()
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def _changed_at(path: str) -> float:
    """Return the Unix time since when *path* can have been what it is: a rename changes the inode's, too."""
    return max(Path(path).stat().st_ctime, Path(path).lstat().st_ctime)
