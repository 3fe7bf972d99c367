"""Credentials: fresh, strong, and in files that no other user can read."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from stackyard.errors import BookError
from stackyard.leases.directory import credentials

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("postgres_password", "redis_password", "jwt_key")


def test_no_two_stacks_share_a_secret_and_each_has_at_least_128_bits() -> None:
    made = [value for _ in range(50) for value in credentials.new(NAMES).values()]

    assert len(set(made)) == 150
    assert all(len(bytes.fromhex(value)) >= 16 for value in made)


def test_what_is_written_is_read_back_without_a_newline(tmp_path: Path) -> None:
    made = credentials.new(NAMES)

    credentials.write(tmp_path / "deep" / "secrets", made)

    assert credentials.read(tmp_path / "deep" / "secrets", NAMES) == made
    assert (tmp_path / "deep" / "secrets" / "jwt_key").read_text() == made["jwt_key"]
    assert credentials.names(tmp_path / "deep" / "secrets") == sorted(NAMES)


def test_files_are_readable_by_the_containers_and_closed_to_others(tmp_path: Path) -> None:
    credentials.write(tmp_path / "secrets", credentials.new(NAMES))

    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    for name in NAMES:
        found = (tmp_path / "secrets" / name).stat()
        given = found.st_uid == credentials.CONTAINER_ID
        assert stat.S_IMODE(found.st_mode) == (0o400 if given else 0o444)
        assert given == (os.geteuid() == 0)


def test_where_files_cannot_be_given_away_the_containers_may_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    credentials.write(tmp_path / "secrets", credentials.new(NAMES))

    assert stat.S_IMODE((tmp_path / "secrets" / "jwt_key").stat().st_mode) == 0o444


def test_ensure_keeps_what_is_there_and_replaces_what_is_incomplete(tmp_path: Path) -> None:
    first = credentials.ensure(tmp_path, NAMES)

    assert credentials.ensure(tmp_path, NAMES) == first
    (tmp_path / "redis_password").unlink()
    assert credentials.ensure(tmp_path, NAMES) != first


def test_a_planted_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "jwt_key").symlink_to(target)

    credentials.write(tmp_path / "secrets", credentials.new(NAMES))

    assert target.read_text() == "mine"
    assert not (tmp_path / "secrets" / "jwt_key").is_symlink()


def test_a_directory_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(BookError, match="file: cannot write the secrets"):
        credentials.write(tmp_path / "file", credentials.new(NAMES))


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "fchmod", refuse)

    with pytest.raises(BookError, match="no space left"):
        credentials.write(tmp_path, credentials.new(NAMES))
    assert list(tmp_path.iterdir()) == []


def test_missing_secrets_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="postgres_password: cannot read the secret: No such file"):
        credentials.read(tmp_path, NAMES)
    with pytest.raises(BookError, match="gone: cannot read the secrets: No such file"):
        credentials.names(tmp_path / "gone")
