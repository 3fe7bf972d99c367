"""`docker compose config`: the only parser of Compose files; it renders a project's model early and in parallel."""

from __future__ import annotations

import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files, process
from stackyard._util.advice import Action, how
from stackyard.errors import CommandError, EngineError, UsageError
from stackyard.project import compose_files
from stackyard.project.model import read_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEADLINE: Final = 25.0  # seconds for one rendering; a usual one takes 0.1
AS_JSON: Final = ("--format", "json")
NO_ENGINE: Final = ("--host", "unix:///nowhere")  # Compose would ask its engine: three logins, where that is behind ssh
MOST_MISSING: Final = 100  # variables that one error lists
_MISSING: Final = re.compile(r"required variable ([A-Za-z_]\w*) is missing a value(?:: (.*))?")
_NOISE: Final = re.compile(r"^(time=\S+ level=\S+ msg=|services\.\S+: )")
_UNSET: Final = re.compile(r'The \\?"(\w+)\\?" variable is not set')
_NO_COMPOSE: Final = re.compile(r"is not a docker command|unknown command: docker|unknown flag|no such program")
_PLACEHOLDER: Final = "0"  # reads as a number too, so that a port may need the variable
# a project name that no project has: a rendering under it is that of a copy, whatever the copy's name will be
ANY_NAME: Final = "stackyard-any-name-5e0c1a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """
    One rendering in a thread: several at once take hardly longer than one.

    Attributes:
        words: Options that Compose was asked with.
        folder: Where it was asked.
        environment: The environment that it was asked in.
        options: Options of the rendering.
        name: Compose project name; empty is the project's own.
        done: What Compose answers.
    """

    words: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]
    options: tuple[str, ...] = ()
    name: str = ""
    done: Future[process.Completed] = field(default_factory=Future, compare=False)

    def begin(self) -> Rendering:
        """Begin it, or return the same one that was begun ahead."""
        begun = next((one for one in AHEAD if one == self), None)
        if begun is not None:
            AHEAD.remove(begun)
            return begun
        words, environment = _named(self.words, self.environment, self.name)
        pool = ThreadPoolExecutor(max_workers=1)
        done = pool.submit(ask, words, self.folder, environment, *AS_JSON, *self.options)
        pool.shutdown(wait=False)
        return replace(self, done=done)

    @property
    def model(self) -> dict[str, Any]:
        """
        Wait for the model.

        Raises:
            UsageError: If Compose refuses the project.
            EngineError: If the Compose plugin is missing, or printed no model.
        """
        return read_model(self.done.result().stdout)

    @property
    def unset(self) -> list[str]:
        """The variables that Compose took as empty, because they have no value; none if it refused the project."""
        return [] if self.done.exception() else sorted({*_UNSET.findall(self.done.result().stderr)})

    def of(self, words: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any] | None:
        """Wait for its model, and return it if Compose was asked like this; None if it was not, or failed."""
        fits = (self.words, self.environment) == (words, environment)
        return None if not fits or self.done.exception() else self.model


AHEAD: Final[list[Rendering]] = []  # begun before anything asked for them; each is used once


def template(words: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> Rendering:
    """Begin the rendering of a project's template."""
    return Rendering(words=words, folder=folder, environment=environment, options=("--no-interpolate",)).begin()


def models(words: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> tuple[Rendering, Rendering]:
    """Begin the renderings of a project's own model, and of a copy's."""
    usual = Rendering(words=words, folder=folder, environment=environment)
    return usual.begin(), replace(usual, name=ANY_NAME).begin()


def render(
    words: tuple[str, ...], folder: Path, environment: Mapping[str, str], name: str | None = None
) -> dict[str, Any]:
    """
    Have Compose render the model; it names one missing variable at a time.

    Raises:
        UsageError: If Compose refuses it, or could not start it; if variables are missing, the text lists all.
        EngineError: If the Compose plugin is missing.
    """
    words, environment = _named(words, environment, name)
    missing: dict[str, str] = {}
    while True:
        try:
            model = _config(words, folder, environment | dict.fromkeys(missing, _PLACEHOLDER))
        except _MissingVariableError as error:
            if error.name in missing or len(missing) >= MOST_MISSING:
                raise
            missing[error.name] = error.why
            continue
        if missing:
            raise UsageError(_missing_text(missing, compose_files.env_file(words, folder, environment), folder))
        return model


class _NoComposeError(EngineError):
    """The Compose plugin is missing or broken; the front end's advice is added when the error is shown."""

    def __str__(self) -> str:
        return f"{super().__str__()}; {how(Action.CHECK_HOST)}"


class _MissingVariableError(UsageError):
    """A variable written as ``${NAME:?why}`` has no value."""

    def __init__(self, name: str, why: str, file: Path, folder: Path) -> None:
        super().__init__(name, why, file, folder)
        self.name, self.why, self.file, self.folder = name, why, file, folder

    def __str__(self) -> str:
        return _missing_text({self.name: self.why}, self.file, self.folder)


def _missing_text(missing: Mapping[str, str], file: Path, folder: Path) -> str:
    named = ", ".join(f"{name} ({why})" if why and why != f"set {name}" else name for name, why in missing.items())
    one = len(missing) == 1
    needs = "1 variable that has no value" if one else f"{len(missing)} variables that have no value"
    write = f"write {'it' if one else 'them'} to {os.path.relpath(file, folder)}"
    if (template := files.template_of(file)) and not files.exists(file):
        write = f"copy {os.path.relpath(template, folder)} to {os.path.relpath(file, folder)} and complete it"
    return f"the Compose file needs {needs}: {named}; set {'it' if one else 'them'}, or {write}"


def _named(
    words: tuple[str, ...], environment: Mapping[str, str], name: str | None
) -> tuple[tuple[str, ...], dict[str, str]]:  # fmt: skip
    """Return Compose's options and environment for a project of another name; files may name the variable, too."""
    if not name:
        return words, {**environment}
    return (*words, "--project-name", name), {**environment, "COMPOSE_PROJECT_NAME": name}


def _config(words: Sequence[str], folder: Path, environment: Mapping[str, str], *options: str) -> dict[str, Any]:
    return read_model(ask(words, folder, environment, *AS_JSON, *options).stdout)


def ask(words: Sequence[str], folder: Path, environment: Mapping[str, str], *options: str) -> process.Completed:
    """
    Run `docker compose config` with *options*.

    Raises:
        UsageError: If Compose refuses the project.
        EngineError: If the Compose plugin is missing.
    """
    argv = ["docker", *NO_ENGINE, "compose", *words, "config", *options]
    try:
        return process.run(argv, deadline=DEADLINE, env=environment, cwd=folder)
    except (OSError, ValueError) as error:  # a NUL in a folder, a profile or a variable, too
        raise UsageError(f"{folder}: {(isinstance(error, OSError) and error.strerror) or error}") from None
    except CommandError as error:
        raise _refusal(words, folder, environment, error) from None


def _refusal(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], error: CommandError
) -> UsageError | EngineError:
    """Return Compose's own words as one line of bad input, or as a missing plugin."""
    lines = [_NOISE.sub("", line) for line in error.lines]
    text = lines[-1] if lines else str(error)
    if found := _MISSING.search(error.output):
        file = compose_files.env_file(words, folder, environment)
        return _MissingVariableError(found[1], (found[2] or "").strip(), file, folder)
    if error.returncode is not None and error.returncode < 0:  # whatever it had said by then
        return EngineError(f"{folder}: 'docker compose config' was ended by signal {-error.returncode}; try again")
    if _NO_COMPOSE.search(error.output):
        return _NoComposeError(f"docker compose does not work here: {lines[0] if lines else text}")
    if error.returncode is None:
        return UsageError(
            f"{folder}: Compose has not read the project's files within {DEADLINE:g} s; a file that is very large or "
            "deeply nested, or an address that does not answer, holds it up"
        )
    if "no configuration file provided" in error.output:
        return UsageError(
            f"{folder}: no Compose file here or above; change to the project's folder, or name a file{_below(folder)}"
        )
    if "project name must not be empty" in text:
        text = (
            "it can make no name of the folder's; write 'name: shop' to the Compose file, or set COMPOSE_PROJECT_NAME"
        )
    return UsageError(f"{folder}: Compose refuses {_files(words, folder, environment, text)}: {text}")


def _below(folder: Path) -> str:
    found = compose_files.below(folder)
    return f"; below this folder: {', '.join(found)}" if found else ""


def _files(words: Sequence[str], folder: Path, environment: Mapping[str, str], text: str) -> str:
    """Return what Compose refuses, with the names of its files if there are several and *text* names none."""
    found = compose_files.named(words, folder, environment)
    if not found[1:] or any(str(file) in text for file in found):
        return "the project"
    return f"the project of {', '.join(os.path.relpath(file, folder) for file in found)}"
