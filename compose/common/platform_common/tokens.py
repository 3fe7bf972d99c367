"""
Access tokens: JWT, HS256 and nothing else, at most 15 minutes long.

One algorithm over one key needs no more than the standard library: the signature is compared, as text and in constant
time, before a byte of what it signs is believed.
"""

from __future__ import annotations

import binascii
import hmac
import json
import time
import uuid
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from platform_common.errors import unauthorized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_common.settings import Settings

ALGORITHM: Final = "HS256"
LONGEST: Final = 2048  # characters; ours have about 450
TO_URL: Final = bytes.maketrans(b"+/", b"-_")
FROM_URL: Final = bytes.maketrans(b"-_+/", b"+/!!")  # the plain alphabet's own letters are as wrong as any other


class Claims(NamedTuple):
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
        self._key = settings.jwt_key.encode()

    def issue(self, user: uuid.UUID, session: uuid.UUID) -> str:
        """Return a fresh token of *user* within *session*."""
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
        signed = f"{_encode({'alg': ALGORITHM, 'typ': 'JWT'})}.{_encode(payload)}"
        return f"{signed}.{self._signature(signed)}"

    def verify(self, token: str) -> Claims:
        """
        Return what *token* says.

        Raises:
            Refused: 401 with one and the same text, whatever is wrong with it.
        """
        signed, _, signature = token.rpartition(".")
        head, _, payload = signed.partition(".")
        try:
            if len(token) > LONGEST or not hmac.compare_digest(self._signature(signed).encode(), signature.encode()):
                raise unauthorized()
            self._check_head(_decode(head))
            return self._claims(_decode(payload))
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
            raise unauthorized() from None

    def _signature(self, signed: str) -> str:
        return _text(hmac.digest(self._key, signed.encode(), "sha256"))

    def _check_head(self, head: Any) -> None:
        # What a head calls critical must be understood, and nothing of that kind is.
        if head["alg"] != ALGORITHM or "crit" in head:
            raise unauthorized()

    def _claims(self, found: Any) -> Claims:
        now = time.time()
        audience = found["aud"] if isinstance(found["aud"], list) else [found["aud"]]
        expires, begins = _instant(found["exp"]), max(_instant(found["iat"]), _instant(found.get("nbf", 0)))
        ours = self._settings.audience in audience and found["iss"] == self._settings.issuer
        if not ours or not begins <= now < expires:
            raise unauthorized()
        user, token, session = (uuid.UUID(found[name]) for name in ("sub", "jti", "sid"))
        return Claims(user=user, token=token, session=session, expires=expires)


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


def _instant(value: Any) -> int:
    """Return Unix time in whole seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return int(value)


def _encode(data: object) -> str:
    return _text(json.dumps(data, separators=(",", ":")).encode())


def _text(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).translate(TO_URL).rstrip(b"=").decode()


def _decode(text: str) -> Any:
    data = text.encode().translate(FROM_URL)
    return json.loads(binascii.a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True))
