"""The pages that show what was measured: for a browser, a pull request, a build server, and the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write"]


def write(root: Path, *, completion: bool = False) -> list[Path]:
    """
    Write `index.html`, `summary.md`, `summary.json` and `requirements.xml` into *root*'s reports; nothing is measured.

    With *completion*, `docs/completion_report.md` is written too. Returns the files.

    Raises:
        UsageError: If one of them cannot be written.
        CommandError: With *completion*, if nox or invoke cannot list what they offer.
    """
    from stackyard._util.files import write_text
    from stackyard.errors import UsageError
    from stackyard.report import completion as completions
    from stackyard.report import page, summary
    from stackyard.report.inputs import gather
    from stackyard.report.wording import writable

    facts = gather(root)
    texts = {
        "reports/index.html": page.html(facts),
        "reports/summary.md": summary.markdown(facts),
        "reports/summary.json": summary.json(facts),
        "reports/requirements.xml": summary.junit(facts),
    }
    if completion:
        texts["docs/completion_report.md"] = completions.markdown(facts, completions.Deliverables.of(root))
    for name, text in texts.items():
        try:
            write_text(root / name, writable(text))
        except OSError as error:
            raise UsageError(f"{name} cannot be written: {error.strerror}; make its folder writable") from None
    return [root / name for name in texts]
