from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from stackyard.cli.pipelines import composition
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_compose_file_is_clean_and_a_mistake_in_it_is_named_with_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(project_root() / "compose", tmp_path / "compose", ignore=shutil.ignore_patterns("*.sock"))

    assert composition.main(tmp_path) == 0
    assert capsys.readouterr().out == "compose-lint: compose/docker-compose.unified.yml is clean\n"

    file = tmp_path / composition.FILE
    text = file.read_text()
    file.write_text(text.replace("read_only: true", "read_only: false", 1))
    assert text != file.read_text()
    assert composition.main(tmp_path) == 9
    assert capsys.readouterr().out.startswith("compose/docker-compose.unified.yml:")
