"""The files of this host that a copy on another engine gets, and the files that are refused."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.errors import UsageError
from stackyard.stacks.copies import remote_files
from stackyard.stacks.copies.remote_files import Cargo

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.docker import Engine


def bind(source: Path | str, target: str = "/x", *, read_only: bool = True) -> dict[str, Any]:
    return {"type": "bind", "source": str(source), "target": target, "read_only": read_only}


def packed(*mounts: dict[str, Any], **more: Any) -> tuple[Cargo, dict[str, Any]]:
    model = {"services": {"web": {"volumes": list(mounts), **more.pop("service", {})}}, **more}
    cargo = Cargo(project="shop-1")
    cargo.pack(model)
    return cargo, model


def test_a_file_becomes_a_config_with_its_text(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("echo $HOME")
    (tmp_path / "run.sh").chmod(0o700)
    (tmp_path / "plain").write_text("text")

    _, model = packed(bind(tmp_path / "run.sh", "/etc/run"), bind(tmp_path / "plain", "/etc/plain"))

    assert model["services"]["web"]["volumes"] == []
    assert model["services"]["web"]["configs"] == [
        {"source": "file-1", "target": "/etc/run", "mode": 0o555},
        {"source": "file-2", "target": "/etc/plain", "mode": 0o444},
    ]
    assert model["configs"] == {
        "file-1": {"name": "shop-1_file-1", "content": "echo $$HOME"},
        "file-2": {"name": "shop-1_file-2", "content": "text"},
    }


def test_a_folder_becomes_one_volume_of_the_copy_however_often_it_is_mounted(tmp_path: Path) -> None:
    cargo, model = packed(bind(tmp_path, "/a"), bind(tmp_path, "/b"))

    mounts = model["services"]["web"]["volumes"]
    assert [(one["type"], one["source"], one["target"], one["read_only"]) for one in mounts] == [
        ("volume", "bind-1", "/a", True), ("volume", "bind-1", "/b", True),
    ]  # fmt: skip
    assert model["volumes"] == {"bind-1": {"name": "shop-1_bind-1"}}
    assert cargo.folders == {"bind-1": tmp_path}


def test_a_folder_s_volume_is_one_more_and_takes_no_other_s_place(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    data = {"name": "shop-1_data"}

    cargo, model = packed(bind(tmp_path), bind(tmp_path / "deep"), volumes={"data": dict(data)})

    assert set(model["volumes"]) == {"data", "bind-1", "bind-2"}
    assert model["volumes"]["data"] == data
    assert cargo.folders == {"bind-1": tmp_path, "bind-2": tmp_path / "deep"}


def test_each_secret_keeps_its_own_place_and_mode(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("hidden")
    file = {"name": "s", "file": str(tmp_path / "word")}
    entries: list[dict[str, Any]] = [
        {"source": "given"}, {"source": "word", "target": "other"},
        {"source": "word", "target": "/etc/word", "mode": 256}, {"source": "word", "mode": "0440"},
    ]  # fmt: skip

    _, model = packed(
        secrets={"word": file, "given": {"name": "v", "environment": "V"}}, service={"secrets": entries}
    )  # fmt: skip

    web = model["services"]["web"]
    assert [(one["target"], one["mode"]) for one in web["configs"]] == [
        ("/run/secrets/other", 0o444), ("/etc/word", 256), ("/run/secrets/word", 0o440),
    ]  # fmt: skip
    assert web["secrets"] == [{"source": "given"}]
    assert {one["name"] for one in model["configs"].values()} == {f"shop-1_file-{number}" for number in (1, 2, 3)}


def test_other_files_in_a_folder_that_goes_along_give_another_digest(tmp_path: Path) -> None:
    cargo, _ = packed(bind(tmp_path, "/a"))
    before = cargo.digests()

    assert cargo.digests() == before
    (tmp_path / "new").touch()
    assert {*before} == {*cargo.digests()} == {"volumes.bind-1"}
    assert cargo.digests() != before


def test_a_secret_and_a_config_from_a_file_have_its_text(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("hidden")
    file, kept = {"name": "s", "file": str(tmp_path / "word")}, {"name": "v", "environment": "V"}

    _, model = packed(
        secrets={"word": dict(file), "given": kept}, configs={"app": dict(file)},
        service={"secrets": [{"source": "word"}, {"source": "given"}]},
    )  # fmt: skip

    web = model["services"]["web"]
    assert web["secrets"] == [{"source": "given"}]
    assert web["configs"] == [{"source": "file-2", "target": "/run/secrets/word", "mode": 0o444}]
    assert {name: one["content"] for name, one in model["configs"].items()} == {"app": "hidden", "file-2": "hidden"}


def test_volumes_and_the_engine_s_own_socket_stay_as_they_are() -> None:
    mounts = [{"type": "volume", "source": "data", "target": "/data"},
              bind("/var/run/docker.sock", "/var/run/docker.sock", read_only=False)]  # fmt: skip

    assert packed(*[dict(one) for one in mounts])[1]["services"]["web"]["volumes"] == mounts


def test_all_that_cannot_go_along_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "LARGEST_FOLDER", 3)
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "file").write_text("four")
    (tmp_path / "binary").write_bytes(b"\xff")

    with pytest.raises(UsageError) as caught:
        packed(bind(tmp_path, read_only=False), bind(tmp_path / "large"), bind(tmp_path / "binary"), bind("/dev/null"))

    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"services.web.volumes[{index}]" for index in range(4)]
    for line, why in zip(
        lines, ("add :ro or use a volume", "MiB; use a volume", "text files", "only files"), strict=True
    ):
        assert why in line


def test_a_volume_is_filled_before_the_start(tmp_path: Path, engine: Engine, fake_engine: FakeEngine) -> None:
    (tmp_path / "index.txt").write_text("hello")
    cargo, model = packed(bind(tmp_path))
    model["volumes"]["bind-1"]["labels"] = {"stackyard.lease": "l1", "stackyard.checkout": "/a$$b"}

    cargo.deliver(engine, model)

    with tarfile.open(fileobj=io.BytesIO(fake_engine.archives["shop-1_bind-1-fill"])) as archive:
        assert "files/index.txt" in archive.getnames()
    assert fake_engine.volumes["shop-1_bind-1"]["Labels"] == {"stackyard.lease": "l1", "stackyard.checkout": "/a$b"}
    assert fake_engine.containers == {}
