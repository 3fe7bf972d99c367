"""The report page as a browser shows it: `./noxw -s browser` runs these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from axe_playwright_python.sync_playwright import Axe

from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from pathlib import Path

    from tests.browser.conftest import Viewer

WIDTHS: Final = (360, 840, 1280)  # pixels: a phone, the narrowest that has tables side by side, a screen
SCHEMES: Final = ("light", "dark")
FIGURES: Final = 14  # of the whole report: 2 starts, 3 steps, 3 memories, 2 curves, 1 spread, 3 or more histories

SIDEWAYS: Final = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# What sticks out of the page to the right, unless it may be scrolled inside its own box.
STICKING_OUT: Final = """
[...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.wide, .skip, .unseen, thead') && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.outerHTML.slice(0, 80))
"""
DRAWN: Final = """
[...document.querySelectorAll('svg.figure')].map(e => e.getBoundingClientRect()).map(box => [box.width, box.height])
"""
# Where the figures in the tables of all figures end, and how wide they are.
CELLS: Final = """
[...document.querySelectorAll("details td.num:not(.none)")]
    .map(e => e.getBoundingClientRect()).map(box => [box.right, box.width])
"""
TEXTS: Final = "[...document.querySelectorAll('svg text')].map(e => parseFloat(getComputedStyle(e).fontSize))"


def test_it_opens_without_a_complaint_and_asks_for_nothing(viewer: Viewer, kind: str) -> None:
    view = viewer.open(kind)

    assert view.complaints == []
    assert view.requests == [viewer.reports[kind].as_uri()]
    assert view.page.title().startswith("stackyard: ")
    assert view.page.locator("h1").count() == 1


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_needs_scrolling_sideways(viewer: Viewer, kind: str, width: int) -> None:
    page = viewer.open(kind, width=width).page
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")

    assert page.evaluate(SIDEWAYS) == 0
    assert page.evaluate(STICKING_OUT) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_is_drawn_and_its_text_can_be_read(viewer: Viewer, width: int) -> None:
    page = viewer.open("whole", width=width).page
    drawn = page.evaluate(DRAWN)

    assert len(drawn) >= FIGURES
    assert all(across >= 60 and down >= 18 for across, down in drawn)
    assert page.evaluate("document.documentElement.scrollHeight") < 12_000
    assert all(size >= 11 for size in page.evaluate(TEXTS))
    assert page.locator("svg .fill").count() >= 9
    assert page.locator("svg.curve .dot").count() == 5


def test_every_figure_says_in_words_what_it_shows(viewer: Viewer) -> None:
    page = viewer.open("whole").page

    labels = page.evaluate("[...document.querySelectorAll('svg.figure')].map(e => e.getAttribute('aria-label'))")
    titles = page.evaluate("[...document.querySelectorAll('svg.figure > title')].map(e => e.textContent)")

    assert len(titles) == len(labels)
    assert all(label.startswith(title) for label, title in zip(labels, titles, strict=True))
    assert "stackyard: 0.75 s, 95 % interval 0.75 to 0.75 s, promised at most 1 s, n = 5" in labels


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_keeps_anybody_out(viewer: Viewer, kind: str, width: int, scheme: str) -> None:
    page = viewer.open(kind, width=width, scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")

    found = Axe().run(page)

    assert found.violations_count == 0, found.generate_report()


def test_the_two_schemes_differ(viewer: Viewer) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"

    colours = [viewer.open("whole", scheme=scheme).page.evaluate(paper) for scheme in SCHEMES]

    assert colours == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


def test_the_keyboard_reaches_the_content_first_and_then_every_link(viewer: Viewer) -> None:
    page = viewer.open("whole").page
    reached: list[str] = []
    stops = page.locator("a, summary, [tabindex='0']").count()
    page.keyboard.press("Tab")
    while (text := page.evaluate("document.activeElement.innerText")) != page.evaluate("document.body.innerText"):
        reached.append(text)
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.keyboard.press("Tab")
        assert len(reached) <= stops

    assert reached[0] == "Skip to the content"
    assert "Requirements" in reached
    assert "All 2 figures of this part" in reached


def test_a_table_stays_a_table_on_a_phone(viewer: Viewer) -> None:
    page = viewer.open("whole", width=360).page

    assert page.get_by_role("table").count() >= 7
    assert page.get_by_role("rowheader", name="docker compose up --wait").count() >= 1
    assert page.get_by_role("columnheader", name="median", exact=True).count() >= 1


def test_a_table_of_all_figures_shows_them_on_a_phone(viewer: Viewer) -> None:
    page = viewer.open("whole", width=390).page
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")

    cells = page.evaluate(CELLS)

    assert len(cells) >= 10
    assert all(right <= 390 and width > 0 for right, width in cells)


def test_a_missed_promise_is_one_click_from_the_top(viewer: Viewer) -> None:
    page = viewer.open("whole").page
    page.locator("header .short a").first.click()

    assert page.evaluate("document.querySelector(':target').innerText").startswith("no port conflict")


def test_print_keeps_the_figures_and_drops_what_cannot_be_pressed(viewer: Viewer, tmp_path: Path) -> None:
    page = viewer.open("whole", width=718, scheme="dark", media="print").page  # A4 with 1 cm of margin

    assert page.evaluate(SIDEWAYS) == 0
    assert not page.locator("nav").is_visible()
    assert page.locator("details").first.is_hidden()
    assert page.locator("svg.curve").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_picture_is_kept_to_be_looked_at(viewer: Viewer, width: int, scheme: str) -> None:
    path = project_root() / f"reports/browser/{width}-{scheme}.png"
    path.unlink(missing_ok=True)

    viewer.open("whole", width=width, scheme=scheme).page.screenshot(path=path, full_page=True)

    assert path.read_bytes().startswith(b"\x89PNG")
