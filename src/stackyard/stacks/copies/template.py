"""From a project's model to the model of one copy: with the lease's ports, subnets and labels, and its addresses."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Final

from stackyard._util.advice import Action, how
from stackyard.docker.ownership import COPY_LABEL
from stackyard.errors import UsageError
from stackyard.leases.needs import Needs, PortName, port_names
from stackyard.plan import Place, addresses, exclusive, plan
from stackyard.plan import networks as planned_networks
from stackyard.plan import ports as planned_ports
from stackyard.plan.services import check_soon
from stackyard.stacks.copies.host_sources import FROM_HOST, noted
from stackyard.stacks.copies.remote_files import Cargo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackyard.docker import Engine
    from stackyard.leases import Lease
    from stackyard.plan import Plan
    from stackyard.project import Project

EXTENSION: Final = "x-stackyard"  # what the model says about the copy; Compose ignores it
SOURCES: Final = "sources"  # the word in it for the files and folders of this host
VARIABLES: Final = "variables"  # and for the variables of the project that have a leased port
WHOLE: Final = "spoken"  # and for a start that went to its end: it has noted the protocol of each port
GIVEN: Final = "given"  # and for digests of content that the model does not have
LABELS: Final = "lease environment host owner created ports subnet memory_mb exclusive checkout".split()


@dataclass(frozen=True, slots=True)
class Template:
    """
    What all copies of a project are made from.

    Attributes:
        project: The project.
        usual: Its rendered model.
        images: The image's id for each service with a `build`.
        given: Where the model names a port by a variable.
        drawn: The variable of each leased port; empty for one that has none.
        needs: What a copy needs of its lease.
    """

    project: Project
    usual: Mapping[str, Any]
    images: Mapping[str, str]
    given: Mapping[str, Sequence[str]]
    drawn: Sequence[str]
    needs: Needs

    @classmethod
    def of(cls, project: Project, usual: Mapping[str, Any], images: Mapping[str, str]) -> Template:
        """Return the template of *project*, whose model is *usual* and whose builds have made *images*."""
        given, share = planned_ports.single_variables(project.template, usual), project.configuration.share.networks
        draws = planned_ports.draws(usual, given)
        needs = Needs(
            ports=tuple(port_names((port.service, port.target, port.protocol) for port, _ in draws)),
            prefixes=tuple(planned_networks.needed(usual, share)) or Needs().prefixes,
            exclusive=exclusive(usual, share),
        )
        return cls(project, usual, images, given, [variable for _, variable in draws], needs)

    def refuse_other_place(self, lease: Lease) -> None:
        """
        Compare the lease of an earlier start with what the project needs now.

        Raises:
            UsageError: If they differ.
        """
        if self.needs != Needs(ports=tuple(lease.ports), prefixes=lease.prefixes, exclusive=lease.exclusive):
            end = how(Action.END, name=lease.id)
            raise UsageError(
                f"copy {lease.title} was started before the project's ports or networks changed, or with other "
                f"profiles or files{_ports(lease, self.needs)}; {end} first, or choose another name"
            )

    def plan(self, lease: Lease, engine: Engine) -> Plan:
        """Return the plan of a copy under *lease*, on *engine*."""
        variables = self._port_variables(lease)
        subnets = iter(lease.subnets)
        place = Place(
            project=lease.project,
            ports=[port for variable, port in self._leased(lease) if not variable],
            subnet=lambda _prefix: IPv4Network(next(subnets)),
            variables={place: variable for variable, places in self.given.items() for place in places},
            tags=self.images,
            address=engine.endpoint.address,
        )
        model = self.project.model(name=lease.project, variables=variables)
        return plan(self.project.template, self.usual, model, place, self.project.configuration)

    def _leased(self, lease: Lease) -> list[tuple[str, int]]:
        return list(zip(self.drawn, sorted(lease.ports.values()), strict=True))

    def _port_variables(self, lease: Lease) -> dict[str, str]:
        return {variable: str(port) for variable, port in self._leased(lease) if variable}

    def labelled(self, planned: Mapping[str, Any], lease: Lease, engine: Engine) -> tuple[dict[str, Any], Cargo]:
        """
        Put the labels of the lease on everything, and the copy's addresses into the model.

        Returns:
            The model, and what the copy takes along to an engine elsewhere.

        Raises:
            UsageError: If something cannot go along.
        """
        model, cargo = dict(planned), Cargo(project=lease.project)
        labels = self._labels(lease)
        if engine.endpoint.elsewhere:
            cargo.pack(model)
        for kind in ("services", "networks", "volumes"):
            for key, item in (model.get(kind) or {}).items():
                if not (item or {}).get("external"):
                    model[kind][key] = {**(item or {}), "labels": {**((item or {}).get("labels") or {}), **labels}}
        for name, service in model["services"].items():
            service.pop("pull_policy", None)  # all images are here by now
            if name in self.images:
                service.pop("build", None)
        found = [item.kept() for item in addresses(self.usual, model, engine.endpoint.address)]
        given = self._variables(model) | cargo.digests()
        said = {"addresses": found, "project": self.project.name, SOURCES: noted(model), GIVEN: given}
        said[VARIABLES] = self._port_variables(lease)
        return model | {EXTENSION: said}, cargo

    def _variables(self, model: Mapping[str, Any]) -> dict[str, str]:
        """Return a digest of each config and secret that has its content from a variable of the caller's."""
        found = [(f"{kind}.{key}", item) for kind in FROM_HOST for key, item in (model.get(kind) or {}).items()]
        return {
            place: hashlib.sha256(self.project.environment.get(variable, "").encode()).hexdigest()
            for place, item in found
            if (variable := item.get("environment"))
        }

    def _labels(self, lease: Lease) -> dict[str, str]:
        variables = lease.variables()
        words = {word: variables.get(f"STACKYARD_{word.upper()}", "") for word in LABELS}
        words |= {"name": variables.get("STACKYARD_PARALLEL_ID", "")}
        labels = {f"stackyard.{word}": value.replace("$", "$$") for word, value in words.items() if value}
        return labels | {COPY_LABEL: self.project.name}


def _ports(lease: Lease, needs: Needs) -> str:
    """Say which ports a lease lacks, and which nothing needs now; empty if it has the right ones."""
    kinds = {"it lacks": {*needs.ports} - {*lease.ports}, "nothing needs": {*lease.ports} - {*needs.ports}}
    parts = [f"{what} {', '.join(map(_spoken, sorted(names)))}" for what, names in kinds.items() if names]
    return f" ({'; '.join(parts)})" if parts else ""


def _spoken(name: str) -> str:
    port = PortName.parse(name)
    return f"{port.service} {port.target}/{port.protocol}" if port else name


def is_whole(model: Mapping[str, Any]) -> bool:
    """Say whether the start from a copy's *model* went to its end."""
    return bool(model.get(EXTENSION, {}).get(WHOLE))


def runs(standing: Mapping[str, Any], planned: Mapping[str, Any]) -> bool:
    """Say whether a copy is as it would be planned now; Compose's way of starting has other intervals of checks."""
    by_compose = deepcopy(dict(planned))
    check_soon(by_compose)
    return _core(standing) in (_core(planned), _core(by_compose))


def _core(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a user writes of a copy's model; labels and the like belong to one start."""
    return {
        kind: {
            key: {word: value for word, value in (item or {}).items() if word != "labels"}
            for key, item in found.items()
        }
        for kind in ("services", "networks", "volumes", *FROM_HOST)
        if (found := model.get(kind))
    } | {GIVEN: model[EXTENSION].get(GIVEN, {})}
