"""Who is attached to a network: disconnect containers, also those that exist only in the network's own records."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from stackyard.docker.engine import plain_errors
from stackyard.docker.json_fields import Part
from stackyard.errors import EngineError

if TYPE_CHECKING:
    from stackyard.docker.engine import Engine
    from stackyard.docker.records import Resource

# An attachment is listed under its container's id, or under this and its own id when there is no such container
# (moby, daemon/network.go, buildEndpointInfo).
GHOST: Final = "ep-"


def detach(engine: Engine, network: Resource, container: str) -> None:
    """
    Take a container off *network*, running or not.

    Args:
        engine: Where both are.
        network: The network.
        container: Id or name.

    Raises:
        EngineError: If the engine does not answer, or the container is not attached or not there.
    """
    with plain_errors(f"taking container {container[:80]} off network {network.name}", changes=True):
        engine.api.disconnect_container_from_network(container, network.id, force=True)


def drop_ghosts(engine: Engine, network: Resource) -> None:
    """
    Free *network* of attachments whose container is gone, as a crash of the engine may leave them; never raises.

    The engine refuses to remove such a network otherwise: it "has active endpoints" although no container uses it.
    """
    with contextlib.suppress(EngineError):
        with plain_errors(f"inspecting network {network.name}"):
            ends = Part(engine.api.inspect_network(network.id)).get("Containers").members()
            ghosts = [end.text("Name") for key, end in ends if key.startswith(GHOST)]
        for name in ghosts:
            detach(engine, network, name)
