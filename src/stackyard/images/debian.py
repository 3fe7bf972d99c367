"""
The Debian base: a root file system of the current stable suite, made by mmdebstrap from the machine's own mirror.

Neither mmdebstrap nor an apt source is installed on the host: apt gets private lists and a private cache for the one
download, and the script runs from where it was unpacked.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from stackyard import process
from stackyard.errors import CommandError, ImageError
from stackyard.images.wheels import tail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SUITE: Final = "trixie"
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
INCLUDED: Final = ("busybox-static",)
LEFT_OUT: Final = ("doc", "man", "info", "locale", "lintian", "bug")  # folders of /usr/share: 46 MB
DEADLINE: Final = 300.0  # seconds; 14 on a near mirror
# What the host must have; Debian's own names.
TOOLS: Final = {"apt-get": "apt", "dpkg": "dpkg", "perl": "perl", "tar": "tar"}


def make_root(tar: Path, work: Path) -> None:
    """
    Write Debian's root file system to *tar*, using the empty directory *work*.

    Raises:
        ImageError: If the host lacks a tool or a Debian mirror, or a step fails.
    """
    for program, package in TOOLS.items():
        if shutil.which(program) is None:
            raise ImageError(f"base-debian: {program} is missing on this host; install Debian's package '{package}'")
    sources = source_list(_index_targets(work))
    unpacked = _unpack_mmdebstrap(sources, work)
    excludes = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in LEFT_OUT]
    _step(
        "mmdebstrap",
        ["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", f"--include={','.join(INCLUDED)}",
         '--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"', *excludes,
         SUITE, str(tar), "-"],
        env={"PATH": f"{unpacked / 'usr/bin'}:/usr/sbin:/usr/bin:/sbin:/bin"}, stdin=sources,
    )  # fmt: skip


_TARGET_FORMAT: Final = ("--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages")


def _index_targets(work: Path) -> list[str]:
    """Ask apt which indexes the host's own sources have, with lists of our own: the host's may be old or missing."""
    lists = work / "host-lists"
    (lists / "partial").mkdir(parents=True)
    apart = [
        "-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={work / 'host-cache'}", "-o", "Acquire::Languages=none",
        "-o", "APT::Sandbox::User=root",
    ]  # fmt: skip
    # a third party's source that is broken on this host is none of our business; a missing mirror shows below
    process.run(["apt-get", "--quiet", *apart, "update"], deadline=DEADLINE, check=False)
    return _step("find the mirror", ["apt-get", "indextargets", *apart, *_TARGET_FORMAT]).splitlines()


def source_list(targets: Sequence[str]) -> str:
    """
    Turn the host's index targets (`URI component` each) into source lines of the base's suite.

    Raises:
        ImageError: If the host has no Debian mirror.
    """
    uris = list(dict.fromkeys(row.split()[0] for row in targets if row.split()[1:] == ["main"]))
    mirror = next((uri for uri in uris if uri.rstrip("/").endswith("/debian")), None)
    if mirror is None:
        raise ImageError(
            "base-debian: apt's configuration names no Debian mirror; "
            "build on Debian, or set STACKYARD_IMAGE_SOURCE=registry"
        )
    security = next((uri for uri in uris if uri.rstrip("/").endswith("security")), None)
    lines = [f"deb [signed-by={KEYRING}] {mirror} {SUITE} main"]
    if security is not None:
        lines.append(f"deb [signed-by={KEYRING}] {security} {SUITE}-security main")
    return "\n".join(lines) + "\n"


def _unpack_mmdebstrap(sources: str, work: Path) -> Path:
    lists, cache = work / "lists", work / "cache"
    for folder in (lists / "partial", cache / "archives/partial", work / "root"):
        folder.mkdir(parents=True)
    listing = work / "sources.list"
    listing.write_text(sources.splitlines()[0] + "\n", encoding="utf-8")
    apt = [
        "apt-get", "--quiet", "-o", f"Dir::Etc::sourcelist={listing}", "-o", "Dir::Etc::sourceparts=/dev/null",
        "-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "Acquire::Languages=none",
        "-o", "APT::Sandbox::User=root", "-o", "APT::Update::Post-Invoke-Success::=true",
    ]  # fmt: skip
    _step("apt-get update", [*apt, "update"])
    _step("apt-get download mmdebstrap", [*apt, "download", "mmdebstrap"], cwd=work)
    package = next(work.glob("mmdebstrap_*.deb"))
    _step("unpack mmdebstrap", ["dpkg", "--extract", str(package), str(work / "root")])
    return work / "root"


def _step(
    name: str,
    argv: Sequence[str],
    *,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> str:
    try:
        return process.run(argv, deadline=DEADLINE, env=env, cwd=cwd, stdin=stdin).stdout
    except CommandError as error:
        how = "ran past its deadline" if error.returncode is None else f"exit code {error.returncode}"
        raise ImageError(f"base-debian: {name}: {how}:\n{tail(error.output)}") from None
