"""What is known of a copy on a Swarm before it has a lease: its plan, its images, its translation; then its start."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Final, Self

from stackyard._util.event_loops import outside_any_loop, run
from stackyard.errors import PoolExhaustedError
from stackyard.plan import Place, plan
from stackyard.plan.ports import single_variables
from stackyard.probes.published_protocols import spoken
from stackyard.probes.readiness_rules import rules_for
from stackyard.project import copies_of, published_ports
from stackyard.sites.swarm import images, registry
from stackyard.sites.swarm.leases import LEASE_LABEL
from stackyard.sites.swarm.standing import Expected
from stackyard.sites.swarm.start import Start
from stackyard.sites.swarm.translation import translate
from stackyard.sites.swarm.translation_notes import Note
from stackyard.stacks import project_images
from stackyard.stacks.starts.checks import refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from stackyard.docker.swarm import Swarm
    from stackyard.plan import Plan
    from stackyard.probes.readiness_rules import Rule
    from stackyard.project import Project
    from stackyard.sites.swarm.copies import Copy
    from stackyard.sites.swarm.translation import Translation

BY_NAME: Final = {"not possible", "one at a time"}
WITHOUT_A_PLACE: Final = IPv4Network("192.0.2.0/24")  # for documentation; the Swarm gives the real subnet


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is known of a start before it has a lease."""

    project: Project
    usual: Mapping[str, Any]
    swarm: Swarm
    built: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)
    rendered: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, project: Project, usual: Mapping[str, Any], swarm: Swarm, owner: str, progress: Callable[[str], None]
    ) -> Self:  # fmt: skip
        """Plan and translate once under a made-up name: what is refused is refused before anything is made."""
        made = cls(project, usual, swarm, references=dict.fromkeys(usual["services"], ""))
        found = made._translation("stackyard-check", {})
        if (free := swarm.free_networks()) < len(found.networks):
            raise PoolExhaustedError(
                f"the Swarm's address pool has room for {max(free, 0)} networks, and a copy needs "
                f"{len(found.networks)}; "
                "end copies, or make the Swarm with a larger --default-addr-pool"
            )
        place = registry.find(swarm)
        with images.built(project, usual, owner, swarm, place, progress) as built:
            made = replace(made, built=built)
            return replace(made, references=images.references(swarm, made.planned("stackyard-check").model, place))

    def planned(self, identifier: str) -> Plan:
        """
        Return the plan of the copy of that id.

        Raises:
            UsageError: If no copy of the project can run.
        """
        made = self.plan(identifier)
        refuse([item for item in made.concerns if item.level in BY_NAME and ".network_mode" not in item.place])
        return made

    def plan(self, identifier: str) -> Plan:
        """Return the plan of the copy of that id, whatever keeps it from running."""
        if identifier not in self.rendered:
            self.rendered[identifier] = self.project.model(name=identifier)
        model = deepcopy(self.rendered[identifier])
        ports = _numbers(model)
        place = Place(
            project=identifier, ports=ports, subnet=lambda _prefix: WITHOUT_A_PLACE, tags=self.built
        )  # fmt: skip
        made = plan(self.project.template, self.usual, model, place, self.project.configuration)
        for key, network in (made.model.get("networks") or {}).items():
            if not (self.usual["networks"][key].get("ipam") or {}).get("config"):
                network.pop("ipam", None)  # the plan's; the Swarm gives subnets
        return made

    def rules(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return how each service of *model* proves usable.

        Raises:
            EngineError: If the manager does not say what is known of its images.
        """
        facts = project_images.facts(self.swarm.engine, model)
        return rules_for(model, facts, self.project.configuration.ready)

    def _translation(self, identifier: str, labels: Mapping[str, str]) -> Translation:
        model = self.planned(identifier).model
        return translate(model, self.rules(model), self.references, labels, self.project.environment).check()

    def ports(self) -> list[dict[str, Any]]:
        """Return the published ports, as a lease names them, each with the variables that give it and no other one."""
        given = single_variables(self.project.template, self.usual)
        variables = {places[0]: name for name, places in given.items() if len(places) == 1}
        found: dict[tuple[str, int, str], dict[str, Any]] = {}
        for port in published_ports(self.usual):
            first = {"service": port.service, "target": port.target, "protocol": port.protocol, "variables": []}
            entry = found.setdefault((port.service, port.target, port.protocol), first)
            entry["published"] = port.written
            entry["variables"] += [variables[port.place]] if port.place in variables else []
        return [*found.values()]

    def digest(self) -> str:
        """Return a word for what a copy is made from, whatever the manager has of its images by now."""
        model = self.planned("stackyard-check").model
        rules = rules_for(model, {}, self.project.configuration.ready)
        made = translate(model, rules, self.references, {}, self.project.environment)
        read = {name: [(file.target, file.content.hex()) for file in files] for name, files in made.files.items()}
        return hashlib.sha256(json.dumps([model, read], sort_keys=True).encode()).hexdigest()[:32]

    def start(self, copy: Copy, deadline: float, progress: Callable[[str], None], *, graceful: bool) -> None:
        """Make everything of *copy*, which has a lease, and wait until it is ready, as `Start.run` does."""
        planned = self.planned(copy.lease.id)
        model, labels = planned.model, {LEASE_LABEL: copy.lease.id}
        rules = self.rules(model)
        found = translate(model, rules, self.references, labels, self.project.environment, graceful=graceful).check()
        copy.changes = tuple(map(str, [*found.changes, *_restarts(planned), *self.ignored()]))
        copy.expected = {name: _expected(model["services"][name], rule) for name, rule in rules.items()}
        copy.startup = Start(self.swarm, copy.lease, found, model, rules, progress).run(deadline)

    def ignored(self) -> list[Note]:
        """Return what the project's configuration asks for and a Swarm does not have."""
        where = f"{self.project.configuration.where}: reset"
        why = "volumes end with their containers, so the copy cannot go back to its state after the start"
        return [Note(where, "dropped", why)] if self.project.configuration.reset else []

    def said(self, copy: Copy) -> dict[str, dict[str, str]]:
        """Return what is spoken on each port; the logins stay in this process."""
        facts = project_images.facts(self.swarm.engine, self.usual)
        found = copy.addresses
        asked = outside_any_loop(lambda: run(spoken(found, self.usual, facts)))
        keys = {(one.service, one.target, one.protocol): one for one in asked}
        copy.logins = {key: one.login for key, one in keys.items()}
        return {"{}/{}/{}".format(*key): {"scheme": one.scheme, "path": one.path} for key, one in keys.items()}


def _restarts(planned: Plan) -> list[Note]:
    """Return the restart policies of `deploy` that the plan has changed; a translation sees only what they became."""
    return [
        Note(change.place, "changed", f"{change.after} instead of {change.before}: {change.why}")
        for change in planned.changes if change.kind == "restart" and change.place.endswith("restart_policy")
    ]  # fmt: skip


def _expected(service: Mapping[str, Any], rule: Rule) -> Expected:
    health = service.get("healthcheck") or {}
    own = bool(health.get("test")) and not health.get("disable") and health["test"] != ["NONE"]
    checked = own or rule.kind in {"health check", "command"}
    return Expected(containers=copies_of(service), may_end=rule.may_end or rule.kind == "exit 0", checked=checked)


def _numbers(model: Mapping[str, Any]) -> Iterator[int]:
    """Give each port the number that it has, so that the plan changes no value that names one."""
    for port in published_ports(model):
        known = [*(port.published or ())][: port.count]
        yield from [*known, *([0] * (port.count - len(known)))]
