"""The workflow files, rendered from templates so that their jobs match nox's sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stackyard._util.files import write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stackyard.cli.pipelines.jobs import Job

FILES: Final = {".github/workflows/ci.yml": "github.yml.j2", ".gitlab-ci.yml": "gitlab.yml.j2"}


def render(found: Sequence[Job]) -> dict[str, str]:
    """Return the text of each workflow file, by its path below the project's root."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # workflows have braces of their own
    environment = Environment(
        loader=PackageLoader("stackyard.cli.pipelines"), undefined=StrictUndefined, keep_trailing_newline=True,
        variable_start_string="[[", variable_end_string="]]", line_statement_prefix="%%",
        autoescape=False,  # noqa: S701 - not HTML
    )  # fmt: skip
    return {path: environment.get_template(name).render(jobs=found) for path, name in FILES.items()}


def write(found: Sequence[Job], root: Path) -> list[str]:
    """
    Write the workflow files below *root*; return the paths of those that changed.

    Raises:
        OSError: If one cannot be written.
    """
    changed = []
    for path, text in render(found).items():
        file = root / path
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_text(file, text)
            file.chmod(0o644)
            changed.append(path)
    return changed
