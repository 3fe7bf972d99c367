"""`python -m stackyard.host [--yes] [--setup-only]`: make the Docker engine usable, and print its version."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from stackyard._util import streams
from stackyard.errors import StackyardError, UsageError
from stackyard.host.engine_setup import consents, ensure_engine, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

OPTIONS = frozenset({"--yes", "--setup-only"})


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0 once an engine is usable."""
    words = list(sys.argv[1:] if argv is None else argv)
    # leave through the clean-ups: half an install's temporary folder must not stay
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        unknown = [word for word in words if word not in OPTIONS]
        if unknown:
            raise UsageError(f"unknown option {unknown[0]}; known are {', '.join(sorted(OPTIONS))}")
        version = ensure_engine(consent=consents(yes="--yes" in words))
    except StackyardError as error:
        progress(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    progress(f"ready: Docker Engine {version}" if version else "ready")
    return 0


if __name__ == "__main__":
    streams.guard()
    sys.exit(streams.settle(main()))
