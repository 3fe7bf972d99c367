"""What a copy of a project would change and what its user has to know; nothing is leased, started or written."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Final

from stackyard.plan import ports
from stackyard.plan.missing_files import missing_files
from stackyard.plan.oversights import oversights
from stackyard.plan.plan import Place, Plan, plan
from stackyard.plan.ports import LOOPBACK
from stackyard.project import copies_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.project import Project

FIRST_PORT: Final = 9500  # made up, as all of a preview's place; a start leases its own
SUBNETS: Final = IPv4Network("10.0.0.0/8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """
    The plan of a made-up copy, and what a person wants to know of the project.

    Attributes:
        plan: The plan.
        running: Services that stay up.
        one_shots: Services that others wait for to end.
        behind_profiles: Services that no chosen profile enables.
        ports: How many host ports a copy leases.
        usual: The user's own model; without services if files are missing.
    """

    plan: Plan
    running: tuple[str, ...] = ()
    one_shots: tuple[str, ...] = ()
    behind_profiles: tuple[str, ...] = ()
    ports: int = 0
    usual: Mapping[str, Any] = field(default_factory=lambda: {"services": {}})

    @classmethod
    def of(cls, project: Project, address: str = LOOPBACK) -> Preview:
        """
        Plan a copy of *project* at a made-up place.

        Args:
            project: The project.
            address: Where its user reaches the ports that the engine publishes.

        Raises:
            UsageError: If Compose refuses the project, or nothing in it is enabled.
        """
        missing, unknown = missing_files(project), oversights(project)
        if missing:
            return cls(plan=Plan(model={}, changes=(), concerns=(*missing, *unknown)))
        numbers, name = itertools.count(FIRST_PORT), f"{project.name}-copy"
        usual = project.model()
        variables = ports.single_variables(project.template, usual)
        given = {variable: str(next(numbers)) for variable in variables}
        model = project.model(name=name, variables=given)
        places = {place: variable for variable, found in variables.items() for place in found}
        place = Place(project=name, ports=numbers, subnet=_Subnets(), variables=places, address=address)
        planned = plan(project.template, usual, model, place, project.configuration)
        one_shots = _awaited(usual)
        return cls(
            plan=replace(planned, concerns=(*unknown, *planned.concerns)),
            running=tuple(
                name for name, service in usual["services"].items() if name not in one_shots and copies_of(service)
            ),
            one_shots=tuple(sorted(one_shots)),
            behind_profiles=tuple(sorted(set(project.template.get("services") or {}) - set(usual["services"]))),
            ports=len(ports.draws(usual, variables)),
            usual=usual,
        )


class _Subnets:
    """Hands out made-up subnets of any size, each once."""

    def __init__(self) -> None:
        self._next = int(SUBNETS.network_address)

    def __call__(self, prefix: int) -> IPv4Network:
        size = 2 ** (32 - prefix)
        self._next = -(-self._next // size) * size
        subnet = IPv4Network((self._next, prefix))
        self._next += size
        return subnet


def _awaited(model: Mapping[str, Any]) -> set[str]:
    """Return the services that another one waits for to end with 0."""
    conditions = [
        (name, wanted.get("condition"))
        for service in model["services"].values()
        for name, wanted in (service.get("depends_on") or {}).items()
    ]
    return {name for name, condition in conditions if condition == "service_completed_successfully"}
