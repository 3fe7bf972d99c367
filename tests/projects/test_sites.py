"""Copies on another engine: its addresses, its ports, and what two machines that use it share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest
from tests.projects.second_engine import SecondEngine, network_of, second_engine

from stackyard._util import process
from stackyard.cleanup import removal
from stackyard.docker import Engine, remote_claims
from stackyard.docker.lease_book import open_book
from stackyard.running import running
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SITE: Final = ("--site", "context:second")
MACHINES: Final = ("one", "two")
EACH: Final = 32  # processes of a machine
RACING: Final = {"DOCKER_CONTEXT": "second", "STACKYARD_POOL": "9500-10499"}  # 100 places
INI: Final = """
[pytest]
addopts = -p stackyard.pytest_plugin -p no:docker -p no:cacheprovider
asyncio_default_fixture_loop_scope = function
stackyard_site = context:second
"""
SUITE: Final = """
import pytest, urllib.request

@pytest.mark.parametrize("number", range(4))
def test_web(stack, number):
    assert stack.address("web").host == "{address}"
    assert urllib.request.urlopen(stack.url("web")).read() == b"box"
    with open("leases", "a") as seen:
        seen.write(stack.lease.id + "\\n")
"""
KILLED: Final = 25  # of them


@pytest.fixture(scope="module")
def second(box: str) -> Iterator[SecondEngine]:
    with second_engine(f"{box}:latest") as made:
        yield made


@pytest.fixture(autouse=True)
def machine(second: SecondEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this test be a machine of its own, and see that it leaves nothing on the engine."""
    monkeypatch.setenv("DOCKER_CONFIG", str(second.config))
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent/authorities.pem")  # a company's, for other servers
    yield
    assert second.everything() == []


@pytest.fixture
def shop(box: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "compose.yaml").write_text(f'services: {{web: {{image: "{box}", ports: ["8080:80"]}}}}\n')
    monkeypatch.chdir(folder)
    return folder


def stackyard(*words: str, code: int = 0) -> str:
    done = process.run([sys.executable, "-m", "stackyard", *words], deadline=280, check=False, env=os.environ)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if not code else done.stderr


def answer(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as found:  # noqa: S310 - ours
        return bytes(found.read())


@pytest.mark.usefixtures("shop")
def test_a_copy_on_another_engine_answers_here_at_that_engine_s_address(second: SecondEngine) -> None:
    said = json.loads(stackyard("up", "--name", "a", *SITE, "--json"))
    (port,) = said["ports"]

    assert (port["host"], port["url"]) == (second.address, f"http://{second.address}:{port['port']}")
    assert answer(port["url"]) == b"box"
    assert said["by"] == "engine"
    assert stackyard("exec", "web", *SITE, "--", "echo", "inside") == "inside\n"
    assert [one["name"] for one in json.loads(stackyard("ps", *SITE, "--json"))] == ["a"]
    assert json.loads(stackyard("ps", "--json")) == []
    stackyard("down", *SITE)


@pytest.mark.usefixtures("shop")
def test_a_command_that_gets_a_copy_elsewhere_gets_its_addresses(second: SecondEngine) -> None:
    program = (
        "import os, urllib.request as ask; given = os.environ; "
        "print(given['STACKYARD_WEB_HOST'], ask.urlopen(given['STACKYARD_WEB_URL']).read())"
    )

    assert stackyard("run", *SITE, "--", sys.executable, "-c", program) == f"{second.address} b'box'\n"


@pytest.mark.usefixtures("shop")
def test_an_engine_that_is_lost_ends_the_command_and_keeps_the_lease(
    second: SecondEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stackyard("up", "--name", "a", *SITE)
    monkeypatch.setenv("STACKYARD_ENGINE_TIMEOUT", "4s")
    second.private.signal(signal.SIGSTOP)
    try:
        said = stackyard("down", *SITE, code=3)
    finally:
        second.private.signal(signal.SIGCONT)
        monkeypatch.setenv("STACKYARD_ENGINE_TIMEOUT", "200s")

    assert "did not answer within" in said
    assert [one["name"] for one in json.loads(stackyard("ps", *SITE, "--json"))] == ["a"]
    stackyard("down", *SITE)


def test_files_that_services_read_travel_and_those_that_they_write_do_not(shop: Path) -> None:
    (shop / "html").mkdir()
    for name, text in {"html/index.txt": "A $HOME file\n", "app.conf": "x=$y\n", "password": "hidden\n"}.items():
        (shop / name).write_text(text)
    text = (shop / "compose.yaml").read_text().replace("}}", ', volumes: ["./html:/srv:ro", "./app.conf:/etc/app:ro"], '
                                                       "secrets: [password]}}")  # fmt: skip
    text += "secrets: {password: {file: ./password}}\n"
    (shop / "compose.yaml").write_text(text)
    stackyard("up", *SITE, "--name", "a")

    shown = stackyard("exec", "web", *SITE, "--", "cat", "/srv/index.txt", "/etc/app", "/run/secrets/password")
    assert shown == "A $HOME file\nx=$y\nhidden\n"
    stackyard("down", *SITE)

    (shop / "compose.yaml").write_text(text.replace("/srv:ro", "/srv"))
    said = stackyard("up", *SITE, "--name", "a", code=2)
    assert "services.web.volumes[0]" in said
    assert "add :ro or use a volume" in said


@pytest.mark.usefixtures("shop")
def test_a_block_of_a_program_has_a_copy_elsewhere(second: SecondEngine) -> None:
    with running(site="context:second") as stack:
        assert stack.url("web") == f"http://{second.address}:{stack.port('web')}"
        assert answer(stack.url("web")) == b"box"
        assert stack.exec("web", "echo", "inside").stdout == "inside\n"


def test_workers_of_pytest_share_a_copy_elsewhere(shop: Path, second: SecondEngine) -> None:
    (shop / "pytest.ini").write_text(INI)
    (shop / "test_shop.py").write_text(SUITE.format(address=second.address))
    words = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--no-header", str(shop)]

    done = process.run(words, deadline=280, check=False, cwd=shop, env=os.environ)

    assert "4 passed" in done.stdout, done.stdout + done.stderr
    assert len(set((shop / "leases").read_text().splitlines())) == 1


@pytest.mark.usefixtures("shop")
def test_the_list_of_sites_says_what_the_engine_has(second: SecondEngine) -> None:
    here, there = json.loads(stackyard("site", "list", "--json"))

    assert (here["site"], there["site"], there["kind"]) == ("local", "context:second", "context")
    assert (there["answers"], there["copies"], there["processors"]) == (True, 0, os.cpu_count())
    assert there["engine"] == f"tcp://{second.address}:2376"


@pytest.fixture
def networks(box: str, second: SecondEngine) -> Iterator[list[tuple[int, str]]]:
    """Give each machine a network namespace of its own, joined by a bridge with the other one's and the engine's."""
    del second  # which is started first
    with ExitStack() as undo:
        main = undo.enter_context(Engine())
        yield [undo.enter_context(network_of(main, box)) for _ in MACHINES]


@pytest.fixture
def racers(
    networks: list[tuple[int, str]], tmp_path: Path
) -> Iterator[Callable[[], list[dict[str, Any]]]]:  # fmt: skip
    """Start the processes of two machines, and say what each of them got."""
    children = []

    def start() -> list[dict[str, Any]]:
        for name, (pid, _) in zip(MACHINES, networks, strict=True):
            words = [
                "nsenter", f"--net=/proc/{pid}/ns/net", "--", sys.executable,
                str(Path(__file__).with_name("racers.py")), str(tmp_path / name), str(EACH),
            ]  # fmt: skip
            child = subprocess.Popen(  # noqa: S603 - ours
                words, stdout=subprocess.PIPE, env=os.environ | RACING, start_new_session=True
            )  # fmt: skip
            children.append(child)
        return [json.loads(child.stdout.readline()) for child in children if child.stdout for _ in range(EACH)]

    yield start
    for child in children:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def kill(processes: list[dict[str, Any]]) -> None:
    """Kill processes, and wait until nothing of them is left but what their parent may ask."""
    for one in processes:
        os.kill(one["pid"], signal.SIGKILL)
    for one in processes:
        while psutil.Process(one["pid"]).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)


def clean(state: Path, second: SecondEngine) -> None:
    """Do what the next command of a machine does."""
    with Engine(endpoint=second.endpoint) as engine:
        book = open_book(Settings.load({"STACKYARD_STATE_DIR": str(state)}), engine)
        removal.sweep(book, engine)


def test_two_machines_never_get_the_same_place_and_killed_processes_keep_none(
    second: SecondEngine,
    networks: list[tuple[int, str]],
    racers: Callable[[], list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    found = racers()
    hosts = {one["network"] for one in found if "network" in one}
    assert [one["error"] for one in found if "error" in one] == []
    assert hosts == {address for _, address in networks}  # neither machine is this one, nor the engine's
    assert second.address not in hosts
    for what in ("ports", "subnets"):
        taken = [item for one in found for item in one[what]]
        assert len(taken) == len(set(taken)) == len(found) * (2 if what == "ports" else 1)
    assert len({one["project"] for one in found}) == 2 * EACH

    killed = [*found[:KILLED], *found[EACH : EACH + KILLED]]
    kill(killed)
    for name in MACHINES:
        clean(tmp_path / name, second)
    with Engine(endpoint=second.endpoint) as engine:
        left = {claim.lease for claim in remote_claims.Ledger.read(engine).claims}
    assert left == {one["id"] for one in found} - {one["id"] for one in killed}

    kill([one for one in found if one not in killed])
    for name in MACHINES:
        clean(tmp_path / name, second)
