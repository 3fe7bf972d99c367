from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import page_facts as made
import pytest
from playwright.sync_api import sync_playwright

from stackyard.errors import StackyardError
from stackyard.host import browser
from stackyard.report import write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS: Final = ("whole", "empty", "hostile")
HEIGHT: Final = 800  # pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """
    A report open in the browser.

    Attributes:
        page: Playwright's page.
        requests: Every address it asked for, the report's own too.
        complaints: What the console and uncaught errors said.
    """

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


class Viewer:
    """Opens reports, each in a fresh page."""

    def __init__(self, chromium: Any, reports: dict[str, Path]) -> None:
        self.chromium = chromium
        self.reports = reports
        self._open: list[Any] = []

    def open(self, kind: str, *, width: int = 1280, scheme: str = "light", media: str = "screen") -> View:
        page = self.chromium.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=scheme)
        self._open.append(page)
        view = View(page=page)
        page.on("request", lambda request: view.requests.append(request.url))
        page.on("console", lambda message: view.complaints.append(message.text))
        page.on("pageerror", lambda error: view.complaints.append(str(error)))
        page.on("dialog", lambda dialog: view.complaints.append(dialog.message))
        page.emulate_media(media=media, color_scheme=scheme)
        page.goto(self.reports[kind].as_uri())
        return view

    def close(self) -> None:
        while self._open:
            self._open.pop().close()


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    runs = [
        made.run(number, made.everything(), waterfall=made.STEPS, notes=("a note",)) for number in range(3)
    ]  # fmt: skip
    made.lay_out(folder / "whole", runs)
    made.hostile(folder / "hostile")
    return {kind: write(folder / kind)[0] for kind in KINDS}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    program = browser.find()
    if program is None:
        raise StackyardError("no Chromium; `./noxw -s browser` installs one")
    # root's Chromium has no sandbox to be had, and the pages are our own
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=options)
        yield started
        started.close()


@pytest.fixture
def viewer(chromium: Any, reports: dict[str, Path]) -> Iterator[Viewer]:
    opened = Viewer(chromium, reports)
    yield opened
    opened.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
