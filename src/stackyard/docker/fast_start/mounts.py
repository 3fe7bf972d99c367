"""What a container sees of volumes, the host's files, secrets and configs, as Compose asks the engine for it."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files
from stackyard.docker.fast_start.keys import only
from stackyard.docker.fast_start.records import FilePlan, VolumePlan
from stackyard.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stackyard.docker.fast_start.keys import Body

READABLE: Final = 0o444  # the mode of a copied file unless the model says otherwise
FOLDERS: Final = {"secrets": "/run/secrets/", "configs": "/"}


def volume(key: str, spec: Mapping[str, Any], labels: Mapping[str, str]) -> VolumePlan:
    """
    Return the request for one named volume.

    Args:
        key: The volume's name in the model.
        spec: What the model says of it.
        labels: Compose's own labels.

    Raises:
        UnsupportedModelError: If something is not understood.
    """
    only(spec, {"name", "labels", "driver", "driver_opts"}, f"volumes.{key}.")
    options = spec.get("driver_opts") or {}
    if options.get("o") == "bind":  # Compose mounts it in another way than any other volume
        raise UnsupportedModelError(f"volumes.{key}.driver_opts.o", "bind")
    return VolumePlan(
        name=spec["name"], labels={**(spec.get("labels") or {}), **labels}, driver=spec.get("driver") or None,
        options={name: str(value) for name, value in options.items()},
    )  # fmt: skip


def mount(body: Body, model: Mapping[str, Any], spec: Mapping[str, Any], where: str) -> None:
    """
    Fill in everything that a service mounts.

    Args:
        body: Filled in.
        model: Where volumes, secrets and configs are described.
        spec: The service.
        where: Its place in the model.

    Raises:
        UnsupportedModelError: If something is not understood.
    """
    binds, mounts = [], {}
    for entry in spec.get("volumes") or ():
        place = f"{where}.volumes"
        only(entry, {"type", "source", "target", "read_only", "consistency", "bind", "volume", "tmpfs"}, f"{place}.")
        if entry["target"] != posixpath.normpath(entry["target"]):
            raise UnsupportedModelError(place, entry)
        if entry["type"] == "bind" and _is_made(entry, place):
            binds.append(_bound(entry))
        else:
            mounts[entry["target"]] = _mount(entry, model, place)
    for kind in FOLDERS:
        for target, source in _files(kind, model, spec, where):
            mounts.setdefault(target, {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True})
    # as Compose: a mount's place in the list follows the sorted targets
    body["HostConfig"]["Mounts"] = [mounts[target] for target in sorted(mounts)]
    if binds:
        body["HostConfig"]["Binds"] = binds


def _is_made(entry: Mapping[str, Any], place: str) -> bool:
    """Say whether the engine makes a missing source; what an absent word means depends on Compose's version."""
    options = entry.get("bind") or {}
    only(options, {"create_host_path", "propagation", "selinux"}, f"{place}.bind.")
    made = options.get("create_host_path")
    if made is None and not files.exists(Path(entry["source"])):
        raise UnsupportedModelError(f"{place}.bind", entry)
    return bool(made)


def _bound(entry: Mapping[str, Any]) -> str:
    options = entry.get("bind") or {}
    words = ["ro" if entry.get("read_only") else "rw", options.get("selinux"), options.get("propagation")]
    return f"{entry['source']}:{entry['target']}:{','.join(filter(None, words))}"


def _mount(entry: Mapping[str, Any], model: Mapping[str, Any], place: str) -> dict[str, Any]:
    kind = entry["type"]
    made = {"Target": entry["target"], "Type": kind}
    if entry.get("read_only"):
        made["ReadOnly"] = True
    if entry.get("consistency"):
        made["Consistency"] = entry["consistency"]
    match kind:
        case "bind":
            made["Source"] = entry["source"]
            if options := entry.get("bind"):
                made["BindOptions"] = {"Propagation": options.get("propagation", "")}
        case "volume":
            made |= _volume_mount(entry, model, place)
        case "tmpfs":
            options = entry.get("tmpfs")
            only(options or {}, {"size", "mode"}, f"{place}.tmpfs.")
            if options is not None:
                made["TmpfsOptions"] = {"SizeBytes": int(options.get("size") or 0), "Mode": options.get("mode") or 0}
        case _:
            raise UnsupportedModelError(place, entry)
    return made


def _volume_mount(entry: Mapping[str, Any], model: Mapping[str, Any], place: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if source := entry.get("source"):
        made["Source"] = model["volumes"][source]["name"]
    if (options := entry.get("volume")) is not None:
        only(options, {"nocopy"}, f"{place}.volume.")  # API 1.44 ignores a subpath, and mounts the whole volume
        made["VolumeOptions"] = {"NoCopy": bool(options.get("nocopy")), "Subpath": ""}
    return made


def _files(kind: str, model: Mapping[str, Any], spec: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """Give target and source of each secret or config that is a file of the host."""
    for entry, found in _entries(kind, model, spec, where):
        if source := found.get("file"):
            yield _target(kind, entry), source


def copied(
    model: Mapping[str, Any], spec: Mapping[str, Any], where: str, variables: Mapping[str, str]
) -> list[FilePlan]:
    """
    Return the secrets and configs whose content is not a file of the host.

    Args:
        model: Where they are described.
        spec: The service.
        where: Its place in the model.
        variables: The caller's variables.

    Raises:
        UnsupportedModelError: If something is not understood, or a variable is not the caller's.
    """
    made = []
    for kind in FOLDERS:
        for entry, found in _entries(kind, model, spec, where):
            if not found.get("file"):
                content = _content(kind, entry["source"], found, variables)
                made.append(FilePlan(path=_target(kind, entry), content=content, mode=file_mode(entry.get("mode"))))
    return [file for file in made if file.content]


def file_mode(value: object) -> int:
    """Return the mode of a copied file; Compose prints it as a number or, since 2.34, as a text in base 8."""
    return READABLE if value is None else value if isinstance(value, int) else int(str(value), 8)


def _entries(
    kind: str, model: Mapping[str, Any], spec: Mapping[str, Any], where: str
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for entry in spec.get(kind) or ():
        found = model[kind][entry["source"]]
        only(entry, {"source", "target", "mode"}, f"{where}.{kind}.")
        only(found, {"name", "file", "content", "environment"}, f"{kind}.{entry['source']}.")
        yield entry, found


def _content(kind: str, name: str, found: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    if "content" in found:
        return str(found["content"])
    variable = str(found.get("environment") or "")
    if variable not in variables:  # Compose may know it from an env file
        raise UnsupportedModelError(f"{kind}.{name}", found)
    return variables[variable]


def _target(kind: str, entry: Mapping[str, Any]) -> str:
    target = str(entry.get("target") or entry["source"])
    return target if target.startswith("/") else f"{FOLDERS[kind]}{target}"
