"""One Compose project: Compose finds the files and renders the model; everything else asks this record."""

from __future__ import annotations

import copy
import json
import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import process
from stackyard._util.advice import Action, how
from stackyard.errors import CommandError, EngineError, UsageError
from stackyard.project.configuration import Configuration, named_ahead
from stackyard.project.model import read_model, refuse_negative_copies, without

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEADLINE: Final = 30.0  # seconds for one rendering; a usual one takes 0.1
NO_ENGINE: Final = ("--host", "unix:///nowhere")  # Compose would ask its engine: three logins, where that is behind ssh
FILES: Final = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")  # as Compose looks for them
MOST_MISSING: Final = 100  # variables that one error lists
_MISSING: Final = re.compile(r"required variable ([A-Za-z_]\w*) is missing a value(?:: (.*))?")
_NOISE: Final = re.compile(r"^(time=\S+ level=\S+ msg=|services\.\S+: )")
_PROFILES: Final = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?COMPOSE_PROFILES[ \t]*=[ \t]*("[^"\n]*"|'[^'\n]*'|[^\s#]*)""", re.MULTILINE
)
_NO_COMPOSE: Final = re.compile(r"is not a docker command|unknown command: docker|unknown flag|no such program")
_PLACEHOLDER: Final = "0"  # reads as a number too, so that a port may need the variable
# a project name that no project has: a rendering under it is that of a copy, whatever the copy's name will be
_ANY_NAME: Final = "stackyard-any-name-5e0c1a"


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
        model: What it renders.
    """

    words: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str]
    options: tuple[str, ...] = ()
    name: str = ""
    model: Future[dict[str, Any]] = field(default_factory=Future, compare=False)

    def begin(self) -> Rendering:
        """Begin it, or return the same one that was begun ahead."""
        begun = next((one for one in _AHEAD if one == self), None)
        if begun is not None:
            _AHEAD.remove(begun)
            return begun
        words, environment = _named(self.words, self.environment, self.name)
        pool = ThreadPoolExecutor(max_workers=1)
        model = pool.submit(_config, words, self.folder, environment, *self.options)
        pool.shutdown(wait=False)
        return replace(self, model=model)

    def of(self, project: Project) -> dict[str, Any] | None:
        """Wait for its model, and return it if it is that of *project* as it is now; None if it is not, or failed."""
        fits = self.words == project.words and self.environment == project.environment
        return None if not fits or self.model.exception() else copy.deepcopy(self.model.result())


_AHEAD: Final[list[Rendering]] = []  # begun before anything asked for them; each is used once


def render_ahead(folder: Path) -> None:
    """Begin the renderings that `Project.find` needs for *folder*; a project that is asked otherwise gets its own."""
    caller = _caller(folder, os.environ)
    words = _chosen((), caller, *named_ahead(_home((), folder, caller)))
    _AHEAD.extend([_template(words, folder, caller), *_models(words, folder, caller)])


def _template(words: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> Rendering:
    """Begin the rendering of a project's template."""
    return Rendering(words=words, folder=folder, environment=environment, options=("--no-interpolate",)).begin()


def _models(words: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> tuple[Rendering, Rendering]:
    """Begin the renderings of a project's own model, and of a copy's."""
    usual = Rendering(words=words, folder=folder, environment=environment)
    return usual.begin(), replace(usual, name=_ANY_NAME).begin()


def _chosen(
    words: tuple[str, ...], environment: Mapping[str, str], profiles: Sequence[str], env_files: Sequence[str]
) -> tuple[str, ...]:
    """Return Compose's options with what the configuration chooses; what the caller chose otherwise stays."""
    if "--profile" not in words and not environment.get("COMPOSE_PROFILES"):
        words += tuple(word for profile in profiles for word in ("--profile", profile))
    if "--env-file" not in words and not environment.get("COMPOSE_ENV_FILES"):
        words += tuple(word for file in env_files for word in ("--env-file", file))
    return words


def _home(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Path:
    """Return the folder of the first Compose file."""
    named = words[words.index("--file") + 1 :][:1] if "--file" in words else ()
    separator = environment.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    listed = (environment.get("COMPOSE_FILE") or "").split(separator)
    first = next(iter(named), listed[0])
    if first:
        return (folder / first).absolute().parent
    folders = (folder, *folder.parents)
    return next((at for at in folders if any((at / name).exists() for name in FILES)), folder)


def _caller(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    return {**environment, "PWD": str(folder)}  # files may name ${PWD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """
    A Compose project, as `docker compose` in *folder* finds it.

    Attributes:
        folder: Where Compose is asked; relative paths count from the project's own folder, as with plain Compose.
        words: Options that choose files, profiles and env files, as `docker compose` takes them.
        environment: The caller's environment: it decides as it does with plain Compose.
        template: The model before variables are filled in: which variable stands where.
        configuration: What its configuration decides; services that all copies share are in no model of it.
        usual: The rendering of the project's own model, which began beside that of the template.
        copied: That of a copy's model, too.
    """

    folder: Path
    words: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    template: Mapping[str, Any] = field(repr=False)
    configuration: Configuration = field(default_factory=Configuration)
    usual: Rendering | None = field(default=None, repr=False, compare=False)
    copied: Rendering | None = field(default=None, repr=False, compare=False)

    @classmethod
    def find(
        cls,
        folder: Path,
        *,
        files: Sequence[str] = (),
        profiles: Sequence[str] = (),
        env_files: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Project:
        """
        Find the project of *folder* as Compose does: there, or in a folder above it.

        Args:
            folder: Where to begin.
            files: Compose files instead of those that Compose finds.
            profiles: Profiles to enable.
            env_files: Env files instead of `.env`.
            environment: The caller's environment; None takes this process's.

        Raises:
            UsageError: If there is no project, Compose refuses its files, or its configuration is wrong.
            EngineError: If the Compose plugin is missing.
        """
        options = (("--file", files), ("--profile", profiles), ("--env-file", env_files))
        words = tuple(word for option, values in options for value in values for word in (option, value))
        caller = _caller(folder, os.environ if environment is None else environment)
        asked = _chosen(words, caller, *named_ahead(_home(words, folder, caller)))
        raw, (usual, copied) = _template(asked, folder, caller), _models(asked, folder, caller)
        template = raw.model.result()
        found = cls(folder=folder, words=words, environment=caller, template=template, usual=usual, copied=copied)
        return found._configured(Configuration.read(found.home, template), asked)

    def _configured(self, configuration: Configuration, asked: tuple[str, ...]) -> Project:
        """Return the project with its configuration; of one that stands in the Compose file Compose did not know."""
        words = _chosen(self.words, self.environment, configuration.profiles, configuration.env_files)
        template, usual, copied = self.template, self.usual, self.copied
        if words != asked:
            others = "--env-file" in words and "--env-file" not in asked
            raw = _template(words, self.folder, self.environment) if others else None
            usual, copied = _models(words, self.folder, self.environment)
            template = raw.model.result() if raw else template
        template = without(template, configuration.share.services)
        return replace(
            self, words=words, template=template, configuration=configuration, usual=usual, copied=copied
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The project's own name, which its users' plain `docker compose` goes by."""
        return str(self.template.get("name") or "")

    @property
    def home(self) -> Path:
        """The project's own folder: that of its first Compose file."""
        return _home(self.words, self.folder, self.environment)

    @property
    def profiles(self) -> tuple[str, ...]:
        """The chosen profiles: of the options, else of COMPOSE_PROFILES, in the environment or in an env file."""
        named = self.chosen("--profile")
        if not named:
            given = self.environment.get("COMPOSE_PROFILES", self._profiles_of_env_files())
            named = [word.strip() for word in given.split(",")]
        return tuple(dict.fromkeys(filter(None, named)))

    def _profiles_of_env_files(self) -> str:
        files = self.chosen("--env-file") or (self.environment.get("COMPOSE_ENV_FILES") or "").split(",")
        paths = [self.folder / file for file in files if file] or [self.home / ".env"]
        texts = [path.read_text(errors="replace") for path in paths if path.is_file()]
        found = [value for text in texts for value in _PROFILES.findall(text)]
        return found[-1].strip("\"'") if found else ""

    def chosen(self, option: str) -> list[str]:
        """Return the values of one of Compose's options, such as ``--profile``."""
        return [value for word, value in zip(self.words[::2], self.words[1::2], strict=True) if word == option]

    def enabled(self) -> frozenset[str]:
        """
        Return the services that the chosen profiles enable; the template has the others, too.

        Raises:
            UsageError: If Compose refuses the project.
        """
        done = _ask(self.words, self.folder, self.environment, "--services", "--no-interpolate")
        return frozenset(done.stdout.split())

    def model(self, *, name: str | None = None, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
        """
        Return the rendered model.

        Args:
            name: Compose project name; None takes the project's own.
            variables: Win over the caller's environment.

        Raises:
            UsageError: If Compose refuses it, or could not start it; if variables are missing, the text lists all.
        """
        model = (None if variables else self._rendered(name)) or self._render(name, variables or {})
        refuse_negative_copies(model)
        return without(model, self.configuration.share.services)

    def _render(self, name: str | None, variables: Mapping[str, str]) -> dict[str, Any]:
        """Have Compose render the model; it names one missing variable at a time."""
        words, environment = _named(self.words, {**self.environment, **variables}, name)
        missing: dict[str, str] = {}
        while True:
            try:
                model = _config(words, self.folder, environment | dict.fromkeys(missing, _PLACEHOLDER))
            except _MissingVariableError as error:
                if error.name in missing or len(missing) >= MOST_MISSING:
                    raise
                missing[error.name] = error.why
                continue
            if missing:
                raise UsageError(_missing_text(missing))
            return model

    def _rendered(self, name: str | None) -> dict[str, Any] | None:
        """Return the model under *name* from a rendering that began with the project's; None if that one failed."""
        begun = self.copied if name else self.usual
        found: dict[str, Any] | None = begun.of(self) if begun else None
        if found and name:
            found = json.loads(json.dumps(found).replace(_ANY_NAME, name))
        return found


class _MissingVariableError(UsageError):
    """A variable written as ``${NAME:?why}`` has no value."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name, self.why = name, why

    def __str__(self) -> str:
        return _missing_text({self.name: self.why})


def _missing_text(missing: Mapping[str, str]) -> str:
    named = ", ".join(f"{name} ({why})" if why and why != f"set {name}" else name for name, why in missing.items())
    noun = "variable" if len(missing) == 1 else "variables"
    return f"the Compose file needs {len(missing)} {noun} that have no value: {named}; set them, or write them to .env"


def _named(
    words: tuple[str, ...], environment: Mapping[str, str], name: str | None
) -> tuple[tuple[str, ...], dict[str, str]]:  # fmt: skip
    """Return Compose's options and environment for a project of another name; files may name the variable, too."""
    if not name:
        return words, {**environment}
    return (*words, "--project-name", name), {**environment, "COMPOSE_PROJECT_NAME": name}


def _config(words: Sequence[str], folder: Path, environment: Mapping[str, str], *options: str) -> dict[str, Any]:
    return read_model(_ask(words, folder, environment, "--format", "json", *options).stdout)


def _ask(words: Sequence[str], folder: Path, environment: Mapping[str, str], *options: str) -> process.Completed:
    argv = ["docker", *NO_ENGINE, "compose", *words, "config", *options]
    try:
        return process.run(argv, deadline=DEADLINE, env=environment, cwd=folder)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror or error}") from None
    except CommandError as error:
        raise _refusal(folder, error) from None


def _refusal(folder: Path, error: CommandError) -> UsageError | EngineError:
    """Return Compose's own words as one line of bad input, or as a missing plugin."""
    lines = [_NOISE.sub("", line) for line in error.lines]
    text = lines[-1] if lines else str(error)
    if found := _MISSING.search(error.output):
        return _MissingVariableError(found[1], (found[2] or "").strip())
    if error.returncode is not None and error.returncode < 0:  # whatever it had said by then
        return EngineError(f"{folder}: 'docker compose config' was ended by signal {-error.returncode}; try again")
    if error.returncode is None or _NO_COMPOSE.search(error.output):
        said = lines[0] if lines else text
        return EngineError(f"docker compose does not work here: {said}; {how(Action.CHECK_HOST)}")
    if "no configuration file provided" in error.output:
        return UsageError(f"{folder}: no Compose file here or above; change to the project's folder, or name a file")
    if "project name must not be empty" in text:
        text = (
            "it can make no name of the folder's; write 'name: shop' to the Compose file, or set COMPOSE_PROJECT_NAME"
        )
    return UsageError(f"{folder}: Compose refuses the project: {text}")
