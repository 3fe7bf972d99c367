"""Which copy a command means, and takes away: a quick test for each rule."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from stackyard.cli.copy_choice import chosen, of_this_folder
from stackyard.errors import LeaseNotFoundError, UsageError
from stackyard.project import git_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stackyard.leases import LeaseBook


@pytest.fixture(autouse=True)
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no git worktree or branch give a name."""
    monkeypatch.setattr(git_names, "default_name", lambda _folder: None)


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder, with an empty file of each name in it; the name ends with a slash for a folder."""

    def made(path: str, *names: str) -> Path:
        folder = tmp_path / path
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).mkdir() if name.endswith("/") else (folder / name).touch()
        return folder

    return made


def lease(identity: str, folder: Path | str, name: str | None = None, *, is_copy: bool = True) -> Any:
    title = f"{name} ({identity})" if name else identity
    return SimpleNamespace(id=identity, parallel_id=name, checkout=str(folder), is_copy=is_copy, title=title)


def book(*leases: Any) -> LeaseBook:
    return cast("LeaseBook", SimpleNamespace(leases=lambda: list(leases)))


def test_the_copies_of_this_folder_are_those_of_its_project_alone(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, other = project("shop", "compose.yaml"), project("other", "compose.yaml")
    mine, theirs = lease("1", shop), lease("2", other)
    stack = lease("3", shop, is_copy=False)
    monkeypatch.chdir(shop)

    assert of_this_folder(book(theirs, stack, mine)) == [mine]
    assert of_this_folder(book(theirs, stack)) == []


def test_a_folder_inside_a_project_belongs_to_it(project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    shop = project("shop", "compose.yaml")
    monkeypatch.chdir(project("shop/src/deep"))

    assert chosen(book(lease("1", shop)), "").id == "1"


@pytest.mark.parametrize("border", ["compose.yaml", ".git", ".git/"])
def test_a_project_or_checkout_inside_another_does_not_belong_to_the_outer_one(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, border: str
) -> None:
    shop = project("shop", "compose.yaml")
    monkeypatch.chdir(project("shop/inner", border))

    assert of_this_folder(book(lease("1", shop))) == []
    with pytest.raises(LeaseNotFoundError, match="no copy of this folder's project is up"):
        chosen(book(lease("1", shop)), "")


def test_a_copy_of_a_file_further_down_is_meant_where_no_project_is_nearer(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    top = project("top")
    deploy, beside = project("top/deploy", "compose.yaml"), project("beside", "compose.yaml")
    monkeypatch.chdir(top)

    assert chosen(book(lease("1", deploy), lease("2", beside), lease("3", "")), "").id == "1"


@pytest.mark.parametrize("border", [".git", ".git/"])
@pytest.mark.parametrize("where", ["top/inner", "top/inner/deploy"])
def test_a_copy_of_another_checkout_further_down_is_not_meant(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, where: str, border: str
) -> None:
    project("top/inner", border)
    monkeypatch.chdir(project("top"))

    with pytest.raises(LeaseNotFoundError, match="no copy of this folder's project is up"):
        chosen(book(lease("1", project(where))), "")


def test_the_top_of_a_checkout_may_mean_what_is_further_down(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project("outer", ".git/")
    monkeypatch.chdir(project("outer/top", ".git/"))

    assert chosen(book(lease("1", project("outer/top/deploy"))), "").id == "1"


def test_a_project_that_compose_finds_further_down_is_not_meant_by_a_folder_that_has_one(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    top, inner, plain = project("top", "compose.yaml"), project("top/inner", "compose.yaml"), project("top/deploy")
    monkeypatch.chdir(top)

    with pytest.raises(LeaseNotFoundError, match="no copy of this folder's project is up"):
        chosen(book(lease("1", inner)), "")
    assert chosen(book(lease("1", inner), lease("2", plain)), "").id == "2"


def test_own_copies_come_before_those_further_down(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    top, deploy = project("top"), project("top/deploy")
    monkeypatch.chdir(top)

    assert chosen(book(lease("1", deploy), lease("2", top)), "").id == "2"


def test_without_a_name_several_copies_are_a_question(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = project("shop", "compose.yaml")
    several = book(lease("1", shop, "a"), lease("2", shop, "b"), lease("3", shop))
    monkeypatch.chdir(shop)

    with pytest.raises(UsageError, match=r"has 3 copies; choose one with --name: a \(1\), b \(2\), 3$"):
        chosen(several, "")
    monkeypatch.setattr(git_names, "default_name", lambda _folder: "b")
    assert chosen(several, "").id == "2"
    monkeypatch.setattr(git_names, "default_name", lambda _folder: "c")
    with pytest.raises(UsageError, match="has 3 copies"):
        chosen(several, "")


def test_a_name_means_a_copy_of_this_project_and_of_no_other(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, other = project("shop", "compose.yaml"), project("other", "compose.yaml")
    found = book(
        lease("1", other, "mine"), lease("2", shop, "mine"), lease("3", shop, "b"), lease("4", other, "theirs")
    )
    monkeypatch.chdir(shop)

    assert chosen(found, "mine").id == "2"
    with pytest.raises(
        LeaseNotFoundError, match=rf"this folder's project has the name 'theirs'; give an id .* 4 of {other}"
    ):
        chosen(found, "theirs")
    with pytest.raises(LeaseNotFoundError, match="no copy has the name or id 'nope'"):
        chosen(found, "nope")


def test_a_name_means_the_same_copy_even_if_the_clock_was_set_since(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, reads = project("shop", "compose.yaml"), itertools.count()
    monkeypatch.chdir(shop)

    def leases() -> list[Any]:  # the deadline on the new wall clock is calculated at each read
        return [SimpleNamespace(**vars(lease("1", shop, "mine")), deadline=1e9 + next(reads) / 1e6)]

    assert chosen(cast("LeaseBook", SimpleNamespace(leases=leases)), "mine").id == "1"


def test_an_id_means_any_copy_but_no_stack_of_an_environment(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, other = project("shop", "compose.yaml"), project("other", "compose.yaml")
    found = book(lease("1", shop, "4"), lease("4", other), lease("5", shop, is_copy=False))
    monkeypatch.chdir(shop)

    assert chosen(found, "4").id == "4"
    with pytest.raises(LeaseNotFoundError, match="no copy has the name or id '5'"):
        chosen(found, "5")


def test_two_copies_of_this_project_with_one_name_need_an_id(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = project("shop", "compose.yaml")
    monkeypatch.chdir(shop)

    with pytest.raises(UsageError, match=r"several copies have the name 'mine'; give the id of one: 1 of .*, 2 of "):
        chosen(book(lease("1", shop, "mine"), lease("2", shop, "mine")), "mine")


@pytest.mark.parametrize("border", ["compose.yaml", ".git/"])
def test_outside_any_project_a_name_means_the_only_copy_that_has_it(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, border: str
) -> None:
    found = book(lease("1", project("shop", "compose.yaml"), "mine"))
    monkeypatch.chdir(project("plain"))
    assert chosen(found, "mine").id == "1"
    with pytest.raises(LeaseNotFoundError, match="no copy of this folder's project is up"):
        chosen(found, "")

    monkeypatch.chdir(project("another", border))
    with pytest.raises(LeaseNotFoundError, match="no copy of this folder's project has the name 'mine'"):
        chosen(found, "mine")


def test_a_link_to_the_folder_means_the_folder(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop = project("shop", "compose.yaml")
    (tmp_path / "link").symlink_to(shop)
    monkeypatch.chdir(tmp_path / "link")

    assert chosen(book(lease("1", shop)), "").id == "1"


def test_of_two_copies_with_the_branch_s_name_none_is_taken_for_the_other(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = project("shop", "compose.yaml")
    monkeypatch.chdir(shop)
    monkeypatch.setattr(git_names, "default_name", lambda _folder: "main")

    with pytest.raises(UsageError, match=r"this project has 2 copies; choose one with --name: main \(1\), main \(2\)"):
        chosen(book(lease("1", shop, "main"), lease("2", shop, "main")), "")
