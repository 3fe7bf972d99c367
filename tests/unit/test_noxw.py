from __future__ import annotations

import fcntl
import importlib.machinery
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_host import put_program

if TYPE_CHECKING:
    from types import ModuleType

NOXW = Path(__file__).parents[2] / "noxw"
PYTHON = f"python3.{sys.version_info[1]}"

# Stands in for .venv's python: notes what it was asked to become.
BECOMES = 'echo "became $*" >> "$CALLS"; exit ${CODE:-0}'
UV = f"""
if [ "$1" = venv ]; then
  for venv; do :; done
  mkdir -p "$venv/bin" "$venv/lib/{PYTHON}/site-packages"
  echo "version_info = {".".join(map(str, sys.version_info[:3]))}" > "$venv/pyvenv.cfg"
  printf '%s\\n' '#!/bin/sh' '{BECOMES}' > "$venv/bin/python"
  chmod +x "$venv/bin/python"
else
  env | grep -E '^(UV_|SSL_CERT)' | sort > "$CALLS.env"
  sleep "${{SLOW:-0}}"
  [ -z "$BROKEN" ] || {{ echo "no matching distribution"; exit 9; }}
fi
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    shutil.copy(NOXW, root)
    (root / "requirements.lock").write_text("nox==1\n")
    (root / "pyproject.toml").write_text("")
    put_program(tmp_path, "uv", UV)
    return root


def environment(tree: Path, **extra: str) -> dict[str, str]:
    home = tree.parent
    base = {"PATH": f"{home}/bin:/usr/bin:/bin", "HOME": str(home), "CALLS": f"{home}/calls"}
    return base | extra


def noxw(tree: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - noxw itself
        [sys.executable, str(tree / "noxw"), *words], env=environment(tree, **env), capture_output=True, text=True,
        check=False, stdin=subprocess.DEVNULL, cwd=tree.parent, timeout=30,
    )  # fmt: skip


def calls(tree: Path) -> list[str]:
    file = tree.parent / "calls"
    found = file.read_text().replace(f"{tree}/.venv/bin/nox", "nox").splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return found


def load(tree: Path) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("noxw_under_test", str(tree / "noxw"))
    spec = importlib.util.spec_from_loader("noxw_under_test", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_first_call_makes_the_environment_with_hashes_and_becomes_nox(tree: Path) -> None:
    done = noxw(tree, "-s", "lint", "--", "-x")

    made, installed, became = calls(tree)
    assert made.startswith("uv venv -q --clear --python ")
    assert installed.endswith(f"--require-hashes -r {tree}/requirements.lock")
    assert became == "became -P nox -s lint -- -x"
    assert done.stdout == ""
    assert "set up in" in done.stderr


def test_second_call_installs_nothing_and_says_nothing(tree: Path) -> None:
    noxw(tree, "-s", "lint")
    calls(tree)

    done = noxw(tree, "-s", "lint")

    assert calls(tree) == ["became -P nox -s lint"]
    assert (done.stdout, done.stderr) == ("", "")


def test_exit_code_is_that_of_what_it_became(tree: Path) -> None:
    assert noxw(tree, "-s", "lint", CODE="7").returncode == 7


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_changed_input_installs_again_into_the_same_environment(tree: Path, name: str) -> None:
    noxw(tree, "-s", "lint")
    calls(tree)
    (tree / name).write_text("# changed\n")

    noxw(tree, "-s", "lint")

    assert [line.split()[1] for line in calls(tree)] == ["pip", "-P"]


def test_a_failed_set_up_shows_the_last_words_and_is_repeated(tree: Path) -> None:
    failed = noxw(tree, "-s", "lint", BROKEN="1")
    calls(tree)
    again = noxw(tree, "-s", "lint")

    assert failed.returncode == 1
    assert "exit code 9" in failed.stderr
    assert "no matching distribution" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert again.returncode == 0
    assert [line.split()[1] for line in calls(tree)] == ["pip", "-P"]


def test_two_at_once_install_once(tree: Path) -> None:
    argv = [sys.executable, str(tree / "noxw"), "-s", "lint"]
    env = environment(tree, SLOW="0.5")
    both = [subprocess.Popen(argv, env=env, stderr=subprocess.DEVNULL) for _ in range(2)]  # noqa: S603 - noxw itself

    assert [process.wait(timeout=30) for process in both] == [0, 0]
    assert sorted(line.split()[1] for line in calls(tree)) == ["-P", "-P", "pip", "venv"]


def test_who_has_to_wait_for_another_set_up_says_so(tree: Path) -> None:
    handle = os.open(tree, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    argv = [sys.executable, str(tree / "noxw"), "-s", "lint"]
    with subprocess.Popen(argv, env=environment(tree), stderr=subprocess.PIPE, text=True) as waiting:  # noqa: S603 - as above
        assert waiting.stderr is not None
        first = waiting.stderr.readline()
        os.close(handle)
        waiting.communicate(timeout=30)

    assert first == "noxw: another noxw is setting up this tree, waiting for it\n"
    assert waiting.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_set_up_ends_its_installer_and_leaves_no_stamp(
    tree: Path, number: signal.Signals, code: int
) -> None:
    put_program(tree.parent, "uv", f'{UV}\nread -r line < "{tree}/never"')
    os.mkfifo(tree / "never")
    argv = [sys.executable, str(tree / "noxw"), "-s", "lint"]
    with subprocess.Popen(argv, env=environment(tree), stderr=subprocess.PIPE, text=True) as running:  # noqa: S603 - as above
        assert running.stderr is not None
        running.stderr.readline()
        with (tree / "never").open("w"):  # opens once the installer waits at the other end
            running.send_signal(number)
            words = running.communicate(timeout=30)[1]

    assert running.returncode == code
    assert words == ""
    assert not (tree / ".venv/noxw-stamp").exists()


def test_environment_of_another_python_is_made_again(tree: Path) -> None:
    noxw(tree, "-s", "lint")
    calls(tree)
    (tree / ".venv/pyvenv.cfg").write_text("version = 3.2.1\n")
    (tree / ".venv/noxw-stamp").unlink()

    noxw(tree, "-s", "lint")

    assert [line.split()[1] for line in calls(tree)] == ["venv", "pip", "-P"]


def test_source_is_importable_wherever_the_tree_is_moved(tree: Path) -> None:
    noxw(tree, "-s", "lint")
    moved = tree.rename(tree.parent / "moved")

    link = (moved / f".venv/lib/{PYTHON}/site-packages/stackyard_src.pth").read_text().strip()

    assert (moved / f".venv/lib/{PYTHON}/site-packages" / link).resolve() == moved / "src"


def test_a_folder_that_is_no_environment_is_left_alone(tree: Path) -> None:
    (tree / ".venv").mkdir()
    (tree / ".venv/thesis.txt").write_text("years of work")

    done = noxw(tree, "-s", "lint")

    assert done.returncode == 1
    assert "is no virtual environment; move it away" in done.stderr
    assert (tree / ".venv/thesis.txt").exists()


def test_a_linked_environment_is_left_alone(tree: Path) -> None:
    (tree.parent / "shared").mkdir()
    (tree / ".venv").symlink_to(tree.parent / "shared")

    done = noxw(tree, "-s", "lint")

    assert done.returncode == 1
    assert "is a link to" in done.stderr


def test_help_explains_itself_without_setting_up_anything(tree: Path) -> None:
    done = noxw(tree, "--help")

    assert done.returncode == 0
    assert "--setup-only" in done.stdout
    assert not (tree / ".venv").exists()


def test_help_ends_with_noxs_own_once_it_is_there(tree: Path) -> None:
    noxw(tree, "-s", "lint")
    calls(tree)

    noxw(tree, "--help")

    assert calls(tree) == ["became -P nox --help"]


def test_missing_lock_is_one_line(tree: Path) -> None:
    (tree / "requirements.lock").unlink()

    done = noxw(tree)

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"noxw: {tree}/requirements.lock: No such file or directory; noxw belongs beside it"
    ]


def test_pip_is_used_where_there_is_no_uv(tree: Path) -> None:
    noxw(tree, "-s", "lint")
    calls(tree)
    (tree.parent / "bin/uv").unlink()
    (tree / "requirements.lock").write_text("nox==2\n")

    noxw(tree, "-s", "lint")

    probe, installed, became = calls(tree)
    assert probe == "became -c import pip"
    assert installed.startswith("became -m pip install --no-input --require-hashes -r")
    assert became == "became -P nox -s lint"


def test_sources_of_pip_reach_uv_with_the_environment_over_the_file(tree: Path) -> None:
    (tree.parent / "pip.conf").write_text(
        "[global]\nindex-url = https://one.test/simple\nextra-index-url =\n  file:///a\n  file:///b\ncert = /ca.pem\n"
        "find-links = /x\n"
    )

    noxw(tree, "-s", "lint", PIP_CONFIG_FILE=str(tree.parent / "pip.conf"), PIP_FIND_LINKS="/y /z", UV_HTTP_TIMEOUT="9")

    assert (tree.parent / "calls.env").read_text().splitlines() == [
        "SSL_CERT_FILE=/ca.pem",
        "UV_DEFAULT_INDEX=https://one.test/simple",
        "UV_FIND_LINKS=/y,/z",
        "UV_HTTP_TIMEOUT=9",
        "UV_INDEX=file:///a file:///b",
        "UV_INDEX_STRATEGY=unsafe-best-match",
    ]


def test_broken_pip_configuration_is_passed_over(tree: Path) -> None:
    (tree.parent / "pip.conf").write_bytes(b"\xff[[[")

    assert noxw(tree, "-s", "lint", PIP_CONFIG_FILE=str(tree.parent / "pip.conf")).returncode == 0


@pytest.mark.parametrize(
    ("words", "becomes"),
    [
        ("", "nox"),
        ("--list", "nox --list"),
        ("--version", "nox --version"),
        ("-s lint types unit -- -s", "nox -s lint types unit -- -s"),
        ("-s unit-3.12", "nox -s unit-3.12"),
        ("-s test", "-m stackyard.host -- -s test"),
        ("-stest", "-m stackyard.host -- -stest"),
        ("--session=test", "-m stackyard.host -- --session=test"),
        ("--sessions lint test", "-m stackyard.host -- --sessions lint test"),
        ("-e test", "-m stackyard.host -- -e test"),
        ("-t docker", "-m stackyard.host -- -t docker"),
        ("--yes -s test", "-m stackyard.host --yes -- -s test"),
        ("-s test -- --yes", "-m stackyard.host -- -s test -- --yes"),
        ("--no-engine -s test", "nox -s test"),
        ("--setup-only", "-m stackyard.host --setup-only --"),
    ],
)
def test_only_what_may_need_docker_asks_for_an_engine(tree: Path, words: str, becomes: str) -> None:
    noxw(tree, *words.split())

    assert calls(tree)[-1] == f"became -P {becomes}"


def test_session_named_in_the_environment_counts(tree: Path) -> None:
    noxw(tree, NOXSESSION="lint,test")

    assert calls(tree)[-1] == "became -P -m stackyard.host --"


def test_set_up_alone_without_engine_stops_there(tree: Path) -> None:
    done = noxw(tree, "--setup-only", "--no-engine")

    assert done.returncode == 0
    assert [line.split()[1] for line in calls(tree)] == ["venv", "pip"]


def test_sessions_find_the_programs_of_the_environment_first(tree: Path) -> None:
    module = load(tree)

    found = module.activated({"PATH": "/usr/bin"})

    assert found == {"PATH": f"{tree}/.venv/bin:/usr/bin", "VIRTUAL_ENV": f"{tree}/.venv"}


def test_too_old_python_says_so_in_one_line(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load(tree)
    monkeypatch.setenv("PATH", str(tree))
    monkeypatch.setattr(module.sys, "version_info", (3, 8, 18))

    code = module.main(["--version"])

    assert code == 1
    assert capsys.readouterr().err.startswith("noxw: Python 3.11 or newer needed, found 3.8.18; install one")


def test_too_old_python_goes_on_with_a_newer_one_that_works(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_program(tree.parent, "python3.13", "exit 127")
    put_program(tree.parent, "python3.12")
    module = load(tree)
    monkeypatch.setenv("PATH", str(tree.parent / "bin"))
    became: list[Any] = []

    def become(program: str, words: list[str]) -> None:
        became.append([program, *words])
        raise SystemExit

    monkeypatch.setattr(os, "execv", become)

    with pytest.raises(SystemExit):
        module.use_newer_python(["--version"])

    newer = str(tree.parent / "bin/python3.12")
    assert became == [[newer, newer, str(tree / "noxw"), "--version"]]


def without_ensurepip(monkeypatch: pytest.MonkeyPatch, tree: Path) -> ModuleType:
    module = load(tree)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", f"{tree.parent}/bin:/bin-that-is-not")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return module


def test_missing_venv_package_is_named_where_nobody_agreed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_program(tree.parent, "apt-get")
    module = without_ensurepip(monkeypatch, tree)

    with pytest.raises(module.SetupError, match=rf"install {PYTHON}-venv`, or noxw with --yes"):
        module.supply_ensurepip(consent=False)

    assert calls(tree) == []


def test_missing_venv_package_is_installed_with_consent(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_program(tree.parent, "apt-get")
    module = without_ensurepip(monkeypatch, tree)

    module.supply_ensurepip(consent=True)

    assert calls(tree) == [
        "apt-get -q update", f"apt-get -q -y --no-install-recommends install {PYTHON}-venv",
    ]  # fmt: skip


def test_missing_venv_package_without_apt_says_what_to_install(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = without_ensurepip(monkeypatch, tree)

    with pytest.raises(module.SetupError, match="install your system's venv package for it, or uv"):
        module.supply_ensurepip(consent=True)


def test_a_long_step_gives_signs_of_life(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load(tree)
    monkeypatch.setattr(module, "HEARTBEAT", 0.05)

    module.step("waiting", ["sleep", "0.3"])

    assert capsys.readouterr().err.count("noxw: waiting: 0 s so far") >= 2
