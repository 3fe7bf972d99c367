from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from image_archives import GLIBC, MUSL, Entry, Plan, chunked, elf, sound_alpine

from stackyard.checks import images, packages, sboms
from stackyard.checks.archives import Image, read
from stackyard.checks.binaries import Binary
from stackyard.checks.records import examine
from stackyard.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.checks.records import Finding


def found(image: Image) -> list[Finding]:
    return [item for outcome in examine(images.CHECKS, image, "thing") for item in outcome.findings]


def test_a_sound_image_passes_every_check() -> None:
    assert found(sound_alpine().image()) == []


def test_an_image_with_another_content_than_its_name_tells_is_found() -> None:
    image = sound_alpine().image()

    moved = dataclasses.replace(image, reference="stackyard/redis:alpine-0123456789ab")

    assert [(item.check, item.found) for item in found(moved)] == [
        ("image-content", "its label stackyard.content says nothing")
    ]


def config(**changes: Any) -> Callable[[Plan], None]:
    return lambda plan: plan.config.update(changes)


def file(path: str, entry: Entry) -> Callable[[Plan], None]:
    return lambda plan: plan.add(path, entry)


WHEEL = Entry(b"Wheel-Version: 1.0\nTag: cp313-cp313-manylinux_2_17_x86_64\n")
PLANTED: dict[str, tuple[Callable[[Plan], None], str, str]] = {
    "root user": (config(User=""), "image-user", "user not set, so root"),
    "user by name": (config(User="app"), "image-user", "user app"),
    "uid 0": (config(User="0:10001"), "image-user", "user 0:10001"),
    "glibc program": (
        lambda plan: plan.layers.append({GLIBC: Entry(elf()), "/usr/bin/x": Entry(elf(interpreter=GLIBC), 0o755)}),
        "image-musl", f"/usr/bin/x: asks for the loader {GLIBC}",
    ),
    "glibc library": (
        file("/usr/lib/x.so", Entry(elf(needed=("libc.so.6",)))), "image-musl",
        "/usr/lib/x.so: needs libc.so.6 of glibc",
    ),
    "glibc module": (
        file("/srv/x.cpython-313-x86_64-linux-gnu.so", Entry(elf())), "image-musl",
        "/srv/x.cpython-313-x86_64-linux-gnu.so: a Python module for glibc, which this interpreter does not see",
    ),
    "manylinux wheel": (
        file("/srv/p/x-1.dist-info/WHEEL", WHEEL), "image-musl",
        "/srv/p/x-1.dist-info: wheel cp313-cp313-manylinux_2_17_x86_64",
    ),
    "health check without its program": (
        file("/usr/local/bin/.wh.healthcheck", Entry()), "image-programs",
        "health check: /usr/local/bin/healthcheck is missing",
    ),
    "health check in a shell that is missing": (
        config(Healthcheck={"Test": ["CMD", "curl", "-f", "x"]}), "image-programs", "health check: curl is missing"
    ),
    "entrypoint not executable": (
        file("/usr/local/bin/entrypoint", Entry(b"#!/bin/sh\n", 0o644)), "image-programs",
        "start: /usr/local/bin/entrypoint has mode 0644",
    ),
    "script without its interpreter": (
        file("/usr/local/bin/entrypoint", Entry(b"#!/bin/bash\n", 0o755)), "image-programs",
        "start: /usr/local/bin/entrypoint is a script of /bin/bash, which is missing",
    ),
    "no health check": (config(Healthcheck={"Test": ["NONE"]}), "image-health", "no health check"),
    "secret in ENV": (config(Env=["API_TOKEN=abc", "PATH=/bin"]), "image-secret", "variable API_TOKEN"),
    "key in ENV": (config(Env=["X=AKIAABCDEFGHIJKLMNOP"]), "image-secret", "variable X: a cloud access key"),
    "secret label": (config(Labels={"db.password": "x"}), "image-secret", "label db.password"),
    "secret in history": (
        lambda plan: plan.history.append("ARG DB_PASSWORD=hunter2"), "image-secret", "history line 3: DB_PASSWORD"
    ),
    "URL with password in history": (
        lambda plan: plan.history.append("RUN curl https://me:pw12@host/x"), "image-secret",
        "history line 3: a URL with a password",
    ),
    "setuid": (
        file("/bin/su", Entry(b"x", 0o4755)), "image-setuid", "/bin/su has mode 4755, owner 0:0"
    ),
    "setgid": (file("/bin/wall", Entry(b"x", 0o2755)), "image-setuid", "/bin/wall has mode 2755, owner 0:0"),
    "world-writable file": (file("/srv/x", Entry(b"x", 0o666)), "image-world-writable", "/srv/x has mode 0666"),
    "world-writable folder": (
        file("/srv/d", Entry(folder=True, mode=0o777)), "image-world-writable", "/srv/d has mode 0777"
    ),
    "shell form": (
        config(Entrypoint=["/bin/sh", "-c", "redis-server"]), "image-exec-form", "Entrypoint /bin/sh -c redis-server"
    ),
    "compiler": (file("/usr/bin/gcc", Entry(b"x", 0o755)), "image-build-tools", "/usr/bin/gcc"),
    "volume": (config(Volumes={"/data": {}}), "image-volume", "/data"),
    "private key": (file("/srv/k.pem", Entry(b"-----BEGIN PRIVATE KEY-----\n")), "image-key-file", "/srv/k.pem"),
    "login": (file("/srv/.netrc", Entry(b"x")), "image-key-file", "/srv/.netrc"),
    "missing library": (
        file("/usr/bin/x", Entry(elf(interpreter=MUSL, needed=("libssl.so.3", "libc.so")), 0o755)), "image-libraries",
        "/usr/bin/x: libssl.so.3 missing",
    ),
    "missing loader": (
        file("/usr/bin/x", Entry(elf(interpreter="/lib/ld-none.so.1"), 0o755)), "image-libraries",
        "/usr/bin/x: its loader /lib/ld-none.so.1 is missing",
    ),
    "damaged program": (
        file("/usr/bin/x", Entry(b"\x7fELF\x02\x01\x01", 0o755)), "image-libraries", "/usr/bin/x: cannot be read:"
    ),
    "other processor": (
        file("/usr/bin/x", Entry(elf(machine=183), 0o755)), "image-architecture",
        "/usr/bin/x: built for arm64, the image says amd64",
    ),
    "not Alpine": (
        file("/usr/lib/os-release", Entry(b"ID=debian\n")), "image-alpine", "os-release does not say ID=alpine"
    ),
    "file of a package": (
        file("/lib/.wh.libc.musl-x86_64.so.1", Entry()), "image-packages",
        "musl: 1 missing, the first is /lib/libc.musl-x86_64.so.1",
    ),
    "no apk database": (
        file("/lib/apk/db/.wh..wh..opq", Entry()), "image-alpine", "apk's database does not list musl"
    ),
}  # fmt: skip


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_found_by_exactly_its_check(defect: str) -> None:
    plant, check, words = PLANTED[defect]
    plan = sound_alpine()
    plant(plan)

    findings = found(plan.image())

    assert [item.check for item in findings] == [check]
    assert findings[0].found.startswith(words)
    assert findings[0].fails is (check not in {"image-packages", "image-volume"})  # these only warn


def test_a_pasted_release_file_does_not_make_an_image_alpine() -> None:
    plan = Plan(layers=[{"/etc/os-release": Entry(b"ID=alpine\n"), "/lib/ld-musl-x86_64.so.1": Entry(b"text")}])

    told = [item.found for item in found(plan.image()) if item.check == "image-alpine"]

    assert told == ["apk's database does not list musl", "there is no musl loader in /lib"]


def test_pip_which_official_bases_bring_is_a_warning() -> None:
    plan = sound_alpine()
    plan.add("/usr/local/bin/pip3", Entry(b"x", 0o755))

    assert [(item.check, item.severity) for item in found(plan.image())] == [("image-build-tools", "warning")]


def test_size_is_measured_against_the_budget_and_the_twin() -> None:
    image = replace(sound_alpine().image(), size=110_000_000, budget=100_000_000, twin=200_000_000, engine="arm64")

    told = {item.check: (item.severity, item.found) for item in found(image)}

    assert told == {
        "image-size": ("error", "105 MiB, budget 95.37 MiB"),
        "image-half": ("info", "105 MiB is 55 % of the Debian image's 191 MiB"),
        "image-architecture": ("error", "image for amd64, engine on arm64"),
    }


def glibc_plan(**files: Entry) -> Plan:
    layer = {GLIBC: Entry(elf(), 0o755), "/usr/lib/x86_64-linux-gnu/libc.so.6": Entry(elf()), **files}
    return Plan(layers=[layer], flavour="debian", config=sound_alpine().config)


def libraries(plan: Plan) -> list[str]:
    return [item.found for item in found(plan.image()) if item.check == "image-libraries"]


def test_libraries_are_looked_for_where_the_loader_looks() -> None:
    program = Entry(elf(interpreter=GLIBC, needed=("libc.so.6", "libx.so.1", "ld-linux-x86-64.so.2")), 0o755)
    plan = glibc_plan(**{"/opt/bin/x": program})
    missing = libraries(plan)
    plan.add("/opt/lib/libx.so.1", Entry(elf()))
    still_missing = libraries(plan)
    plan.add("/etc/ld.so.conf.d/x.conf", Entry(b"# ours\n/opt/lib\n"))

    assert missing == still_missing == ["/opt/bin/x: libx.so.1 missing"]
    assert libraries(plan) == []


def test_a_text_file_is_no_library() -> None:
    program = Entry(elf(interpreter=GLIBC, needed=("libx.so.1",)), 0o755)
    plan = glibc_plan(**{"/opt/x": program, "/usr/lib/libx.so.1": Entry(b"GROUP ( libc.so.6 )")})

    assert libraries(plan) == ["/opt/x: libx.so.1 missing"]


def test_a_run_path_from_the_file_s_own_folder_and_a_path_in_a_name_count() -> None:
    program = elf(interpreter=MUSL, needed=("libx.so.1", "/opt/deep/liby.so"), run_path="$ORIGIN/../lib")
    plan = sound_alpine()
    plan.layers.append({
        "/opt/bin/x": Entry(program, 0o755), "/opt/lib/libx.so.1": Entry(elf(needed=("libz.so.1",))),
        "/opt/lib/libz.so.1": Entry(elf()), "/opt/deep/liby.so": Entry(elf()),
    })  # fmt: skip

    assert found(plan.image()) == []


def test_musl_s_path_file_and_ld_library_path_count() -> None:
    plan = sound_alpine()
    plan.add("/usr/bin/x", Entry(elf(interpreter=MUSL, needed=("liba.so.1", "libb.so.1")), 0o755))
    plan.layers.append({"/a/liba.so.1": Entry(elf()), "/b/libb.so.1": Entry(elf())})
    plan.add("/etc/ld-musl-x86_64.path", Entry(b"/lib:/a\n"))
    plan.config["Env"] = ["PATH=/usr/local/bin:/bin", "LD_LIBRARY_PATH=/b"]

    assert found(plan.image()) == []


def test_upper_layers_cover_lower_ones_and_links_are_followed() -> None:
    plan = Plan(layers=[
        {"/a/one": Entry(b"1"), "/a/two": Entry(b"2"), "/b/x": Entry(b"x"), "/loop": Entry(target="loop"),
         "/up": Entry(target="a/../b"), "/folder/in": Entry(b"y"), "/folder": Entry(folder=True),
         "/hard": Entry(target="b/x", hard=True)},
        {"/a/.wh.one": Entry(), "/b/.wh..wh..opq": Entry(), "/b/new": Entry(b"n"), "/folder": Entry(b"now a file")},
    ])  # fmt: skip

    image = plan.image()

    assert {"/a/one", "/b/x", "/folder/in"} & image.files.keys() == set()
    assert {"/a/two", "/b/new", "/folder", "/hard"} <= image.files.keys()
    assert (image.resolve("/up/new"), image.resolve("/loop"), image.resolve("/none")) == ("/b/new", None, None)
    assert (image.resolve("/"), image.files["/hard"].size) == ("/", 1)
    assert image.size == 1 + 1 + 1 + 1 + 1 + 10


def test_compressed_layers_are_read_as_well() -> None:
    plan = sound_alpine()
    plan.zipped = True

    assert plan.image().files == sound_alpine().image().files


@pytest.mark.parametrize("data", [b"", b"not a tar" * 200, sound_alpine().archive()[:3000]])
def test_a_damaged_archive_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"^x:y: its archive cannot be read: "):
        read(chunked(data), "x:y", "alpine")


def test_a_program_says_what_it_loads() -> None:
    binary = Binary.parse(elf(interpreter=MUSL, needed=("liba.so", "libb.so"), run_path="$ORIGIN:/x"))

    assert binary == Binary(
        machine="amd64", interpreter=MUSL, needed=("liba.so", "libb.so"), run_path=("$ORIGIN", "/x")
    )


def test_a_shell_form_health_check_needs_the_shell() -> None:
    plan = sound_alpine()
    plan.config["Healthcheck"] = {"Test": ["CMD-SHELL", "true"]}
    fine = found(plan.image())
    plan.add("/bin/.wh.sh", Entry())

    assert fine == []
    assert "health check: /bin/sh is missing" in [item.found for item in found(plan.image())]


def test_the_list_of_packages_is_cyclonedx_with_package_urls() -> None:
    listed = json.loads(sboms.document(sound_alpine().image(), "stackyard/thing"))

    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    assert listed["metadata"]["component"]["name"] == "stackyard/thing"
    assert [row["purl"] for row in listed["components"]] == [
        "pkg:apk/alpine/busybox@1.37-r1", "pkg:pypi/h11@0.16.0", "pkg:apk/alpine/musl@1.2.5-r21"
    ]  # fmt: skip
    assert listed["components"][2]["licenses"] == [{"license": {"id": "MIT"}}]
    assert listed["metadata"]["properties"] == [{"name": "stackyard:system-packages", "value": "listed"}]


def test_without_a_database_the_list_says_unavailable() -> None:
    image = Plan(layers=[{"/x": Entry(b"x")}], flavour="debian").image()

    listed = json.loads(sboms.document(image, "stackyard/thing"))

    assert "components" not in listed
    assert listed["metadata"]["properties"][0]["value"] == "unavailable"


def test_a_program_no_package_accounts_for_is_listed_with_its_hash() -> None:
    plan = sound_alpine()
    server, module = elf(interpreter=MUSL), elf()
    plan.layers.append({"/usr/local/bin/server": Entry(server, 0o755), "/srv/p/h11/fast.so": Entry(module)})

    rows = json.loads(sboms.document(plan.image(), "stackyard/thing"))["components"]

    assert [(row["name"], row["hashes"]) for row in rows if row["type"] == "file"] == [
        ("/usr/local/bin/server", [{"alg": "SHA-256", "content": hashlib.sha256(server).hexdigest()}])
    ]


def test_a_dpkg_database_is_read() -> None:
    status = b"Package: libc6\nStatus: install ok installed\nVersion: 2.41-12\nDescription: x\n more: text\n"
    image = Plan(layers=[{"/var/lib/dpkg/status": Entry(status)}], flavour="debian").image()

    assert packages.listed(image) == [packages.Package(ecosystem="deb", name="libc6", version="2.41-12")]
