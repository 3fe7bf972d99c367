"""Wheels that carry what Alpine images are made of: fetched by pip, pinned by SHA-256, kept in the cache."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stackyard._util import process
from stackyard.errors import CommandError, ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PINS: Final = "compose/base/wheels.json"
DOWNLOAD_DEADLINE: Final = 600.0  # seconds; the largest wheel has 86 MB
TARGET_PYTHON: Final = ("--python-version", "3.13", "--implementation", "cp", "--only-binary=:all:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """
    One pinned wheel.

    Attributes:
        name: Its project's name.
        version: The only version accepted.
        platform: The platform tag pip is to ask for.
        file: Its file name.
        sha256: The only content accepted.
        holds: What is inside, for progress lines.
    """

    name: str
    version: str
    platform: str
    file: str
    sha256: str
    holds: str


def load_pins(root: Path) -> dict[str, Wheel]:
    """
    Read the pins of the project at *root*.

    Raises:
        ImageError: If the file is missing or wrong.
    """
    file = root / PINS
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        return {name: Wheel(name=name, **row) for name, row in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ImageError(f"{file}: cannot read the pinned wheels: {error}") from None


def fetch(wheel: Wheel, cache: Path) -> Path:
    """
    Return *wheel*'s file in *cache* (a directory, made if missing), downloaded unless it is there already.

    Raises:
        ImageError: If it cannot be downloaded, or its content is not the pinned one.
    """
    file = cache / wheel.file
    if file.is_file() and _sha256(file) == wheel.sha256:
        return file
    cache.mkdir(parents=True, exist_ok=True)
    requirement = cache / f"{wheel.name}.txt"
    requirement.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    pip("download", "--no-deps", "--require-hashes", "--dest", str(cache), "--platform", wheel.platform,
        *TARGET_PYTHON, "--requirement", str(requirement), what=f"wheel {wheel.name} {wheel.version}")  # fmt: skip
    if not file.is_file():
        raise ImageError(f"wheel {wheel.name} {wheel.version}: pip saved no {wheel.file}; correct 'file' in {PINS}")
    return file


def pip(command: str, *arguments: str, what: str) -> None:
    """
    Run this interpreter's pip with *arguments*.

    Raises:
        ImageError: If it fails; the text says *what* was wanted and carries pip's last lines.
    """
    if platform.machine() not in {"x86_64", "AMD64"}:
        raise ImageError(
            f"{what}: images are built from packages only on x86_64, this machine is {platform.machine()}; "
            "set STACKYARD_IMAGE_SOURCE=registry"
        )
    words = [sys.executable, "-m", "pip", command, "--quiet", "--no-input", "--disable-pip-version-check"]
    try:
        process.run([*words, *arguments], deadline=DOWNLOAD_DEADLINE)
    except CommandError as error:
        raise ImageError(f"{what}: pip {command} failed:\n{tail(error.output)}") from None


def tail(output: str | Sequence[str], lines: int = 15) -> str:
    """Return the last *lines* lines that are not blank, indented as evidence."""
    rows = output.splitlines() if isinstance(output, str) else output
    return "\n".join(f"  {row.rstrip()}" for row in [row for row in rows if row.strip()][-lines:])


def _sha256(file: Path) -> str:
    import hashlib

    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
