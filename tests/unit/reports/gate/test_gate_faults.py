"""A table of faults, each with the verdict and the exit code that a user gets for it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from planted_runs import ENGINE, HEADER, WORKLOAD, assisted, case, changed, plain

from reports.__main__ import main
from reports.gate.calibration import Noise
from reports.gate.judging import gate
from reports.gate.thresholds import GateRules
from reports.record.matching import versions_key
from reports.record.run import CaseResult, Completion, Run
from reports.record.writer import RunWriter, case_line

FP32 = {**ENGINE, "dtype": "fp32"}
ASSISTED = {"strategy": "assisted", "assist_toks": 3, "do_sample": False, "cache": "dynamic"}
PLAIN = case("p/t=none,fp32/plain", [plain(0, 1.0), plain(1, 1.0)], engine=FP32)
DRAFTED = case("p/t=none,d=none,fp32/assisted,k=3", [assisted(0, 0.5), assisted(1, 0.5)], engine=FP32, point=ASSISTED)
HALF = changed(DRAFTED, id="p/t=none,d=none,bf16/assisted,k=3", engine=ENGINE)
SAMPLED = changed(
    DRAFTED, id="p/t=none,d=none,fp32/assisted,k=3,sampled", point={**ASSISTED, "do_sample": True, "temperature": 1.0}
)
HUMANEVAL = case("p/t=none,fp32/plain/humaneval", [], kind="humaneval", engine=FP32)
OTHER_GPU = {"hardware": {"gpu": "Another GPU"}, "versions": {"torch": "2.13.0"}}
OTHER_TORCH = {"hardware": {"cpu": "A processor", "cpu_cores": 2}, "versions": {"torch": "2.14.0"}}


@dataclass(frozen=True)
class Planted:
    """A run file to plant. texts: completions by number of the problem, empty if not here. raw: its text instead."""

    cases: tuple[CaseResult, ...] = (PLAIN, DRAFTED)
    header: dict[str, Any] = field(default_factory=dict)
    ended: bool = True
    solved: tuple[bool, ...] = ()
    texts: dict[int, str] = field(default_factory=dict)
    raw: str | None = None

    def write(self, path: Path) -> None:
        if self.raw is not None:
            path.write_text(self.raw)
            return
        writer = RunWriter(path)
        writer.run({**HEADER, **self.header})
        for number, passed in enumerate(self.solved):
            text = self.texts.get(number, "")
            verdict = "passed" if passed else "failed"
            one = Completion(HUMANEVAL.id, f"HumanEval/{number}", 0, text, 5 + len(text), 0.1, verdict)
            writer.completion(one)
            writer.verdict(one)
        for each in self.cases:
            writer.case(each)
        if self.ended:
            writer.end({})
        writer.close()


BASE = Planted()


def heads(*cases: CaseResult, **rest: Any) -> Planted:
    return Planted(cases, **rest)


def ended_as(status: str, reason: str = "out of order") -> CaseResult:
    return replace(DRAFTED, status=status, reason=reason, samples=())


def with_sample(**changes: Any) -> CaseResult:
    """The drafted case with its second prompt changed."""
    return replace(DRAFTED, samples=(DRAFTED.samples[0], replace(DRAFTED.samples[1], **changes)))


def again(**changes: Any) -> CaseResult:
    """Plain decoding measured again, its second prompt changed."""
    return replace(PLAIN, again=True, samples=(PLAIN.samples[0], replace(PLAIN.samples[1], **changes)))


def broken_file(metrics: dict[str, Any] | None = None, *, again: bool = False, **changes: Any) -> Planted:
    """A file from elsewhere with one prompt, since this project writes neither NaN nor infinity.

    again: the broken measurement is the second one, after a good one.
    """
    header = json.dumps({"kind": "run", "schema": 1, **HEADER})
    sample = {"prompt": 0, "seconds": 0.5, "new_tokens": 10, "target_forwards": 4, "output_sha256": "h", **changes}
    line = {"kind": "case", "id": DRAFTED.id, "status": "ok", "engine": FP32, "point": ASSISTED, "workload": WORKLOAD}
    lines = [json.dumps({**line, "samples": [sample], "metrics": metrics or {}, "again": again})]
    if again:
        lines.insert(0, json.dumps(case_line(DRAFTED)))
    return Planted(raw="\n".join([header, *lines, '{"kind":"end"}']) + "\n")


FEWER = with_sample(drafted=8, rejected=1, steps=((3, 3), (3, 2), (2, 1), (0, 0)))
OTHER_TOKEN = with_sample(output_sha256="other", output_tokens=(0, 1, 2, 3, 99, 5, 6, 7, 8, 9))
NEAR_TIE = replace(
    HALF,
    samples=OTHER_TOKEN.samples,
    facts={"losslessness": {"verdict": "near_ties", "near_ties": 2}},
)
WRONG = replace(NEAR_TIE, facts={"losslessness": {"verdict": "wrong", "first": {"prompt": 1, "position": 4}}})
DROPPED = replace(DRAFTED, status="dropped", reason="cannot be the best", dropped_round=1)
SYNTHETIC = {**HEADER["study"], "pairs": [{"name": "p", "source": "synthetic"}]}
UNREAD = {name: value for name, value in WORKLOAD.items() if name != "prompts_sha256"}
OTHER_PROMPTS = {**WORKLOAD, "prompts_sha256": "another"}

TABLE = {
    # fault: (base, head, options, exit code, what is said)
    "nothing changed": (BASE, BASE, [], 0, "INCONCLUSIVE"),
    "nothing changed, strict": (BASE, BASE, ["--strict"], 1, "INCONCLUSIVE"),
    "case missing": (BASE, heads(PLAIN), [], 1, "FAULT: missing: p/t=none,d=none,fp32/assisted,k=3"),
    "case missing, allowed": (BASE, heads(PLAIN), ["--allow-missing", "*assisted*"], 0, "allowed: missing"),
    "allowed by a pattern that fits nothing": (BASE, BASE, ["--allow-missing", "x*"], 0, "'x*' fits no missing case"),
    "case renamed": (
        BASE,
        heads(PLAIN, changed(DRAFTED, id="p/new")),
        [],
        1,
        "renamed: " + DRAFTED.id + ": is now p/new",
    ),
    "case failed": (BASE, heads(PLAIN, ended_as("failed")), [], 1, "FAULT: failed"),
    "case out of memory": (BASE, heads(PLAIN, ended_as("oom")), [], 1, "FAULT: oom"),
    "case crashed": (BASE, heads(PLAIN, ended_as("crashed", "signal 11")), [], 1, "FAULT: crashed"),
    "case dropped from the race": (BASE, heads(PLAIN, DROPPED), [], 1, "FAULT: dropped"),
    "case dropped from the race in both": (heads(PLAIN, DROPPED), heads(PLAIN, DROPPED), [], 0, "dropped in both: "),
    "case failed before its prompts were read, then measured": (
        BASE,
        heads(PLAIN, changed(ended_as("failed"), workload=UNREAD), DRAFTED),
        [],
        0,
        "INCONCLUSIVE",
    ),
    "case measured, then failed before its prompts were read": (
        BASE,
        heads(PLAIN, DRAFTED, changed(ended_as("failed"), workload=UNREAD)),
        [],
        1,
        "FAULT: failed",
    ),
    "case timed out": (BASE, heads(PLAIN, ended_as("timeout")), [], 1, "FAULT: timeout"),
    "case skipped": (BASE, heads(PLAIN, ended_as("skipped")), [], 1, "FAULT: skipped"),
    "case skipped in both": (
        heads(PLAIN, ended_as("skipped")),
        heads(PLAIN, ended_as("skipped")),
        [],
        0,
        "skipped in both",
    ),
    "new case failed": (heads(PLAIN), heads(PLAIN, ended_as("failed")), [], 1, "FAULT: failed"),
    "new case measured": (heads(PLAIN), BASE, [], 0, "new, without a baseline"),
    "seconds are not a number": (heads(DRAFTED), broken_file(seconds=float("nan")), [], 2, "seconds is nan"),
    "zero samples": (BASE, heads(PLAIN, replace(DRAFTED, samples=())), [], 1, "zero samples"),
    "zero seconds": (BASE, heads(PLAIN, with_sample(seconds=0.0)), [], 2, "samples[1].seconds is 0.0"),
    "seconds are infinite": (BASE, broken_file(seconds=float("inf"), prompt=1), [], 2, "seconds is inf"),
    "a metric is not a number": (
        heads(DRAFTED),
        broken_file(metrics={"power_mean_watts": float("nan")}),
        [],
        2,
        "power_mean_watts is nan",
    ),
    "measured now, skipped in the base": (heads(PLAIN, ended_as("skipped")), BASE, [], 0, "measured now, skipped"),
    "prompts missing": (BASE, heads(PLAIN, replace(DRAFTED, samples=DRAFTED.samples[:1])), [], 1, "1 of 2 prompts"),
    "a repeated baseline puts out another token": (
        BASE,
        heads(PLAIN, DRAFTED, again(output_sha256="other")),
        [],
        1,
        "measured again: prompt 1; the tokens were not kept",
    ),
    "a repeated baseline puts out another token in bf16, another machine": (
        heads(changed(PLAIN, engine=ENGINE)),
        heads(
            changed(PLAIN, engine=ENGINE),
            changed(again(output_sha256="other"), engine=ENGINE),
            header={"environment": OTHER_GPU},
        ),
        [],
        0,
        "of which 1 differ: bf16 on other hardware or versions",
    ),
    "a repeated baseline failed": (
        BASE,
        heads(PLAIN, DRAFTED, replace(PLAIN, again=True, status="failed", reason="out of order", samples=())),
        [],
        1,
        "FAULT: failed: p/t=none,fp32/plain: measured again in head.jsonl: out of order",
    ),
    "a repeated baseline lacks a prompt": (
        BASE,
        heads(PLAIN, DRAFTED, replace(again(), samples=PLAIN.samples[:1])),
        [],
        1,
        "measured again in head.jsonl: 1 of 2 prompts",
    ),
    "a repeated baseline lacks a prompt, allowed": (
        BASE,
        heads(PLAIN, DRAFTED, replace(again(), samples=PLAIN.samples[:1])),
        ["--allow-missing", "*/plain"],
        0,
        "allowed: unmeasured",
    ),
    "a repeated baseline is the same": (BASE, heads(PLAIN, DRAFTED, again()), [], 0, "INCONCLUSIVE"),
    "seconds of a repeated baseline are not a number": (
        heads(DRAFTED),
        broken_file(again=True, seconds=float("nan")),
        [],
        2,
        "seconds is nan",
    ),
    "no case at all": (BASE, heads(), [], 1, "nothing measured"),
    "everything missing is allowed": (BASE, heads(), ["--allow-missing", "*"], 1, "nothing measured"),
    "baseline of a case failed": (heads(PLAIN, ended_as("failed")), BASE, [], 1, "FAULT: no baseline"),
    "head stopped early": (BASE, Planted(ended=False), [], 2, "no end line"),
    "base stopped early": (Planted(ended=False), BASE, [], 2, "no end line"),
    "other hardware": (BASE, Planted(header={"environment": OTHER_GPU}), [], 0, "timings were not gated"),
    "other hardware, strict": (BASE, Planted(header={"environment": OTHER_GPU}), ["--strict"], 1, "other hardware"),
    "other versions": (BASE, Planted(header={"environment": OTHER_TORCH}), [], 0, "torch 2.13.0 -> 2.14.0"),
    "other prompts": (BASE, heads(changed(PLAIN, workload=OTHER_PROMPTS)), [], 2, "prompts_sha256"),
    "other seed": (
        heads(changed(PLAIN, workload={**WORKLOAD, "seed": 0})),
        heads(changed(PLAIN, workload={**WORKLOAD, "seed": 1})),
        [],
        2,
        "seed 0 != 1",
    ),
    "seconds are null": (heads(DRAFTED), broken_file(seconds=None), [], 2, "seconds is None"),
    "new tokens are null": (heads(DRAFTED), broken_file(new_tokens=None), [], 2, "new_tokens is None"),
    "a metric is null": (heads(DRAFTED), broken_file(metrics={"alpha": None}), [], 2, "alpha is None"),
    "newer schema": (BASE, Planted(raw='{"kind":"run","schema":99}\n'), [], 2, "schema 99 is newer"),
    "damaged file": (BASE, Planted(raw="{broken\n"), [], 2, "not JSON"),
    "empty file": (BASE, Planted(raw=""), [], 2, "no line of kind 'run'"),
    "fewer tokens drafted, another machine": (
        BASE,
        heads(PLAIN, FEWER, header={"environment": OTHER_GPU}),
        [],
        1,
        "prompt 1, step 2: accepted 1 of 3 -> accepted 1 of 2",
    ),
    "another token, another machine": (
        BASE,
        heads(PLAIN, OTHER_TOKEN, header={"environment": OTHER_GPU}),
        [],
        1,
        "prompt 1, token 4: 4 -> 99",
    ),
    "another token of a synthetic pair in bf16, another machine": (
        Planted((HALF,), header={"study": SYNTHETIC}),
        Planted((replace(HALF, samples=OTHER_TOKEN.samples),), header={"study": SYNTHETIC, "environment": OTHER_GPU}),
        [],
        1,
        "prompt 1, token 4: 4 -> 99",
    ),
    "near tie in bf16, another machine": (
        heads(PLAIN, HALF),
        heads(PLAIN, NEAR_TIE, header={"environment": OTHER_GPU}),
        [],
        0,
        "of which 1 differ: bf16 on other hardware or versions",
    ),
    "near tie in bf16, same machine": (heads(PLAIN, HALF), heads(PLAIN, NEAR_TIE), [], 1, "output_sha256"),
    "wrong output in bf16, another machine": (
        heads(PLAIN, HALF),
        heads(PLAIN, WRONG, header={"environment": OTHER_GPU}),
        [],
        1,
        "prompt 1, token 4 is not plain decoding's",
    ),
    "wrong output already in the base": (
        heads(PLAIN, WRONG),
        heads(PLAIN, WRONG, header={"environment": OTHER_GPU}),
        [],
        0,
        "PASS: the counts hold",
    ),
    "sampled differently, another machine": (
        heads(PLAIN, SAMPLED),
        heads(PLAIN, replace(SAMPLED, samples=FEWER.samples), header={"environment": OTHER_GPU}),
        [],
        0,
        "sampled tokens differ",
    ),
    "sampled differently, same machine": (
        heads(PLAIN, SAMPLED),
        heads(PLAIN, replace(SAMPLED, samples=FEWER.samples)),
        [],
        1,
        "drafted",
    ),
    "a problem no longer solved": (
        heads(HUMANEVAL, solved=(True, True, False)),
        heads(HUMANEVAL, solved=(True, False, True)),
        [],
        1,
        "no longer solved: HumanEval/1; newly solved: HumanEval/2",
    ),
    "more problems solved": (
        heads(HUMANEVAL, solved=(True, True, False)),
        heads(HUMANEVAL, solved=(True, True, True)),
        [],
        0,
        "newly solved: HumanEval/2",
    ),
    "a completion that fails as before is another one": (
        heads(HUMANEVAL, solved=(True, False)),
        heads(HUMANEVAL, solved=(True, False), texts={1: "return 1"}),
        [],
        1,
        "changed output: HumanEval/1",
    ),
    "another completion in bf16, another machine": (
        heads(changed(HUMANEVAL, engine=ENGINE), solved=(True, False)),
        heads(
            changed(HUMANEVAL, engine=ENGINE),
            solved=(True, False),
            texts={1: "return 1"},
            header={"environment": OTHER_GPU},
        ),
        [],
        0,
        "of which 2 differ: bf16 on other hardware",
    ),
    "an unsolved problem is no longer attempted": (
        heads(HUMANEVAL, solved=(True, False)),
        heads(HUMANEVAL, solved=(True,)),
        [],
        1,
        "FAULT: missing: p/t=none,fp32/plain/humaneval: HumanEval/1 not attempted in head.jsonl",
    ),
    "more parameters of a case that solves problems": (
        heads(replace(HUMANEVAL, facts={"weight_bytes": {"target": 100}}), solved=(True,)),
        heads(replace(HUMANEVAL, facts={"weight_bytes": {"target": 104}}), solved=(True,)),
        [],
        1,
        "weight_bytes.target",
    ),
    "no problem answered": (heads(HUMANEVAL, solved=(True,)), heads(HUMANEVAL), [], 1, "0 of 0 completions"),
    "more cache": (
        heads(PLAIN, replace(DRAFTED, facts={"cache_bytes": 100})),
        heads(PLAIN, replace(DRAFTED, facts={"cache_bytes": 101}), header={"environment": OTHER_GPU}),
        [],
        1,
        "cache_bytes",
    ),
    "less cache": (
        heads(PLAIN, replace(DRAFTED, facts={"cache_bytes": 100})),
        heads(PLAIN, replace(DRAFTED, facts={"cache_bytes": 99})),
        [],
        1,
        "changed by -1 bytes",
    ),
    "fewer parameters": (
        heads(replace(PLAIN, facts={"weight_bytes": {"target": 100}})),
        heads(replace(PLAIN, facts={"weight_bytes": {"target": 96}})),
        [],
        1,
        "changed by -4 bytes",
    ),
    "another draft": (
        heads(PLAIN, replace(DRAFTED, facts={"weight_bytes": {"target": 100, "draft": 10}})),
        heads(PLAIN, replace(DRAFTED, facts={"weight_bytes": {"target": 100, "draft": 12}})),
        [],
        1,
        "weight_bytes.draft",
    ),
    "another draft, or none, beside a case that does not draft": (
        heads(replace(PLAIN, facts={"weight_bytes": {"target": 100, "draft": 10}})),
        heads(replace(PLAIN, facts={"weight_bytes": {"target": 100}})),
        [],
        0,
        "INCONCLUSIVE",
    ),
    "fewer forwards": (BASE, heads(PLAIN, with_sample(draft_forwards=8)), [], 0, "1 improved"),
    "fewer forwards and another output": (
        BASE,
        heads(PLAIN, with_sample(draft_forwards=8, output_sha256="other")),
        [],
        1,
        "REGRESSED (1 regressed",
    ),
    "the cache is no longer known": (
        heads(PLAIN, replace(DRAFTED, facts={"cache_bytes": 100})),
        heads(PLAIN, replace(DRAFTED, notes=("could not be examined: RuntimeError: no cache",))),
        [],
        1,
        "FAULT: not examined: p/t=none,d=none,fp32/assisted,k=3: cache_bytes known in the base, not in head.jsonl "
        "(could not be examined: RuntimeError: no cache)",
    ),
    "the draft's parameters are no longer known, allowed": (
        heads(PLAIN, replace(DRAFTED, facts={"weight_bytes": {"target": 100, "draft": 10}})),
        heads(PLAIN, replace(DRAFTED, facts={"weight_bytes": {"target": 100}})),
        ["--allow-missing", "*assisted*"],
        0,
        "allowed: not examined: p/t=none,d=none,fp32/assisted,k=3: weight_bytes.draft",
    ),
    "losslessness is no longer known": (
        BASE,
        heads(PLAIN, replace(DRAFTED, facts={})),
        [],
        1,
        "losslessness known in the base, not in head.jsonl",
    ),
    "a gated timing is no longer known": (
        BASE,
        heads(replace(PLAIN, samples=tuple(replace(one, ttft_seconds=None) for one in PLAIN.samples)), DRAFTED),
        ["--threshold", "ttft_seconds=0.05"],
        1,
        "FAULT: unmeasured: p/t=none,fp32/plain: ttft_seconds known in the base, not in head.jsonl",
    ),
    "a speedup is lost with its baseline, allowed": (
        BASE,
        heads(replace(PLAIN, status="failed", reason="out of order", samples=()), DRAFTED),
        ["--allow-missing", "*/plain"],
        0,
        "allowed: unmeasured: p/t=none,d=none,fp32/assisted,k=3: speedup known in the base",
    ),
    "more parameters in bf16, another machine": (
        heads(replace(HALF, facts={"weight_bytes": {"target": 100}})),
        heads(replace(HALF, facts={"weight_bytes": {"target": 104}}), header={"environment": OTHER_GPU}),
        [],
        1,
        "weight_bytes.target",
    ),
    "more parameters": (
        heads(replace(PLAIN, facts={"weight_bytes": {"target": 100}})),
        heads(replace(PLAIN, facts={"weight_bytes": {"target": 104}})),
        [],
        1,
        "weight_bytes.target",
    ),
    "unknown metric": (BASE, BASE, ["--threshold", "accept_rate=0.1"], 2, "exact metrics have no threshold"),
    "threshold is no number": (BASE, BASE, ["--threshold", "speedup=much"], 2, "METRIC=REL"),
    "no calibration there": (BASE, BASE, ["--calibration", "absent.json"], 2, "absent.json: no such file"),
    "one run as a rolling base": (BASE, BASE, ["--rolling", "3"], 2, "--rolling 3"),
    "head confirmed with itself": (BASE, BASE, ["--confirm-with", "head.jsonl"], 2, "given twice"),
}


@pytest.mark.parametrize("fault", TABLE)
def test_a_fault_has_its_verdict_and_exit_code(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    base, head, options, code, said = TABLE[fault]
    monkeypatch.chdir(tmp_path)
    base.write(tmp_path / "base.jsonl")
    head.write(tmp_path / "head.jsonl")
    assert main(["gate", "base.jsonl", "head.jsonl", *options]) == code
    output = capsys.readouterr()
    text = " ".join((output.err if code == 2 else output.out).replace("│", " ").split())
    assert said in text or said.replace(" ", "") in text.replace(" ", "")
    assert code != 2 or output.err.count("\n") == 1, "one line"


@pytest.mark.parametrize(
    ("again", "code", "said"),
    [
        (BASE, 0, "INCONCLUSIVE"),
        (heads(PLAIN, OTHER_TOKEN), 1, "prompt 1, token 4: 4 -> 99"),
        (heads(PLAIN), 1, "not in every run of head"),
        (heads(PLAIN, ended_as("failed")), 1, "FAULT: failed"),
    ],
)
def test_a_head_measured_again_is_judged_as_the_first_is(
    again: Planted, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    names = [str(tmp_path / name) for name in ("base.jsonl", "head.jsonl", "again.jsonl")]
    for planted, name in zip((BASE, BASE, again), names, strict=True):
        planted.write(Path(name))
    assert main(["gate", names[0], names[1], "--confirm-with", names[2]]) == code
    assert said in " ".join(capsys.readouterr().out.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["base.jsonl", "absent.jsonl"], "absent.jsonl: no such file"),
        (["auto", "head.jsonl"], "the state that you trust, not the one to be judged"),
        (["base.jsonl"], "1 runs given"),
        (["base.jsonl", "base.jsonl"], "given twice"),
        (["--base", "base.jsonl", "--head", "head.jsonl"], "interleaved blocks need"),
        (["base.jsonl", "head.jsonl", "--base", "base.jsonl"], "interleaved runs by these alone"),
        (["base.jsonl", "head.jsonl", "-o", "absent/verdict.txt"], "cannot be written"),
    ],
)
def test_unusable_input_is_refused_in_one_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    BASE.write(tmp_path / "base.jsonl")
    BASE.write(tmp_path / "head.jsonl")
    assert main(["gate", *arguments]) == 2
    output = capsys.readouterr().err
    assert said in output
    assert output.count("\n") == 1


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 0.0])
@pytest.mark.parametrize("repeated", [False, True])
def test_times_that_are_none_are_a_fault_and_judge_no_other_case(seconds: float, repeated: bool):
    """Runs that come from elsewhere than a file, which refuses such times when it is read."""
    broken = replace(again(seconds=seconds), again=repeated)
    cases = (PLAIN, DRAFTED, broken) if repeated else (broken, DRAFTED)
    base, head = (Run(Path(name), HEADER, each, True) for name, each in (("b", (PLAIN, DRAFTED)), ("h", cases)))
    noise = Noise("cpu-a-processor-2c", versions_key(base), "planted", 12, dict.fromkeys(GateRules().thresholds, 0.01))
    found = gate([base], [head], GateRules(), noise)
    assert (found.failures[0].case, found.failures[0].kind) == (PLAIN.id, "unmeasured")
    judged = {one.metric for one in found.judgements if one.case == DRAFTED.id and not one.exact}
    assert judged == ({"assisted_latency_tok", "speedup"} if repeated else {"assisted_latency_tok"})
