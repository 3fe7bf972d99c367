"""The packages that an image lists: from the databases of apk and dpkg, and from the metadata of Python packages."""

from __future__ import annotations

import email.parser
import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import Message

    from stackyard.checks.archives import Image

Ecosystem = Literal["apk", "deb", "pypi"]
APK: Final = re.compile(r"/(usr/)?lib/apk/db/installed")
DPKG: Final = re.compile(r"/var/lib/dpkg/(status|status\.d/[^/]+)")
METADATA: Final = ".dist-info/METADATA"
# what each calls name, version and licence; dpkg's database has no licences
KEYS: Final[dict[Ecosystem, tuple[str, str, str]]] = {
    "apk": ("P", "V", "L"), "deb": ("Package", "Version", ""), "pypi": ("Name", "Version", "License-Expression"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Package:
    """One package in an image, and its licence if its own metadata states one."""

    ecosystem: Ecosystem
    name: str
    version: str
    license: str = ""


def listed(image: Image) -> list[Package]:
    """List what the image says it holds, sorted; empty where it keeps no record."""
    found: set[Package] = set()
    for path, file in image.files.items():
        if file.text is None:
            continue
        if APK.fullmatch(path):
            found |= {_package("apk", fields) for fields in _stanzas(file.text)}
        elif DPKG.fullmatch(path):
            found |= {_package("deb", fields) for fields in _stanzas(file.text)}
        elif path.endswith(METADATA):
            found.add(_package("pypi", email.parser.HeaderParser().parsestr(file.text)))
    return sorted(package for package in found if package.name)


def system_known(image: Image) -> bool:
    """Tell whether the image keeps a database of its system's packages."""
    return any(APK.fullmatch(path) or DPKG.fullmatch(path) for path, file in image.files.items() if file.text)


def apk_files(image: Image) -> dict[str, str]:
    """Return the package of every file that apk's database lists, by the file's path."""
    owners: dict[str, str] = {}
    for path, file in image.files.items():
        if not APK.fullmatch(path):
            continue
        package = folder = ""
        for line in (file.text or "").splitlines():
            key, _, value = line.partition(":")
            package = value if key == "P" else package
            folder = value if key == "F" else folder
            if key == "R":
                owners[posixpath.normpath(f"/{folder}/{value}")] = package
    return owners


def unlisted(image: Image) -> list[str]:
    """Return the programs and libraries that no package of the image accounts for, by path, sorted."""
    owners = apk_files(image)
    known = {image.resolve(path) for path in owners}
    sites = tuple({f"{posixpath.dirname(posixpath.dirname(path))}/" for path in image.files if path.endswith(METADATA)})
    return sorted(
        path
        for path, file in image.files.items()
        if file.binary is not None and path not in known and not (sites and path.startswith(sites))
    )


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Read `Key:value` paragraphs, which both databases are made of."""
    for paragraph in re.split(r"\n\s*\n", text):
        pairs = (line.partition(":") for line in paragraph.splitlines() if re.match(r"[A-Za-z][\w-]*:", line))
        yield {key: value.strip() for key, _, value in pairs}


def _package(ecosystem: Ecosystem, fields: Mapping[str, str] | Message) -> Package:
    name, version, license_ = (str(fields.get(key, "")) for key in KEYS[ecosystem])
    return Package(ecosystem=ecosystem, name=name, version=version, license=license_)
