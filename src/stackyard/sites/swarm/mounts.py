"""The storage of a service: volumes without a name, which the node removes with the container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stackyard.project.model import copies_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stackyard.sites.swarm.translation_notes import Notes

SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - a place in a container
SIZES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def translate(model: Mapping[str, Any], name: str, where: str, notes: Notes) -> list[dict[str, Any]]:
    """
    Return the mounts of one service; bind mounts travel as configs.

    Args:
        model: The copy's model.
        name: The service.
        where: Its place in the model.
        notes: Where changed parts are named.
    """
    spec = model["services"][name]
    found = [*_volumes(spec, where, notes), *_tmpfs(spec, where, notes)]
    if size := int(spec.get("shm_size") or 0):
        found.append({"Type": "tmpfs", "Target": SHARED_MEMORY, "TmpfsOptions": {"SizeBytes": size, "Mode": 0o1777}})
        notes.change(f"{where}.shm_size", f"a tmpfs on {SHARED_MEMORY}")
    return found


def _volumes(spec: Mapping[str, Any], where: str, notes: Notes) -> Iterator[dict[str, Any]]:
    for index, mount in enumerate(spec.get("volumes") or ()):
        kind, target, place = mount.get("type"), mount["target"], f"{where}.volumes[{index}]"
        if kind == "volume":
            options = mount.get("volume") or {}
            yield {
                "Type": "volume", "Target": target, "ReadOnly": bool(mount.get("read_only")),
                "VolumeOptions": {"NoCopy": bool(options.get("nocopy"))},
            }  # fmt: skip
            if mount.get("source"):
                notes.change(place, "a volume without a name, which the node removes with its container")
        elif kind == "tmpfs":
            options = mount.get("tmpfs") or {}
            yield _memory(target, int(options.get("size") or 0), int(options.get("mode") or 0))
        elif kind != "bind":
            notes.refuse(place, f"a mount of the type {kind} is not on the nodes")


def _memory(target: str, size: int, mode: int) -> dict[str, Any]:
    chosen = {key: value for key, value in (("SizeBytes", size), ("Mode", mode)) if value}
    return {"Type": "tmpfs", "Target": target, "TmpfsOptions": chosen}


def _tmpfs(spec: Mapping[str, Any], where: str, notes: Notes) -> Iterator[dict[str, Any]]:
    entries = spec.get("tmpfs") or ()
    for entry in [entries] if isinstance(entries, str) else entries:
        target, _, words = str(entry).partition(":")
        options = dict(word.partition("=")[::2] for word in words.split(",") if word)
        yield _memory(target, _bytes(options.pop("size", "")), int(options.pop("mode", "0"), 8))
        if options:
            notes.drop(f"{where}.tmpfs", f"{', '.join(sorted(options))} of {target}: a service knows size and mode")


def _bytes(text: str) -> int:
    """Return the bytes of a size as the kernel's tmpfs takes it; 0 without one."""
    number = text.rstrip("kKmMgG")
    return int(number) * SIZES[text[len(number) :].lower()] if number.isdecimal() else 0


def refuse_shared(model: Mapping[str, Any], notes: Notes) -> None:
    """Refuse volumes that more than one container uses: they may be on two nodes."""
    users: dict[str, list[str]] = {}
    for name, spec in model["services"].items():
        for key in {m["source"] for m in spec.get("volumes") or () if m.get("type") == "volume" and m.get("source")}:
            users.setdefault(key, []).extend([name] * copies_of(spec))
    for key, names in users.items():
        if len(names) > 1:
            listed = ", ".join(dict.fromkeys(names))
            notes.refuse(f"volumes.{key}", f"{len(names)} containers use it ({listed}), and they may be on two nodes")
        elif (model.get("volumes") or {}).get(key, {}).get("external"):
            notes.refuse(f"volumes.{key}", "all copies share it, and it is on one engine")
        elif (model.get("volumes") or {}).get(key, {}).get("driver_opts"):
            notes.drop(f"volumes.{key}.driver_opts", "each container gets a plain, empty volume")
