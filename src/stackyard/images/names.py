"""
The plain names of the images, such as `stackyard/redis:debian`, which plain `docker compose` uses.

An engine has each of them once, and several checkouts share the engine. So a plain name belongs to the checkout that
gave it first, as long as that is there: only this checkout's builds move it. Another one can take it over.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from stackyard._util import json_text
from stackyard._util.files import write_json
from stackyard.docker.images import tag
from stackyard.images.sources import cache_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from stackyard.docker.engine import Engine
    from stackyard.images.recipes import Recipe


def give(
    engine: Engine, recipes: Iterable[Recipe], known: Mapping[str, str], *, root: Path, take: bool = False
) -> dict[str, str]:
    """
    Let the plain names of *recipes* mean their images, except names that belong to another checkout than *root*.

    With *take*, these are taken over, too. *known* has the id of every name of an image.

    Returns:
        The names that stay with another image because they belong to another checkout, and that checkout.

    Raises:
        EngineError: If the engine does not answer.
    """
    named = {recipe.alias: recipe.reference for recipe in recipes if recipe.alias is not None}
    owners = _read(_file()).get(engine.endpoint.url, {})
    if all(known.get(name) == known[named[name]] and _is_there(owners.get(name)) for name in named):
        return {}
    kept: dict[str, str] = {}
    with _record(engine.endpoint.url) as owners:
        for name, reference in named.items():
            owner, right = owners.get(name), known.get(name) == known[reference]
            if owner != str(root) and _is_there(owner) and name in known and not take:
                kept |= {} if right else {name: str(owner)}
                continue
            if not right:
                tag(engine, reference, name)
            owners[name] = str(root)
    return kept


def _is_there(owner: str | None) -> bool:
    return owner is not None and Path(owner).is_dir()


def _file() -> Path:
    return cache_directory() / "plain-names.json"


@contextlib.contextmanager
def _record(address: str) -> Iterator[dict[str, str]]:
    """Give a block the owner of each plain name on the engine at *address*; write down what it has changed."""
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        engines = _read(file)
        before = engines.get(address, {})
        owners = dict(before)
        try:
            yield owners
        finally:
            if owners != before:
                write_json(file, engines | {address: owners})


def _read(file: Path) -> dict[str, dict[str, str]]:
    try:
        content = json_text.read(file.read_bytes())
    except (OSError, ValueError):
        return {}
    engines = content.items() if isinstance(content, dict) else ()
    return {
        address: {name: owner for name, owner in owners.items() if isinstance(owner, str)}
        for address, owners in engines
        if isinstance(owners, dict)
    }
