"""What stackyard reads from an env file is what Docker Compose reads from it."""

from __future__ import annotations

import json
import random
import string
from typing import TYPE_CHECKING

from stackyard._util import process
from stackyard.errors import ConfigError
from stackyard.project.environments import load_all, parse_env

if TYPE_CHECKING:
    from pathlib import Path


def accepted_lines(count: int) -> list[str]:
    """Return random assignments V0, V1, ... that the parser accepts, in every form it knows."""
    draw = random.Random(20)  # noqa: S311 - a fixed sequence of test data
    alphabet = string.ascii_letters + string.digits + " \t.,:/@%+=^_-#'\"$`\\!~*?(){}[]<>|&;\xe9\u4e2d"
    lines: list[str] = []
    while len(lines) < count:
        text = "".join(draw.choices(alphabet, k=draw.randrange(12)))
        form = draw.choice(["{}={}", "export {}={}", "{}='{}'", '{}="{}"', "  {}='{}' # {{}}", "{}={} # x"])
        line = form.format(f"V{len(lines)}", text)
        try:
            parse_env(line, "line")
        except ConfigError:
            continue
        lines.append(line)
    return lines


def test_compose_reads_the_same_values_from_every_accepted_line(tmp_path: Path) -> None:
    lines = accepted_lines(300)
    text = "\ufeff" + "\r\n".join(["# first", "", *lines]) + "\r\n"
    (tmp_path / "all.env").write_bytes(text.encode())
    names = [f"V{number}" for number in range(len(lines))]
    environment = "".join(f"      {name}: ${{{name}?}}\n" for name in names)
    (tmp_path / "compose.yml").write_text(f"services:\n  a:\n    image: none\n    environment:\n{environment}")

    command = ["docker", "compose", "-f", str(tmp_path / "compose.yml"), "--env-file", str(tmp_path / "all.env")]
    done = process.run([*command, "config", "--format", "json"], deadline=280)
    read = json.loads(done.stdout)["services"]["a"]["environment"]

    plain = text.removeprefix("\ufeff").replace("\r\n", "\n")
    assert {name: value.replace("$$", "$") for name, value in read.items()} == parse_env(plain, "all.env")


def test_compose_starts_with_each_env_file_the_services_of_its_profile() -> None:
    for environment in load_all().values():
        command = ["docker", "compose", "-f", str(environment.compose_file), "--env-file", str(environment.env_file)]
        model = json.loads(process.run([*command, "config", "--format", "json"], deadline=280).stdout)

        services = model["services"]
        published = {name: [int(port["published"]) for port in part["ports"]] for name, part in services.items()}
        assert published == {name: [port] for name, port in environment.ports.items()}
        assert model["name"] == f"stackyard-{environment.name}"
        assert model["networks"]["platform"]["ipam"]["config"] == [{"subnet": environment.subnet}]
