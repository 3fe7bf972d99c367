"""
`./noxw` against package indexes that have moved on, mirrors, old pips and Pythons without pip.

The index is on loopback and offers made-up projects. Two real files come from PyPI, checked by hash: the uv of
requirements-uv.lock and the pip that Python 3.11.0 brought. pip keeps both in its cache.
"""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pip
import pytest
from fake_host import put_program
from fake_index import serving

from stackyard._util import process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_index import Index

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = f"python3.{sys.version_info[1]}"
OLDEST_PIP: Final = "pip==22.3 --hash=sha256:1daab4b8d3b97d1d763caeb01a4640a2250a0ea899e257b1e44b9eded91e15ab\n"
DEADLINE: Final = 300.0  # seconds; a set-up takes 2 to 10 on an idle machine
CLOSED: Final = "http://127.0.0.1:9"  # a proxy that is not there

pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="pip 22.3 runs on Python 3.11 and older")


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of the locked uv and of the oldest pip, from the index that this machine is configured with."""
    folder = tmp_path_factory.mktemp("downloads")
    (folder / "pip.txt").write_text(OLDEST_PIP)
    for lock in (ROOT / "requirements-uv.lock", folder / "pip.txt"):
        words = [
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--dest",
            str(folder),
            "--requirement",
            str(lock),
        ]
        process.run([sys.executable, "-m", "pip", *words], deadline=DEADLINE)
    with zipfile.ZipFile(next(folder.glob("uv-*.whl"))) as archive:
        program = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
        (folder / "uv").write_bytes(archive.read(program))
    (folder / "uv").chmod(0o755)
    return folder


@pytest.fixture
def index(downloads: Path) -> Iterator[Index]:
    """An index on the day after: what `lock` names is there, and so is a newer release of each."""
    with serving() as made:
        made.offer(next(downloads.glob("uv-*.whl")))
        for version in ("1.0", "2.0"):
            made.release("leaf", version)
            made.release("measure", version, extras={"fast": "leaf>=1"})
            made.release("plugin", version, requires=["measure[fast]>=1"])
        yield made


@pytest.fixture
def lock(index: Index) -> str:
    lines = [
        index.release("leaf", "1.0"),
        index.release("measure", "1.0", extras={"fast": "leaf>=1"}),
        index.release("plugin", "1.0", requires=["measure[fast]>=1"]),
    ]
    return "".join(lines)


LOCKED: Final = {"leaf": "1.0", "measure": "1.0", "plugin": "1.0"}


@pytest.fixture
def tree(tmp_path: Path, lock: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with noxw and its locks, in an environment that says nothing of this machine's mirrors."""
    for name in os.environ:
        if name.startswith(("PIP_", "UV_", "SSL_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    (tmp_path / "bin").mkdir()
    root = tmp_path / "tree"
    (root / "src").mkdir(parents=True)
    for name in ("noxw", "requirements-uv.lock"):
        shutil.copy(ROOT / name, root)
    (root / "requirements.lock").write_text(lock)
    return root


def python(folder: Path, wheel: Path | None) -> Path:
    """Return a Python like this one below *folder*, whose `venv` brings pip's *wheel*, or which lacks ensurepip."""
    base = Path(sys.base_prefix)
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    library = folder / "lib" / PYTHON
    library.mkdir(parents=True)
    for entry in (base / "lib").glob("lib*.so*"):
        (folder / "lib" / entry.name).symlink_to(entry)
    for entry in (base / "lib" / PYTHON).iterdir():
        if entry.name not in ("ensurepip", "site-packages"):
            (library / entry.name).symlink_to(entry)
    if wheel:
        put_ensurepip(library, wheel)
    return Path(shutil.copy((base / "bin" / PYTHON).resolve(), folder / "bin" / PYTHON))


def put_ensurepip(library: Path, wheel: Path) -> None:
    """Put an ensurepip that brings pip's *wheel* into a Python's library."""
    (library / "ensurepip").mkdir()
    (library / "ensurepip/__init__.py").touch()
    (library / "ensurepip/__main__.py").write_text(
        f"import runpy, sys\nsys.path.insert(0, {str(wheel)!r})\n"
        f"sys.argv[1:] = ['install', '--no-cache-dir', '--no-index', {str(wheel)!r}]\n"
        "runpy.run_module('pip', run_name='__main__', alter_sys=True)\n"
    )


def set_up(tree: Path, index: Index, program: Path, *words: str, **env: str) -> process.Completed:
    """Run `noxw --setup-only` with nothing on PATH but what the test put there, and *index* as the only one."""
    home = tree.parent
    given = {
        "PATH": f"{home}/bin", "HOME": str(home), "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index.url,
        "UV_CACHE_DIR": f"{home}/uv-cache", "PIP_CACHE_DIR": f"{home}/pip-cache",
    }  # fmt: skip
    noxw = [str(program), str(tree / "noxw"), "--setup-only", "--no-engine", *words]
    return process.run(noxw, deadline=DEADLINE, env=given | env, cwd=home, check=False)


def installed(tree: Path) -> dict[str, str]:
    found = distributions(path=[str(tree / f".venv/lib/{PYTHON}/site-packages")])
    return {each.name: each.version for each in found}


def put_uv(tree: Path, downloads: Path) -> None:
    (tree.parent / "bin/uv").symlink_to(downloads / "uv")


def oldest_pip(downloads: Path) -> Path:
    return next(downloads.glob("pip-22.3-*.whl"))


def test_newer_releases_on_the_index_change_nothing(tree: Path, index: Index, downloads: Path) -> None:
    put_uv(tree, downloads)

    done = set_up(tree, index, Path(sys.executable))

    assert done.returncode == 0, done.stderr
    assert installed(tree) == LOCKED


def test_the_same_index_defeats_an_old_pip_that_resolves_by_itself(tree: Path, index: Index, downloads: Path) -> None:
    words = ["install", "--require-hashes", "--index-url", index.url, "--target", str(tree / "target"), "-r"]
    env = {"PYTHONPATH": str(oldest_pip(downloads)), "PIP_CONFIG_FILE": os.devnull, "HOME": str(tree.parent)}

    done = process.run(
        [sys.executable, "-m", "pip", *words, str(tree / "requirements.lock")], deadline=DEADLINE, env=env, check=False
    )

    assert done.returncode == 1
    assert "In --require-hashes mode, all requirements must have their versions pinned with ==" in done.stderr


@pytest.mark.parametrize("uv_from", ["PATH", "the oldest pip", "the pip of this Python"])
def test_a_machine_that_reaches_only_its_mirror_gets_exactly_the_lock(
    tree: Path, index: Index, downloads: Path, uv_from: str
) -> None:
    home = tree.parent
    (home / ".config/pip").mkdir(parents=True)
    (home / ".config/pip/pip.conf").write_text(
        f"[global]\nindex-url = {index.url}\nfind-links = none\nuser = true\n[install]\ntrusted-host = 127.0.0.1\n"
    )
    proxies = {"HTTP_PROXY": CLOSED, "HTTPS_PROXY": CLOSED, "NO_PROXY": "127.0.0.1"}
    program = python(home / "python", oldest_pip(downloads) if uv_from == "the oldest pip" else None)
    if uv_from == "PATH":
        put_uv(tree, downloads)
    elif uv_from == "the pip of this Python":
        ask = "import site; print(site.getsitepackages()[-1])"  # Debian's Python has other folders than python.org's
        packages = Path(process.run([str(program), "-c", ask], deadline=120).stdout.strip())
        packages.mkdir()
        (packages / "pip").symlink_to(Path(pip.__file__).parent)

    done = set_up(tree, index, program, PIP_CONFIG_FILE="", PIP_INDEX_URL="", **proxies)

    assert done.returncode == 0, done.stderr
    assert installed(tree) == LOCKED
    assert ("/simple/uv/" in index.asked) == (uv_from != "PATH")
    assert (tree / ".uv/bin/uv").exists() == (uv_from != "PATH")


def test_without_ensurepip_uv_on_path_is_enough(tree: Path, index: Index, downloads: Path) -> None:
    put_uv(tree, downloads)

    done = set_up(tree, index, python(tree.parent / "python", None))

    assert done.returncode == 0, done.stderr
    assert installed(tree) == LOCKED


def test_without_ensurepip_and_uv_debian_s_package_is_installed_with_consent(
    tree: Path, index: Index, downloads: Path
) -> None:
    program = python(tree.parent / "python", None)
    put_ensurepip(tree.parent, oldest_pip(downloads))
    library = tree.parent / "python/lib" / PYTHON
    calls = put_program(tree.parent, "apt-get", f'test "$2" = update || /bin/cp -r {tree.parent}/ensurepip {library}')

    refused = set_up(tree, index, program)
    agreed = set_up(tree, index, program, "--yes")

    assert refused.returncode == 1
    assert f"noxw: {PYTHON}-venv is missing; run `" in refused.stderr
    assert agreed.returncode == 0, agreed.stderr
    assert [line.split()[-1] for line in calls.read_text().splitlines()] == ["update", f"{PYTHON}-venv"]
    assert installed(tree) == LOCKED


@pytest.mark.parametrize("maker", ["pip", "uv"])
def test_an_environment_of_the_former_kind_becomes_exactly_the_lock(
    tree: Path, index: Index, downloads: Path, maker: str
) -> None:
    put_uv(tree, downloads)
    uv = str(downloads / "uv")
    make = [sys.executable, "-m", "venv"] if maker == "pip" else [uv, "venv", "-q", "--python", sys.executable]
    process.run([*make, str(tree / ".venv")], deadline=DEADLINE)
    install = [uv, "pip", "install", "-q", "--python", str(tree / ".venv/bin/python"), "--index-url", index.url]
    index.release("stray", "1.0")
    process.run([*install, "plugin==2.0", "stray"], deadline=DEADLINE)
    (tree / ".venv/noxw-stamp").write_text("of an older noxw")

    done = set_up(tree, index, Path(sys.executable))

    assert done.returncode == 0, done.stderr
    assert installed(tree) == LOCKED


def test_a_constraint_that_contradicts_the_lock_ends_the_set_up(tree: Path, index: Index, downloads: Path) -> None:
    put_uv(tree, downloads)
    limits = tree.parent / "limits.txt"
    limits.write_text("unrelated<3\n")
    harmless = set_up(tree, index, Path(sys.executable), PIP_CONSTRAINT="limits.txt")
    (tree / ".venv/noxw-stamp").unlink()
    limits.write_text("measure>=2\n")

    contradicting = set_up(tree, index, Path(sys.executable), PIP_CONSTRAINT="limits.txt")

    assert harmless.returncode == 0, harmless.stderr
    assert contradicting.returncode == 1
    assert "you require measure==1.0 and measure>=2" in " ".join(contradicting.stderr.split())


def test_a_file_with_other_content_than_locked_is_refused(tree: Path, index: Index, downloads: Path) -> None:
    put_uv(tree, downloads)
    index.release("leaf", "1.0", requires=["plugin"])

    done = set_up(tree, index, Path(sys.executable))

    assert done.returncode == 1
    assert "Hash mismatch for `leaf==1.0`" in done.stderr
    assert not (tree / ".venv/noxw-stamp").exists()
