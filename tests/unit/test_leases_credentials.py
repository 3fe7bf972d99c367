"""Credentials: fresh, strong, and in files that no other user can read."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from stackyard.errors import BookError
from stackyard.leases import credentials
from stackyard.leases.credentials import Credentials

if TYPE_CHECKING:
    from pathlib import Path


def test_no_two_stacks_share_a_secret_and_each_has_at_least_128_bits() -> None:
    made = [getattr(Credentials.new(), name) for _ in range(50) for name in credentials.NAMES]

    assert len(set(made)) == 150
    assert all(len(bytes.fromhex(value)) >= 16 for value in made)


def test_a_secret_never_shows_in_the_record() -> None:
    made = Credentials.new()

    assert not any(getattr(made, name) in repr(made) for name in credentials.NAMES)


def test_what_is_written_is_read_back_without_a_newline(tmp_path: Path) -> None:
    made = Credentials.new()

    credentials.write(tmp_path / "deep" / "secrets", made)

    assert credentials.read(tmp_path / "deep" / "secrets") == made
    assert (tmp_path / "deep" / "secrets" / "jwt_key").read_text() == made.jwt_key
    assert sorted(path.name for path in (tmp_path / "deep" / "secrets").iterdir()) == sorted(credentials.NAMES)


def test_files_are_readable_by_the_containers_and_closed_to_others(tmp_path: Path) -> None:
    credentials.write(tmp_path / "secrets", Credentials.new())

    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    for name in credentials.NAMES:
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

    credentials.write(tmp_path / "secrets", Credentials.new())

    assert stat.S_IMODE((tmp_path / "secrets" / "jwt_key").stat().st_mode) == 0o444


def test_ensure_keeps_what_is_there_and_replaces_what_is_incomplete(tmp_path: Path) -> None:
    first = credentials.ensure(tmp_path)

    assert credentials.ensure(tmp_path) == first
    (tmp_path / "redis_password").unlink()
    assert credentials.ensure(tmp_path) != first


def test_a_planted_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "jwt_key").symlink_to(target)

    credentials.write(tmp_path / "secrets", Credentials.new())

    assert target.read_text() == "mine"
    assert not (tmp_path / "secrets" / "jwt_key").is_symlink()


def test_a_directory_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(BookError, match="file: cannot write the secrets"):
        credentials.write(tmp_path / "file", Credentials.new())


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "fchmod", refuse)

    with pytest.raises(BookError, match="no space left"):
        credentials.write(tmp_path, Credentials.new())
    assert list(tmp_path.iterdir()) == []


def test_missing_secrets_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="postgres_password: cannot read the secret: No such file"):
        credentials.read(tmp_path)
