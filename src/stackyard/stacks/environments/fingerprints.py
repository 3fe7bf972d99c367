"""The hash of what a warm stack was made from: only a run that would make the same stack may take it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING

import stackyard
from stackyard.docker.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stackyard.project.environments import Environment


def fingerprint(environment: Environment, images: Iterable[str]) -> str:
    """
    Return the hash of everything that a stack of *environment* is made from: 64 hex digits.

    That is the environment's entry, its env file, the Compose file, the images, the engine's address and stackyard's
    version. Values that differ for each stack (ports, credentials) are not part of it.

    Args:
        environment: What the stack is of.
        images: The engine's ids of its images.

    Raises:
        OSError: If a file cannot be read.
    """
    entry = {item.name: str(getattr(environment, item.name)) for item in fields(environment)}
    files = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (environment.compose_file, environment.env_file)]
    parts = [stackyard.__version__, Endpoint.find().url, sorted(entry.items()), files, sorted(images)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
