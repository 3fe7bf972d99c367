"""
Bringing a copy's data back to its state right after the start.

PostgreSQL and Redis do it in place. Containers that write to volumes are removed with these volumes and made again:
what they kept elsewhere is gone, too. Every other service keeps running. Finally, each service must prove usable, and
one that ended because its connection was cut is started again. Each step may be repeated, so a reset fixes what a
killed one left.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from stackyard._util.advice import end_and_start
from stackyard._util.failpoints import reach
from stackyard.docker import container_commands, container_files, lease_engine
from stackyard.docker.fast_start.records import ContainerPlan, VolumePlan
from stackyard.docker.ownership import Holdings, numbered
from stackyard.docker.unanswered_requests import Asking
from stackyard.errors import RefusedError, StackyardError, UsageError
from stackyard.leases.stack_lock import still_leased
from stackyard.stacks import project_images
from stackyard.stacks.data import scripts
from stackyard.stacks.data.drivers import Seen, together
from stackyard.stacks.data.ready_again import Prover
from stackyard.stacks.data.records import Note, Reset, ServiceReset
from stackyard.stacks.data.snapshot import LONGEST, client_words, last_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackyard.probes.readiness_rules import ImageFacts
    from stackyard.stacks.copies.lifecycle import Copy
    from stackyard.stacks.data.records import Driver, Kept

SCRIPTS: Final[Mapping[Driver, str]] = {"postgresql": scripts.POSTGRES_RESET, "redis": scripts.REDIS_RESET}
NOTHING: Final = "nothing was reset"
DONE: Final[Mapping[Driver, str]] = {
    "postgresql": "its databases are as after the start",
    "redis": "it is empty",
    "volumes": "its containers and volumes were made again",
}


def reset(copy: Copy, services: Sequence[str], deadline: float) -> Reset:
    """
    Bring the data of a copy back.

    Args:
        copy: The copy.
        services: Only these, and those that share volumes with them; none means all.
        deadline: Seconds until the services must be ready again.

    Raises:
        UsageError: If the copy keeps no state, has no such service, or what it keeps cannot be read.
        NotReadyError: If a service is not usable afterwards.
        StackyardError: If a database refuses.
        EngineError: If the engine refuses or does not answer; the next reset repeats what is missing.
    """
    with still_leased(copy.lease):
        lease_engine.check(copy.lease, copy.engine)
        return _Resetting(copy, Note.read(copy.lease)).run(services, deadline)


class _Resetting:
    def __init__(self, copy: Copy, note: Note) -> None:
        self.engine = copy.engine
        self.lease = copy.lease
        self.model = copy.model
        self.holdings = Holdings.of(copy.book.host, copy.lease)
        self.note = note
        self.prover = Prover(engine=copy.engine, lease=copy.lease, model=copy.model, hints=note.hints)
        self.there = numbered(self.holdings.containers(self.engine))

    def run(self, services: Sequence[str], deadline: float) -> Reset:
        began = time.monotonic()
        chosen = self._chosen(services)
        again = [one for one in chosen if one.driver == "volumes"]
        self._check_archives(again)
        self._check_names()
        self._check_volumes(again)
        staying = [one for one in self.note.containers if one not in again and one.runs]
        self._check_containers(staying)
        self._name_again()
        self._unpause(staying)
        names = sorted({one.service for one in chosen if one.driver in SCRIPTS})
        images = project_images.facts(self.engine, self.model, names)
        with ThreadPoolExecutor(max_workers=len(names) + 1) as threads:
            made = threads.submit(self._make_again, again)
            done = [*threads.map(lambda name: self._in_place(name, chosen, images), names), *made.result()]
        self.prover.wait_again({one.name: one.service for one in self.note.containers if one.runs}, deadline)
        done += [ServiceReset(service=one.service, driver="none", seconds=0.0, what=one.why)
                 for one in chosen if one.driver == "none"]  # fmt: skip
        order = [*self.model["services"]]
        listed = {one.service: one for one in sorted(done, key=lambda one: order.index(one.service))}
        return Reset(seconds=time.monotonic() - began, services=tuple(listed.values()))

    def _chosen(self, services: Sequence[str]) -> list[Kept]:
        known = {one.service for one in self.note.containers}
        for name in services:
            if name not in known:
                raise UsageError(f"the copy has no service {name!r}; its services: {', '.join(sorted(known))}")
        made = [
            Seen(service=one.service, name=one.name, folders=one.folders, joins=one.joins)
            for one in self.note.containers if one.driver == "volumes"
        ]  # fmt: skip
        # by a reset that was killed
        removed = {one.service for one in self.note.containers if one.driver == "volumes" and not self._is_there(one)}
        wanted = together({*services, *removed}, made) if services else known
        return [one for one in self.note.containers if one.service in wanted]

    def _is_there(self, one: Kept) -> bool:
        return one.key in self.there

    # in place

    def _in_place(self, name: str, chosen: Sequence[Kept], images: Mapping[str, ImageFacts]) -> ServiceReset:
        began = time.monotonic()
        mine = [one for one in chosen if one.service == name]
        for one in mine:
            self._start(one)
            words = client_words(SCRIPTS[one.driver], self.model["services"][name], images.get(name))
            code, text = container_commands.output(self.engine, one.name, *words, deadline=LONGEST)
            if code:
                raise StackyardError(f"service {name} was not reset: {last_line(text) or f'exit code {code}'}")
        driver = mine[0].driver
        return ServiceReset(service=name, driver=driver, seconds=time.monotonic() - began, what=DONE[driver])

    def _start(self, one: Kept) -> None:
        """Start a container again that has ended since."""
        if self.engine.state(one.name).status != "running":
            self.engine.start(one.name)
            self.prover.wait({one.service}, LONGEST)

    # made again

    def _make_again(self, containers: Sequence[Kept]) -> list[ServiceReset]:
        began = time.monotonic()
        self._remove(containers)
        reach("reset")
        asking: Any = Asking(self.engine, self.lease)
        for name in self._volumes(containers):
            asking.create_volume(_volume_plan(name, self.note.volumes[name]))
        # to create one that is there changes nothing, and is no error
        self._refuse_foreign_volumes(containers, "no container was made again")
        filled = {folder.volume for one in containers for folder in one.folders if folder.path in one.archives}
        for one in containers:
            paths = [folder.path for folder in one.folders if folder.volume in filled]
            config = container_files.not_filled(one.body, paths)
            asking.create_container(ContainerPlan(service=one.service, name=one.name, config=config))
            for path, file in one.archives.items():
                container_files.restore(self.engine, one.name, path.rstrip("/") or "/", self.lease.directory / file)
        self._start_in_order([one for one in containers if one.runs])
        took = time.monotonic() - began
        return [ServiceReset(service=one.service, driver="volumes", seconds=took, what=f"{one.why}: {DONE['volumes']}")
                for one in containers]  # fmt: skip

    def _check_archives(self, containers: Sequence[Kept]) -> None:
        """Raise before anything is removed if what would be put back is gone or damaged."""
        needed = [file for one in containers for file in one.archives.values()]
        if gone := [str(self.lease.directory / file) for file in needed if not self._is_whole(file)]:
            raise UsageError(
                f"copy {self.lease.title}: {', '.join(gone)} with its kept data is gone or damaged, and nothing was "
                f"reset; {end_and_start(self.lease.id)}"
            )

    def _is_whole(self, file: str) -> bool:
        try:
            return container_files.checksum(self.lease.directory / file) == self.note.sums.get(file)
        except OSError:
            return False

    def _check_names(self) -> None:
        """Raise before anything is removed if another container has the name of one of ours."""
        for one in self.note.containers:
            if self._name(one) != one.name and self._is_taken(one.name):
                raise self._refusal(
                    f"container {one.name} has the name that its service {one.service} needs",
                    f"remove it ('docker rm -f {one.name}') or rename it, and reset again",
                )

    def _name(self, one: Kept) -> str:
        """Return the name that a container has by now; empty if it is gone."""
        return self.there[one.key].name if self._is_there(one) else ""

    def _is_taken(self, name: str) -> bool:
        try:
            container_files.inspected(self.engine, name)
        except RefusedError:
            return False
        return True

    def _check_volumes(self, containers: Sequence[Kept]) -> None:
        """Raise before anything is removed if a volume that is to be made again cannot go, or is not ours."""
        self._refuse_foreign_volumes(containers, NOTHING)
        going = self._ids(containers)
        for volume in sorted(self._volumes(containers)):
            users = container_files.users(self.engine, volume)
            if others := sorted(name for identity, name in users.items() if identity not in going):
                raise self._refusal(
                    f"container {', '.join(others)} uses volume {volume}, which is to be made again",
                    f"remove what uses it ('docker rm -f {' '.join(others)}'), and reset again",
                )

    def _refuse_foreign_volumes(self, containers: Sequence[Kept], done: str) -> None:
        for name in sorted(self._volumes(containers)):
            found = container_files.volume(self.engine, name)
            if found is not None and not self.holdings.holds(found.get("Labels") or {}):
                raise self._refusal(
                    f"volume {name} has a name of the copy's own, but not its labels: somebody else made it",
                    f"remove it ('docker volume rm {name}'), and reset again", done,
                )  # fmt: skip

    def _refusal(self, why: str, advice: str, done: str = NOTHING) -> UsageError:
        return UsageError(f"copy {self.lease.title}: {why}, and {done}; {advice}")

    def _ids(self, containers: Sequence[Kept]) -> set[str]:
        return {self.there[one.key].id for one in containers if self._is_there(one)}

    def _name_again(self) -> None:
        """Give each container that somebody has renamed its name back: others refer to it by that."""
        for one in self.note.containers:
            if self._is_there(one) and self._name(one) != one.name:
                container_files.rename(self.engine, self.there[one.key].id, one.name)

    def _check_containers(self, containers: Sequence[Kept]) -> None:
        """Raise before anything is removed if one is gone that is not made again."""
        if gone := sorted({one.service for one in containers if not self._is_there(one)}):
            raise UsageError(
                f"copy {self.lease.title}: the container of {', '.join(gone)} is gone, and nothing was reset; end "
                "the copy and start it again"
            )

    def _unpause(self, containers: Sequence[Kept]) -> None:
        for one in containers:
            if self.engine.state(one.name).status == "paused":
                container_files.unpause(self.engine, one.name)

    def _remove(self, containers: Sequence[Kept]) -> None:
        """Remove the containers and their own volumes, as far as they are there; nothing else has these labels."""
        going = self._ids(containers)
        volumes = self._volumes(containers)
        found = self.holdings.everything(self.engine)
        for item in found:
            if item.kind == "container" and item.id in going:
                self.engine.remove(item)
        for item in found:
            if item.kind == "volume" and item.name in volumes:
                self.engine.remove(item)

    def _volumes(self, containers: Sequence[Kept]) -> set[str]:
        """Return the volumes that go and come with *containers*; one that a database reset in place has stays."""
        own = {folder.volume for one in containers for folder in one.folders if folder.own}
        there = {folder.volume for one in self.note.containers if one.driver in SCRIPTS for folder in one.folders}
        return own & {*self.note.volumes} - there

    def _start_in_order(self, containers: Sequence[Kept]) -> None:
        """Start each service once those that it depends on are usable again."""
        left = {one.service for one in containers}
        while left:
            free = {
                name for name in left if not left & {*(self.model["services"][name].get("depends_on") or ())}
            } or left
            for one in containers:
                if one.service in free:
                    self.engine.start(one.name)
            left -= free
            if left:
                self.prover.wait(free, LONGEST)


def _volume_plan(name: str, answer: Mapping[str, Any]) -> VolumePlan:
    return VolumePlan(
        name=name, labels=answer.get("Labels") or {}, driver=answer.get("Driver"), options=answer.get("Options") or {}
    )
