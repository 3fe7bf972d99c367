"""What single services may not have in a copy: the host's network, a restart after a reboot, a shared build tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stackyard.plan.records import Change, Concern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ENDLESS: Final = frozenset(["always", "any", "unless-stopped"])  # started again after a reboot
FOLLOWER: Final = "on-failure"
SOON: Final = "100ms"
OUTSIDE: Final = {
    "devices": ("uses devices of the host", "all copies use the same devices"),
    "external_links": ("links to containers outside the project", "all copies talk to the same containers"),
}
START_PERIOD: Final = "10m0s"  # longer than any start; it ends with the first check that passes


def restart_only_after_failures(model: dict[str, Any]) -> list[Change]:
    """Let no container come back after a reboot: its copy would have no owner then."""
    changes = []
    for name, service in model["services"].items():
        policy = (service.get("deploy") or {}).get("restart_policy") or {}
        for holder, key, place in ((service, "restart", "restart"), (policy, "condition", "deploy.restart_policy")):
            before = holder.get(key)
            if before in ENDLESS:
                holder[key] = FOLLOWER
                changes.append(Change(
                    kind="restart", place=f"services.{name}.{place}", before=before, after=FOLLOWER,
                    why="a copy does not come back after a reboot",
                ))  # fmt: skip
    return changes


def check_soon(model: dict[str, Any]) -> None:
    """
    Let the engine run the health checks of the file every tenth of a second until they first pass.

    Only a start by Compose needs this: a condition then costs milliseconds instead of an interval. A failure before
    that does not count, so a slow service is not given up on; the start has its own deadline.
    """
    for service in model["services"].values():
        health = service.get("healthcheck") or {}
        if health.get("test") and not health.get("disable") and health["test"] != ["NONE"]:
            health |= {"start_interval": SOON, "start_period": START_PERIOD}


def always_enabled(model: dict[str, Any]) -> None:
    """
    Forget profiles: the model has only what the chosen ones enable, and their words must not be needed again.

    Compose ignores a dependency that is not required and not enabled, but refuses a model which names it.
    """
    for service in model["services"].values():
        service.pop("profiles", None)
        waits = service.get("depends_on") or {}
        for name in waits.keys() - model["services"].keys():
            if not waits[name].get("required", True):
                del waits[name]


def tag_builds(model: dict[str, Any], tags: Mapping[str, str]) -> list[Change]:
    """
    Give what is built here a tag by content, and let services that name the old tag follow.

    Args:
        model: The rendered model; it is changed.
        tags: The copy's tag by service, for services with a `build`.
    """
    followed: dict[str, str] = {}
    changes = []
    for name, service in model["services"].items():
        if name in tags and service.get("build"):
            before = str(service.get("image") or "")
            followed.setdefault(before, tags[name])
            changes.append(_tagged(name, service, before, tags[name], "two checkouts may build one tag"))
    for name, service in model["services"].items():
        image = str(service.get("image") or "")
        if image in followed and not service.get("build"):
            changes.append(_tagged(name, service, image, followed[image], "it follows the image that is built here"))
    return changes


def _tagged(name: str, service: dict[str, Any], before: str, after: str, why: str) -> Change:
    service["image"] = after
    return Change(
        kind="image", place=f"services.{name}.image", before=before or "made by Compose", after=after, why=why
    )


def concerns(model: Mapping[str, Any], shared: Iterable[str] = ()) -> Iterator[Concern]:
    """Return the services that all copies share, and what two copies would share through the host."""
    for name in sorted(shared):
        yield Concern(
            level="careful", place=f"services.{name}", text="is shared, so no copy starts it",
            advice="all copies use the one that runs on the shared network",
        )  # fmt: skip
    for name, service in model["services"].items():
        place = f"services.{name}"
        if service.get("network_mode") == "host":
            yield Concern(
                level="one at a time", place=f"{place}.network_mode", text="uses the host's network",
                advice="its ports are the host's own, so only one copy can run at a time",
            )  # fmt: skip
        for key in ("pid", "ipc", "uts", "userns_mode"):
            if service.get(key) == "host":
                yield Concern(
                    level="careful", place=f"{place}.{key}", text=f"uses the host's {key.partition('_')[0]} namespace",
                    advice="copies see each other there",
                )  # fmt: skip
        for key, (text, advice) in OUTSIDE.items():
            if service.get(key):
                yield Concern(level="careful", place=f"{place}.{key}", text=text, advice=advice)
