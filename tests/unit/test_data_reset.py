"""What a reset asks for and in which order, with a fake engine."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from docker.errors import APIError

from stackyard.docker import container_commands, container_files, inspection, lease_engine
from stackyard.docker.endpoint import Endpoint
from stackyard.docker.inspection import Seen
from stackyard.docker.ownership import HOST_LABEL
from stackyard.docker.records import LEASE_LABEL, PROJECT_LABEL, SERVICE_LABEL, Resource
from stackyard.errors import LeaseNotFoundError, NotReadyError, RefusedError, StackyardError, UsageError
from stackyard.probes.readiness_rules import SHELL, ImageFacts
from stackyard.project.readiness_hints import Hint
from stackyard.stacks import project_images
from stackyard.stacks.data import private_databases, resetting, scripts, snapshot
from stackyard.stacks.data.ready_again import Prover
from stackyard.stacks.data.records import Folder, Kept, Note
from stackyard.stacks.readiness import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

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

    endpoint = Endpoint(url="unix:///made.sock")

    def __init__(self) -> None:
        self.containers = {name: self._container(name) for name in MODEL["services"]}
        self.volumes = {"p_uploads": {"Name": "p_uploads", "Driver": "local", "Labels": OWN, "Options": None}}
        self.foreign: dict[str, dict[str, Any]] = {}  # containers of other people, by name
        self.asked: list[str] = []
        self.made_by_others: set[str] = set()  # volumes that somebody makes as soon as they are gone
        self.codes: dict[str, int] = {}
        self.files: dict[str, bytes] = {"/rows/.": b"rows", "/rules": b"rules"}
        self.known: dict[str, ImageFacts] = {}
        self.left_out: dict[str, list[str]] = {}  # of each archive, by the path that it is of
        self.clients: list[tuple[str, ...]] = []  # container, script, and what it is given
        self.waits: list[tuple[set[str], float]] = []  # services and seconds
        self.plans: list[Any] = []

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
            Resource(kind="container", id=str(one["Id"]), name=name, labels=one["Config"]["Labels"])
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
        if item.name in self.made_by_others:
            self.volumes[item.name] = {"Name": item.name, "Labels": None}

    def create_volume(self, plan: Any) -> None:
        self.asked.append(f"create {plan.name}")
        self.plans.append(plan)
        self.volumes.setdefault(plan.name, {"Name": plan.name, "Labels": plan.labels})

    def create_container(self, plan: Any) -> str:
        self.asked.append(f"create {plan.name}")
        self.plans.append(plan)
        self.containers[plan.name] = self._container(plan.name)
        return str(plan.name)

    # what takes an engine as its first argument; only this one may be given

    def save(self, asked: object, container: str, path: str, file: Path, *, without: Collection[str] = ()) -> str:
        assert (asked, container in self.containers) == (self, True)
        self.left_out[path] = [*without]
        if path not in self.files:
            raise RefusedError(f"no such path: {path}")
        file.write_bytes(self.files[path])
        return container_files.checksum(file)

    def restore(self, asked: object, container: str, path: str, file: Path) -> None:
        assert asked is self
        self.asked.append(f"{file.read_bytes().decode()} into {container}:{path}")

    def output(self, asked: object, container: str, *words: str, deadline: float) -> tuple[int, str]:
        assert (asked, deadline) == (self, snapshot.LONGEST)
        self.asked.append(f"ask {container} {words[-1]}")
        self.clients.append((container, *words[len(SHELL) :]))
        return self.codes.get(container, 0), "noise\nit refuses\n"

    @contextlib.contextmanager
    def paused(self, asked: object, container: str) -> Iterator[None]:
        assert asked is self
        self.asked.append(f"pause {container}")
        yield
        self.asked.append("go on")

    async def ready(self, asked: object, labels: object, model: Any, *, deadline: float, **_: Any) -> None:
        assert (asked, labels) == (self, [f"{PROJECT_LABEL}=p"])
        self.waits.append(({*model["services"]}, deadline))

    def inspected(self, asked: object, identity: str) -> dict[str, Any]:
        assert asked is self
        for name, one in {**self.containers, **self.foreign}.items():
            if identity in {name, one["Id"]}:
                return one
        raise RefusedError(f"no such container: {identity}")

    def users(self, asked: object, volume: str) -> dict[str, str]:
        assert asked is self
        return {
            str(one["Id"]): name for name, one in {**self.containers, **self.foreign}.items()
            if volume in {mount.get("Name") for mount in one["Mounts"]}
        }  # fmt: skip

    def rename(self, asked: object, identity: str, name: str) -> None:
        assert asked is self
        self.asked.append(f"rename to {name}")
        (old,) = (name for name, one in self.containers.items() if one["Id"] == identity)
        self.containers[name] = self.containers.pop(old)

    def seen(self, asked: object, labels: object) -> list[Seen]:
        assert (asked, labels) == (self, [f"{PROJECT_LABEL}=p"])
        return [
            Seen(id=str(one["Id"]), name=name, service=name, image="", status=one["State"]["Status"])
            for name, one in self.containers.items()
        ]

    def volume(self, asked: object, name: str) -> dict[str, Any] | None:
        assert asked is self
        return self.volumes.get(name)

    def facts(self, asked: object, model: Any, services: Collection[str]) -> dict[str, ImageFacts]:
        assert asked is self
        return {name: found for name, found in self.known.items() if name in model["services"] and name in services}

    def asking(self, asked: object, lease: Any) -> Made:
        assert (asked, lease.id) == (self, "l1")
        return self


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    engine = Made()

    monkeypatch.setattr(container_files, "inspected", engine.inspected)
    monkeypatch.setattr(container_files, "volume", engine.volume)
    monkeypatch.setattr(container_files, "users", engine.users)
    monkeypatch.setattr(container_files, "rename", engine.rename)
    monkeypatch.setattr(container_files, "save", engine.save)
    monkeypatch.setattr(container_files, "restore", engine.restore)
    monkeypatch.setattr(container_files, "paused", engine.paused)
    monkeypatch.setattr(container_commands, "output", engine.output)
    monkeypatch.setattr(inspection, "seen", engine.seen)
    monkeypatch.setattr(project_images, "facts", engine.facts)
    monkeypatch.setattr(waiting, "wait", engine.ready)
    monkeypatch.setattr("stackyard.stacks.data.resetting.Asking", engine.asking)
    return engine


@pytest.fixture
def copy(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    lease = SimpleNamespace(id="l1", title="mine (l1)", project="p", directory=tmp_path)
    holdings = SimpleNamespace(
        containers=lambda asked: made.containers_of() if asked is made else [],
        everything=lambda asked: made.everything(()) if asked is made else [],
        holds=lambda labels: labels.get(LEASE_LABEL) == "l1",
    )  # fmt: skip

    def of(host: str, asked: object) -> SimpleNamespace:
        assert (host, asked) == ("here", lease)
        return holdings

    for module in (snapshot, resetting, private_databases):
        monkeypatch.setattr(module, "Holdings", SimpleNamespace(of=of))
    return SimpleNamespace(lease=lease, engine=made, model=MODEL, book=SimpleNamespace(host="here"))


SHARES = "it shares a volume or a namespace with a service that is made again"
HINTS = {"web": Hint(kind="http", value="/healthz")}


def test_a_reset_does_only_what_each_service_needs(copy: Any, made: Made) -> None:
    snapshot.keep(copy, HINTS, 5.0)
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


def test_a_copy_on_another_engine_is_not_made_again_on_this_one(copy: Any, made: Made) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    (copy.lease.directory / lease_engine.NOTE).write_text("unix:///other.sock")
    made.asked.clear()

    with pytest.raises(UsageError, match=r"stack mine .l1. is on another engine, unix:///other.sock, and this command"):
        resetting.reset(copy, (), 5.0)

    assert made.asked == []


def test_one_service_takes_those_along_that_share_its_volume(copy: Any, made: Made) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    made.asked.clear()

    done = resetting.reset(copy, ["reader"], 5.0)

    assert [one.service for one in done.services] == ["files", "reader"]
    assert not any(word.startswith("ask") for word in made.asked)


def test_what_is_kept_is_read_back_as_it_was_written(copy: Any) -> None:
    snapshot.keep(copy, HINTS, 5.0)

    note = Note.read(copy.lease)

    assert note.hints == HINTS
    assert {one.service: one.driver for one in note.containers}["files"] == "volumes"
    assert note.volumes["p_uploads"]["Driver"] == "local"


def test_other_mounts_inside_a_volume_are_not_kept_with_it(copy: Any, made: Made) -> None:
    for kind, path in (("bind", "/rows/src"), ("volume", "/rows/a/theirs"), ("bind", "/rowsome"), ("bind", "/rules")):
        made.containers["files"]["Mounts"].append({"Type": kind, "Name": "theirs", "Destination": path, "RW": True})

    snapshot.keep(copy, HINTS, 5.0)

    assert made.left_out == {"/rows/.": ["a/theirs", "src"]}


@pytest.mark.parametrize(
    ("driver", "options"),
    [("local", {"type": "none", "o": "bind", "device": "/home/me/src"}), ("vieux/sshfs", {"sshcmd": "me@nas:/src"})],
)  # fmt: skip
def test_a_volume_whose_content_is_elsewhere_is_neither_kept_nor_made_again(
    copy: Any, made: Made, driver: str, options: dict[str, str]
) -> None:
    made.volumes["p_uploads"] |= {"Driver": driver, "Options": options}
    snapshot.keep(copy, HINTS, 5.0)
    made.asked.clear()

    done = resetting.reset(copy, (), 5.0)

    assert {one.service: one.driver for one in done.services}["files"] == "none"
    assert not [word for word in made.asked if word.startswith(("remove", "create"))]


def test_a_volume_that_was_asked_for_without_a_name_is_the_copy_s(copy: Any, made: Made) -> None:
    mounted(made, "web", "d1ce")
    (path,) = (mount["Destination"] for mount in made.containers["web"]["Mounts"])
    made.volumes["d1ce"]["Labels"] = None
    assert kept(copy, "web").driver == "none"

    made.containers["web"]["HostConfig"]["Mounts"] = [{"Type": "volume", "Target": path}]  # the engine labels it not
    (folder,) = kept(copy, "web").folders

    assert (folder.own, folder.anonymous, kept(copy, "web").driver) == (True, True, "volumes")


def test_a_part_of_a_volume_is_not_taken_for_the_whole(copy: Any, made: Made) -> None:
    part = {"Type": "volume", "Target": "/rows", "VolumeOptions": {"Subpath": "a"}}
    made.containers["files"]["HostConfig"]["Mounts"] = [{"Type": "bind", "Target": "/x"}, part]

    with pytest.raises(
        StackyardError, match=r"^service files: .* kept for a reset: /rows is a part of volume p_upload"
    ):
        snapshot.keep(copy, HINTS, 5.0)


def test_a_volume_that_is_filled_again_gets_nothing_from_the_image(copy: Any, made: Made) -> None:
    for name in ("files", "reader"):
        made.containers[name]["HostConfig"]["Binds"] = ["p_uploads:/rows", "theirs:/theirs"]
    snapshot.keep(copy, HINTS, 5.0)

    resetting.reset(copy, (), 5.0)

    binds = {plan.service: plan.config["HostConfig"]["Binds"] for plan in made.plans if hasattr(plan, "config")}
    assert binds == {name: ["p_uploads:/rows:nocopy", "theirs:/theirs"] for name in ("files", "reader")}


def test_the_next_reset_makes_what_a_killed_one_removed(copy: Any, made: Made) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    del made.containers["files"], made.volumes["p_uploads"]

    resetting.reset(copy, ["files"], 5.0)

    assert {"files", "reader"} <= made.containers.keys()
    assert "p_uploads" in made.volumes


@pytest.mark.parametrize("labels", [None, {}, {HOST_LABEL: "here", LEASE_LABEL: "l2"}])
def test_a_volume_that_somebody_else_made_is_not_filled(copy: Any, made: Made, labels: dict[str, str] | None) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    del made.containers["files"], made.containers["reader"]  # by a reset that was killed
    made.volumes["p_uploads"] = {"Name": "p_uploads", "Labels": labels}
    made.asked.clear()

    with pytest.raises(UsageError, match=r"volume p_uploads .* nothing was reset; remove it .'docker volume rm p_up"):
        resetting.reset(copy, (), 5.0)

    assert made.asked == []


def test_a_volume_that_somebody_makes_during_a_reset_is_not_filled(copy: Any, made: Made) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    made.made_by_others = {"p_uploads"}

    with pytest.raises(UsageError, match=r"volume p_uploads .*, and no container was made again; remove it"):
        resetting.reset(copy, ["files"], 5.0)

    assert made.asked[-1] == "create p_uploads"
    assert not {"files", "reader"} & made.containers.keys()


def test_a_container_that_keeps_a_volume_from_its_removal_is_named_before_anything_is_removed(
    copy: Any, made: Made
) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    made.foreign = {name: {**made._container("files"), "Id": name} for name in ("theirs", "also")}
    made.asked.clear()

    with pytest.raises(
        UsageError,
        match=r"container also, theirs uses volume p_uploads, .*, and nothing was reset; .*'docker rm -f also theirs'",
    ):
        resetting.reset(copy, (), 5.0)

    assert made.asked == []


def renamed(made: Made, service: str) -> None:
    made.containers[f"{service}-old"] = made.containers.pop(service)


def test_containers_that_somebody_has_renamed_are_found_and_get_their_names_back(copy: Any, made: Made) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    for service in ("files", "web"):
        renamed(made, service)

    resetting.reset(copy, (), 5.0)

    assert {"rename to web", "rename to files", "create files", "start files"} <= {*made.asked}
    assert sorted(made.containers) == sorted(MODEL["services"])


@pytest.mark.parametrize("service", ["files", "web"])
def test_a_container_that_has_the_name_of_one_of_the_copy_s_is_named_before_anything_is_removed(
    copy: Any, made: Made, service: str
) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    renamed(made, service)
    made.foreign[service] = {"Id": "theirs", "Mounts": []}
    made.asked.clear()

    with pytest.raises(UsageError, match=rf"container {service} has the name .*; remove it .'docker rm -f {service}'"):
        resetting.reset(copy, (), 5.0)

    assert made.asked == []


def test_a_database_that_has_ended_is_started_before_it_is_asked(copy: Any, made: Made) -> None:
    snapshot.keep(copy, HINTS, 5.0)
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

    snapshot.keep(copy, HINTS, 5.0)
    monkeypatch.setattr(waiting, "wait", ready)
    made.containers["web"]["State"]["Status"] = "exited"

    resetting.reset(copy, ["cache"], 5.0)

    assert made.asked[-1] == "start web"


def test_a_service_that_is_not_ready_after_a_reset_is_a_failure(copy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any, **__: Any) -> None:
        raise NotReadyError("web answers nothing")

    snapshot.keep(copy, HINTS, 5.0)
    monkeypatch.setattr(waiting, "wait", never)

    with pytest.raises(NotReadyError, match="web answers nothing"):
        resetting.reset(copy, ["cache"], 5.0)


def test_a_database_that_refuses_is_named(copy: Any, made: Made) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    made.codes["db"] = 1

    with pytest.raises(StackyardError, match=r"^service db was not reset: it refuses$"):
        resetting.reset(copy, (), 5.0)


def test_a_database_that_nothing_can_keep_ends_the_start(copy: Any, made: Made) -> None:
    made.codes["cache"] = 3

    with pytest.raises(StackyardError, match=r"^service cache: its data cannot be kept .*: it refuses; it has no"):
        snapshot.keep(copy, HINTS, 5.0)


def test_a_wrong_service_and_a_copy_without_state_are_refused(copy: Any) -> None:
    with pytest.raises(UsageError, match=r"mine .l1. keeps no state to go back to; write 'reset = true'"):
        resetting.reset(copy, (), 5.0)
    snapshot.keep(copy, HINTS, 5.0)
    with pytest.raises(UsageError, match="the copy has no service 'dbb'; its services: cache, db, files, reader, web"):
        resetting.reset(copy, ["dbb"], 5.0)


@pytest.mark.parametrize(("old", "new"), [("p_uploads", "q_uploads"), ('"runs": true', '"runs": []'), ("}}", "}}x")])
def test_a_note_in_which_anything_has_changed_is_not_followed(copy: Any, made: Made, old: str, new: str) -> None:
    snapshot.keep(copy, {}, 5)
    note = copy.lease.directory / "data.json"
    assert old in note.read_text()
    note.write_text(note.read_text().replace(old, new))
    made.asked.clear()

    with pytest.raises(UsageError, match=r"data.json cannot be read; end the copy .* and start it again$"):
        resetting.reset(copy, (), 5)

    assert made.asked == []


@pytest.mark.parametrize("gone", ["web", "cache"])
def test_a_container_that_cannot_be_made_again_is_missed_before_anything_is_removed(
    copy: Any, made: Made, gone: str
) -> None:
    snapshot.keep(copy, {}, 5)
    del made.containers[gone]
    made.asked.clear()

    with pytest.raises(UsageError, match=rf"mine .l1.: the container of {gone} is gone, and nothing was reset; end"):
        resetting.reset(copy, (), 5)

    assert made.asked == []


def test_a_reset_of_one_service_makes_what_a_killed_one_removed_of_another(copy: Any, made: Made) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    del made.containers["files"]

    done = resetting.reset(copy, ["cache"], 5.0)

    assert [one.service for one in done.services] == ["cache", "files", "reader"]
    assert "files" in made.containers


def test_paused_containers_go_on_before_they_are_asked(copy: Any, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpause(asked: object, name: str) -> None:
        assert asked is made
        made.asked.append(f"unpause {name}")
        made.containers[name]["State"]["Status"] = "running"

    snapshot.keep(copy, HINTS, 5.0)
    monkeypatch.setattr(container_files, "unpause", unpause)
    for name in ("cache", "web"):
        made.containers[name]["State"]["Status"] = "paused"
    made.asked.clear()

    resetting.reset(copy, ["cache"], 5.0)

    assert made.asked == ["unpause cache", "unpause web", "ask cache 6379"]


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", '{"containers": [{}], "volumes": {}, "hints": {}}'])
def test_a_damaged_note_is_one_line_and_changes_nothing(copy: Any, made: Made, text: str) -> None:
    snapshot.keep(copy, {}, 5)
    (copy.lease.directory / "data.json").write_text(text)
    made.asked.clear()

    with pytest.raises(UsageError, match=r"data.json cannot be read; end the copy .* and start it again$"):
        resetting.reset(copy, (), 5)

    assert made.asked == []


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.rename(path.with_suffix(".old")))


@pytest.mark.parametrize(
    "damage",
    [Path.unlink, lambda path: path.write_bytes(b"row"), lambda path: path.write_bytes(b"rowz"), link_to_itself],
    ids=["gone", "cut short", "changed", "a link"],
)
def test_a_damaged_archive_is_noticed_before_anything_is_removed(
    copy: Any, made: Made, damage: Callable[[Path], object]
) -> None:
    snapshot.keep(copy, {}, 5)
    damage(copy.lease.directory / "data-0.tar")

    made.asked.clear()
    with pytest.raises(UsageError, match=r"data-0.tar with its kept data is gone or damaged, and nothing was reset; "):
        resetting.reset(copy, (), 5)

    assert made.asked == []


def test_an_external_volume_that_the_engine_named_is_never_written_to(copy: Any, made: Made) -> None:
    copy.model = {**MODEL, "volumes": {"uploads": {"name": "p_uploads", "external": True}}}
    made.volumes["p_uploads"]["Labels"] = {snapshot.ANONYMOUS: ""}
    snapshot.keep(copy, {}, 5)
    made.asked.clear()

    done = resetting.reset(copy, (), 5)

    assert {one.service: one.driver for one in done.services}["files"] == "none"
    assert "p_uploads" in made.volumes
    assert not [line for line in made.asked if " into " in line or line.startswith(("remove", "create"))]


def test_a_copy_that_another_command_has_ended_is_not_reset(
    copy: Any, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    made.asked.clear()
    monkeypatch.setattr("stackyard.leases.stack_lock.alone", lambda _lease: contextlib.nullcontext(enter_result=False))

    with pytest.raises(LeaseNotFoundError):
        resetting.reset(copy, (), 5.0)
    assert made.asked == []


def test_a_reset_removes_nothing_that_is_not_of_the_lease_whatever_its_name(
    copy: Any, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    made.asked.clear()
    strangers = SimpleNamespace(of=lambda *_: SimpleNamespace(
        everything=lambda _: [], containers=made.containers_of, holds=lambda _labels: True,
    ))  # fmt: skip
    monkeypatch.setattr(resetting, "Holdings", strangers)

    resetting.reset(copy, (), 5.0)
    assert [line for line in made.asked if line.startswith("remove")] == []


def test_nothing_is_kept_of_a_container_that_is_not_of_the_lease(
    copy: Any, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [item for item in made.containers_of() if item.name != "web"]
    holdings = SimpleNamespace(containers=lambda _: own, holds=lambda _labels: True)
    monkeypatch.setattr(snapshot, "Holdings", SimpleNamespace(of=lambda *_: holdings))

    snapshot.keep(copy, HINTS, 5.0)
    assert sorted(one.service for one in Note.read(copy.lease).containers) == ["cache", "db", "files", "reader"]


def test_a_volume_without_the_labels_of_the_lease_is_not_the_copy_s_own(copy: Any, made: Made) -> None:
    for volume in made.volumes.values():
        volume["Labels"] = {}
    snapshot.keep(copy, HINTS, 5.0)

    note = Note.read(copy.lease)
    folders = [folder for one in note.containers for folder in one.folders]
    assert folders
    assert [folder for folder in folders if folder.own] == []
    assert note.volumes == {}


def test_a_test_s_own_database_is_dropped_at_the_end_of_its_block(copy: Any, made: Made) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    made.asked.clear()

    with private_databases.database(copy, "db", "postgresql://app:secret@127.0.0.1:9500/app") as url:
        name = url.rpartition("/")[2]
        assert url == f"postgresql://app:secret@127.0.0.1:9500/{name}"
        assert made.asked == [f"ask db {name}"]
    assert made.asked == [f"ask db {name}"] * 2

    made.codes["db"] = 1
    with pytest.raises(StackyardError, match=r"^service db: it refuses$"):
        private_databases.database(copy, "db", "postgresql://h/app").__enter__()
    with pytest.raises(UsageError, match=r"service 'cache' cannot make databases; services of this copy that can: db"):
        private_databases.database(copy, "cache", "redis://h").__enter__()


def test_a_test_s_own_database_is_made_in_a_container_that_somebody_has_renamed(copy: Any, made: Made) -> None:
    snapshot.keep(copy, HINTS, 5.0)
    renamed(made, "db")
    made.clients.clear()

    with private_databases.database(copy, "db", "postgresql://h/app"):
        assert [asked[0] for asked in made.clients] == ["db-old"]

    del made.containers["db-old"]
    with pytest.raises(UsageError, match=r"^copy mine .l1.: the container of db is gone; end the copy .* and start it"):
        private_databases.database(copy, "db", "postgresql://h/app").__enter__()


def test_a_test_s_own_database_is_made_and_dropped_in_its_own_service_however_the_block_ends(
    copy: Any, made: Made
) -> None:
    copy.model = {"services": {"archive": {"image": "postgres"}, **MODEL["services"], "past": {"image": "postgres"}}}
    made.containers = {name: made._container(name) for name in copy.model["services"]}
    snapshot.keep(copy, HINTS, 5.0)
    made.clients.clear()

    with pytest.raises(ZeroDivisionError), private_databases.database(copy, "db", "postgresql://h/app"):
        raise ZeroDivisionError

    assert [asked[:2] for asked in made.clients] == [("db", scripts.POSTGRES_CREATE), ("db", scripts.POSTGRES_DROP)]


@pytest.mark.parametrize(
    ("ended", "started"),
    [(["web", "reader"], ["start web"]), (["reader"], []), ([], [])],
    ids=["what ran", "what did not run", "nothing"],
)
@pytest.mark.parametrize("comes_back", [True, False])
def test_only_what_ran_before_a_reset_is_started_again_and_then_waited_for(
    copy: Any, made: Made, monkeypatch: pytest.MonkeyPatch, ended: list[str], started: list[str], comes_back: bool
) -> None:
    waited: list[set[str]] = []

    async def ready(*words: Any, hints: Any, **_: Any) -> None:
        assert {*hints} == {"web"}
        waited.append({*words[2]["services"]})
        if not (comes_back and made.asked):
            raise NotReadyError("web is not ready")

    monkeypatch.setattr(waiting, "wait", ready)
    for name in ended:
        made.containers[name]["State"]["Status"] = "exited"
    made.containers["files"]["State"]["Status"] = "paused"
    engine: Any = made
    prover = Prover(engine=engine, lease=copy.lease, model=MODEL, hints={**HINTS, "cache": HINTS["web"]})

    with contextlib.nullcontext() if comes_back and started else pytest.raises(NotReadyError):
        prover.wait_again({"web": "web", "db": "db"}, 5.0)

    assert made.asked == started
    assert waited == [{"web", "db"}] * (2 if started else 1)


@pytest.mark.parametrize(("times", "passes"), [(0, True), (3, True), (100, False)])
def test_a_container_that_cannot_be_frozen_in_this_instant_is_tried_again(times: int, passes: bool) -> None:
    answers = ["OCI runtime pause failed: unable to freeze: unknown"] * times
    engine = SimpleNamespace(api=Refusing(answers))
    rests: list[float] = []

    with contextlib.nullcontext() if passes else pytest.raises(RefusedError, match="unable to freeze"):
        container_files.pause(engine, "files", sleep=rests.append)  # type: ignore[arg-type]

    assert len(rests) == min(times, len(container_files.RESTS))
    assert 5 < sum(container_files.RESTS) < 10


def test_another_reason_not_to_pause_is_reported_at_once() -> None:
    engine = SimpleNamespace(api=Refusing(["container files is not running"]))

    with pytest.raises(RefusedError, match="is not running"):
        container_files.pause(engine, "files", sleep=lambda _: pytest.fail("waited"))  # type: ignore[arg-type]


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


# each guard by itself


def mounted(made: Made, service: str, volume: str, destination: str = "/data", *, writable: bool = True) -> None:
    """Give a container a volume, which belongs to the copy unless it is there with other labels."""
    mount = {"Type": "volume", "Name": volume, "Destination": destination, "RW": writable}
    made.containers[service]["Mounts"].append(mount)
    made.volumes.setdefault(volume, {"Name": volume, "Driver": "local", "Labels": OWN, "Options": None})
    made.files.setdefault(f"{destination.rstrip('/')}/.", f"{volume}{destination}".encode())


def kept(copy: Any, service: str) -> Kept:
    """Return what is kept of a service, which is kept now."""
    snapshot.keep(copy, HINTS, 5.0)
    return next(one for one in Note.read(copy.lease).containers if one.service == service)


def test_a_reset_says_what_was_done_and_how_long_it_took(copy: Any) -> None:
    snapshot.keep(copy, HINTS, 5.0)

    done = resetting.reset(copy, (), 5.0)

    assert [one.what for one in done.services] == [
        "its databases are as after the start", "it is empty",
        "it writes to /rows: its containers and volumes were made again",
        f"{SHARES}: its containers and volumes were made again",
        "it keeps nothing in a volume, so it keeps running",
    ]  # fmt: skip
    assert all(0 <= seconds < 60 for seconds in (done.seconds, *(one.seconds for one in done.services)))
    assert done.services[-1].seconds == 0.0


def test_a_database_is_asked_by_its_own_script_and_waited_for_as_long_as_was_asked(copy: Any, made: Made) -> None:
    everything = {*MODEL["services"]}
    snapshot.keep(copy, HINTS, 5.0)
    assert made.clients == [
        ("db", scripts.POSTGRES_KEEP, "data", "", "5432"), ("cache", scripts.REDIS_KEEP, "data", "127.0.0.1", "6379"),
    ]  # fmt: skip
    assert made.waits == [(everything, 5.0)]
    made.clients.clear()
    made.waits.clear()
    made.containers["db"]["State"]["Status"] = "exited"

    resetting.reset(copy, ["db", "cache"], 7.0)

    assert sorted(made.clients, key=lambda one: one[0]) == [
        ("cache", scripts.REDIS_RESET, "data", "127.0.0.1", "6379"), ("db", scripts.POSTGRES_RESET, "data", "", "5432"),
    ]  # fmt: skip
    assert made.waits == [({"db"}, snapshot.LONGEST), (everything, 7.0)]


def test_an_image_s_variables_say_that_a_service_is_a_database(copy: Any, made: Made) -> None:
    made.known = {"web": ImageFacts(environment={"PG_MAJOR": "17"})}

    assert kept(copy, "web").driver == "postgresql"
    resetting.reset(copy, ["web"], 5.0)
    assert made.clients[-1] == ("web", scripts.POSTGRES_RESET, "data", "", "5432")


def test_a_volume_is_made_again_with_its_labels_driver_and_options(copy: Any, made: Made) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    made.volumes["p_uploads"] |= {"Driver": "local", "Options": options}
    mounted(made, "files", "p_plain")
    made.volumes["p_plain"] |= {"Options": None}
    snapshot.keep(copy, HINTS, 5.0)

    resetting.reset(copy, ["files"], 5.0)

    plans = {plan.name: plan for plan in made.plans if plan.name.startswith("p_")}
    assert (plans["p_uploads"].labels, plans["p_uploads"].driver) == (OWN, "local")
    assert (plans["p_uploads"].options, plans["p_plain"].options) == (options, {})
    assert resetting._volume_plan("x", {}).labels == {}


def test_a_container_is_made_again_as_it_was(copy: Any, made: Made) -> None:
    was = kept(copy, "files")

    resetting.reset(copy, ["files"], 5.0)

    (plan,) = (plan for plan in made.plans if plan.name == "files")
    assert (plan.service, plan.config) == ("files", was.body)
    assert plan.config["Labels"] == {**OWN, SERVICE_LABEL: "files"}


@pytest.mark.parametrize("destination", ["/X", "/rows/", "/"])
def test_what_a_volume_held_goes_back_to_its_place(copy: Any, made: Made, destination: str) -> None:
    made.containers["files"]["Mounts"][0]["Destination"] = destination
    made.files = {f"{destination.rstrip('/')}/.": b"rows"}
    snapshot.keep(copy, HINTS, 5.0)

    resetting.reset(copy, ["files"], 5.0)

    assert f"rows into files:{destination.rstrip('/') or '/'}" in made.asked


@pytest.mark.parametrize("depends", [("files", "reader"), ("reader", "files")])
def test_what_is_made_again_starts_after_what_it_depends_on(copy: Any, made: Made, depends: tuple[str, str]) -> None:
    later, first = depends
    services = {name: {**service, "depends_on": {}} for name, service in MODEL["services"].items()}
    services[later] = {**services[later], "depends_on": {first: {}, "db": {}}}
    copy.model = {"services": services}
    snapshot.keep(copy, HINTS, 5.0)
    made.waits.clear()

    resetting.reset(copy, ["files"], 5.0)

    assert [line for line in made.asked if line.startswith("start")] == [f"start {first}", f"start {later}"]
    assert made.waits[0] == ({first}, snapshot.LONGEST)


def test_services_that_depend_on_each_other_are_started_all_the_same(copy: Any, made: Made) -> None:
    services = {**MODEL["services"], "files": {**MODEL["services"]["files"], "depends_on": {"reader": {}}}}
    copy.model = {"services": services}
    snapshot.keep(copy, HINTS, 5.0)

    resetting.reset(copy, ["files"], 5.0)

    assert made.asked[-2:] == ["start files", "start reader"]


def test_who_joins_a_container_that_is_made_again_is_made_again_after_it(copy: Any, made: Made) -> None:
    made.containers["cache"]["HostConfig"]["NetworkMode"] = f"container:{made.containers['web']['Id']}"
    made.containers["db"]["HostConfig"]["NetworkMode"] = "container:stranger"
    made.containers["web"]["HostConfig"]["IpcMode"] = f"container:{made.containers['files']['Id']}"
    snapshot.keep(copy, HINTS, 5.0)

    note = Note.read(copy.lease)
    assert {one.service: one.joins for one in note.containers} == {
        "db": ("stranger",), "cache": ("web",), "files": (), "reader": (), "web": ("files",),
    }  # fmt: skip
    order = [one.service for one in note.containers]
    assert sorted(order) == sorted(MODEL["services"])
    assert order.index("files") < order.index("web") < order.index("cache")
    assert note.containers[order.index("web")].body["HostConfig"]["IpcMode"] == "container:files"
    made.asked.clear()
    done = resetting.reset(copy, ["files"], 5.0)
    assert [one.service for one in done.services] == ["cache", "files", "reader", "web"]
    assert [line for line in made.asked if line.startswith("ask")] == []
    assert [one.service for one in resetting.reset(copy, ["web"], 5.0).services] == ["cache", "web"]


def test_containers_that_join_each_other_are_all_kept(copy: Any, made: Made) -> None:
    for one, other in (("files", "web"), ("web", "files")):
        made.containers[one]["HostConfig"]["IpcMode"] = f"container:{made.containers[other]['Id']}"
    snapshot.keep(copy, HINTS, 5.0)

    assert sorted(one.service for one in Note.read(copy.lease).containers) == sorted(MODEL["services"])


def test_a_database_that_refuses_falls_back_to_a_volume_of_its_own(copy: Any, made: Made) -> None:
    made.codes["db"] = 1
    mounted(made, "db", "p_rows")
    found = kept(copy, "db")

    assert (found.driver, found.why) == ("volumes", "it writes to /data (it refuses)")
    assert found.archives == {"/data": "data-0.tar"}


@pytest.mark.parametrize(("own", "writable"), [(True, False), (False, False)])
def test_a_database_that_refuses_and_has_no_volume_to_write_to_ends_the_start(
    copy: Any, made: Made, own: bool, writable: bool
) -> None:
    made.codes["db"] = 1
    mounted(made, "db", "rows", writable=writable)
    made.volumes["rows"]["Labels"] = OWN if own else {}

    with pytest.raises(StackyardError, match=r"^service db: its data cannot be kept .*: it refuses; it has no volume"):
        snapshot.keep(copy, HINTS, 5.0)


def test_a_database_that_keeps_its_data_itself_is_not_read_as_an_archive(copy: Any, made: Made) -> None:
    mounted(made, "db", "p_rows")
    found = kept(copy, "db")

    assert (found.driver, found.body, found.archives) == ("postgresql", {}, {})
    assert "pause db" not in made.asked


@pytest.mark.parametrize("writable", [True, False])
def test_a_database_s_volume_stays_as_it_is_if_another_container_that_has_it_is_made_again(
    copy: Any, made: Made, writable: bool
) -> None:
    mounted(made, "db", "p_rows", "/var")
    mounted(made, "web", "p_backups", "/backups")
    mounted(made, "web", "p_rows", "/var", writable=writable)
    found = kept(copy, "web")
    assert (found.driver, found.archives) == ("volumes", {"/backups": "data-2.tar"})
    made.asked.clear()

    resetting.reset(copy, (), 5.0)

    assert [line for line in made.asked if "p_rows" in line] == []
    assert {"remove p_backups", "create p_backups", "p_backups/backups into web:/backups"} < {*made.asked}


def test_a_volume_that_is_not_the_copy_s_alone_stays_as_it_is(copy: Any, made: Made) -> None:
    mounted(made, "files", "theirs", "/theirs")
    made.volumes["theirs"]["Labels"] = {}
    snapshot.keep(copy, HINTS, 5.0)
    made.asked.clear()

    resetting.reset(copy, (), 5.0)

    assert [line for line in made.asked if "theirs" in line] == []


def test_what_had_ended_is_neither_paused_nor_started(copy: Any, made: Made) -> None:
    for name in ("web", "reader"):
        made.containers[name]["State"]["Status"] = "exited"
    snapshot.keep(copy, HINTS, 5.0)

    assert {one.service: one.runs for one in Note.read(copy.lease).containers} == {
        "db": True, "cache": True, "files": True, "reader": False, "web": False,
    }  # fmt: skip
    assert [line for line in made.asked if line.startswith("pause")] == ["pause files"]
    assert made.waits == [({"db", "cache", "files"}, 5.0)]
    resetting.reset(copy, (), 5.0)
    assert [line for line in made.asked if line.startswith("start")] == ["start files"]


def test_a_volume_that_the_engine_named_is_left_for_the_engine_to_make(copy: Any, made: Made) -> None:
    made.volumes["p_uploads"]["Labels"] = {snapshot.ANONYMOUS: ""}
    found = kept(copy, "reader")

    assert found.folders == (Folder(path="/rows", volume="p_uploads", own=True, anonymous=True, writable=False),)
    assert Note.read(copy.lease).volumes == {}
    resetting.reset(copy, ["files"], 5.0)
    assert {"create p_uploads", "remove p_uploads"} & {*made.asked} == set()


def test_a_volume_is_read_once_through_who_may_write_to_it_and_never_if_it_is_not_the_copy_s(
    copy: Any, made: Made
) -> None:
    made.containers = {name: made.containers[name] for name in ("reader", "files", "web", "db", "cache")}
    mounted(made, "web", "p_uploads", "/more")
    mounted(made, "files", "theirs", "/theirs")
    made.volumes["theirs"]["Labels"] = {}
    snapshot.keep(copy, HINTS, 5.0)

    archives = {one.service: one.archives for one in Note.read(copy.lease).containers}
    assert archives == {
        "reader": {}, "files": {"/rows": "data-0.tar", "/": "data-1.tar"}, "web": {}, "db": {}, "cache": {},
    }  # fmt: skip
    assert (copy.lease.directory / "data-1.tar").read_bytes() == b"rules"


def test_configs_and_secrets_that_were_copied_are_kept_each_at_its_place(copy: Any, made: Made) -> None:
    files = {
        "image": "files", "secrets": [{"source": "key"}, {"source": "gone"}, {"source": "x", "target": "/etc/x"}],
        "configs": [{"source": "rules"}, {"source": "more"}, {"source": "a", "target": "/etc/deep/a"},
                    {"source": "b", "target": "sub/b"}, {"source": "bound"}],
    }  # fmt: skip
    copy.model = {"services": {**MODEL["services"], "files": files}}
    made.containers["files"]["Mounts"].append({"Type": "bind", "Destination": "/bound", "RW": False})
    paths = ("/rules", "/more", "/etc/deep/a", "/sub/b", "/bound", "/run/secrets/key", "/etc/x")
    made.files |= {path: path.encode() for path in paths}

    found = kept(copy, "files")

    read = {place: (copy.lease.directory / file).read_bytes().decode() for place, file in found.archives.items()}
    assert read == {
        "/rows": "rows", "/": "/rules", "//": "/more", "/etc/deep": "/etc/deep/a", "/sub": "/sub/b",
        "/run/secrets": "/run/secrets/key", "/etc": "/etc/x",
    }  # fmt: skip
    assert sorted(found.archives.values()) == sorted({*found.archives.values()})
    resetting.reset(copy, ["files"], 5.0)
    assert "/more into files:/" in made.asked


def test_a_container_s_name_is_the_engine_s_without_its_slash() -> None:
    assert snapshot._name({"Name": "/Xweb/X"}) == "Xweb/X"


def test_only_volumes_count_as_folders(copy: Any, made: Made) -> None:
    made.containers["web"]["Mounts"] = [{"Destination": "/odd"}, {"Type": "tmpfs", "Destination": "/tmp"}]

    assert kept(copy, "web").folders == ()


@pytest.mark.parametrize(
    ("text", "line"), [("", ""), ("\n \n", ""), ("a\nb  c\n\n", "b c"), ("x" * 300, "x" * snapshot.TEXT)]
)
def test_the_last_line_of_a_complaint_is_shown(text: str, line: str) -> None:
    assert snapshot.last_line(text) == line
