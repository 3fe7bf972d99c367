"""`python -m stackyard.host [--yes] [--setup-only] [-- nox options]`: make the engine usable, then become nox."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stackyard.errors import StackyardError, UsageError
from stackyard.host.setup import consents, ensure_engine, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

OPTIONS = frozenset({"--yes", "--setup-only"})


def main(argv: Sequence[str] | None = None) -> int:
    """Return an exit code when there is no nox to run, or none to be run; otherwise this process becomes nox."""
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    own, rest = words[:end], words[end + 1 :]
    # Leave through the clean-ups: half an install's temporary folder must not stay. Becoming nox undoes the handler.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        unknown = [word for word in own if word not in OPTIONS]
        if unknown:
            raise UsageError(f"unknown option {unknown[0]}; known are {', '.join(sorted(OPTIONS))}, then -- and nox's")
        version = ensure_engine(consent=consents(yes="--yes" in own))
    except StackyardError as error:
        progress(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if "--setup-only" not in own:
        nox = str(Path(sys.executable).with_name("nox"))
        os.execv(sys.executable, [sys.executable, "-P", nox, *rest])  # noqa: S606 - its signals, its exit code
    progress(f"ready: Docker Engine {version}" if version else "ready")
    return 0


if __name__ == "__main__":
    sys.exit(main())
