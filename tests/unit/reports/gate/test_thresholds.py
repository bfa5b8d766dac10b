"""Thresholds come in layers, and what is written wrongly is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.gate.thresholds import DEFAULT_THRESHOLDS, PYPROJECT, GateRules, read_rules
from reports.record.run import RunFileError

TEXT = """
[tool.decodebench.gate]
alpha = 0.01
strict = true
allow_missing = ["*offloaded"]
thresholds = { latency_tok = 0.05, ttft_seconds = 0.2 }
[[tool.decodebench.gate.override]]
case = "*,compile/*"
thresholds = { latency_tok = 0.1, speedup = false }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_any_file_the_defaults_hold(tmp_path: Path):
    assert read_rules(tmp_path / "absent.toml") == GateRules()


def test_the_projects_own_file_is_valid():
    assert set(read_rules(PYPROJECT).thresholds) >= set(DEFAULT_THRESHOLDS)


def test_later_layers_win_and_overrides_hold_for_their_cases(tmp_path: Path):
    study = {"name": "s", "gate": {"thresholds": {"ttft_seconds": 0.3}}}
    rules = read_rules(write(tmp_path, TEXT), study)
    assert (rules.alpha, rules.strict, rules.allow_missing) == (0.01, True, ("*offloaded",))
    assert rules.threshold("latency_tok", "p/t=none,bf16/plain") == 0.05
    assert rules.threshold("latency_tok", "p/t=none,bf16,compile/plain") == 0.1
    assert rules.threshold("speedup", "p/t=none,bf16,compile/plain") is None
    assert rules.threshold("speedup", "p/t=none,bf16/plain") == 0.03
    assert rules.threshold("ttft_seconds", "any") == 0.3
    assert rules.threshold("decode_latency_tok", "any") is None, "not gated unless it is named"


def test_an_option_holds_for_every_case(tmp_path: Path):
    rules = read_rules(write(tmp_path, TEXT), None, ["latency_tok=0.2", "ttft_seconds=false"])
    assert rules.threshold("latency_tok", "p/t=none,bf16,compile/plain") == 0.2
    assert rules.threshold("speedup", "p/t=none,bf16,compile/plain") is None, "what was not named stays"
    assert rules.threshold("ttft_seconds", "any") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alpha = 0", "alpha is 0"),
        ("alpha = true", "alpha is True"),
        ("strict = 1", "strict is 1"),
        ("allow_missing = 'x'", "allow_missing is 'x'"),
        ("thresholds = 3", "thresholds must be a table"),
        ("thresholds = { accepted = 0.1 }", "exact metrics have no threshold"),
        ("thresholds = { latency_tok = -0.1 }", "latency_tok is -0.1"),
        ("thresholds = { latency_tok = true }", "latency_tok is True"),
        ("threshold = { latency_tok = 0.1 }", "unknown key 'threshold'"),
        ("override = 1", "override must be a list"),
        ("override = [{ thresholds = { latency_tok = 0.1 } }]", "case is None"),
        ("= broken", "not valid TOML"),
    ],
)
def test_a_mistake_is_named_in_one_line(tmp_path: Path, text: str, said: str):
    path = write(tmp_path, f"[tool.decodebench.gate]\n{text}\n")
    with pytest.raises(RunFileError) as caught:
        read_rules(path)
    assert said in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
