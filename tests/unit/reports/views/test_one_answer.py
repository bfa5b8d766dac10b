"""One run, one answer: the recommended case, its ratio and its interval are the same wherever they are shown."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_runs import ENGINE, HEADER, case, plain

from reports.advice.candidates import advise
from reports.numbers.reading import read_measured
from reports.page.case_table import case_rows
from reports.page.run_page import verdict
from reports.record.run import CaseResult, Run, RunFileError
from reports.views import advice_text, claims_text, exports
from reports.views.headline import headline, interval_text
from reports.views.pull_request import comment
from reports.views.tables import json_page, run_sheet

ROOT = Path(__file__).resolve().parents[4]
Answer = tuple[str | None, str]
"""The recommended case and its ratio as printed; empty where plain decoding, or nothing, is recommended."""

SETTINGS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("prompt_lookup,k=3", {"strategy": "prompt_lookup", "assist_toks": 3}, {}),
    ("prompt_lookup,k=9", {"strategy": "prompt_lookup", "assist_toks": 9}, {}),
    ("assisted,k=3", {"strategy": "assisted", "assist_toks": 3}, {"draft_quant": "none"}),
    ("assisted,k=5", {"strategy": "assisted", "assist_toks": 5}, {"draft_quant": "none"}),
    ("static", {"cache": "static"}, {}),
    ("4bit", {}, {"target_quant": "4bit"}),
)
VERDICTS: tuple[dict[str, Any], ...] = (
    {"verdict": "equal"},
    {"verdict": "near_ties", "compared": 6, "diverged": 2, "near_ties": 2},
    {"verdict": "wrong"},
    {"verdict": "not comparable", "diverged": 2, "compared": 6},
)


def generated(seed: int) -> Run:
    """Plain decoding in one or two dtypes and some settings around its speed, on 1 to 12 prompts of drifting times."""
    random = np.random.default_rng(seed)
    prompts = int(random.integers(1, 13))
    cases: list[CaseResult] = []
    for dtype in ("bf16", "fp32")[: 1 + int(random.random() < 0.25)]:
        common = random.lognormal(0, 0.2, prompts) * (1.0 if dtype == "bf16" else 1.7)
        cases.append(_case(f"p/t=none,{dtype}/plain,greedy,dynamic", common, random, {}, {"dtype": dtype}, {}))
        for name, point, engine in SETTINGS:
            if random.random() < 0.45:
                times = common / random.choice([0.8, 1.0, 1.02, 1.1, 1.5])
                facts = {"losslessness": VERDICTS[int(random.choice(4, p=[0.5, 0.3, 0.1, 0.1]))]}
                identity = f"p/t={engine.get('target_quant', 'none')},{dtype}/{name},greedy,dynamic"
                cases.append(_case(identity, times, random, point, {**engine, "dtype": dtype}, facts))
    return Run(Path(f"run-{seed}.jsonl"), HEADER, tuple(cases), complete=True)


def _case(
    name: str, times: Any, random: Any, point: dict[str, Any], engine: dict[str, Any], facts: dict[str, Any]
) -> CaseResult:
    noisy = times * random.lognormal(0, 0.08, len(times))
    point = {"strategy": "plain", "do_sample": False, "cache": "dynamic", **point}
    samples = [plain(number, float(seconds)) for number, seconds in enumerate(noisy)]
    return case(name, samples, point=point, engine={**ENGINE, **engine}, facts=facts)


def committed() -> list[str]:
    command = ["git", "ls-files", "reports/published/*.jsonl", "reports/baselines/*.jsonl"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def in_table(run: Run) -> Answer:
    sheet = run_sheet(run)
    keys = [column.key for column in sheet.columns]
    starred = [row for row in sheet.rows if row.mark]
    return _shown(str(starred[0].values[0]), starred[0].cells[keys.index("speedup")]) if starred else (None, "")


def in_json(run: Run) -> Answer:
    return _of_data(json.loads(json_page(run))["recommended"])


def on_page(run: Run) -> Answer:
    best = [row for row in case_rows(run) if row.best]
    headlined = verdict(headline(run), run)
    if not best:
        assert headlined.startswith("No verdict")
        return None, ""
    shown = _shown(best[0].id, best[0].cells[0].text)
    said = re.search(r"(\d+\.\d\d) times as fast as plain decoding, 95% interval (\d+\.\d\d) to (\d+\.\d\d)", headlined)
    assert (f"{said[1]} [{said[2]}, {said[3]}]" if said else "") == shown[1]
    return shown


def in_advice(run: Run) -> Answer:
    try:
        (found,) = advice_text.as_json(advise(run))
    except RunFileError:
        return None, ""
    ratio = found.get("speedup")
    return found["best"]["case"], _text(ratio["estimate"], ratio["low"], ratio["high"]) if ratio else ""


def in_claims(run: Run) -> Answer:
    column = claims_text.ClaimsOfRun(run, ())
    return _of_data(claims_text.as_json([column])[0]["recommended"])


def in_exports(run: Run) -> Answer:
    rows = list(csv.DictReader(io.StringIO(exports.as_csv(exports.case_rows(run)))))
    best = next((row for row in rows if row.get("recommended") == "True"), None)
    if best is None:
        return None, ""
    if not best.get("speedup"):
        return best["case"], ""
    return best["case"], _text(*(float(best[f"speedup{end}"]) for end in ("", "_low", "_high")))


def in_comment(run: Run) -> Answer:
    line = next((line for line in comment(run).splitlines() if "**\\***" in line), None)
    if line is None:
        return None, ""
    cells = [cell.strip().strip("*") for cell in line.split(" | ")]
    return _shown(re.findall(r"`([^`]+)`", line)[0], cells[3])


def _of_data(found: list[dict[str, Any]]) -> Answer:
    (one,) = found or [{"case": None, "ratio": None}]
    return one["case"], _text(one["ratio"], one["low"], one["high"]) if one["ratio"] else ""


def _shown(name: str, text: str) -> Answer:
    return name, "" if text == "baseline" else text


def _text(estimate: float, low: float, high: float) -> str:
    return f"{estimate:.2f} [{low:.2f}, {high:.2f}]"


VIEWS = (in_table, on_page, in_advice, in_claims, in_exports)
FURTHER = (in_json, in_comment)
"""Forms of the same table, which the committed runs are enough for."""


def answers(run: Run, views: Sequence[Callable[[Run], Answer]] = VIEWS) -> dict[str, Answer]:
    return {view.__name__: view(run) for view in views}


@pytest.mark.parametrize("file", committed())
def test_a_committed_run_has_one_answer(file: str) -> None:
    found = answers(read_measured(ROOT / file), (*VIEWS, *FURTHER))
    assert len(set(found.values())) == 1, found


def test_200_generated_runs_have_one_answer_each_and_it_lies_above_1() -> None:
    recommended, plain_decoding = 0, 0
    for seed in range(200):
        run = generated(seed)
        found = answers(run)
        assert len(set(found.values())) == 1, (seed, found)
        name, ratio = found["in_table"]
        assert name is not None
        recommended += bool(ratio)
        plain_decoding += "/plain,greedy,dynamic" in name
        if ratio:
            low = float(ratio.partition("[")[2].partition(",")[0])
            assert low >= 1.0 and "4bit" not in name, (seed, found)
        else:
            assert run.is_own_baseline(run.finished[name])
    assert recommended + plain_decoding == 200
    assert min(recommended, plain_decoding) > 20, "both kinds of answer are among them"


def test_the_committed_run_that_was_said_to_be_faster_by_1_08_stays_with_plain_decoding() -> None:
    run = read_measured(ROOT / "reports/published/transformers-5.24/base-1.jsonl")
    name, ratio = in_table(run)
    assert (name, ratio) == ("embedded/t=none,bf16/plain,greedy,dynamic", "")
    assert verdict(headline(run), run).startswith("Stay with plain decoding")
    (advice,) = advise(run)
    first = advice.decision.standings[0]
    assert interval_text(first.speedup.interval).startswith("1.08 [0.9") and not first.proven
