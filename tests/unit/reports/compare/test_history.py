"""Trends over planted run files: change points that are there and that are not, and the page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_runs import HEADER, assisted, case, plain
from scipy import stats

from reports.__main__ import main
from reports.compare.trends import RATIO, History, KnownNoise, Source, Trend, change_places, history
from reports.page.charts.trend_chart import CHARACTER, GAP, PLOT, padded, ticks
from reports.page.history_page import page, verdict
from reports.record.run import CaseResult, Run, RunFileError

NOISE = [0.0, 0.01, -0.01, 0.005, -0.005, 0.0]
ROOT = Path(__file__).resolve().parents[4]
STEP = [0.10 * (1 + noise) for noise in NOISE] + [0.13 * (1 + noise) for noise in NOISE]


@pytest.fixture
def runs(planted: Callable[..., Run], tmp_path: Path) -> Callable[..., Path]:
    """`runs([0.1, 0.12])`: a folder of one run file per value, plain decoding at so many seconds per token."""

    def make(values: Sequence[float], hardware: str = "A processor", **more: Any) -> Path:
        for number, value in enumerate(values):
            environment = {
                "hardware": {"cpu": hardware, "cpu_cores": 2},
                "versions": {"torch": "1" if number < 6 else "2"},
                "git_commit": f"{number:x}" * 40,
            }
            planted(
                *_cases(value, **more),
                name=f"{hardware}-{len(values) - number:02d}.jsonl",  # names run against time
                environment=environment,
                started_at=f"2026-01-{number + 1:02d}T00:00:00+00:00",
            )
        return tmp_path

    return make


def _cases(value: float, **more: Any) -> list[CaseResult]:
    return [case("p/plain", [plain(0, 10 * value * 0.9), plain(1, 10 * value * 1.1)], **more)]


def only(found: History) -> Trend:
    (series,) = found.series
    return series


def test_a_step_is_found_where_it_is_with_its_levels_and_what_else_changed(runs: Callable[..., Path]) -> None:
    series = only(history(runs(STEP)))
    assert [point.value for point in series.points] == pytest.approx(STEP)
    (change,) = series.changes
    assert (change.at.number, change.at.started_at[:10]) == (7, "2026-01-07")
    before, after = np.log(STEP[:6]), np.log(STEP[6:])
    assert (change.before, change.after) == (pytest.approx(np.exp(before.mean())), pytest.approx(np.exp(after.mean())))
    places = 12 - 2 * 3 + 1
    assert change.p_value == pytest.approx(places * stats.ttest_ind(before, after, equal_var=False).pvalue)
    assert verdict(series, change) == "worse"
    assert {(each.key, each.base, each.head) for each in change.environment} >= {("torch", "1", "2")}


def test_noise_alone_is_no_change(runs: Callable[..., Path]) -> None:
    assert not history(runs([0.1 * (1 + noise) for noise in NOISE * 2])).changes


def test_fewer_than_six_runs_are_shown_and_not_judged(runs: Callable[..., Path]) -> None:
    series = only(history(runs([0.1, 0.1, 0.2, 0.2, 0.2])))
    assert len(series.points) == 5
    assert not series.changes


def test_one_bad_run_is_no_change_of_level(runs: Callable[..., Path]) -> None:
    values = [0.1 * (1 + noise) for noise in NOISE * 2]
    values[5] = 0.2
    assert not history(runs(values)).changes


def test_a_change_within_the_noise_of_the_machine_is_none_and_is_told(runs: Callable[..., Path]) -> None:
    folder = runs(STEP)
    asked = []

    def noise_of(floor: float) -> Callable[[Run], KnownNoise]:
        def known(run: Run) -> KnownNoise:
            asked.append(run.path.name)
            return KnownNoise({"latency_tok": math.log1p(floor)}, "noise.json")

        return known

    (change,) = history(folder, noise_of(0.25)).series[0].changes
    assert change.floor == pytest.approx(math.log(1.25))
    assert len(asked) == 12
    found = history(folder, noise_of(0.35))
    assert not found.changes and only(found).within_noise == 1
    text = page(found)
    assert "time per token 35.0% (noise.json); 1 changes of level no larger than that are not reported" in text
    assert "nobody measured the noise" in page(history(folder))


@pytest.mark.parametrize("commit", ["a" * 40, ""])
def test_a_time_that_changes_between_runs_of_the_same_code_is_the_machine_s(
    planted: Callable[..., Run], tmp_path: Path, commit: str
) -> None:
    environment = {"hardware": {"cpu": "A"}, "versions": {"torch": "1"}, "git_commit": commit}
    for number, value in enumerate(STEP):
        start = f"2026-01-{number + 1:02d}T00:00:00+00:00"
        planted(*_cases(value), name=f"{number}.jsonl", environment=environment, started_at=start)
    found = history(tmp_path)
    assert len(only(found).of_machine) == bool(commit), "without a commit nobody knows that the code was the same"
    assert len(found.changes) == (not commit)
    assert ("1 change of time between two runs of the same code" in page(found)) == bool(commit)


@pytest.mark.parametrize(("slower", "changed"), [("machine", {"latency_tok"}), ("drafting", {RATIO, "latency_tok"})])
def test_speedups_of_the_same_run_tell_the_code_from_the_machine(
    planted: Callable[..., Run], tmp_path: Path, slower: str, changed: set[str]
) -> None:
    for number in range(12):
        noise = 1 + NOISE[number % 6]
        plain_factor = noise * (1.3 if slower == "machine" and number >= 6 else 1.0)
        factor = noise * (1 + NOISE[(number + 2) % 6]) * (1.3 if number >= 6 else 1.0)
        cases = [
            case("p/plain", [plain(i, (1 + i / 10) * plain_factor) for i in range(3)], experiment="baseline"),
            case("p/a", [assisted(i, (1 + i / 10) * factor / 2) for i in range(3)], point={"strategy": "assisted"}),
        ]
        environment = {"hardware": {"cpu": "A"}, "versions": {"torch": "1"}, "git_commit": f"{number:x}" * 40}
        start = f"2026-01-{number + 1:02d}T00:00:00+00:00"
        planted(*cases, name=f"{number:02d}.jsonl", environment=environment, started_at=start)
    found = history(tmp_path)
    ratio = next(trend for trend in found.series if trend.metric == RATIO)
    assert [point.value for point in ratio.points[:6]] == pytest.approx([2.0] * 6, rel=0.05)
    assert ratio.points[0].interval is not None
    assert {trend.metric for trend, _ in found.changes if trend.case == "p/a"} == changed
    if slower == "drafting":
        (change,) = ratio.changes
        assert (change.at.number, verdict(ratio, change)) == (7, "worse")
        titles = re.findall(r'class="title">([^<]*)', page(found))
        assert titles[0] == "speedup over plain decoding of the same run"


@pytest.mark.parametrize(
    ("values", "domain"),
    [((0.4545, 0.4545), (0.4318, 0.4772)), ((1.0, 2.0), (0.88, 2.12)), ((0.0, 1.0), (0.0, 1.12))],
)
def test_an_axis_has_room_around_its_values(values: tuple[float, float], domain: tuple[float, float]) -> None:
    assert padded(*values) == pytest.approx(domain, abs=1e-4)
    assert padded(0.0, 0.0)[0] == 0.0 < padded(0.0, 0.0)[1]


def test_a_series_that_never_changes_lies_between_the_labels_of_its_axis(
    planted: Callable[..., Run], tmp_path: Path
) -> None:
    samples = [replace(assisted(0, 1.0), accepted=5, rejected=6)]
    for number in range(3):
        start = f"2026-01-0{number + 1}T00:00:00+00:00"
        planted(case("p/a", samples, point={"strategy": "assisted"}), name=f"{number}.jsonl", started_at=start)
    text = page(history(tmp_path))
    svg = next(part for part in re.findall(r"<svg.*?</svg>", text, re.DOTALL) if "accept rate" in part)
    labels = [float(label) for label in re.findall(r">(0(?:\.\d+)?)</text>", svg)]
    assert len(labels) > 1 and min(labels) < 5 / 11 < max(labels) and min(labels) > 0.4
    assert "2026-01-01" in svg and "2026-01-03" in svg


def test_dates_and_versions_stand_at_the_axis_and_none_over_another() -> None:
    sources = [
        Source(
            path=Path(f"{number}.jsonl"),
            hardware="h",
            number=number,
            started_at=f"2026-{1 + number // 28:02d}-{1 + number % 28:02d}T10:00:00",
            commit="",
            study="s",
            versions={"torch": "2.13.0", "transformers": "5.24.0" if number > 20 else "5.23.0"},
        )
        for number in range(1, 41)
    ]
    labelled = ticks(sources, changed=[30])
    assert labelled[0].lines == ("2026-01-02", "torch 2.13.0", "transformers 5.23.0")
    assert next(tick for tick in labelled if tick.number == 21).lines == ("2026-01-22", "transformers 5.24.0")
    assert labelled[-1].number == 40
    edges = [(PLOT * (tick.number - 1) / 39, CHARACTER * max(map(len, tick.lines)) / 2 + GAP) for tick in labelled]
    assert all(a + reach <= b - other for (a, reach), (b, other) in pairwise(edges))
    one_day = [replace(source, started_at=f"2026-01-01T{source.number % 24:02d}:30:00") for source in sources]
    assert ticks(one_day)[0].lines[0] == "01:30"
    assert ticks([replace(source, started_at="") for source in sources])[0].lines[0] == "run 1"


def test_committed_runs_of_equal_code_show_no_change_of_level(capsys: pytest.CaptureFixture[str]) -> None:
    """Twelve pairs of two versions of transformers on one machine, whose noise is committed as well."""
    assert main(["history", str(ROOT / "reports" / "published" / "transformers-5.24"), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [series["metric"] for series in found["series"] if series["changes"]] == []
    (noise,) = found["noise"]
    assert noise["file"] == "reports/baselines/noise/smoke/cpu-amd-epyc-2c-avx512.json"
    assert sum(series["within_noise"] + len(series["of_machine"]) for series in found["series"]) > 0


def test_under_noise_false_changes_stay_below_the_level_and_real_ones_are_found() -> None:
    """300 series of 12 runs each: 5% may be flagged by chance (at most 8% here: +3 standard errors); a step of five
    standard deviations must be found in nearly all, within one run of its place."""
    generator = np.random.default_rng(7)
    quiet = [change_places(generator.normal(size=12) * 0.02) for _ in range(300)]
    assert sum(any(p < 0.05 for _, p in found) for found in quiet) / 300 <= 0.08
    steps = [change_places(generator.normal(size=12) * 0.02 + np.repeat([0.0, 0.1], 6)) for _ in range(100)]
    assert sum(any(p < 0.05 and abs(place - 6) <= 1 for place, p in found) for found in steps) >= 95


def test_a_count_that_changes_for_good_is_a_change(planted: Callable[..., Run], tmp_path: Path) -> None:
    drafts: dict[str, Any] = {"point": {"strategy": "assisted"}}
    for number, rate in enumerate([0.5] * 4 + [0.4] * 4):
        planted(
            case(
                "p/a", [replace(assisted(0, 1.0), accepted=round(10 * rate), rejected=10 - round(10 * rate))], **drafts
            ),
            name=f"{number}.jsonl",
            started_at=f"2026-01-{number + 1:02d}T00:00:00+00:00",
        )
    series = next(one for one in history(tmp_path).series if one.metric == "accept_rate")
    (change,) = series.changes
    assert (change.at.number, change.before, change.after) == (5, pytest.approx(0.5), pytest.approx(0.4))
    assert verdict(series, change) == "worse"


def test_series_are_kept_apart_by_hardware_settings_and_prompts(runs: Callable[..., Path]) -> None:
    runs([0.1, 0.1])
    runs([0.2, 0.2], hardware="B processor")
    folder = runs([0.1, 0.1], hardware="C processor", workload={"prompts_sha256": "x"})
    found = history(folder)
    assert [(one.hardware, len(one.points)) for one in found.series] == [
        ("cpu-a-processor-2c", 2), ("cpu-b-processor-2c", 2), ("cpu-c-processor-2c", 2),
    ]  # fmt: skip
    assert len({one.identity for one in found.series}) == 2


def test_files_that_cannot_be_used_are_listed_and_copies_count_once(runs: Callable[..., Path]) -> None:
    folder = runs([0.1, 0.1])
    first = next(folder.glob("*.jsonl"))
    (folder / "deeper").mkdir()
    (folder / "deeper" / "copy.jsonl").write_bytes(first.read_bytes())
    (folder / "broken.jsonl").write_text("{}\n{\n")
    (folder / "future.jsonl").write_text('{"kind": "run", "schema": 99}\n')
    found = history(folder)
    assert len(found.sources) == 2
    reasons = {one.path.name: one.reason for one in found.unreadable}
    assert set(reasons) - {first.name} | {"copy.jsonl"} == {"copy.jsonl", "broken.jsonl", "future.jsonl"}
    assert "newer" in reasons["future.jsonl"]
    assert "future.jsonl" not in reasons["future.jsonl"]  # the list names the file already


def test_a_folder_without_a_usable_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="holds no usable run file"):
        history(tmp_path)
    (tmp_path / "x.jsonl").write_text("no\n")
    with pytest.raises(RunFileError, match="1 cannot be read, the first: line 1 is not JSON"):
        history(tmp_path)
    with pytest.raises(RunFileError, match="not a folder"):
        history(tmp_path / "nowhere")


class Links(HTMLParser):
    """Everything that a page would load, and the text alternatives of its charts."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.labels: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loaded += [values[name] or "" for name in ("src", "href", "xlink:href", "data") if name in values]
        if tag == "svg":
            assert values["role"] == "img"
            self.labels.append(values["aria-label"] or "")


def test_the_page_is_self_contained_and_says_in_words_what_its_charts_show(runs: Callable[..., Path]) -> None:
    folder = runs(STEP, notes=("<script>alert(1)</script>",))
    (folder / "<b>.jsonl").write_text("no\n")
    text = page(history(folder))
    links = Links()
    links.feed(text)
    assert links.loaded == ["data:,"]
    assert not re.search(r"url\(|@import|<script", text)
    (label,) = links.labels
    assert "time per token of p/plain over 12 runs: from 99 to 131 ms/token" in label
    assert "at run 7" in label
    assert "time (ms/token)" in text and "run, oldest first" in text  # the axes
    assert "&lt;b&gt;.jsonl" in text
    assert "torch: 1 to 2" in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_the_command_writes_the_page_and_json(
    runs: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs(STEP)
    monkeypatch.chdir(tmp_path)
    assert main(["history", str(folder)]) == 0
    assert "wrote history.html: 12 runs, 1 series, 1 changes of level" in capsys.readouterr().err
    assert (tmp_path / "history.html").read_text().startswith("<!DOCTYPE html>")
    assert main(["history", str(folder), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (series,) = found["series"]
    assert [point["value"] for point in series["points"]] == pytest.approx(STEP)
    assert series["changes"][0]["at"]["number"] == 7
    assert all(math.isfinite(point["low"]) for point in series["points"])
    assert main(["history", str(tmp_path / "none")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert HEADER["environment"]["hardware"]["cpu"] == "A processor"
