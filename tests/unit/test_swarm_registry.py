"""The registry of a Swarm: who names it, what a push leaves, what its own one consists of; no engine is asked."""

from __future__ import annotations

import http.server
import ssl
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest
from test_swarm_leases import FakeSwarm, task

from stackyard.docker import images as engine_images
from stackyard.docker.records import Resource
from stackyard.docker.swarm import Node
from stackyard.errors import CommandError, ImageError, NotReadyError, RefusedError, UsageError
from stackyard.sites.swarm import images, own_services, registry
from stackyard.sites.swarm.registry import LABEL, NAME, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.docker.swarm import Item, Swarm
    from stackyard.project import Project


class FakeEngine:
    """One with images, a volume and a container."""

    def __init__(self) -> None:
        self.images = {"own": ["gone.example:5000/stackyard@sha256:cc"], "pulled": ["example/pulled@sha256:aa"]}
        self.tags: list[str] = []
        self.things = [Resource(kind="volume", id=NAME, name=NAME, labels={LABEL: "x"})]

    def inspected(self, name: str) -> dict[str, Any]:
        found = name.removeprefix("sha256:")
        if found not in self.images:
            raise RefusedError("no such image")
        pushed = [f"{tag.rpartition(':')[0]}@sha256:bb" for tag in self.tags]
        return {"Id": f"sha256:{found}", "RepoDigests": [*self.images[found], *pushed]}

    def volumes(self, _labels: list[str]) -> list[Resource]:
        return list(self.things)

    def containers(self, _labels: list[str]) -> list[Resource]:
        return []

    def remove(self, thing: Resource) -> None:
        self.things.remove(thing)


class FakeSite(FakeSwarm):
    """One whose services are kept as they were asked for."""

    engine: Any
    services: dict[str, Mapping[str, Any]]

    def create_secret(self, name: str, content: bytes, labels: Mapping[str, str]) -> str:
        self.add("secret", f"{name}-key", labels)
        self.contents[f"{name}-key"] = content
        return f"{name}-key"

    def create_service(self, name: str, spec: Mapping[str, Any]) -> str:
        self.add("service", f"{name}-service", spec["Labels"])
        self.services[name] = spec
        return name

    def remove(self, item: Item) -> None:
        super().remove(item)
        self.running = []


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    made = FakeEngine()
    monkeypatch.setattr("stackyard.docker.inspection.image", lambda engine, name: engine.inspected(name))
    monkeypatch.setattr(engine_images, "tag", lambda engine, _image, name: engine.tags.append(name))
    monkeypatch.setattr(engine_images, "untag", lambda engine, name: engine.tags.remove(name))
    monkeypatch.setattr(engine_images, "push", lambda _name: None)
    monkeypatch.setattr(registry, "member", lambda _engine: "n")
    monkeypatch.delenv("STACKYARD_REGISTRY", raising=False)
    return made


@pytest.fixture
def site(engine: FakeEngine) -> FakeSite:
    made = FakeSite(members=[Node(id="n", name="n1", address="127.0.0.1", state="ready", availability="active")])
    made.engine, made.services = engine, {}
    return made


def references(site: FakeSite, place: Registry | None, *names: str) -> dict[str, str]:
    services = {name: {"image": name} for name in names}
    return images.references(cast("Swarm", site), {"services": services}, place)


def built(site: FakeSite, usual: dict[str, Any]) -> Mapping[str, str]:
    with images.built(cast("Project", None), usual, "shop", cast("Swarm", site), None, print) as found:
        return found


def test_an_image_that_only_the_manager_has_is_pushed_by_its_content_and_named_by_its_digest(
    site: FakeSite, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[str] = []
    monkeypatch.setattr(engine_images, "push", pushed.append)

    found = references(site, Registry(address="reg.example:5000"), "own", "pulled", "nowhere")

    assert found == {
        "own": "reg.example:5000/stackyard@sha256:bb", "pulled": "example/pulled@sha256:aa", "nowhere": "nowhere"
    }  # fmt: skip
    assert [name.partition("-")[0] for name in pushed] == ["reg.example:5000/stackyard:own"]
    assert engine.tags == []


def test_without_a_registry_it_is_named_by_its_id_and_a_build_is_refused(site: FakeSite) -> None:
    assert references(site, None, "own") == {"own": "sha256:own"}
    usual = {"services": {"web": {"build": "."}, "off": {"build": ".", "scale": 0}}}
    with pytest.raises(UsageError, match=r"^services.web.build: nodes get a build from a registry, and .* none; name"):
        built(site, usual)
    assert built(site, {"services": {}}) == {}


@pytest.mark.parametrize(("certificate", "hint"), [("PEM", True), ("", False)])
def test_a_push_that_fails_says_why_and_leaves_no_tag(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, certificate: str, *, hint: bool
) -> None:
    def fail(name: str) -> None:
        raise CommandError(["docker", "push", name], 1, "x509: certificate signed by unknown authority")

    monkeypatch.setattr(engine_images, "push", fail)

    with pytest.raises(ImageError, match="image own cannot be pushed to r:1: x509: certificate signed by") as caught:
        Registry(address="r:1", certificate=certificate).push(cast("Engine", engine), "own")
    assert ("see how a node trusts the registry's certificate" in str(caught.value)) is hint
    assert engine.tags == []


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    """Serve HTTPS with the certificate that is made next, as the registry's own container would; give the port."""
    made: list[http.server.HTTPServer] = []

    class Reply(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/v2/" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Reply)
    usual = registry._service

    def served(site: FakeSite, *words: Any) -> dict[str, Any]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for name, key in (("cert", NAME), ("key", f"{NAME}-key")):
            (tmp_path / name).write_bytes(site.contents[key])
        context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        made.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return usual(cast("Swarm", site), *words)

    monkeypatch.setattr(registry, "_service", served)
    yield int(server.server_address[1])
    for one in made:
        one.shutdown()
    server.server_close()


def test_the_swarm_s_own_registry_is_made_found_shown_and_removed(
    site: FakeSite, engine: FakeEngine, answering: int
) -> None:
    swarm = cast("Swarm", site)
    assert registry.find(swarm) is None

    made = registry.start(swarm, image="own", port=answering)

    assert made.address == f"127.0.0.1:{answering}"
    assert registry.find(swarm) == registry.start(swarm, port=answering) == made
    assert made.trust()[0] == f"mkdir -p /etc/docker/certs.d/{made.address}"
    assert "-----BEGIN CERTIFICATE-----" in made.trust()
    template = site.services[NAME]["TaskTemplate"]
    assert template["Placement"] == {"Constraints": ["node.id == n"]}
    assert template["ContainerSpec"]["Image"] == "sha256:own"
    assert site.services[NAME]["EndpointSpec"]["Ports"][0]["PublishedPort"] == answering
    with pytest.raises(UsageError, match=f"the Swarm has a registry at {made.address}; remove that one first"):
        registry.start(swarm, port=1)

    removed = registry.remove(swarm)
    assert removed == [f"config {NAME}", f"secret {NAME}-key", f"service {NAME}-service", f"volume {NAME}"]
    assert (site.items, engine.things, registry.remove(swarm)) == ({}, [], [])


def test_a_registry_that_does_not_answer_says_why_and_is_removed(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_certificate", lambda _host: (SOME, "key"))
    site.running = [task("rejected", reason="No such image: registry:2")]

    with pytest.raises(NotReadyError, match=r"registry at 127.0.0.1:1 does not answer: rejected .No such image: reg"):
        registry.start(cast("Swarm", site), port=1)
    assert site.items == {}

    site.running = []
    monkeypatch.setattr(own_services, "SERVICE_TIMEOUT_S", -1.0)
    with pytest.raises(NotReadyError, match="it has no container"):
        registry.start(cast("Swarm", site), port=1)


def test_a_registry_that_stands_is_waited_for_while_it_moves_from_a_lost_node(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "127.0.0.1:5000"
    site.create_config(NAME, b"PEM", {LABEL: address})
    site.running = [task("failed", desired="shutdown", reason="lost"), task("starting")]
    answers = iter([False, True])
    monkeypatch.setattr(registry, "_answers", lambda _: next(answers))

    assert registry.start(cast("Swarm", site)) == Registry(address=address, certificate="PEM")


def test_a_registry_whose_start_was_killed_says_what_to_do(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site.create_config(NAME, b"PEM", {LABEL: "127.0.0.1:5000"})
    monkeypatch.setattr(own_services, "SERVICE_TIMEOUT_S", -1.0)
    monkeypatch.setattr(registry, "_answers", lambda _: False)

    with pytest.raises(NotReadyError, match="it has no container; remove it, and start it again"):
        registry.start(cast("Swarm", site))
    assert [*site.items] == [NAME]


def test_a_stranger_s_config_of_that_name_is_left_alone(site: FakeSite) -> None:
    site.create_config(NAME, b"", {"team": "a"})

    with pytest.raises(UsageError, match=f"config {NAME} of the Swarm is not stackyard's; remove it first"):
        registry.start(cast("Swarm", site))
    assert list(site.items) == [NAME]


def test_the_setting_names_another_one(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKYARD_REGISTRY", "reg.example:5000/team")

    assert registry.find(cast("Swarm", site)) == Registry(address="reg.example:5000/team")


SOME = registry._certificate("127.0.0.1")[0]
