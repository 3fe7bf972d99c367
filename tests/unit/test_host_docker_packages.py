from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from fake_host import BOOKWORM, answering, put_file, put_program

from stackyard.docker.endpoint import Endpoint, PingResult
from stackyard.errors import CommandError, EngineError
from stackyard.host import daemon, docker_packages, engine_setup
from stackyard.host.machine import Machine

TARGETS = "trixie-security main http://security.test/debian\nbookworm main http://mirror.test/debian\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    put_file(tmp_path, "etc/os-release", BOOKWORM)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    put_program(
        tmp_path,
        "apt-get",
        f"""
        case "$*" in
          *indextargets*) printf '{TARGETS}';;
          *sourcelist=*update*)
            for w; do case "$w" in *sourcelist=*) cat "${{w#*=}}" > {tmp_path}/used.list;; esac; done;;
          *install*) echo "Need to get 92.9 MB of archives."; echo "Unpacking x"; echo "Setting up docker.io (26) ..."
        esac
        """,
    )
    return Machine(base=tmp_path, uid=0)


def offer(host: Machine, **versions: str) -> None:
    """Let apt-cache answer with these candidates; `_` in a name means `-`, `__` a dot."""
    names = {name.replace("__", ".").replace("_", "-"): version for name, version in versions.items()}
    lines = "\n".join(f"{name}:\n  Installed: (none)\n  Candidate: {version}" for name, version in names.items())
    put_program(host.base, "apt-cache", f"cat <<'END'\n{lines}\nEND")


def apt(host: Machine) -> list[str]:
    """Return apt-get's calls, less the options that are always there."""
    always = re.compile(r"(apt-get -q )|(-o \S+ )")
    lines = (host.base / "calls").read_text().splitlines()
    return [always.sub("", line) for line in lines if line.startswith("apt-get")]


def test_own_packages_are_taken_where_they_are_new_enough(host: Machine) -> None:
    offer(host, docker__io="28.2.2-0ubuntu1", docker_compose_v2="2.37.1", docker_buildx="0.21.3")
    said: list[str] = []

    docker_packages.install(host, said.append)

    assert apt(host) == [
        "update", "install -y --no-install-recommends docker.io docker-compose-v2 docker-buildx",
    ]  # fmt: skip
    assert said == [
        "refreshing the package lists",
        "installing docker.io and docker-compose-v2 of Debian GNU/Linux 12 (bookworm)",
        "Need to get 92.9 MB of archives",
        "Setting up docker.io (26)",
    ]


def test_maker_s_own_packages_come_first_where_their_source_is_configured(host: Machine) -> None:
    names = ("docker_ce", "docker_ce_cli", "containerd__io", "docker_buildx_plugin", "docker_compose_plugin")
    offer(host, **dict.fromkeys(names, "5:28.1.0-1"))

    chosen = docker_packages.new_enough(host)

    assert chosen is not None
    assert chosen.engine == "docker-ce"


@pytest.mark.parametrize(("engine", "compose"), [("20.10.24", "2.26.1"), ("26.1.5", "2.20.1"), ("(none)", "(none)")])
def test_old_packages_are_not_enough(host: Machine, engine: str, compose: str) -> None:
    offer(host, docker__io=engine, docker_cli=engine, docker_compose=compose, docker_buildx="0.13")

    assert docker_packages.new_enough(host) is None


def test_debian_12_takes_the_next_release_s_packages_and_leaves_no_trace(host: Machine) -> None:
    put_file(host.base, docker_packages.KEYRING)
    offer(host, docker__io="20.10.24")

    docker_packages.install(host, lambda _: None)

    key = f"[signed-by={host.base}/{docker_packages.KEYRING}]"
    assert (host.base / "used.list").read_text().splitlines() == [
        f"deb {key} http://mirror.test/debian bookworm main",
        f"deb {key} http://mirror.test/debian trixie main",
    ]
    assert apt(host)[-1] == (
        "install -y --no-install-recommends docker.io/trixie docker-compose/trixie docker-cli/trixie "
        "docker-buildx/trixie"
    )
    assert not list(host.base.glob("stackyard-apt-*"))


def test_every_apt_folder_that_would_keep_a_trace_is_redirected(host: Machine) -> None:
    with docker_packages.temporary_source(host, "trixie") as options:
        folders = dict(word.split("=", 1) for word in options if "=" in word)
        pin = Path(folders["Dir::Etc::preferences"]).read_text()

    assert {"Dir::Etc::sourceparts", "Dir::State::lists", "Dir::Cache"} < folders.keys()
    assert all(value.startswith(str(host.base)) for name, value in folders.items() if name.startswith("Dir::"))
    assert pin == "Package: *\nPin: release n=trixie\nPin-Priority: 90\n"


def test_plugins_alone_are_installed_beside_an_engine_that_is_there(host: Machine) -> None:
    offer(host)

    docker_packages.install(host, lambda _: None, engine=False)

    assert apt(host)[-1].endswith("recommends docker-compose/trixie docker-buildx/trixie")


def test_failed_apt_shows_its_last_words_and_leaves_no_trace(host: Machine) -> None:
    offer(host)
    put_program(
        host.base,
        "apt-get",
        f"case \"$*\" in *indextargets*) printf '{TARGETS}';; *trixie*) echo E: no; exit 100;; esac",
    )

    with pytest.raises(CommandError, match="failed with exit code 100:\n  E: no"):
        docker_packages.install(host, lambda _: None)

    assert not list(host.base.glob("stackyard-apt-*"))


def test_mirror_that_is_not_configured_is_said(host: Machine) -> None:
    put_program(host.base, "apt-get")

    with pytest.raises(EngineError, match="apt has no source for bookworm main"):
        docker_packages.mirror(host)


def test_release_without_a_newer_one_names_what_to_install(host: Machine) -> None:
    put_file(host.base, "etc/os-release", BOOKWORM.replace("bookworm", "buster"))
    offer(host)

    with pytest.raises(EngineError, match="has no Docker that is new enough:\ninstall Docker Engine 25 or newer"):
        docker_packages.install(host, lambda _: None)


def test_system_without_apt_names_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is known here:\ninstall Docker Engine"):
        docker_packages.install(Machine(base=tmp_path), lambda _: None)


@pytest.fixture
def empty(host: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A host whose standard socket lies in its root folder, with an apt that offers a new engine."""
    offer(host, docker__io="28.2.2", docker_compose_v2="2.37.1", docker_buildx="0.21.3")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{host.base}/docker.sock")
    monkeypatch.setattr("stackyard.docker.endpoint.STANDARD_SOCKETS", frozenset({f"{host.base}/docker.sock"}))
    return host


def put_client(host: Machine) -> None:
    put_program(host.base, "docker")
    for name in ("docker-compose", "docker-buildx"):
        put_file(host.base, f"usr/libexec/docker/cli-plugins/{name}").chmod(0o755)


def test_missing_engine_is_installed_then_started(empty: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    put_client(empty)
    monkeypatch.setattr(daemon, "start", lambda *_: PingResult(state="answers", version="28.2.2"))

    version = engine_setup.ensure_engine(empty, consent=True, say=lambda _: None)

    assert version == "28.2.2"
    assert apt(empty)[-1].startswith("install")


def test_engine_its_package_started_is_not_started_again(empty: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    put_client(empty)
    pings = itertools.chain(
        [PingResult(state="missing")], itertools.repeat(PingResult(state="answers", version="28.2.2"))
    )
    monkeypatch.setattr(Endpoint, "ping", lambda _: next(pings))
    monkeypatch.setattr(daemon, "start", lambda *_: pytest.fail("started twice"))

    assert engine_setup.ensure_engine(empty, ask=lambda _: True, say=lambda _: None) == "28.2.2"


def test_missing_compose_is_installed_beside_the_engine(empty: Machine) -> None:
    with answering(empty.base / "docker.sock"):
        engine_setup.ensure_engine(empty, consent=True, say=lambda _: None)

    assert apt(empty)[-1].endswith("recommends docker-compose-v2 docker-buildx")
