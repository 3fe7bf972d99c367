from __future__ import annotations

import uuid
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from stackyard._util import process
from stackyard.checks import images, running_stacks
from stackyard.checks.archives import read
from stackyard.checks.records import examine
from stackyard.docker import images as engine_images
from stackyard.project.environments import Environment
from stackyard.stacks.environments.launch import prepare_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.stacks.environments.stack import Stack

pytestmark = pytest.mark.timeout(1800)  # the first test builds images where they are missing

DEFECTS = {
    "setuid file": ("RUN cp /bin/busybox /srv/su && chmod 4755 /srv/su", {"image-setuid"}),
    "world-writable file": ("RUN touch /srv/x && chmod 666 /srv/x", {"image-world-writable"}),
    "health check without its program": ("RUN rm /usr/local/bin/healthcheck", {"image-programs"}),
    "glibc program": ("COPY --from=debian /usr/bin/redis-cli /usr/bin/", {"image-libraries", "image-musl"}),
    "pasted release file": ("RUN echo ID=debian > /usr/lib/os-release", {"image-alpine"}),
    "secret in ENV": ("ENV API_TOKEN=abcdef", {"image-secret"}),
    "root user": ("USER 0", {"image-user"}),
    "nothing": ("LABEL nothing=wrong", set[str]()),
}


@pytest.fixture(scope="module")
def bases() -> dict[str, str]:
    environments = {"alpine": Environment.load("alpine-test"), "debian": Environment.load("test")}
    return {name: prepare_images(each, print)["STACKYARD_IMAGE_REDIS"] for name, each in environments.items()}


@pytest.fixture
def build(tmp_path: Path, engine: Engine, bases: dict[str, str]) -> Iterator[Callable[[str], str]]:
    """Build an image with one more line than the Redis of Alpine; it is removed in the end."""
    made: list[str] = []

    def make(line: str) -> str:
        reference = f"stackyard-test/verify:{uuid.uuid4().hex[:12]}"
        user = "USER 10001:10001\n" if not line.startswith("USER") else ""
        text = f"FROM {bases['debian']} AS debian\nFROM {bases['alpine']}\nUSER 0\n{line}\n{user}"
        (tmp_path / "Dockerfile").write_text(text)
        lines: list[str] = []
        assert engine_images.build(
            reference, dockerfile=tmp_path / "Dockerfile", context=tmp_path, arguments={}, labels={}, contexts={},
            on_line=lines.append,
        ), lines  # fmt: skip
        made.append(reference)
        return reference

    yield make
    for reference in made:
        engine_images.untag(engine, reference)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_built_into_an_image_is_found_by_its_check_alone(
    defect: str, build: Callable[[str], str], engine: Engine
) -> None:
    line, checks = DEFECTS[defect]
    reference = build(line)

    image = read(engine_images.export(engine, reference), reference, "alpine")
    found = [item for outcome in examine(images.CHECKS, image, reference) for item in outcome.findings]

    assert {item.check for item in found} == checks


def test_a_stack_as_it_is_passes_and_a_container_with_too_much_is_found(
    new_stack: Callable[[], Stack], bases: dict[str, str]
) -> None:
    stack = new_stack()
    stack.up()
    sound = [
        item for outcome in examine(running_stacks.CHECKS, running_stacks.look(stack), "x") for item in outcome.findings
    ]
    port = stack.lease.spare[0]
    # the labels of book and lease make it part of the stack: it is looked at, and removed with it
    process.run(
        ["docker", "run", "--detach", *chain.from_iterable(("--label", label) for label in stack.labels),
             "--label", "com.docker.compose.service=weak",
         "--user", "0", "--publish", f"0.0.0.0:{port}:80", "--no-healthcheck", "--security-opt", "seccomp=unconfined",
         "--env", f"WEAK={stack.lease.secrets()[0]}", "--entrypoint", "sleep", bases["alpine"], "60"],
        deadline=120,
    )  # fmt: skip

    looked = running_stacks.look(stack)
    weak = [item for outcome in examine(running_stacks.CHECKS, looked, "x") for item in outcome.findings]

    assert sound == []
    assert {item.check for item in weak} == {
        "stack-user", "stack-capabilities", "stack-no-new-privileges", "stack-seccomp", "stack-read-only",
        "stack-limits", "stack-health", "stack-listeners", "stack-secret",
    }  # fmt: skip
    assert {item.found.partition(":")[0] for item in weak} == {"weak", "0.0.0.0"}  # noqa: S104 - read, not bound
    assert not [item for item in weak if stack.lease.secrets()[0] in item.found]
