"""
What is in an image, as a CycloneDX list.

Packages of the system come from its database, Python's from their metadata; a program or library that neither accounts
for is listed as a file with its SHA-256, so that nothing that can run is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stackyard.checks.packages import listed, system_known, unlisted

if TYPE_CHECKING:
    from stackyard.checks.archives import Image
    from stackyard.checks.packages import Package


def document(image: Image, name: str) -> str:
    """Return the image's list as CycloneDX 1.6 JSON; only serial and time stamp differ from one time to the next."""
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    components = [_package(package, image.flavour) for package in listed(image)]
    bom = Bom(components=[*components, *(_file(path, image.files[path].digest) for path in unlisted(image))])
    bom.metadata.component = Component(
        type=ComponentType.CONTAINER, name=name, version=image.reference.rpartition(":")[2], bom_ref=image.reference
    )
    bom.metadata.properties.add(
        Property(name="stackyard:system-packages", value="listed" if system_known(image) else "unavailable")
    )
    bom.register_dependency(bom.metadata.component, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _package(package: Package, flavour: str) -> Any:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    namespace = None if package.ecosystem == "pypi" else flavour
    url = PackageURL(package.ecosystem, namespace, package.name, package.version)
    return Component(
        type=ComponentType.LIBRARY, name=package.name, version=package.version, purl=url, bom_ref=str(url),
        licenses=[LicenseFactory().make_from_string(package.license)] if package.license else [],
    )  # fmt: skip


def _file(path: str, digest: str) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        type=ComponentType.FILE, name=path, bom_ref=f"file:{path}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
    )  # fmt: skip
