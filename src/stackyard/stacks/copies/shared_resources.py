"""Networks and volumes that all copies of a project share: no copy creates them, so they must exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.docker import Engine


def check(engine: Engine, model: Mapping[str, Any]) -> None:
    """
    Check that every shared network and volume of a copy's *model* exists.

    Raises:
        UsageError: If one does not; names all of them.
        EngineError: If the engine does not answer.
    """
    missing = []
    for kind, listed in (("network", engine.networks), ("volume", engine.volumes)):
        shared = {key: item["name"] for key, item in (model.get(f"{kind}s") or {}).items() if item.get("external")}
        found = {item.name for item in listed([])} if shared else set()
        missing += [f"{kind} {name} (share.{kind}s: {key})" for key, name in shared.items() if name not in found]
    if missing:
        raise UsageError(
            f"shared by the configuration but missing: {', '.join(missing)}; start the service that creates it, "
            "or create it yourself"
        )
