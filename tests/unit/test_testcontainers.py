"""testcontainers' DockerCompose, with a copy for each instance: what it starts, asks and removes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_project import SHOP, FakeDocker, spoken
from testcontainers import compose as theirs
from testcontainers.core.exceptions import ContainerIsNotRunning, NoSuchPortExposed
from testcontainers.core.wait_strategies import HttpWaitStrategy

from stackyard._util import process
from stackyard.cleanup.outcome import Leftover, Removal
from stackyard.docker.lease_book import open_book
from stackyard.errors import LeftoversError, NotReadyError, UsageError
from stackyard.project import Project
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.readiness import waiting
from stackyard.testcontainers import ComposeContainer, DockerCompose, Part

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_engine import FakeEngine

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook

PORT = {"URL": "127.0.0.1", "TargetPort": 80, "PublishedPort": 9500, "Protocol": "tcp"}
ROW = {"ID": "1", "Name": "shop-web-1", "Service": "web", "State": "running", "ExitCode": 0, "Publishers": [PORT]}


class Asked:
    """Stands in for the `docker compose` that testcontainers runs: `answers` by command, `failures` come first."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.failures: list[str] = []
        self.answers = {"ps": json.dumps(ROW), "logs": "web-1  | hello\n", "exec": "done\n", "config": "{}"}

    def __call__(self, cmd: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        self.calls.append(cmd)
        if self.failures:
            raise subprocess.CalledProcessError(1, cmd, b"", self.failures.pop().encode())
        said = next((text for word, text in self.answers.items() if word in cmd), "")
        return subprocess.CompletedProcess(cmd, 0, said.encode(), b"")

    def words(self) -> list[str]:
        """Return what each call was for."""
        return [
            next(word for word in call[2:] if word in {*self.answers, "start", "stop", "pull"}) for call in self.calls
        ]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    made = Asked()
    monkeypatch.setattr("testcontainers.compose.compose.subprocess_run", made)
    return made


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the deadlines of every wait for services."""
    found: list[float] = []

    async def ready(*_: object, deadline: float, **__: object) -> None:
        found.append(deadline)

    monkeypatch.setattr(waiting, "wait", ready)
    monkeypatch.setattr("stackyard.stacks.copies.lifecycle.spoken", spoken)
    return found


@pytest.fixture
def docker(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, free_host: None, asked: Asked, waits: list[float]
) -> FakeDocker:
    del free_host, asked, waits  # in place
    made = FakeDocker(fake_engine)
    made.install(monkeypatch)
    return made


@pytest.fixture
def book(tmp_path: Path, fake_engine: FakeEngine, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> LeaseBook:
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    made = open_book(None, engine)
    fake_engine.host = made.host
    return made


@pytest.fixture
def shop(tmp_path: Path, docker: FakeDocker, book: LeaseBook) -> Callable[..., DockerCompose]:
    del docker, book  # in place
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "compose.yaml").touch()
    return lambda **options: DockerCompose(folder, **options)


def test_it_has_the_arguments_of_testcontainers_own_class_in_their_order() -> None:
    import inspect

    mine, other = inspect.signature(DockerCompose), inspect.signature(theirs.DockerCompose)

    assert [*mine.parameters][: len(other.parameters)] == [*other.parameters]
    assert issubclass(DockerCompose, theirs.DockerCompose)
    assert issubclass(ComposeContainer, theirs.ComposeContainer)


def test_a_block_has_a_copy_of_its_own_and_leaves_nothing(
    shop: Callable[..., DockerCompose], docker: FakeDocker, book: LeaseBook
) -> None:
    with shop() as one, shop() as two:
        names = [words[words.index("--project-name") + 1] for words in
                 (one.docker_compose_command(), two.docker_compose_command())]  # fmt: skip
        published = [model["services"]["web"]["ports"][0]["published"] for model in docker.started]
        assert names == [lease.project for lease in book.leases()]
        assert len(set(names)) == 2
        assert published == ["9500", "9510"]

    assert docker.things() == []
    assert book.leases() == []


def test_every_question_is_about_the_copy(shop: Callable[..., DockerCompose], asked: Asked, book: LeaseBook) -> None:
    with shop() as compose:
        assert compose.get_service_host_and_port("web", 80) == ("127.0.0.1", 9500)
        assert compose.get_logs("web") == ("web-1  | hello\n", "")
        assert compose.exec_in_container(["true"], "web") == ("done\n", "", 0)
        compose.get_config()
        (lease,) = book.leases()
        place = ["--project-name", lease.project, "--project-directory", str(lease.checkout)]

    own = ["docker", "compose", *place, "--file", f"{lease.directory}/model.json"]
    assert asked.words() == ["ps", "logs", "exec", "config"]
    assert [call[: len(own)] for call in asked.calls] == [own] * 4


def test_without_a_copy_nothing_asks_about_the_user_s_own_stack(
    shop: Callable[..., DockerCompose], asked: Asked
) -> None:
    compose = shop()

    compose.stop()
    compose.stop(down=False)
    assert compose.get_containers(include_all=True) == []
    assert compose.get_logs() == ("", "")
    with pytest.raises(ContainerIsNotRunning, match="web is not running"):
        compose.get_container("web")
    with pytest.raises(ContainerIsNotRunning, match="web is not running"):
        compose.exec_in_container(["true"], "web")
    assert asked.calls == []


def test_without_a_copy_the_configuration_is_the_user_s_own(shop: Callable[..., DockerCompose], asked: Asked) -> None:
    shop(compose_file_name="a.yaml", profiles=["p"], env_file="e").get_config()

    chosen = ["-f", "a.yaml", "--profile", "p", "--env-file", "e"]
    assert asked.calls == [["docker", "compose", *chosen, "config", "--format", "json"]]


def test_files_profiles_and_env_files_choose_the_project(
    shop: Callable[..., DockerCompose], docker: FakeDocker
) -> None:
    made = shop(compose_file_name=["a.yaml", "b.yaml"], profiles=["p"], env_file="e")
    for name in ("a.yaml", "b.yaml", "e"):
        Path(made.context, name).touch()
    with made:
        pass

    chosen = ["--file", "a.yaml", "--file", "b.yaml", "--profile", "p", "--env-file", "e"]
    rendered = [call for call in docker.calls if "config" in call]
    assert rendered
    assert all(call[call.index("compose") + 1 :][:8] == chosen for call in rendered)


def test_images_are_pulled_before_the_start_if_asked_for(shop: Callable[..., DockerCompose], asked: Asked) -> None:
    with shop(pull=True, quiet_pull=True), shop(pull=True):
        pass

    assert asked.calls == [["docker", "compose", "pull", "--quiet"], ["docker", "compose", "pull"]]


def test_a_start_waits_for_every_service_unless_asked_not_to(
    shop: Callable[..., DockerCompose], waits: list[float]
) -> None:
    with shop(wait=False):
        assert waits == []
    with shop(timeout=7):
        assert 0 < waits[0] <= 7


def test_containers_that_were_only_stopped_are_started_again(
    shop: Callable[..., DockerCompose], docker: FakeDocker, asked: Asked, waits: list[float], book: LeaseBook
) -> None:
    compose = shop(keep_volumes=True)
    with compose:
        pass
    assert docker.engine.volumes
    with compose:
        assert len(docker.started) == len(book.leases()) == 1
    compose.keep_volumes = False
    with compose:
        pass

    assert asked.words() == ["stop", "start", "stop", "start"]
    assert len(waits) == 3
    assert docker.things() == []


def test_a_stopped_copy_that_cannot_start_again_says_why_and_stays(
    shop: Callable[..., DockerCompose], asked: Asked, docker: FakeDocker
) -> None:
    with shop() as compose:
        compose.stop(down=False)
        asked.failures = ["web-1 Starting\nBind for 127.0.0.1:9500 failed: port is already allocated\n"]
        with pytest.raises(NotReadyError, match=r"could not be started again: Bind for 127.0.0.1:9500 failed: port is"):
            compose.start()
        assert docker.things() != []
        compose.start()

    assert docker.things() == []


def test_a_stopped_copy_may_be_started_again_without_waiting(
    shop: Callable[..., DockerCompose], waits: list[float]
) -> None:
    with shop(wait=False) as compose:
        compose.stop(down=False)
        compose.start()

    assert waits == []


def test_the_project_s_configuration_counts_for_each_start(
    shop: Callable[..., DockerCompose], docker: FakeDocker, waits: list[float], tmp_path: Path
) -> None:
    del docker  # in place
    (tmp_path / "shop" / "stackyard.toml").write_text('timeout = "9s"\n')

    with shop(services=["web"]) as compose:
        compose.stop(down=False)
        compose.start()

    assert 8 < waits[0] <= 9
    assert waits[1] == 9


def test_wait_strategies_ask_the_copy_s_ports(
    shop: Callable[..., DockerCompose], monkeypatch: pytest.MonkeyPatch
) -> None:
    where: list[tuple[str, int]] = []

    def wait(_: HttpWaitStrategy, container: ComposeContainer) -> None:
        where.append((container.get_container_host_ip(), container.get_exposed_port(80)))

    monkeypatch.setattr(HttpWaitStrategy, "wait_until_ready", wait)

    with shop().waiting_for({"web": HttpWaitStrategy(80)}) as compose:
        assert where == [("127.0.0.1", 9500)]
        with pytest.raises(NoSuchPortExposed):
            compose.get_container("web").get_exposed_port(81)


def test_a_wait_strategy_that_fails_leaves_nothing(
    shop: Callable[..., DockerCompose], docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(*_: object) -> None:
        raise TimeoutError("not ready")

    monkeypatch.setattr(HttpWaitStrategy, "wait_until_ready", wait)

    with pytest.raises(TimeoutError, match="not ready"), shop().waiting_for({"web": HttpWaitStrategy(80)}):
        pass
    assert docker.things() == []


def test_a_container_without_a_published_port_has_the_loopback_address() -> None:
    assert ComposeContainer(Service="db").get_container_host_ip() == "127.0.0.1"


def test_a_start_that_fails_leaves_nothing_and_may_be_repeated(
    shop: Callable[..., DockerCompose], docker: FakeDocker, book: LeaseBook
) -> None:
    compose = shop()
    docker.failures = ["no such image"]

    with pytest.raises(NotReadyError, match="shop did not start: no such image"), compose:
        pass
    assert (docker.things(), book.leases()) == ([], [])
    with compose:
        assert len(book.leases()) == 1


def test_what_could_not_be_removed_is_said_and_may_be_removed_again(
    shop: Callable[..., DockerCompose], docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose, down = shop(), lifecycle.Copy.down
    compose.start()
    left = Leftover(kind="volume", name="rows", lease="1", reason="in use")
    monkeypatch.setattr(lifecycle.Copy, "down", lambda _: Removal(left=[left]))

    with pytest.raises(LeftoversError, match="volume rows: in use"):
        compose.stop()
    monkeypatch.setattr(lifecycle.Copy, "down", down)
    compose.stop()
    assert docker.things() == []


def test_it_works_inside_an_event_loop(shop: Callable[..., DockerCompose], docker: FakeDocker) -> None:
    async def inside() -> None:
        with shop() as compose:
            compose.stop(down=False)
            compose.start()

    asyncio.run(inside())

    assert docker.things() == []


def test_another_program_than_docker_is_refused(shop: Callable[..., DockerCompose], docker: FakeDocker) -> None:
    with pytest.raises(UsageError, match="docker_command_path must lead to docker, got 'podman'"):
        shop(docker_command_path="podman").start()
    assert docker.calls == []
    with shop(docker_command_path="/usr/bin/docker") as compose:
        assert compose.docker_compose_command()[:2] == ["/usr/bin/docker", "compose"]


@pytest.fixture
def linked(docker: FakeDocker) -> FakeDocker:
    """Let the shop have a service that needs another, one that none needs, and one of a profile."""
    web = {**SHOP["services"]["web"], "depends_on": {"db": {"condition": "service_started"}}}
    other = {"image": "mail", "ports": [{"target": 25, "published": "2525", "protocol": "tcp"}]}
    docker.model = {**SHOP, "services": {**SHOP["services"], "web": web, "mail": other,
                                         "debug": {"image": "debug", "profiles": ["tools"]}}}  # fmt: skip
    return docker


def test_chosen_services_start_with_what_they_need_and_no_others(
    shop: Callable[..., DockerCompose], linked: FakeDocker, book: LeaseBook
) -> None:
    with shop(services=["web"]):
        (model,) = linked.started
        assert sorted(model["services"]) == ["db", "web"]
        assert [*book.leases()[0].ports] == ["web_80_tcp"]


def test_a_chosen_service_enables_its_profile(shop: Callable[..., DockerCompose], linked: FakeDocker) -> None:
    with shop(services=["debug"]):
        assert sorted(linked.started[0]["services"]) == ["debug"]

    assert any(call[call.index("compose") + 1 :][:2] == ["--profile", "tools"] for call in linked.calls)


def test_a_service_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path, linked: FakeDocker) -> None:
    del linked  # in place
    with pytest.raises(UsageError, match="no service 'nosuch'; its services: db, debug, mail, web"):
        Part.of(Project.find(tmp_path, environment={}), ["web", "nosuch"])


def test_without_testcontainers_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['testcontainers'] = None; import stackyard.testcontainers"

    done = process.run([sys.executable, "-c", code], deadline=240, check=False)

    assert "ModuleNotFoundError: stackyard.testcontainers needs the library testcontainers" in done.stderr
    assert "pip install testcontainers" in done.stderr
