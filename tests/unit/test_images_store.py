from __future__ import annotations

import fcntl
import json
import re
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from image_builder import order
from stackyard import images
from stackyard.docker import Engine
from stackyard.errors import EngineError, ImageError, UsageError
from stackyard.images.builder import missing_tools
from stackyard.images.recipes import service_recipes
from stackyard.images.store import building, is_as_named

if TYPE_CHECKING:
    from pathlib import Path

    from fake_images import Yard

SERVICES = {"postgres", "redis", "auth", "backend"}


def test_what_is_missing_is_built_from_the_bottom_up(image_yard: Yard) -> None:
    lines: list[str] = []

    references = images.ensure("debian", source="packages", progress=lines.append)

    built = image_yard.builds()
    assert references.keys() == SERVICES
    assert sorted(built) == sorted([*SERVICES, "base-postgres-debian", "base-redis-debian", "base-python-debian"])
    for service, base in {"redis": "redis", "postgres": "postgres", "auth": "python", "backend": "python"}.items():
        assert built.index(f"base-{base}-debian") < built.index(service)
    assert [line for line in lines if re.fullmatch(r"stackyard/redis:debian-\w{12}: built in [0-9.]+ s", line)]


def test_an_unchanged_tree_builds_nothing_says_nothing_and_asks_once(built_yard: Yard) -> None:
    first = images.references("debian", "packages")
    done, built_yard.requests[:] = built_yard.calls, []
    lines: list[str] = []

    second = images.ensure("debian", source="packages", progress=lines.append)

    assert second == first
    assert built_yard.requests == ["GET /images/json"]
    assert (built_yard.calls, lines) == (done, [])


def test_a_name_that_means_another_image_is_noticed_and_built_again(built_yard: Yard) -> None:
    debian = images.references("debian", "packages")
    built_yard.tag(debian["auth"], debian["redis"])
    before, lines = len(built_yard.builds()), list[str]()
    with Engine() as engine:
        assert images.present("debian", engine, source="packages") is None

    assert images.ensure("debian", source="packages", progress=lines.append) == debian

    assert built_yard.builds()[before:] == ["redis"]
    assert lines[0].startswith(f"image {debian['redis']} is another one by now (its content is ")
    assert images.ensure("debian", source="packages", progress=lines.append) == debian
    assert len(built_yard.builds()) == before + 1


@pytest.mark.parametrize(
    ("reference", "content", "fine"),
    [
        ("stackyard/redis:debian-0123456789ab", "0123456789abcdef", True),
        ("stackyard/redis:debian-0123456789ab", "fedcba9876543210", False),
        ("stackyard/base-redis-debian:0123456789ab", "fedcba9876543210", False),
        ("stackyard/redis:debian-0123456789ab", "", False),
        ("stackyard/redis:debian", "fedcba9876543210", True),
        ("stackyard/redis:alpine-test", "fedcba9876543210", True),
        ("other/redis:debian-0123456789ab", "fedcba9876543210", True),
    ],
)
def test_a_name_tells_the_content(reference: str, content: str, fine: bool) -> None:
    assert is_as_named(reference, {"stackyard.content": content}) is fine


def test_auto_takes_what_is_there_without_asking_the_registry(built_yard: Yard) -> None:
    built = images.references("debian", "packages")
    built_yard.requests.clear()

    assert images.ensure("debian", source="auto") == built
    assert built_yard.requests == ["GET /images/json"]


def test_a_changed_file_rebuilds_only_what_it_goes_into(built_yard: Yard) -> None:
    before = images.references("debian", "packages")
    (built_yard.root / "compose/redis/redis.conf").write_text("save ''\n")
    count = len(built_yard.builds())

    after = images.ensure("debian", source="packages")

    assert built_yard.builds()[count:] == ["redis"]
    assert {name for name in SERVICES if after[name] != before[name]} == {"redis"}
    assert (
        "stackyard/redis:debian"
        in next(row for row in built_yard.rows() if after["redis"] in row["RepoTags"])["RepoTags"]
    )


@pytest.fixture
def second(built_yard: Yard, tmp_path: Path) -> Path:
    """Another checkout of the same project, whose redis is another; the first one's images are there."""
    root = tmp_path / "second"
    shutil.copytree(built_yard.root, root)
    (root / "compose/redis/redis.conf").write_text("save ''\n")
    return root


def stands_for(image_yard: Yard, name: str) -> str:
    """Return the content that the image with *name* has."""
    (row,) = (row for row in image_yard.rows() if name in row["RepoTags"])
    return str(row["Labels"]["stackyard.content"][:12])


def test_a_second_checkouts_build_leaves_the_plain_names_to_the_first(image_yard: Yard, second: Path) -> None:
    lines: list[str] = []
    first = images.references("debian", "packages", root=image_yard.root)

    built = images.ensure("debian", source="packages", root=second, progress=lines.append)
    again: list[str] = []
    images.ensure("debian", source="packages", root=second, progress=again.append)

    assert {service for service in SERVICES if built[service] != first[service]} == {"redis"}  # all else is shared
    assert first["redis"].endswith(stands_for(image_yard, "stackyard/redis:debian"))
    assert (
        lines[-1] == f"stackyard/redis:debian stays the image of {image_yard.root}, where plain docker compose uses it"
    )
    assert again == []


def test_a_plain_name_follows_the_checkout_that_it_belongs_to(image_yard: Yard, second: Path) -> None:
    images.ensure("debian", source="packages", root=second)
    (image_yard.root / "compose/redis/redis.conf").write_text("save 1 1\n")

    built = images.ensure("debian", source="packages", root=image_yard.root)

    assert built["redis"].endswith(stands_for(image_yard, "stackyard/redis:debian"))


@pytest.mark.parametrize("way", ["taken", "gone", "nameless"])
def test_a_plain_name_becomes_a_second_checkouts(image_yard: Yard, second: Path, way: str) -> None:
    if way == "gone":
        image_yard.root.rename(image_yard.root.with_name("moved"))
    if way == "nameless":
        image_yard.remove("stackyard/redis:debian")

    built = images.ensure("debian", source="packages", root=second, take_names=way == "taken" or None)

    assert built["redis"].endswith(stands_for(image_yard, "stackyard/redis:debian"))


def test_a_checkout_that_finds_its_images_under_the_plain_names_owns_them(image_yard: Yard, second: Path) -> None:
    (image_yard.folder / "cache/stackyard/plain-names.json").unlink()
    first = images.ensure("debian", source="packages", root=image_yard.root)

    images.ensure("debian", source="packages", root=second)

    assert first["redis"].endswith(stands_for(image_yard, "stackyard/redis:debian"))


def test_a_plain_name_on_another_engine_is_another_one(image_yard: Yard, second: Path) -> None:
    record = image_yard.folder / "cache/stackyard/plain-names.json"
    (address,) = json.loads(record.read_text())
    record.write_text(record.read_text().replace(address, "unix:///elsewhere.sock"))

    built = images.ensure("debian", source="packages", root=second)

    assert built["redis"].endswith(stands_for(image_yard, "stackyard/redis:debian"))
    assert set(json.loads(record.read_text())) == {address, "unix:///elsewhere.sock"}


@pytest.mark.parametrize("content", ["", "[1]", '{"stackyard/redis:debian": 1}', '{"unix:///e.sock": {"x": 1}}'])
def test_a_damaged_record_of_the_plain_names_stops_nothing(image_yard: Yard, second: Path, content: str) -> None:
    (image_yard.folder / "cache/stackyard/plain-names.json").write_text(content)

    built = images.ensure("debian", source="packages", root=second)

    assert built["redis"].endswith(stands_for(image_yard, "stackyard/redis:debian"))


def test_a_failed_build_says_image_step_and_last_lines_and_leaves_no_tag(image_yard: Yard) -> None:
    image_yard.break_build("redis")

    with pytest.raises(ImageError) as caught:
        images.ensure("debian", source="packages")

    text = str(caught.value)
    assert re.match(r"stackyard/redis:debian-\w{12}: failed at step 'RUN make':\n", text)
    assert "make: *** No rule to make target" in text
    assert not [row for row in image_yard.rows() if row["Labels"]["stackyard.image"] == "redis"]
    assert not list(image_yard.folder.glob("stackyard-images-*"))


def test_a_second_try_goes_on_from_where_the_first_one_failed(image_yard: Yard) -> None:
    image_yard.break_build("postgres")
    with pytest.raises(ImageError):
        images.ensure("debian", source="packages")
    image_yard.break_build()
    count = len(image_yard.builds())

    images.ensure("debian", source="packages")

    assert "base-postgres-debian" not in image_yard.builds()[count:]
    assert "postgres" in image_yard.builds()[count:]


def test_a_second_process_waits_and_then_finds_everything_built(image_yard: Yard) -> None:
    lock = image_yard.folder / "cache/stackyard/images.lock"
    lock.parent.mkdir(parents=True)
    waiting = threading.Event()
    result: list[dict[str, str]] = []
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        other = threading.Thread(
            target=lambda: result.append(
                images.ensure(
                    "debian", source="packages", progress=lambda line: waiting.set() if "waiting" in line else None
                )
            )
        )
        other.start()
        assert waiting.wait(60)
        assert image_yard.builds() == []
    other.join(240)

    assert result == [images.references("debian", "packages")]


def test_official_images_are_pinned_by_the_digest_the_registry_gave(image_yard: Yard) -> None:
    image_yard.digests = {
        f"{name}": f"sha256:{name}" for name in ("postgres:17-trixie", "redis:8-trixie", "python:3.13-slim-trixie")
    }
    lines: list[str] = []

    images.ensure("debian", source="registry", progress=lines.append)

    found = {image.service: image for image in images.listing()}
    assert sorted(image_yard.builds()) == sorted(SERVICES)
    assert found["redis"].base == "redis:8-trixie@sha256:redis:8-trixie"
    assert found["redis"].source == "registry"
    assert f"{found['redis'].reference}: based on redis:8-trixie@sha256:redis:8-trixie" in lines
    assert "--build-arg BASE=python@sha256:python:3.13-slim-trixie" in "\n".join(image_yard.calls)


def test_a_pull_that_is_refused_is_reported_in_the_engines_words(image_yard: Yard) -> None:
    image_yard.digests["redis:8-trixie"] = "sha256:1"
    (image_yard.state / "no-pull").touch()
    for name in ("postgres:17-trixie", "python:3.13-slim-trixie"):
        image_yard.digests[name] = "sha256:2"

    with pytest.raises(ImageError, match=r"docker pull \w+@sha256:\d failed:\n  toomanyrequests"):
        images.ensure("debian", source="registry")


@pytest.mark.usefixtures("image_yard")
def test_a_registry_that_does_not_answer_names_the_way_without_it() -> None:
    with pytest.raises(ImageError, match="STACKYARD_IMAGE_SOURCE=packages"):
        images.ensure("alpine", source="registry")


def test_the_listing_tells_size_and_source_and_leaves_bases_out(built_yard: Yard) -> None:
    references = images.references("debian", "packages")

    found = images.listing()

    assert {image.service: image.reference for image in found} == references
    assert {(image.size, image.source, image.base, image.flavour) for image in found} == {
        (22_000_000, "packages", "", "debian")
    }
    assert len(built_yard.rows()) == 8


@pytest.mark.usefixtures("image_yard")
@pytest.mark.parametrize(
    ("flavour", "source", "error", "words"),
    [
        ("arch", "packages", ImageError, "no images of flavour 'arch'; known are debian, alpine"),
        ("debian", "moon", UsageError, "must be auto, registry or packages, got 'moon'"),
    ],
)
def test_unknown_words_are_refused(flavour: str, source: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        images.ensure(flavour, source=source)


def test_a_missing_file_is_named(image_yard: Yard) -> None:
    (image_yard.root / "compose/redis/Dockerfile.alpine").unlink()

    with pytest.raises(ImageError, match=r"redis/Dockerfile\.alpine: an image needs this file"):
        images.references("alpine", "packages")


def test_a_base_that_cannot_be_made_says_the_step(image_yard: Yard) -> None:
    (image_yard.state / "no-bootstrap").touch()

    with pytest.raises(ImageError, match=r"base-debian: mmdebstrap: exit code 25:\n  E: mmdebstrap failed to run"):
        images.ensure("debian", source="packages")
    assert image_yard.rows() == []


def test_old_lists_and_a_broken_third_party_source_on_the_host_do_not_matter(image_yard: Yard) -> None:
    (image_yard.state / "no-lists").touch()

    images.ensure("debian", source="packages")

    updates = [call for call in image_yard.calls if call.startswith("apt-get") and call.endswith(" update")]
    assert len(updates) == 1
    assert "Dir::State::lists=" in updates[0]
    assert "redis" in image_yard.builds()


def test_the_perl_modules_a_bare_host_lacks_are_fetched_and_not_installed(image_yard: Yard) -> None:
    (image_yard.state / "bare-perl").touch()

    images.ensure("debian", source="packages")

    assert any(call.endswith("download perl-modules-5.36 libperl5.36") for call in image_yard.calls)
    assert not any(call.startswith("apt-get") and " install" in call for call in image_yard.calls)
    folders = image_yard.state.with_name("state.perl5lib").read_text().split(":")
    assert [folder.split("/root/")[1].strip() for folder in folders] == [
        "usr/share/perl/5.36", "usr/lib/x86_64-linux-gnu/perl/5.36",
    ]  # fmt: skip


def test_what_takes_longest_is_begun_first(image_yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "WORKERS", 1)  # two would race to be noted first
    recipes = service_recipes(image_yard.root, "debian", "packages")

    order.build(image_yard.root, "debian", recipes.values(), {}, lambda _line: None)

    assert image_yard.builds()[:2] == ["base-postgres-debian", "postgres"]


def test_a_project_without_a_builder_gets_an_error(image_yard: Yard) -> None:
    program = image_yard.root / "compose/images"
    (program / "__main__.py").unlink()

    with pytest.raises(ImageError) as caught:
        images.ensure("debian", source="packages")

    wanted = ", ".join(images.references("debian", "packages").values())
    assert str(caught.value) == f"no such image: {wanted}; {program}, which would build it, is not there"


def test_a_builder_that_fails_without_saying_why_shows_its_last_lines(image_yard: Yard) -> None:
    program = image_yard.root / "compose/images"
    (program / "__main__.py").write_text("raise RuntimeError('out of luck')\n")

    with pytest.raises(ImageError, match=r"(?s)^\S+/compose/images failed:\n.*RuntimeError: out of luck$"):
        images.ensure("debian", source="packages")


def test_an_engine_that_fails_the_builder_keeps_its_kind(image_yard: Yard) -> None:
    program = image_yard.root / "compose/images"
    (program / "__main__.py").write_text("print('step'); print('error: the engine is away\\n  sorry'); exit(3)\n")
    lines: list[str] = []

    with pytest.raises(EngineError, match=r"^the engine is away\n  sorry$"):
        images.ensure("debian", source="packages", progress=lines.append)
    assert lines == ["step"]


def test_a_builder_that_is_stopped_ends_and_leaves_no_files(image_yard: Yard) -> None:
    lines: list[str] = []

    def stop(line: str) -> None:
        lines.append(line)
        if "building from" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        images.ensure("debian", source="packages", progress=stop)

    assert lines[-1].startswith("interrupted: building the images of debian was stopped; nothing was started")
    assert not list(image_yard.folder.glob("stackyard-images-*"))
    with building():  # the lock is free
        pass


def test_what_the_builder_needs_of_the_host_is_listed_where_there_is_one(
    image_yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(image_yard.folder / "bin"))
    tools = image_yard.root / "compose/images/tools.json"

    assert missing_tools(image_yard.root) == {"gpgv": "gpgv", "tar": "tar", "newuidmap": "uidmap"}
    tools.write_text("[]")
    with pytest.raises(ImageError, match=r"tools\.json: cannot be read as the builder's list of tools"):
        missing_tools(image_yard.root)
    tools.unlink()
    assert missing_tools(image_yard.root) == {}
