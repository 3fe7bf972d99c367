"""What `pip install stackyard` makes of the entry points in pyproject.toml, without a wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

import stackyard

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


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
