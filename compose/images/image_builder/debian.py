"""
The Debian base: a root file system of the current stable suite, made by mmdebstrap from the machine's own mirror.

Nothing is installed on the host and no apt source is added: apt gets private lists and a private cache, and mmdebstrap
runs from the folder it is unpacked in. A bare Debian has only the core of Perl, so the modules that mmdebstrap needs
are downloaded and unpacked in the same way.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from image_builder.wheels import tail
from stackyard._util import process
from stackyard.errors import CommandError, ImageError
from stackyard.images.builder import missing_tools

if TYPE_CHECKING:
    from collections.abc import Sequence

SUITE: Final = "trixie"
KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
INCLUDED: Final = ("busybox-static",)
LEFT_OUT: Final = ("doc", "man", "info", "locale", "lintian", "bug")  # folders of /usr/share: 46 MB
DEADLINE: Final = 300.0  # seconds; 14 on a near mirror
ROOT: Final = Path(__file__).parents[3]
SYSTEM_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"


def make_root(tar: Path, work: Path, *, suite: str = SUITE, included: Sequence[str] = INCLUDED) -> None:
    """
    Write Debian's root file system to *tar*.

    Args:
        tar: The archive to write.
        work: An empty directory.
        suite: Code name of the Debian release.
        included: Packages beyond the smallest set.

    Raises:
        ImageError: If the host lacks a tool or a Debian mirror, or a step fails.
    """
    missing = missing_tools(ROOT)
    if missing:
        programs, packages = " and ".join(missing), " ".join(missing.values())
        raise ImageError(
            f"base-debian: {programs} missing on this host; run `apt-get install {packages}` as root, "
            "or set STACKYARD_IMAGE_SOURCE=registry"
        )
    work.chmod(0o755)  # without root, mmdebstrap works in a user namespace, as another user
    apt = _private_apt(work)
    sources = source_list(_step("find the mirror", [*apt, "indextargets", *_TARGET_FORMAT]).splitlines(), suite)
    environment = _mmdebstrap(apt, work)
    excludes = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in LEFT_OUT]
    _step(
        "mmdebstrap",
        ["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar", f"--include={','.join(included)}",
         '--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"', *excludes,
         suite, str(tar), "-"],
        env=environment, stdin=sources,
    )  # fmt: skip


_TARGET_FORMAT: Final = ("--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages")


def _private_apt(work: Path) -> list[str]:
    """Return apt-get with the host's sources and with fresh private lists, because the host's may be old or missing."""
    lists, cache = work / "lists", work / "cache"
    for folder in (lists / "partial", cache / "archives/partial"):
        folder.mkdir(parents=True)
    apt = [
        "apt-get", "--quiet", "-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}",
        "-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root",
        "-o", "APT::Update::Post-Invoke-Success::=true",
    ]  # fmt: skip
    # a broken source of a third party does not matter here; a missing mirror shows in the next step
    process.run([*apt, "update"], deadline=DEADLINE, check=False)
    return apt


def source_list(targets: Sequence[str], suite: str = SUITE) -> str:
    """
    Turn the host's index targets (`URI component` each) into source lines of *suite*.

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
    lines = [f"deb [signed-by={KEYRING}] {mirror} {suite} main"]
    if security is not None:
        lines.append(f"deb [signed-by={KEYRING}] {security} {suite}-security main")
    return "\n".join(lines) + "\n"


def _mmdebstrap(apt: Sequence[str], work: Path) -> dict[str, str]:
    """Unpack mmdebstrap and the Perl modules that this host lacks below *work*; return the environment it runs in."""
    root = work / "root"
    _unpack(apt, ("mmdebstrap",), work, root)
    environment = {"PATH": f"{root / 'usr/bin'}:{SYSTEM_PATH}"}
    try:
        process.run(["mmdebstrap", "--version"], deadline=DEADLINE, env=environment)
    except CommandError:
        version = _step("perl", ["perl", "-e", 'printf "%vd", $^V']).rpartition(".")[0]
        _unpack(apt, (f"perl-modules-{version}", f"libperl{version}"), work, root)
        folders = [root / "usr/share/perl" / version, *root.glob(f"usr/lib/*/perl/{version}")]
        environment["PERL5LIB"] = ":".join(map(str, folders))
        _step("mmdebstrap --version", ["mmdebstrap", "--version"], env=environment)
    return environment


def _unpack(apt: Sequence[str], packages: Sequence[str], work: Path, root: Path) -> None:
    """Download *packages* into *work* and unpack them into *root*; none is installed."""
    names = " ".join(packages)
    _step(f"apt-get download {names}", [*apt, "download", *packages], cwd=work)
    for name in packages:
        package = next(work.glob(f"{name}_*.deb"))
        _step(f"unpack {name}", ["dpkg", "--extract", str(package), str(root)])


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
