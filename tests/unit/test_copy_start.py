"""The start of a copy by the engine itself: what it is asked for, in which order, and what is left to Compose."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from fake_project import SHOP, FakeDocker

from stackyard.docker.fast_start import plugin
from stackyard.docker.lease_book import open_book
from stackyard.errors import NotReadyError
from stackyard.leases.records import MODEL
from stackyard.probes.readiness_rules import Rule
from stackyard.project import Project
from stackyard.settings import Settings
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.readiness import waiting
from stackyard.stacks.readiness.waiting import ServiceReady, StackReady
from stackyard.stacks.starts.request import CopyRequest
from stackyard.stacks.starts.times import Startup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook
    from stackyard.stacks.copies.lifecycle import Copy

IMAGE = {"Id": "sha256:1", "Os": "linux", "Architecture": "amd64", "Config": {}}


class Proving:
    """Stands in for `waiting.wait`: proves services in the order in which they are listed, once each has started."""

    def __init__(self) -> None:
        self.order: list[str] = []

    async def __call__(self, _engine: Engine, _labels: Any, model: Mapping[str, Any], **options: Any) -> StackReady:
        found = []
        for number, name in enumerate(self.order or model["services"], 1):
            rule = Rule(service=name, kind="running", why="it runs")
            found.append(ServiceReady(service=name, rule=rule, seconds=float(number), how="seen"))
            if options.get("ready"):
                options["ready"](found[-1])
        return StackReady(services=tuple(found), seconds=float(len(found)))


@pytest.fixture
def proving(monkeypatch: pytest.MonkeyPatch) -> Proving:
    made = Proving()
    monkeypatch.setattr(waiting, "wait", made)
    return made


@pytest.fixture
def docker(fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, proving: Proving) -> FakeDocker:
    del proving  # in place
    made = FakeDocker(fake_engine)
    made.install(monkeypatch)
    monkeypatch.setattr(plugin, "version", lambda _folder: "2.26.1")
    fake_engine.images |= {"web": IMAGE, "db": IMAGE}
    return made


@pytest.fixture
def book(tmp_path: Path, fake_engine: FakeEngine, engine: Engine) -> LeaseBook:
    settings = Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_REAPER": "off"})
    made = open_book(settings, engine)
    fake_engine.host = made.host
    return made


@pytest.fixture
def start(
    folder: Path, tmp_path: Path, book: LeaseBook, engine: Engine, docker: FakeDocker, free_host: None
) -> Callable[..., Copy]:
    del docker, free_host  # in place

    def begin(*, until_ready: bool = True, **environment: str) -> Copy:
        caller = {"DOCKER_CONFIG": str(tmp_path / "client"), **environment}
        return lifecycle.start(
            Project.find(folder, environment=caller), book, engine, CopyRequest(until_ready=until_ready)
        )

    return begin


def changed(**services: dict[str, Any]) -> dict[str, Any]:
    return {**SHOP, "services": {name: {**spec, **services.get(name, {})} for name, spec in SHOP["services"].items()}}


def test_the_engine_makes_a_copy_with_composes_labels(
    start: Callable[..., Copy], fake_engine: FakeEngine, docker: FakeDocker
) -> None:
    copy = start()

    assert copy.startup.by == "engine"
    assert docker.started == []
    bodies = {name: body for kind, name, body in fake_engine.created if kind == "containers"}
    project = copy.lease.project
    assert bodies.keys() == {f"{project}-web-1", f"{project}-db-1"}
    labels = bodies[f"{project}-web-1"]["Labels"]
    assert labels["com.docker.compose.project.config_files"] == str(copy.lease.directory / MODEL)
    assert labels["com.docker.compose.version"] == "2.26.1"
    assert labels["com.docker.compose.image"] == "sha256:1"
    assert labels["stackyard.lease"] == copy.lease.id
    assert copy.ready is not None
    assert [one.service for one in copy.ready.services] == ["web", "db"]
    assert copy.startup.started.keys() == {"web", "db"}


def test_a_service_starts_once_its_conditions_hold(
    start: Callable[..., Copy], fake_engine: FakeEngine, docker: FakeDocker, proving: Proving
) -> None:
    docker.model = changed(web={"depends_on": {"db": {"condition": "service_healthy", "required": True}}})
    proving.order = ["db", "web"]

    copy = start()

    starts = [line.split("/")[3].split("-")[-2] for line in fake_engine.requests if line.endswith("/start")]
    assert starts == ["db", "web"]
    assert copy.startup.waits == {"web": {"db": "service_healthy"}, "db": {}}
    assert copy.startup.critical_path == ["db", "web"]


def test_a_start_that_need_not_be_ready_keeps_the_order_all_the_same(
    start: Callable[..., Copy], fake_engine: FakeEngine, docker: FakeDocker
) -> None:
    docker.model = changed(web={"depends_on": {"db": {"condition": "service_healthy", "required": True}}})

    copy = start(until_ready=False)

    assert copy.ready is None
    assert len([line for line in fake_engine.requests if line.endswith("/start")]) == 2


def test_a_service_that_joins_another_is_made_with_its_container(
    start: Callable[..., Copy], fake_engine: FakeEngine, docker: FakeDocker
) -> None:
    docker.model = changed(db={"networks": None, "network_mode": "service:web", "volumes": []})

    copy = start()

    (body,) = [body for kind, name, body in fake_engine.created if kind == "containers" and "-db-" in name]
    assert body["HostConfig"]["NetworkMode"] == f"container:{copy.lease.project}-web-1"


def test_what_is_no_file_is_copied_into_the_container(
    start: Callable[..., Copy], fake_engine: FakeEngine, docker: FakeDocker
) -> None:
    docker.model = changed(web={"secrets": [{"source": "key"}]}) | {"secrets": {"key": {"environment": "KEY"}}}

    copy = start(KEY="hidden")

    packed = fake_engine.archives[f"{copy.lease.project}-web-1"]
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert archive.extractfile("run/secrets/key").read() == b"hidden"  # type: ignore[union-attr]
    assert "hidden" not in (copy.lease.directory / MODEL).read_text()


@pytest.mark.parametrize(
    ("model", "environment", "why"),
    [
        (changed(web={"gpus": "all"}), {}, "services.web.gpus"),
        (changed(web={"image": "none:1"}), {}, "services.web.image (none:1 is not on this engine)"),
        (changed(web={"platform": "linux/arm64"}), {},
         "services.web.image (web for linux/arm64 is not on this engine)"),
        (SHOP, {"DOCKER_DEFAULT_PLATFORM": "linux/amd64"}, "DOCKER_DEFAULT_PLATFORM"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_left_to_compose_and_said(
    start: Callable[..., Copy], docker: FakeDocker, fake_engine: FakeEngine, model: dict[str, Any],
    environment: dict[str, str], why: str,
) -> None:  # fmt: skip
    docker.model = model

    copy = start(**environment)

    assert copy.startup.by == f"compose: {why} is left to Compose"
    assert len(docker.started) == 1
    assert fake_engine.created == []


def test_an_image_of_the_platform_that_is_asked_for_is_good(start: Callable[..., Copy], docker: FakeDocker) -> None:
    docker.model = changed(web={"platform": "linux/amd64"})

    assert start().startup.by == "engine"


def test_a_default_platform_in_an_env_file_is_left_to_compose(start: Callable[..., Copy], folder: Path) -> None:
    (folder / ".env").write_text("DOCKER_DEFAULT_PLATFORM=linux/amd64\n")

    assert start().startup.by.startswith("compose: DOCKER_DEFAULT_PLATFORM")


def test_proxies_that_the_docker_command_would_add_are_left_to_it(start: Callable[..., Copy], tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "config.json").write_text('{"proxies": {"default": {"httpProxy": "http://p:1"}}}')

    assert start().startup.by == "compose: proxies (config.json of the docker command) is left to Compose"


def test_only_a_start_by_compose_makes_the_engine_check_soon(
    start: Callable[..., Copy], docker: FakeDocker, fake_engine: FakeEngine
) -> None:
    check = {"test": ["CMD", "true"], "interval": "30s"}
    docker.model = changed(db={"healthcheck": check})
    start()
    docker.model = changed(db={"healthcheck": check}, web={"gpus": "all"})
    start()

    (body,) = [body for kind, name, body in fake_engine.created if kind == "containers" and "-db-" in name]
    assert body["Healthcheck"] == {"Test": ["CMD", "true"], "Interval": 30 * 10**9}
    assert docker.started[0]["services"]["db"]["healthcheck"]["start_interval"] == "100ms"


def test_a_stolen_port_gives_the_copy_another_place(
    start: Callable[..., Copy], monkeypatch: pytest.MonkeyPatch, fake_engine: FakeEngine
) -> None:
    names: list[str] = []

    def taken(name: str) -> bool:
        names.append(name)
        return len(names) == 1

    plain = fake_engine.answer

    def answer(method: str, path: str, query: Any, body: Any = None) -> tuple[int, Any]:
        if path.endswith("/start") and "-web-" in path and taken(path):
            return 500, {"message": "Bind for 127.0.0.1:9500 failed: port is already allocated"}
        return plain(method, path, query, body)

    monkeypatch.setattr(fake_engine, "answer", answer)

    assert start().addresses[0].port != 9500
    assert len(fake_engine.containers) == 2


def test_a_refusal_of_the_engine_says_what_and_leaves_nothing(
    start: Callable[..., Copy], fake_engine: FakeEngine, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = fake_engine.answer

    def answer(method: str, path: str, query: Any, body: Any = None) -> tuple[int, Any]:
        if path.endswith("/containers/create"):
            return 400, {"message": "invalid CPU set"}
        return plain(method, path, query, body)

    monkeypatch.setattr(fake_engine, "answer", answer)

    with pytest.raises(NotReadyError, match=r"shop did not start: creating .* refused: invalid CPU"):
        start()

    assert docker.things() == []


def proved(**seconds: float) -> StackReady:
    found = [
        ServiceReady(service=name, rule=Rule(service=name, kind="tcp", why="w"), seconds=after, how="h")
        for name, after in seconds.items()
    ]
    return StackReady(services=tuple(found), seconds=max(seconds.values()))


def test_the_critical_path_leads_back_from_the_last_service_through_what_it_waited_for_longest() -> None:
    waits = {
        "seed": {"db": "service_healthy"},
        "web": {"db": "service_started", "seed": "service_completed_successfully", "cache": "service_healthy"},
    }
    ready = proved(cache=0.5, db=1.5, seed=2.0, web=3.0)

    assert Startup(seconds=3.0, by="engine", ready=ready, waits=waits).critical_path == ["db", "seed", "web"]
    assert Startup(seconds=0.0, by="engine").critical_path == []


def test_a_service_without_a_container_is_on_no_path() -> None:
    ready = proved(web=3.0)

    assert Startup(seconds=3.0, by="e", ready=ready, waits={"web": {"db": ""}}).critical_path == ["web"]


def test_a_startup_is_plain_data() -> None:
    made = Startup(seconds=3.0, by="engine", ready=proved(web=3.0), started={"web": 1.0}).to_json()

    assert json.loads(json.dumps(made)) == {
        "seconds": 3.0, "by": "engine", "critical_path": ["web"], "started": {"web": 1.0},
        "ready": [{"service": "web", "rule": {"kind": "tcp", "why": "w"}, "seconds": 3.0, "how": "h",
                       "warning": None}],
    }  # fmt: skip


# the plugin's version


class Version:
    """Stands in for `process.run`: a plugin that tells its version."""

    def __init__(self) -> None:
        self.calls = 0
        self.text = "2.26.1-4\n"
        self.returncode = 0

    def __call__(self, *_: object, **__: object) -> Version:
        self.calls += 1
        return self

    @property
    def stdout(self) -> str:
        return self.text


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Version:
    made = Version()
    monkeypatch.setattr("stackyard._util.process.run", made)
    return made


def test_a_plugin_is_asked_for_its_version_once(tmp_path: Path, asked: Version) -> None:
    (tmp_path / "docker-compose").write_text("one")

    found = [plugin.version(tmp_path, places=(str(tmp_path),)) for _ in range(2)]
    (tmp_path / "docker-compose").write_text("another")
    plugin.version(tmp_path, places=(str(tmp_path),))

    assert (found, asked.calls) == (["2.26.1", "2.26.1"], 2)


@pytest.mark.parametrize("note", ["", "[]", '{"plugin": "other"}'])
def test_a_spoilt_note_of_the_version_is_made_again(tmp_path: Path, asked: Version, note: str) -> None:
    (tmp_path / "docker-compose").write_text("one")
    (tmp_path / plugin.NOTE).write_text(note)

    assert plugin.version(tmp_path, places=(str(tmp_path),)) == "2.26.1"
    assert asked.calls == 1


def test_a_plugin_in_a_place_that_is_not_known_is_asked_each_time(tmp_path: Path, asked: Version) -> None:
    assert [plugin.version(tmp_path, places=()) for _ in range(2)] == ["2.26.1", "2.26.1"]
    asked.returncode = 1

    assert plugin.version(tmp_path, places=()) == ""
