"""Where the files of a Compose project are: as Compose looks for them, from a folder and its options."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Final

from stackyard._util import files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

FILES: Final = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")  # in Compose's order
OVERRIDES: Final = (
    "compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml",
)  # fmt: skip
FOLDER: Final = "--project-directory"
FILE: Final = "--file"
ENV_FILE: Final = "--env-file"
VARIABLES: Final = {FILE: "COMPOSE_FILE", ENV_FILE: "COMPOSE_ENV_FILES"}  # each counts where its option is not given
DEPTH: Final = 3  # levels of folders that a search below a folder visits
MOST_FOLDERS: Final = 1000  # that it visits on one level; a home folder has more than a project
MOST_FOUND: Final = 4  # files that one line names


def values(words: Sequence[str], option: str) -> list[str]:
    """Return the values of one of Compose's options, such as ``--profile``, from options and values in turn."""
    return [value for word, value in zip(words[::2], words[1::2], strict=True) if word == option]


def asked_for(words: Sequence[str], option: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the files that `FILE` or `ENV_FILE` names, else its variable, after the one that counts."""
    if given := values(words, option):
        return option, given
    separator = (environment.get("COMPOSE_PATH_SEPARATOR") or os.pathsep) if option == FILE else ","
    variable = VARIABLES[option]
    return variable, [name for name in environment.get(variable, "").split(separator) if name]


def named(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> list[Path]:
    """Return the files of a project: those of the options, else of COMPOSE_FILE, else what Compose finds."""
    if asked := asked_for(words, FILE, environment)[1]:
        return [(folder / name).absolute() for name in asked]
    for place in (folder, *folder.parents):
        if found := _first(place, FILES):
            return [*found, *_first(place, OVERRIDES)]
    return []


def home(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Path:
    """Return the project's own folder: that of the first Compose file, unless an option names it."""
    chosen = [folder / value for value in values(words, FOLDER)]
    return next(iter(chosen), None) or next((file.parent for file in named(words, folder, environment)), folder)


def env_file(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Path:
    """Return the file that Compose reads variables from, the last one if there are several."""
    asked = asked_for(words, ENV_FILE, environment)[1]
    return (folder / asked[-1]).absolute() if asked else home(words, folder, environment) / ".env"


def below(folder: Path) -> list[str]:
    """Return Compose files in folders below *folder*, as paths from there; hidden folders are left out."""
    return [str(path.relative_to(folder)) for path in islice(_below(folder), MOST_FOUND)]


def _first(place: Path, names: Sequence[str]) -> list[Path]:
    return [*islice((place / name for name in names if files.exists(place / name)), 1)]


def _below(folder: Path) -> Iterator[Path]:
    level = [folder]
    for _ in range(DEPTH):
        level = [*islice((inner for place in level for inner in _folders(place)), MOST_FOLDERS)]
        for place in level:
            yield from _first(place, FILES)


def _folders(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [place / name for name in sorted(inner) if not name.startswith(".") and name != "node_modules"]
