"""The protocol of each published port of a copy, so that each has the right URL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stackyard.probes import port_answers
from stackyard.probes.readiness_rules import recognised
from stackyard.project import published_ports
from stackyard.project.service_ports import Port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackyard.plan import Address
    from stackyard.probes.readiness_rules import ImageFacts

LIMIT: Final = 2.0  # seconds for one answer; a copy is ready by now
REFUSED: Final = 400  # what a server that wants TLS answers to plain HTTP


async def spoken(found: Sequence[Address], model: Mapping[str, Any], images: Mapping[str, ImageFacts]) -> list[Address]:
    """
    Return the addresses *found* with what is spoken there: by the product that a service runs, or as a request shows.

    Args:
        found: Where the published ports of a copy answer.
        model: The copy's model.
        images: What is known of each service's image; a service may be missing.
    """
    ports = {
        (port.service, port.protocol, number): Port(port.target, port.protocol, port.spoken)
        for port in published_ports(model) for number in port.published or ()
    }  # fmt: skip
    asked = [(one, ports.get((one.service, one.protocol, one.port)) or Port(one.target, one.protocol)) for one in found]
    return [*await asyncio.gather(*(_spoken(one, port, model, images) for one, port in asked))]


async def _spoken(address: Address, port: Port, model: Mapping[str, Any], images: Mapping[str, ImageFacts]) -> Address:
    known = recognised(model["services"][address.service], images.get(address.service))
    if known and port == known[1]:
        product, _, variables = known
        return replace(address, scheme=product.scheme, login=product.login(variables), path=product.path(variables))
    return replace(address, scheme=await _http(address, port)) if port.may_be_http else address


async def _http(address: Address, port: Port) -> str:
    """Return http, https or nothing; a server that is slow where HTTP is usual counts as one of HTTP."""
    answer = await port_answers.get(address.host, address.port, "/", limit=LIMIT)
    if answer.status not in {0, REFUSED}:
        return "http"
    if not answer.silent and await port_answers.speaks_tls(address.host, address.port, limit=LIMIT):
        return "https"
    return "http" if answer.status or (answer.silent and port.usually_http) else ""
