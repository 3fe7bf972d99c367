"""Access tokens: JWT, HS256 and nothing else, at most 15 minutes long."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from platform_common.errors import unauthorized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_common.settings import Settings

ALGORITHMS: Final = ["HS256"]
REQUIRED: Final = ["aud", "exp", "iat", "iss", "jti", "sid", "sub"]
LONGEST: Final = 2048  # characters; ours have about 450


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """
    What a valid token says.

    Attributes:
        user: Id of the user.
        token: Id of this token.
        session: Id of the login it descends from; all its refresh tokens share it.
        expires: Unix time in seconds.
    """

    user: uuid.UUID
    token: uuid.UUID
    session: uuid.UUID
    expires: int


class Tokens:
    """Issues and verifies the tokens of one stack."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def issue(self, user: uuid.UUID, session: uuid.UUID) -> str:
        """Return a fresh token of *user* within *session*."""
        import jwt  # noqa: PLC0415 - 20 ms that a start-up need not wait for

        now = int(time.time())
        payload = {
            "aud": self._settings.audience,
            "exp": now + self._settings.access_ttl,
            "iat": now,
            "iss": self._settings.issuer,
            "jti": str(uuid.uuid4()),
            "sid": str(session),
            "sub": str(user),
        }
        return jwt.encode(payload, self._settings.jwt_key, algorithm=ALGORITHMS[0])

    def verify(self, token: str) -> Claims:
        """
        Return what *token* says.

        Raises:
            Refused: 401 with one and the same text, whatever is wrong with it.
        """
        import jwt  # noqa: PLC0415 - as in issue

        if not token or len(token) > LONGEST:
            raise unauthorized()
        try:
            found = jwt.decode(
                token, self._settings.jwt_key, algorithms=ALGORITHMS, issuer=self._settings.issuer,
                audience=self._settings.audience, options={"require": REQUIRED},
            )  # fmt: skip
            return _claims(found)
        except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError):
            raise unauthorized() from None


def bearer(headers: Mapping[str, list[str]]) -> str | None:
    """
    Return the bearer token of the Authorization header, or None without that header.

    Raises:
        Refused: 401 if the header is there twice or is not a bearer token.
    """
    values = headers.get("authorization")
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise unauthorized()
    return token.strip()


def _claims(found: dict[str, Any]) -> Claims:
    ids = {name: uuid.UUID(found[name]) for name in ("sub", "jti", "sid")}
    return Claims(user=ids["sub"], token=ids["jti"], session=ids["sid"], expires=int(found["exp"]))
