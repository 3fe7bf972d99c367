"""A `docker` program for the tests, found first on PATH."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def install_docker(folder: Path, script: str) -> Path:
    """Put a `docker` that notes its words and then runs *script* into folder/bin; return the file of its words."""
    calls = folder / "calls"
    program = folder / "bin" / "docker"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\n{script}\n')
    program.chmod(0o755)
    if str(program.parent) not in os.environ["PATH"]:
        msg = f"{program.parent} must be on PATH"
        raise AssertionError(msg)
    return calls
