"""
The registry that the nodes of a Swarm get images from: one that a setting names, or one that runs on the Swarm itself.

The latter is a service on one manager, with TLS and a certificate made for its address. Its config holds the
certificate, so every user of the Swarm can read it; each node has to trust it once (`Registry.trust`).
"""

from __future__ import annotations

import secrets
import ssl
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard import settings
from stackyard._util import process
from stackyard._util.advice import Action, how
from stackyard.docker import images, inspection
from stackyard.docker.json_fields import Part
from stackyard.docker.swarm import SERVICE_LABEL, member
from stackyard.errors import CommandError, ImageError, RefusedError, UsageError
from stackyard.sites.swarm import own_services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.docker import Engine
    from stackyard.docker.swarm import Item, Node, Swarm

SETTING: Final = "STACKYARD_REGISTRY"
NAME: Final = "stackyard-registry"
REPOSITORY: Final = "/stackyard"  # of all that is pushed here
LABEL: Final = "stackyard.swarm.registry"  # on all that belongs to it: its address
IMAGE: Final = "registry:2"
PORT: Final = 5000
ROOT: Final = "/var/lib/registry"
CERTIFICATE: Final = "/registry.crt"
KEY: Final = "/run/secrets/registry.key"
SECOND: Final = 10**9
DAYS: Final = 3650  # that its certificate is good for


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """
    One registry.

    Attributes:
        address: ``HOST:PORT``, and a path after it if the setting has one.
        certificate: What the nodes have to trust, as PEM; empty for one that a setting names.
    """

    address: str
    certificate: str = ""

    def trust(self) -> list[str]:
        """Return the shell's lines that let a node trust it; root types them there."""
        folder = f"/etc/docker/certs.d/{self.address}"
        return [f"mkdir -p {folder}", f"cat > {folder}/ca.crt <<'END'", *self.certificate.splitlines(), "END"]

    def push(self, engine: Engine, image: str) -> str:
        """
        Push an image by its content, and return the reference by which each node pulls the same one.

        Args:
            engine: Where it is.
            image: Its name or id.

        Raises:
            ImageError: If the registry does not take it.
        """
        identity = Part(inspection.image(engine, image)).text("Id")
        repository = f"{self.address}{REPOSITORY}"
        name = f"{repository}:{identity.removeprefix('sha256:')}-{secrets.token_hex(4)}"
        images.tag(engine, identity, name)
        try:
            images.push(name)
            digests = Part(inspection.image(engine, identity)).get("RepoDigests").words()
        except CommandError as error:
            raise ImageError(f"image {image} cannot be pushed to {self.address}: {self._why(error)}") from None
        finally:
            images.untag(engine, name)
        return next(digest for digest in digests if digest.startswith(f"{repository}@"))

    def _why(self, error: CommandError) -> str:
        said = error.lines[-1] if error.lines else str(error)
        unknown = "x509" in said and bool(self.certificate)
        return f"{said}; {how(Action.TRUST_REGISTRY)}" if unknown else said


def is_pushed(digest: str) -> bool:
    """Say whether an image was pushed here: a node that ran it has its digest, but the registry may have gone since."""
    return digest.partition("@")[0].endswith(REPOSITORY)


def find(swarm: Swarm) -> Registry | None:
    """
    Return the registry that the setting names, else the Swarm's own; None if there is neither.

    Raises:
        UsageError: If the setting is wrong.
    """
    if named := settings.value(SETTING):
        return Registry(address=str(named))
    own = swarm.labelled("config", LABEL)
    return _read(swarm, own[0]) if own else None


def _read(swarm: Swarm, config: Item) -> Registry:
    _, content = swarm.content(config.id)
    return Registry(address=config.labels[LABEL], certificate=content.decode())


def start(swarm: Swarm, *, image: str = IMAGE, port: int = PORT) -> Registry:
    """
    Run a registry on the manager that *swarm* uses, and return it when it answers; one that runs is returned as it is.

    Args:
        swarm: The Swarm.
        image: A registry's image, which the manager has or can pull.
        port: Its port on the manager.

    Raises:
        UsageError: If the Swarm has one at another port.
        NotReadyError: If it does not answer; what was made is removed.
        EngineError: If the manager refuses something.
    """
    own = member(swarm.engine)
    node = next(node for node in swarm.nodes() if node.id == own)
    address = f"{node.address}:{port}"
    certificate, key = _certificate(node.address)
    labels = {LABEL: address}
    config = swarm.create_config(NAME, certificate.encode(), labels)
    if config is None:
        return _standing(swarm, address)
    with own_services.or_nothing(lambda: remove(swarm)):
        secret = swarm.create_secret(NAME, key.encode(), labels) or ""
        swarm.create_service(NAME, _service(swarm, node, labels, image, port, config, secret))
        made = Registry(address=address, certificate=certificate)
        _wait(swarm, made, fresh=True)
    return made


def _standing(swarm: Swarm, address: str) -> Registry:
    found = next((item for item in swarm.labelled("config", LABEL) if item.name == NAME), None)
    if found is None:
        raise UsageError(f"config {NAME} of the Swarm is not stackyard's; remove it first")
    if (there := found.labels[LABEL]).rpartition(":")[2] != address.rpartition(":")[2]:
        raise UsageError(f"the Swarm has a registry at {there}; remove that one first, or leave the port out")
    made = _read(swarm, found)
    _wait(swarm, made, fresh=False)
    return made


def _service(
    swarm: Swarm, node: Node, labels: Mapping[str, str], image: str, port: int, config: str, secret: str
) -> dict[str, Any]:  # fmt: skip
    files = {"UID": "0", "GID": "0", "Mode": 0o444}  # the image chooses the user
    inside = {
        "Image": _local(swarm, image), "Labels": {**labels, SERVICE_LABEL: NAME},
        "Env": [
            "REGISTRY_HTTP_ADDR=:5000", f"REGISTRY_HTTP_TLS_CERTIFICATE={CERTIFICATE}",
            f"REGISTRY_HTTP_TLS_KEY={KEY}", f"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY={ROOT}",
        ],
        "Mounts": [{"Type": "volume", "Source": NAME, "Target": ROOT, "VolumeOptions": {"Labels": dict(labels)}}],
        "Configs": [{"ConfigID": config, "ConfigName": NAME, "File": {"Name": CERTIFICATE, **files}}],
        "Secrets": [{"SecretID": secret, "SecretName": NAME, "File": {"Name": KEY, **files}}],
    }  # fmt: skip
    return {
        "TaskTemplate": {
            "ContainerSpec": inside, "Placement": {"Constraints": [f"node.id == {node.id}"]},
            "RestartPolicy": {"Condition": "any", "Delay": SECOND},
        },
        "Labels": dict(labels), "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {"Mode": "dnsrr", "Ports": [
            {"TargetPort": 5000, "PublishedPort": port, "Protocol": "tcp", "PublishMode": "host"}
        ]},
    }  # fmt: skip


def _local(swarm: Swarm, image: str) -> str:
    """Name an image that the manager has by its id, so that nothing asks a registry for it."""
    try:
        return Part(inspection.image(swarm.engine, image)).text("Id")
    except RefusedError:
        return image


def _certificate(host: str) -> tuple[str, str]:
    """Make a self-signed certificate for an address; return it and its key as PEM."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
             str(DAYS), "-keyout", str(folder / "key"), "-out", str(folder / "cert"), "-subj", f"/CN={NAME}",
             "-addext", f"subjectAltName=IP:{host}"],
            deadline=30,
        )  # fmt: skip
        return (folder / "cert").read_text(encoding="ascii"), (folder / "key").read_text(encoding="ascii")


def _wait(swarm: Swarm, registry: Registry, *, fresh: bool) -> None:
    then = "" if fresh else "; remove it, and start it again"
    own_services.wait(
        swarm, f"{LABEL}={registry.address}", lambda _: _answers(registry) or None,
        lambda tasks: f"the registry at {registry.address} does not answer: {own_services.said(tasks)}{then}",
        fresh=fresh,
    )  # fmt: skip


def _answers(registry: Registry) -> bool:
    trusted = ssl.create_default_context(cadata=registry.certificate)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted))
    try:
        with opener.open(f"https://{registry.address}/v2/", timeout=2) as reply:
            return bool(reply.status == 200)  # noqa: PLR2004 - HTTP's OK
    except OSError:
        return False


def remove(swarm: Swarm) -> list[str]:
    """
    Remove the Swarm's own registry with the images in it, and return the names of what was removed.

    Raises:
        EngineError: If the manager does not answer or refuses; the next call goes on.
    """
    removed = own_services.remove(swarm, LABEL)
    volumes = swarm.engine.volumes([LABEL])
    for volume in volumes:
        swarm.engine.remove(volume)
    return [*removed, *(f"volume {volume.name}" for volume in volumes)]
