from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.cli import sessions
from stackyard.cli.sessions import __main__ as program
from stackyard.cli.sessions import words
from stackyard.errors import EngineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHECKOUT = Path(__file__).parents[2]
NOXFILE = CHECKOUT / "noxfile.py"
# sessions that fail in every way there is
FAILING = """
import sys
import nox
from stackyard.cli import sessions

sessions.take_over()
nox.options.default_venv_backend = "none"

@sessions.session()
def good(session):
    return 0

@sessions.session()
def engine(session):
    return 3

@sessions.session()
def again(session):
    return 3

@sessions.session()
def late(session):
    return 124

@sessions.session()
def command(session):
    session.run(sys.executable, "-c", "raise SystemExit(7)")

@sessions.session()
def cleaning(session):
    sessions.run_module(session, "cleaning")

@sessions.session()
def broken(session):
    raise ValueError("a bug")

@sessions.session()
def all_of_it(session):
    good(session)
    engine(session)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    tmp_path.joinpath("noxfile.py").write_text(FAILING)
    return tmp_path


def run(project: Path, *program_words: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.defpath, "HOME": str(project)}
    return subprocess.run(  # noqa: S603 - our own
        [sys.executable, *program_words], cwd=project, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("chosen", "code"),
    [
        ("good", 0),
        ("engine", 3),
        ("late", 124),
        ("command", 7),
        ("broken", 1),
        ("all_of_it", 3),
        ("good engine", 3),
        ("engine again", 3),
        ("engine late", 1),
        ("engine broken", 1),
    ],
)
def test_the_exit_code_is_that_of_the_session_that_failed(project: Path, chosen: str, code: int) -> None:
    ended = run(project, "-m", "stackyard.cli.sessions", "--no-engine", "-s", *chosen.split())

    assert ended.returncode == code, ended.stderr


def test_nox_started_directly_ends_with_the_same_code(project: Path) -> None:
    assert run(project, "-m", "nox", "-s", "engine").returncode == 3
    assert run(project, str(Path(sys.executable).with_name("nox")), "-s", "late").returncode == 124


def test_a_mistyped_session_is_one_line_however_nox_is_started(project: Path) -> None:
    line = "noxw: no session 'engin'; did you mean 'engine'?\n"

    for start in (["-m", "nox"], ["-m", "stackyard.cli.sessions", "--no-engine"]):
        ended = run(project, *start, "-s", "engin")
        assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", line)


def test_sessions_that_run_in_parallel_still_fail(project: Path) -> None:
    text = project.joinpath("noxfile.py").read_text().replace("session()", "session(allow_parallel=True)")
    project.joinpath("noxfile.py").write_text(text)

    assert (
        run(project, "-m", "stackyard.cli.sessions", "--no-engine", "-j", "2", "-s", "good", "engine").returncode == 1
    )


CLEANING = """
import pathlib, time
try:
    pathlib.Path("began").touch()
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep(1)  # longer than the half a second that nox gives by itself
    pathlib.Path("cleaned").touch()
    raise
"""


@pytest.mark.parametrize(("sent", "codes"), [(signal.SIGTERM, {143}), (signal.SIGINT, {130, -signal.SIGINT})])
def test_what_a_session_runs_may_clean_up_before_an_interrupted_nox_ends(
    project: Path, sent: signal.Signals, codes: set[int]
) -> None:
    project.joinpath("cleaning.py").write_text(CLEANING)
    words = [sys.executable, "-m", "stackyard.cli.sessions", "--no-engine", "-s", "cleaning"]
    env = {"PATH": os.defpath, "HOME": str(project)}
    with subprocess.Popen(words, cwd=project, env=env, start_new_session=True, stderr=subprocess.PIPE) as nox:  # noqa: S603 - our own
        until(project.joinpath("began").exists)
        # Ctrl-C on a terminal reaches all its programs, SIGTERM the one that it is sent to
        os.killpg(nox.pid, sent) if sent == signal.SIGINT else nox.send_signal(sent)
        nox.communicate(timeout=240)

    assert nox.returncode in codes
    assert project.joinpath("cleaned").exists()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 240
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_python_without_stackyard_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    script = f"""
import runpy, sys
class Missing:
    def find_spec(self, name, *_):
        if name.split('.')[0] == 'stackyard':
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
runpy.run_path({str(NOXFILE)!r})
"""
    ended = run(tmp_path, "-c", script)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"noxfile.py: {sys.executable} has no stackyard; run ./noxw instead of nox")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("-s tset", "no session 'tset'; did you mean 'test'?"),
        ("-s alpine-tset", "no session 'alpine-tset'; did you mean 'alpine_test'?"),
        ("--sessions lint tset", "no session 'tset'; did you mean 'test'?"),
        ("test", "did you mean: ./noxw -s test"),
        ("alpine-test", "did you mean: ./noxw -s alpine_test"),
        ("lint types", "did you mean: ./noxw -s lint types"),
        ("dev down", "did you mean: ./noxw -s dev -- down"),
        ("-s dev down", "no session 'down'; a session's own words follow --: ./noxw -s dev -- down"),
        ("-s test --keep", "nox has no option --keep; a session's own words follow --: ./noxw -s test -- --keep"),
        (
            "-s test --wait 60 -q",
            "nox has no option --wait; a session's own words follow --: ./noxw -s test -- --wait 60 -q",
        ),
        (
            "-s test -k websocket",
            "-s and -k both pick sessions; if -k is for pytest, put -- before it: ./noxw -s test -- -k websocket",
        ),
        ("--sesion test", "nox has no option --sesion; did you mean --session?"),
        ("--frobnicate", "nox has no option --frobnicate; `./noxw --help` lists nox's options"),
        ("nonsense", "nox takes no word 'nonsense' here; name a session after -s: ./noxw -s test"),
        ("-s test -k", "argument -k/--keywords: expected one argument; `./noxw --help` lists nox's options"),
    ],
)
def test_a_word_in_the_wrong_place_is_one_line_that_says_how_to_type_it(typed: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        words.checked(typed.split(), NOXFILE)

    assert str(caught.value) == line


def test_an_unknown_session_that_is_near_none_gets_the_list() -> None:
    with pytest.raises(UsageError, match="no session 'zzz'; there are dev, test, alpine_test, ci, lint"):
        words.checked(["-s", "zzz"], NOXFILE)


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("-s alpine-test", "-s alpine_test"),
        ("-salpine-test", "-salpine_test"),
        ("--session=alpine-test", "--session=alpine_test"),
        ("-s test alpine-test -- -k alpine-test", "-s test alpine_test -- -k alpine-test"),
        ("-s alpine_test", "-s alpine_test"),
        ("-s test -- --keep down", "-s test -- --keep down"),
        ("-l --json", "-l --json"),
        ("-t gate", "-t gate"),
        ("", ""),
        ("-f other.py -s whatever", "-f other.py -s whatever"),
    ],
)
def test_right_words_reach_nox_under_the_names_it_knows(typed: str, right: str) -> None:
    assert words.checked(typed.split(), NOXFILE) == right.split()


def test_sessions_named_in_the_environment_are_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOXSESSION", "lint,alpine-test")
    assert words.checked([], NOXFILE) == []
    assert os.environ["NOXSESSION"] == "lint,alpine_test"

    monkeypatch.setenv("NOXSESSION", "lnt")
    with pytest.raises(UsageError, match="did you mean 'lint'"):
        words.checked([], NOXFILE)


def test_the_names_are_those_that_nox_lists() -> None:
    listed = run(
        CHECKOUT, "-m", "stackyard.cli.sessions", "--no-engine", "-l", "--json", "-k", "not none_of_them"
    ).stdout

    assert words.names(NOXFILE) == [each["name"] for each in json.loads(listed)]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    seen: list[Sequence[str]] = []
    monkeypatch.chdir(CHECKOUT)

    def note(given: Sequence[str]) -> int:
        seen.append(given)
        return 0

    monkeypatch.setattr(program, "run", note)
    return seen


def test_wrong_words_are_refused_before_an_engine_is_asked(
    ran: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stackyard.host.engine_setup.ensure_engine", lambda **_: pytest.fail("asked an engine"))

    assert program.main(["--yes", "-s", "tset"]) == 2
    assert ran == []
    assert capsys.readouterr().err == "noxw: no session 'tset'; did you mean 'test'?\n"


@pytest.mark.parametrize(
    ("typed", "agreed"),
    [
        ("", []),
        ("--list", []),
        ("--version -s test", []),
        ("-h -s test", []),
        ("-s lint types unit -- -s test", []),
        ("--no-engine -s test", []),
        ("-s test -- -x", [False]),
        ("-stest", [False]),
        ("--session=test", [False]),
        ("--sessions lint test", [False]),
        ("-e test", [False]),
        ("-t engine", [False]),
        ("-k test", [False]),
        ("--yes -s test", [True]),
        ("-s test -- --yes --no-engine", [False]),
    ],
)
def test_only_what_may_need_docker_asks_for_an_engine(
    ran: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch, typed: str, agreed: list[bool]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("stackyard.host.engine_setup.ensure_engine", lambda **given: asked.append(given["consent"]))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("NOXSESSION", raising=False)

    assert program.main(typed.split()) == 0
    options, dashes, own = typed.partition(" -- ")
    nox_words = [word for word in options.split() if word not in {"--yes", "--no-engine"}]
    assert (asked, ran) == (agreed, [[*nox_words, *(dashes + own).split()]])


@pytest.mark.parametrize(("named", "agreed"), [("lint,types", []), ("lint,test", [False])])
def test_a_session_named_in_the_environment_counts(
    ran: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch, named: str, agreed: list[bool]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("stackyard.host.engine_setup.ensure_engine", lambda **given: asked.append(given["consent"]))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("NOXSESSION", named)

    assert program.main([]) == 0
    assert (asked, ran) == (agreed, [[]])


@pytest.mark.parametrize(
    ("typed", "agreed"), [("--setup-only", [False]), ("--setup-only --yes", [True]), ("--setup-only --no-engine", [])]
)
def test_set_up_alone_runs_no_session(
    ran: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch, typed: str, agreed: list[bool]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("stackyard.host.__main__.ensure_engine", lambda **given: asked.append(given["consent"]))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.delenv("CI", raising=False)

    assert program.main(typed.split()) == 0
    assert (asked, ran) == (agreed, [])


@pytest.mark.parametrize(
    ("raised", "code", "line"), [(EngineError("no engine"), 3, "noxw: no engine\n"), (KeyboardInterrupt(), 130, "")]
)
def test_an_engine_that_cannot_be_used_is_one_line_and_its_exit_code(
    ran: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    raised: BaseException, code: int, line: str,
) -> None:  # fmt: skip
    def fail(**_: object) -> None:
        raise raised

    monkeypatch.setattr("stackyard.host.engine_setup.ensure_engine", fail)

    assert program.main(["-s", "test"]) == code
    assert (ran, capsys.readouterr().err) == ([], line)


def test_codes_are_forgotten_between_runs() -> None:
    sessions._codes.append(3)
    sessions.forget()

    assert sessions.exit_code(1) == 1


def test_the_examples_in_contributing_choose_tests() -> None:
    text = CHECKOUT.joinpath("CONTRIBUTING.md").read_text(encoding="utf-8")
    examples = re.findall(r"`\./noxw -s (\w+) -- -k (\w+)", text)
    folders = {"test": "platform"}

    assert len(examples) >= 3
    for session, word in examples:
        folder = CHECKOUT / "tests" / folders.get(session, session)
        names = [name for path in folder.rglob("test_*.py") for name in (path.name, *_functions(path))]
        assert any(word in name for name in names), f"-s {session} -- -k {word} matches no test"


def _functions(path: Path) -> list[str]:
    return re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
