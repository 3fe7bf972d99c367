from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackyard.errors import ConfigError
from stackyard.project.environments import parse_env, read_env

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("line", "value"),
    [
        pytest.param("A=b", "b", id="bare"),
        pytest.param("A=", "", id="empty"),
        pytest.param("A=''", "", id="empty-quotes"),
        pytest.param("export A=b", "b", id="export"),
        pytest.param("  \tA=b \t", "b", id="space-around"),
        pytest.param("A=b # words", "b", id="comment"),
        pytest.param("A= # words", None, id="empty-and-comment"),
        pytest.param("A='b c' # words", "b c", id="quotes-and-comment"),
        pytest.param("A='$HOME `x` \"q\" #'", '$HOME `x` "q" #', id="single-quotes-are-literal"),
        pytest.param('A="it\'s # fine"', "it's # fine", id="double-quotes"),
        pytest.param("A=http://127.0.0.1:80/a?b", None, id="question-mark"),
        pytest.param("A=postgresql://app:x_Y-z@127.0.0.1:5433/b", "postgresql://app:x_Y-z@127.0.0.1:5433/b", id="url"),
        pytest.param("A='caf\xe9'", "caf\xe9", id="unicode"),
        pytest.param("A='tab\tinside'", "tab\tinside", id="quoted-tab"),
        pytest.param("A=b#c", None, id="hash-inside"),
        pytest.param("A=b c", None, id="bare-space"),
        pytest.param("A=$B", None, id="dollar"),
        pytest.param('A="$B"', None, id="dollar-in-double-quotes"),
        pytest.param('A="`x`"', None, id="backtick"),
        pytest.param("A='b\\n'", None, id="backslash"),
        pytest.param("A='b", None, id="open-quote"),
        pytest.param("A='b'c", None, id="text-after-quote"),
        pytest.param("A='b'#c", None, id="comment-without-space"),
        pytest.param("A = b", None, id="space-before-equals"),
        pytest.param("A= b", None, id="space-after-equals"),
        pytest.param("A", None, id="no-equals"),
        pytest.param("1A=b", None, id="digit-first"),
        pytest.param("A.B=b", None, id="dot-in-name"),
        pytest.param("=b", None, id="no-name"),
        pytest.param("exportA=b c", None, id="export-without-space"),
        pytest.param("A=b;touch x", None, id="semicolon"),
        pytest.param("A=b&", None, id="ampersand"),
        pytest.param("A=~/x", None, id="tilde"),
        pytest.param("A=*", None, id="star"),
    ],
)  # fmt: skip
def test_a_line_is_read_as_written_or_refused_with_its_number(line: str, value: str | None) -> None:
    text = f"# first\n\n{line}\n"

    if value is not None:
        assert parse_env(text, "x.env") == {"A": value}
        return
    with pytest.raises(ConfigError) as caught:
        parse_env(text, "x.env")
    assert str(caught.value).startswith("x.env: line 3")


def test_a_variable_set_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="line 2: a variable may be set only once, got 'A'"):
        parse_env("A=1\nA=1\n", "x.env")


def test_a_line_that_may_hold_a_secret_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_env("STACKYARD_REDIS_PASSWORD=hunter2 and more\n", "x.env")

    assert "hunter2" not in str(caught.value)
    assert "STACKYARD_REDIS_PASSWORD" in str(caught.value)


def test_a_file_is_read_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("B=2\nA=1\n")

    assert list(read_env(tmp_path / "x.env", "x.env").items()) == [("B", "2"), ("A", "1")]


PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
LINES = st.lists(
    st.one_of(
        PRINTABLE,
        st.builds("{}={}".format, st.sampled_from(["A", "B", "export C", "D E"]), PRINTABLE),
        st.builds("{}='{}'".format, st.sampled_from("ABC"), PRINTABLE),
        st.builds('{}="{}" # {}'.format, st.sampled_from("ABC"), PRINTABLE, PRINTABLE),
    ),
    max_size=6,
)


@given(LINES)
def test_any_text_is_a_set_of_variables_or_a_config_error(lines: list[str]) -> None:
    try:
        found = parse_env("\n".join(lines), "x.env")
    except ConfigError as error:
        words = str(error)
    else:
        words = " ".join(found)
    assert words.isprintable()


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a POSIX shell")
@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(PRINTABLE, st.text("ab .,:/@%+=^_-#'\"~*?!$`\\&;|<>(){}[]", max_size=8)), max_size=1))
def test_a_shell_reads_what_is_accepted_as_the_same_bytes(values: list[str]) -> None:
    line = f"A={values[0]}" if values else "A='x y' # z"
    try:
        found = parse_env(line, "x.env")
    except ConfigError:
        return
    script = f'{line}\nprintf %s "$A"'
    run = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True, env={}, timeout=120)  # noqa: S603 - only lines the parser calls harmless

    assert run.stdout.decode() == found["A"]
