"""What a service is, as a user's configuration says it: the database or broker whose server it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY: Final = "x-stackyard-kind"  # of a service in the rendered model; Compose ignores it
NONE: Final = "none"
KINDS: Final = ("postgresql", "mysql", "redis", "mongodb", "amqp", "memcached", NONE)
RULE: Final = f"must be {', '.join(KINDS[:-1])} or {NONE}"


def marked(model: dict[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Return *model* with the kind of each service that *kinds* names; services that it lacks are left out."""
    services = model.get("services") or {}
    named = {name: {**services[name], KEY: kind} for name, kind in kinds.items() if name in services}
    return {**model, "services": {**services, **named}} if named else model
