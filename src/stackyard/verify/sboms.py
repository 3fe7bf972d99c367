"""What is in an image, as a CycloneDX list: packages of the system from its database, Python's from their metadata."""

from __future__ import annotations

import email.parser
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stackyard.verify.archives import Image

Ecosystem = Literal["apk", "deb", "pypi"]
APK: Final = re.compile(r"/(usr/)?lib/apk/db/installed")
DPKG: Final = re.compile(r"/var/lib/dpkg/(status|status\.d/[^/]+)")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Package:
    """
    One package in an image.

    Attributes:
        ecosystem: Where it comes from: apk, deb or pypi.
        name: Its name.
        version: Its version.
        license: As its own metadata states it; may be empty.
    """

    ecosystem: Ecosystem
    name: str
    version: str
    license: str = ""


def packages(image: Image) -> list[Package]:
    """List what the image says it holds, sorted; empty where it keeps no record."""
    found: set[Package] = set()
    for path, file in image.files.items():
        if file.text is None:
            continue
        if APK.fullmatch(path):
            found |= {_package("apk", fields, "P", "V", "L") for fields in _stanzas(file.text)}
        elif DPKG.fullmatch(path):
            found |= {_package("deb", fields, "Package", "Version", "") for fields in _stanzas(file.text)}
        elif path.endswith(".dist-info/METADATA"):
            found.add(_python(file.text))
    return sorted(package for package in found if package.name)


def system_known(image: Image) -> bool:
    """Tell whether the image keeps a database of its system's packages."""
    return any(APK.fullmatch(path) or DPKG.fullmatch(path) for path, file in image.files.items() if file.text)


def document(image: Image, name: str) -> str:
    """
    Return the image's list as CycloneDX 1.6 JSON; the same image gives the same text but for its time stamp.

    Args:
        image: What to list.
        name: What to call it, without its tag.
    """
    from cyclonedx.model import Property  # noqa: PLC0415 - 0.2 s that only this needs
    from cyclonedx.model.bom import Bom  # noqa: PLC0415 - as above
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415 - as above
    from cyclonedx.output.json import JsonV1Dot6  # noqa: PLC0415 - as above

    bom = Bom(components=[_component(package, image.flavour) for package in packages(image)])
    bom.metadata.component = Component(
        type=ComponentType.CONTAINER, name=name, version=image.reference.rpartition(":")[2], bom_ref=image.reference
    )
    bom.metadata.properties.add(
        Property(name="stackyard:system-packages", value="listed" if system_known(image) else "unavailable")
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _component(package: Package, flavour: str) -> Any:
    from cyclonedx.contrib.license.factories import LicenseFactory  # noqa: PLC0415 - as above
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415 - as above
    from packageurl import PackageURL  # noqa: PLC0415 - as above

    namespace = None if package.ecosystem == "pypi" else flavour
    url = PackageURL(package.ecosystem, namespace, package.name, package.version)
    return Component(
        type=ComponentType.LIBRARY, name=package.name, version=package.version, purl=url, bom_ref=str(url),
        licenses=[LicenseFactory().make_from_string(package.license)] if package.license else [],
    )  # fmt: skip


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    """Read `Key:value` paragraphs, which both databases are made of."""
    for paragraph in re.split(r"\n\s*\n", text):
        pairs = (line.partition(":") for line in paragraph.splitlines() if re.match(r"[A-Za-z][\w-]*:", line))
        yield {key: value.strip() for key, _, value in pairs}


def _package(ecosystem: Ecosystem, fields: Mapping[str, str], name: str, version: str, license_: str) -> Package:
    return Package(
        ecosystem=ecosystem,
        name=fields.get(name, ""),
        version=fields.get(version, ""),
        license=fields.get(license_, ""),
    )


def _python(text: str) -> Package:
    fields = email.parser.HeaderParser().parsestr(text)
    return Package(
        ecosystem="pypi", name=str(fields.get("Name", "")), version=str(fields.get("Version", "")),
        license=str(fields.get("License-Expression", "")),
    )  # fmt: skip
