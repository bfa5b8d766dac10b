"""The same verdict in every format, read back by what reads that format."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from reports.gate.verdicts import Fault, Gate, Judgement
from reports.numbers.statistics import Interval
from reports.views.gate_formats import github_annotations, junit, sarif
from reports.views.gate_text import headline, markdown, print_gate, remarks, sight

SLOWER = Judgement(
    "p/slow",
    "latency_tok",
    "regressed",
    False,
    "10 ms/token",
    "11 ms/token",
    Interval(1.1, 1.08, 1.12, 0.98, "t"),
    0.03,
    0.072,
    0.00001,
)
NOISY = Judgement(
    "p/noisy",
    "speedup",
    "inconclusive",
    False,
    "1.2x",
    "1.2x",
    Interval(1.0, 0.9, 1.1, 0.98, "t"),
    0.03,
    0.2,
    0.5,
)
CHANGED = Judgement("p/a|b", "drafted", "regressed", True, "9", "8", detail="prompt 1, step 2: <3> -> 2, 50%")
HELD = Judgement("p/same", "accepted", "pass", True, "6", "6")
ELSEWHERE = Judgement("p/bf16", "output_sha256", "not gated", True, "2 outputs", "equal", detail="bf16 elsewhere")
GONE = Fault("p/gone", "missing", "not in head.jsonl")
ALLOWED = Fault("p/old", "missing", "not in head.jsonl", allowed=True)
FOUND = Gate(
    "base.jsonl",
    "head.jsonl",
    (SLOWER, NOISY, CHANGED, HELD, ELSEWHERE),
    (GONE, ALLOWED),
    ("latency_tok: threshold 3% raised",),
)


def test_junit_has_a_test_case_per_metric_with_its_figures():
    root = ElementTree.fromstring(junit(FOUND))
    suite = root.find("testsuite")
    assert suite is not None
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped", "errors")} == {
        "tests": "7",
        "failures": "3",
        "skipped": "3",
        "errors": "0",
    }
    slow = suite.find("testcase[@classname='p/slow']")
    assert slow is not None and slow.get("name") == "latency_tok"
    figures = {each.get("name"): each.get("value") for each in slow.iter("property")}
    assert figures["ratio"] == "1.1" and figures["noise_floor"] == "0.072" and figures["verdict"] == "regressed"
    assert "+10.0% [+8.0%, +12.0%]" in slow.find("failure").get("message")
    assert {each.get("type") for each in suite.iter("failure")} == {"regressed", "missing"}
    held = suite.find("testcase[@classname='p/same']")
    assert held.find("failure") is None and held.find("skipped") is None


def test_junit_holds_no_character_that_xml_refuses():
    odd = Gate("b", "h", (Judgement("p/\x00\x1b[31m", "drafted", "regressed", True, "1", "2", detail="\ufffe"),))
    assert "p/??[31m" in [each.get("classname") for each in ElementTree.fromstring(junit(odd)).iter("testcase")]


def test_an_inconclusive_metric_fails_in_junit_only_where_the_gate_is_strict():
    for strict, failures in ((False, "0"), (True, "1")):
        suite = ElementTree.fromstring(junit(Gate("b", "h", (NOISY,), strict=strict))).find("testsuite")
        assert suite.get("failures") == failures


UNTIMED = Judgement("p/slow", "latency_tok", "not gated", False, "10 ms/token", "11 ms/token", detail="other hardware")


@pytest.mark.parametrize(
    ("judgements", "reason", "failures", "errors"),
    [
        ((NOISY, HELD), "", ["speedup"], ["inconclusive/speedup"]),
        (
            (UNTIMED, HELD, ELSEWHERE),
            "other hardware",
            ["latency_tok", "timings gated"],
            ["not-gated/latency_tok", "not-gated/timings"],
        ),
        ((HELD,), "other hardware", ["timings gated"], ["not-gated/timings"]),
        ((ELSEWHERE,), "", ["output_sha256"], ["not-gated/output_sha256"]),
        ((HELD, ELSEWHERE), "", [], []),
    ],
)
def test_what_fails_a_strict_gate_fails_in_its_files_too(
    judgements: tuple[Judgement, ...], reason: str, failures: list[str], errors: list[str]
):
    for strict in (False, True):
        found = Gate("b", "h", judgements, timing_reason=reason, strict=strict)
        suite = ElementTree.fromstring(junit(found)).find("testsuite")
        failed = [test.get("name") for test in suite.iter("testcase") if test.find("failure") is not None]
        assert failed == (failures if strict else [])
        results = json.loads(sarif(found))["runs"][0]["results"]
        assert [result["ruleId"] for result in results if result["level"] == "error"] == (errors if strict else [])
        annotated = github_annotations(found).count("::error")
        assert found.exit_code == bool(failed) == bool(annotated)


def test_markdown_says_how_much_it_leaves_out():
    many = tuple(Judgement(f"p/{number}", "drafted", "regressed", True, "1", "2") for number in range(75))
    gone = tuple(Fault(f"p/{number}", "missing", "not in head.jsonl") for number in range(62))
    text = markdown(Gate("b", "h", many, gone))
    assert "and 15 more rows of 75" in text
    assert "and 2 more remarks" in text


def test_sarif_has_what_the_standard_requires():
    log = json.loads(sarif(FOUND))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    declared = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in run["results"]} == declared
    assert [(result["ruleId"], result["level"]) for result in run["results"]] == [
        ("regressed/latency_tok", "error"),
        ("regressed/drafted", "error"),
        ("fault/missing", "error"),
        ("inconclusive/speedup", "warning"),
    ]
    assert all(result["message"]["text"] and result["locations"] for result in run["results"])


def test_annotations_are_workflow_commands_of_one_line_each():
    lines = github_annotations(FOUND).splitlines()
    assert all(re.fullmatch(r"::(error|warning|notice) title=[^:,]*::.+", line) for line in lines)
    assert [line.split(" ")[0] for line in lines] == ["::error"] * 3 + ["::warning"] + ["::error"]
    assert "50%25" in lines[1]


def test_no_more_annotations_than_github_shows():
    many = tuple(Judgement(f"p/{number}", "drafted", "regressed", True, "1", "2") for number in range(30))
    lines = github_annotations(Gate("b", "h", many)).splitlines()
    assert len(lines) == 11
    assert "and 21 more" in lines[9]


def test_markdown_shows_regressions_and_folds_the_rest():
    text = markdown(FOUND)
    open_part, _, folded = text.partition("<details>")
    assert "p/slow" in open_part and "p/gone" in open_part and "p/noisy" not in open_part
    assert "p/noisy" in folded and "p/same" in folded
    assert "&lt;3>" in text and "3% -> 7.2% (noise)" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {10}, "nine cells in every row"


def test_ungated_counts_are_summed_up_by_reason():
    differs = Judgement(
        "p/x", "drafted", "not gated", True, "9", "8", detail="bf16 elsewhere (2 found); prompt 0: 9 -> 8"
    )
    assert "counts reported, not gated: 2, of which 1 differ: bf16 elsewhere" in markdown(
        Gate("b", "h", (ELSEWHERE, differs))
    )


def test_the_terminal_says_the_verdict_last(capsys: pytest.CaptureFixture[str]):
    print_gate(FOUND)
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == f"gate: {headline(FOUND)}"
    assert "FAULT: missing: p/gone" in output and "allowed: missing: p/old" in output


@pytest.mark.parametrize(
    ("found", "verdict", "code", "strict_code"),
    [
        (Gate("b", "h", (HELD,)), "pass", 0, 0),
        (Gate("b", "h", (HELD, NOISY)), "inconclusive", 0, 1),
        (Gate("b", "h", (HELD, NOISY), (GONE,)), "faulty", 1, 1),
        (Gate("b", "h", (HELD,), (ALLOWED,)), "pass", 0, 0),
        (Gate("b", "h", (NOISY, SLOWER), (GONE,)), "regressed", 1, 1),
        (Gate("b", "h", (ELSEWHERE,)), "inconclusive", 0, 1),
        (Gate("b", "h", (HELD,), timing_reason="other hardware"), "pass", 0, 1),
        (Gate("b", "h", ()), "inconclusive", 0, 1),
    ],
)
def test_the_exit_code_follows_from_the_verdict(found: Gate, verdict: str, code: int, strict_code: int):
    strict = Gate(found.base, found.head, found.judgements, found.faults, (), found.timing_reason, strict=True)
    assert (found.verdict, found.exit_code, strict.exit_code) == (verdict, code, strict_code)


def test_the_answer_begins_with_what_the_gate_can_see(capsys: pytest.CaptureFixture[str]):
    assert sight(FOUND) == (
        "this gate finds changes above 7.2% in latency_tok, 20.0% in speedup; by turns, `python -m reports ab` finds "
        "5% on a shared machine"
    )
    print_gate(FOUND)
    assert capsys.readouterr().out.startswith("this gate finds changes above 7.2%")
    assert sight(FOUND) in markdown(FOUND).replace("\\|", "|")
    blocks = Gate("a", "b", (SLOWER, replace(SLOWER, floor=0.01)), interleaved=True)
    assert sight(blocks) == "this gate finds changes above 3.0% to 7.2% in latency_tok"
    assert "counts only" in sight(Gate("a", "b", (HELD,)))
    assert "other hardware" in sight(Gate("a", "b", (HELD,), timing_reason="other hardware: x -> y"))


def test_strict_says_that_noise_alone_fails():
    noisy = Gate("a", "b", (NOISY, HELD), strict=True)
    assert noisy.exit_code == 1
    assert any("not because anything got worse" in line for line in remarks(noisy))
    ungated = Gate("a", "b", (HELD,), timing_reason="other hardware", strict=True)
    assert ungated.exit_code == 1
    assert any("timings could not be gated, not because anything got worse" in line for line in remarks(ungated))
    assert not any("--strict" in line for line in remarks(Gate("a", "b", (NOISY, HELD))))
