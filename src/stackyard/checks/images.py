"""Checks of images, from their files and configuration alone; no container is started."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import Action
from stackyard._util.tables import format_bound, format_size
from stackyard.checks import libraries as loading
from stackyard.checks.packages import apk_files
from stackyard.checks.patterns import FILES, kinds_in, secrets_in
from stackyard.checks.records import Spot, check
from stackyard.images.store import is_as_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stackyard.checks.archives import Image

GOAL: Final = 0.5  # what an Alpine image may be of the same service's Debian image
APK: Final = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
MUSL: Final = re.compile(r"/lib/ld-musl-[^/]+\.so\.1")
SETID: Final = 0o6000
WORLD_WRITABLE, STICKY = 0o002, 0o1000
EXECUTABLE: Final = 0o111
NUMBER: Final = re.compile(r"(\d+)(:\d+)?")
TOOLS: Final = frozenset(
    "cc gcc g++ c++ clang clang++ ld as make cmake ninja cargo rustc go gdb strace tcpdump nmap pip pip3 git".split()
)
PROGRAMS: Final = re.compile(r"(/usr(/local)?)?/s?bin/[^/]+")
SHELLS: Final = frozenset({"/bin/sh", "/bin/bash", "/bin/ash", "sh", "bash", "ash"})


@check("image-size", "the image is within its size budget", fix="look at the largest layers: docker history IMAGE")
def size(image: Image) -> Iterator[str]:
    """A machine that runs many stacks holds many images. Each environment sets a limit for the size of one."""
    if image.budget is not None and image.size > image.budget:
        yield f"{format_size(image.size)}, budget {format_bound(image.budget, 'bytes')}"


@check("image-content", "the image is the one that its name means", fix="build it again", action=Action.BUILD)
def content(image: Image) -> Iterator[str]:
    """The tag carries the content's hash, but anybody can move a tag. The label was written by the build."""
    labels = image.config.get("Labels") or {}
    if not is_as_named(image.reference, labels):
        yield f"its label stackyard.content says {labels.get('stackyard.content', '')[:12] or 'nothing'}"


@check(
    "image-half",
    "an Alpine image is at most half the size of the Debian image",
    severity="info",
    fix="nothing to do; the Debian images are small as well",
)
def half(image: Image) -> Iterator[str]:
    """Small images are the reason for the Alpine flavour. This is a goal; the check only reports it."""
    if image.flavour == "alpine" and image.twin and image.size > GOAL * image.twin:
        share = 100 * image.size / image.twin
        yield f"{format_size(image.size)} is {share:.0f} % of the Debian image's {format_size(image.twin)}"


@check(
    "image-alpine",
    "an Alpine image really is Alpine",
    fix="let its Dockerfile begin with an Alpine base, and build it again",
    action=Action.BUILD,
)
def alpine(image: Image) -> Iterator[str]:
    """A release file alone proves nothing: the system's name, apk's database and musl's loader must agree."""
    if image.flavour != "alpine":
        return
    release = image.at("/etc/os-release")
    if release is None or not re.search(r"^ID=[\"']?alpine[\"']?$", release.text or "", re.MULTILINE):
        yield "os-release does not say ID=alpine"
    known = "".join((file.text or "") for path in APK if (file := image.at(path)) is not None)
    if not re.search(r"^P:musl$", known, re.MULTILINE):
        yield "apk's database does not list musl"
    if not any(MUSL.fullmatch(path) and image.files[path].binary for path in image.files):
        yield "there is no musl loader in /lib"


@check(
    "image-packages",
    "every file of an installed package is there",
    severity="warning",
    fix="remove the package with apk, which updates its database, or keep the file",
)
def packages(image: Image) -> Iterator[str]:
    """Vulnerability scanners and SBOMs trust the package database, so it must match the files."""
    missing: dict[str, list[str]] = {}
    for path, package in apk_files(image).items():
        if not _is_there(image, path):
            missing.setdefault(package, []).append(path)
    for package, paths in missing.items():
        yield f"{package}: {len(paths)} missing, the first is {paths[0]}"


def _is_there(image: Image, path: str) -> bool:
    """Tell whether something is at *path*; a link counts whatever it leads to."""
    folder = image.resolve(posixpath.dirname(path))
    return folder is not None and posixpath.join(folder, posixpath.basename(path)) in image.files


@check("image-libraries", "every program finds its loader and libraries", fix="add the missing file to the image")
def libraries(image: Image) -> Iterator[str]:
    """A missing library shows only when the program runs, as 'not found' for a file that exists."""
    yield from loading.unresolved(image)


@check(
    "image-musl",
    "nothing in an Alpine image was built for glibc",
    fix="take the musllinux wheel, or build the program with musl",
)
def musl(image: Image) -> Iterator[str]:
    """Such a file may load, but it fails at the first symbol that musl does not have."""
    if image.flavour == "alpine":
        yield from loading.foreign(image)


@check("image-architecture", "the image is for the engine's processor", fix="build it on this machine")
def architecture(image: Image) -> Iterator[str]:
    """Otherwise the container ends at once with 'exec format error'."""
    if image.engine and image.architecture != image.engine:
        yield f"image for {image.architecture}, engine on {image.engine}"
    yield from loading.other_processors(image)


@check(
    "image-programs",
    "health check and start command exist and can be executed",
    fix="copy the program into the image, mode 0755, with the interpreter its first line names",
)
def programs(image: Image) -> Iterator[str]:
    """If the health check's program is missing, a working service looks dead until the wait times out."""
    for use, words in _commands(image).items():
        if words:
            yield from (f"{use}: {problem}" for problem in _problems(image, words[0]))


def _commands(image: Image) -> dict[str, list[str]]:
    """Return the words of the start command and the health check; a shell form needs the shell."""
    config = image.config
    start = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    kind, *test = (config.get("Healthcheck") or {}).get("Test") or ["NONE"]
    health = ["/bin/sh", *test] if kind == "CMD-SHELL" else test if kind == "CMD" else []
    return {"start": start, "health check": health}


def _problems(image: Image, word: str) -> Iterator[str]:
    path = image.program(word)
    file = image.files.get(path) if path is not None else None
    if file is None or file.kind != "file":
        yield f"{word} is missing"
        return
    if not file.mode & EXECUTABLE:
        yield f"{word} has mode {file.mode:04o}"
    if file.head.startswith(b"#!"):
        interpreter = file.head[2:].split(b"\n")[0].split()
        name = interpreter[0].decode(errors="replace") if interpreter else ""
        if image.at(name) is None:
            yield f"{word} is a script of {name or 'nothing'}, which is missing"


@check("image-health", "the image has a health check", fix='write HEALTHCHECK … CMD ["program"]')  # fmt: skip
def health(image: Image) -> Iterator[str]:
    """Without it, only the tests can tell whether the service works."""
    if ((image.config.get("Healthcheck") or {}).get("Test") or ["NONE"])[0] == "NONE":
        yield "no health check"


@check(
    "image-user", "the image runs as a numeric user that is not root", fix="end the Dockerfile with USER 10001:10001"
)
def user(image: Image) -> Iterator[str]:
    """Root in a container is root on the host's kernel; CIS Docker Benchmark 4.1."""
    name = image.config.get("User") or ""
    match = NUMBER.fullmatch(name)
    if match is None or int(match[1]) == 0:
        yield f"user {name or 'not set, so root'}"


@check(
    "image-exec-form",
    "the start command is a list of words, without a shell around it",
    fix='write CMD ["program", "argument"]',
)
def exec_form(image: Image) -> Iterator[str]:
    """A shell does not forward SIGTERM to the service."""
    for key in ("Entrypoint", "Cmd"):
        words = image.config.get(key) or []
        if len(words) > 1 and words[0] in SHELLS and words[1] == "-c":
            yield f"{key} {' '.join(words)[:120]}"


@check("image-setuid", "no file is setuid or setgid", fix="chmod ug-s the file in the layer that brings it")
def setuid(image: Image) -> Iterator[str]:
    """Such a file lets the service's user become another user; CIS Docker Benchmark 4.8."""
    for path, file in image.files.items():
        if file.kind == "file" and file.mode & SETID:
            yield f"{path} has mode {file.mode:04o}, owner {file.owner[0]}:{file.owner[1]}"


@check(
    "image-world-writable",
    "only its owner can write to a file",
    fix="chmod o-w the file, or give a shared folder the sticky bit (1777)",
)
def world_writable(image: Image) -> Iterator[str]:
    """A service that can change its own program can plant code that a later start runs."""
    for path, file in image.files.items():
        open_folder = file.kind == "directory" and not file.mode & STICKY
        if file.mode & WORLD_WRITABLE and (file.kind == "file" or open_folder):
            yield f"{path} has mode {file.mode:04o}"


@check(
    "image-secret", "no secret in variables, labels or history", fix="give it at run time, as a file in /run/secrets"
)
def secret(image: Image) -> Iterator[str]:
    """Everyone who has the image can read them with docker inspect and docker history; CIS Docker Benchmark 4.10."""
    yield from (f"variable {name}" for name in secrets_in(image.config.get("Env") or ()))
    labels = image.config.get("Labels") or {}
    yield from (f"label {name}" for name in secrets_in(f"{key}={value}" for key, value in labels.items()))
    for number, line in enumerate(image.history, start=1):
        yield from (f"history line {number}: {kind}" for kind in kinds_in(line))
        yield from (f"history line {number}: {name}" for name in secrets_in(_assignments(line)))


def _assignments(line: str) -> Sequence[str]:
    return re.findall(r"\b[A-Za-z_]\w*=[^\s;&|$]+", line)


@check("image-key-file", "no file is a private key or contains a login", fix="leave it out of the build context")
def key_file(image: Image) -> Iterator[str]:
    """A file that a later layer deletes is still in the earlier one, so it must never be copied in."""
    for path, file in image.files.items():
        if file.kind == "file" and (FILES.search(path) or kinds_in(file.head.decode("latin-1"))):
            yield path


@check("image-build-tools", "no tools to build, download or debug", fix="build in a separate stage and copy the result")
def build_tools(image: Image) -> Iterator[Spot]:
    """They make the image larger and help an intruder. Official bases contain pip, which is only a warning."""
    for path in image.files:
        name = posixpath.basename(path)
        if PROGRAMS.fullmatch(path) and name in TOOLS:
            yield Spot(found=path, severity="warning" if name.startswith("pip") else None)


@check(
    "image-volume",
    "the image declares no volume",
    severity="warning",
    fix="remove VOLUME; where an official base declares it, Compose has to mount something there",
)
def volume(image: Image) -> Iterator[str]:
    """A start that mounts nothing there creates an anonymous volume, which may stay behind."""
    yield from sorted(image.config.get("Volumes") or ())


CHECKS: Final = (
    size, content, half, alpine, packages, libraries, musl, architecture, programs, health, user, exec_form, setuid,
    world_writable, secret, key_file, build_tools, volume,
)  # fmt: skip
