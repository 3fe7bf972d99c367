"""
Commands inside a copy's containers: only the engine of a container's own node runs them.

The manager's engine is known. Any other node's engine is that of the Docker context with the node's name.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from stackyard.docker import Engine
from stackyard.docker.endpoint import Endpoint
from stackyard.docker.swarm import member
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.docker.swarm import Node
    from stackyard.sites.swarm.copies import Copy


def command(copy: Copy, service: str, words: Sequence[str], *options: str) -> list[str]:
    """
    Return the docker command that runs *words* inside the first running container of *service*.

    Args:
        copy: The copy.
        service: A service of its Compose file.
        words: Program and arguments.
        options: Options of `docker exec`.

    Raises:
        UsageError: If the service is not there or does not run, or no context reaches its node's engine.
        EngineError: If that engine does not answer.
    """
    copy.require(service)
    running = [task for task in copy.tasks() if task.service == service and task.state == "running"]
    if not running:
        raise UsageError(f"service {service} of copy {copy.lease.name} has no running container")
    node = next(node for node in copy.swarm.nodes() if node.id == running[0].node)
    here = member(copy.swarm.engine) == node.id
    place = () if here else ("--context", _context(service, node))
    return ["docker", *place, "exec", *options, running[0].container, *words]


def _context(service: str, node: Node) -> str:
    """Return the name of the context that reaches the engine of *node*."""
    found = Endpoint.find({**os.environ, "DOCKER_HOST": "", "DOCKER_CONTEXT": node.name})
    where = f"service {service} runs on node {node.name}"
    if found.context and not found.url:
        raise UsageError(
            f"{where}, whose engine is reached through a Docker context named {node.name} only; "
            f"'docker context create {node.name} --docker host=tcp://{node.address}:2376,ca=…' makes one"
        )
    with Engine(endpoint=found) as engine:
        if member(engine) != node.id:
            raise UsageError(f"{where}, and the Docker context {node.name} reaches another engine; correct it")
    return node.name
