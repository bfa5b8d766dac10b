"""The page: what its verdict says of planted runs, what it lets no case name do, and how to measure a case again."""

import base64
import hashlib
import html
import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from planted_runs import ENGINE, assisted, case, plain

from reports.page.case_table import case_rows
from reports.page.reproduce import case_command, case_settings, run_command
from reports.page.run_page import page, section, verdict, write_page
from reports.record.published import read_any
from reports.record.run import RunFileError
from reports.views.headline import headline

PUBLISHED = Path(__file__).resolve().parents[4] / "reports" / "published"
BASE = "p/t=none,bf16/plain,greedy,dynamic"
FAST = "p/t=none,d=none,bf16/assisted,k=3,p=0,greedy,dynamic"
ASSISTED = {"strategy": "assisted", "assist_toks": 3, "do_sample": False, "cache": "dynamic"}
HOSTILE = '</script><img src=x onerror="alert(1)">`{{ 7 * 7 }}`'


def base(*seconds, **changes):
    seconds = seconds or (1.0, 1.0)
    return case(BASE, [plain(i, each) for i, each in enumerate(seconds)], experiment="baseline", **changes)


def fast(*seconds, name=FAST, **changes):
    samples = [assisted(i, each) for i, each in enumerate(seconds)]
    return case(name, samples, **{"point": ASSISTED, **changes})


class Elements(HTMLParser):
    """What a browser would find in the text: elements with their attributes, and the text of scripts."""

    def __init__(self, text):
        super().__init__()
        self.found, self.scripts, self._inside = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)

    def handle_endtag(self, tag):
        self._inside = ""

    def named(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_the_verdict_names_what_is_shown_to_be_faster(planted):
    run = planted(base(), fast(0.5, 0.5, facts={"losslessness": {"verdict": "equal"}}))

    found = headline(run)

    assert (found.decision, found.case.id, found.speedup.estimate) == ("deploy", FAST, pytest.approx(2.0))
    assert found.answers == "same output 2/2"
    assert verdict(found, run).startswith("Deploy assisted k=3 p=0: 2.00 times as fast as plain decoding")


def test_plain_decoding_stays_where_no_interval_lies_above_one(planted):
    run = planted(base(1.0, 1.0, 1.0), fast(0.4, 0.4, 2.0))

    found = headline(run)

    assert found.decision == "plain"
    assert found.faster_unproven.case.id == FAST, "2.8 s against 3 s is faster, but not shown to be"
    assert "Stay with plain decoding" in verdict(found, run)


def test_a_faster_setting_that_may_change_answers_is_not_deployed(planted):
    quantized = fast(0.1, 0.1, engine={**ENGINE, "target_quant": "4bit"})
    wrong = fast(0.1, 0.1, name=f"{FAST},wrong", facts={"losslessness": {"verdict": "wrong"}})

    assert headline(planted(base(), quantized, wrong)).decision == "plain"


def test_where_the_fastest_is_not_shown_lossless_the_fastest_that_is_stands_beside_it(planted):
    rounded = fast(0.4, 0.4, name=f"{FAST},rounded", facts={"losslessness": {"verdict": "near_ties", "near_ties": 1}})
    rounded = replace(rounded, samples=(rounded.samples[0], replace(rounded.samples[1], output_sha256="other")))
    equal = fast(0.5, 0.5, point={**ASSISTED, "assist_toks": 4})

    run = planted(base(), rounded, equal)
    found = headline(run)

    assert (found.case.id, found.lossless_instead.case.id) == (rounded.id, equal.id)
    facts = {fact.name: (fact.value, fact.detail, fact.tone) for fact in section(run, "run1").facts}
    told = "same output 1/2; 1 of the 1 others examined: rounding"
    assert facts["Answers"] == ("same model, same output 1/2", told, "warn"), "lossless is said of all outputs only"


def test_the_headline_comes_with_the_lines_that_set_it(planted):
    run = planted(base(), fast(0.5, 0.5), study={"pairs": [{"name": "p", "target": "big", "draft": "small"}]})

    text = section(run, "run1").lines

    assert "assistant_model=assistant" in text
    assert html.escape(text) in page([run]).replace("&#39;", "&#x27;").replace("&#34;", "&quot;")


def test_a_greedy_setting_whose_output_nobody_compared_is_not_deployed(planted):
    unknown = fast(0.4, 0.4, name=f"{FAST},unknown", facts={"losslessness": {}})

    assert headline(planted(base(), unknown)).decision == "plain"
    assert headline(planted(base(), unknown, fast(0.5, 0.5))).case.id == FAST


def test_a_run_without_a_baseline_has_no_verdict_and_says_so(planted):
    run = planted(fast(0.5, 0.5))

    assert headline(run).decision == "unmeasured"
    assert "no plain decoding" in verdict(headline(run), run)


def test_only_settings_that_could_have_been_deployed_count_as_rivals(planted):
    slower = fast(0.8, 0.8, name=f"{FAST},slower")
    quantized = fast(0.1, 0.1, name=f"{FAST},4bit", engine={**ENGINE, "target_quant": "4bit"})
    wrong = fast(0.1, 0.1, name=f"{FAST},wrong", facts={"losslessness": {"verdict": "wrong"}})
    other_dtype = fast(0.9, 0.9, name=f"{FAST},fp32", engine={**ENGINE, "dtype": "fp32"})
    sampled = fast(0.9, 0.9, name=f"{FAST},sampled", point={**ASSISTED, "do_sample": True})
    run = planted(base(), fast(0.5, 0.5), slower, quantized, wrong, other_dtype, sampled, base(again=True))

    assert (headline(run).decision, headline(run).rivals) == ("deploy", 2), "it and the slower one"
    assert any("fastest of 2 settings" in caveat for caveat in section(run, "run1").caveats)


def test_an_unsteady_machine_is_told_on_top(planted):
    run = planted(base(), fast(0.5, 0.5), base(1.5, 1.5, again=True))

    found = section(run, "run1")

    machine = next(fact for fact in found.facts if fact.name == "Machine")
    assert (machine.value, machine.tone) == ("not steady", "bad")
    assert any(note.startswith("UNSTABLE") for note in found.loud)


def test_rows_are_sorted_fastest_first_and_tell_why_a_case_has_no_figures(planted):
    lost = case("p/t=none,bf16/prompt_lookup,k=3,greedy,dynamic", [], status="oom", reason="out of memory")
    run = planted(lost, base(), fast(0.5, 0.5))

    rows = case_rows(run)

    assert [row.id for row in rows] == [FAST, BASE, lost.id]
    assert [cell.text for cell in rows[0].cells[:4]] == ["2.00 [2.00, 2.00]", "20.0", "2/2", ""]
    assert rows[2].outcome == "oom: out of memory"
    assert {cell.text for cell in rows[2].cells} == {""}
    assert [row.best for row in rows] == [True, False, False]


def test_hostile_names_and_reasons_stay_text(planted):
    run = planted(
        base(),
        fast(0.5, 0.5, name=f"p/t=none,d=none,bf16/{HOSTILE},greedy,dynamic"),
        case(HOSTILE, [], status="failed", reason=HOSTILE, notes=(HOSTILE,)),
        study={"name": HOSTILE, "workload": {"prompts": HOSTILE}},
        environment={"hardware": {"cpu": HOSTILE}, "versions": {"torch": HOSTILE}},
        argv=["perf_tests", HOSTILE],
    )

    text = page([run])
    elements = Elements(text)

    assert elements.named("img") == []
    assert len(elements.named("script")) == 1
    assert not [attributes for _, attributes in elements.found if "onerror" in attributes]
    assert "{{ 7 * 7 }}" in text
    assert html.escape(HOSTILE, quote=False) in text.replace("&#34;", '"'), "it is shown, as text"


def test_the_file_asks_for_nothing_and_only_its_own_script_may_run(planted):
    text = page([planted(base(), fast(0.5, 0.5))])
    elements = Elements(text)

    (policy,) = [meta["content"] for meta in elements.named("meta") if "http-equiv" in meta]
    digest = base64.b64encode(hashlib.sha256("".join(elements.scripts).encode()).digest()).decode()
    assert policy.startswith("default-src 'none';")
    assert f"script-src 'sha256-{digest}'" in policy
    assert not [attributes for _, attributes in elements.found if "src" in attributes]
    assert {attributes["href"][0] for _, attributes in elements.found if "href" in attributes} == {"#"}
    assert "@import" not in text
    assert "url(" not in text


def test_every_link_leads_to_something(planted):
    elements = Elements(page([planted(base()), planted(base(), name="other.jsonl")]))
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]

    assert len(ids) == len(set(ids)), "two runs on one page share no id"
    assert {link["href"][1:] for link in elements.named("a")} <= set(ids)


def test_a_run_of_a_baseline_alone_has_a_page_without_empty_charts(planted):
    text = page([planted(base(), environment={}, study={"name": "bare"})])

    charts = re.findall(r'<svg class="chart".*?</svg>', text, re.DOTALL)
    assert len(charts) == 1, "its own time per token"
    assert all("<path" in chart for chart in charts)
    elements = Elements(text)
    assert len(elements.named("figure")) == 1
    told = [attributes["id"] for _, attributes in elements.found if attributes.get("id", "").startswith("run1-")]
    absent = {f"run1-{key}" for key in ("speedup", "pareto", "acceptance", "telemetry", "length", "humaneval")}
    assert absent <= set(told), "each of the others in a sentence"
    assert "Plain decoding alone was measured" in text


def test_published_runs_and_the_published_table_stand_side_by_side(tmp_path):
    path = tmp_path / "new folder" / "report.html"

    write_page([read_any(PUBLISHED / name) for name in ("compile.jsonl", "seed_study_l4.csv")], path)

    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 3_000_000
    assert "2 runs side by side" in text
    assert "published elsewhere, not measured here" in text
    assert "1.48 (published)" in text or "(published)" in text


def test_a_page_that_cannot_be_written_is_one_line(planted, tmp_path):
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(RunFileError, match="cannot be written"):
        write_page([planted(base())], tmp_path / "file" / "report.html")


def test_the_page_never_replaces_a_run(run_reports, planted):
    run = planted(base())

    done = run_reports("page", run.path, "-o", run.path)

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "names one of the run files" in done.stderr


def test_a_case_is_measured_again_by_its_test_and_its_baseline_under_the_run_s_options(planted):
    run = planted(
        base(),
        fast(0.5, 0.5),
        argv=["perf_tests", "--study", "embedded", "-m", "speculative", "-q", "--num-samples", "20"],
    )

    command = shlex.split(case_command(run.finished[FAST], run))

    assert command == [
        "pytest",
        f"perf_tests/test_baseline.py::test_baseline[{BASE}]",
        f"perf_tests/test_speculative_decoding.py::test_speculative_decoding[{FAST}]",
        "--study",
        "embedded",
        "--num-samples",
        "20",
    ]
    assert run_command(run) == "pytest perf_tests --study embedded -m speculative -q --num-samples 20"
    assert case_command(run.finished[FAST], planted(fast(0.5, 0.5), name="other.jsonl")) == ""
    assert json.loads(case_settings(run.finished[FAST]))["point"].items() >= ASSISTED.items()
