"""Which images of copies may go, each rule by itself: a quick test for each guard in front of a loss."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from stackyard.docker import images, inspection
from stackyard.docker.images import EngineImage
from stackyard.docker.ownership import Build
from stackyard.errors import EngineError, RefusedError
from stackyard.images import copy_images, unused
from stackyard.images.copy_images import Used
from stackyard.images.holds import Hold
from stackyard.leases import fair_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW, KEEP = 1_000_000.0, 1000.0
BUILD = Build(host="book", project="shop-1", service="web")
ENGINE: Any = object()


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the engine says of each image, by name and id; the time stands still."""
    known: dict[str, Any] = {}

    def image(engine: object, name: str) -> Any:
        assert engine is ENGINE
        if name not in known:
            raise RefusedError(f"no such image: {name}")
        return known[name]

    monkeypatch.setattr(inspection, "image", image)
    monkeypatch.setattr(time, "time", lambda: NOW)
    return known


@pytest.fixture
def tag(monkeypatch: pytest.MonkeyPatch) -> Mock:
    made = Mock()
    monkeypatch.setattr(images, "tag", made)
    return made


def row(identity: str, *names: str, build: Build | None = BUILD, size: int = 1, created: float = 0.0) -> EngineImage:
    labels = build.labels if build else {}
    return EngineImage(id=identity, references=names, labels=labels, size=size, created=created)


def replaced(identity: str, **more: Any) -> EngineImage:
    return row(identity, BUILD.earlier(identity), **more)


def used(ago: float) -> dict[str, Any]:
    return {"Metadata": {"LastTagTime": datetime.fromtimestamp(NOW - ago, UTC).isoformat()}}


def listed(*rows: EngineImage, needed: Used | None = None, **words: Any) -> list[str]:
    return [
        item.image for item in copy_images.surplus(ENGINE, rows, "book", needed or Used(), **{"keep": KEEP, **words})
    ]


def test_what_is_not_surplus_hides_nothing_that_is(named: dict[str, Any]) -> None:
    named["sha256:3"] = used(5.0)

    assert listed(
        row("sha256:1", "mine:1", build=None), row("sha256:2", "mine:2"), row("sha256:3", BUILD.name),
        replaced("sha256:4"),
    ) == ["sha256:4"]  # fmt: skip


def test_the_largest_comes_first_and_of_two_the_one_whose_name_does() -> None:
    found = copy_images.surplus(
        ENGINE, [replaced("sha256:b", size=1), replaced("sha256:c", size=2), replaced("sha256:a", size=1)], "book",
        Used(), keep=KEEP,
    )  # fmt: skip

    assert [item.image for item in found] == ["sha256:c", *sorted(["sha256:a", "sha256:b"], key=BUILD.earlier)]


@pytest.mark.parametrize(
    ("words", "there"),
    [
        ({}, True), ({"project": ""}, True), ({"project": "shop-1"}, True), ({"project": "shop-2"}, False),
        ({"needed": Used(images={"sha256:1"})}, False), ({"needed": Used(projects={"shop-1"})}, False),
        ({"needed": Used(images={"sha256:2"}, projects={"shop-2"})}, True),
    ],
)  # fmt: skip
def test_what_a_copy_needs_and_what_another_project_has_is_no_surplus(words: Any, there: bool) -> None:
    assert bool(listed(replaced("sha256:1"), **words)) is there


@pytest.mark.parametrize(("ago", "there"), [(KEEP - 1, False), (KEEP, False), (KEEP + 1, True)])
def test_the_latest_image_stays_as_long_after_its_last_use_as_it_was_asked_to(
    named: dict[str, Any], ago: float, there: bool
) -> None:
    named["sha256:1"] = used(ago)

    assert bool(listed(row("sha256:1", BUILD.name))) is there
    assert not listed(row("sha256:1", BUILD.name, created=NOW - KEEP))


@pytest.mark.parametrize(
    "answer",
    [None, {}, {"Metadata": {}}, {"Metadata": {"More": 1}}, {"Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"}}],
)
def test_an_image_whose_last_use_no_one_knows_counts_from_its_build(
    named: dict[str, Any], answer: dict[str, Any] | None
) -> None:
    if answer is not None:
        named["sha256:1"] = answer

    assert copy_images._last_use(ENGINE, "sha256:1") == 0.0


def test_a_time_that_cannot_be_read_ends_the_list_in_one_line(named: dict[str, Any]) -> None:
    named["sha256:1"] = {"Metadata": {"LastTagTime": 5}}

    with pytest.raises(EngineError, match=r"^inspecting an image"):
        listed(row("sha256:1", BUILD.name))


@pytest.mark.parametrize(
    ("ago", "keep", "noted"),
    [
        (copy_images.FRESH - 1, 1e9, False), (copy_images.FRESH, 1e9, True), (99.9, KEEP, False), (100.0, KEEP, True),
        (95.0, KEEP, False),
    ],
)  # fmt: skip
def test_a_use_is_noted_unless_one_was_just_now(tag: Mock, ago: float, keep: float, noted: bool) -> None:
    answer = {"Id": "sha256:1", "RepoTags": [BUILD.name], **used(ago)}

    copy_images.note_use(ENGINE, BUILD, answer, keep=keep)

    assert [given.args for given in tag.mock_calls] == [(ENGINE, "sha256:1", BUILD.name)] * noted


def test_an_image_that_is_used_takes_the_name_and_the_one_before_keeps_one(named: dict[str, Any], tag: Mock) -> None:
    answer = {"Id": "sha256:1", "RepoTags": None, **used(1.0)}
    for before, kept in (
        ({"Id": "sha256:1"}, []),
        ({"Id": "sha256:2"}, [(ENGINE, "sha256:2", BUILD.earlier("sha256:2"))]),
    ):
        named[BUILD.name] = before
        tag.reset_mock()

        copy_images.note_use(ENGINE, BUILD, answer, keep=KEEP)

        assert [given.args for given in tag.mock_calls] == [*kept, (ENGINE, "sha256:1", BUILD.name)]


def test_the_latest_image_keeps_a_name_whatever_its_id(named: dict[str, Any], tag: Mock) -> None:
    for identity in ("sha256:1", "XXXX"):
        named[BUILD.name] = {"Id": identity}
        copy_images.keep_name(ENGINE, BUILD)

    assert [given.args[1] for given in tag.mock_calls] == ["sha256:1", "XXXX"]


def test_nothing_is_removed_where_the_file_system_has_no_locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fair_lock, "share", Mock(side_effect=OSError(22, "Invalid argument")))
    monkeypatch.setattr(fair_lock, "lock", Mock(side_effect=OSError(22, "Invalid argument")))
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        hold = Hold(handle, 7)
        hold.share()
        assert hold.alone() is False
    finally:
        os.close(handle)


def test_each_image_is_removed_under_the_guard_of_its_project_or_while_none_of_the_platform_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[str] = []

    @contextlib.contextmanager
    def building() -> Iterator[None]:
        events.append("no build")
        yield
        events.append("builds again")

    @contextlib.contextmanager
    def guard(project: str) -> Iterator[set[str]]:
        events.append(f"no start of {project}")
        yield {"shop:old"} if project == "shop" else set()
        events.append(f"starts of {project} again")

    def surplus(name: str, project: str) -> unused.Surplus:
        return unused.Surplus(name=name, image=name, size=1, shared=0, created=0.0, why="", project=project)

    monkeypatch.setattr(unused, "building", building)
    monkeypatch.setattr(unused, "disk_use", lambda _engine: (7, []))
    monkeypatch.setattr(unused, "untag", lambda _engine, name: events.append(f"remove {name}"))
    found = [surplus("busy:old", "busy"), surplus("shop:old", "shop"), surplus("own:old", "")]

    done = unused.remove(ENGINE, found, guard)

    assert events == [
        "no build", "remove own:old", "builds again", "no start of busy", "starts of busy again",
        "no start of shop", "remove shop:old", "starts of shop again",
    ]  # fmt: skip
    assert (done.removed, done.kept) == (("own:old", "shop:old"), (("busy:old", unused.BUSY),))


def test_no_image_that_a_recipe_of_any_flavour_and_source_names_is_surplus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def recipes(root: Path, flavour: str, source: str) -> dict[str, Any]:
        assert root == tmp_path
        name = f"stackyard/{flavour}:{source}"
        return {
            "auth": SimpleNamespace(reference=name, alias=f"{name}-plain"),
            "base": SimpleNamespace(reference="b", alias=None),
        }

    monkeypatch.setattr(unused, "service_recipes", recipes)
    monkeypatch.setattr(unused, "everything", list)

    assert unused.named_by_recipes(tmp_path) == {"b"} | {
        f"stackyard/{flavour}:{source}{more}"
        for flavour in ("debian", "alpine") for source in ("registry", "packages") for more in ("", "-plain")
    }  # fmt: skip
