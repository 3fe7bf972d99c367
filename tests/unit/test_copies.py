"""Copies of a project: what is started under which lease, what a failure says, and what is left of it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_docker import install_docker
from fake_project import SHOP, FakeDocker, spoken

from stackyard._util import process
from stackyard._util.advice import Action, end_and_start
from stackyard.cleanup import graceful, removal
from stackyard.docker.lease_book import open_book, survivors
from stackyard.errors import (
    CommandError,
    ImageError,
    NotReadyError,
    PoolExhaustedError,
    RefusedError,
    StackyardError,
    UsageError,
)
from stackyard.leases.owners import Owner
from stackyard.leases.records import MODEL
from stackyard.project import Project
from stackyard.running.stack import Stack
from stackyard.settings import Settings
from stackyard.stacks import project_images
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.copies.leased_project import CopiedProject
from stackyard.stacks.data import snapshot
from stackyard.stacks.diagnostics import REMOVED
from stackyard.stacks.readiness import waiting
from stackyard.stacks.readiness.waiting import StackReady
from stackyard.stacks.starts.request import CopyRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_engine import FakeEngine

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook
    from stackyard.stacks.copies.lifecycle import Copy


@pytest.fixture
def docker(fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    made = FakeDocker(fake_engine)
    made.install(monkeypatch)

    async def ready(*_: Any, **__: Any) -> StackReady:
        return StackReady(services=(), seconds=0.0)

    monkeypatch.setattr(waiting, "wait", ready)
    monkeypatch.setattr("stackyard.stacks.copies.lifecycle.spoken", spoken)
    return made


@pytest.fixture
def book(tmp_path: Path, fake_engine: FakeEngine, engine: Engine) -> LeaseBook:
    # what Compose is given is easier to look at than what the engine is; test_copy_start.py has the engine's way
    given = {"STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_START": "compose", "STACKYARD_REAPER": "off"}
    made = open_book(Settings.load(given), engine)
    fake_engine.host = made.host
    return made


@pytest.fixture
def start(folder: Path, book: LeaseBook, engine: Engine, docker: FakeDocker, free_host: None) -> Callable[..., Copy]:
    del docker, free_host  # in place

    def begin(**options: Any) -> Copy:
        return lifecycle.start(Project.find(folder, environment={}), book, engine, CopyRequest(**options))

    return begin


def test_a_copy_is_started_from_a_model_of_its_own(start: Callable[..., Copy], docker: FakeDocker) -> None:
    copy = start()

    model = docker.started[0]
    assert model["services"]["web"]["ports"][0]["published"] == "9500"
    assert model["networks"]["default"] | {"labels": {}} == {
        "name": f"{copy.lease.project}_default", "ipam": {"config": [{"subnet": copy.lease.subnet}]}, "labels": {}
    }  # fmt: skip
    assert model["volumes"]["rows"]["name"] == f"{copy.lease.project}_rows"
    assert [(item.service, item.target, item.port) for item in copy.addresses] == [("web", 80, 9500)]
    assert {**copy.model, "x-stackyard": None} == {**model, "x-stackyard": None}
    assert [item.url for item in copy.addresses] == ["http://127.0.0.1:9500"]


def test_two_copies_have_nothing_in_common(start: Callable[..., Copy], docker: FakeDocker) -> None:
    one, two = start(), start()

    assert not {*one.lease.every_port} & {*two.lease.every_port}
    assert one.lease.subnet != two.lease.subnet
    names = [{item["name"] for kind in ("networks", "volumes") for item in model[kind].values()}
             for model in docker.started]  # fmt: skip
    assert not names[0] & names[1]


def test_everything_carries_the_labels_of_lease_and_book(
    start: Callable[..., Copy], docker: FakeDocker, book: LeaseBook
) -> None:
    copy = start(name="mine", ttl=600)

    model = docker.started[0]
    for item in (*model["services"].values(), *model["networks"].values(), *model["volumes"].values()):
        told = item["labels"]
        assert (told["stackyard.lease"], told["stackyard.host"]) == (copy.lease.id, book.host)
        assert (told["stackyard.copy"], told["stackyard.name"]) == ("shop", "mine")
    assert model["services"]["web"]["labels"]["own"] == "1"


def test_a_dollar_in_a_label_is_no_variable(tmp_path: Path, book: LeaseBook, engine: Engine, docker: FakeDocker,
                                             free_host: None) -> None:  # fmt: skip
    del free_host
    folder = tmp_path / "a$b"
    folder.mkdir()
    (folder / "compose.yaml").touch()

    lifecycle.start(Project.find(folder, environment={}), book, engine)

    assert docker.started[0]["services"]["web"]["labels"]["stackyard.checkout"] == f"{tmp_path}/a$$b"


def test_a_lost_book_is_made_again_from_a_running_copy(
    start: Callable[..., Copy], book: LeaseBook, engine: Engine
) -> None:
    lease = start(ttl=600).lease

    (found,) = survivors(engine, book.host)

    assert (found.id, found.ports, found.subnet, found.project) == (
        lease.id, dict(lease.ports), lease.subnet, lease.project,
    )  # fmt: skip


def test_the_same_name_gives_the_same_copy_again(start: Callable[..., Copy], docker: FakeDocker) -> None:
    one, two = start(name="mine", ttl=600), start(name="mine", ttl=600)

    assert one.lease.id == two.lease.id
    assert two.seconds == 0.0
    assert len(docker.started) == 1


def of_images(docker: FakeDocker, **services: dict[str, Any]) -> None:
    docker.model = {"services": {name: {"networks": {"default": None}} | service for name, service in services.items()},
                    "networks": SHOP["networks"]}  # fmt: skip


def test_an_image_that_is_not_there_is_pulled_before_the_start(start: Callable[..., Copy], docker: FakeDocker) -> None:
    of_images(docker, web={"image": "new:1", "pull_policy": "if_not_present"}, db={"image": "db"},
              arm={"image": "new:2", "platform": "linux/arm64"}, off={"image": "other", "scale": 0})  # fmt: skip
    told: list[str] = []

    start(progress=told.append)

    pulls = sorted(words[2:] for words in docker.calls if words[1] == "pull")
    assert pulls == [["--quiet", "--platform", "linux/arm64", "new:2"], ["--quiet", "new:1"]]
    assert told == ["pulling new:1, new:2"]
    assert "pull_policy" not in docker.started[0]["services"]["web"]


def test_an_image_is_pulled_again_if_the_file_wants_that_and_not_if_it_is_built_here(
    start: Callable[..., Copy], docker: FakeDocker, folder: Path
) -> None:
    of_images(docker, web={"image": "own", "build": {"context": str(folder)}}, worker={"image": "own"},
              db={"image": "db", "pull_policy": "always"})  # fmt: skip

    start()

    assert [words[2:] for words in docker.calls if words[1] == "pull"] == [["--quiet", "db"]]


def test_a_missing_image_is_one_line_that_names_service_image_and_what_to_do(
    start: Callable[..., Copy], docker: FakeDocker, book: LeaseBook
) -> None:
    of_images(docker, web={"image": "corp/web:1"}, worker={"image": "corp/web:1"}, db={"image": "db"})
    docker.pull_failures = ["time=x\nError response from daemon: no such host\n"]

    with pytest.raises(ImageError) as failed:
        start()

    assert str(failed.value) == (
        "services web, worker: image corp/web:1 is not on this engine and cannot be pulled (Error response from "
        "daemon: no such host); build it, correct its name in the Compose file, "
        "or log in to its registry with 'docker login'"
    )
    assert failed.value.exit_code == 6
    assert (docker.started, book.leases()) == ([], [])


def test_an_image_that_must_not_be_pulled_is_not(start: Callable[..., Copy], docker: FakeDocker) -> None:
    of_images(docker, web={"image": "corp/web:1", "pull_policy": "never"}, db={"image": "new"})

    with pytest.raises(
        ImageError, match=r"^service web: image corp/web:1 is not .* its pull_policy is never; build it"
    ):
        start()

    assert not [words for words in docker.calls if words[1] == "pull"]


def test_a_copy_that_stands_already_is_said_to_be_of_an_earlier_state(
    start: Callable[..., Copy], docker: FakeDocker
) -> None:
    def of(image: str) -> dict[str, Any]:
        db = {**SHOP["services"]["db"], "image": image, "healthcheck": {"test": ["CMD", "true"], "interval": "5s"}}
        return {**SHOP, "services": {**SHOP["services"], "db": db}}

    docker.model = of("db")
    start(name="mine", ttl=600)
    told: list[str] = []
    start(name="mine", ttl=600, progress=told.append)
    docker.model = of("db:2")

    assert told == []
    start(name="mine", ttl=600, progress=told.append)
    assert told == [f"warning: {lifecycle.CHANGED}"]


@pytest.mark.parametrize(
    ("service", "state", "words"),
    [
        ("web", None, "missing"), ("db", None, "missing"), ("web", {"Status": "exited"}, "exited, exit code 0"),
        ("db", {"Status": "exited", "ExitCode": 137}, "exited, exit code 137"),
        ("web", {"Status": "created"}, "created"),
    ],
)  # fmt: skip
def test_a_copy_that_lacks_a_service_is_not_taken_for_a_running_one(
    start: Callable[..., Copy], fake_engine: FakeEngine, service: str, state: dict[str, Any] | None, words: str
) -> None:
    lease = start(name="mine", ttl=600).lease
    row = fake_engine.containers.pop(f"{service}-{lease.project}")
    if state:
        fake_engine.containers[f"{service}-{lease.project}"] = {**row, "state": row["state"] | state}
    before = {*fake_engine.containers}

    with pytest.raises(NotReadyError) as failed:
        start(name="mine", ttl=600)

    assert str(failed.value) == (
        f"copy mine ({lease.id}) is up, but not every service of it runs: {service} ({words}); "
        f"{end_and_start(lease.id)}"
    )
    assert {*fake_engine.containers} == before


@pytest.mark.parametrize("reached", ["created", "running"])
def test_a_copy_whose_start_was_killed_is_started_again(
    start: Callable[..., Copy], fake_engine: FakeEngine, docker: FakeDocker, reached: str
) -> None:
    lease = start(name="mine", ttl=600).lease
    file = lease.directory / MODEL
    file.write_text(file.read_text().replace('"spoken": true', '"spoken": false'))
    fake_engine.containers[f"web-{lease.project}"]["state"] |= {"Status": reached}
    told: list[str] = []

    again = start(name="mine", ttl=600, progress=told.append)

    assert (again.lease.id, told, len(docker.started)) == (lease.id, [lifecycle.KILLED], 2)
    assert again.engine.state(f"web-{lease.project}").status == "running"
    assert again.is_whole


@pytest.mark.parametrize("state", [{"Status": "exited"}, {"Status": "created"}, {"Status": "paused"}])
def test_a_copy_whose_one_shot_has_ended_runs(
    start: Callable[..., Copy], fake_engine: FakeEngine, state: dict[str, Any]
) -> None:
    lease = start(name="mine", ttl=600).lease
    fake_engine.containers[f"db-{lease.project}"]["state"] |= state

    assert start(name="mine", ttl=600).lease.id == lease.id


def test_a_one_shot_whose_container_was_pruned_is_not_missed(
    start: Callable[..., Copy], fake_engine: FakeEngine, docker: FakeDocker
) -> None:
    web = {**SHOP["services"]["web"], "depends_on": {"db": {"condition": "service_completed_successfully"}}}
    docker.model = {**SHOP, "services": {**SHOP["services"], "web": web}}
    lease = start(name="mine", ttl=600).lease
    del fake_engine.containers[f"db-{lease.project}"]

    assert start(name="mine", ttl=600).lease.id == lease.id
    assert len(docker.started) == 1


def test_a_start_over_forgets_the_data_that_an_earlier_start_kept(
    start: Callable[..., Copy], fake_engine: FakeEngine
) -> None:
    lease = start(name="mine", ttl=600).lease
    for name in ("data.json", "data-0.tar", "data-10.tar", "data.txt"):
        (lease.directory / name).touch()
    fake_engine.containers.clear()  # docker compose -p PROJECT down

    again = start(name="mine", ttl=600)

    assert again.lease.id == lease.id
    assert [path.name for path in lease.directory.glob("data*")] == ["data.txt"]


def test_one_of_several_containers_of_a_service_may_be_missing_too(
    start: Callable[..., Copy], docker: FakeDocker
) -> None:
    docker.model = {**SHOP, "services": {**SHOP["services"], "db": {**SHOP["services"]["db"], "scale": 2}}}
    start(name="mine", ttl=600)  # the fake engine makes one of each

    with pytest.raises(NotReadyError, match=r"db .missing."):
        start(name="mine", ttl=600)


def mounting(**services: list[dict[str, Any]]) -> dict[str, Any]:
    return {**SHOP, "services": {
        name: {**service, "volumes": services.get(name, [])} for name, service in SHOP["services"].items()
    }}  # fmt: skip


def bound(path: Path) -> dict[str, Any]:
    return {"type": "bind", "source": str(path), "target": f"/{path.name}"}


def replace(path: Path) -> None:
    """Give *path* another file or folder, as an editor or a build does."""
    path.rename(path.with_suffix(".old"))
    path.mkdir() if path.with_suffix(".old").is_dir() else path.touch()


def test_a_copy_that_mounts_an_earlier_file_or_folder_says_which_and_how_to_have_the_new_one(
    start: Callable[..., Copy], docker: FakeDocker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    file, dist, key = folder / "web.yml", folder / "dist", folder / "key.txt"
    dist.mkdir()
    for path in (file, key):
        path.touch()
    docker.model = mounting(web=[bound(file)], db=[bound(file), bound(dist)])
    docker.model["services"]["db"]["secrets"] = [{"source": "key"}]
    docker.model["secrets"] = {"key": {"file": str(key)}}
    project = start(name="mine", ttl=600).lease.project
    told: list[str] = []

    file.write_text("an edit that keeps the inode")
    start(name="mine", ttl=600, progress=told.append)
    assert told == []
    replace(dist)
    start(name="mine", ttl=600, progress=told.append)
    for path in (file, key):
        replace(path)
    start(name="mine", ttl=600, progress=told.append)

    said = "warning: replaced since this copy was started: {}; 'docker compose -p {} restart {}' lets its services have"
    assert [line.partition(" what is")[0] for line in told] == [
        said.format("dist", project, "db"), said.format("dist, key.txt, web.yml", project, "db web"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "state", [{"StartedAt": "2199-01-01T00:00:00Z"}, {"Status": "exited"}], ids=["started-since", "ended"]
)
def test_a_container_that_has_started_since_or_has_ended_has_no_earlier_file(
    start: Callable[..., Copy], docker: FakeDocker, folder: Path, state: dict[str, Any]
) -> None:
    file = folder / "web.yml"
    file.touch()
    docker.states = {"db": state}
    docker.model = mounting(db=[bound(file)])
    told: list[str] = []

    start(name="mine", ttl=600)
    replace(file)
    start(name="mine", ttl=600, progress=told.append)

    assert told == []


def test_changed_content_of_a_config_is_a_change_of_the_project(
    start: Callable[..., Copy], docker: FakeDocker
) -> None:  # fmt: skip
    docker.model = {**SHOP, "configs": {"own": {"content": "one"}}}
    start(name="mine", ttl=600)
    docker.model = {**SHOP, "configs": {"own": {"content": "two"}}}
    told: list[str] = []

    start(name="mine", ttl=600, progress=told.append)

    assert told == [f"warning: {lifecycle.CHANGED}"]


def test_another_value_of_a_config_s_variable_is_a_change_of_the_project(
    folder: Path, book: LeaseBook, engine: Engine, docker: FakeDocker, free_host: None
) -> None:
    del free_host
    docker.model = {**SHOP, "configs": {"own": {"environment": "KEY"}}}
    told: list[str] = []
    request = CopyRequest(name="mine", ttl=600, progress=told.append)

    for value in ("1", "1", "2"):
        lifecycle.start(Project.find(folder, environment={"KEY": value}), book, engine, request)

    assert told == [f"warning: {lifecycle.CHANGED}"]


def test_a_named_copy_of_another_form_of_the_project_is_not_taken_for_it(
    start: Callable[..., Copy], docker: FakeDocker
) -> None:
    start(name="mine", ttl=600)
    docker.model = {**SHOP, "services": {"web": {"image": "web"}}}

    with pytest.raises(UsageError, match=r"before the project's ports or networks changed, .* files \(nothing needs "):
        start(name="mine", ttl=600)


def test_a_named_copy_without_the_ports_of_another_profile_is_named_with_them_and_the_command_that_ends_it(
    start: Callable[..., Copy], docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackyard._util.advice._commands", {Action.END: "yard end {name}"})
    lease = start(name="mine", ttl=600).lease
    mail = {"image": "web", "ports": [{"target": 25, "published": "25", "protocol": "tcp"}]}
    docker.model = {**SHOP, "services": {**SHOP["services"], "mail": mail}}

    with pytest.raises(UsageError) as failed:
        start(name="mine", ttl=600)

    assert str(failed.value).endswith(
        f"profiles or files (it lacks mail 25/tcp); end the copy ('yard end {lease.id}') first, or choose another name"
    )


def test_a_copy_with_a_time_outlives_its_process_and_one_without_does_not(start: Callable[..., Copy]) -> None:
    assert start(ttl=600).lease.owner.kind == "detached"
    assert start().lease.owner == Owner.current()


def test_ports_from_variables_get_their_numbers_through_them(start: Callable[..., Copy], docker: FakeDocker) -> None:
    web = {"image": "web", "ports": [{"target": 80, "published": "8080"}]}
    template = {"image": "web", "ports": ["${WEB_PORT:-8080}:80"]}
    given: list[str] = []
    one_at_a_time = threading.Lock()

    def rendered(argv: list[str], **options: Any) -> Any:
        with one_at_a_time:
            if "config" in argv:
                given.append(options["env"].get("WEB_PORT", ""))
                port = {"target": 80, "published": given[-1] or "8080"}
                services = {"web": template if "--no-interpolate" in argv else {**web, "ports": [port]}}
                docker.model = {"services": services}
            return FakeDocker.__call__(docker, argv, **options)

    pytest.MonkeyPatch().setattr("stackyard._util.process.run", rendered)

    copy = start()

    assert [number for number in given if number] == ["9500"]
    assert copy.addresses[0].port == 9500
    assert Stack(copy).env["WEB_PORT"] == "9500"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"Status": "exited", "ExitCode": 3}, "shop did not start: service db ended with exit code 3"),
        ({"Status": "created", "Error": "no such device"}, "shop did not start: service db cannot start"),
        ({"Health": {"Status": "unhealthy", "Log": []}}, "shop did not start: service db is unhealthy"),
    ],
)
def test_a_failed_start_names_the_service_and_leaves_nothing(
    start: Callable[..., Copy], docker: FakeDocker, book: LeaseBook, state: dict[str, Any], said: str
) -> None:
    docker.states = {"db": state}
    docker.failures = ["dependency failed to start"]

    with pytest.raises(NotReadyError, match=said) as failed:
        start()

    assert "web: running" not in str(failed.value)
    assert docker.things() == []
    assert book.leases() == []


def test_a_refusal_of_compose_is_reported_in_its_last_line(start: Callable[..., Copy], docker: FakeDocker) -> None:
    docker.failures = ["time=x\nno matching manifest for linux/amd64\n"]

    with pytest.raises(NotReadyError, match="shop did not start: no matching manifest for linux/amd64"):
        start()


def test_a_copy_that_had_to_wait_for_its_turn_says_so(
    start: Callable[..., Copy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "turn", lambda *_, **__: nullcontext(2.5))

    assert start(name="mine", ttl=600).startup.told().endswith(", after 2.5 s of waiting for its turn")
    assert start(name="mine", ttl=600).startup.told() == "it was running already"


def test_a_start_past_its_deadline_is_said(start: Callable[..., Copy], monkeypatch: pytest.MonkeyPatch) -> None:
    def expired(*_: object, **__: object) -> float:
        raise CommandError(["docker", "compose", "up"], None, "")

    monkeypatch.setattr(lifecycle._Start, "_up", expired)

    with pytest.raises(NotReadyError, match="it was not up when its time was over"):
        start()


def test_a_service_that_is_not_ready_leaves_nothing(
    start: Callable[..., Copy], docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object, **__: object) -> None:
        raise NotReadyError("not ready after 1 s: web")

    monkeypatch.setattr(waiting, "wait", never)

    with pytest.raises(NotReadyError, match="shop did not start: not ready after 1 s: web"):
        start()

    assert docker.things() == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotReadyError("not ready: db ended with exit code 1"), "db ended with exit code 1"),
        (RefusedError("pausing container db: the engine refused: no"), "pausing container db: the engine refused: no"),
    ],
)
def test_a_start_that_fails_after_all_are_ready_says_at_which_step(
    start: Callable[..., Copy], docker: FakeDocker, monkeypatch: pytest.MonkeyPatch, error: StackyardError, said: str
) -> None:
    def keep(*_: object) -> None:
        raise error

    monkeypatch.setattr(snapshot, "keep", keep)

    with pytest.raises(NotReadyError) as failed:
        start(resettable=True)

    assert str(failed.value).splitlines() == [
        f"shop did not start: the state of its data could not be kept for resets: {said}", REMOVED
    ]  # fmt: skip
    assert docker.things() == []


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_pull_says_what_was_stopped_and_that_nothing_is_left(
    start: Callable[..., Copy], docker: FakeDocker, book: LeaseBook, monkeypatch: pytest.MonkeyPatch,
    ending: type[BaseException],
) -> None:  # fmt: skip
    of_images(docker, web={"image": "new:1"}, db={"image": "new:2"})
    told: list[str] = []

    async def interrupted(*_: object, **__: object) -> None:
        raise ending

    monkeypatch.setattr(process, "run_async", interrupted)

    with pytest.raises(ending):
        start(progress=told.append)

    stopped = "interrupted: pulling new:1, new:2 was stopped; nothing was started, so nothing is left to remove"
    assert told == ["pulling new:1, new:2", stopped]
    assert (docker.things(), book.leases()) == ([], [])


def test_ctrl_c_ends_every_pull_at_once(engine: Engine, tmp_path: Path) -> None:
    calls = install_docker(tmp_path, 'echo $$ >> "$0.pids"; exec sleep 60')
    model = {"services": {"web": {"image": "new:1"}, "db": {"image": "new:2"}}}
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    before, began = signal.signal(signal.SIGINT, signal.default_int_handler), time.monotonic()
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            project_images.pull(engine, model, lambda _line: None)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)

    assert time.monotonic() - began < 30
    assert len(calls.read_text().splitlines()) == 2
    pids = (tmp_path / "bin/docker.pids").read_text().split()
    assert len(pids) == 2
    assert not [pid for pid in pids if Path("/proc", pid).exists()]


def test_an_interrupted_build_says_what_was_stopped_and_that_nothing_is_left(
    start: Callable[..., Copy], docker: FakeDocker, folder: Path, book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.model = building(folder, web={})
    told: list[str] = []

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(docker, "_build", interrupted)

    with pytest.raises(KeyboardInterrupt):
        start(progress=told.append)

    stopped = "interrupted: building web was stopped; nothing was started, so nothing is left to remove"
    assert told == ["building web", stopped]
    assert (docker.things(), book.leases()) == ([], [])


def test_an_interrupt_leaves_nothing(
    start: Callable[..., Copy], docker: FakeDocker, book: LeaseBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(waiting, "wait", interrupted)

    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        start(progress=told.append)

    assert told == [f"interrupted; {REMOVED}"]
    assert docker.things() == []
    assert book.leases() == []


def test_a_stolen_port_gives_the_copy_another_place(start: Callable[..., Copy], docker: FakeDocker) -> None:
    docker.failures = ["Bind for 127.0.0.1:9500 failed: port is already allocated"]
    told: list[str] = []

    copy = start(progress=told.append)

    assert copy.addresses[0].port != 9500
    assert told == ["another program took a leased port; the copy gets another place"]
    assert len(docker.engine.containers) == 2


@pytest.mark.parametrize(
    ("failures", "said"),
    [
        (["port is already allocated"] * 5, "took a leased port 5 times: docker compose"),
        (["Pool overlaps with other one on this address space"] * 5, "took a leased subnet 5 times"),
        (["networks have overlapping IPv4", "address already in use", *["Pool overlaps with other one"] * 3],
         "took a leased subnet 4 times and a leased port 1 time"),
    ],
)  # fmt: skip
def test_what_is_stolen_again_and_again_is_named(
    start: Callable[..., Copy], docker: FakeDocker, failures: list[str], said: str
) -> None:
    docker.failures = [*failures]  # which the starts use up

    with pytest.raises(NotReadyError, match=f"did not start: other programs {said}"):
        start()

    assert docker.things() == []


def test_a_project_that_needs_what_is_not_there_is_refused_before_anything_starts(
    start: Callable[..., Copy], docker: FakeDocker, folder: Path
) -> None:
    docker.model = {"services": {"web": {"image": "web", "env_file": [{"path": f"{folder}/secret.env"}]}}}

    with pytest.raises(UsageError, match=r"services.web.env_file\[0\]: .*secret.env does not exist; create it"):
        start()

    assert docker.started == []


def test_several_missing_files_are_counted_and_have_a_line_each(
    start: Callable[..., Copy], docker: FakeDocker, folder: Path
) -> None:
    wanted = [{"path": f"{folder}/{number}.env"} for number in range(25)]
    docker.model = {"services": {"web": {"image": "web", "env_file": wanted}}}

    with pytest.raises(UsageError) as failed:
        start()

    lines = str(failed.value).splitlines()
    assert lines[0] == "25 files of the project are missing:"
    assert lines[1] == f"  services.web.env_file[0]: {folder}/0.env does not exist; create it"
    assert len(lines) == 21
    assert lines[-1] == "  and 6 more"


def test_one_copy_at_a_time_has_the_host_s_network(
    start: Callable[..., Copy], docker: FakeDocker, book: LeaseBook
) -> None:
    docker.model = {"services": {"web": {"image": "web", "network_mode": "host"}}}

    first = start(name="first")
    with pytest.raises(PoolExhaustedError, match="the host's network, and lease first"):
        start(name="second")

    assert docker.started[0]["services"]["web"]["labels"]["stackyard.exclusive"] == "host-network"
    assert [lease.id for lease in book.leases()] == [first.lease.id]
    first.down()
    assert start(name="second").lease.exclusive == ("host-network",)


def test_a_removal_takes_volumes_and_one_off_containers_along(
    start: Callable[..., Copy], docker: FakeDocker, book: LeaseBook
) -> None:
    copy = start()
    docker.engine.container("run")["labels"] = {"com.docker.compose.project": copy.lease.project}

    assert copy.down().left == []
    assert docker.things() == []
    assert book.leases() == []


def test_a_graceful_removal_asks_first_those_that_no_other_needs(
    start: Callable[..., Copy], docker: FakeDocker
) -> None:
    copy = start()
    label = {"com.docker.compose.depends_on": "db:service_healthy:true"}
    (web,) = [key for key in docker.engine.containers if key.startswith("web")]
    docker.engine.containers[web]["labels"] |= label

    told: list[str] = []

    copy.down(graceful=True, progress=told.append)

    assert told == ["waiting until web, db have ended, at most 20 s"]
    stops = [line.split("/")[3] for line in docker.engine.requests if line.endswith("/stop")]
    assert [name.partition("-")[0] for name in stops] == ["web", "db"]


def test_a_graceful_removal_names_who_had_to_be_killed_and_says_nothing_of_those_that_have_ended(
    start: Callable[..., Copy], docker: FakeDocker, engine: Engine
) -> None:
    start()
    for key, row in docker.engine.containers.items():
        row["state"] |= {"Status": "exited", "ExitCode": 0} if key.startswith("web") else {"ExitCode": 137}
        row["config"] = {"StopTimeout": 3}
    told: list[str] = []

    graceful.stop(engine, engine.containers([]), told.append)

    assert told == ["waiting until db has ended, at most 3 s", "db did not end within 3 s and was killed"]


def test_services_that_need_each_other_are_stopped_together(
    start: Callable[..., Copy], docker: FakeDocker, engine: Engine
) -> None:
    start()
    for key, row in docker.engine.containers.items():
        other = "db" if key.startswith("web") else "web"
        row["labels"]["com.docker.compose.depends_on"] = f"{other}:service_started:true"

    graceful.stop(engine, engine.containers([]))

    assert len([line for line in docker.engine.requests if line.endswith("/stop")]) == 2


def test_a_dead_owner_s_copy_goes_with_its_volumes(
    start: Callable[..., Copy], docker: FakeDocker, book: LeaseBook, engine: Engine
) -> None:
    lease = start(ttl=600).lease
    book.transact(lambda db: db.execute("UPDATE leases SET deadline=1 WHERE id=?", (lease.id,)))

    assert removal.sweep(book, engine).left == []
    assert docker.things() == []


def test_what_the_book_does_not_know_any_more_goes_with_its_volumes(
    start: Callable[..., Copy], docker: FakeDocker, book: LeaseBook, engine: Engine
) -> None:
    book.release(start().lease)

    removal.sweep(book, engine)

    assert docker.things() == []


def test_a_failed_start_that_cannot_be_removed_says_what_is_left(
    start: Callable[..., Copy], docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "PAUSE", 0)
    docker.failures = ["broken"]
    original = docker._up

    def immortal(argv: Any) -> None:
        try:
            original(argv)
        finally:
            docker.engine.immortal |= {*docker.engine.containers}

    monkeypatch.setattr(docker, "_up", immortal)

    with pytest.raises(NotReadyError, match=r"(?s)broken\n.* could not be removed: .*container web-"):
        start()


def test_a_copy_without_its_model_says_so(start: Callable[..., Copy]) -> None:
    copy = start()
    (copy.lease.directory / MODEL).unlink()

    with pytest.raises(UsageError, match=r"model.json cannot be read"):
        _ = copy.addresses


def test_the_folder_tells_projects_of_one_name_apart(tmp_path: Path, docker: FakeDocker) -> None:
    del docker
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "compose.yaml").touch()
        found.append(CopiedProject.of(Project.find(tmp_path / name, environment={})))

    assert found[0].name != found[1].name
    assert {origin.name[:5] for origin in found} == {"shop-"}


def test_any_name_of_a_project_makes_a_name_for_the_book(tmp_path: Path, docker: FakeDocker) -> None:
    docker.model = {**SHOP, "name": "Ä" * 50}
    (tmp_path / "compose.yaml").touch()
    project = Project.find(tmp_path, environment={})

    assert CopiedProject.of(project).name.startswith("project-")


# images


def building(folder: Path, **services: Any) -> dict[str, Any]:
    (folder / "Dockerfile").write_text("FROM box")
    built = {"build": {"context": str(folder), "dockerfile": "Dockerfile"}}
    return {"services": {name: {**built, **more} for name, more in services.items()}}


def test_an_image_is_built_once_and_the_copies_name_its_id(
    start: Callable[..., Copy], docker: FakeDocker, folder: Path
) -> None:
    docker.model = building(folder, web={"image": "shop:dev", "pull_policy": "missing"})
    docker.model["services"]["shell"] = {"image": "shop:dev"}

    start()
    start()

    assert docker.builds() == 1
    for model in docker.started:
        assert model["services"]["web"]["image"] == model["services"]["shell"]["image"] == docker.built()[
            0
        ]  # fmt: skip
        assert not {"build", "pull_policy"} & {*model["services"]["web"]}


def test_a_build_leaves_no_temporary_files(
    start: Callable[..., Copy], docker: FakeDocker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.model, places = building(folder, web={}), []

    def leaving(argv: list[str], **options: Any) -> Any:
        if "build" in argv:
            places.append(Path(options["env"]["TMPDIR"]))
            (places[0] / "dockerfile123").write_text("FROM box")
        return docker(argv, **options)

    monkeypatch.setattr("stackyard._util.process.run", leaving)

    start()

    assert [place.exists() for place in places] == [False]


def test_equal_services_are_built_once(start: Callable[..., Copy], docker: FakeDocker, folder: Path) -> None:
    docker.model = building(folder, web={}, worker={})

    start()

    (built,) = [call for call in docker.calls if "build" in call]
    assert built[built.index("--quiet") + 1 :] == ["web"]
    assert len({service["image"] for service in docker.started[0]["services"].values()}) == 1


def test_a_changed_file_is_a_new_build(start: Callable[..., Copy], docker: FakeDocker, folder: Path) -> None:
    docker.model = building(folder, web={})
    start()
    (folder / "app.py").write_text("print()")

    start()

    assert docker.builds() == 2


@pytest.mark.parametrize("more", [{"pull_policy": "build"}, {"build": {"context": "https://example.org/x.git"}}])
def test_what_may_have_changed_unseen_is_built_each_time(
    start: Callable[..., Copy], docker: FakeDocker, folder: Path, more: dict[str, Any]
) -> None:
    docker.model = building(folder, web=more)

    start()
    start()

    assert docker.builds() == 2


def test_an_image_that_is_gone_is_built_again(
    start: Callable[..., Copy], docker: FakeDocker, folder: Path, book: LeaseBook
) -> None:
    docker.model = building(folder, web={})
    start()
    notes = next((book.settings.state_dir / "builds").glob("*.json"))
    docker.engine.images.clear()
    docker.engine.images["db"] = {}

    start()
    assert list(json.loads(notes.read_text()).values()) == docker.built()
    notes.write_text("[")
    start()

    assert docker.builds() == 3


def test_a_failed_build_is_reported_with_its_last_lines(
    start: Callable[..., Copy], docker: FakeDocker, folder: Path, book: LeaseBook
) -> None:
    docker.model = building(folder, web={})
    docker.failures = ["step 1\n\nno such file: app.py\n"]

    with pytest.raises(ImageError, match=r"web: the build failed: step 1\s+no such file: app.py"):
        start()

    assert book.leases() == []


def test_no_engine_is_asked_for_the_project_s_model(start: Callable[..., Copy], docker: FakeDocker) -> None:
    start()

    rendered = [words for words in docker.calls if "config" in words]
    assert rendered
    assert all(words[1:4] == ["--host", "unix:///nowhere", "compose"] for words in rendered)
