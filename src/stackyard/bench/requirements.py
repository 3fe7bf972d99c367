"""What is promised for every stack, with the figure that was measured for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stackyard._util.advice import Action, how
from stackyard.bench.outcomes import reason_of
from stackyard.bench.records import Findings, Result
from stackyard.errors import ImageError, StackyardError
from stackyard.project.environments import load_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stackyard.bench.options import Plan


class Requirement(NamedTuple):
    """What is promised of every stack: a figure of at most *most*, in *unit*."""

    what: str
    unit: str
    most: float


REQUIREMENTS: Final = {
    "start-up": Requirement("start-up of a stack, the slowest", "s", 30.0),
    "memory": Requirement("memory of a stack, the largest", "bytes", 2_000_000_000),
    "ports": Requirement("ports given to two stacks at once", "", 0),
    "parallel": Requirement("stacks started at once that failed", "", 0),
    "clean-up": Requirement("clean-up of a stack, the slowest", "s", 5.0),
    "left": Requirement("things left behind by stacks at once", "", 0),
    "alpine-image": Requirement("the largest Alpine image", "bytes", 200_000_000),
    "limits": Requirement("services without limits or a health check", "", 0),
}
# requirement: the suites and rows it is read from; a name that ends in - means all rows that start with it
SOURCES: Final = {
    "start-up": (("startup", "stackyard"), ("parallel", "start-")),
    "memory": (("services", "stack-memory"), ("parallel", "memory-")),
    "ports": (("parallel", "clashes-"),),
    "parallel": (("parallel", "failed-"),),
    "clean-up": (("cleanup", "stackyard"), ("parallel", "removal-")),
    "left": (("parallel", "left-"),),
}
LIMITS: Final = ("mem_limit", "cpus", "pids_limit")


def measure(plan: Plan, found: Findings) -> Findings:
    """
    Hold what was measured against what was promised; images and the Compose model are looked at here.

    A requirement whose suites did not run is left out.
    """
    taken = [_from(found, row, plan) for row in SOURCES]
    looked = [
        _looked("alpine-image", plan, alpine_sizes), _looked("limits", plan, lambda: [float(len(bare()))])
    ]  # fmt: skip
    return Findings(results=(*(made for made in taken if made), *looked))


def _from(found: Findings, row: str, plan: Plan) -> Result | None:
    """Take the samples of a requirement's sources; the worst one counts."""
    chosen = [
        result for suite, name in SOURCES[row] for result in found.results
        if result.suite == suite and (result.row == name or (name.endswith("-") and result.row.startswith(name)))
    ]  # fmt: skip
    if not chosen:
        return None
    samples = [sample for result in chosen for sample in result.samples]
    suites = sorted({result.suite for result in chosen})
    failed = 0 if samples else sum(result.failed for result in chosen)
    reason = "" if samples else chosen[0].reason
    return _requirement(samples, row, plan.command(" ".join([*suites, "requirements"])), reason, failed)


def _looked(row: str, plan: Plan, look: Callable[[], Sequence[float]]) -> Result:
    try:
        samples, reason = look(), ""
    except StackyardError as error:
        samples, reason = [], reason_of(error)
    return _requirement(samples, row, plan.command("requirements"), reason)


def _requirement(samples: Sequence[float], row: str, command: str, reason: str, failed: int = 0) -> Result:
    promised = REQUIREMENTS[row]
    return Result.of(
        samples, suite="requirements", row=row, subject="every stack", what=promised.what, unit=promised.unit,
        target=promised.most, judged="worst", command=command, reason=reason, failed=failed,
    )  # fmt: skip


def alpine_sizes() -> list[float]:
    """
    Return the size of each Alpine image in bytes.

    Raises:
        ImageError: If one is not built as the sources are now.
        EngineError: If the engine does not answer.
    """
    from stackyard import images

    wanted = images.references("alpine")
    sizes = {image.reference: float(image.size) for image in images.listing()}
    if missing := [service for service, reference in wanted.items() if reference not in sizes]:
        raise ImageError(f"not built: {', '.join(missing)} (alpine); {how(Action.BUILD)}")
    return [sizes[reference] for reference in wanted.values()]


def bare() -> list[str]:
    """
    Name the services of every environment that lack a limit or a health check, as Compose renders them.

    Raises:
        CommandError: If Compose refuses the file.
    """
    from stackyard.checks.composition import Model

    environments = load_all()
    profiles = [environment.profile for environment in environments.values()]
    models = {name: Model.render(environment, profiles) for name, environment in environments.items()}
    return [
        f"{name}/{service}" for name, model in models.items() for service, row in model.services.items()
        if not _complete(row)
    ]  # fmt: skip


def _complete(service: Mapping[str, Any]) -> bool:
    check = service.get("healthcheck") or {}
    return all(service.get(limit) for limit in LIMITS) and bool(check.get("test")) and not check.get("disable")
