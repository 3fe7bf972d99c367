"""
From Compose's rendered model (`docker compose config --format json`) to the bodies of the engine's requests.

A key without a translation, or an unexpected value, ends the translation, and Compose does the start. So no key is ever
dropped silently. `keys`, `mounts` and `networks` know what Compose makes of each part.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from stackyard.docker.fast_start import mounts, networks
from stackyard.docker.fast_start.keys import fill, only
from stackyard.docker.fast_start.records import STARTED, Blueprint, ContainerPlan
from stackyard.docker.records import DEPENDS_LABEL, PROJECT_LABEL, SERVICE_LABEL
from stackyard.errors import UnsupportedModelError
from stackyard.project.model import copies_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.docker.fast_start.records import Source

COMPOSE: Final = "com.docker.compose"
HASH_LABEL: Final = f"{COMPOSE}.config-hash"
NAMESPACES: Final = {"network_mode": "NetworkMode", "ipc": "IpcMode", "pid": "PidMode"}


def translate(model: Mapping[str, Any], source: Source) -> Blueprint:
    """
    Return what Compose would make of *model* in an engine that has nothing of this project yet.

    External networks and volumes are not made; the caller makes sure that they are there.

    Args:
        model: As `docker compose config --format json` prints it, each `$` doubled.
        source: Where it comes from, and what it does not say itself.

    Raises:
        UnsupportedModelError: If a part of the model has no translation; the error names its place.
    """
    model = json.loads(json.dumps(model).replace("$$", "$"))
    only(model, {"name", "networks", "services", "secrets", "configs", "volumes"}, "")
    return _Translation(model, source).made()


class _Translation:
    """One model on its way."""

    def __init__(self, model: Mapping[str, Any], source: Source) -> None:
        self.model = model
        self.source = source
        self.services: Mapping[str, Any] = model["services"]
        self.project: str = model["name"]

    def made(self) -> Blueprint:
        labels = {PROJECT_LABEL: self.project, **self._version()}
        wanted = {key for spec in self.services.values() for key in spec.get("networks") or ()}
        mounted = self._mounted()
        return Blueprint(
            networks=[
                networks.network(key, spec, {**labels, f"{COMPOSE}.network": key})
                for key, spec in (self.model.get("networks") or {}).items()
                if key in wanted and not spec.get("external")
            ],
            volumes=[
                mounts.volume(key, spec, {**labels, f"{COMPOSE}.volume": key})
                for key, spec in (self.model.get("volumes") or {}).items()
                if key in mounted and not spec.get("external")
            ],
            containers=[
                self._container(service, number, name)
                for service in self.services
                for number, name in enumerate(networks.names_of(self.model, service), 1)
            ],
            conditions={name: found for name in self.services if (found := self._conditions(name))},
        )  # fmt: skip

    def _version(self) -> dict[str, str]:
        return {f"{COMPOSE}.version": self.source.version} if self.source.version else {}

    def _mounted(self) -> set[str]:
        found = [mount for spec in self.services.values() for mount in spec.get("volumes") or ()]
        return {str(mount.get("source")) for mount in found if mount.get("type") == "volume"}

    def _container(self, service: str, number: int, name: str) -> ContainerPlan:
        spec, where = self.services[service], f"services.{service}"
        if not spec.get("image"):
            raise UnsupportedModelError(f"{where}.image", None)
        environment = spec.get("environment") or {}
        body: dict[str, Any] = {
            "Image": spec["image"], "AttachStdout": True, "AttachStderr": True,
            "Env": [key if value is None else f"{key}={value}" for key, value in environment.items()],
            "Labels": self._labels(service, number),
            "HostConfig": {"Mounts": [], "ExtraHosts": [], "PortBindings": {}},
        }  # fmt: skip
        fill(body, spec, where)
        mounts.mount(body, self.model, spec, where)
        networks.attach(body, self.model, service, name, number)
        networks.publish(body, spec.get("ports") or (), number, copies_of(spec), f"{where}.ports")
        files = mounts.copied(self.model, spec, where, self.source.variables)
        if files and spec.get("read_only"):  # the engine copies nothing into such a container
            raise UnsupportedModelError(f"{where}.read_only", spec["read_only"])
        _stamp(body)
        return ContainerPlan(
            service=service, name=name, number=number, config=body, platform=spec.get("platform") or "",
            joins=self._joins(service), files=files,
        )  # fmt: skip

    def _labels(self, service: str, number: int) -> dict[str, str]:
        spec, source = self.services[service], self.source
        waits = spec.get("depends_on") or {} if source.ordered else {}
        listed = [f"{name}:{entry['condition']}:{str(bool(entry.get('restart'))).lower()}"
                  for name, entry in waits.items()]  # fmt: skip
        labels = {
            **(spec.get("labels") or {}), PROJECT_LABEL: self.project, SERVICE_LABEL: service,
            f"{COMPOSE}.project.config_files": source.files, f"{COMPOSE}.project.working_dir": source.folder,
            f"{COMPOSE}.container-number": str(number), f"{COMPOSE}.oneoff": "False", DEPENDS_LABEL: ",".join(listed),
            **self._version(),
        }  # fmt: skip
        if source.env_files:
            labels[f"{COMPOSE}.project.environment_file"] = source.env_files
        if image := source.images.get(spec["image"]):
            labels[f"{COMPOSE}.image"] = image
        return labels

    def _joins(self, service: str) -> dict[str, str]:
        """Return the services whose namespaces a container joins, by the engine's name for the namespace."""
        found = {}
        for key, name in NAMESPACES.items():
            mode = str(self.services[service].get(key) or "")
            other = mode.removeprefix("service:")
            if other != mode:
                if not copies_of(self.services.get(other) or {"scale": 0}):
                    raise UnsupportedModelError(f"services.{service}.{key}", mode)
                found[name] = other
        return found

    def _conditions(self, service: str) -> dict[str, str]:
        """Return what a service waits for; a dependency that is not needed and has no container is ignored."""
        found = {}
        waits = self.services[service].get("depends_on") or {} if self.source.ordered else {}
        for other, entry in waits.items():
            condition = entry.get("condition") or STARTED
            exists = other in self.services and copies_of(self.services[other])
            if exists:
                found[other] = condition
            elif entry.get("required", True) and (other not in self.services or condition != STARTED):
                raise UnsupportedModelError(f"services.{service}.depends_on.{other}", entry)
        return found


def _stamp(body: dict[str, Any]) -> None:
    """
    Label *body* with a digest of itself, where Compose keeps its own.

    Without one, `docker compose exec`, `logs` and `ps` do not see a container. Compose's `up` never makes one that
    equals it, and so makes the container again, as it does after any change.
    """
    text = json.dumps({**body, "Env": sorted(body["Env"])}, sort_keys=True)
    body["Labels"][HASH_LABEL] = f"stackyard-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
