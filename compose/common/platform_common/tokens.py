"""Access tokens: JWT, HS256 and nothing else, at most 15 minutes long."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import jwt

from platform_common.errors import unauthorized

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from platform_common.settings import Settings

ALGORITHM: Final = "HS256"
LONGEST: Final = 2048  # characters; ours have about 450
CLAIMS: Final = ["aud", "exp", "iat", "iss", "jti", "sid", "sub"]


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
        now = int(time.time())
        claims = {
            "aud": self._settings.audience, "iss": self._settings.issuer, "iat": now,
            "exp": now + self._settings.access_ttl, "jti": str(uuid.uuid4()), "sid": str(session), "sub": str(user),
        }  # fmt: skip
        return jwt.encode(claims, self._settings.jwt_key, algorithm=ALGORITHM)

    def verify(self, token: str) -> Claims:
        """
        Return what *token* says.

        Raises:
            Refused: 401 with one and the same text, whatever is wrong with it.
        """
        if len(token) > LONGEST:
            raise unauthorized()
        try:
            found = jwt.decode(
                token, self._settings.jwt_key, algorithms=[ALGORITHM], audience=self._settings.audience,
                issuer=self._settings.issuer, options={"require": CLAIMS},
            )  # fmt: skip
            user, identity, session = (uuid.UUID(found[name]) for name in ("sub", "jti", "sid"))
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError, RecursionError):
            raise unauthorized() from None
        return Claims(user=user, token=identity, session=session, expires=int(found["exp"]))


def bearer(headers: Headers) -> str | None:
    """
    Return the bearer token of the Authorization header, or None without that header.

    Raises:
        Refused: 401 if the header is there twice or is not a bearer token.
    """
    values = headers.getlist("authorization")
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise unauthorized()
    return token.strip()
