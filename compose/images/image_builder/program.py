"""The builder as a program: `stackyard.images.builder` runs it and reads its lines."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from image_builder.order import build
from stackyard.docker.engine import Engine
from stackyard.errors import StackyardError
from stackyard.images import resolve_source
from stackyard.images.builder import FAILURE
from stackyard.images.recipes import FLAVOURS, service_recipes
from stackyard.images.store import building, known

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parents[3]
INTERRUPTED: Final = 130


def main(words: Sequence[str]) -> int:
    """Build what is missing of one flavour; return the exit code."""
    parser = argparse.ArgumentParser(prog="compose/images", description="Build the images that are missing.")
    parser.add_argument("flavour", choices=FLAVOURS)
    parser.add_argument("--source", default="auto", help="where base images come from: auto, registry or packages")
    given = parser.parse_args(words)
    # SIGTERM unwinds as Ctrl-C does, so that running builds end and no files are left
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        recipes = service_recipes(ROOT, given.flavour, resolve_source(given.source))
        with building(say):
            with Engine() as engine:
                there = known(engine)
            build(ROOT, given.flavour, recipes.values(), there, say)
    except StackyardError as error:
        say(f"{FAILURE}{error}")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def say(line: str) -> None:
    """Print a line at once, because another program reads it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
