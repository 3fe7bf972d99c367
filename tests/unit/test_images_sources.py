from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from stackyard.docker import Engine
from stackyard.docker.images import labelled, registry_digest, tag, untag
from stackyard.errors import EngineError, UsageError
from stackyard.images import resolve_source
from stackyard.images.sources import KEPT, PROBED

if TYPE_CHECKING:
    from pathlib import Path

    from fake_images import Yard


@pytest.mark.parametrize("setting", ["registry", "packages"])
def test_a_named_source_is_taken_at_its_word(setting: str, tmp_path: Path) -> None:
    assert resolve_source(setting, cache=tmp_path) == setting
    assert not list(tmp_path.iterdir())


def test_an_unknown_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="auto, registry or packages, got 'Registry'"):
        resolve_source("Registry", cache=tmp_path)


def test_auto_is_the_registry_while_it_answers(image_yard: Yard, tmp_path: Path) -> None:
    image_yard.digests[PROBED] = "sha256:1"

    assert resolve_source("auto", cache=tmp_path / "cache") == "registry"


def test_auto_remembers_its_answer_for_a_while(image_yard: Yard, tmp_path: Path) -> None:
    now = [1000.0]

    def ask() -> str:
        return resolve_source("auto", cache=tmp_path / "cache", clock=lambda: now[0])

    assert ask() == "packages"
    image_yard.digests[PROBED] = "sha256:1"
    now[0] += KEPT - 1
    assert ask() == "packages"
    assert len(image_yard.requests) == 1
    now[0] += 2
    assert ask() == "registry"
    now[0] -= 2 * KEPT  # the clock was set back
    assert ask() == "registry"
    assert len(image_yard.requests) == 3


@pytest.mark.parametrize(
    "text", ["", "[]", '{"at": 0}', '{"at": "x", "source": "registry"}', '{"at": 1, "source": "moon"}']
)
def test_a_memory_that_makes_no_sense_is_forgotten(image_yard: Yard, tmp_path: Path, text: str) -> None:
    (tmp_path / "source.json").write_text(text)

    assert resolve_source("auto", cache=tmp_path, clock=lambda: 2.0) == "packages"
    assert image_yard.requests == [f"GET /distribution/{PROBED}/json"]


# the client library leaves the socket of a failed connect to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_engine_counts_as_no_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")

    assert registry_digest(PROBED, deadline=1) is None
    gc.collect()


def test_names_are_given_and_taken(image_yard: Yard) -> None:
    (image_yard.state / "stackyard_a_1").write_text("stackyard/a:1\nstackyard.image=a\nstackyard.flavour=debian")
    with Engine(deadline=5) as engine:
        tag(engine, "stackyard/a:1", "stackyard/a:2")
        both = labelled(engine, "stackyard.image")
        untag(engine, "stackyard/a:1")
        one = labelled(engine, "stackyard.image")

    assert [image.references for image in both] == [("stackyard/a:1", "stackyard/a:2")]
    assert [image.references for image in one] == [("stackyard/a:2",)]
    assert both[0].labels == {"stackyard.image": "a", "stackyard.flavour": "debian"}


def test_an_image_in_use_keeps_its_name(image_yard: Yard) -> None:
    image_yard.refused.add("stackyard/a:1")

    with (
        Engine(deadline=5) as engine,
        pytest.raises(EngineError, match="removing image stackyard/a:1: the engine refused: image is being used"),
    ):
        untag(engine, "stackyard/a:1")
