"""pass@k, pairing and the table, on completions whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from reports.numbers import humaneval
from reports.numbers.exactness import scope
from reports.numbers.reading import read_measured
from reports.record.reader import read_run
from reports.record.run import CaseResult, Completion
from reports.record.settings import DecodingPoint, EngineKey, WorkloadDone
from reports.record.writer import RunWriter
from reports.views.humaneval_table import humaneval_sheet
from reports.views.sheet import markdown
from reports.views.tables import print_run


def completions(case, passed, *, samples=1, tokens=10, seconds=0.5):
    """One problem per entry of `passed`: how many of its samples pass."""
    return [
        Completion(case, f"HumanEval/{task}", i, "", tokens, seconds, "passed" if i < count else "failed", "")
        for task, count in enumerate(passed)
        for i in range(samples)
    ]


def test_metrics_of_one_case():
    found = humaneval.derive(completions("a", [2, 1, 0], samples=2), (1, 2, 10))
    assert found["pass_at_1"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert found["pass_at_2"] == pytest.approx(2 / 3)
    assert "pass_at_10" not in found, "fewer samples than k"
    assert (found["problems"], found["completions"], found["solved"]) == (3, 6, 2)
    assert found["generation_thr"] == pytest.approx(20.0)
    assert found["seconds_per_problem"] == pytest.approx(1.0)
    assert humaneval.derive([], (1,)) == {}


def test_completions_without_a_verdict_do_not_count():
    judged = completions("a", [1, 0])
    unjudged = [replace(made, status="") for made in completions("a", [0, 0, 1], tokens=99)[2:]]
    assert humaneval.derive([*judged, *unjudged], (1,)) == humaneval.derive(judged, (1,))
    assert humaneval.derive(unjudged, (1,)) == {}
    assert {name for name in humaneval.derive(judged, (1,)) if not humaneval.is_derived(name)} == set()


@pytest.mark.parametrize("facts", [{"k": [1]}, {}], ids=["k told", "k by what is stored"])
def test_what_a_file_stores_of_a_case_gives_way_to_what_its_completions_give(tmp_path, facts):
    writer = RunWriter(tmp_path / "run.jsonl")
    writer.run({})
    for made in completions("a", [1, 0, 1, 0]):
        writer.completion(made)
        writer.verdict(made)
    stored = {"pass_at_1": 0.9, "solved": 9, "perplexity": 3.0}
    for name, metrics in (("a", stored), ("published", {"pass_at_1": 0.72})):
        writer.case(CaseResult(name, "ok", kind="humaneval", metrics=metrics, facts=facts))
    writer.end({})
    writer.close()
    solved, published = read_measured(writer.path).cases
    assert solved.metrics["pass_at_1"] == 0.5 and solved.metrics["solved"] == 2
    assert solved.metrics["perplexity"] == 3.0, "completions do not hold it"
    assert published.metrics == {"pass_at_1": 0.72}


def test_mcnemar_on_known_counts():
    base = [1] * 10 + [1] * 9 + [0] * 1 + [0] * 5
    head = [1] * 10 + [0] * 9 + [1] * 1 + [0] * 5
    paired = humaneval.compare(completions("b", base), completions("h", head))
    assert (paired.problems, paired.only_base, paired.only_head) == (25, 9, 1)
    assert paired.p_value == pytest.approx(2 * (1 + 10) / 2**10)
    assert paired.difference.estimate == pytest.approx(-8 / 25)
    assert paired.difference.low < -8 / 25 < paired.difference.high < 0
    assert paired.statement() == "solves fewer"
    assert paired.statement(0.06) == humaneval.NO_EVIDENCE


def test_few_discordant_problems_are_no_evidence():
    paired = humaneval.compare(completions("b", [1, 0, 0, 1]), completions("h", [1, 1, 0, 0]))
    assert paired.p_value == 1.0
    assert paired.statement() == humaneval.NO_EVIDENCE
    assert not paired.difference.excludes(0.0)


def test_several_samples_are_compared_by_their_shares():
    base = completions("b", [4, 3, 2, 4, 3, 2, 4, 3], samples=4)
    head = completions("h", [2, 1, 1, 2, 1, 1, 2, 1], samples=4)
    paired = humaneval.compare(base, head)
    assert paired.difference.estimate == pytest.approx(-14 / 32)
    assert paired.difference.high < 0
    shares = [-2 / 4, -2 / 4, -1 / 4, -2 / 4, -2 / 4, -1 / 4, -2 / 4, -2 / 4]
    assert paired.p_value == pytest.approx(stats.ttest_1samp(shares, 0.0).pvalue)
    assert paired.statement() == "solves fewer"


def test_only_problems_in_common_are_paired_and_none_is_an_error():
    assert humaneval.compare(completions("b", [1, 1, 1]), completions("h", [1])).problems == 1
    with pytest.raises(ValueError, match="no problem in common"):
        humaneval.compare(completions("b", [1]), [])


@pytest.fixture
def run(tmp_path):
    """Unquantized, 8bit (same), 4bit (12 fewer), assisted on 4bit (same as 4bit), and one that failed."""
    solved = [1] * 20 + [0] * 20
    worse = [1] * 8 + [0] * 32
    return write(
        tmp_path,
        [("none", "plain", solved), ("8bit", "plain", solved), ("4bit", "plain", worse), ("4bit", "assisted", worse)],
    )


def test_cases_that_decoded_other_numbers_of_rows_say_so(tmp_path):
    solved = [1] * 20 + [0] * 20
    cases = [("none", "plain", solved), ("8bit", "plain", solved)]
    run = write(tmp_path, cases, rows={"none": 64, "8bit": 32})
    rows = {row.cells[0]: row.cells for row in humaneval_sheet(run).rows}
    told = rows["pair/t=8bit,bf16/plain,greedy,dynamic/humaneval,base"][-2]
    assert told == "no evidence of a difference from t=none,bf16 (64 and 32 rows at a time)"
    assert "rows at a time" not in markdown(humaneval_sheet(write(tmp_path / "same", cases, {"none": 64, "8bit": 64})))
    none, quantized = [case for case in run.finished.values() if case.status == "ok"]
    assert humaneval.different_batches(none, none) is None
    assert scope(none, none, run, same_machine=True).gated
    where = scope(none, quantized, run, same_machine=True)
    assert (where.gated, where.reason) == (
        False,
        "completions decoded 64 and 32 at a time: near ties can fall the other way",
    )


def write(folder, cases, rows=None):
    writer = RunWriter(folder / "run.jsonl")
    writer.run({"study": {"name": "test"}})
    for quant, strategy, passed in cases:
        name = f"pair/t={quant},bf16/{strategy},greedy,dynamic/humaneval,base"
        found = completions(name, passed)
        for one in found:
            writer.completion(one)
            writer.verdict(one)
        writer.case(
            CaseResult(
                name,
                "ok",
                "humaneval",
                engine=EngineKey("pair", target_quant=quant),
                point=DecodingPoint(strategy),
                metrics=humaneval.derive(found, (1,)),
                facts={"batch_rows": rows[quant]} if rows else {},
            )
        )
    writer.case(CaseResult("pair/t=none,fp32/plain/humaneval,base", "oom", "humaneval", reason="too big"))
    writer.end({})
    writer.close()
    return read_run(writer.path)


def test_each_case_is_compared_with_its_base(run):
    found = {name.split("/")[1] + name.split("/")[2][:5]: pair for name, pair in humaneval.comparisons(run).items()}
    assert set(found) == {"t=8bit,bf16plain", "t=4bit,bf16plain", "t=4bit,bf16assis"}
    assert found["t=4bit,bf16plain"][0].base.startswith("pair/t=none")
    assert found["t=4bit,bf16assis"][0].base.startswith("pair/t=4bit,bf16/plain")
    paired, adjusted = found["t=4bit,bf16plain"]
    assert paired.p_value == pytest.approx(2 / 2**12)
    assert adjusted == pytest.approx(3 * paired.p_value), "Holm: the smallest of three"


def test_the_table_says_what_the_pairing_shows(run):
    rows = {row.cells[0]: row for row in humaneval_sheet(run).rows}
    names = [column.heading for column in humaneval_sheet(run).columns]
    compared = {name: dict(zip(names, row.cells, strict=True))["compared"] for name, row in rows.items()}
    assert list(compared.values()) == [
        "",
        "no evidence of a difference from t=none,bf16",
        "solves fewer than t=none,bf16",
        "no evidence of a difference from plain",
        "",
    ]
    text = markdown(humaneval_sheet(run))
    assert "| 50.0% | 20/40 | 20.0 | 0.50 | 10 |" in text
    assert "oom: too big" in text
    assert "-30.0 [" in text


def test_the_runs_table_includes_it(run, capsys):
    print_run(run)
    shown = capsys.readouterr().out
    assert "pass@1" in shown and "solves fewer" in shown
    assert "ms/token" not in shown, "there are no decoding cases to show"


def test_other_prompts_are_not_compared(tmp_path):
    run = write(tmp_path, [("none", "plain", [1]), ("8bit", "plain", [1])])
    cases = [
        case if "none" in case.id else replace(case, workload=WorkloadDone(prompt_form="instruct"))
        for case in run.cases
    ]
    other = replace(run, cases=tuple(cases))
    assert len(humaneval.comparisons(run)) == 1
    assert humaneval.comparisons(other) == {}


@pytest.mark.parametrize("seed", range(40))
def test_the_p_of_several_samples_never_contradicts_its_interval(seed):
    random = np.random.default_rng(seed)
    shares = random.random((2, 12))

    def drawn(side, row):
        passed = [(task, sample, random.random() < share) for task, share in enumerate(row) for sample in range(4)]
        return [Completion(side, f"t{t}", j, "", 1, 1.0, "passed" if solved else "failed") for t, j, solved in passed]

    base, head = drawn("b", shares[0]), drawn("h", shares[1])
    found = humaneval.compare(base, head)
    assert (found.p_value < 0.05) == (found.difference.low > 0 or found.difference.high < 0)
