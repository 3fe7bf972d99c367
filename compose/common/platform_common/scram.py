"""
SCRAM-SHA-256 as PostgreSQL asks for it: RFC 5802 and 7677, without channel binding, for that is TLS's.

The password is used as it is; RFC 4013 would change none that is ASCII.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
from typing import Final

MECHANISM: Final = b"SCRAM-SHA-256"
NO_BINDING: Final = b"n,,"
NONCE: Final = 18  # bytes, as many as libpq's
DIGEST: Final = "sha256"


class Scram:
    """
    One login: *first*, then *final* with what the server answered, then *check* with its last word.

    Attributes:
        proven: Whether the server has shown that it knows the password too.
    """

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._nonce = _to_text(os.urandom(NONCE))
        self._signature = b""
        self.proven = False

    def first(self) -> bytes:
        """Return the client's first message; the server knows the user already."""
        return NO_BINDING + self._opening

    def final(self, answer: bytes) -> bytes:
        """
        Return the proof that the password is known.

        Raises:
            ValueError: If *answer* is not one to our first message.
        """
        told = _attributes(answer)
        nonce, salt, rounds = told[b"r"], binascii.a2b_base64(told[b"s"]), int(told[b"i"])
        if not nonce.startswith(self._nonce):
            raise ValueError("a login whose nonce is not an answer to ours")
        closing = b"c=" + _to_text(NO_BINDING) + b",r=" + nonce
        signed = b",".join((self._opening, answer, closing))
        salted = hashlib.pbkdf2_hmac(DIGEST, self._password, salt, rounds)
        key = _sign(salted, b"Client Key")
        signature = _sign(hashlib.sha256(key).digest(), signed)
        self._signature = _sign(_sign(salted, b"Server Key"), signed)
        return closing + b",p=" + _to_text(bytes(a ^ b for a, b in zip(key, signature, strict=True)))

    def check(self, answer: bytes) -> None:
        """
        Return if the server has shown that it knows the password too.

        Raises:
            ValueError: If it has not.
        """
        shown = _attributes(answer).get(b"v", b"")
        if not self._signature or not hmac.compare_digest(shown, _to_text(self._signature)):
            raise ValueError("a server that does not know the password")
        self.proven = True

    @property
    def _opening(self) -> bytes:
        return b"n=,r=" + self._nonce


def _attributes(text: bytes) -> dict[bytes, bytes]:
    return {part[:1]: part[2:] for part in text.split(b",")}


def _sign(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, DIGEST)


def _to_text(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)
