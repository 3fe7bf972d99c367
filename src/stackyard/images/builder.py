"""
The builder of images that a project has as a program of its own, `compose/images`, outside this package.

The program gets a flavour and a source and prints a line for each step. After a failure its last lines, from the one
that begins with `error: `, are the error; its exit code says of which kind.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard._util import json_text, process
from stackyard._util.interrupts import reported
from stackyard.errors import EngineError, ImageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stackyard.images.recipes import Source

PROGRAM: Final = "compose/images"
TOOLS: Final = f"{PROGRAM}/tools.json"
FAILURE: Final = "error: "
DEADLINE: Final = 7200.0  # seconds for all images of a flavour, with the wait for another build
SHOWN: Final = 15  # lines of a builder that failed without saying why
KINDS: Final = {kind.exit_code: kind for kind in (ImageError, EngineError, UsageError)}


def build(root: Path, flavour: str, source: Source, say: Callable[[str], None], *, missing: Iterable[str]) -> None:
    """
    Let the builder of the project at *root* build the images *missing* of *flavour*.

    Raises:
        ImageError: If there is no builder or an image cannot be built.
        EngineError: If the engine does not answer.
    """
    program = root / PROGRAM
    if not (program / "__main__.py").is_file():
        raise ImageError(f"no such image: {', '.join(missing)}; {program}, which would build it, is not there")
    failure: list[str] = []

    def sort(line: str) -> None:
        (failure.append if failure or line.startswith(FAILURE) else say)(line)

    # a builder that has to be killed leaves its files here
    stopped = reported(say, f"building the images of {flavour}")
    with stopped, tempfile.TemporaryDirectory(prefix="stackyard-images-") as work:
        Path(work).chmod(0o755)  # without root, mmdebstrap reads it as another user; nothing in it is secret
        words = [sys.executable, str(program), flavour, "--source", source]
        done = process.stream(words, deadline=DEADLINE, on_line=sort, env={"TMPDIR": work})
    if done.returncode:
        text = "\n".join(failure or [f"{program} failed:", *done.stdout.splitlines()[-SHOWN:]])
        raise KINDS.get(done.returncode, ImageError)(text.removeprefix(FAILURE))


def missing_tools(root: Path) -> dict[str, str]:
    """
    Return the programs that this host lacks for a build from packages, each with the Debian package that has it.

    Empty if the project at *root* has no builder.

    Raises:
        ImageError: If the builder's list of tools cannot be read.
    """
    import os

    file = root / TOOLS
    if not file.exists():
        return {}
    try:
        lists = json_text.read(file.read_bytes())
        needed: dict[str, str] = lists["programs"] | ({} if os.geteuid() == 0 else lists["without_root"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ImageError(f"{file}: cannot be read as the builder's list of tools: {error!r}") from None
    return {program: package for program, package in needed.items() if shutil.which(program) is None}
