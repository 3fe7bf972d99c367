"""
The files of this host that a copy on another host's engine needs: bind mounts, configs and secrets.

A file becomes a config of the copy's model, a folder a volume of the copy that is filled before the start. What a
service may write stays refused: the other engine would write into a copy of it, and nothing would come back.
"""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard.docker.fast_start.mounts import READABLE, file_mode
from stackyard.docker.fast_start.records import ContainerPlan, VolumePlan
from stackyard.docker.records import Resource
from stackyard.docker.remote_claims import IMAGE, make_image
from stackyard.errors import UsageError
from stackyard.plan.volumes import SOCKETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stackyard.docker import Engine

LARGEST_FOLDER: Final = 50 << 20  # bytes of all its files
LARGEST_FILE: Final = 1 << 20  # bytes
EXECUTABLE: Final = 0o555
SECRETS: Final = "/run/secrets/"
ROOT: Final = "files"  # folder of the container that fills a volume


@dataclass(slots=True)
class Cargo:
    """
    What one copy takes along.

    Attributes:
        project: The copy's Compose project name.
        folders: Folder of this host for each volume of the model that is filled with it.
        refused: What cannot go along, and why; a line each.
    """

    project: str = ""
    folders: dict[str, Path] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def pack(self, model: dict[str, Any]) -> None:
        """
        Let *model* name nothing of this host any more.

        Args:
            model: The copy's model; it is changed.

        Raises:
            UsageError: If something cannot go along; names all of it.
        """
        for name, service in model["services"].items():
            mounts = service.get("volumes") or []
            for index, mount in enumerate(mounts):
                if mount.get("type") == "bind" and mount.get("source") not in SOCKETS:
                    self._mount(model, service, mount, f"services.{name}.volumes[{index}]")
            service["volumes"] = [mount for mount in mounts if mount]
            self._secrets(model, service)
        for name, config in (model.get("configs") or {}).items():
            if file := config.pop("file", None):
                config["content"] = self._content(Path(file), f"configs.{name}")
        if self.refused:
            raise UsageError("\n".join(self.refused))

    def _mount(self, model: dict[str, Any], service: dict[str, Any], mount: dict[str, Any], place: str) -> None:
        source, target = Path(mount["source"]), mount["target"]
        if not mount.get("read_only"):
            self._refuse(
                place, source, "what a copy writes there would stay on the other engine; add :ro or use a volume"
            )
        elif source.is_dir():
            key = self._folder(model, source, place)
            mount.clear()
            mount.update({"type": "volume", "source": key, "target": target, "read_only": True, "volume": {}})
        else:
            mount.clear()
            _add(model, service, self.project, target, self._content(source, place), _mode(source))

    def _folder(self, model: dict[str, Any], source: Path, place: str) -> str:
        """Return the volume of a folder; services that mount the same folder share it."""
        if found := next((key for key, folder in self.folders.items() if folder == source), ""):
            return found
        size = sum(path.lstat().st_size for path in _files(source))
        if size > LARGEST_FOLDER:
            self._refuse(place, source, f"its files have more than {LARGEST_FOLDER >> 20} MiB; use a volume")
        volumes = model["volumes"] = model.get("volumes") or {}
        key = f"bind-{len(self.folders) + 1}"
        volumes[key] = {"name": f"{self.project}_{key}"}
        self.folders[key] = source
        return key

    def _secrets(self, model: dict[str, Any], service: dict[str, Any]) -> None:
        """Make configs of the secrets that are files: only those can have their content in a model."""
        kept = []
        for entry in service.get("secrets") or ():
            name = entry["source"]
            file = model["secrets"][name].get("file")
            if not file:
                kept.append(entry)
                continue
            target = str(entry.get("target") or name)
            target = target if target.startswith("/") else f"{SECRETS}{target}"
            content = self._content(Path(file), f"secrets.{name}")
            _add(model, service, self.project, target, content, file_mode(entry.get("mode")))
        if "secrets" in service:
            service["secrets"] = kept

    def _content(self, source: Path, place: str) -> str:
        """Return the text of a file as a model has it."""
        try:
            if not source.is_file() or source.stat().st_size > LARGEST_FILE:
                most = f"a file of {LARGEST_FILE >> 20} MiB at most"
                self._refuse(place, source, f"only files and folders go along, {most}")
                return ""
            return source.read_text(encoding="utf-8").replace("$", "$$")
        except (OSError, UnicodeDecodeError) as error:
            self._refuse(place, source, f"only readable text files go along ({error})")
            return ""

    def _refuse(self, place: str, source: Path, why: str) -> None:
        self.refused.append(f"{place}: {source} is on this host and the engine is on another: {why}")

    def digests(self) -> dict[str, str]:
        """Return a digest of each folder that goes along, by its volume of the model."""
        return {f"volumes.{key}": hashlib.sha256(_archive(folder)).hexdigest() for key, folder in self.folders.items()}

    def deliver(self, engine: Engine, model: Mapping[str, Any]) -> None:
        """
        Make the volumes and fill them.

        Args:
            engine: Where.
            model: The copy's model, with the lease's labels.

        Raises:
            EngineError: If the engine does not answer or refuses.
        """
        if self.folders:
            make_image(engine, IMAGE)
        for key, folder in self.folders.items():
            labels = {name: str(value).replace("$$", "$") for name, value in model["volumes"][key]["labels"].items()}
            _fill(engine, model["volumes"][key]["name"], labels, folder)


def _fill(engine: Engine, volume: str, labels: Mapping[str, str], folder: Path) -> None:
    engine.create_volume(VolumePlan(name=volume, labels=labels, driver=None, options={}))
    mount = {"Type": "volume", "Source": volume, "Target": f"/{ROOT}", "VolumeOptions": {"NoCopy": True}}
    config = {"Image": IMAGE, "Cmd": ["fill"], "Labels": dict(labels), "HostConfig": {"Mounts": [mount]}}
    name = f"{volume}-fill"
    made = engine.create_container(ContainerPlan(service="", name=name, number=1, config=config, platform=""))
    engine.copy_into(made, _archive(folder))
    engine.remove(Resource(kind="container", id=made, name=name, labels=labels))


def _archive(folder: Path) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(folder, ROOT)
        return file.getvalue()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())


def _mode(source: Path) -> int:
    """Return permissions with which whatever user a service has reads the file; its owner here is unknown there."""
    return EXECUTABLE if source.is_file() and source.stat().st_mode & stat.S_IXUSR else READABLE


def _add(model: dict[str, Any], service: dict[str, Any], project: str, target: str, content: str, mode: int) -> None:
    """Let *service* find *content* at *target*."""
    configs = model["configs"] = model.get("configs") or {}
    key = f"file-{len(configs) + 1}"
    configs[key] = {"name": f"{project}_{key}", "content": content}
    service["configs"] = [*(service.get("configs") or ()), {"source": key, "target": target, "mode": mode}]
