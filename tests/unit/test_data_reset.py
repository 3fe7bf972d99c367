"""What a reset asks for and in which order, with an engine that is made up here."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from docker.errors import APIError

from stackyard.docker import contents, inside, inspection
from stackyard.docker.inspection import Seen
from stackyard.docker.ownership import HOST_LABEL, LEASE_LABEL
from stackyard.docker.records import PROJECT_LABEL, SERVICE_LABEL, Resource
from stackyard.errors import LeaseNotFoundError, NotReadyError, RefusedError, StackyardError, UsageError
from stackyard.project.hints import Hint
from stackyard.stacks import project_images, readiness
from stackyard.stacks.data import keeping, private, resetting, scripts
from stackyard.stacks.data.records import Folder, Kept, Note

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = {HOST_LABEL: "here", LEASE_LABEL: "l1", PROJECT_LABEL: "p"}
MODEL: dict[str, Any] = {
    "services": {
        "db": {"image": "postgres"},
        "cache": {"image": "redis"},
        "files": {"image": "files", "configs": [{"source": "rules"}]},
        "reader": {"image": "reader", "depends_on": {"files": {"condition": "service_started"}}},
        "web": {"image": "web"},
    }
}


class Made:
    """An engine: containers by name, volumes by name, and every request that changes something."""

    def __init__(self) -> None:
        self.containers = {name: self._container(name) for name in MODEL["services"]}
        self.volumes = {"p_uploads": {"Name": "p_uploads", "Driver": "local", "Labels": OWN, "Options": None}}
        self.asked: list[str] = []
        self.codes: dict[str, int] = {}
        self.files: dict[str, bytes] = {"/rows/.": b"rows", "/rules": b"rules"}

    @staticmethod
    def _container(name: str) -> dict[str, Any]:
        mounts = []
        if name in {"files", "reader"}:
            mounts = [{"Type": "volume", "Name": "p_uploads", "Destination": "/rows", "RW": name == "files"}]
        return {
            "Id": f"{name:0<64}", "Name": f"/{name}", "Config": {"Labels": {**OWN, SERVICE_LABEL: name}},
            "HostConfig": {"NetworkMode": "p"}, "NetworkSettings": {"Networks": {}}, "Mounts": mounts,
            "State": {"Status": "running"},
        }  # fmt: skip

    def everything(self, _labels: object) -> list[Resource]:
        volumes = [Resource(kind="volume", id=name, name=name, labels=OWN) for name in self.volumes]
        return [*self.containers_of(), *volumes]

    def containers_of(self, _labels: object = ()) -> list[Resource]:
        return [
            Resource(kind="container", id=str(one["Id"]), name=name, labels=OWN)
            for name, one in self.containers.items()
        ]

    def state(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(status=self.containers[name]["State"]["Status"])

    def start(self, name: str) -> None:
        self.asked.append(f"start {name}")
        self.containers[name]["State"]["Status"] = "running"

    def remove(self, item: Resource) -> None:
        self.asked.append(f"remove {item.name}")
        (self.containers if item.kind == "container" else self.volumes).pop(item.name)

    def create_volume(self, plan: Any) -> None:
        self.asked.append(f"create {plan.name}")
        self.volumes[plan.name] = {"Name": plan.name, "Labels": plan.labels}

    def create_container(self, plan: Any) -> str:
        self.asked.append(f"create {plan.name}")
        self.containers[plan.name] = self._container(plan.name)
        return str(plan.name)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    engine = Made()

    def save(_engine: object, _container: str, path: str, file: Path) -> None:
        file.write_bytes(engine.files[path])

    def restore(_engine: object, container: str, path: str, file: Path) -> None:
        engine.asked.append(f"{file.read_bytes().decode()} into {container}:{path}")

    def output(_engine: object, container: str, *words: str, **_: object) -> tuple[int, str]:
        engine.asked.append(f"ask {container} {words[-1]}")
        return engine.codes.get(container, 0), "noise\nit refuses\n"

    class Paused:
        def __init__(self, _engine: object, container: str) -> None:
            engine.asked.append(f"pause {container}")

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            engine.asked.append("go on")

    async def ready(*_: Any, **__: Any) -> None: ...

    monkeypatch.setattr(contents, "inspected", lambda _, identity: next(
        one for one in engine.containers.values() if one["Id"] == identity
    ))  # fmt: skip
    monkeypatch.setattr(contents, "volume", lambda _, name: engine.volumes.get(name))
    monkeypatch.setattr(contents, "save", save)
    monkeypatch.setattr(contents, "restore", restore)
    monkeypatch.setattr(contents, "paused", Paused)
    monkeypatch.setattr(inside, "output", output)
    monkeypatch.setattr(inspection, "seen", lambda *_: [
        Seen(id=str(one["Id"]), name=name, service=name, image="", status=one["State"]["Status"])
        for name, one in engine.containers.items()
    ])  # fmt: skip
    monkeypatch.setattr(project_images, "facts", lambda *_: {})
    monkeypatch.setattr(readiness, "wait", ready)
    monkeypatch.setattr("stackyard.stacks.data.resetting.Asking", lambda found, _: found)
    return engine


@pytest.fixture
def copy(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    lease = SimpleNamespace(id="l1", title="mine (l1)", project="p", directory=tmp_path)
    holdings = SimpleNamespace(
        containers=lambda _: made.containers_of(), everything=lambda _: made.everything(()),
        holds=lambda labels: labels.get(LEASE_LABEL) == "l1",
    )  # fmt: skip
    for module in (keeping, resetting):
        monkeypatch.setattr(module, "Holdings", SimpleNamespace(of=lambda *_: holdings))
    return SimpleNamespace(lease=lease, engine=made, model=MODEL, book=SimpleNamespace(host="here"))


HINTS = {"web": Hint(kind="http", value="/healthz")}


def test_a_reset_does_only_what_each_service_needs(copy: Any, made: Made) -> None:
    keeping.keep(copy, HINTS, 5.0)
    assert made.asked == ["ask db 5432", "ask cache 6379", "pause files", "pause reader", "go on", "go on"]
    made.asked.clear()

    done = resetting.reset(copy, (), 5.0)

    assert [(one.service, one.driver) for one in done.services] == [
        ("db", "postgresql"), ("cache", "redis"), ("files", "volumes"), ("reader", "volumes"), ("web", "none"),
    ]  # fmt: skip
    assert [word for word in made.asked if not word.startswith("ask")] == [
        "remove files", "remove reader", "remove p_uploads", "create p_uploads", "create files",
        "rows into files:/rows", "rules into files:/", "create reader", "start files", "start reader",
    ]  # fmt: skip
    assert {word for word in made.asked if word.startswith("ask")} == {"ask db 5432", "ask cache 6379"}
    assert done.to_json()["services"][0]["driver"] == "postgresql"


def test_one_service_takes_those_along_that_share_its_volume(copy: Any, made: Made) -> None:
    keeping.keep(copy, HINTS, 5.0)
    made.asked.clear()

    done = resetting.reset(copy, ["reader"], 5.0)

    assert [one.service for one in done.services] == ["files", "reader"]
    assert not any(word.startswith("ask") for word in made.asked)


def test_what_is_kept_is_read_back_as_it_was_written(copy: Any) -> None:
    keeping.keep(copy, HINTS, 5.0)

    note = Note.read(copy.lease)

    assert note.hints == HINTS
    assert {one.service: one.driver for one in note.containers}["files"] == "volumes"
    assert note.volumes["p_uploads"]["Driver"] == "local"


def test_the_next_reset_makes_what_a_killed_one_removed(copy: Any, made: Made) -> None:
    keeping.keep(copy, HINTS, 5.0)
    del made.containers["files"], made.volumes["p_uploads"]

    resetting.reset(copy, ["files"], 5.0)

    assert {"files", "reader"} <= made.containers.keys()
    assert "p_uploads" in made.volumes


def test_a_database_that_has_ended_is_started_before_it_is_asked(copy: Any, made: Made) -> None:
    keeping.keep(copy, HINTS, 5.0)
    made.containers["db"]["State"]["Status"] = "exited"
    made.asked.clear()

    resetting.reset(copy, ["db"], 5.0)

    assert made.asked == ["start db", "ask db 5432"]


def test_a_service_that_ended_with_its_connection_is_started_again(
    copy: Any, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ready(*_: Any, **__: Any) -> None:
        if made.containers["web"]["State"]["Status"] != "running":
            raise NotReadyError("web ended")

    keeping.keep(copy, HINTS, 5.0)
    monkeypatch.setattr(readiness, "wait", ready)
    made.containers["web"]["State"]["Status"] = "exited"

    resetting.reset(copy, ["cache"], 5.0)

    assert made.asked[-1] == "start web"


def test_a_service_that_is_not_ready_after_a_reset_is_a_failure(copy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any, **__: Any) -> None:
        raise NotReadyError("web answers nothing")

    keeping.keep(copy, HINTS, 5.0)
    monkeypatch.setattr(readiness, "wait", never)

    with pytest.raises(NotReadyError, match="web answers nothing"):
        resetting.reset(copy, ["cache"], 5.0)


def test_a_database_that_refuses_is_named(copy: Any, made: Made) -> None:
    keeping.keep(copy, HINTS, 5.0)
    made.codes["db"] = 1

    with pytest.raises(StackyardError, match=r"^service db was not reset: it refuses$"):
        resetting.reset(copy, (), 5.0)


def test_a_database_that_nothing_can_keep_ends_the_start(copy: Any, made: Made) -> None:
    made.codes["cache"] = 3

    with pytest.raises(StackyardError, match=r"^service cache: its data cannot be kept .*: it refuses; it has no"):
        keeping.keep(copy, HINTS, 5.0)


def test_a_wrong_service_and_a_copy_without_state_are_refused(copy: Any) -> None:
    with pytest.raises(UsageError, match=r"mine .l1. keeps no state to go back to; write 'reset = true'"):
        resetting.reset(copy, (), 5.0)
    keeping.keep(copy, HINTS, 5.0)
    with pytest.raises(UsageError, match="no data of a service 'dbb' is kept; known: cache, db, files, reader, web"):
        resetting.reset(copy, ["dbb"], 5.0)


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", '{"containers": [{}], "volumes": {}, "hints": {}}'])
def test_a_damaged_note_is_one_line_and_changes_nothing(copy: Any, made: Made, text: str) -> None:
    keeping.keep(copy, {}, 5)
    (copy.lease.directory / "data.json").write_text(text)
    made.asked.clear()

    with pytest.raises(UsageError, match=r"data.json cannot be read; end the copy and start it again$"):
        resetting.reset(copy, (), 5)

    assert made.asked == []


def test_an_archive_that_is_gone_is_noticed_before_anything_is_removed(copy: Any, made: Made) -> None:
    keeping.keep(copy, {}, 5)
    (copy.lease.directory / "data-0.tar").unlink()

    made.asked.clear()
    with pytest.raises(UsageError, match=r"data-0.tar with its kept data is gone, and nothing was reset; end the copy"):
        resetting.reset(copy, (), 5)

    assert made.asked == []


def test_an_external_volume_that_the_engine_named_is_never_written_to(copy: Any, made: Made) -> None:
    copy.model = {**MODEL, "volumes": {"uploads": {"name": "p_uploads", "external": True}}}
    made.volumes["p_uploads"]["Labels"] = {keeping.ANONYMOUS: ""}
    keeping.keep(copy, {}, 5)
    made.asked.clear()

    done = resetting.reset(copy, (), 5)

    assert {one.service: one.driver for one in done.services}["files"] == "none"
    assert "p_uploads" in made.volumes
    assert not [line for line in made.asked if " into " in line or line.startswith(("remove", "create"))]


def test_a_copy_that_another_command_has_ended_is_not_reset(
    copy: Any, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping.keep(copy, HINTS, 5.0)
    made.asked.clear()
    monkeypatch.setattr("stackyard.leases.stack_lock.alone", lambda _lease: contextlib.nullcontext(enter_result=False))

    with pytest.raises(LeaseNotFoundError):
        resetting.reset(copy, (), 5.0)
    assert made.asked == []


def test_a_reset_removes_nothing_that_is_not_of_the_lease_whatever_its_name(
    copy: Any, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping.keep(copy, HINTS, 5.0)
    made.asked.clear()
    strangers = SimpleNamespace(of=lambda *_: SimpleNamespace(everything=lambda _: []))
    monkeypatch.setattr(resetting, "Holdings", strangers)

    resetting.reset(copy, (), 5.0)
    assert [line for line in made.asked if line.startswith("remove")] == []


def test_nothing_is_kept_of_a_container_that_is_not_of_the_lease(
    copy: Any, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [item for item in made.containers_of() if item.name != "web"]
    holdings = SimpleNamespace(containers=lambda _: own, holds=lambda _labels: True)
    monkeypatch.setattr(keeping, "Holdings", SimpleNamespace(of=lambda *_: holdings))

    keeping.keep(copy, HINTS, 5.0)
    assert sorted(one.service for one in Note.read(copy.lease).containers) == ["cache", "db", "files", "reader"]


def test_a_volume_without_the_labels_of_the_lease_is_not_the_copy_s_own(copy: Any, made: Made) -> None:
    for volume in made.volumes.values():
        volume["Labels"] = {}
    keeping.keep(copy, HINTS, 5.0)

    note = Note.read(copy.lease)
    folders = [folder for one in note.containers for folder in one.folders]
    assert folders
    assert [folder for folder in folders if folder.own] == []
    assert note.volumes == {}


def test_only_volumes_of_the_copy_alone_are_made_again() -> None:
    folders = (Folder(path="/a", volume="mine", own=True), Folder(path="/b", volume="shared", own=False))

    assert resetting._own([Kept(service="db", name="db-1", driver="volumes", why="", folders=folders)]) == {"mine"}


def test_a_test_s_own_database_is_dropped_at_the_end_of_its_block(copy: Any, made: Made) -> None:
    keeping.keep(copy, HINTS, 5.0)
    made.asked.clear()

    with private.database(copy, "db", "postgresql://app:secret@127.0.0.1:9500/app") as url:
        name = url.rpartition("/")[2]
        assert url == f"postgresql://app:secret@127.0.0.1:9500/{name}"
        assert made.asked == [f"ask db {name}"]
    assert made.asked == [f"ask db {name}"] * 2

    made.codes["db"] = 1
    with pytest.raises(StackyardError, match=r"^service db: it refuses$"):
        private.database(copy, "db", "postgresql://h/app").__enter__()
    with pytest.raises(UsageError, match=r"service 'cache' is no PostgreSQL that makes databases"):
        private.database(copy, "cache", "redis://h").__enter__()


@pytest.mark.parametrize(("times", "passes"), [(0, True), (3, True), (100, False)])
def test_a_container_that_cannot_be_frozen_in_this_instant_is_tried_again(times: int, passes: bool) -> None:
    answers = ["OCI runtime pause failed: unable to freeze: unknown"] * times
    engine = SimpleNamespace(api=Refusing(answers))
    rests: list[float] = []

    with contextlib.nullcontext() if passes else pytest.raises(RefusedError, match="unable to freeze"):
        contents.pause(engine, "files", sleep=rests.append)  # type: ignore[arg-type]

    assert len(rests) == min(times, len(contents.RESTS))
    assert 5 < sum(contents.RESTS) < 10


def test_another_reason_not_to_pause_is_reported_at_once() -> None:
    engine = SimpleNamespace(api=Refusing(["container files is not running"]))

    with pytest.raises(RefusedError, match="is not running"):
        contents.pause(engine, "files", sleep=lambda _: pytest.fail("waited"))  # type: ignore[arg-type]


@pytest.mark.parametrize("script", [scripts.POSTGRES_KEEP, scripts.POSTGRES_RESET])
def test_a_database_is_kept_or_reset_by_one_session_at_a_time(script: str) -> None:
    first = script.partition("ask -d stackyard_state <<'SQL'")[2].splitlines()[1]

    assert first == "SELECT pg_advisory_lock(hashtext('stackyard'));"


class Refusing:
    """An engine that refuses to pause with each of some texts, and then does it."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def pause(self, _container: str) -> None:
        if self.texts:
            raise APIError(self.texts.pop(0))
