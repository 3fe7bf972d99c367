"""A Chromium that shows the report pages: the one on this machine, or else the distribution's package."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import Action, how
from stackyard.errors import StackyardError, UsageError
from stackyard.host import docker_packages
from stackyard.host.engine_setup import ask_on_terminal, consents, progress
from stackyard.host.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PACKAGES: Final = {"debian": "chromium"}  # Ubuntu's is a stand-in for a snap, which cannot read what a test writes
HOW: Final = "install Chromium or Chrome yourself"


def find(machine: Machine | None = None) -> str | None:
    """Return where a Chromium lies; None when there is none."""
    machine = machine or Machine()
    return next((found for name in PROGRAMS if (found := machine.program(name))), None)


def ensure(
    machine: Machine | None = None,
    *,
    consent: bool = False,
    say: Callable[[str], None] = progress,
    ask: Callable[[str], bool] = ask_on_terminal,
) -> str:
    """
    Return where a Chromium lies, after installing it where that is needed and agreed to: by *consent*, or by a person.

    Raises:
        StackyardError: If there is none and none could be had; the text says what to do.
    """
    machine = machine or Machine()
    found = find(machine)
    if found:
        return found
    package = PACKAGES.get(machine.distribution.id)
    if package is None or not machine.has_apt:
        raise StackyardError(f"no Chromium on {machine.distribution.title}; {HOW}")
    if not (consent or ask(f"not installed: {package}. Install with apt?")):
        raise StackyardError(f"not installed: {package}; {how(Action.INSTALL_BROWSER)}, or {HOW}")
    docker_packages.add(machine, [package], say)
    found = find(machine)
    if found is None:
        raise StackyardError(f"apt installed {package}, but none of {', '.join(PROGRAMS)} is on PATH; {HOW}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m stackyard.host.browser [--yes]`: make sure of a Chromium and print where it lies."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if set(words) - {"--yes"}:
            raise UsageError(f"the only option is --yes, got {' '.join(words)[:60]!r}")
        print(ensure(consent=consents(yes="--yes" in words)))  # noqa: T201 - a program's output
    except StackyardError as error:
        progress(str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
