from __future__ import annotations

import datetime as dt
import json
import shutil
import stat
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, get_args
from xml.etree import ElementTree as ET

import pytest
from fake_docker import install_docker
from image_archives import chunked, sound_alpine
from invoke.context import Context
from invoke.exceptions import Exit

from stackyard import images as yard
from stackyard.checks import detection, running_stacks, waivers
from stackyard.checks.catalogue import CHECKS
from stackyard.checks.outputs import findings_table, junit, sarif
from stackyard.checks.records import Finding, Outcome, check
from stackyard.checks.verification import Report, Verifier
from stackyard.cli import verify as commands
from stackyard.cli.checks_page import page
from stackyard.docker import images as engine_images
from stackyard.errors import ConfigError, ImageError, LeftoversError, UsageError, VerifyError
from stackyard.project.environments import Environment, project_root
from stackyard.stacks.environments import launch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FACTS: dict[str, Any] = {
    "HostConfig": {"Memory": 1, "MemorySwap": 1, "PidsLimit": 1, "NanoCpus": 1},
    "State": {"Status": "running", "Health": {"Status": "healthy"}},
}
STATUS = {
    "Uid": "1 1 1 1", "Gid": "1 1 1 1", "CapEff": "0", "CapPrm": "0", "CapBnd": "0", "CapAmb": "0", "NoNewPrivs": "1",
    "Seccomp": "2",
}  # fmt: skip
TODAY = dt.date(2027, 1, 31)
IDS = [each.id for each in CHECKS]


def finding(**changes: Any) -> Finding:
    row = {"check": "image-user", "target": "stackyard/x:alpine", "severity": "error", "found": "user 0", "fix": "do"}
    return Finding(**(row | changes))


def outcome(*findings: Finding, check: str = "image-user", target: str = "stackyard/x:alpine") -> Outcome:
    return Outcome(check=check, target=target, findings=findings)


def test_the_page_of_checks_is_up_to_date() -> None:
    assert (project_root() / "docs/checks.md").read_text() == page()


def test_every_check_has_its_own_id_of_its_subject_and_says_why_and_how_to_fix() -> None:
    assert len(set(IDS)) == len(IDS) > 40
    assert {each.subject for each in CHECKS} == {"dockerfile", "image", "compose", "stack", "detection"}
    assert [each.id for each in CHECKS if not (each.why and each.fix and each.title)] == []


def test_a_check_takes_its_reason_from_its_function() -> None:
    @check("image-x", "x", fix="y", severity="warning")
    def look(subject: str) -> Iterator[str]:
        """Because
        of it."""
        yield subject

    (made,) = look.findings("found", "t")
    assert (look.why, made.severity, made.found, made.fails) == ("Because of it.", "warning", "found", False)


def write(root: Path, text: str) -> Path:
    (root / "envs").mkdir(exist_ok=True)
    (root / "envs/waivers.yaml").write_text(text)
    return root


GOOD = "check: image-user, target: 'stackyard/*', reason: the reason for it, until: 2027-01-31"


def test_a_waiver_holds_through_its_last_day_and_for_what_it_names(tmp_path: Path) -> None:
    root = write(tmp_path, f"waivers:\n  - {{{GOOD}}}\n")

    rows = waivers.load(root, IDS, today=TODAY)
    other = outcome(finding(check="image-size"), check="image-size")
    kept, untouched = waivers.apply(rows, [outcome(finding()), other])

    assert kept.findings[0].waived == "the reason for it (until 2027-01-31)"
    assert not kept.findings[0].fails
    assert untouched == other


def test_without_a_file_or_without_rows_nothing_is_waived(tmp_path: Path) -> None:
    assert waivers.load(tmp_path, IDS) == []
    assert waivers.load(write(tmp_path, "waivers: []\n"), IDS) == []
    assert waivers.load(project_root(), IDS) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("2027-01-31", "2027-01-30"), r"waivers\.0\.until: the waiver has expired"),
        (("2027-01-31", "soon"), r"waivers\.0\.until: must be a day"),
        (("image-user", "image-none"), r"waivers\.0\.check: must be a check of docs/checks\.md, got 'image-none'"),
        (("the reason for it", "why"), r"waivers\.0\.reason: must be a reason"),
        (("'stackyard/*'", "''"), r"waivers\.0\.target: must name a target"),
        (("check:", "checks:"), r"waivers\.0: must have the keys check, target, reason, until"),
        (("  - {", "  x: {"), "waivers: must be a list"),
    ],
)
def test_a_waiver_that_is_wrong_is_an_error(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    root = write(tmp_path, f"waivers:\n  - {{{GOOD}}}\n".replace(*change))

    with pytest.raises(ConfigError, match=words):
        waivers.load(root, IDS, today=TODAY)


def test_a_waiver_that_excuses_nothing_any_more_must_go(tmp_path: Path) -> None:
    rows = waivers.load(write(tmp_path, f"waivers:\n  - {{{GOOD}}}\n"), IDS, today=TODAY)

    with pytest.raises(ConfigError, match="nothing is left to waive"):
        waivers.apply(rows, [outcome()])
    assert waivers.apply(rows, [outcome(check="image-size")]) == [outcome(check="image-size")]


OUTCOMES = [
    outcome(finding()),
    outcome(finding(check="image-size", waived="for now"), check="image-size"),
    outcome(finding(check="image-half", severity="info"), check="image-half"),
    outcome(
        finding(check="dockerfile-user", target="compose/x/Dockerfile", line=7), check="dockerfile-user",
        target="compose/x/Dockerfile",
    ),
    outcome(check="image-setuid"),
]  # fmt: skip


def test_sarif_has_a_rule_for_each_check_and_a_result_for_each_finding() -> None:
    log = sarif(OUTCOMES)

    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert (log["version"], [rule["id"] for rule in rules]) == ("2.1.0", IDS)
    assert [(rules[row["ruleIndex"]]["id"], row["level"]) for row in run["results"]] == [
        ("image-user", "error"), ("image-size", "error"), ("image-half", "note"), ("dockerfile-user", "error"),
    ]  # fmt: skip
    assert run["results"][1]["suppressions"] == [{"kind": "external", "justification": "for now"}]
    assert run["results"][3]["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "compose/x/Dockerfile"}, "region": {"startLine": 7}
    }  # fmt: skip


def test_junit_has_a_case_for_each_look() -> None:
    suites = ET.fromstring(junit(OUTCOMES))  # noqa: S314 - our own text

    counts = [(row.get("name"), row.get("tests"), row.get("failures"), row.get("skipped")) for row in suites]
    assert counts == [("stackyard/x:alpine", "4", "1", "1"), ("compose/x/Dockerfile", "1", "1", "0")]
    assert [child.tag for row in suites for case in row for child in case] == [
        "failure", "skipped", "system-out", "failure"
    ]  # fmt: skip


def test_the_table_has_the_gravest_first_and_says_how_to_fix() -> None:
    shown = findings_table([item for row in reversed(OUTCOMES) for item in row.findings]).splitlines()

    assert [line.split()[0] for line in shown[2:6]] == ["error", "error", "info", "waived"]
    assert "compose/x/Dockerfile:7" in shown[2]
    assert shown[-2:] == ["dockerfile-user: do", "image-user: do"]


def test_a_report_counts_and_complains() -> None:
    report = Report(outcomes=OUTCOMES, seconds=1.25)

    assert report.summary() == "5 checks on 2 targets in 1.2 s: 2 errors, 0 warnings, 1 infos, 1 waived"
    with pytest.raises(VerifyError, match=r"^2 errors of dockerfile-user, image-user; ") as caught:
        report.check()
    assert caught.value.exit_code == 9
    Report(outcomes=OUTCOMES[1:3], seconds=0).check()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of our own: the real environments and Dockerfiles, a `docker` that renders an empty model."""
    for name in ("envs", "compose"):
        shutil.copytree(
            project_root() / name, tmp_path / "p" / name, ignore=shutil.ignore_patterns("secrets", "__pycache__")
        )
    monkeypatch.setenv("STACKYARD_ROOT", str(tmp_path / "p"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    install_docker(tmp_path, """echo '{"services": {"x": {"container_name": "x"}}}'""")

    def ensure(flavour: str, *_: object, **__: object) -> dict[str, str]:
        return {"auth": f"stackyard/auth:{flavour}-0"}

    archive = sound_alpine().archive()
    monkeypatch.setattr(yard, "ensure", ensure)
    monkeypatch.setattr(yard, "references", ensure)
    monkeypatch.setattr(yard, "listing", list)
    monkeypatch.setattr(engine_images, "architecture", lambda _engine: "amd64")
    monkeypatch.setattr(engine_images, "export", lambda _engine, _reference: chunked(archive))
    return tmp_path / "p"


def test_fixing_rewrites_only_what_has_to_change_and_keeps_its_mode(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / "compose/redis/Dockerfile.alpine"
    sound = file.read_text()
    file.write_text("# syntax=docker/dockerfile:1\n" + sound)
    file.chmod(0o640)

    commands.dockerfiles(Context(), fix=True)
    said = capsys.readouterr().out.splitlines()

    assert said[0] == "fixed compose/redis/Dockerfile.alpine"
    assert "0 errors" in said[-1]
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (sound, 0o640)
    assert Verifier().fix() == []


def test_images_are_checked_and_their_packages_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.images(Context(), json=True)
    told = json.loads(capsys.readouterr().out)

    kinds = {(row["check"], row["severity"]) for row in told["findings"]}
    assert kinds == {("image-half", "info")}
    assert told["files"] == [
        "reports/sbom-auth-debian.json", "reports/sbom-auth-alpine.json", "reports/verify.json",
        "reports/verify.sarif", "reports/junit-verify.xml",
    ]  # fmt: skip
    assert all((project / name).exists() for name in told["files"])


def test_an_error_is_exit_code_9_after_everything_was_printed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exit) as caught:
        commands.compose(Context(), environment="test")

    shown = capsys.readouterr().out
    assert caught.value.code == 9
    assert "compose-container-name" in shown
    assert "environment test" in shown
    assert "environment dev" not in shown
    assert (project / "reports/verify.sarif").exists()


def test_all_environments_are_rendered_without_a_name(project: Path) -> None:
    verifier = Verifier(root=project)
    verifier.compose()

    targets = {item.target for item in verifier.report().findings}
    assert targets == {f"environment {name}" for name in ("dev", "test", "alpine-test", "ci")}


@pytest.mark.usefixtures("project")
def test_a_missing_image_is_reported_before_anything_starts_unless_it_may_be_built() -> None:
    with pytest.raises(ImageError, match=r"stackyard/auth:alpine-0 is missing; build .*'invoke images\.build"):
        Verifier(build=False).images(("alpine",))


@pytest.mark.usefixtures("project")
def test_an_unknown_flavour_and_two_ways_to_name_a_stack_are_refused() -> None:
    with pytest.raises(UsageError, match="flavour must be debian or alpine, got 'arch'"):
        Verifier().images(commands.flavours("arch"))
    with pytest.raises(Exit) as caught:
        commands.stack(Context(), name="a", environment="test")
    assert caught.value.code == 2


def test_the_page_can_be_written(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "docs").mkdir()

    commands.docs(Context())

    assert capsys.readouterr().out == "wrote docs/checks.md\n"
    assert (project / "docs/checks.md").read_text() == page()


def seen(fault: Any, seconds: float | None = 0.25) -> detection.Detection:
    return detection.Detection(fault=fault, service="redis", seconds=seconds, limit=1.0, shown="running")


class FakeStack:
    """A stack that stands until it is taken down."""

    def __init__(self, left: list[str]) -> None:
        self.left, self.downs = left, 0
        self.environment = Environment.load("test")

    def down(self) -> FakeStack:
        self.downs += 1
        return self

    def check(self) -> None:
        if self.left:
            raise LeftoversError(f"{self.left} left")


@pytest.fixture
def standing(project: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStack:
    """What launching and attaching give; looking at it finds a container that runs as root."""
    del project  # Environment.load finds it
    made = FakeStack([])
    root = running_stacks.Container(
        service="redis", facts=FACTS, status=STATUS | {"Uid": "0 0 0 0"}, mounts={"/": "ro"}
    )
    monkeypatch.setattr(launch, "launch", lambda *_, **__: (made, None))
    monkeypatch.setattr(commands, "attach", lambda _lease: nullcontext(made))
    monkeypatch.setattr(running_stacks, "look", lambda _stack: running_stacks.Running(containers=[root]))
    monkeypatch.setattr(detection, "detect", lambda _stack: [seen(fault) for fault in get_args(detection.Fault)])
    return made


def test_a_stack_started_for_the_checks_is_removed_whatever_they_find(standing: FakeStack) -> None:
    with pytest.raises(Exit, match="1 errors of stack-user") as caught:
        commands.stack(Context(), environment="test")

    assert (caught.value.code, standing.downs) == (9, 1)


def test_a_stack_that_runs_already_is_left_alone(standing: FakeStack) -> None:
    with pytest.raises(Exit, match="1 errors of stack-user"):
        commands.stack(Context(), name="job-1")

    assert standing.downs == 0


def test_what_is_left_of_the_stack_is_an_error(standing: FakeStack) -> None:
    standing.left = ["a network"]

    with pytest.raises(LeftoversError, match="a network"):
        Verifier().private_stack("test")


def test_all_looks_at_every_kind_of_target(standing: FakeStack, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit, match="errors of compose-"):
        commands.all_(Context(), flavour="alpine")

    out = capsys.readouterr().out
    assert "starting a stack of alpine-test" in out
    assert f"{len(CHECKS)} checks on" in out
    assert ["alpine-test", "redis", "killed", "0.25", "s", "1", "s"] in [line.split() for line in out.splitlines()]
    assert standing.downs == 2


def test_a_fault_that_is_seen_late_or_never_is_an_error_with_its_figure(
    standing: FakeStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    late = [seen("paused"), seen("frozen", None), seen("out of memory", 1.2), seen("killed")]
    monkeypatch.setattr(detection, "detect", lambda _stack: late)

    with pytest.raises(Exit, match="2 errors of detection-frozen, detection-memory") as caught:
        commands.detection(Context(), json=True)
    told = json.loads(capsys.readouterr().out)

    assert (caught.value.code, standing.downs) == (9, 1)
    assert [row["seconds"] for row in told["detections"]["test"]] == [0.25, None, 1.2, 0.25]
    assert "redis frozen: not seen (limit 1.0 s): running" in {row["found"] for row in told["findings"]}


def test_images_that_exist_are_looked_at_without_building(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = yard.Image(
        service="auth", flavour="alpine", reference="stackyard/auth:alpine-0", size=1, created=0, source="packages",
        id="x", base="",
    )  # fmt: skip
    monkeypatch.setattr(yard, "listing", lambda: [row])
    verifier = Verifier(root=project, build=False)

    verifier.images(("alpine",))

    assert verifier.report().findings == []
