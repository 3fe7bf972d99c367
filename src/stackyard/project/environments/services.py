"""The services of a project's environments: where each answers, and the variables and secrets of its stacks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

LEASE: Final = "lease"  # the word that is replaced by the lease's id
HOST: Final = "127.0.0.1"
# A name becomes part of variables. One that ends as "web_80_tcp" would be the name of a copy's port.
SERVICE: Final = (
    r"(?=.{1,32}$)(?!(?:spare|lease)$)(?!.*_[0-9]+_(?:tcp|udp|sctp)(?:_[0-9]+)?$)[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*"
)
SERVICE_RULE: Final = (
    "at most 32 lower-case letters, digits, single hyphens and underscores, starting with a letter; not spare, lease, "
    "or a name that ends as web_80_tcp"
)
_WORD: Final = re.compile(r"\{([a-z][a-z0-9_-]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """
    What the environments file says about the services of a stack.

    Attributes:
        urls: The URL of each service, in the order of the ports of a block. ``{NAME}`` means the host and port of
            a service, for a secret, or for the lease's id.
        variables: More variables of each lease, in the same form.
        secrets: Names of the secrets that each lease makes for itself.
    """

    urls: Mapping[str, str]
    variables: Mapping[str, str]
    secrets: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every service, in the order of the ports of a block."""
        return tuple(self.urls)

    @property
    def published(self) -> tuple[str, ...]:
        """The services that answer on a port of their own; each other is a second address of one of them."""
        return tuple(name for name in self.urls if self.server(name) == name)

    @property
    def own(self) -> frozenset[str]:
        """The names of the variables that only a lease can give."""
        return frozenset({variable(name, word) for name in self.urls for word in ("PORT", "URL")} | {*self.variables})

    def server(self, name: str) -> str:
        """Return the service that answers at the URL of *name*."""
        return next(word for word in words(self.urls[name]) if word in self.urls)

    def filled(self, ports: Mapping[str, int], secrets: Mapping[str, str], lease: str) -> dict[str, str]:
        """
        Return the variables of one lease: the URL of each service, and the others.

        Args:
            ports: Host port of each service that has its own.
            secrets: Value of each secret.
            lease: The lease's id.
        """
        values = {name: f"{HOST}:{port}" for name, port in ports.items()} | {**secrets, LEASE: lease}
        texts = {variable(name, "URL"): text for name, text in self.urls.items()} | {**self.variables}
        return {name: _WORD.sub(lambda word: values[word[1]], text) for name, text in texts.items()}


def words(text: str) -> list[str]:
    """Return the words in braces of a URL or variable, in order."""
    return _WORD.findall(text)


def variable(service: str, word: str) -> str:
    """Return the variable that tells *word*, such as ``PORT``, of a service: ``STACKYARD_SHOP_PORT``."""
    return f"STACKYARD_{service.upper().replace('-', '_')}_{word}"
