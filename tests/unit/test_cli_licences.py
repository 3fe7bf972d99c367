from __future__ import annotations

import copy
import tomllib
from email.message import Message
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING, Any, cast

import pytest
from packaging.requirements import Requirement

from stackyard.cli.pipelines import licences
from stackyard.errors import UsageError
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import PackageMetadata
    from pathlib import Path

PROJECT = tomllib.loads("""
[project]
dependencies = ["app-core[fast]>=1"]
[tool.stackyard.licences]
permissive = ["MIT", "Apache-2.0"]
[tool.stackyard.licences.spellings]
"MIT License" = "MIT"
[tool.stackyard.licences.dependencies]
[tool.stackyard.licences.development]
tester = { licence = "MPL-2.0", reason = "runs tests" }
[tool.stackyard.licences.unread]
winonly = { licence = "MIT", reason = "for Windows" }
""")


def package(*rows: str) -> PackageMetadata:
    message = Message()
    for row in rows:
        name, _, value = row.partition(": ")
        message[name] = value
    return cast("PackageMetadata", message)


def reader(**packages: PackageMetadata) -> Callable[[str], PackageMetadata]:
    """Return a `metadata` that knows *packages*; in their names _ means -."""

    def read(name: str) -> PackageMetadata:
        try:
            return packages[name.replace("-", "_")]
        except KeyError:
            raise PackageNotFoundError(name) from None

    return read


MIT = package("License-Expression: MIT")
CORE = package("License: MIT", 'Requires-Dist: deep; extra == "fast"', 'Requires-Dist: slow; extra == "slow"')


def check(*pins: str, project: dict[str, Any] | None = None, **packages: PackageMetadata) -> list[str]:
    known = {"app_core": CORE, "deep": MIT, "tester": package("License: MPL-2.0")} | packages
    names = ("app-core==1", "deep==1", "tester==1", "winonly==1", *pins)
    return licences.findings(map(Requirement, names), project or PROJECT, reader(**known))


def test_permissive_packages_and_named_exceptions_pass() -> None:
    assert check("other==1", other=package("License-Expression: GPL-3.0-only OR (MIT AND Apache-2.0)")) == []


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ("License-Expression: AGPL-3.0-or-later", "AGPL-3.0-or-later"),
        ("License-Expression: MIT AND GPL-3.0-only", "MIT AND GPL-3.0-only"),
        ("License: Freeware, see the file", "Freeware, see the file"),
        ("Classifier: License :: OSI Approved :: GNU Affero General Public License v3", "GNU Affero General Public"),
        ("Name: silent", "none in its metadata"),
    ],
)
def test_a_development_package_with_another_licence_needs_a_row(row: str, shown: str) -> None:
    (line,) = check("other==1", other=package(row))

    assert line.startswith(f"other: its licence, {shown}")
    assert line.endswith(
        "use another package, or add `other = { licence = …, reason = … }` "
        "to [tool.stackyard.licences.development] of pyproject.toml"
    )


def test_a_row_of_development_does_not_allow_what_the_wheel_depends_on() -> None:
    project = copy.deepcopy(PROJECT) | {"project": {"dependencies": ["app-core[slow]"]}}
    project["tool"]["stackyard"]["licences"]["development"]["slow"] = {"licence": "AGPL-3.0-only", "reason": "none"}

    (line,) = check("slow==1", project=project, slow=package("License-Expression: AGPL-3.0-only"))

    assert line == (
        "slow: its licence, AGPL-3.0-only, is not permissive, and the wheel depends on it; "
        "use another package, or let only an extra or a group need it"
    )


def test_an_exception_is_for_one_licence_and_a_change_of_it_is_reported() -> None:
    (line,) = check(tester=package("License: AGPL-3.0-only"))

    assert line.startswith("tester: its licence, AGPL-3.0-only, is not permissive")


def test_a_package_that_is_locked_but_not_installed_needs_a_row() -> None:
    (line,) = check("elsewhere==1 ; sys_platform == 'win32'")

    assert line.startswith("elsewhere: locked but not installed, so its licence is unknown; add `elsewhere =")


def test_a_row_for_what_is_not_locked_is_reported() -> None:
    lines = licences.findings([Requirement("app-core==1")], PROJECT, reader(app_core=CORE))

    assert lines == [
        "tester: not locked; remove it from [tool.stackyard.licences.development] of pyproject.toml",
        "winonly: not locked; remove it from [tool.stackyard.licences.unread] of pyproject.toml",
    ]


def test_an_exception_without_a_reason_is_refused() -> None:
    project = copy.deepcopy(PROJECT)
    project["tool"]["stackyard"]["licences"]["development"]["tester"] = {"licence": "MPL-2.0"}

    with pytest.raises(UsageError, match=r"\[tool\.stackyard\.licences\] of pyproject\.toml: .*'reason'"):
        check(project=project)


def test_a_lock_is_read_without_hashes_and_comments() -> None:
    text = "one==1.0 \\\n    --hash=sha256:0\n    # via two\ntwo==2 ; sys_platform == 'win32' \\\n    --hash=sha256:0\n"

    assert [str(pin) for pin in licences.locked(text)] == ["one==1.0", 'two==2; sys_platform == "win32"']


def test_the_program_prints_what_is_wrong_and_ends_with_the_code_of_a_failed_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = []\n[tool.stackyard.licences]\npermissive = ["MIT"]\nspellings = {}\n'
        "dependencies = {}\ndevelopment = {}\nunread = {}\n"
    )
    (tmp_path / "requirements.lock").write_text("pytest==9\n")
    (tmp_path / "requirements-more.lock").write_text("not-there==1\n")

    assert licences.main(tmp_path) == 9
    assert capsys.readouterr().out.startswith("not-there: locked but not installed")
    (tmp_path / "requirements-more.lock").unlink()
    assert licences.main(tmp_path) == 0
    assert capsys.readouterr().out == "licences: all 1 locked packages are allowed\n"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-browser.lock", "requirements-uv.lock"])
def test_each_line_of_a_lock_has_a_version_and_hashes_and_no_address(lock: str) -> None:
    text = (project_root() / lock).read_text()

    blocks = text.replace("\\\n", "").splitlines()
    pins = [line for line in blocks if line[:1].isalnum()]
    assert len(pins) == len(licences.locked(text)) > 0
    assert [line for line in pins if "==" not in line or "--hash=sha256:" not in line] == []
    assert "://" not in text
    assert "--index" not in text
