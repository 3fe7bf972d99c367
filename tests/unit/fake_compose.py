"""A `docker compose config` for the tests: in a model `@NAME@` becomes a variable's value, `%NAME%` its length."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from fake_docker import install_docker

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import pathlib, re, sys
if "config" in sys.argv:
    lines = pathlib.Path(sys.argv[sys.argv.index("--env-file") + 1]).read_text().splitlines()
    known = dict(line.split("=", 1) for line in lines)
    known = {name: value.strip("'") for name, value in known.items()}
    text = re.sub("@([A-Z_]+)@", lambda found: known[found[1]], pathlib.Path(MODEL).read_text())
    print(re.sub("%([A-Z_]+)%", lambda found: str(len(known[found[1]])), text))
"""
SERVICES = ("postgres", "redis", "auth", "backend")


def model(**changes: Any) -> dict[str, Any]:
    """Return a small model of four services; *changes* go into the service auth."""
    labels = {"stackyard.lease": "@STACKYARD_LEASE@", "stackyard.host": "@STACKYARD_HOST@"}
    service = {
        "image": "stackyard/any:1", "labels": labels, "networks": {"platform": None}, "profiles": ["test"],
        "command": None, "environment": {"A": "1"},
    }  # fmt: skip
    project = "@COMPOSE_PROJECT_NAME@"
    subnet = {"config": [{"subnet": "@STACKYARD_SUBNET@"}]}
    network = {"name": f"{project}_platform", "driver": "bridge", "ipam": subnet, "labels": labels}
    return {
        "name": project,
        "networks": {"platform": network},
        "services": {name: service | (changes if name == "auth" else {}) for name in SERVICES},
        "secrets": {"key": {"name": f"{project}_key", "file": "/secrets/key"}},
        "volumes": {"data": {"name": f"{project}_data", "labels": labels}},
        "x-anything": {"is": "ignored"},
    }


def install_compose(folder: Path, rendered: dict[str, Any]) -> Path:
    """Put a `docker` that renders *rendered* into folder/bin; return the file of the words it was called with."""
    source = folder / "model.json"
    source.write_text(json.dumps(rendered))
    program = folder / "compose.py"
    program.write_text(PROGRAM.replace("MODEL", repr(str(source))))
    return install_docker(folder, f'exec {sys.executable} -I {program} "$@"')
