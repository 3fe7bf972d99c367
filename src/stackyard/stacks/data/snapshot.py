"""
Saving a copy's data right after its start.

PostgreSQL copies its databases. The containers of other services that write to volumes are paused, their folders are
read as archives, and they go on: what a database server finds there later is what it finds after a crash of the host.
"""

from __future__ import annotations

import contextlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from stackyard.docker import container_commands, container_files, inspection
from stackyard.docker.json_fields import Part
from stackyard.docker.ownership import Holdings
from stackyard.docker.records import NUMBER_LABEL, PROJECT_LABEL, SERVICE_LABEL
from stackyard.errors import RefusedError, StackyardError
from stackyard.plan.volumes import device
from stackyard.probes.readiness_rules import SHELL, recognised
from stackyard.project.model import copies_of
from stackyard.stacks import project_images
from stackyard.stacks.data import scripts
from stackyard.stacks.data.drivers import IN_PLACE, Seen, choose
from stackyard.stacks.data.ready_again import Prover
from stackyard.stacks.data.records import ARCHIVE, Folder, Kept, Note

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from stackyard.probes.readiness_rules import ImageFacts
    from stackyard.project.readiness_hints import Hint
    from stackyard.stacks.copies.lifecycle import Copy
    from stackyard.stacks.data.drivers import Choice

LONGEST: Final = 120.0  # seconds that a client may take to copy
ANONYMOUS: Final = "com.docker.volume.anonymous"
TEXT: Final = 200  # characters of a client's complaint


def keep(copy: Copy, hints: Mapping[str, Hint], deadline: float) -> None:
    """
    Keep the data of a copy that is ready, in the folder of its lease and in its PostgreSQL servers.

    Args:
        copy: The copy.
        hints: What the configuration says about the readiness of services.
        deadline: Seconds until its services must be usable again.

    Raises:
        NotReadyError: If a service is not.
        StackyardError: If a database cannot be kept, and its server has no volume that could be.
        EngineError: If the engine refuses or does not answer.
    """
    keeping = _Keeping(copy, hints)
    keeping.run()
    # to copy a database, PostgreSQL ends its sessions
    running = {one.name: one.service for one in keeping.seen if one.runs}
    Prover(engine=copy.engine, lease=copy.lease, model=copy.model, hints=hints).wait_again(running, deadline)


_Pair = tuple[Seen, "Mapping[str, Any]"]  # a container, and what the engine says of it


class _Keeping:
    def __init__(self, copy: Copy, hints: Mapping[str, Hint]) -> None:
        self.engine = copy.engine
        self.lease = copy.lease
        self.model = copy.model
        self.holdings = Holdings.of(copy.book.host, copy.lease)
        self.hints = hints
        self.answers = self._inspect()
        self.names = {str(answer["Id"]): _name(answer) for answer in self.answers}
        self.seen = [self._seen(answer) for answer in self.answers]
        self.archived: set[str] = set()  # volumes whose content is kept
        self.sums: dict[str, str] = {}

    def run(self) -> None:
        images = project_images.facts(self.engine, self.model, {one.service for one in self.seen})
        refused: dict[str, str] = {}
        for name, choice in choose(self.model, images, self.seen, refused).items():
            if choice.driver == "postgresql":
                self._ask(name, scripts.POSTGRES_KEEP, images, refused)
            elif choice.driver == "redis":
                self._ask(name, scripts.REDIS_KEEP, images, refused)
        chosen = choose(self.model, images, self.seen, refused)
        self._check(chosen, refused)
        self._check_parts(chosen)
        there = [one for one in self.seen if chosen[one.service].driver in IN_PLACE.values()]
        self.archived.update(folder.volume for one in there for folder in one.folders)
        with contextlib.ExitStack() as pauses:  # all at once, so that what they keep fits together
            for one in self.seen:
                if one.runs and chosen[one.service].driver == "volumes":
                    pauses.enter_context(container_files.paused(self.engine, one.name))
            kept = [self._kept(one, answer, chosen[one.service]) for one, answer in self._ordered()]
        Note(containers=tuple(kept), volumes=self._volumes(), hints=self.hints, sums=self.sums).write(self.lease)

    def _inspect(self) -> list[Mapping[str, Any]]:
        listed = inspection.seen(self.engine, [f"{PROJECT_LABEL}={self.lease.project}"])
        own = {item.id for item in self.holdings.containers(self.engine)}
        known = {name for name, service in self.model["services"].items() if copies_of(service)}
        return [
            container_files.inspected(self.engine, one.id) for one in listed if one.id in own and one.service in known
        ]

    def _seen(self, answer: Mapping[str, Any]) -> Seen:
        part = Part(answer)
        mounts = [mount for mount in part.get("Mounts").items() if mount.text("Type", "") == "volume"]
        asked = part.get("HostConfig").get("Mounts").items()
        unnamed = {mount.text("Target") for mount in asked if not mount.text("Source", "")}
        return Seen(
            service=part.get("Config").get("Labels").texts()[SERVICE_LABEL], name=_name(answer),
            folders=[self._folder(mount, unnamed) for mount in mounts],
            joins=[self.names.get(identity, identity) for identity in container_files.joined(answer)],
            runs=part.get("State").text("Status") == "running",
        )  # fmt: skip

    def _folder(self, mount: Part, unnamed: Collection[str]) -> Folder:
        name, path = mount.text("Name"), mount.text("Destination")
        found = container_files.volume(self.engine, name) or {}
        labels = found.get("Labels") or {}
        # the engine names a user's volume, too, and labels it so, if `docker volume create` gets no name
        anonymous = (ANONYMOUS in labels or path in unnamed) and name not in self._named()
        return Folder(
            path=path, volume=name,
            own=anonymous or (self.holdings.holds(labels) and not _is_elsewhere(found)), anonymous=anonymous,
            writable=mount.truth("RW"),
        )  # fmt: skip

    def _named(self) -> set[str]:
        """Return the names of the volumes that the model declares, external ones too."""
        declared = (self.model.get("volumes") or {}).items()
        return {str((volume or {}).get("name") or key) for key, volume in declared}

    def _ask(self, name: str, script: str, images: Mapping[str, ImageFacts], refused: dict[str, str]) -> None:
        """Let the clients inside the containers of a service keep its data; note why they cannot."""
        for one in self.seen:
            if one.service == name:
                words = client_words(script, self.model["services"][name], images.get(name))
                code, text = container_commands.output(self.engine, one.name, *words, deadline=LONGEST)
                if code:
                    refused[name] = last_line(text) or f"its client ended with exit code {code}"

    def _check(self, chosen: Mapping[str, Choice], refused: Mapping[str, str]) -> None:
        for name, why in refused.items():
            folders = [folder for one in self.seen if one.service == name for folder in one.folders]
            if chosen[name].driver != "volumes" or not any(folder.own and folder.writable for folder in folders):
                raise StackyardError(
                    f"service {name}: its data cannot be kept for a reset: {why}; it has no volume of its own either"
                )

    def _check_parts(self, chosen: Mapping[str, Choice]) -> None:
        """Refuse a volume of which a service has only a part: the engine gives, and takes, no more than that."""
        for one, answer in zip(self.seen, self.answers, strict=True):
            host = Part(answer).get("HostConfig")
            parts = {
                mount.text("Target") for mount in host.get("Mounts").items()
                if mount.value.get("VolumeOptions") and mount.get("VolumeOptions").text("Subpath", "")
            }  # fmt: skip
            for folder in one.folders if chosen[one.service].driver == "volumes" else ():
                if folder.own and folder.path in parts:
                    raise StackyardError(
                        f"service {one.service}: its data cannot be kept for a reset: {folder.path} is a part of "
                        f"volume {folder.volume} (subpath)"
                    )

    def _ordered(self) -> list[_Pair]:
        """Return each container after those that it joins."""
        left, done = list(zip(self.seen, self.answers, strict=True)), list[_Pair]()
        while left:
            waiting = {one.name for one, _ in left}
            free = [pair for pair in left if not waiting & {*pair[0].joins}] or left
            done += free
            left = [pair for pair in left if pair not in free]
        return done

    def _kept(self, one: Seen, answer: Mapping[str, Any], choice: Choice) -> Kept:
        made = choice.driver == "volumes"
        return Kept(
            service=one.service, name=one.name, driver=choice.driver, why=choice.why,
            body=container_files.body(answer, self.names) if made else {}, folders=tuple(one.folders),
            joins=tuple(one.joins), archives=self._archives(one, answer) if made else {}, runs=one.runs,
            number=answer["Config"]["Labels"].get(NUMBER_LABEL, ""),
        )  # fmt: skip

    def _archives(self, one: Seen, answer: Mapping[str, Any]) -> dict[str, str]:
        found, mounted = {}, _mounted(answer)
        for folder in one.folders:
            if folder.own and folder.writable and folder.volume not in self.archived:
                self.archived.add(folder.volume)
                found[folder.path] = self._archive(
                    one.name, f"{folder.path.rstrip('/')}/.", without=_below(folder.path, mounted)
                )
        for path in self._copied_files(one.service, answer):
            try:
                # several files may be in one folder; a second `/` makes another key of the same path
                place = path.rpartition("/")[0] or "/"
                while place in found:
                    place += "/"
                found[place] = self._archive(one.name, path)
            except RefusedError:
                continue
        return found

    def _archive(self, container: str, path: str, *, without: Sequence[str] = ()) -> str:
        file = self.lease.directory / ARCHIVE.format(len(self.sums))
        self.sums[file.name] = container_files.save(self.engine, container, path, file, without=without)
        return file.name

    def _copied_files(self, service: str, answer: Mapping[str, Any]) -> list[str]:
        """Return where configs and secrets stand that were copied into the container, not mounted."""
        mounted = _mounted(answer)
        found = []
        for kind, folder in (("configs", "/"), ("secrets", "/run/secrets/")):
            for entry in self.model["services"][service].get(kind) or ():
                target = str(entry.get("target") or entry["source"])
                found.append(target if target.startswith("/") else f"{folder}{target}")
        return [path for path in found if path not in mounted]

    def _volumes(self) -> dict[str, Mapping[str, Any]]:
        names = {folder.volume for one in self.seen for folder in one.folders if folder.own and not folder.anonymous}
        return {name: found for name in sorted(names) if (found := container_files.volume(self.engine, name))}


def _is_elsewhere(volume: Mapping[str, Any]) -> bool:
    """Say whether a volume's content may be a folder, or on a server, that was there before: removed, it comes back."""
    return volume.get("Driver") not in {"local", None} or bool(device({"driver_opts": volume.get("Options")}))


def _mounted(answer: Mapping[str, Any]) -> set[str]:
    return {mount.text("Destination") for mount in Part(answer).get("Mounts").items()}


def _below(path: str, mounted: Collection[str]) -> list[str]:
    """Return which of *mounted* are inside the folder *path*, relative to it: the engine reads through them."""
    folder = PurePosixPath(path)
    return sorted(
        str(PurePosixPath(one).relative_to(folder)) for one in mounted if folder in PurePosixPath(one).parents
    )


def client_words(script: str, service: Mapping[str, Any], image: ImageFacts | None) -> tuple[str, ...]:
    """Return what to run inside a container of *service*: a script, and the host and port that its client asks."""
    found = recognised(service, image)
    if found is None:
        raise StackyardError("the service is no database that stackyard knows")
    product, port, _ = found
    return (*SHELL, script, "data", "" if product.sets_itself_up else "127.0.0.1", str(port.number))


def last_line(text: str) -> str:
    """Return the last line that a client wrote, for a message."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return lines[-1][:TEXT] if lines else ""


def _name(answer: Mapping[str, Any]) -> str:
    return str(answer["Name"]).lstrip("/")
