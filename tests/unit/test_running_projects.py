"""`running()` for any Compose project: where it answers, what it tells programs, what stays after the block."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from fake_project import SHOP, FakeDocker, spoken

import stackyard
from stackyard.errors import LeftoversError, UsageError
from stackyard.running import Stack, running
from stackyard.stacks.readiness import waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard._util.process import Completed

DNS = {"image": "dns", "ports": [
    {"target": 53, "published": "5353", "protocol": "tcp"}, {"target": 53, "published": "5353", "protocol": "udp"},
    {"target": 80, "published": "8081", "protocol": "tcp"},
]}  # fmt: skip
PAIR = {"image": "pair", "scale": 2, "ports": [{"target": 80, "protocol": "tcp"}]}


@pytest.fixture
def docker(fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_host: None) -> FakeDocker:
    del free_host  # in place
    made = FakeDocker(fake_engine, {**SHOP, "services": {**SHOP["services"], "dns": DNS, "pair": PAIR}})
    made.install(monkeypatch)
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))

    async def ready(*_: Any, **__: Any) -> None: ...

    monkeypatch.setattr(waiting, "wait", ready)
    monkeypatch.setattr("stackyard.stacks.copies.lifecycle.spoken", spoken)
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "shop"
    made.mkdir()
    (made / "compose.yaml").touch()
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def stack(docker: FakeDocker, folder: Path) -> Iterator[Stack]:
    del docker, folder  # in place
    with running() as made:
        yield made


def test_a_copy_of_the_project_here_is_up_while_the_block_runs_and_gone_after_it(
    docker: FakeDocker, folder: Path, tmp_path: Path
) -> None:
    with running() as stack:
        assert stack.services == ["db", "dns", "pair", "web"]
        assert stack.lease.checkout == str(folder)
        assert stack.project in docker.started[0]["networks"]["default"]["name"]
        assert {"web-" + stack.project, "db-" + stack.project} <= set(docker.things())

    assert docker.things() == []
    assert list((tmp_path / "state" / "leases").iterdir()) == []


def test_the_package_offers_the_function_by_the_same_name_before_and_after_its_module_is_imported(
    docker: FakeDocker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del docker, folder  # in place
    monkeypatch.delattr(stackyard, "running")  # as before the first import
    for _ in range(2):
        with stackyard.running() as stack:
            assert isinstance(stack, stackyard.Stack)
    with pytest.raises(AttributeError, match="has no attribute 'walking'"):
        stackyard.walking  # type: ignore[attr-defined] # noqa: B018


async def test_a_block_may_be_inside_an_event_loop(
    docker: FakeDocker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del folder
    waited = []

    async def ready(*_: Any, **__: Any) -> None:
        waited.append(True)

    monkeypatch.setattr(waiting, "wait", ready)
    with running():
        assert waited == [True]

    assert docker.things() == []


def test_an_error_in_the_block_removes_the_copy_and_is_passed_on(docker: FakeDocker, folder: Path) -> None:
    del folder
    with pytest.raises(ValueError, match="mine"), running():
        raise ValueError("mine")

    assert docker.things() == []


def test_what_cannot_be_removed_fails_the_block(
    docker: FakeDocker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del folder
    monkeypatch.setattr("stackyard.cleanup.removal.PAUSE", 0)

    with pytest.raises(LeftoversError, match="has active endpoints"), running() as stack:
        docker.engine.refuse[f"networks {stack.project}_default"] = (403, "has active endpoints")


def test_a_fork_in_the_block_leaves_its_parents_copy_alone(
    docker: FakeDocker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del folder
    pid = os.getpid()
    with running():
        monkeypatch.setattr("stackyard.running.os.getpid", lambda: pid + 1)

    assert docker.things() != []


def test_ports_are_found_by_service_port_and_protocol(stack: Stack, docker: FakeDocker) -> None:
    published = {
        (service, entry["target"], entry["protocol"]): entry["published"]
        for service, item in docker.started[0]["services"].items() for entry in item.get("ports", ())
    }  # fmt: skip

    assert str(stack.port("web")) == published["web", 80, "tcp"]
    assert str(stack.port("dns")) == str(stack.port("dns", 53)) == published["dns", 53, "tcp"]
    assert str(stack.port("dns", 53, "udp")) == published["dns", 53, "udp"]
    assert stack.url("dns", 80) == f"http://127.0.0.1:{published['dns', 80, 'tcp']}"
    assert stack.url("web", scheme="ws") == f"ws://127.0.0.1:{stack.port('web')}"
    assert stack.address("web").host == "127.0.0.1"


def test_each_container_of_a_service_has_a_port_of_its_own(stack: Stack) -> None:
    ports = {stack.port("pair"), stack.port("pair", number=1), stack.port("pair", number=2)}

    assert len(ports) == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("wbe",), "the project has no service 'wbe'; did you mean 'web'? its services: db, dns, pair, web"),
        (("zzz", 80), "the project has no service 'zzz'; its services: db, dns, pair, web"),
        (("db",), "service db publishes no port; add 'ports' to it in the Compose file"),
        (("web", 81), "service web publishes no port 81/tcp; it publishes 80/tcp"),
        (("web", 80, "udp"), "service web publishes no port 80/udp; it publishes 80/tcp"),
        (("dns", 54, "udp"), "service dns publishes no port 54/udp; it publishes 53/tcp, 53/udp, 80/tcp"),
    ],
)
def test_an_address_that_does_not_exist_is_named_with_those_that_do(
    stack: Stack, asked: Sequence[Any], said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        stack.address(*asked)

    assert str(refused.value) == said


def test_a_container_too_many_is_named(stack: Stack) -> None:
    for number in (0, 3):
        with pytest.raises(UsageError, match=f"publishes no port 80/tcp of container {number}; it publishes 80/tcp$"):
            stack.port("pair", number=number)


def test_programs_learn_addresses_from_variables(stack: Stack) -> None:
    told = stack.env

    assert told["STACKYARD_WEB_URL"] == stack.url("web")
    assert told["STACKYARD_DNS_53_UDP_PORT"] == str(stack.port("dns", 53, "udp"))
    assert (told["STACKYARD_LEASE"], told["COMPOSE_PROJECT_NAME"]) == (stack.lease.id, stack.project)


def test_logs_are_those_of_one_service_or_of_all_under_their_names(stack: Stack, docker: FakeDocker) -> None:
    for service in ("web", "db"):
        docker.engine.containers[f"{service}-{stack.project}"]["log"] = f"starting\nup {service}\n".encode()

    assert stack.logs("web") == "starting\nup web\n"
    assert sorted(stack.logs().splitlines()) == ["db  | starting", "db  | up db", "web | starting", "web | up web"]
    with pytest.raises(UsageError, match="has no service 'wbe'"):
        stack.logs("wbe")


def test_the_logs_of_a_service_are_those_of_all_its_containers(stack: Stack, docker: FakeDocker) -> None:
    first = docker.engine.containers[f"pair-{stack.project}"]
    first["log"] = b"from one\n"
    docker.engine.containers["pair-2"] = {**first, "log": b"from two\n"}

    assert sorted(stack.logs("pair").splitlines()) == ["from one", "from two"]


def test_a_command_inside_a_service_returns_its_exit_code_and_output(stack: Stack, docker: FakeDocker) -> None:
    done: Completed = stack.exec("web", "cat", "/a b")

    assert done.returncode == 0
    assert docker.calls[-1][:2] == ["docker", "exec"]
    assert docker.calls[-1][-2:] == ["cat", "/a b"]
    with pytest.raises(UsageError, match=r"which command\? stack.exec\('web', 'ls', '/'\) runs one"):
        stack.exec("web")


def test_files_profiles_env_files_and_variables_reach_compose(
    docker: FakeDocker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str | None] = []
    plain = FakeDocker.__call__

    def noted(argv: Sequence[str], **options: Any) -> Completed:
        if "config" in argv:
            given.append(options["env"].get("TOWN"))
        return plain(docker, argv, **options)

    monkeypatch.setattr("stackyard._util.process.run", noted)
    (folder.parent / "my.env").touch()
    chosen = {"files": [folder / "compose.yaml"], "profiles": ["tools"], "env_files": ["my.env"]}
    with running(folder=folder.parent, variables={"TOWN": "Ulm"}, **chosen):  # type: ignore[call-overload] # a dict
        pass

    words = " ".join(docker.calls[0])
    assert f"--file {folder}/compose.yaml --profile tools --env-file my.env config" in words
    assert set(given) == {"Ulm"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"profile": ["a"]}, r"^a copy takes no option 'profile'; did you mean 'profiles'\? its options: env_files, "),
        ({"file": ["a"]}, "did you mean 'files'"),
        ({"env_file": "a"}, "did you mean 'env_files'"),
        ({"queue_timeout": 5}, "did you mean 'wait'"),
        ({"qqqq": 5}, "takes no option 'qqqq'; its options: "),
        ({"environment": "test", "files": ["a"]}, "^an environment takes no option 'files'; .*force, progress, "),
        ({"environment": "test", "timeout": "soon"}, "^timeout must be a time such as 30s"),
        ({"profiles": "tools"}, r"^profiles must be a list, got 'tools'; write \['tools'\]$"),
        ({"files": "a.yml"}, "^files must be a list"),
        ({"env_files": ".env"}, "^env_files must be a list"),
        ({"timeout": "soon"}, "^timeout must be a time such as 30s"),
        ({"timeout": float("nan")}, "^timeout must be"),
        ({"wait": [1]}, "^wait must be a time such as 30s"),
        ({"timeout": -1}, "^timeout must be a time"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named_with_the_right_one(
    folder: Path, docker: FakeDocker, options: dict[str, Any], said: str
) -> None:
    del folder

    with pytest.raises(UsageError, match=said):
        running(**options).__enter__()
    assert docker.calls == []


def test_a_project_with_environments_wants_one_of_them_named(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "docker_environments.yaml").touch()

    with pytest.raises(UsageError, match=r"has environments; name one of envs/docker_environments.yaml, for example"):
        running(folder=tmp_path).__enter__()
