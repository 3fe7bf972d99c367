"""JUnit files, which build servers show as lists of tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# XML cannot hold these at all; one of them, as in the output of a program, makes a file unreadable
_ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def case(group: str, name: str, *, failure: str = "", skipped: str = "", text: str = "") -> TestCase:
    """
    Return the test *name* of *group*.

    Args:
        group: The class that build servers list the test under.
        name: The test.
        failure: Why it failed, in one line; empty if it passed.
        skipped: Why it was skipped, in one line; empty if it ran.
        text: More about it.
    """
    made = TestCase(_valid_xml(name), classname=_valid_xml(group))
    if failure:
        made.result = [Failure(_valid_xml(failure))]
        made.result[0].text = _valid_xml(text)
    elif skipped:
        made.result = [Skipped(_valid_xml(skipped))]
    elif text:
        made.system_out = _valid_xml(text)
    return made


def document(name: str, suites: Mapping[str, Iterable[TestCase]], *, when: str = "") -> str:
    """Return the file of the run *name*: its *suites* by their names; *when* it ran, in ISO 8601, if that is known."""
    top = JUnitXml(name)
    for title, cases in suites.items():
        suite = TestSuite(_valid_xml(title))
        suite.add_testcases(list(cases))
        if when:
            suite.timestamp = _valid_xml(when)
        top.add_testsuite(suite)
    written: bytes = top.tostring()  # type: ignore[no-untyped-call] # it has no annotation
    return f'<?xml version="1.0" encoding="utf-8"?>\n{written.decode()}\n'


def _valid_xml(text: str) -> str:
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)
