"""HumanEval as a case: when it runs, what it is called, what it journals, and that nothing is generated twice."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.humaneval.experiment import Attempt
from fixtures.study import options
from fixtures.study.study import StudyError
from reports.numbers import humaneval
from reports.record.reader import read_run
from reports.record.writer import RunWriter

ROOT = Path(__file__).resolve().parents[3]


def study_of(path, **given):
    return options.build_study({"study": str(path), **given})


def humaneval_cases(study):
    return [case for case in study.cases() if case.experiment == "humaneval"]


def test_runs_only_when_asked_for(tiny_study):
    assert humaneval_cases(study_of(tiny_study)) == []
    (case,) = humaneval_cases(study_of(tiny_study, humaneval="true"))
    assert case.id == "synthetic-tiny/t=none,fp32/plain,greedy,dynamic/humaneval,base"


@pytest.mark.parametrize(
    ("expression", "asked"),
    [
        ("humaneval", True),
        ("humaneval or lossless", True),
        ("not humaneval", False),
        ("speculative", False),
        ("", False),
    ],
)
def test_marker_expression_asks(pytestconfig, expression, asked):
    class Config:
        args = ("perf_tests",)

        def getoption(self, name, default=None):
            return expression

    assert options.asks_for_humaneval(Config()) is asked


def test_every_target_of_the_study_once_and_no_baseline_of_decoding(tiny_study):
    study = study_of(tiny_study, humaneval="true", dtype="bf16,fp32", target_quant="none,4bit", draft_quant="none,4bit")
    cases = humaneval_cases(study)
    assert [(case.engine.dtype, case.engine.target_quant) for case in cases] == [
        ("bf16", "none"),
        ("fp32", "none"),
        ("bf16", "4bit"),
        ("fp32", "4bit"),
    ]
    assert all(case.point.id == "plain,greedy,dynamic" for case in cases)


def test_the_id_tells_what_changes_the_result(tiny_study):
    study = study_of(
        tiny_study,
        humaneval="true",
        humaneval_limit="5",
        humaneval_samples="10",
        humaneval_k="1,10",
        humaneval_tokens="64",
    )
    (case,) = humaneval_cases(study)
    assert case.id.endswith("/plain,sampled,T=0.2,top_p=0.95,dynamic/humaneval,base,problems=5,samples=10,tokens=64")
    assert study.humaneval.k == (1, 10)
    (hot,) = humaneval_cases(study_of(tiny_study, humaneval="true", humaneval_samples="2", temperature="0.8"))
    assert hot.point.temperature == 0.8
    instruct = dataclasses.replace(study.pairs[0], prompt_form="instruct")
    (other,) = humaneval_cases(dataclasses.replace(study, pairs=(instruct,)))
    assert other.id != case.id


SWEEP = """
[humaneval]
limit = 7

[[sweep]]
experiment = "humaneval"
strategy = "assisted"
assist_toks = 3
confidence_threshold = 0.0
compile = [false, true]
"""


def test_a_sweep_of_the_study_brings_the_plain_case_it_is_compared_with(tiny_study, tmp_path):
    path = tmp_path / "check.toml"
    path.write_text(tiny_study.read_text() + SWEEP)
    study = study_of(path)
    assert [case.point.strategy for case in humaneval_cases(study)] == ["plain", "assisted"]
    assert all(case.workload.num_samples == 7 for case in humaneval_cases(study))
    refused = [one.reason for one in study.expansion()[1]]
    assert len(refused) == 1 and "compile" in refused[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"humaneval_k": "1,10"}, "--humaneval-k 10: needs at least as many samples"),
        ({"humaneval_limit": "165"}, "--humaneval-limit 165: HumanEval has 164 problems"),
        ({"humaneval_limit": "0"}, "--humaneval-limit 0: must be above 0"),
        ({"humaneval_samples": "many"}, "--humaneval-samples 'many': expected a whole number"),
        ({"humaneval_timeout": "-1"}, "--humaneval-timeout -1.0: must be above 0"),
        ({"humaneval_samples": "5", "do_sample": "false"}, "--humaneval-samples 5: greedy decoding gives the same"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(tiny_study, given, said):
    with pytest.raises(StudyError) as refused:
        study_of(tiny_study, humaneval="true", **given)
    assert said in str(refused.value)


def test_settings_without_any_humaneval_are_refused(tiny_study):
    with pytest.raises(StudyError, match="add -m humaneval"):
        study_of(tiny_study, humaneval_limit="5")


@pytest.fixture
def sampled(tiny_study):
    study = study_of(tiny_study, humaneval="true", humaneval_limit="3", humaneval_samples="2", humaneval_tokens="6")
    (case,) = humaneval_cases(study)
    return study, case


def journal(tmp_path):
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.run({})
    return writer


def solved(case, engine, study, writer, earlier=()):
    attempt = Attempt(case, engine, study)
    judged = list(attempt.solve(writer, earlier))
    assert judged == attempt.completions[len(attempt.completions) - len(judged) :] and judged
    return attempt


def test_an_interrupted_case_goes_on_without_generating_or_judging_twice(sampled, tiny_engine, tmp_path):
    study, case = sampled
    whole = solved(case, tiny_engine(), study, journal(tmp_path))
    assert (whole.new, len(whole.completions)) == (6, 6)
    assert whole.workload.prompt_form == "base" and whole.facts["verdicts"]
    assert whole.facts["batch_rows"] == 64 and whole.facts["largest_batch"] <= 6

    interrupted, cut = Attempt(case, tiny_engine(), study), journal(tmp_path / "cut")
    judged = interrupted.solve(cut)
    first_two = [next(judged), next(judged)]
    judged.close()
    assert first_two == interrupted.completions and interrupted.facts["host_rss_bytes"] > 0
    before = read_run(cut.path).completions
    assert len(before) == 6 and sum(bool(made.status) for made in before) == 2

    assert {made.rows for made in before} == {64}
    before = [dataclasses.replace(made, rows=4) for made in before]
    resumed = solved(case, tiny_engine(), study, cut, before[:5])
    assert {made.rows for made in resumed.completions} == {4}, "it goes on with as many rows as it began with"
    assert resumed.facts["batch_rows"] == 4
    assert resumed.new == 1, "only the completion that was not journalled"
    lines = cut.path.read_text().splitlines()
    assert sum('"kind":"completion"' in line for line in lines) == 7
    assert sum('"kind":"verdict"' in line for line in lines) == 2 + 4

    def outcome(attempt):
        return {(made.task_id, made.sample): (made.completion, made.status) for made in attempt.completions}

    assert outcome(resumed) == outcome(whole), "samples come out the same after an interruption"
    assert len({text for text, _ in outcome(whole).values()}) >= 1


def test_nothing_is_generated_before_the_first_completion_is_asked_for(sampled, tiny_engine, tmp_path):
    study, case = sampled
    writer, attempt = journal(tmp_path), Attempt(case, tiny_engine(), study)
    assert len(attempt.prompts) == 6 and all(attempt.prompts)
    judged = attempt.solve(writer)
    assert attempt.new == 0 and not read_run(writer.path).completions
    assert next(judged).status and attempt.new == 6, "a batch is generated whole"


def test_what_a_case_journals_gives_its_metrics(sampled, tiny_engine, tmp_path):
    study, case = sampled
    writer = journal(tmp_path)
    attempt = solved(case, tiny_engine(), study, writer)
    read = read_run(writer.path).completions
    assert humaneval.derive(read, (1, 2)) == humaneval.derive(attempt.completions, (1, 2))
    assert humaneval.derive(read, (1,))["generated_tokens"] == 36


@pytest.mark.embedded
def test_the_command_line_solves_real_problems_and_resumes(run_bench, run_reports, tmp_path):
    """HumanEval/53 (add) is among the first that the embedded model solves; here: it runs, judges, shows, resumes."""
    study = tmp_path / "two.toml"
    study.write_text('pair = "embedded"\n[[sweep]]\nexperiment = "baseline"\n')
    path = tmp_path / "run.jsonl"
    options = ("--study", study, "-m", "humaneval", "--humaneval-limit", "2", "--humaneval-tokens", "32")
    done = run_bench(*options, "--results", path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = read_run(path)
    (case,) = run.cases
    assert case.kind == "humaneval" and case.metrics["problems"] == 2
    assert case.workload.prompt_form == "instruct" and case.facts["isolation"] != "none"
    assert all(one.status for one in run.completions)
    assert "pass@1" in done.stdout
    assert "| pass@1 |" in run_reports("show", path, "--format", "markdown").stdout

    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"kind":"case"' not in line and '"kind":"end"' not in line))
    again = run_bench(*options, "--resume", path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert sum('"kind":"completion"' in line for line in path.read_text().splitlines()) == 2


NO_NAMESPACES = "; ".join(f"echo 0 > /proc/sys/user/max_{kind}_namespaces" for kind in ("user", "pid", "mnt", "net"))


def test_a_kernel_without_namespaces_refuses_the_run_unless_told_otherwise(tiny_study, tmp_path):
    """The run itself starts in a user namespace that forbids all further ones, as some containers do."""
    outer = ["unshare", "--user", "--map-root-user", "sh", "-c", f'{NO_NAMESPACES} && exec "$@"', "sh"]
    if subprocess.run([*outer, "true"], capture_output=True, check=False).returncode:
        pytest.skip("forbidding namespaces needs a kernel that allows one to begin with")

    def solve(name, *options):
        asked = ("-m", "humaneval", "--study", tiny_study, "--humaneval-limit", 1, "--humaneval-tokens", 8)
        command = [sys.executable, "-m", "pytest", "perf_tests", "-p", "no:cacheprovider", *asked, *options]
        path = tmp_path / name
        line = [*outer, *map(str, command), "--results", str(path)]
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False), path

    refused, path = solve("refused.jsonl")
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR, refused.stdout + refused.stderr
    assert "--allow-unsandboxed" in refused.stderr
    assert not path.exists(), "nothing was begun"
    allowed, path = solve("allowed.jsonl", "--allow-unsandboxed")
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr
    assert "WITHOUT A SANDBOX" in allowed.stdout
    (case,) = read_run(path).cases
    assert case.facts["isolation"] == "none"
