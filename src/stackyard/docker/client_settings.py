"""The configuration of the docker client, config.json: it names contexts, proxies and folders of plugins."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackyard._util import json_text
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


def client_folder(env: Mapping[str, str] | None = None) -> Path:
    """Return the docker client's configuration folder."""
    env = os.environ if env is None else env
    return Path(env.get("DOCKER_CONFIG") or Path.home() / ".docker")


def client_settings(env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the docker client's config.json; empty when there is none that can be read."""
    return read_object(client_folder(env) / "config.json")


def check_client_settings() -> None:
    """
    Refuse a config.json of the docker client that docker-py fails at; both go on without one that is not JSON.

    Raises:
        UsageError: If there is one.
    """
    file, found = client_folder() / "config.json", None
    with contextlib.suppress(RecursionError):
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
    if not isinstance(found, dict):
        raise UsageError(f"{file}, the docker client's configuration, must be a JSON object; correct it")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of the docker client; empty if there is none that can be read."""
    try:
        found = json_text.read(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
