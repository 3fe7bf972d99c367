from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from stackyard._util.junit import case, document


def test_a_file_counts_its_tests_by_how_they_ended() -> None:
    cases = [case("g", "a", failure="why", text="more"), case("g", "b", skipped="later"), case("g", "c", text="said")]

    top = ET.fromstring(document("run", {"suite": cases}, when="2026-11-27T10:00:00"))  # noqa: S314 - made here

    (suite,) = top
    assert {key: suite.get(key) for key in ("name", "tests", "failures", "skipped", "errors", "timestamp")} == {
        "name": "suite", "tests": "3", "failures": "1", "skipped": "1", "errors": "0",
        "timestamp": "2026-11-27T10:00:00",
    }  # fmt: skip
    assert [(child.tag, child.get("message"), child.text) for found in suite for child in found] == [
        ("failure", "why", "more"), ("skipped", "later", None), ("system-out", None, "said"),
    ]  # fmt: skip


@pytest.mark.parametrize("odd", ["\0", "\x1b[31m", "\udc80", "\ufffe", "<&>\"'", "]]>"])
def test_whatever_a_program_wrote_the_file_can_be_read(odd: str) -> None:
    cases = [case(odd, odd, failure=odd, text=odd), case(odd, odd, skipped=odd), case(odd, odd, text=odd)]

    text = document("run", {odd: cases})

    assert len(ET.fromstring(text)[0]) == 3  # noqa: S314 - made here
    assert text.encode().decode() == text
