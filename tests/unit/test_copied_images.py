"""Images that copies were built with: what is ours, what copies still need, and what is removed."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fake_image_store import moment
from fake_project import FakeDocker
from invoke.context import Context
from invoke_shell import shaped

from stackyard.cli.cleanup import images as clean_up_images
from stackyard.docker.images import disk_use
from stackyard.docker.lease_book import open_book
from stackyard.docker.ownership import Build
from stackyard.errors import ImageError
from stackyard.images import holds, unused
from stackyard.leases.records import MODEL
from stackyard.project import Project
from stackyard.settings import Settings
from stackyard.stacks import builds, unused_images
from stackyard.stacks.copies.leased_project import CopiedProject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fake_engine import FakeEngine
    from fake_image_store import ImageStore

    from stackyard.docker import Engine
    from stackyard.leases import Lease, LeaseBook

DAY = 86400.0
OLD, NEW = "sha256:old000000000", "sha256:new000000000"


@pytest.fixture
def book(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, free_host: None) -> LeaseBook:
    del free_host  # in place
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return open_book(None, engine)


@pytest.fixture
def docker(fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    made = FakeDocker(fake_engine)
    made.install(monkeypatch)
    return made


@pytest.fixture
def store(fake_engine: FakeEngine, book: LeaseBook) -> ImageStore:
    """Two images of one service: a later build has taken the name of the first."""
    build = Build(host=book.host, project="shop-1", service="web")
    fake_engine.images.put(OLD, build.earlier(OLD), labels=build.labels, age=20 * DAY)
    fake_engine.images.put(NEW, build.name, labels=build.labels)
    return fake_engine.images


def of(book: LeaseBook) -> Build:
    return Build(host=book.host, project="shop-1", service="web")


def leased(book: LeaseBook, folder: Path, model: str) -> Lease:
    """Return the lease of a copy of shop-1 that has the text *model*."""
    lease = book.acquire(CopiedProject(name="shop-1", root=folder), ttl=600)
    (lease.directory / MODEL).write_text(model)
    return lease


def test_what_a_later_build_replaced_is_surplus_and_the_latest_image_is_not(
    store: ImageStore, book: LeaseBook, engine: Engine
) -> None:
    del store  # in place

    (found,) = unused_images.find(book, engine)

    assert (found.name, found.image, found.project) == (of(book).earlier(OLD), OLD, "shop-1")
    assert found.why == "a later build took its place"


def test_the_latest_image_is_surplus_when_no_copy_has_used_it_for_long(
    store: ImageStore, book: LeaseBook, engine: Engine
) -> None:
    store[NEW] |= {"Created": 0.0, "Metadata": {"LastTagTime": moment(15 * DAY)}}

    found = {item.image: item.why for item in unused_images.find(book, engine)}

    assert found == {OLD: "a later build took its place", NEW: "no copy has used it for 15 d"}


@pytest.mark.parametrize("metadata", [None, {"LastTagTime": "0001-01-01T00:00:00Z"}])
def test_an_image_that_never_got_a_name_here_counts_from_its_build(
    store: ImageStore, book: LeaseBook, engine: Engine, metadata: Any
) -> None:
    store[NEW] |= {"Metadata": metadata}

    assert [item.image for item in unused_images.find(book, engine)] == [OLD]


def test_only_images_with_our_labels_and_our_names_are_ours(
    fake_engine: FakeEngine, book: LeaseBook, engine: Engine
) -> None:
    own, stranger = of(book), replace(of(book), host="0123456789ab")
    worlds: list[tuple[dict[str, str], list[str]]] = [
        (stranger.labels, [stranger.earlier(OLD)]),  # another book's
        (stranger.labels, [own.earlier("sha256:2")]),
        (own.labels, ["mine/on-top-of-it:1"]),  # inherited labels
        (own.labels, []),
        ({}, [own.earlier("sha256:5")]),  # somebody gave our name to it
        ({key: value for key, value in own.labels.items() if "service" not in key}, [own.earlier("sha256:6")]),
        (replace(own, project="other-2").labels, [own.earlier("sha256:7")]),
    ]
    for number, (labels, names) in enumerate(worlds, 1):
        fake_engine.images.put(f"sha256:{number}", *names, labels=labels, age=90 * DAY, used=90 * DAY)

    assert unused_images.find(book, engine, disk_use(engine)[1]) == unused_images.find(book, engine) == []


def test_a_name_that_somebody_gave_stays_and_the_image_with_it(
    store: ImageStore, book: LeaseBook, engine: Engine
) -> None:
    store.tag(OLD, "mine/kept:1")

    found = unused_images.find(book, engine)
    unused.remove(engine, found, unused_images.guard(book, engine))

    assert [item.why for item in found] == ["a later build took its place; the image stays under its other names"]
    assert store[OLD]["RepoTags"] == ["mine/kept:1"]


def test_what_a_container_uses_is_no_surplus(
    store: ImageStore, fake_engine: FakeEngine, book: LeaseBook, engine: Engine
) -> None:
    del store  # in place
    fake_engine.container("db")["image"] = OLD

    assert unused_images.find(book, engine) == []
    assert unused_images.find(book, engine, disk_use(engine)[1]) == []


@pytest.mark.parametrize(
    "model", [json.dumps({"services": {"web": {"image": OLD}}}), "[", "[1]", '{"services": [1]}', '{"services": 1}']
)
def test_what_a_copy_may_need_that_has_no_container_now_is_no_surplus(
    store: ImageStore, book: LeaseBook, engine: Engine, folder: Path, model: str
) -> None:
    del store  # in place
    lease = leased(book, folder, model)

    assert unused_images.find(book, engine) == []
    book.release(lease)
    assert [item.image for item in unused_images.find(book, engine)] == [OLD]


def test_nothing_is_removed_while_a_start_of_the_project_is_under_way(
    store: ImageStore, book: LeaseBook, engine: Engine
) -> None:
    found = unused_images.find(book, engine)
    guard = unused_images.guard(book, engine)

    with holds.hold(book.settings, "shop-1") as start, holds.hold(book.settings, "other-2") as other:
        start.share()
        other.share()
        kept = unused.remove(engine, found, guard)
    with holds.hold(book.settings, "other-2") as other:
        other.share()
        gone = unused.remove(engine, found, guard)

    assert (kept.removed, kept.left, kept.kept) == ((), (), ((of(book).earlier(OLD), unused.BUSY),))
    assert gone.removed == (of(book).earlier(OLD),)
    assert OLD not in store
    assert NEW in store


def test_what_a_start_needs_is_no_surplus(store: ImageStore, book: LeaseBook, engine: Engine) -> None:
    with holds.hold(book.settings, "shop-1") as hold:
        unused_images.clear(book, engine, "shop-1", hold, {OLD})

    assert unused_images.find(book, engine, but={OLD}) == []
    assert OLD in store


def test_what_any_of_several_copies_needs_is_no_surplus(
    store: ImageStore, book: LeaseBook, engine: Engine, folder: Path
) -> None:
    del store  # in place
    for image in ("first", OLD, "last"):
        leased(book, folder, json.dumps({"services": {"web": {"image": image}}}))

    assert unused_images.find(book, engine) == []


def test_only_images_of_the_project_that_is_held_are_removed(
    store: ImageStore, book: LeaseBook, engine: Engine
) -> None:
    with unused_images.guard(book, engine)("other-2") as free:
        assert free == set()
    with holds.hold(book.settings, "other-2") as hold:
        unused_images.clear(book, engine, "other-2", hold, ())
    assert OLD in store

    with holds.hold(book.settings, "shop-1") as hold:
        unused_images.clear(book, engine, "shop-1", hold, ())
    assert OLD not in store


def test_what_came_into_use_after_the_list_is_kept(
    store: ImageStore, fake_engine: FakeEngine, book: LeaseBook, engine: Engine
) -> None:
    found = unused_images.find(book, engine)
    fake_engine.container("db")["image"] = OLD

    done = unused.remove(engine, found, unused_images.guard(book, engine))

    assert (done.removed, [name for name, _ in done.kept]) == ((), [of(book).earlier(OLD)])
    assert OLD in store
    done.check()


def test_what_the_engine_refuses_is_named(
    store: ImageStore, fake_engine: FakeEngine, book: LeaseBook, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = unused_images.find(book, engine)
    monkeypatch.setattr("stackyard.docker.images.used", lambda _engine: set())  # the container comes after the list
    fake_engine.container("db")["image"] = OLD

    done = unused.remove(engine, found, unused_images.guard(book, engine))

    assert [name for name, _ in done.left] == [of(book).earlier(OLD)]
    assert "container c is using its referenced image" in done.left[0][1]
    assert OLD in store


def test_two_removals_at_once_both_succeed(store: ImageStore, book: LeaseBook, engine: Engine) -> None:
    found = unused_images.find(book, engine)

    @contextlib.contextmanager
    def late(project: str) -> Iterator[set[str]]:
        unused.remove(engine, found, unused_images.guard(book, engine))
        yield {item.name for item in found if item.project == project}

    assert unused.remove(engine, found, late).removed == (of(book).earlier(OLD),)
    assert OLD not in store


# the builds themselves


class Shop:
    """The builds of one project for one book."""

    def __init__(self, folder: Path, book: LeaseBook, engine: Engine, docker: FakeDocker) -> None:
        self.folder, self.book, self.engine, self.docker = folder, book, engine, docker
        self.services: dict[str, Any] = {"web": {}}

    def built(self) -> AbstractContextManager[dict[str, str]]:
        section = {"context": str(self.folder), "dockerfile": "Dockerfile"}
        services = {
            name: {**more, "build": {**section, **more.get("build", {})}} for name, more in self.services.items()
        }
        usual = {"name": "shop", "services": services}
        project = Project.find(self.folder, environment={})
        return builds.built(project, usual, "shop-1", self.book, self.engine, lambda _line: None)

    def build(self) -> str:
        with self.built() as found:
            return found["web"]

    def change(self) -> None:
        file = self.folder / "app.py"
        file.write_text(file.read_text() + "#\n" if file.exists() else "#\n")

    @property
    def ids(self) -> list[str]:
        return self.docker.built()


@pytest.fixture
def shop(folder: Path, book: LeaseBook, engine: Engine, docker: FakeDocker) -> Shop:
    return Shop(folder, book, engine, docker)


def test_a_build_gives_labels_and_a_name_of_its_book_and_none_of_the_user_s(shop: Shop) -> None:
    shop.services["web"]["build"] = {"tags": ["shop:dev"], "labels": {"own": "1"}}

    row = shop.docker.engine.images[shop.build()]

    assert row["Config"]["Labels"] == {"own": "1", **of(shop.book).labels}
    assert row["RepoTags"] == [f"stackyard-copy/{shop.book.host}/shop-1:web"]


def test_a_build_removes_what_it_replaced_unless_a_copy_needs_it(shop: Shop) -> None:
    used = shop.build()
    lease = leased(shop.book, shop.folder, json.dumps({"services": {"web": {"image": used}}}))
    shop.change()
    second = shop.build()
    assert shop.ids == [used, second]

    shop.book.release(lease)
    shop.change()
    third = shop.build()

    assert shop.ids == [third]


def test_a_build_removes_nothing_while_another_start_is_under_way(shop: Shop) -> None:
    with shop.built() as first:
        shop.change()
        with shop.built() as second:
            pass

    assert shop.ids == [first["web"], second["web"]]


def test_no_build_removes_nothing(shop: Shop, store: ImageStore) -> None:
    shop.build()
    store.put(OLD, of(shop.book).earlier(OLD), labels=of(shop.book).labels)

    shop.build()

    assert OLD in store


def test_a_use_is_noted_once_an_hour(shop: Shop) -> None:
    row = shop.docker.engine.images[shop.build()]
    for ago, noted in ((1800.0, False), (7200.0, True)):
        row["Metadata"]["LastTagTime"] = before = moment(ago)

        shop.build()

        assert (row["Metadata"]["LastTagTime"] != before) is noted


def test_an_image_that_lost_its_name_gets_it_again(shop: Shop) -> None:
    images, name = shop.docker.engine.images, of(shop.book).name
    first = shop.build()
    images.put(NEW, labels={})
    images.tag(NEW, name)  # somebody gives the name to an image of theirs

    assert shop.build() == first

    assert images[first]["RepoTags"] == [name]
    assert images[NEW]["RepoTags"] == [of(shop.book).earlier(NEW)]
    assert shop.docker.builds() == 1


def test_two_books_of_one_folder_have_images_of_their_own(
    shop: Shop, tmp_path: Path, engine: Engine, docker: FakeDocker
) -> None:
    settings = Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "another")})
    other = Shop(shop.folder, open_book(settings, engine), engine, docker)
    theirs = other.build()
    own = shop.build()
    shop.change()
    shop.build()
    shop.change()
    with shop.built():
        assert [item.image for item in unused_images.find(other.book, engine)] == []

    assert own not in shop.ids
    assert theirs in shop.ids
    assert docker.engine.images[theirs]["RepoTags"] == [f"stackyard-copy/{other.book.host}/shop-1:web"]


def test_an_image_that_vanishes_right_after_its_build_is_an_error(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeDocker, "_build", lambda *_: None)

    with pytest.raises(ImageError, match=r"^web: the build ended, but image stackyard-copy/\S+ is not on this engine$"):
        shop.build()


def test_a_project_s_name_makes_a_valid_repository(book: LeaseBook) -> None:
    odd = Build(host=book.host, project="a___b_-c--d-1", service="web")

    assert odd.name == f"stackyard-copy/{book.host}/a-b-c-d-1:web"
    assert odd.own([odd.name, odd.earlier(OLD), of(book).name]) == [odd.name, odd.earlier(OLD)]


# the command


def test_the_command_lists_then_removes_and_says_what_it_kept(
    store: ImageStore, book: LeaseBook, capsys: pytest.CaptureFixture[str]
) -> None:
    name = of(book).earlier(OLD)
    clean_up_images(Context(), dry_run=True)
    assert f"{name}  28.6 MiB" in (out := capsys.readouterr().out)
    assert "1 image; 'invoke cleanup.images --yes' removes it" in out
    clean_up_images(Context(), dry_run=True, json=True)
    (row,) = shaped("cleanup.images", json.loads(capsys.readouterr().out))
    assert (row["name"], row["project"]) == (name, "shop-1")

    with holds.hold(book.settings, "shop-1") as start:
        start.share()
        clean_up_images(Context(), yes=True)
    assert capsys.readouterr().out == f"kept {name}: {unused.BUSY}\n0 images removed, 0 MiB freed\n"
    clean_up_images(Context(), yes=True, json=True)

    assert shaped("cleanup.images", json.loads(capsys.readouterr().out))["removed"] == [name]
    assert OLD not in store
