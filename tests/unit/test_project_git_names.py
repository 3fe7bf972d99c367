"""Names of copies after git worktrees and branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard._util import process
from stackyard.leases.names import ID
from stackyard.project.git_names import default_name, safe

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main", "shop")
    return tmp_path / "shop"


def git(folder: Path, *words: str) -> None:
    told = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    process.run(["git", "-C", str(folder), *told, *words], deadline=120)


def test_the_main_checkout_has_the_name_of_its_branch_before_its_first_commit_too(repository: Path) -> None:
    (repository / "deep").mkdir()

    assert default_name(repository) == default_name(repository / "deep") == "main"


def test_a_worktree_has_the_name_of_its_folder(repository: Path) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "first")
    git(repository, "worktree", "add", "-q", "-b", "feature/x", "../Agent_7")

    assert default_name(repository.parent / "Agent_7") == "agent_7"


def test_there_is_no_name_without_a_branch_without_git_or_without_its_program(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "first")
    git(repository, "checkout", "-q", "--detach")

    assert default_name(repository) is None
    assert default_name(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert default_name(repository) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("main", "main"), ("feature/login", "feature-login"), ("Feature/Login_2", "feature-login_2"),
        ("//", None), ("ß", "-"),
    ],
)  # fmt: skip
def test_a_name_keeps_what_is_allowed_in_names(text: str, name: str | None) -> None:
    assert safe(text) == (None if name == "-" else name)


def test_texts_that_had_to_be_changed_or_cut_keep_different_names() -> None:
    assert safe("fix: a b") != safe("fix--a-b")
    assert safe("x" * 41) != safe("x" * 42)


@given(st.text(max_size=80))
def test_every_name_is_one_that_a_lease_may_have(text: str) -> None:
    name = safe(text)

    assert name is None or ID.fullmatch(name)
