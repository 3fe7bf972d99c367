from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from fake_images import lay_out, surround
from invoke.context import Context
from invoke.exceptions import Exit
from invoke_shell import shaped
from lease_records import Surroundings

from stackyard import images
from stackyard.cli.cleanup import images as remove_images
from stackyard.docker import Engine
from stackyard.docker.images import disk_use
from stackyard.docker.lease_book import open_book
from stackyard.images import unused
from stackyard.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from fake_images import Yard

NAMELESS: dict[str, Any] = {
    "Id": f"sha256:{'b' * 64}", "RepoTags": None, "Labels": {"stackyard.image": "redis"}, "Size": 30_000_000,
    "Created": 1_700_000_000,
}  # fmt: skip


CHANGED = ("redis/Dockerfile", "auth/auth_service/app.py")


def change(yard: Yard) -> None:
    for name in CHANGED:
        file = yard.root / "compose" / name
        file.write_text(file.read_text() + "# changed\n")


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory, debian_images: Yard) -> Yard:
    """Build two services' images again, once for all tests: it takes over a second."""
    folder = tmp_path_factory.mktemp("rebuilt")
    with pytest.MonkeyPatch.context() as patch, lay_out(folder) as made:
        surround(patch, folder)
        made.copy(debian_images)
        change(made)
        images.ensure("debian", source="packages")
        return made


@pytest.fixture
def outdated(image_yard: Yard, rebuilt: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Images of two services that have been built again since, and one that lost its name."""
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "book"))
    old = images.references("debian", "packages")
    image_yard.copy(rebuilt)
    change(image_yard)
    image_yard.nameless.append(NAMELESS)
    return {service: old[service] for service in ("redis", "auth")}


def found() -> list[str]:
    with Engine() as engine:
        return [item.name for item in unused.find(disk_use(engine)[1])]


def test_surplus_is_what_no_recipe_names_and_what_has_no_name(outdated: dict[str, str]) -> None:
    assert found() == [NAMELESS["Id"], *sorted(outdated.values())]


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_tree_without_recipes_has_no_surplus(image_yard: Yard, outdated: dict[str, str], content: str | None) -> None:
    file = image_yard.root / "compose/images/recipes.json"
    file.unlink()
    if content is not None:
        file.write_text(content)

    assert outdated
    assert found() == []


def test_what_a_container_uses_is_no_surplus(image_yard: Yard, outdated: dict[str, str]) -> None:
    image_yard.used.add(outdated["redis"])

    assert found() == [NAMELESS["Id"], outdated["auth"]]


def test_another_s_label_and_another_s_name_are_left_alone(image_yard: Yard, outdated: dict[str, str]) -> None:
    foreign = {**NAMELESS, "Id": "sha256:c", "Labels": {}}
    renamed = {**NAMELESS, "Id": "sha256:d", "RepoTags": ["mine/redis:kept"]}
    image_yard.nameless.extend([foreign, renamed])

    assert found() == [NAMELESS["Id"], *sorted(outdated.values())]


def test_what_a_lease_names_is_kept(outdated: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with Engine() as engine:
        book = open_book(Settings.load(), engine)
        book.acquire(Surroundings(), variables={"STACKYARD_IMAGE_REDIS": outdated["redis"]})

    remove_images(Context(), yes=True, json=True)

    assert json.loads(capsys.readouterr().out)["removed"] == [NAMELESS["Id"], outdated["auth"]]


def test_a_plan_removes_nothing_and_tells_sizes(
    image_yard: Yard, outdated: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    remove_images(Context(), dry_run=True)
    table = capsys.readouterr().out
    remove_images(Context(), dry_run=True, json=True)
    rows = shaped("cleanup.images", json.loads(capsys.readouterr().out))

    assert re.search(
        rf"^{outdated['redis']} +21\.0 MiB +19\.1 MiB +2023-\S+ \S+ +no recipe names it$", table, re.MULTILINE
    )
    assert re.search(r"^sha256:b+ +28\.6 MiB +26\.7 MiB .* a later build took its name$", table, re.MULTILINE)
    assert "3 images; 'invoke cleanup.images --yes' removes them" in table
    assert [row["size_bytes"] for row in rows] == [30_000_000, 22_000_000, 22_000_000]
    assert not [request for request in image_yard.requests if request.startswith("DELETE")]


def test_a_removal_says_what_it_freed(outdated: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    remove_images(Context(), yes=True)

    out = capsys.readouterr().out
    assert f"removed {outdated['redis']}\n" in out
    assert re.search(r"^3 images removed, 64\.8 MiB freed$", out, re.MULTILINE)
    assert found() == []


def test_a_second_removal_finds_nothing(outdated: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    remove_images(Context(), yes=True)
    capsys.readouterr()

    remove_images(Context())
    remove_images(Context(), dry_run=True)

    assert outdated
    assert capsys.readouterr().out == "0 images removed, 0 MiB freed\nnothing to remove\n"


def test_nothing_is_removed_unasked(image_yard: Yard, outdated: dict[str, str]) -> None:
    with pytest.raises(Exit) as caught:
        remove_images(Context())

    assert outdated
    assert (caught.value.code, caught.value.message) == (
        2, "nothing removed; --yes removes without asking, --dry-run only shows what",
    )  # fmt: skip
    assert not [request for request in image_yard.requests if request.startswith("DELETE")]


def test_what_the_engine_will_not_give_up_is_named(image_yard: Yard, outdated: dict[str, str]) -> None:
    image_yard.refused.add(outdated["auth"])

    with pytest.raises(Exit, match=f"1 image left: {outdated['auth']}: .*being used by running container") as caught:
        remove_images(Context(), yes=True)

    assert caught.value.code == 8
    assert found() == [outdated["auth"]]
