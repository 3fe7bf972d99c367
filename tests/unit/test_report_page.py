from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import page_facts as made
import pytest
from invoke.context import Context
from msgspec.structs import replace

from stackyard.bench.requirements import REQUIREMENTS
from stackyard.cli.bench import report
from stackyard.errors import UsageError
from stackyard.project.environments import project_root
from stackyard.report import overview, page, sections, summary, targets, trends, wording, write
from stackyard.report.inputs import Facts, gather

if TYPE_CHECKING:
    from pathlib import Path

    from stackyard.bench.records import Result, Run

DOCUMENTS = ("docs/reports.md", "docs/benchmarks.md", "docs/checks.md")
VOID = frozenset({"meta", "br"})  # what the page may leave open; anything else closes itself or is closed


class Outline(HTMLParser):
    """What a browser would make of a page: its elements, its text, whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def of(root: Path) -> Outline:
    return Outline(page.html(gather(root)))


def test_all_four_files_are_written_and_named(tmp_path: Path) -> None:
    made.lay_out(tmp_path, [made.run(0, made.everything())])

    paths = write(tmp_path)

    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "reports/index.html", "reports/summary.md", "reports/summary.json", "reports/requirements.xml",
    ]  # fmt: skip
    assert all(path.stat().st_size for path in paths)


def test_the_task_tells_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/docker_environments.yaml").touch()
    monkeypatch.setenv("STACKYARD_ROOT", str(tmp_path))

    report(Context(), json=True)
    report(Context())

    plain, text = capsys.readouterr().out.split("}\n")
    assert json.loads(plain + "}")["files"][0] == "reports/index.html"
    assert text.splitlines()[-1] == "wrote reports/requirements.xml"


def test_the_same_input_gives_the_same_files(tmp_path: Path) -> None:
    made.lay_out(tmp_path, [made.run(0, made.everything(), waterfall=made.STEPS)])

    before = [path.read_bytes() for path in write(tmp_path)]

    assert [path.read_bytes() for path in write(tmp_path)] == before


def test_a_file_in_the_place_of_the_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "reports").touch()

    with pytest.raises(UsageError, match=r"reports/index.html cannot be written: File exists"):
        write(tmp_path)


def test_an_empty_project_gives_a_page_that_says_so(tmp_path: Path) -> None:
    outline = of(tmp_path)

    assert outline.open == []
    assert "svg" not in outline.tags
    for words_ in (
        "no requirement was measured yet",
        "run the benchmarks ('./noxw -s bench')",
        "Nothing was verified yet",
    ):
        assert words_ in outline.text
    assert "no requirement was measured yet" in summary.markdown(gather(tmp_path))
    assert json.loads(summary.json(Facts()))["verdict"] == "OPEN"
    assert ET.fromstring(summary.junit(Facts()))[0].get("tests") == "0"  # noqa: S314 - made here


def test_a_page_has_a_part_for_every_suite_and_one_for_the_waterfall(tmp_path: Path) -> None:
    made.lay_out(tmp_path, [made.run(0, made.everything(), waterfall=made.STEPS)])
    outline = of(tmp_path)
    anchors = [value for name, value in outline.attributes if name == "id" and value and "-" not in value]

    assert outline.open == []
    assert anchors == [
        "content", "startup", "parallel", "waterfall", "services", "pool", "leases", "novel", "requirements", "targets",
        "history", "environments", "verify", "machine",
    ]  # fmt: skip
    linked = {value for name, value in outline.attributes if name == "href" and (value or "").startswith("#")}
    assert {f"#{anchor}" for anchor in anchors} <= linked
    assert linked <= {f"#{value}" for name, value in outline.attributes if name == "id"}


def test_a_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    made.lay_out(tmp_path, [made.run(0, made.everything(), waterfall=made.STEPS)])
    outline = of(tmp_path)

    assert not {"script", "link", "img", "iframe", "object"} & set(outline.tags)
    linked = {value or "" for name, value in outline.attributes if name in {"href", "src"} and value}
    assert {value for value in linked if not value.startswith("#")} == {f"../{path}" for path in DOCUMENTS}
    assert all((project_root() / path).is_file() for path in DOCUMENTS)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in outline.attributes


def test_a_figure_stands_beside_its_peers_with_ratio_and_promise(tmp_path: Path) -> None:
    facts = gather(made.lay_out(tmp_path, [made.run(0, made.startup(0.5))]))
    (part,) = sections.sections(facts)
    (group,) = part.groups

    assert group.columns == ("median", "95 % interval", "compared with stackyard", "promised", "verdict")
    assert [(line.label, line.own, line.cells) for line in group.lines] == [
        ("stackyard", True, ("0.50 s", "0.50 to 0.50 s", "", "at most 1 s", "PASS")),
        ("docker compose up --wait", False, ("5.00 s", "5.00 to 5.00 s", "10.0x as long", "-", "")),
    ]
    assert part.source == "run 000000000000 of 2026-11-10 12:30 UTC, 0000000000, full"


def test_each_kind_of_figure_is_drawn_in_its_own_way(tmp_path: Path) -> None:
    facts = gather(made.lay_out(tmp_path, [made.run(0, made.everything())]))
    kinds = {part.anchor: [(group.title, group.kind) for group in part.groups] for part in sections.sections(facts)}

    assert kinds == {
        "startup": [("start-up", "bars")],
        "services": [("memory", "bars")],
        "parallel": [("cost of a stack (s)", "curve"), ("kernel: pages", "curve")],
        "pool": [("", "spread")],
        "leases": [],
        "novel": [],
    }


def test_two_figures_of_one_subject_are_distinguished(tmp_path: Path) -> None:
    facts = gather(made.lay_out(tmp_path, [made.run(0, made.everything())]))
    services = next(part for part in sections.sections(facts) if part.anchor == "services")

    assert [line.label for line in services.groups[0].lines] == ["redis", "auth (memory-auth)", "auth (peak-auth)"]
    assert services.groups[0].columns == ("median", "promised", "verdict")


def test_memory_is_drawn_as_a_share_of_each_services_own_limit(tmp_path: Path) -> None:
    results = [
        made.result(
            "services",
            f"memory-{subject}",
            used * 2**20,
            what="memory",
            subject=subject,
            unit="bytes",
            target=limit * 2**20,
        )
        for subject, used, limit in (("redis", 16.0, 64.0), ("auth", 64.0, 128.0))
    ]
    facts = gather(made.lay_out(tmp_path, [made.run(0, results)]))
    (group,) = sections.sections(facts)[0].groups

    assert (group.kind, group.columns) == ("share", ("median", "limit", "used"))
    assert [line.cells for line in group.lines] == [("16.0 MiB", "64 MiB", "25%"), ("64.0 MiB", "128 MiB", "50%")]
    assert ['width="25%"' in group.lines[0].plot, 'width="50%"' in group.lines[1].plot] == [True, True]
    assert sections.main_figures(facts) == []


def test_many_groups_stand_side_by_side(tmp_path: Path) -> None:
    results = [
        made.result("services", f"{what} {subject}", 1.0, what=what, subject=subject)
        for what in "abcd" for subject in ("redis", "auth")
    ]  # fmt: skip
    facts = gather(made.lay_out(tmp_path, [made.run(0, [*results, *made.startup(1.0)])]))

    assert {part.anchor: part.paired for part in sections.sections(facts)} == {"startup": False, "services": True}


def test_every_figure_of_a_suite_is_in_its_table(tmp_path: Path) -> None:
    facts = gather(made.lay_out(tmp_path, [made.run(0, made.everything())]))
    parallel = next(part for part in sections.sections(facts) if part.anchor == "parallel")

    assert len(parallel.details) == 7
    assert parallel.heads == ("of", "what", "at", "n", "median", "promised", "verdict")
    assert parallel.details[2] == ("stackyard", "cost of a stack", "50", "1", "0.90 s", "at most 1.3 s", "PASS")


def test_steps_of_a_start_stand_in_the_order_they_began(tmp_path: Path) -> None:
    facts = gather(made.lay_out(tmp_path, [made.run(0, waterfall=made.STEPS[::-1])]))
    (part,) = sections.sections(facts)

    assert [(line.label, line.cells) for line in part.groups[0].lines] == [
        ("render", ("0 ms", "12 ms", "12 ms")),
        ("start postgres", ("12 ms", "500 ms", "488 ms")),
        ("odd", ("250 ms", "750 ms", "500 ms")),
    ]
    tones = ("tone-1", "tone-4", "tone-own")
    assert [next(tone for tone in tones if tone in line.plot) for line in part.groups[0].lines] == [*tones]


def test_history_keeps_to_machines_like_the_newest_and_to_the_end_of_a_curve(tmp_path: Path) -> None:
    other = replace(made.MACHINE, cpus=64)
    runs = [
        made.run(0, made.startup(9.0), machine=other), made.run(1, made.everything()), made.run(2, made.everything()),
        made.run(3, made.startup(0.6)),
    ]  # fmt: skip
    lines = trends.history(gather(made.lay_out(tmp_path, runs)))

    assert {line.label: line.cells for line in lines} == {
        "start-up": ("0.75 s", "0.60 s", "-20 %", "3", "at most 1 s"),
        "50 at once: cost of a stack": ("0.90 s", "0.90 s", "+0 %", "2", "at most 1.3 s"),
        "hand-out": ("40.0 ms", "40.0 ms", "+0 %", "2", "at most 100 ms"),
    }


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ((0,), ("OPEN", "1 of 1 requirement met, 7 not measured yet")),
        ((0, 1), ("FAIL", "1 of 2 requirements met, 6 not measured yet")),
        ((0, 2), ("OPEN", "1 of 1 requirement met, 8 not measured yet")),
        ((), ("OPEN", "no requirement was measured yet")),
    ],
)
def test_the_verdict_counts_what_is_met_missed_and_not_measured(
    kept: tuple[int, ...], expected: tuple[str, str]
) -> None:
    rows = [made.requirements()[number] for number in kept]

    assert page.verdict(Facts(runs=(made.run(0, rows),))) == expected


def test_own_targets_are_counted_apart_from_the_requirements() -> None:
    def counted(own: float) -> tuple[str, str] | None:
        return page.held(Facts(runs=(made.run(0, [*made.startup(own), *made.requirements()]),)))

    assert [counted(0.5), counted(1.5)] == [("PASS", "1 of 1 own target met"), ("FAIL", "0 of 1 own target met")]
    assert page.held(Facts(runs=(made.run(0, made.requirements()),))) is None


def test_a_figure_measured_once_has_no_history_yet(tmp_path: Path) -> None:
    outline = of(made.lay_out(tmp_path, [made.run(0, made.startup(0.5))]))

    assert "No promised figure was measured twice" in outline.text
    assert "trend" not in str(outline.attributes)


def test_an_environments_row_has_figures_and_verdicts(tmp_path: Path) -> None:
    (run,) = gather(made.lay_out(tmp_path)).environments

    assert page.environment(run)[1] == [("1.25 s", "ok"), ("-", ""), ("7.00 s", "OVER")]


def test_what_is_not_known_of_a_machine_is_said() -> None:
    facts = dict(page.machine(replace(made.MACHINE, cpu=None, engine=None)))

    assert (facts["processor"], facts["Docker Engine"], facts["memory"]) == ("2 processors", "unknown", "23,842 MiB")


def test_the_summary_holds_the_figures_but_not_the_samples(tmp_path: Path) -> None:
    content = json.loads(summary.json(gather(made.lay_out(tmp_path, [made.run(0, made.everything())]))))

    assert content["verdict"] == "FAIL"
    assert {row["row"]: row["verdict"] for row in content["requirements"] if row["verdict"]} == {
        "start-up": "PASS", "ports": "FAIL",
    }  # fmt: skip
    assert content["figures"][0] | {"n": 5, "figure": 0.75, "target": 1.0} == content["figures"][0]
    assert "samples" not in content["figures"][0]
    assert content["verify"] == {
        "when": "2026-09-21T14:13:20+00:00", "checks": 3, "waived": 0, "errors": 1, "warnings": 0, "infos": 1,
    }  # fmt: skip
    assert [run["name"] for run in content["environments"]] == ["test"]


def test_junit_has_a_case_for_each_requirement(tmp_path: Path) -> None:
    facts = gather(made.lay_out(tmp_path, [made.run(0, made.everything())]))
    suite = ET.fromstring(summary.junit(facts))[0]  # noqa: S314 - made here

    assert [suite.get(name) for name in ("tests", "failures", "skipped", "timestamp")] == [
        "9", "1", "7", "2026-11-10T12:30:59+00:00",
    ]  # fmt: skip
    told = {case.get("name"): (case[0].tag, case[0].get("message")) for case in suite}
    assert told["start-up of a stack"] == ("system-out", None)
    assert told["no port conflict"] == ("failure", "3 measured, at most 0 promised")
    assert told["pool hits"] == ("skipped", "the pool was off")
    assert told["the largest Alpine image"] == ("skipped", "not measured yet")


def test_the_markdown_tables_hold_together(tmp_path: Path) -> None:
    runs = [made.run(0, made.everything()), made.run(1, made.everything())]
    text = summary.markdown(gather(made.lay_out(tmp_path, runs)))

    assert "| FAIL | no port conflict | 3 | at most 0 |" in text
    assert "| PASS | start-up | 0.75 s | at most 1 s |" in text
    assert "| docker compose up --wait | 5.00 s | 5.00 to 5.00 s | 6.67x as long | - |  |" in text
    assert "clean-up |\n" not in text.partition("## Last runs")[0]
    assert "| test | passed | 9.50 s | 1.25 s | - | 7.00 s (OVER) | nothing |" in text
    check_tables(text)


def check_tables(text: str) -> None:
    """Fail where a row of a Markdown table has not as many cells as its head, or stands without a head."""
    blocks = [block.splitlines() for block in text.split("\n\n") if "\n|---" in block]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert sum(line.startswith("|") for block in blocks for line in block) == len(rows)
    for block in blocks:
        bars = {line.replace(r"\|", "").count("|") for line in block if line.startswith("|")}
        assert len(bars) == 1, block


def test_hostile_names_stay_text_in_every_file(tmp_path: Path) -> None:
    html, markdown, plain, junit = (path.read_text("utf-8") for path in write(made.hostile(tmp_path)))
    outline = Outline(html)

    assert outline.open == []
    assert not {"script", "img", "i"} & set(outline.tags)
    assert not [name for name, _ in outline.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in outline.text
    assert "{{ 7*7 }}" in outline.text
    assert json.loads(plain)["requirements"][-1]["subject"].startswith("<script>")
    suite = ET.fromstring(junit)[0]  # noqa: S314 - made here
    assert (suite[-1].get("name") or "").startswith("<script>")
    assert "<script" not in markdown.replace(r"\<", "")
    assert not [line for line in markdown.splitlines() if line.startswith("# heading")]
    check_tables(markdown.replace("\\\\", ""))


def test_a_unit_follows_its_figure() -> None:
    assert [wording.quantity(2, unit) for unit in ("s", "x", "%", "")] == ["2.00 s", "2.00x", "2 %", "2"]
    assert wording.quantity(None, "s") == "-"


def test_a_change_has_a_sign_and_none_without_a_start() -> None:
    assert [wording.change(1.0, after) for after in (1.5, 0.5, 1.0, 0.999)] == ["+50 %", "-50 %", "+0 %", "+0 %"]
    assert wording.change(0.0, 1.0) == "-"
    assert [wording.ratio(3.0, 1.5), wording.ratio(None, 1.0), wording.ratio(1.0, 0.0)] == ["2.00x", "-", "-"]


def test_a_promise_says_its_direction() -> None:
    assert wording.promise(made.result("pool", "hits", 99.0, unit="%", better="more", target=95.0)) == "at least 95 %"


def measured(*rows: Result, **given: Any) -> Facts:
    return Facts(runs=(made.run(0, rows, **given),))


def test_a_partial_run_takes_the_other_requirements_from_earlier_ones() -> None:
    earlier = made.run(0, [
        made.result("requirements", name, 0.0, unit=known.unit, what=known.what, target=known.most, judged="worst")
        for name, known in REQUIREMENTS.items()
    ])  # fmt: skip
    later = made.run(1, [made.result("requirements", "limits", 2.0, unit="", what="bare", target=0.0)])

    both = Facts(runs=(earlier, later))
    rows = targets.requirements(both)

    assert page.verdict(both) == ("FAIL", "7 of 8 requirements met")
    assert [row.label for row in targets.missed(rows)] == ["bare"]
    assert targets.sources(rows) == [sections.source(earlier), sections.source(later)]


def test_an_earlier_runs_figure_counts_where_the_newest_could_not_measure() -> None:
    one = made.run(0, [made.result("requirements", "alpine-image", 1.0, unit="bytes", target=2.0)])
    two = made.run(1, [made.result("requirements", "alpine-image", unit="bytes", target=2.0, reason="not built")])

    found = {row.row: run for row, run in Facts(runs=(one, two)).requirements()}

    assert found["alpine-image"] == one
    assert found["memory"] is None


def test_the_first_screen_says_how_fast_how_many_and_what_is_left() -> None:
    crowd: dict[str, Any] = {"subject": "stacks at once", "at": 50}
    facts = measured(
        *made.startup(0.5),
        made.result("startup", "testcontainers-compose", 0.4, subject="testcontainers", what="start-up"),
        made.result("parallel", "wall-up-3", 1.0, at=3), made.result("parallel", "wall-up-50", 28.0, **crowd),
        made.result("parallel", "failed-50", 2.0, unit="", **crowd),
        made.result("requirements", "left", 0.0, unit="", target=0.0),
        made.result("services", "stack-memory", 53 << 20, unit="bytes"),
    )  # fmt: skip

    assert [(tile.figure, tile.label, tile.note, tile.good) for tile in overview.tiles(facts)] == [
        ("0.50 s", "until a stack is ready", "1.2 times as long as testcontainers", False),
        ("50 at once", "all ready after 28.0 s", "2 stacks failed", False),
        ("nothing", "left behind", "containers, networks, volumes, ports, leases", True),
        ("53.0 MiB", "memory of a stack", "all services together, when ready", True),
    ]
    assert overview.tiles(Facts()) == []


@pytest.mark.parametrize(
    ("typed", "note", "good"),
    [
        (1.0, "1.6 times as fast as docker compose up --wait", True),
        (2.0, "1.2 times as long as docker compose up --wait", False),
    ],
)
def test_the_first_screen_says_how_long_a_typed_command_takes(typed: float, note: str, good: bool) -> None:
    facts = measured(*typed_commands(typed))

    assert [(tile.figure, tile.label, tile.note, tile.anchor, tile.good) for tile in overview.tiles(facts)] == [
        (f"{typed:.2f} s", "invoke env.up, the whole command", note, "commands", good)
    ]
    assert overview.tiles(measured(*typed_commands(typed)[:1])) == []


def test_the_commands_that_start_other_people_s_projects_have_its_colour_too() -> None:
    rows = [("shop-up", "stackyard up, shop"), ("shop-compose-up", "docker compose up -d --wait, shop")]
    results = [made.result("projects", row, 1.0, subject=subject, what="start") for row, subject in rows]

    (part,) = sections.sections(measured(*results))

    assert [line.own for line in part.groups[0].lines] == [True, False]


def test_ratios_of_commands_stand_beside_their_times_and_are_not_drawn_again() -> None:
    ratios = [
        made.result("commands", f"ratio-{row}", 0.5, unit="x", subject=row, what="as a share of it")
        for row in ("env-up", "up")
    ]

    (part,) = sections.sections(measured(*typed_commands(1.0), *ratios))

    assert [group.title for group in part.groups] == ["start"]
    assert len(part.details) == 4


def typed_commands(seconds: float) -> list[Result]:
    return [
        made.result("commands", "env-up", seconds, subject="invoke env.up", what="start"),
        made.result("commands", "compose-up", 1.6, subject="docker compose up --wait", what="start"),
    ]


def test_the_commands_of_stackyard_have_its_colour_and_the_others_do_not() -> None:
    (part,) = sections.sections(measured(*typed_commands(1.0)))

    own, other = part.groups[0].lines
    assert part.groups[0].columns == ("median", "compared with docker compose up --wait")
    assert (own.own, own.cells[1], other.own, other.cells[1]) == (True, "0.62x as long", False, "")
    assert "peer" in str(other.plot)
    assert "peer" not in str(own.plot)


@pytest.mark.parametrize(
    ("own", "peer", "text"),
    [
        (0.5, 1.4, "2.8 times as fast as"),
        (1.0, 1.02, "as fast as"),
        (1.02, 1.0, "as fast as"),
        (3.0, 2.0, "1.5 times as long as"),
    ],
)
def test_a_comparison_says_which_of_the_two_is_faster(own: float, peer: float, text: str) -> None:
    assert overview.compared(own, peer) == text


@pytest.mark.parametrize(
    ("figure", "target", "text"),
    [
        (1.2, 30.0, "25 times below"), (20.0, 49.0, "2.5 times below"), (0.9, 1.0, "10% below"), (1.0, 1.0, "0% below"),
        (1.001, 1.0, "less than 1% above"), (1.5, 1.0, "50% above"), (4.2, 1.0, "4.2 times the limit"),
        (0.0, 1.0, ""), (1.0, 0.0, ""),
    ],
)  # fmt: skip
def test_a_margin_says_how_far_a_figure_is_from_its_limit(figure: float, target: float, text: str) -> None:
    assert wording.margin(made.result("startup", "x", figure, target=target)) == text


def test_what_fell_short_is_linked_from_the_top_with_the_digits_that_show_it(tmp_path: Path) -> None:
    html = page.html(gather(made.lay_out(tmp_path, [made.run(0, made.startup(1.0003))])))

    assert '<a href="#target-1">start-up</a>: 1.0003 s, promised at most 1 s (less than 1% above)' in html
    assert 'id="target-1"' in html
    assert html.count("./noxw -s bench -- startup") == 1


def test_a_promise_has_a_bar_on_a_scale_of_its_own() -> None:
    short, missed, nothing = targets.targets(measured(
        made.result("startup", "stackyard", 0.5, target=1.0), made.result("cleanup", "stackyard", 2.0, target=1.0),
        made.result("parallel", "failed", 0.0, unit="", target=0.0),
    ))  # fmt: skip

    assert ['width="40%"' in str(short.plot), "tone-bad" in str(missed.plot), nothing.plot] == [True, True, None]


def test_one_crowd_alone_is_drawn_beside_what_is_promised_and_named_once() -> None:
    crowd: dict[str, Any] = {"subject": "stacks at once", "at": 3}
    (part,) = sections.sections(measured(
        made.result("parallel", "wall-up-3", 15.0, what="ready", target=45.0, **crowd),
        made.result("parallel", "wall-down-3", 3.0, what="gone", target=15.0, **crowd),
        made.result("parallel", "wait-3", 1.12e-05, what="wait", **crowd),
    ))  # fmt: skip

    assert [(line.label, line.cells) for line in part.groups[0].lines] == [
        ("ready", ("15.0 s", "45 s", "33%")), ("gone", ("3.00 s", "15 s", "20%")),
    ]  # fmt: skip
    assert part.lead.endswith("Here there were 3.")
    assert part.heads == ("what", "n", "median", "promised", "verdict")
    assert part.details[2] == ("wait", "1", "11.2 µs", "-", "")


def test_a_figure_compares_with_its_neighbours_in_one_unit() -> None:
    rows = [
        made.result("services", f"cpu-{who}", took, subject=who, what="CPU")
        for who, took in (("a", 0.25), ("b", 0.066))
    ]
    (part,) = sections.sections(measured(*rows))

    assert [line.cells for line in part.groups[0].lines] == [("0.25 s",), ("0.066 s",)]


def test_a_waterfall_has_a_legend_for_every_colour(tmp_path: Path) -> None:
    outline = of(made.lay_out(tmp_path, [made.run(0, waterfall=made.STEPS)]))

    assert {f"key key-{tone}" for tone in range(1, 6)} <= {
        value for name, value in outline.attributes if name == "class"
    }
    assert "ready: the service starts, until its probe passes" in outline.text


def test_the_trends_share_one_scale() -> None:
    def run(number: int, own: float, removal: float) -> Run:
        return made.run(number, [made.result("startup", "stackyard", own, target=1.0),
                                 made.result("cleanup", "stackyard", removal, target=2.0)])  # fmt: skip

    one, other = trends.history(Facts(runs=(run(0, 0.5, 1.0), run(1, 0.5, 1.0))))

    assert one.plot.partition("<line")[2] == other.plot.partition("<line")[2]
    assert one.cells != other.cells
