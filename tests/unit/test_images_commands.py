from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from invoke.context import Context
from invoke.exceptions import Exit
from invoke_shell import shaped

from stackyard.cli.images import _age, build, list_

if TYPE_CHECKING:
    from fake_images import Yard


def test_build_prints_progress_then_a_table_and_makes_the_secrets(
    image_yard: Yard, capsys: pytest.CaptureFixture[str]
) -> None:
    build(Context(), flavour="debian", source="packages")

    out = capsys.readouterr().out
    assert "stackyard/base-debian:" in out
    assert re.search(
        r"^redis +debian +21\.0 MiB +\d+ d +packages +- +stackyard/redis:debian-\w{12}$", out, re.MULTILINE
    )
    assert re.search(r"^4 images from packages, ready after [0-9.]+ s$", out, re.MULTILINE)
    secrets = image_yard.root / "envs/secrets"
    assert {path.name for path in secrets.iterdir()} == {"postgres_password", "redis_password", "jwt_key"}
    assert secrets.stat().st_mode & 0o777 == 0o700


def test_building_twice_keeps_the_secrets_and_prints_the_table_alone(
    image_yard: Yard, capsys: pytest.CaptureFixture[str]
) -> None:
    build(Context(), flavour="debian", source="packages")
    before = (image_yard.root / "envs/secrets/jwt_key").read_text()
    capsys.readouterr()

    build(Context(), flavour="debian", source="packages")

    assert (image_yard.root / "envs/secrets/jwt_key").read_text() == before
    assert capsys.readouterr().out.splitlines()[0].startswith("service")


@pytest.mark.usefixtures("image_yard")
def test_json_holds_nothing_but_json(capsys: pytest.CaptureFixture[str]) -> None:
    build(Context(), flavour="debian", source="packages", json=True)
    built = shaped("images.build", json.loads(capsys.readouterr().out))
    list_(Context(), json=True)
    listed = shaped("images.list", json.loads(capsys.readouterr().out))

    assert {row["service"] for row in built["images"]} == {"postgres", "redis", "auth", "backend"}
    assert built["images"][0]["size_bytes"] == 22_000_000
    assert listed == built["images"]


@pytest.mark.usefixtures("image_yard")
def test_an_empty_list_names_the_command_that_fills_it(capsys: pytest.CaptureFixture[str]) -> None:
    list_(Context())

    assert capsys.readouterr().out == "no images yet; 'invoke images.build' makes them\n"


@pytest.mark.usefixtures("image_yard")
def test_the_list_reads_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    build(Context(), flavour="debian", source="packages")
    capsys.readouterr()

    list_(Context())

    assert len(capsys.readouterr().out.splitlines()) == 2 + 4


@pytest.mark.usefixtures("image_yard")
@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ({"flavour": "arch"}, 2, "--flavour must be debian, alpine or all, got 'arch'"),
        ({"source": "moon"}, 2, "auto, registry or packages, got 'moon'"),
        ({"flavour": "alpine", "source": "registry"}, 6, "STACKYARD_IMAGE_SOURCE=packages"),
    ],
)
def test_a_failure_is_one_line_and_its_exit_code(words: dict[str, str], code: int, text: str) -> None:
    with pytest.raises(Exit) as caught:
        build(Context(), **words)

    assert caught.value.code == code
    assert text in str(caught.value.message)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172800, "2 d")],
)
def test_an_age_is_reported_in_the_largest_unit_of_which_there_are_two(seconds: float, text: str) -> None:
    assert _age(seconds) == text
