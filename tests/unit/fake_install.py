"""What `pip install stackyard` makes of the entry points in pyproject.toml, without a wheel."""

from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import stackyard

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
# pytest as its users have it, with pytest-xdist alone: importing the plugins of our tests takes most of its time
OURS = {entry.name for entry in entry_points(group="pytest11")} - {"xdist", "xdist.looponfail", "docker"}
INI = f"[pytest]\naddopts = -p no:docker -p no:cacheprovider {' '.join(f'-p no:{name}' for name in sorted(OURS))}\n"


def install(folder: Path) -> str:
    """Write stackyard's metadata into *folder*, for PYTHONPATH; its code is found where it is now."""
    groups = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["entry-points"]
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()))
    ]
    made = folder / f"stackyard-{stackyard.__version__}.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(f"Metadata-Version: 2.4\nName: stackyard\nVersion: {stackyard.__version__}\n")
    (made / "entry_points.txt").write_text("\n".join(lines))
    return str(folder)
