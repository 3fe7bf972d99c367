"""Archives of a container's folders, with a fake engine."""

from __future__ import annotations

import hashlib
import io
import resource
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from stackyard.docker import container_files
from stackyard.errors import EngineError, StackyardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stackyard.docker import Engine

HOLE = 64 << 20


def engine(pieces: Iterable[bytes] = (), taken: list[bytes] | None = None) -> Engine:
    def put(_container: str, _path: str, data: Iterable[bytes]) -> None:
        (taken if taken is not None else []).append(b"".join(data))

    return cast("Engine", SimpleNamespace(api=SimpleNamespace(get_archive=lambda *_: (pieces, {}), put_archive=put)))


def test_zeros_take_no_room_on_the_disk_and_are_read_back(tmp_path: Path) -> None:
    file = tmp_path / "data.tar"
    pieces = [b"head", *[bytes(1 << 20)] * (HOLE >> 20), b"middle", bytes(1024)]

    digest = container_files.save(engine(pieces), "one", "/rows/.", file)

    assert file.read_bytes() == b"".join(pieces)
    assert digest == container_files.checksum(file) == hashlib.sha256(b"".join(pieces)).hexdigest()
    assert file.stat().st_blocks * 512 < HOLE / 8


def test_a_disk_s_refusal_is_not_taken_for_a_silent_engine(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, hard))
    try:
        with pytest.raises(StackyardError, match=r"data.tar cannot be written: File too large; free some space") as it:
            container_files.save(engine([b"rows"]), "one", "/rows/.", tmp_path / "data.tar")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not isinstance(it.value, EngineError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_an_archive_replaces_a_link_and_is_its_user_s_alone(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    foreign, file = tmp_path / "foreign", tmp_path / "data.tar"
    foreign.write_bytes(b"precious")
    link(file, foreign)

    container_files.save(engine([b"rows"]), "one", "/rows/.", file)

    assert foreign.read_bytes() == b"precious"
    assert (file.read_bytes(), oct(file.lstat().st_mode)) == (b"rows", "0o100600")


def test_an_engine_that_breaks_off_an_archive_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"rows"
        raise OSError("connection reset")

    with pytest.raises(EngineError, match=r"reading /rows/\. of container one: .*connection reset"):
        container_files.save(engine(pieces()), "one", "/rows/.", tmp_path / "data.tar")


def archive(file: Path, *entries: tarfile.TarInfo) -> None:
    with tarfile.open(file, "w") as made:
        for entry in entries:
            made.addfile(entry, io.BytesIO(bytes(entry.size)))


def entry(name: str, **fields: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def test_the_folder_itself_gets_its_owner_and_mode_back(tmp_path: Path) -> None:
    archive(tmp_path / "a", entry("./", type=tarfile.DIRTYPE, uid=77, gid=88, mode=0o1777), entry("./first", size=5))
    taken: list[bytes] = []

    container_files.restore(engine(taken=taken), "one", "/srv/rows", tmp_path / "a")

    with tarfile.open(fileobj=io.BytesIO(taken[0])) as read:
        found = [(one.name, one.uid, one.gid, one.mode) for one in read]
    assert found[0] == ("../rows", 77, 88, 0o1777)
    assert [name for name, *_ in found[1:]] == [".", "./first"]


def test_an_archive_is_sent_in_pieces_that_fit_into_memory(tmp_path: Path) -> None:
    archive(tmp_path / "a", entry("rows", size=3 * container_files.PIECE + 5))
    sent: list[int] = []
    api = SimpleNamespace(put_archive=lambda _container, _path, data: sent.extend(map(len, data)))

    container_files.restore(cast("Engine", SimpleNamespace(api=api)), "one", "/rows", tmp_path / "a")

    assert max(sent) <= container_files.PIECE
    assert sum(sent) == (tmp_path / "a").stat().st_size


def test_an_archive_of_a_single_file_is_sent_as_it_is(tmp_path: Path) -> None:
    archive(tmp_path / "a", entry("rules.txt", size=5))
    taken: list[bytes] = []

    container_files.restore(engine(taken=taken), "one", "/etc", tmp_path / "a")

    assert taken == [(tmp_path / "a").read_bytes()]


@pytest.mark.parametrize("content", [None, b"", b"no archive" * 100], ids=["gone", "empty", "garbage"])
def test_what_is_no_archive_is_one_line_and_not_sent(tmp_path: Path, content: bytes | None) -> None:
    taken: list[bytes] = []
    if content is not None:
        (tmp_path / "a").write_bytes(content)

    with pytest.raises(StackyardError, match=r"/a cannot be read as an archive: ") as it:
        container_files.restore(engine(taken=taken), "one", "/etc", tmp_path / "a")

    assert (isinstance(it.value, EngineError), "\n" in str(it.value), taken) == (False, False, [])


def test_what_stands_below_other_mounts_is_left_out_of_an_archive(tmp_path: Path) -> None:
    kept = [entry("./", type=tarfile.DIRTYPE), entry("./" + "long/" * 40 + "name", size=700), entry("./srcs", size=1)]
    left_out = [
        entry("./src/", type=tarfile.DIRTYPE), entry("./src/" + "deep/" * 40, size=3), entry("./a/one.conf", size=900)
    ]  # fmt: skip
    linked = entry("./again", type=tarfile.LNKTYPE, linkname="./srcs", pax_headers={"SCHILY.xattr.user.x": "1"})
    archive(tmp_path / "whole", left_out[0], kept[0], left_out[1], *kept[1:], left_out[2], linked)
    file = tmp_path / "data.tar"

    digest = container_files.save(
        engine([(tmp_path / "whole").read_bytes()]), "one", "/rows/.", file, without=["src", "a/one.conf"]
    )

    with tarfile.open(file) as read:
        found = [(one.name, one.size, one.linkname, one.pax_headers.get("SCHILY.xattr.user.x")) for one in read]
    assert found == [
        (".", 0, "", None), (kept[1].name, 700, "", None), ("./srcs", 1, "", None), ("./again", 0, "./srcs", "1")
    ]  # fmt: skip
    assert digest == container_files.checksum(file)
    assert file.stat().st_size % 512 == 0


def test_an_archive_with_nothing_to_leave_out_stays_as_it_came(tmp_path: Path) -> None:
    archive(tmp_path / "whole", entry("./", type=tarfile.DIRTYPE), entry("./a", size=5))
    whole = (tmp_path / "whole").read_bytes()

    container_files.save(engine([whole]), "one", "/rows/.", tmp_path / "data.tar", without=["src"])

    assert (tmp_path / "data.tar").read_bytes() == whole


def test_what_is_no_archive_cannot_lose_a_part(tmp_path: Path) -> None:
    with pytest.raises(StackyardError, match=r"data.tar cannot be read as an archive: "):
        container_files.save(engine([b"rows" * 500]), "one", "/rows/.", tmp_path / "data.tar", without=["src"])


def test_volumes_that_are_filled_from_an_archive_get_nothing_from_the_image() -> None:
    mounts = [
        {"Type": "volume", "Source": "a", "Target": "/a", "VolumeOptions": {"Subpath": "x"}},
        {"Type": "volume", "Source": "b", "Target": "/b"}, {"Type": "bind", "Source": "/x", "Target": "/c"},
    ]  # fmt: skip
    binds = ["d:/d", "e:/e:rw,z", "/host:/f:ro", "g:/g"]
    body: dict[str, Any] = {
        "Image": "i",
        "Volumes": {"/a": {}, "/d": {}, "/h": {}, "/i": {}},
        "HostConfig": {"Mounts": mounts, "Binds": binds},
    }

    found = container_files.not_filled(body, ["/a", "/c", "/d", "/e", "/f", "/h"])

    assert found["HostConfig"] == {
        "Mounts": [
            {"Type": "volume", "Source": "a", "Target": "/a", "VolumeOptions": {"Subpath": "x", "NoCopy": True}},
            mounts[1], mounts[2], {"Type": "volume", "Target": "/h", "VolumeOptions": {"NoCopy": True}},
        ],
        "Binds": ["d:/d:nocopy", "e:/e:rw,z,nocopy", "/host:/f:ro", "g:/g"],
    }  # fmt: skip
    assert (found["Image"], body["HostConfig"]["Binds"]) == ("i", binds)
