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
if [ "$1" = --version ]; then echo "uv ${{UV_IS:-0.13.9}} (x86_64)"; sed -i '$d' "$CALLS"; exit; fi
if [ "$1" = venv ]; then
  for venv; do :; done
  mkdir -p "$venv/bin" "$venv/lib/{PYTHON}/site-packages"
  echo "uv = 0.13.9" > "$venv/pyvenv.cfg"
  echo "version_info = {".".join(map(str, sys.version_info[:3]))}" >> "$venv/pyvenv.cfg"
  printf '%s\\n' '#!/bin/sh' '{BECOMES}' > "$venv/bin/python"
  chmod +x "$venv/bin/python"
else
  [ ! -e "$CALLS.env" ] || echo -- >> "$CALLS.env"
  env | grep -E '^(UV_|SSL_CERT|ALL_PROXY)' | sort >> "$CALLS.env"
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
    (root / "requirements-uv.lock").write_text("uv==0.13.9 --hash=sha256:0\n")
    put_program(tmp_path, "uv", UV)
    return root


def environment(tree: Path, **extra: str) -> dict[str, str]:
    home = tree.parent
    base = {
        "PATH": f"{home}/bin:/usr/bin:/bin", "HOME": str(home), "CALLS": f"{home}/calls", "PIP_CONFIG_FILE": os.devnull,
    }  # fmt: skip
    return base | extra


def noxw(tree: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - noxw itself
        [sys.executable, str(tree / "noxw"), *words], env=environment(tree, **env), capture_output=True, text=True,
        check=False, stdin=subprocess.DEVNULL, cwd=tree.parent, timeout=240,
    )  # fmt: skip


def calls(tree: Path) -> list[str]:
    file = tree.parent / "calls"
    text = file.read_text() if file.exists() else ""
    found = text.replace("-m stackyard.cli.sessions", "nox").splitlines()
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
    assert installed == f"uv pip sync --python {tree}/.venv/bin/python {tree}/requirements.lock --require-hashes"
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


def test_a_changed_lock_is_installed_into_the_same_environment(tree: Path) -> None:
    noxw(tree, "-s", "lint")
    calls(tree)
    (tree / "requirements.lock").write_text("nox==2\n")

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

    assert [process.wait(timeout=240) for process in both] == [0, 0]
    assert sorted(line.split()[1] for line in calls(tree)) == ["-P", "-P", "pip", "venv"]


def test_who_has_to_wait_for_another_set_up_says_so(tree: Path) -> None:
    handle = os.open(tree, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    argv = [sys.executable, str(tree / "noxw"), "-s", "lint"]
    with subprocess.Popen(argv, env=environment(tree), stderr=subprocess.PIPE, text=True) as waiting:  # noqa: S603 - as above
        assert waiting.stderr is not None
        first = waiting.stderr.readline()
        os.close(handle)
        waiting.communicate(timeout=240)

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
            words = running.communicate(timeout=240)[1]

    assert running.returncode == code
    assert words == ""
    assert not (tree / ".venv/noxw-stamp").exists()


@pytest.mark.parametrize("notes", ["uv = 0.13.9\nversion_info = 3.2.1\n", f"version = {sys.version.split()[0]}\n"])
def test_environment_of_another_python_or_tool_is_made_again(tree: Path, notes: str) -> None:
    noxw(tree, "-s", "lint")
    calls(tree)
    (tree / ".venv/pyvenv.cfg").write_text(notes)
    (tree / ".venv/noxw-stamp").unlink()

    noxw(tree, "-s", "lint")

    assert [line.split()[1] for line in calls(tree)] == ["venv", "pip", "-P"]


def test_source_is_importable_wherever_the_tree_is_moved(tree: Path) -> None:
    noxw(tree, "-s", "lint")
    moved = tree.rename(tree.parent / "moved")

    link = (moved / f".venv/lib/{PYTHON}/site-packages/stackyard_src.pth").read_text().strip()

    assert (moved / f".venv/lib/{PYTHON}/site-packages" / link).resolve() == moved / "src"


@pytest.mark.parametrize(
    ("folder", "program"), [("tree", "-P -m stackyard.cli.sessions --no-engine test"), ("", "-P -m nox test")]
)
def test_nox_of_the_environment_checks_its_words_beside_noxw_only(tree: Path, folder: str, program: str) -> None:
    noxw(tree)
    (tree / "noxfile.py").touch()
    script = (tree / ".venv/bin/nox").read_text()
    argv = [sys.executable, "-c", f"import sys; sys.executable = {str(tree / '.venv/bin/python')!r}\n{script}", "test"]
    calls(tree)

    subprocess.run(argv, cwd=tree.parent / folder, env=environment(tree), check=True)  # noqa: S603 - what noxw wrote

    assert (tree.parent / "calls").read_text() == f"became {program}\n"
    assert os.access(tree / ".venv/bin/nox", os.X_OK)


def test_the_console_program_is_in_the_environment(tree: Path) -> None:
    noxw(tree, "-s", "lint")

    program = tree / ".venv/bin/stackyard"
    assert program.read_text().startswith(f"#!{tree}/.venv/bin/python -P\nfrom stackyard.cli.entry import main")
    assert os.access(program, os.X_OK)


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
        f"noxw: {tree}/requirements.lock: No such file or directory; noxw belongs next to it"
    ]


def without_uv(tree: Path) -> dict[str, str]:
    """Take uv from PATH, and make a `python -m venv` that writes an environment whose pip installs that uv."""
    uv = (tree.parent / "bin/uv").rename(tree.parent / "uv")
    put_program(tree.parent, "base", f"""
if [ "$1" = -c ]; then sed -i '$d' "$CALLS"; exit "${{HAS_NO_PIP:-1}}"; fi
[ "$2" = venv ] || exec "$4" "$@"
mkdir -p "$4/bin" && echo "version = 3" > "$4/pyvenv.cfg"
printf '%s\\n' '#!/bin/sh' 'echo "pip $*" >> "$CALLS"' 'cp {uv} {tree}/.uv/bin/uv' > "$4/bin/python"
chmod +x "$4/bin/python"
""")  # fmt: skip
    return {"PATH": f"{tree.parent}/bin:/usr/bin:/bin"}


def set_up_without_uv(tree: Path, monkeypatch: pytest.MonkeyPatch, **env: str) -> list[str]:
    """Return what a set-up in this process calls, where *env* means the environment."""
    module = load(tree)
    monkeypatch.setattr(module, "BASE_PYTHON", str(tree.parent / "bin/base"))
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for name, value in environment(tree, **env).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    module.prepare(consent=False)
    return calls(tree)


def test_the_uv_that_made_the_environment_is_found_in_it(tree: Path) -> None:
    noxw(tree, "-s", "lint")
    (tree / "requirements.lock").write_text("nox==2\n")
    noxw(tree, "-s", "lint", PATH=f"{tree}/.venv/bin:{tree.parent}/bin:/usr/bin:/bin")

    assert (tree / ".venv/bin/uv").readlink() == tree.parent / "bin/uv"


def test_without_uv_pip_installs_the_locked_one_into_an_environment_of_its_own(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, installed, uv_made, uv_synced = set_up_without_uv(tree, monkeypatch, **without_uv(tree))

    assert made == f"base -m venv --clear {tree}/.uv"
    assert installed.startswith("pip -m pip ")
    assert installed.endswith(f"install --no-deps --require-hashes -r {tree}/requirements-uv.lock")
    assert (uv_made.split()[:2], uv_synced.split()[:3]) == (["uv", "venv"], ["uv", "pip", "sync"])


def test_the_pip_of_this_python_installs_uv_where_it_can(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, called, installed, *_ = set_up_without_uv(tree, monkeypatch, **without_uv(tree), HAS_NO_PIP="0")

    assert made == f"base -m venv --clear {tree}/.uv --without-pip"
    assert called.startswith(f"base -m pip --python {tree}/.uv/bin/python --disable")
    assert installed.startswith("pip -m pip ")


def test_the_installed_uv_is_used_again_until_the_lock_names_another(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = without_uv(tree)
    set_up_without_uv(tree, monkeypatch, **path)

    (tree / "requirements.lock").write_text("nox==2\n")
    again = set_up_without_uv(tree, monkeypatch, **path)
    (tree / "requirements.lock").write_text("nox==3\n")
    (tree / "requirements-uv.lock").write_text("uv==0.13.10 --hash=sha256:0\n")
    newer = set_up_without_uv(tree, monkeypatch, **path)

    assert [line.split()[0] for line in again] == ["uv"]
    assert [line.split()[0] for line in newer] == ["base", "pip", "uv"]


@pytest.mark.parametrize(("version", "programs"), [("0.8.0", ["uv", "uv"]), ("0.7.22", ["base", "pip", "uv", "uv"])])
def test_a_uv_on_path_is_used_unless_it_is_too_old(
    tree: Path, monkeypatch: pytest.MonkeyPatch, version: str, programs: list[str]
) -> None:
    path = without_uv(tree)
    shutil.copy(tree.parent / "uv", tree.parent / "bin/uv")

    made = set_up_without_uv(tree, monkeypatch, **path, UV_IS=version)

    assert [line.split()[0] for line in made] == programs


def test_a_uv_on_path_that_does_not_run_is_skipped(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = without_uv(tree)
    put_program(tree.parent, "uv", "echo 'no such version' >&2; exit 127")

    made = set_up_without_uv(tree, monkeypatch, **path)

    assert [line.split()[0] for line in made] == ["uv", "base", "pip", "uv", "uv"]


def test_a_folder_for_uv_that_is_no_environment_is_left_alone(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = without_uv(tree)
    (tree / ".uv").mkdir()
    (tree / ".uv/thesis.txt").write_text("years of work")

    with pytest.raises(Exception, match=r"\.uv is no virtual environment; move it away"):
        set_up_without_uv(tree, monkeypatch, **path)

    assert (tree / ".uv/thesis.txt").exists()


def test_settings_of_pip_reach_uv_with_the_environment_over_the_file(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, home = load(tree), tree.parent
    monkeypatch.setattr(module, "SYSTEM_PIP", (str(home),))
    (home / "pip.conf").write_text(
        "[global]\nindex_url = https://one.test/simple\ncert = ca.pem\nfind-links = /x\nproxy = http://two.test:3128\n"
    )
    (home / "named.conf").write_text(
        "[install]\nextra-index-url =\n  file:///a\n  file:///b\ntrusted-host = one.test\n"
    )
    (home / "y").mkdir()
    monkeypatch.chdir(home)
    set_already = {
        "HOME": str(home), "PIP_CONFIG_FILE": "named.conf", "PIP_INDEX_URL": "", "PIP_TIMEOUT": "7.5",
        "UV_INSECURE_HOST": "mine.test",
        "PIP_CLIENT_CERT": "~/me.pem", "PIP_FIND_LINKS": f"y https://links.test/ {home}/none",
    }  # fmt: skip
    monkeypatch.setattr(os, "environ", set_already)

    assert {name: value for name, value in module.uv_environment().items() if name not in set_already} == {
        "ALL_PROXY": "http://two.test:3128",
        "SSL_CERT_FILE": f"{home}/ca.pem",
        "UV_DEFAULT_INDEX": "https://one.test/simple",
        "UV_FIND_LINKS": f"{home}/y,https://links.test/",
        "UV_HTTP_TIMEOUT": "7",
        "UV_INDEX": "file:///a file:///b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CLIENT_CERT": f"{home}/me.pem",
    }
    assert module.uv_environment()["UV_INSECURE_HOST"] == "mine.test"


@pytest.mark.parametrize(("writable", "more"), [(True, {}), (False, {"UV_NO_CACHE": "true"})])
def test_uv_goes_on_without_a_cache_where_home_is_read_only(
    tree: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str], *, writable: bool
) -> None:
    module = load(tree)
    monkeypatch.setattr(module, "SYSTEM_PIP", ())
    home = {"HOME": str(tree / "no/such/home")}
    monkeypatch.setattr(os, "environ", dict(home))
    monkeypatch.setattr(os, "access", lambda folder, _mode: writable or Path(folder) != tree)

    assert module.uv_environment() == home | more


def test_constraints_of_pip_are_compared_with_the_lock_before_it_is_installed(tree: Path) -> None:
    noxw(tree, "-s", "lint", PIP_CONSTRAINT="limits.txt")

    _, compared, installed, _ = calls(tree)
    assert compared.endswith("requirements.lock --dry-run")
    assert installed.endswith("requirements.lock --require-hashes")
    first, *second = (tree.parent / "calls.env").read_text().split("--\n")
    assert first == f"UV_CONSTRAINT={tree.parent}/limits.txt\n"
    assert "".join(second) == ""


def test_broken_pip_configuration_is_skipped(tree: Path) -> None:
    (tree.parent / "pip.conf").write_bytes(b"\xff[[[")

    assert noxw(tree, "-s", "lint", PIP_CONFIG_FILE=str(tree.parent / "pip.conf")).returncode == 0


@pytest.mark.parametrize("words", ["", "--yes -s test", "--setup-only", "-s test -- --help --setup-only --no-engine"])
def test_every_word_goes_on_to_the_sessions(tree: Path, words: str) -> None:
    noxw(tree, *words.split())

    assert calls(tree)[-1].split() == ["became", "-P", "nox", *words.split()]


@pytest.mark.parametrize(("words", "folder"), [("-s lint", "tree"), ("-f here.py", ""), ("--noxfile=here.py", "")])
def test_sessions_run_beside_noxw_unless_another_noxfile_is_named(tree: Path, words: str, folder: str) -> None:
    noxw(tree)
    put_program(tree, "python", 'pwd > "$CALLS"')
    (tree / "bin/python").replace(tree / ".venv/bin/python")

    noxw(tree, *words.split())

    assert calls(tree) == [str(tree.parent / folder)]


def test_set_up_alone_without_engine_stops_there(tree: Path) -> None:
    done = noxw(tree, "--setup-only", "--no-engine")

    assert done.returncode == 0
    assert [line.split()[1] for line in calls(tree)] == ["venv", "pip"]


def test_sessions_find_the_programs_of_the_environment_first(tree: Path) -> None:
    noxw(tree)
    put_program(tree, "python", 'echo "$VIRTUAL_ENV $PATH" > "$CALLS"')
    (tree / "bin/python").replace(tree / ".venv/bin/python")

    noxw(tree, PATH="/usr/bin:/bin")

    assert calls(tree) == [f"{tree}/.venv {tree}/.venv/bin:/usr/bin:/bin"]


def test_sessions_compile_what_they_import_once_for_all(tree: Path) -> None:
    noxw(tree)
    put_program(tree, "python", 'echo "${PYTHONDONTWRITEBYTECODE-unset}" > "$CALLS"')
    (tree / "bin/python").replace(tree / ".venv/bin/python")

    noxw(tree, PATH="/usr/bin:/bin", PYTHONDONTWRITEBYTECODE="1")

    assert calls(tree) == ["unset"]


def test_too_old_python_says_so_in_one_line(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(tree)
    monkeypatch.setenv("PATH", str(tree))
    monkeypatch.setattr(module.sys, "version_info", (3, 8, 18))
    monkeypatch.setattr(module, "VERSION", "3.8.18")

    with pytest.raises(module.SetupError, match=r"^Python 3\.11 or newer needed, found 3\.8\.18; install one [^\n]*$"):
        module.main(["--version"])


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


def test_missing_venv_package_is_named_without_consent(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_program(tree.parent, "apt-get")
    module = without_ensurepip(monkeypatch, tree)

    with pytest.raises(module.SetupError, match=rf"install {PYTHON}-venv`, or noxw with --yes, or install uv"):
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
    tree: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    module = load(tree)
    monkeypatch.setattr(module, "HEARTBEAT", 0.05)

    module.step("waiting", ["sleep", "0.3"])

    assert capfd.readouterr().err.count("noxw: waiting: 0 s so far") >= 2
