"""Files of the host that a project needs and that are missing; nothing starts before they exist."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackyard._util import files
from stackyard.plan.volumes import absent, bind_concerns, holds_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stackyard.plan.records import Concern
    from stackyard.project import Project


def missing_files(project: Project, exists: Callable[[Path], bool] = files.exists) -> list[Concern]:
    """
    Return every file of the host that *project* needs and that is not there, all at once; Compose names only the first.

    A path with a variable in it is left to Compose.

    Args:
        project: The project.
        exists: Tells whether a path of the host is there.

    Raises:
        UsageError: If Compose refuses the project.
    """
    if not _not_there(project.template, exists):
        return []
    services, enabled = project.template["services"], project.enabled()
    chosen = {name: service for name, service in services.items() if name in enabled}
    return _not_there({**project.template, "services": chosen}, exists)


def _not_there(template: Mapping[str, Any], exists: Callable[[Path], bool]) -> list[Concern]:
    found = []
    for name, service in (template.get("services") or {}).items():
        for index, entry in enumerate(service.get("env_file") or ()):
            path, place = str(entry["path"]), f"services.{name}.env_file[{index}]"
            if entry.get("required", True) and "$" not in path and not exists(Path(path)):
                found.append(absent(place, path, exists))
        for index, mount in enumerate(service.get("volumes") or ()):
            bound = isinstance(mount, dict) and mount.get("type") == "bind" and "$" not in str(mount.get("source"))
            if bound and not holds_data(service, mount):
                found += bind_concerns(f"services.{name}.volumes[{index}]", mount, exists)
        found += _build(f"services.{name}.build", service.get("build") or {}, exists)
    found += [absent(place, path, exists) for place, path in _used_files(template) if not exists(Path(path))]
    return [concern for concern in found if concern.level == "not possible"]


def _build(place: str, build: Mapping[str, Any], exists: Callable[[Path], bool]) -> Iterator[Concern]:
    context, file = str(build.get("context") or ""), str(build.get("dockerfile") or "")
    if not context.startswith("/") or "$" in context + file:  # a repository's address, or Compose's to say
        return
    if not exists(Path(context)):
        yield absent(f"{place}.context", context, exists)
    elif file and "dockerfile_inline" not in build and not exists(path := Path(context, file)):
        yield absent(f"{place}.dockerfile", str(path), exists)


def _used_files(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return the file of each secret and config that a service has, with its place in the model."""
    for kind in ("secrets", "configs"):
        entries = [entry for service in (template.get("services") or {}).values() for entry in service.get(kind) or ()]
        used = {entry["source"] if isinstance(entry, dict) else entry for entry in entries}
        for key, item in (template.get(kind) or {}).items():
            if key in used and (path := str((item or {}).get("file") or "")) and "$" not in path:
                yield f"{kind}.{key}.file", path
