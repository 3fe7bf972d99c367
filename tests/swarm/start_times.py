"""
How long copies take on a Swarm of three nodes, and on one of its engines alone: `python -m tests.swarm.start_times`.

Prints a table: the start until all services are ready, the command `up` as a whole, and the command `down`; the middle
one of several.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.projects.expected import BARE
from tests.swarm import nodes

from stackyard._util import process
from stackyard._util.tables import table

BOX: Final = "stackyard-test/box"  # made by the tests in tests/projects
PROJECTS: Final = Path(__file__).parents[1] / "projects"
NAMES: Final = ("database-folder", "five-services")
TIMES: Final = 5


def typed(folder: Path, host: str, *words: str) -> tuple[float, str]:
    """Run one command of stackyard; return its seconds and what it printed."""
    env = BARE | {"DOCKER_HOST": host, "STACKYARD_STATE_DIR": str(folder / "state"), "STACKYARD_REAPER": "off"}
    began = time.monotonic()
    done = process.run([sys.executable, "-m", "stackyard", *words], deadline=200, cwd=folder, env=env)
    return time.monotonic() - began, done.stdout


def measured(folder: Path, host: str, site: str) -> list[float]:
    rows = []
    for _ in range(TIMES):
        up, said = typed(folder, host, "up", "--site", site, "--name", "timed", "--json")
        down, _ = typed(folder, host, "down", "timed", "--site", site)
        rows.append((float(json.loads(said)["seconds"]), up, down))
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def main() -> None:
    """Measure, and print the table."""
    nodes.build()
    rows = []
    with nodes.swarm([BOX]) as machines, tempfile.TemporaryDirectory() as name:
        for project in NAMES:
            folder = Path(name) / project
            shutil.copytree(PROJECTS / project, folder)
            for file in folder.rglob("*.yaml"):
                text = file.read_text().replace('image: "postgres:17"', f"image: {BOX}")
                file.write_text(text.replace("image: box", f"image: {BOX}"))
            for site, host in (("local", machines[1].host), ("swarm", machines[0].host)):
                figures = measured(folder, host, site)
                rows.append([project, "one engine" if site == "local" else "Swarm", *(f"{one:.2f}" for one in figures)])
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"
    print(table(rows, ["project", "on", "ready", "up", "down"]), load, sep="\n")  # noqa: T201 - a program


if __name__ == "__main__":
    main()
