"""Noise floors from planted A/A pairs: values worked out by hand, files read back, unlike runs refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from planted_runs import HEADER, assisted, case, plain

from reports.gate.calibration import (
    Noise,
    conservative_percentile,
    find_noise,
    measure_noise,
    noise_path,
    read_noise,
    write_noise,
)
from reports.numbers.metrics import derive
from reports.record.run import Run, RunFileError

Planted = Callable[..., Run]


@pytest.fixture
def aa(planted: Planted) -> Callable[..., list[Run]]:
    """`aa(1.0, 1.1, ...)`: one run each, in which plain decoding takes that many seconds and assisted half of it."""

    def plant(*seconds: float, ended: bool = True) -> list[Run]:
        runs = []
        for number, value in enumerate(seconds):
            first, second = [plain(0, value), plain(1, value)], [assisted(0, value / 2), assisted(1, value / 2)]
            cases = (
                case("p/plain", first, experiment="baseline", metrics=derive(first, speculative=False)),
                case(
                    "p/assisted",
                    second,
                    point={"strategy": "assisted", "do_sample": False, "cache": "dynamic"},
                    metrics=derive(second, speculative=True),
                ),
            )
            runs.append(planted(*cases, name=f"{number}.jsonl", ended=ended))
        return runs

    return plant


def test_the_floor_is_the_largest_ratio_of_a_few_pairs_whichever_side_is_slower(aa: Callable[..., list[Run]]) -> None:
    noise = measure_noise(aa(1.0, 1.02, 1.1, 1.0))
    assert noise.pairs == 2
    assert noise.floor["latency_tok"] == pytest.approx(math.log(1.1))
    assert noise.floor["assisted_latency_tok"] == pytest.approx(math.log(1.1))
    assert noise.floor["ttft_seconds"] == pytest.approx(math.log(1.1))
    assert noise.floor["speedup"] == pytest.approx(0.0, abs=1e-12), "the machine's speed cancels in it"
    assert noise.counts["latency_tok"] == 2, "one case in each of two pairs"
    assert noise.counts["ttft_seconds"] == 4, "two cases in each of two pairs"
    assert not {"new_tokens", "accept_rate", "drafted", "utilization_mean_percent"} & set(noise.floor)
    assert noise.runs == ("0.jsonl", "1.jsonl", "2.jsonl", "3.jsonl")


def test_a_repeated_baseline_counts_with_the_mean_of_its_times(planted: Planted) -> None:
    first = planted(
        case("p/plain", [plain(0, 1.0)]), case("p/plain", [plain(0, 3.0)], again=True), name="a.jsonl"
    )  # mean 2.0
    second = planted(case("p/plain", [plain(0, 2.4)]), case("p/plain", [plain(0, 2.0)], again=True), name="b.jsonl")
    assert measure_noise([first, second]).floor["latency_tok"] == pytest.approx(math.log(2.2 / 2.0))


def test_the_percentile_is_an_order_statistic_and_never_below_the_quantile() -> None:
    values = [float(number) for number in range(1, 101)]
    assert conservative_percentile(values, 0.95) == 96.0  # ceil(0.95 * 101) = 96
    assert conservative_percentile(values[:19], 0.95) == 19.0  # ceil(0.95 * 20) = 19
    assert conservative_percentile(values[:39], 0.95) == 38.0  # ceil(0.95 * 40) = 38
    assert conservative_percentile([3.0, 1.0], 0.95) == 3.0


def test_a_noise_file_is_read_back_and_never_lower_than_measured(aa: Callable[..., list[Run]], tmp_path: Path) -> None:
    noise = measure_noise(aa(1.0, 1.02))
    path = tmp_path / "noise" / "cpu.json"
    write_noise(noise, path)
    read = read_noise(path)
    assert read.hardware == "cpu-a-processor-2c"
    assert (read.study, read.pairs, read.counts, read.runs) == (noise.study, 1, noise.counts, noise.runs)
    assert 0 <= read.floor["latency_tok"] - noise.floor["latency_tok"] < 1e-6
    content = json.loads(path.read_text())
    assert content["schema"] == 1
    assert set(content) >= {"hardware", "versions", "study", "pairs", "floor", "runs", "rule"}


def test_every_study_of_a_machine_has_its_own_noise(planted: Planted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("reports.gate.calibration.FOLDER", tmp_path)
    assert noise_path("cpu-x", "smoke") == tmp_path / "smoke" / "cpu-x.json"
    assert noise_path("cpu-x", "../a b").relative_to(tmp_path).parts == ("-a-b", "cpu-x.json")
    one, other = planted(name="one.jsonl"), planted(name="two.jsonl", study={**HEADER["study"], "name": "another"})
    hardware = "cpu-a-processor-2c"
    write_noise(Noise(hardware, "v", "planted", 12, {"latency_tok": 0.01}), noise_path(hardware, "planted"))
    assert find_noise(one).floor == {"latency_tok": 0.01}
    assert find_noise(other) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a noise file"),
        ("[]", "not a noise file"),
        ('{"schema": 2}', "schema 2 is newer than 1; update decodebench"),
        ('{"schema": 1}', "not a noise file ('floor' is missing)"),
        (
            '{"schema": 1, "hardware": "h", "versions": "v", "study": "s", "pairs": 1, "floor": {"thr": NaN}}',
            "not a noise file (floor.thr is nan, not a finite number)",
        ),
    ],
)
def test_a_damaged_noise_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "noise.json"
    path.write_text(content)
    with pytest.raises(RunFileError) as refused:
        read_noise(path)
    assert str(refused.value).startswith(str(path))
    assert said in str(refused.value)


def test_runs_that_are_no_pairs_of_one_thing_are_refused(aa: Callable[..., list[Run]], planted: Planted) -> None:
    one, two, three = aa(1.0, 1.0, 1.0)
    with pytest.raises(RunFileError, match=r"^3 run files: A/A pairs need an even number"):
        measure_noise([one, two, three])
    with pytest.raises(RunFileError, match="0 run files"):
        measure_noise([])
    other = planted(name="other.jsonl", environment={**HEADER["environment"], "git_commit": "abc"})
    with pytest.raises(RunFileError, match=r"other\.jsonl: not measured like .*: git_commit absent != abc"):
        measure_noise([one, other])
    named = planted(name="named.jsonl", study={**HEADER["study"], "name": "embedded"})
    with pytest.raises(RunFileError, match=r"named\.jsonl: study is 'embedded', not 'planted'"):
        measure_noise([one, named])
    stopped = planted(name="stopped.jsonl", ended=False)
    with pytest.raises(RunFileError, match=r"stopped\.jsonl: no end line"):
        measure_noise([one, stopped])
    failed = [planted(case("p/plain", [], status="failed"), name=f"failed-{number}.jsonl") for number in (1, 2)]
    with pytest.raises(RunFileError, match="no case with timing metrics in both runs"):
        measure_noise(failed)
