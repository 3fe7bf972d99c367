"""Images as `docker save` writes them, laid out in memory: no engine, no build."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from image_builder.elf import HEADER, SEGMENT
from stackyard.checks.archives import Image, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MUSL = "/lib/ld-musl-x86_64.so.1"
GLIBC = "/lib64/ld-linux-x86-64.so.2"
BASE = 0x1000  # where the one segment is loaded


@dataclass
class Entry:
    """One file to lay out; a link when it has a target."""

    content: bytes = b""
    mode: int = 0o644
    target: str = ""
    hard: bool = False
    folder: bool = False


@dataclass
class Plan:
    """An image to lay out: its layers from the bottom up, and its configuration."""

    layers: list[dict[str, Entry]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    flavour: str = "alpine"
    zipped: bool = False

    def add(self, path: str, entry: Entry) -> None:
        self.layers.append({path: entry})

    def archive(self) -> bytes:
        layers = [self._layer(layer) for layer in self.layers]
        config = {
            "architecture": "amd64", "config": self.config, "history": [{"created_by": line} for line in self.history]
        }  # fmt: skip
        names = [f"blobs/sha256/{number:064x}" for number in range(len(layers))]
        manifest = [{"Config": "blobs/sha256/c", "Layers": names, "RepoTags": ["x:y"]}]
        # the engine writes blobs in the order of their hashes, so upper layers may come first
        members = dict(reversed(list(zip(names, layers, strict=True))))
        members |= {"blobs/sha256/c": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
        return tar({name: Entry(content=content) for name, content in members.items()})

    def _layer(self, layer: dict[str, Entry]) -> bytes:
        return gzip.compress(tar(layer)) if self.zipped else tar(layer)

    def image(self) -> Image:
        return read(chunked(self.archive()), "stackyard/thing:alpine", self.flavour)


def chunked(data: bytes, size: int = 1000) -> Iterator[bytes]:
    yield from (data[at : at + size] for at in range(0, len(data), size))


def tar(entries: Mapping[str, Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, entry in entries.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.mode = entry.mode
            member.size = len(entry.content)
            if entry.target:
                member.type, member.linkname = tarfile.LNKTYPE if entry.hard else tarfile.SYMTYPE, entry.target
            elif entry.folder:
                member.type = tarfile.DIRTYPE
            archive.addfile(member, io.BytesIO(entry.content))
    return buffer.getvalue()


def elf(*, interpreter: str = "", needed: tuple[str, ...] = (), run_path: str = "", machine: int = 62) -> bytes:
    """Lay out a program that no processor runs but every reader of headers understands; it has no sections."""
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in (*needed, run_path))
    offsets = [strings.index(b"\0" + name.encode() + b"\0") + 1 for name in needed]
    rows = 3 if interpreter else 2
    start = HEADER.size + SEGMENT.size * rows
    loader = interpreter.encode() + b"\0"
    tags = [(1, offset) for offset in offsets]
    tags += [(29, strings.index(b"\0" + run_path.encode() + b"\0") + 1)] if run_path else []
    table = start + len(loader)
    text = table + 16 * (len(tags) + 3)
    tags += [(5, BASE + text), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags)
    end = text + len(strings)
    data = bytearray(end)
    HEADER.pack_into(data, 0, b"\x7fELF\x02\x01\x01", 3, machine, 1, 0, 64, 0, 0, 64, SEGMENT.size, rows, 64, 0, 0)
    segments = [(1, 0, end), (2, table, len(dynamic))] + ([(3, start, len(loader))] if interpreter else [])
    for number, (kind, offset, size) in enumerate(segments):
        SEGMENT.pack_into(
            data, 64 + SEGMENT.size * number, kind, 4, offset, BASE + offset, BASE + offset, size, size, 8
        )
    data[start:table] = loader
    data[table:text] = dynamic
    data[text:] = strings
    return bytes(data)


def sound_alpine() -> Plan:
    """An Alpine image with which every check is content."""
    apk = (
        b"C:Q1\nP:musl\nV:1.2.5-r21\nL:MIT\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\nR:libc.musl-x86_64.so.1\n\n"
        b"P:busybox\nV:1.37-r1\nL:GPL-2.0-only\nF:bin\nR:busybox\nZ:Q1x=\n"
    )
    files = {
        "/bin": Entry(folder=True, mode=0o755),
        "/tmp": Entry(folder=True, mode=0o1777),
        "/etc/os-release": Entry(target="../usr/lib/os-release"),
        "/usr/lib/os-release": Entry(b'NAME="Alpine Linux"\nID=alpine\n'),
        "/lib/apk/db/installed": Entry(apk),
        MUSL: Entry(elf(), 0o755),
        "/lib/libc.musl-x86_64.so.1": Entry(target="ld-musl-x86_64.so.1"),
        "/bin/busybox": Entry(elf(interpreter=MUSL, needed=("libc.musl-x86_64.so.1",)), 0o755),
        "/bin/sh": Entry(target="/bin/busybox"),
        "/usr/local/bin/entrypoint": Entry(b"#!/bin/sh\nexec sleep 1\n", 0o755),
        "/usr/local/bin/healthcheck": Entry(b"#!/bin/sh\ntrue\n", 0o755),
        "/srv/p/h11-0.16.0.dist-info/METADATA": Entry(b"Name: h11\nVersion: 0.16.0\nLicense-Expression: MIT\n\nx\n"),
        "/srv/p/h11-0.16.0.dist-info/WHEEL": Entry(b"Wheel-Version: 1.0\nTag: py3-none-any\n"),
    }
    config = {
        "User": "10001:10001", "Env": ["PATH=/usr/local/bin:/bin"], "Entrypoint": ["/usr/local/bin/entrypoint"],
        "Healthcheck": {"Test": ["CMD", "/usr/local/bin/healthcheck"]},
    }  # fmt: skip
    return Plan(layers=[files], config=config, history=["COPY / / # buildkit", "USER 10001:10001"])
