"""What the project says about its images: the file fits its records, and a wrong one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stackyard.errors import ImageError
from stackyard.images import recipe_file
from stackyard.images.recipes import FLAVOURS, service_recipes
from stackyard.project.environments import Environment

ROOT = Path(__file__).parents[2]
BASE = {"official": {"debian": "d", "alpine": "a"}, "packages": "p", "material": None}


def written(root: Path, content: Any) -> Path:
    file = root / recipe_file.FILE
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(content))
    return root


def test_the_project_s_own_file_has_an_image_for_each_service_of_its_environments() -> None:
    services = recipe_file.read(ROOT).services

    assert services.keys() == Environment.load("test").ports.keys()
    for flavour in FLAVOURS:
        assert service_recipes(ROOT, flavour, "packages").keys() == services.keys()


def test_a_base_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    service = {"base": "bse", "dockerfile": {}, "files": [], "scripts": []}
    root = written(tmp_path, {"services": {"shop": service}, "bases": {"base": BASE}})

    with pytest.raises(ImageError, match=r"^compose/images/recipes\.json: service shop has the base 'bse', which"):
        recipe_file.read(root)


@pytest.mark.parametrize(("content", "rule"), [
    ({"services": {"shop": {"bse": "x"}}}, r"unknown field `bse` - at `\$\.services\[\.\.\.\]`"),
    ({"bases": {"base": {**BASE, "packages": 1}}}, "Expected `str`, got `int`"),
])  # fmt: skip
def test_a_file_of_another_shape_is_one_clear_error(tmp_path: Path, content: Any, rule: str) -> None:
    with pytest.raises(ImageError, match=f"^compose/images/recipes\\.json: .*{rule}"):
        recipe_file.read(written(tmp_path, content))


def test_a_project_without_the_file_builds_no_images(tmp_path: Path) -> None:
    assert service_recipes(tmp_path, "debian", "packages") == {}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / recipe_file.FILE).mkdir(parents=True)

    with pytest.raises(ImageError, match=r"recipes\.json: an image needs this file"):
        service_recipes(tmp_path, "debian", "packages")
