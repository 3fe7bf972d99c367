"""
The optional configuration of a project, in one place next to the Compose file.

It is in `stackyard.toml`, in the table `[tool.stackyard]` of `pyproject.toml`, or below `x-stackyard` in the
Compose file. Two of them at once are an error, because it would not be clear which counts.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import files
from stackyard._util.durations import LONGEST, RULE, parsed
from stackyard._util.json_text import check_depth
from stackyard.errors import ConfigError, UsageError
from stackyard.project.environments.files import read_text
from stackyard.project.environments.rules import below, hint
from stackyard.project.readiness_hints import Hint

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from stackyard.project.configuration_schema import Keys

OWN: Final = "stackyard.toml"
PYTHON: Final = "pyproject.toml"
TABLE: Final = "tool.stackyard"
EXTENSION: Final = "x-stackyard"
COMPOSE: Final = "the Compose file"
MOST: Final = 1 << 20  # bytes of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """
    What all copies use together, by its key in the Compose file.

    Attributes:
        networks: Networks that exist already.
        volumes: Volumes that exist already.
        services: Services that run already and that no copy starts.
    """

    networks: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """
    What a project's configuration decides; every value has a default.

    Attributes:
        file: Where it stands, for messages; empty without one.
        place: Dotted path of its keys in that file; empty if they stand at the top.
        profiles: Profiles to enable, unless the caller chooses others.
        env_files: Env files instead of `.env`, unless the caller chooses others; absolute paths.
        timeout: Seconds until a start has failed; None for the default.
        reset: Whether copies keep the state of their data after the start, so that they can go back to it.
        rewrite: Variables whose values are changed to the copy's ports and addresses, as ``SERVICE.VARIABLE``.
        share: What all copies use together.
        ready: How services prove usable, by service.
        kinds: Which database or broker services run, by service (`service_kinds`).
    """

    file: str = ""
    place: str = ""
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    timeout: float | None = None
    reset: bool = False
    rewrite: frozenset[str] = frozenset()
    share: Share = field(default_factory=Share)
    ready: Mapping[str, Hint] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, template: Mapping[str, Any]) -> Configuration:
        """
        Return the configuration of the project in *folder*.

        Args:
            folder: The folder of its first Compose file.
            template: Its model before variables are filled in.

        Raises:
            UsageError: If there are two, one cannot be read, or a value in it is wrong.
        """
        found = [*_given(folder, template)]
        if len(found) > 1:
            listed = " and ".join(f"{name} ({key})" if key else name for name, key, _ in found)
            raise UsageError(f"{folder}: stackyard is configured in both {listed}; keep one")
        return cls._of(folder, template, *found[0]) if found else cls()

    @classmethod
    def _of(cls, folder: Path, template: Mapping[str, Any], file: str, place: str, node: object) -> Configuration:
        from stackyard.project import validation  # most projects have no configuration, and need no msgspec
        from stackyard.project.configuration_schema import Keys

        keys = validation.convert(file, node, Keys, path=place)
        made = cls(file=file, place=place, rewrite=frozenset(keys.rewrite), profiles=tuple(keys.profiles),
                   reset=keys.reset, share=Share(
            networks=frozenset(keys.share.networks), volumes=frozenset(keys.share.volumes),
            services=frozenset(keys.share.services),
        ), kinds={name: service.kind for name, service in keys.services.items() if service.kind})  # fmt: skip
        made._check_names(keys, template)
        made._check_shared_services(template)
        return replace(
            made, env_files=tuple(made._env_files(folder, keys)), timeout=made._timeout(keys), ready=made._hints(keys)
        )

    @property
    def where(self) -> str:
        """Where it stands, for a person."""
        return f"{self.file} ({self.place})" if self.place else self.file

    def wrong(self, key: str, value: object, rule: str) -> ConfigError:
        """Return the error of a wrong *value* at the dotted *key*."""
        return ConfigError(self.file, below(self.place, key), value, rule)

    def check_variables(self, model: Mapping[str, Any]) -> None:
        """
        Check that each variable of `rewrite` is there; those of services behind other profiles are left out.

        Args:
            model: The rendered model.

        Raises:
            ConfigError: If one is not; names the nearest.
        """
        for text in sorted(self.rewrite):
            service, _, variable = text.rpartition(".")
            if service in (services := model.get("services") or {}):
                known = services[service].get("environment") or {}
                if variable not in known:
                    raise self.wrong("rewrite", text, f"no such variable of service {service}{hint(variable, known)}")

    def _check_names(self, keys: Keys, template: Mapping[str, Any]) -> None:
        services = template.get("services") or {}
        profiles = {name for service in services.values() for name in service.get("profiles") or ()}
        named: tuple[tuple[str, str, list[str], Collection[str]], ...] = (
            ("services", "service", [*keys.services], services),
            ("share.services", "service", keys.share.services, services),
            ("share.networks", "network", keys.share.networks, template.get("networks") or {}),
            ("share.volumes", "volume", keys.share.volumes, template.get("volumes") or {}),
            ("rewrite", "service", [text.rpartition(".")[0] for text in keys.rewrite], services),
            ("profiles", "profile", keys.profiles, profiles),
        )
        for key, noun, names, known in named:
            for name in names:
                if name not in known:
                    raise self.wrong(key, name, f"no such {noun} in the Compose file{hint(name, known)}")

    def _check_shared_services(self, template: Mapping[str, Any]) -> None:
        """Refuse a shared service that no copy could reach."""
        for name in sorted(self.share.services):
            own = (template["services"][name] or {}).get("networks") or {"default": None}
            if not self.share.networks & {*own}:
                listed = ", ".join(own)
                rule = f"no copy could reach it; add one of its networks to share.networks: {listed}"
                raise self.wrong("share.services", name, rule)

    def _env_files(self, folder: Path, keys: Keys) -> Iterator[str]:
        for text in keys.env_files:
            if fault := files.fault(folder, text):
                raise self.wrong("env_files", text, fault)
            yield str(folder / text)

    def _timeout(self, keys: Keys) -> float | None:
        if not keys.timeout:
            return None
        found = parsed(keys.timeout)
        if found is None or not 0 < found <= LONGEST:
            raise self.wrong("timeout", keys.timeout, RULE)
        return found

    def _hints(self, keys: Keys) -> dict[str, Hint]:
        found = {}
        for name, service in keys.services.items():
            if service.ready:
                try:
                    found[name] = Hint.parse(service.ready)
                except ValueError as error:
                    raise self.wrong(f"services.{name}.ready", service.ready, str(error)) from None
        return found


def named_ahead(folder: Path) -> tuple[list[str], list[str]]:
    """
    Return the profiles and env files that a configuration next to the Compose file names, before Compose is asked.

    What is wrong in it is left out: `Configuration.read` reports it, once the model is known.
    """
    try:
        tables = [node for _, _, node in _given(folder, {})]
    except (UsageError, OSError):
        tables = []
    table = tables[0] if len(tables) == 1 and isinstance(tables[0], dict) else {}
    named = _words(table.get("env_files"))
    readable = not any(files.fault(folder, text) for text in named)
    return _words(table.get("profiles")), [str(folder / text) for text in named] if readable else []


def _words(node: object) -> list[str]:
    return node if isinstance(node, list) and all(isinstance(word, str) for word in node) else []


def _given(folder: Path, template: Mapping[str, Any]) -> Iterator[tuple[str, str, object]]:
    """Yield each configuration: the file's name, the place of its keys in it, and its content."""
    if files.exists(folder / OWN):
        yield OWN, "", _toml(folder, OWN)
    if not files.fault(folder, PYTHON) and "stackyard" in (text := read_text(folder / PYTHON, PYTHON, limit=MOST)):
        tools = _parsed(PYTHON, text).get("tool")
        if isinstance(tools, dict) and (table := tools.get("stackyard")) is not None:
            yield PYTHON, TABLE, table
    if EXTENSION in template:
        yield COMPOSE, EXTENSION, _single_dollars(template[EXTENSION])


def _toml(folder: Path, name: str) -> dict[str, Any]:
    return _parsed(name, read_text(folder / name, name, limit=MOST))


def _parsed(name: str, text: str) -> dict[str, Any]:
    try:
        found = tomllib.loads(text)
        check_depth(found)  # a name of thousands of dots, too
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets in brackets
        raise UsageError(f"{name} is not valid TOML: {str(error).partition(';')[0]}") from None
    return found


def _single_dollars(node: Any) -> Any:
    """Return a part of a Compose file as its author means it: a `$` is written twice there."""
    if isinstance(node, dict):
        return {key: _single_dollars(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_single_dollars(item) for item in node]
    return node.replace("$$", "$") if isinstance(node, str) else node
