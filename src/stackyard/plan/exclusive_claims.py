"""What only one copy can have at a time: the lease book gives it to one lease; the next lease waits or is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stackyard.plan.networks import fixed_address, lan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOST_NETWORK: Final = "host-network"


def exclusive(model: Mapping[str, Any], shared: frozenset[str]) -> tuple[str, ...]:
    """
    Return a word for each thing that only one copy can have, in order: each "one at a time" of a plan has one.

    Args:
        model: The user's own rendered model.
        shared: Networks that all copies use together.
    """
    return tuple(sorted(set(_found(model, shared))))


def _found(model: Mapping[str, Any], shared: frozenset[str]) -> Iterator[str]:
    for service in model["services"].values():
        if service.get("network_mode") == "host":
            yield HOST_NETWORK
        for key, settings in (service.get("networks") or {}).items():
            if key in shared and (address := fixed_address(settings or {})):
                yield f"address:{address}@{model['networks'][key]['name']}"
    for key, network in (model.get("networks") or {}).items():
        if key not in shared and (interface := lan(key, network or {})):
            yield f"interface:{interface}"
