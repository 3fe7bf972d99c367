"""
Compose's rendered model, from a template if that is safe.

Rendering costs a process and about 80 ms, and the models of one environment differ only in their lease's variables. So
a model is rendered twice with made-up values for the lease's own variables. If the two results differ only in these
values, putting in a lease's real values gives what Compose would have rendered. If not, or if other files are part of
the model, Compose renders each model itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files, json_text
from stackyard._util.task_group import run_all
from stackyard.docker.fast_start import plugin as compose_plugin
from stackyard.leases.directory.files import env_text, write_new
from stackyard.leases.records import own_names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stackyard.docker.compose import Compose

# The values of the lease's own variables in the two trials, by kind. The two differ in length too, so that nothing
# computed from a value is the same in both.
TRIALS: Final = (
    {"number": "40{:02}", "network": "10.9.{}.0/28", "path": "/madeup{:02}x", "word": "madeup{:02}x"},
    {"number": "610{:02}", "network": "10.119.{}.0/28", "path": "/invented{:02}x", "word": "invented{:02}x"},
)
VERSION: Final = 1  # of the stored form
_STORED: Final = re.compile(r"[0-9a-f]{32}\.json")
# Words in a Compose file that make other files part of the model.
ELSEWHERE: Final = (b"extends", b"include", b"env_file", b"label_file", b"configs")


async def render(compose: Compose, variables: Mapping[str, str], folder: Path, *, deadline: float) -> dict[str, Any]:
    """
    Return Compose's rendering of its file with *variables*, as `Compose.model` does.

    Args:
        compose: File, env file and project.
        variables: What the env file says.
        folder: Where templates are kept between runs.
        deadline: Seconds it may take.

    Raises:
        CommandError: If Compose refuses the file or needs more than *deadline* seconds.
    """
    key = _key(compose, variables)
    if key is None:
        return await compose.rendered(deadline=deadline)
    stored = folder / f"{key}.json"
    known, template = _load(stored)
    if not known:
        template = await _make(compose, variables, deadline=deadline)
        with contextlib.suppress(OSError):  # a full disk costs the time saved, not the start
            files.make_folder(folder)
            files.write(stored, json.dumps({"version": VERSION, "template": template}).encode())
            _prune(folder)
    with contextlib.suppress(ValueError, TypeError):  # one that is damaged
        if template is not None:
            return _fill(template, variables)
    return await compose.rendered(deadline=deadline)


def _key(compose: Compose, variables: Mapping[str, str]) -> str | None:
    """Name everything a template depends on in one digest; None where that cannot be known."""
    plugin = compose_plugin.file(compose_plugin.PLACES)  # newer content there may render differently
    content = compose.file.read_bytes()
    if plugin is None or compose.overrides or any(word in content for word in ELSEWHERE):
        return None
    found = plugin.stat()
    # of the lease's own variables only the kind may change nothing but the value itself
    own = {*own_names(variables)}
    common = sorted((name, _kind(value) if name in own else value) for name, value in variables.items())
    parts = [VERSION, str(compose.file), str(plugin), found.st_size, found.st_mtime_ns, common]
    return hashlib.sha256(content + json.dumps(parts).encode()).hexdigest()[:32]


def _load(stored: Path) -> tuple[bool, str | None]:
    """Read a stored template: whether there is one, and it; one that is None says that there can be none."""
    try:
        content = json_text.read(files.read(stored))
        template = content["template"] if content["version"] == VERSION else 0
    except (OSError, ValueError, KeyError, TypeError):
        return False, None
    return (True, template) if template is None or isinstance(template, str) else (False, None)


def _prune(folder: Path, keep: int = 20) -> None:
    """Remove all but the newest templates; whatever else is in *folder* stays."""
    ours = [file for file in folder.iterdir() if _STORED.fullmatch(file.name) and files.is_plain(file)]
    newest_first = sorted(ours, key=lambda file: file.lstat().st_mtime, reverse=True)
    for file in newest_first[keep:]:
        file.unlink(missing_ok=True)


async def _make(compose: Compose, variables: Mapping[str, str], *, deadline: float) -> str | None:
    """Render with two sets of made-up values; return what they have in common, or None."""
    made_up = [_made_up(variables, kinds) for kinds in TRIALS]
    one, two = await run_all(*(_trial(compose, variables, values, deadline=deadline) for values in made_up))
    return one if one == two else None


async def _trial(compose: Compose, variables: Mapping[str, str], made_up: Mapping[str, str], *, deadline: float) -> str:
    # next to the lease's own env file, so that it goes with the lease if this process dies here
    env_file = compose.env_file.with_name(f".trial-{os.urandom(4).hex()}")
    try:
        write_new(env_file, env_text({**variables, **made_up}))
        trial = replace(compose, env_file=env_file, project=made_up["COMPOSE_PROJECT_NAME"])
        text = json.dumps(await trial.rendered(deadline=deadline), sort_keys=True)
    finally:
        env_file.unlink(missing_ok=True)
    for name, value in sorted(made_up.items(), key=lambda item: len(item[1]), reverse=True):
        text = text.replace(value, _mark(name))
    return text


def _mark(name: str) -> str:
    """Return the placeholder of a variable in a template: nothing that JSON or Compose would write."""
    return f"\1{name}\1"


def _made_up(variables: Mapping[str, str], kinds: Mapping[str, str]) -> dict[str, str]:
    """Return values of the same kinds as the lease's own, found nowhere else in a model."""
    own = sorted(name for name in own_names(variables) if variables[name])
    return {name: kinds[_kind(variables[name])].format(place) for place, name in enumerate(own)}


def _kind(value: str) -> str:
    if not value:
        return "empty"
    if value.isdecimal():
        return "number"
    if value.endswith("/28") and value.count(".") == 3:  # noqa: PLR2004 - an IPv4 network
        return "network"
    return "path" if value.startswith("/") else "word"


def _fill(template: str, variables: Mapping[str, str]) -> dict[str, Any]:
    for name in own_names(variables):  # an empty one has no mark
        template = template.replace(_mark(name), json.dumps(variables[name])[1:-1])
    model = json_text.read(template)
    if not isinstance(model, dict):
        raise TypeError("no model")
    return model
