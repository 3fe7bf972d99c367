"""What was promised of every stack, each beside the figure that was measured for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stackyard.bench.records import Findings, Result
from stackyard.environments import load_all
from stackyard.errors import ImageError, StackyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stackyard.bench.plans import Plan

START_S: Final = 30.0
MEMORY_BYTES: Final = 2_000_000_000
REMOVAL_S: Final = 5.0
ALPINE_BYTES: Final = 200_000_000
LIMITS: Final = ("mem_limit", "cpus", "pids_limit")


def measure(plan: Plan, found: Findings) -> Findings:
    """
    Hold what was measured against what was promised; images and the Compose model are looked at here.

    Args:
        plan: How it was measured.
        found: What the other suites found; a requirement whose suite did not run has no figure and says so.
    """
    return Findings(
        results=(
            _from(
                found, "start-up", "start-up of a stack, the slowest", "s", START_S, plan,
                ("startup", "stackyard"), ("parallel", "start-"),
            ),
            _from(
                found, "memory", "memory of a stack, the largest", "bytes", MEMORY_BYTES, plan,
                ("services", "stack-memory"), ("parallel", "memory-"),
            ),
            _from(found, "ports", "ports that two stacks had", "", 0, plan, ("parallel", "clashes-")),
            _from(found, "parallel", "stacks at once that failed", "", 0, plan, ("parallel", "failed-")),
            _from(
                found, "clean-up", "clean-up of a stack, the slowest", "s", REMOVAL_S, plan,
                ("cleanup", "stackyard"), ("parallel", "removal-"),
            ),
            _from(found, "left", "things left of stacks at once", "", 0, plan, ("parallel", "left-")),
            _looked("alpine-image", "the largest Alpine image", "bytes", ALPINE_BYTES, plan, alpine_sizes),
            _looked("limits", "services without limits or a health check", "", 0, plan, lambda: [float(len(bare()))]),
        )
    )  # fmt: skip


def _from(
    found: Findings, row: str, what: str, unit: str, target: float, plan: Plan, *sources: tuple[str, str]
) -> Result:  # fmt: skip
    """Take the samples of the named rows, or of all whose names begin so; the worst one counts."""
    chosen = [
        result for suite, name in sources for result in found.results
        if result.suite == suite and (result.row == name or (name.endswith("-") and result.row.startswith(name)))
    ]  # fmt: skip
    samples = [sample for result in chosen for sample in result.samples]
    suites = sorted({result.suite for result in chosen if result.samples}) or [sources[0][0]]
    reason = "" if samples else f"suite {sources[0][0]} did not run"
    return _requirement(samples, row, what, unit, target, plan.command(" ".join([*suites, "requirements"])), reason)


def _looked(
    row: str, what: str, unit: str, target: float, plan: Plan, look: Callable[[], Sequence[float]]
) -> Result:  # fmt: skip
    try:
        samples, reason = look(), ""
    except StackyardError as error:
        samples, reason = [], " ".join(str(error).split())[:240]
    return _requirement(samples, row, what, unit, target, plan.command("requirements"), reason)


def _requirement(
    samples: Sequence[float], row: str, what: str, unit: str, target: float, command: str, reason: str
) -> Result:  # fmt: skip
    return Result.of(
        samples, suite="requirements", row=row, subject="every stack", what=what, unit=unit, target=target,
        judged="worst", command=command, reason=reason,
    )  # fmt: skip


def alpine_sizes() -> list[float]:
    """
    Return the size of each Alpine image in bytes.

    Raises:
        ImageError: If one is not built as the sources are now.
        EngineError: If the engine does not answer.
    """
    from stackyard import images  # noqa: PLC0415 - only this needs it

    wanted = images.references("alpine")
    sizes = {image.reference: float(image.size) for image in images.listing()}
    if missing := [service for service, reference in wanted.items() if reference not in sizes]:
        raise ImageError(f"not built: {', '.join(missing)} (alpine); 'invoke images.build' builds them")
    return [sizes[reference] for reference in wanted.values()]


def bare() -> list[str]:
    """
    Name the services of every environment that lack a limit or a health check, as Compose renders them.

    Raises:
        CommandError: If Compose refuses the file.
    """
    from stackyard.verify.composition import Model  # noqa: PLC0415 - as above

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
