"""Whatever the files hold, loading ends in environments or in one clear line."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackyard.errors import ConfigError
from stackyard.project.environments import load_all

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
FILES = ["envs/docker_environments.yaml", "envs/.env.ci", "compose/docker-compose.unified.yml"]
ORIGINALS = {file: (ROOT / file).read_bytes() for file in FILES}
REUSED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10), st.binary(max_size=5))
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner), max_leaves=6
)


@pytest.fixture
def load_with(tmp_path: Path) -> Callable[[str, bytes], None]:
    """Put bytes in the place of one file, load everything, and let nothing but a one-line ConfigError out."""
    shutil.copytree(ROOT / "envs", tmp_path / "envs", ignore=shutil.ignore_patterns("secrets"))
    (tmp_path / "compose").mkdir()

    def load(file: str, content: bytes) -> None:
        for name, original in ORIGINALS.items():
            (tmp_path / name).write_bytes(content if name == file else original)
        try:
            names = list(load_all(tmp_path))
        except ConfigError as error:
            words = str(error)
        else:
            words = " ".join(names)
        assert words.isprintable()
        assert len(words) < 1000

    return load


@pytest.mark.parametrize("file", FILES)
def test_any_bytes_are_environments_or_a_config_error(file: str, load_with: Callable[[str, bytes], None]) -> None:
    @REUSED
    @given(st.binary(max_size=300))
    def check(content: bytes) -> None:
        load_with(file, content)

    check()


@pytest.mark.parametrize("file", FILES)
def test_a_cut_or_overwritten_file_is_environments_or_a_config_error(
    file: str, load_with: Callable[[str, bytes], None]
) -> None:
    original = ORIGINALS[file]

    @REUSED
    @given(st.integers(0, len(original)), st.integers(0, 20), st.text(":{}[]&*!|>'\"%@`#-?,\t\n =$0aé", max_size=6))
    def check(place: int, removed: int, inserted: str) -> None:
        load_with(file, original[:place] + inserted.encode() + original[place + removed :])

    check()


@pytest.mark.parametrize("reader", ["CSafeLoader", "SafeLoader"])
def test_any_value_in_any_place_is_environments_or_a_config_error(
    reader: str, load_with: Callable[[str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml, "CSafeLoader", getattr(yaml, reader))
    tree = yaml.safe_load(ORIGINALS[FILES[0]])
    paths = [(), ("version",), ("environments",), ("environments", "dev")] + [
        ("environments", "dev", key) for key in tree["environments"]["dev"]
    ] + [("environments", "ci", "health", key) for key in tree["environments"]["ci"]["health"]]  # fmt: skip

    @REUSED
    @given(st.sampled_from(paths), TREES)
    def check(path: tuple[str, ...], value: object) -> None:
        changed = copy.deepcopy(tree)
        place = changed
        for key in path[:-1]:
            place = place[key]
        if path:
            place[path[-1]] = value
        load_with(
            FILES[0], yaml.safe_dump(changed if path else value, allow_unicode=True).encode("utf-8", "surrogatepass")
        )

    check()
