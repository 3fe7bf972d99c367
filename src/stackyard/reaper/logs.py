"""How the reaper and its child processes write their log."""

from __future__ import annotations

import logging
import os


def log_to_stderr() -> None:
    """Write stackyard's log lines, with time and pid, to standard error; a full disk loses only log lines."""
    logging.raiseExceptions = False
    logging.basicConfig(format=f"%(asctime)s [{os.getpid()}] %(message)s", level=logging.WARNING)
    logging.getLogger("stackyard").setLevel(logging.INFO)
