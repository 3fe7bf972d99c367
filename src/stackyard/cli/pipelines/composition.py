"""
The security check of the Compose file, in any folder: compose-lint, without its findings about the folder itself.

    python -m stackyard.cli.pipelines.composition

Prints one line for each finding; the exit code is then 9.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from stackyard.checks.composition import compose_lint
from stackyard.cli.pipelines import linting

FILE: Final = Path("compose/docker-compose.unified.yml")


def main(root: Path) -> int:
    """Check the Compose file of the project at *root*; print what compose-lint finds."""
    spots = compose_lint(root, root / FILE)
    lines = [f"{FILE}:{spot.line}: {spot.found}" for spot in spots]
    return linting.show(lines, clean=f"compose-lint: {FILE} is clean")


if __name__ == "__main__":
    sys.exit(linting.run(main))
