"""One place where copies run, as an option or a setting names it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

from stackyard import settings
from stackyard.docker.endpoint import Endpoint
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping

Kind = Literal["local", "context", "swarm"]
SETTING: Final = "STACKYARD_SITE"
CONTEXT: Final = "context:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """
    Where copies run.

    Attributes:
        kind: `local` is the engine of this host, `context` an engine elsewhere, `swarm` a Docker Swarm.
        name: What the option or the setting calls it: `local`, `context:NAME` or `swarm`.
        endpoint: Its engine; for a Swarm one of its managers.
    """

    kind: Kind
    name: str
    endpoint: Endpoint

    @classmethod
    def find(cls, text: str = "", env: Mapping[str, str] | None = None) -> Self:
        """
        Return the site that *text* names; without text, the one that STACKYARD_SITE names.

        `local` and `swarm` take the engine that the docker command would use. If that engine is on another host,
        `local` is a site of the kind `context`.

        Args:
            text: `local`, `context:NAME` or `swarm`.
            env: Environment variables; by default this process's.

        Raises:
            UsageError: If it is none of these, or there is no such context.
        """
        env = os.environ if env is None else env
        name = text.strip() or str(settings.value(SETTING, env))
        settings.check_site("--site" if text.strip() else SETTING, name)
        if name.startswith(CONTEXT):
            return cls(kind="context", name=name, endpoint=_of_context(name.removeprefix(CONTEXT), env))
        endpoint = Endpoint.find(env)
        if name == "swarm":
            return cls(kind="swarm", name=name, endpoint=endpoint)
        return cls(kind="context" if endpoint.elsewhere else "local", name=name, endpoint=endpoint)

    def require_engine(self) -> None:
        """
        Refuse a Swarm.

        Raises:
            UsageError: If copies of this site are not on one engine.
        """
        if self.kind == "swarm":
            raise UsageError(f"site {self.name}: this has no form for a Swarm yet; use local or {CONTEXT}NAME")

    @property
    def docker(self) -> tuple[str, ...]:
        """The beginning of a docker command for its engine, as its user types it."""
        place = ("--context", self.name.removeprefix(CONTEXT)) if self.name.startswith(CONTEXT) else ()
        return ("docker", *place)

    def variables(self) -> dict[str, str]:
        """Return the variables with which docker and this library use the site; empty texts unset what is there."""
        found = {SETTING: self.name}
        if self.name.startswith(CONTEXT):
            found |= {"DOCKER_CONTEXT": self.name.removeprefix(CONTEXT), "DOCKER_HOST": ""}
        return found

    def use(self, env: MutableMapping[str, str] | None = None) -> None:
        """Let this process, and the programs that it starts, use the site's engine."""
        env = os.environ if env is None else env
        for name, value in self.variables().items():
            if name == SETTING and settings.value(name, env) == value:
                continue
            if value:
                env[name] = value
            else:
                env.pop(name, None)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """
        Let this process use the site's engine in a `with` block, and what it used before after it.

        All threads of a process use the same site.
        """
        before = {name: os.environ.get(name) for name in self.variables()}
        self.use()
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _of_context(name: str, env: Mapping[str, str]) -> Endpoint:
    found = Endpoint.find({**env, "DOCKER_HOST": "", "DOCKER_CONTEXT": name})
    if found.context and not found.url:
        raise UsageError(f"--site {CONTEXT}{name}: {found.fault}; 'docker context ls' lists all")
    return found
