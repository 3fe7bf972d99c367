"""
The security check of the Compose file, in any folder: compose-lint, less what it says of the folder itself.

    python -m stackyard.cli.pipelines.composition

Prints one line for each finding; the exit code is then 9.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from stackyard.checks.composition import compose_lint
from stackyard.errors import StackyardError, VerifyError

FILE: Final = Path("compose/docker-compose.unified.yml")


def main(root: Path) -> int:
    """Check the Compose file of the project at *root*; print what compose-lint finds."""
    spots = compose_lint(root, root / FILE)
    lines = [f"{FILE}:{spot.line}: {spot.found}" for spot in spots]
    print("\n".join(lines) or f"compose-lint: {FILE} is clean")
    return VerifyError.exit_code if lines else 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path.cwd()))
    except StackyardError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
