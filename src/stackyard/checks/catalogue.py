"""All checks, by what they look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stackyard.checks import composition, detection, dockerfiles, images, running_stacks

if TYPE_CHECKING:
    from stackyard.checks.records import Check

CHECKS: Final[tuple[Check[Any], ...]] = (
    *dockerfiles.CHECKS, *images.CHECKS, *composition.FILE_CHECKS, *composition.CHECKS, *running_stacks.CHECKS,
    *detection.CHECKS,
)  # fmt: skip
IDS: Final = frozenset(each.id for each in CHECKS)
