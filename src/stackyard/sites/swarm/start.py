"""One start on a Swarm: each service is created when what it waits for is ready."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from stackyard.errors import EngineError, NotReadyError
from stackyard.project.model import copies_of
from stackyard.sites.swarm.progress import FailedError, Progress
from stackyard.sites.swarm.translation import swarm_name
from stackyard.stacks.diagnostics import LONGER
from stackyard.stacks.readiness.progress_lines import Narration, Reasons
from stackyard.stacks.readiness.waiting import GOES_ON, NOTICED, ServiceReady, StackReady, never_will
from stackyard.stacks.readiness.watched_container import other_rule
from stackyard.stacks.starts.times import Startup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stackyard.docker.swarm import Swarm
    from stackyard.probes.readiness_rules import Rule
    from stackyard.sites.swarm.files import File
    from stackyard.sites.swarm.leases import Lease
    from stackyard.sites.swarm.translation import Translation

TICK: Final = 0.1  # seconds between two lists of tasks
TAIL: Final = 20  # lines of a log that a failure shows


@dataclass(slots=True)
class Start:
    """
    The start of everything in *translation* under *lease*.

    Attributes:
        swarm: Where it starts.
        lease: The copy's lease.
        translation: What is made.
        model: The copy's model.
        rules: How each service proves usable.
        progress: Called with a line whenever the user should know something.
        found: Each service that was created.
        seconds: When each service was ready, in seconds from the beginning.
        started: When all containers of each service had been started, likewise.
    """

    swarm: Swarm
    lease: Lease
    translation: Translation
    model: Mapping[str, Any]
    rules: Mapping[str, Rule]
    progress: Callable[[str], None]
    found: dict[str, Progress] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    _networks: dict[str, str] = field(default_factory=dict)

    def run(self, deadline: float) -> Startup:
        """
        Make everything, in the order of `depends_on`, and wait until each service is ready.

        Args:
            deadline: Seconds that all of it may take.

        Raises:
            NotReadyError: If a service failed, or was not ready in time; the text says why.
            EngineError: If the manager refused something or did not answer.
        """
        began = time.monotonic()
        labels = dict([self.lease.label.split("=", 1)])
        for key, internal in self.translation.networks.items():
            name = swarm_name(self.lease.id, key)
            self._networks[key] = self.swarm.create_network(name, labels, internal=internal)
        objects = self._files(labels)
        narration = Narration(self.progress, began, began + deadline)
        try:
            while len(self.seconds) < len(self.rules):
                self._create(objects)
                self._look(began, narration)
                narration.waits(self._waited_for, self.rules)
                self._rest(began, deadline)
        except FailedError as error:
            raise NotReadyError(self._report(str(error))) from None
        return self._startup(time.monotonic() - began)

    def _rest(self, began: float, deadline: float) -> None:
        if len(self.seconds) < len(self.rules):
            if time.monotonic() > began + deadline:
                why, later = self._waited_for()
                causes = ", ".join(f"{name} ({said})" for name, said in why.items()) or ", ".join(later)
                report = self._report(f"not ready after {round(deadline, 1):g} s: {causes}")
                raise NotReadyError(f"{report}\n{LONGER}")
            time.sleep(TICK)

    def _files(self, labels: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Make configs and secrets, each content once; return what each service's container reads."""
        made: dict[str, str] = {}
        found: dict[str, dict[str, Any]] = {}
        for service, files in self.translation.files.items():
            for file in files:
                name = f"{self.lease.id}_{hashlib.sha256(file.kind.encode() + file.content).hexdigest()[:16]}"
                if name not in made:
                    create = self.swarm.create_config if file.kind == "config" else self.swarm.create_secret
                    made[name] = create(name, file.content, labels) or ""
                kind = file.kind.title()
                entry = {f"{kind}ID": made[name], f"{kind}Name": name, "File": _place(file)}
                found.setdefault(service, {}).setdefault(f"{kind}s", []).append(entry)
        return found

    def _create(self, objects: Mapping[str, dict[str, Any]]) -> None:
        for name, spec in self.translation.services.items():
            if name in self.found or not all(self._holds(*wait) for wait in self.translation.waits[name].items()):
                continue
            template = spec["TaskTemplate"]
            template["ContainerSpec"] |= objects.get(name, {})
            attached = [{**end, "Target": self._networks[end["Target"]]} for end in template["Networks"]]
            made = {**spec, "TaskTemplate": {**template, "Networks": attached}}
            identity = self.swarm.create_service(self.translation.names[name], made)
            retries = template["RestartPolicy"]["Condition"] != "none"
            self.found[name] = Progress(self.rules[name], copies_of(self.model["services"][name]), identity, retries)

    def _holds(self, other: str, condition: str) -> bool:
        """Say whether a condition of `depends_on` holds."""
        if condition == "service_started":
            return other in self.found and self.found[other].started
        return other in self.seconds

    def _look(self, began: float, narration: Narration) -> None:
        tasks, nodes = self.swarm.tasks(self.lease.label), self.swarm.nodes()
        addresses = {node.id: node.address for node in nodes if node.state == "ready"}
        names = {node.id: node.shown for node in nodes}
        for name, one in self.found.items():
            own = [task for task in tasks if task.service == name]
            if name in self.seconds:
                one.watch(own, addresses, names)
                continue
            one.look(self.swarm, own, addresses, names)
            if one.started:
                self.started.setdefault(name, round(time.monotonic() - began, 3))
        self._give_up_silent(began)
        for name in [name for name, one in self.found.items() if one.how and name not in self.seconds]:
            self.seconds[name] = time.monotonic() - began
            narration.ready(self._proved(name))

    def _give_up_silent(self, began: float) -> None:
        """Go on without ports that never will listen: all else is ready, and the containers of these write nothing."""
        waiting = [one for one in self.found.values() if not one.how]
        settled = began + max(self.seconds.values(), default=0.0)  # when the last service became ready
        all_are_there = len(self.found) == len(self.rules)
        if all_are_there and never_will([one.silent_since for one in waiting], settled, time.monotonic()):
            for one in waiting:
                one.give_up()

    def _waited_for(self) -> Reasons:
        why = self._reasons()
        return Reasons(
            {name: text for name, text in why.items() if name in self.found},
            [name for name in why if name not in self.found],
        )

    def _reasons(self) -> dict[str, str]:
        """Say why each service that is not ready is not."""
        return {name: self._reason(name) for name in self.rules if name not in self.seconds}

    def _reason(self, name: str) -> str:
        if one := self.found.get(name):
            quiet = one.silent_since is not None and time.monotonic() - one.silent_since >= NOTICED
            return (
                f"waits for a node: {one.pending}"
                if one.pending
                else one.last + (GOES_ON.format("writes") if quiet else "")
            )
        return f"waits for {', '.join(other for other in self.translation.waits[name] if other not in self.seconds)}"

    def _report(self, reason: str) -> str:
        lines = [reason]
        for name, why in self._reasons().items():
            lines.append(f"  {name}: {why}")
            rule = self.rules[name]
            if rule.kind in {"http", "tcp"} and not rule.hinted and name in self.found:
                lines.append(f"    {other_rule(name)}")
            if one := self.found.get(name):
                lines += [f"    {line}" for line in self._log(one)]
        return "\n".join(lines)

    def _log(self, one: Progress) -> Iterable[str]:
        if not any(task.container for task in one.tasks):
            return ()
        try:
            return self.swarm.logs(one.id, tail=TAIL)
        except EngineError:
            return ("its log is on a node that does not answer",)

    def _proved(self, name: str) -> ServiceReady:
        one = self.found[name]
        warning = f"{name}: {one.warning}; {other_rule(name)}" if one.warning else ""
        return ServiceReady(
            service=name, rule=self.rules[name], seconds=self.seconds[name], how=one.how, warning=warning
        )

    def _startup(self, seconds: float) -> Startup:
        services = tuple(self._proved(name) for name in sorted(self.seconds, key=lambda name: self.seconds[name]))
        return Startup(
            seconds=seconds, by="swarm", ready=StackReady(services=services, seconds=seconds),
            started=self.started, waits=self.translation.waits,
        )  # fmt: skip


def _place(file: File) -> dict[str, Any]:
    return {"Name": file.target, "UID": file.uid, "GID": file.gid, "Mode": file.mode}
