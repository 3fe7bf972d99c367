"""The wheel in an environment of its own, with the locked versions: what comes along, and what works."""

from __future__ import annotations

import json
import os
import re
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from stackyard._util.process import run
from stackyard.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT: Final = Path(__file__).parents[2]
PINNED: Final = re.compile(r"^([\w.-]+==[^\s\\]+(?: ; [^\\]+)?)", re.MULTILINE)
DEADLINE: Final = 600.0  # seconds for an installation from a slow index
LARGEST_MB: Final = 30  # of all packages; measured: 22.3, and 23.0 with the extra `cli`
NEEDED: Final = frozenset(
    "asyncpg certifi charset-normalizer docker filelock idna msgspec platformdirs psutil pyyaml requests stackyard "
    "urllib3 websockets".split()
)
LIST: Final = """
import json
from importlib.metadata import distributions
print(json.dumps([(each.name, each.version) for each in distributions()]))
"""
EVERY_NAME: Final = """
import stackyard
for name in stackyard.__all__:
    getattr(stackyard, name)
from stackyard import running
"""
COMPOSE: Final = """
services:
  web:
    image: shop/web:1
    container_name: shop-web
    ports: ["8080:80"]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], deadline=280, cwd=ROOT)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def constraints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the locked versions without their hashes, which the wheel itself cannot have."""
    file = tmp_path_factory.mktemp("locked") / "constraints.txt"
    file.write_text("\n".join(PINNED.findall((ROOT / "requirements.lock").read_text())), encoding="utf-8")
    return file


@pytest.fixture(scope="module", params=["", "[cli]"], ids=["bare", "cli"])
def extra(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def environment(wheel: Path, constraints: Path, extra: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "--disable-pip-version-check"]
    words = [
        "install",
        "--quiet",
        "--no-compile",
        "--constraint",
        str(constraints),
        f"stackyard{extra} @ {wheel.as_uri()}",
    ]
    run([*pip, *words], deadline=DEADLINE)
    return folder


def packages(environment: Path) -> Mapping[str, str]:
    answer = run([str(environment / "bin/python"), "-P", "-c", LIST], deadline=280)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in json.loads(answer.stdout)}


def test_a_user_installs_few_packages_all_of_them_locked(
    environment: Path, extra: str, constraints: Path, record_property: Callable[[str, object], None]
) -> None:
    found = packages(environment)
    locked = {line.split(" ;")[0] for line in constraints.read_text().splitlines()}
    size = sum(path.stat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    record_property("installed", f"{len(found)} packages, {size / 1e6:.1f} MB: {', '.join(sorted(found))}")

    assert found.keys() == NEEDED | ({"invoke", "tabulate"} if extra else set())
    assert {f"{name}=={version}" for name, version in found.items() if name != "stackyard"} <= locked
    assert size < LARGEST_MB * 1e6


def test_the_public_names_are_there(environment: Path) -> None:
    run([str(environment / "bin/python"), "-P", "-c", EVERY_NAME], deadline=280, cwd=environment)


def test_pytest_finds_the_plugin(environment: Path) -> None:
    asked = "from importlib.metadata import entry_points; print([*entry_points(group='pytest11')])"
    answer = run([str(environment / "bin/python"), "-P", "-c", asked], deadline=280, cwd=environment)

    assert "value='stackyard.pytest_plugin'" in answer.stdout


def test_the_program_says_what_it_would_change_or_what_it_needs(environment: Path, extra: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    words = [str(environment / "bin/stackyard"), "check"]
    if not extra:
        with pytest.raises(CommandError) as caught:
            run(words, deadline=280, cwd=tmp_path)
        assert caught.value.returncode == 2
        assert caught.value.lines == [
            "invoke is not installed, and this command needs it; run `pip install 'stackyard[cli]'`"
        ]
        return
    assert "shop-web" in run(words, deadline=280, cwd=tmp_path).stdout
    for command in (["--help"], ["check", "--help"], ["up", "--help"], ["ps", "--help"]):
        assert run([words[0], *command], deadline=280, cwd=tmp_path).stdout.strip()


def test_the_wheel_holds_the_library_alone(environment: Path) -> None:
    (site,) = (environment / "lib").glob("python*/site-packages")
    names = [file.name for file in (site / "stackyard").rglob("*.py")]

    assert (site / "stackyard/py.typed").is_file()
    assert os.path.lexists(site / "image_builder") is False
    assert not {"alpine.py", "elf.py"} & set(names)
