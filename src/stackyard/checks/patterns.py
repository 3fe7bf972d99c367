"""What a secret looks like: names of variables, and values that are secrets under any name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A name ending in _FILE tells where a secret is, not what.
NAME: Final = re.compile(r"(?i)(password|passwd|passphrase|secret|token|credentials?|(^|_)key)$")
VALUES: Final = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a cloud access key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a forge's token": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{36,}|glpat-[\w-]{20,})"),
    "a JSON web token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    "a URL with a password": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@$]*:[^\s/:@$]+@"),
}
FILES: Final = re.compile(
    r"(^|/)(\.env|\.netrc|\.npmrc|\.pypirc|\.pgpass|\.git-credentials|id_(rsa|dsa|ecdsa|ed25519)|[^/]*\.(key|p12|pfx|jks))$"
)
PUBLIC: Final = frozenset({"GPG_KEY"})  # the fingerprint in the official Python images


def is_secret_name(name: str) -> bool:
    """Tell whether a variable called *name* holds a secret."""
    return name not in PUBLIC and NAME.search(name) is not None


def secrets_in(variables: Iterable[str]) -> Iterator[str]:
    """Name what is secret in `NAME=value` words, never the value itself."""
    for word in variables:
        name, _, value = word.partition("=")
        if value and is_secret_name(name):
            yield name
        else:
            yield from (f"{name}: {kind}" for kind in kinds_in(value))


def kinds_in(text: str) -> list[str]:
    """Name the kinds of secret in *text*."""
    return [kind for kind, pattern in VALUES.items() if pattern.search(text)]
