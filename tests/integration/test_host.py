"""The set-up against real engines and the real apt, in namespaces of their own: this host's engine never notices."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackyard._util import process
from stackyard.docker.endpoint import Endpoint
from stackyard.host import docker_packages
from stackyard.host.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

# Everything an engine writes lies on mounts that only this shell and its children see; they all end with it.
SCRIPT = """
set -eu
mount -t tmpfs tmpfs /run
mount --bind "$1/lib" /var/lib/docker
mount --bind "$1/log" /var/log
[ ! -d /etc/docker ] || mount -t tmpfs tmpfs /etc/docker
ensure() { "$2" -P -m stackyard.host --setup-only; }

echo == missing; ensure "$@" 2>&1
docker network create --label stackyard.lease=gone --label "stackyard.host=$3" left >/dev/null
docker network create theirs >/dev/null

echo == killed; kill -9 "$(cat /run/docker.pid)"
ensure "$@" 2>&1
docker network ls --format '{{.Name}}' | sort

echo == reused; kill -9 "$(cat /run/docker.pid)"
sleep 100 & printf %s $! | tee /run/docker.pid >/run/docker/containerd/containerd.pid
ensure "$@" 2>&1
docker version --format '{{.Server.Version}}'
"""


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for one private engine; the lease book lies in it too."""
    machine = Machine()
    if machine.uid != 0 or machine.program("unshare") is None or machine.program("dockerd") is None:
        pytest.skip("a private engine needs root, unshare and dockerd")
    for name in ("lib", "log"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("PATH", machine.path)
    yield tmp_path
    shutil.rmtree(tmp_path / "lib", ignore_errors=True)


def in_private(folder: Path, script: str) -> dict[str, list[str]]:
    """Run *script* in namespaces of its own and return its lines by the section that printed them."""
    from stackyard.settings import Settings

    apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv = [*apart, "sh", "-c", script, "sh", str(folder), sys.executable, Settings.load().host]
    done = process.run(argv, deadline=280, check=False)
    sections: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("== "):
            sections[line[3:]] = []
        else:
            sections[list(sections)[-1]].append(line)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{(folder / 'log/docker.log').read_text()[-2000:]}"
    return sections


def test_missing_and_killed_engines_are_started_and_what_dead_owners_left_is_removed(private: Path) -> None:
    before = Endpoint().ping()

    found = in_private(private, SCRIPT)

    assert found["missing"][0].startswith("noxw: starting the Docker engine (by hand")
    assert found["missing"][-1].startswith("noxw: ready: Docker Engine ")
    assert "noxw: removed what dead runs had left: network left" in found["killed"]
    assert {"left", "theirs"} & set(found["killed"]) == {"theirs"}
    assert "noxw: removed /var/run/docker.pid: the process it names is gone" in found["reused"]
    assert "noxw: removed /var/run/docker/containerd/containerd.pid: the process it names is gone" in found["reused"]
    assert Endpoint().ping() == before


def tree(folder: Path) -> dict[str, float]:
    # apt renews its index of its own packages whenever it is asked anything
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("pkgcache.bin"))
    return {str(path): path.lstat().st_mtime for path in files}


def test_next_release_s_docker_can_be_installed_and_apt_is_left_as_it_was() -> None:
    machine = Machine()
    release = docker_packages.NEXT_RELEASE.get(machine.distribution.codename)
    if not machine.has_apt or release is None or not machine.can_be_root():
        pytest.skip("only Debian 12 takes Docker from the next release, and that needs root")
    places = [Path("/etc/apt"), Path("/var/lib/apt/lists"), Path("/var/cache/apt")]
    before = [tree(place) for place in places]

    with docker_packages.temporary_source(machine, release) as options:
        process.run(machine.as_root(["apt-get", "-q", *options, "update"]), deadline=280)
        names = [f"{name}/{release}" for name in docker_packages.BACKPORTED.names]
        # an empty status file: what would be installed on a machine that has nothing
        blank = ["-o", f"Dir::State::status={os.devnull}"]
        simulate = ["apt-get", "-q", "-s", "--no-install-recommends", *options, *blank, "install", *names]
        planned = process.run(machine.as_root(simulate), deadline=280).stdout

    assert {line.split()[1] for line in planned.splitlines() if line.startswith("Inst ")} >= set(
        docker_packages.BACKPORTED.names
    )
    assert [tree(place) for place in places] == before
