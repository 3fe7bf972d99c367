"""A directory that speaks enough of LDAP: the simple bind, with the administrator's name and password."""

import os
import socket
import socketserver
from pathlib import Path

from serving import listen

INVALID = 49  # resultCode invalidCredentials


def _field(tag: int, content: bytes) -> bytes:
    return bytes([tag, len(content)]) + content  # no message here is longer than 127 bytes


def bind(host: str, name: str, password: str) -> bool:
    """Say whether the directory takes the password."""
    inner = _field(2, b"\x03") + _field(4, name.encode()) + _field(0x80, password.encode())
    with socket.create_connection((host, 389), timeout=10) as line:
        line.sendall(_field(0x30, _field(2, b"\x01") + _field(0x60, inner)))
        return line.recv(200)[9:10] == b"\0"


class Session(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(200):
            number, name_at = data[2:5], 12
            name = data[name_at : name_at + data[name_at - 1]]
            password = data[name_at + len(name) + 2 :]
            right = (name.decode(), password.decode()) == (os.environ["LDAP_ADMIN"], secret())
            result = _field(10, bytes([0 if right else INVALID])) + _field(4, b"") + _field(4, b"")
            self.request.sendall(_field(0x30, number + _field(0x61, result)))


def secret() -> str:
    return Path(os.environ["LDAP_ADMIN_PASSWORD_FILE"]).read_text().strip()


if __name__ == "__main__":
    listen((389, Session))
