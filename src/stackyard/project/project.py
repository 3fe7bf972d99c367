"""One Compose project: Compose finds the files and renders the model; this record holds both."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files
from stackyard.errors import UsageError
from stackyard.project import given_files, rendering
from stackyard.project.compose_files import ENV_FILE, asked_for, home, values
from stackyard.project.configuration import Configuration, named_ahead
from stackyard.project.model import refuse_negative_copies, without
from stackyard.project.rendering import ANY_NAME, Rendering
from stackyard.project.service_kinds import marked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PROFILES: Final = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?COMPOSE_PROFILES[ \t]*=[ \t]*("[^"\n]*"|'[^'\n]*'|[^\s#]*)""", re.MULTILINE
)


def render_ahead(folder: Path) -> None:
    """Begin the renderings that `Project.find` needs for *folder*; a project that is asked otherwise gets its own."""
    caller = _caller(folder, os.environ)
    words = _chosen((), caller, *named_ahead(home((), folder, caller)))
    if not any(given_files.faults(words, folder, caller)):
        rendering.AHEAD.extend([rendering.template(words, folder, caller), *rendering.models(words, folder, caller)])


def _chosen(
    words: tuple[str, ...], environment: Mapping[str, str], profiles: Sequence[str], env_files: Sequence[str]
) -> tuple[str, ...]:
    """Return Compose's options with what the configuration chooses; what the caller chose otherwise stays."""
    if "--profile" not in words and not environment.get("COMPOSE_PROFILES"):
        words += tuple(word for profile in profiles for word in ("--profile", profile))
    if "--env-file" not in words and not environment.get("COMPOSE_ENV_FILES"):
        words += tuple(word for file in env_files for word in ("--env-file", file))
    return words


def _caller(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's variables; a shell with those of a copy still means the project, not the copy's name."""
    caller = {**environment, "PWD": str(folder)}  # files may name ${PWD}
    lease = caller.get("STACKYARD_LEASE")
    if lease and f"-{caller.get('COMPOSE_PROJECT_NAME')}".endswith(f"-{lease}"):
        del caller["COMPOSE_PROJECT_NAME"]
    return caller


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
        usual: The rendering of the project's own model, which began at the same time as that of the template.
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
        words = given_files.words(folder, files, profiles, env_files)
        caller = _caller(folder, os.environ if environment is None else environment)
        if fault := next(given_files.faults(words, folder, caller), ""):
            raise UsageError(fault)
        asked = _chosen(words, caller, *named_ahead(home(words, folder, caller)))
        raw, (usual, copied) = rendering.template(asked, folder, caller), rendering.models(asked, folder, caller)
        template = raw.model
        found = cls(folder=folder, words=words, environment=caller, template=template, usual=usual, copied=copied)
        return found._configured(Configuration.read(found.home, template), asked)

    def _configured(self, configuration: Configuration, asked: tuple[str, ...]) -> Project:
        """Return the project with its configuration; Compose did not know one in the Compose file."""
        words = _chosen(self.words, self.environment, configuration.profiles, configuration.env_files)
        template, usual, copied = self.template, self.usual, self.copied
        if words != asked:
            others = "--env-file" in words and "--env-file" not in asked
            raw = rendering.template(words, self.folder, self.environment) if others else None
            usual, copied = rendering.models(words, self.folder, self.environment)
            template = raw.model if raw else template
        template = without(template, configuration.share.services)
        return replace(self, words=words, template=template, configuration=configuration, usual=usual, copied=copied)

    @property
    def name(self) -> str:
        """The project's own name, which its users' plain `docker compose` goes by."""
        return str(self.template.get("name") or "")

    @property
    def home(self) -> Path:
        """The project's own folder: that of its first Compose file."""
        return home(self.words, self.folder, self.environment)

    @property
    def profiles(self) -> tuple[str, ...]:
        """The chosen profiles: of the options, else of COMPOSE_PROFILES, in the environment or in an env file."""
        named = self.chosen("--profile")
        if not named:
            given = self.environment.get("COMPOSE_PROFILES", self._profiles_of_env_files())
            named = [word.strip() for word in given.split(",")]
        return tuple(dict.fromkeys(filter(None, named)))

    def _profiles_of_env_files(self) -> str:
        named = asked_for(self.words, ENV_FILE, self.environment)[1]
        paths = [self.folder / file for file in named] or [self.home / ".env"]
        texts = [path.read_text(errors="replace") for path in paths if not files.fault(path.parent, path.name)]
        found = [value for text in texts for value in _PROFILES.findall(text)]
        return found[-1].strip("\"'") if found else ""

    def chosen(self, option: str) -> list[str]:
        """Return the values of one of Compose's options, such as ``--profile``."""
        return values(self.words, option)

    @property
    def unset(self) -> list[str]:
        """The variables without a value that Compose takes as empty."""
        return self.usual.unset if self.usual else []

    def enabled(self) -> frozenset[str]:
        """Return the services of the template that the chosen profiles enable, none whose profile is a variable."""
        services = (self.template.get("services") or {}).items()
        asked = {name: (service or {}).get("profiles") for name, service in services}
        chosen = {*self.profiles}
        return frozenset(name for name, profiles in asked.items() if not profiles or chosen & {*profiles, "*"})

    def model(self, *, name: str | None = None, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
        """
        Return the rendered model.

        Args:
            name: Compose project name; None takes the project's own.
            variables: Win over the caller's environment.

        Raises:
            UsageError: If Compose refuses it, or could not start it; if variables are missing, the text lists all.
        """
        model = (None if variables else self._rendered(name)) or rendering.render(
            self.words, self.folder, {**self.environment, **(variables or {})}, name
        )
        refuse_negative_copies(model)
        return marked(without(model, self.configuration.share.services), self.configuration.kinds)

    def _rendered(self, name: str | None) -> dict[str, Any] | None:
        """Return the model under *name* from a rendering that began with the project's; None if that one failed."""
        begun = self.copied if name else self.usual
        found: dict[str, Any] | None = begun.of(self.words, self.environment) if begun else None
        if found and name:
            found = json.loads(json.dumps(found).replace(ANY_NAME, name))
        return found
