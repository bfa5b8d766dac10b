"""Claims that a study states are checked when it is read and travel in what the run file says of the study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.study.rules import CACHES, QUANTIZATIONS, STRATEGIES
from fixtures.study.study import DecodingPoint, EngineKey, Study, StudyError
from fixtures.study.study_file import load_study
from reports.claims.own import parse_claims
from reports.record.settings import VALUE_TYPES

STUDY = "pair = 'embedded'\n[[sweep]]\nexperiment = 'baseline'\n"
CLAIM = """
[[claim]]
name = "lookup_pays"
says = "Prompt lookup is faster than plain decoding"
metric = "latency_tok"
of = { strategy = "prompt_lookup" }
against = { strategy = "plain", target_quant = "none" }
expect = "lower"
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Study]:
    def read_text(text: str) -> Study:
        path = tmp_path / "given.toml"
        path.write_text(text, encoding="utf-8")
        return load_study(str(path))

    return read_text


def test_a_claim_travels_with_its_study(read: Callable[[str], Study]) -> None:
    study = read(STUDY + CLAIM)
    [claim] = study.claims
    assert (claim.name, claim.expect, claim.margin) == ("lookup_pays", "lower", 0.0)
    described = study.describe()["claims"]
    assert described[0]["against"] == {"strategy": "plain", "target_quant": "none"}
    assert parse_claims(described, "a run file") == study.claims


def test_a_study_without_claims_is_described_as_before(read: Callable[[str], Study]) -> None:
    assert "claims" not in read(STUDY).describe()


def test_selectors_know_every_key_of_engine_and_point() -> None:
    assert VALUE_TYPES.keys() == {*EngineKey.__dataclass_fields__, *DecodingPoint.__dataclass_fields__}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name =", "title =", r"claim 1: unknown key 'title'; allowed are name, says"),
        ('name = "lookup_pays"\n', "", r"claim 1: name is missing; a claim needs name, says"),
        ('"lookup_pays"', '"look up"', r"claim 1: name is 'look up'; use letters"),
        ('"lookup_pays"', '"best_setting"', r"claim 1: name 'best_setting' is taken by another claim"),
        ('"latency_tok"', '"latency"', r"claim 1: metric is 'latency'; choose one of latency_tok, thr"),
        ('"latency_tok"', '"assisted_thr"', r"claim 1: metric is 'assisted_thr'; choose one of"),
        ('"lower"', '"less"', r"claim 1: expect is 'less'; choose one of lower, higher, same"),
        ('"lower"', "3", r"claim 1: expect is 3; expected text"),
        ('"lower"', '"lower"\nmargin = 2', r"claim 1: margin is 2; expected a share from 0 to below 1"),
        ('"lower"', '"same"\nmargin = 0', r'claim 1: margin is 0; with expect = "same" it must be above 0'),
        ('{ strategy = "prompt_lookup" }', "{ }", r"claim 1: of is {}; expected a table of settings"),
        ('strategy = "prompt_lookup"', 'method = "x"', r"claim 1: of: unknown key 'method'; allowed are pair"),
        ('"prompt_lookup"', '"lookup"', rf"claim 1: of.strategy 'lookup': choose from {', '.join(STRATEGIES)}"),
        ('"none"', '"2bit"', rf"claim 1: against.target_quant '2bit': choose from {', '.join(QUANTIZATIONS)}"),
        ('target_quant = "none"', 'cache = "big"', rf"against.cache 'big': choose from {', '.join(CACHES)}"),
        ('target_quant = "none"', "do_sample = 1", r"against.do_sample is 1; expected true or false"),
        ('target_quant = "none"', "assist_toks = true", r"against.assist_toks is True; expected a whole number"),
        ('target_quant = "none"', "assist_toks = 0", r"against.assist_toks 0: must be at least 1"),
        ('target_quant = "none"', 'pair = "nobody"', r"against.pair 'nobody': unknown pair; choose one of embedded"),
        ("[[claim]]", "[claim]", r"claim must be a list of tables \[\[claim\]\]"),
    ],
)
def test_a_faulty_claim_is_refused_in_one_line(read: Callable[[str], Study], old: str, new: str, message: str) -> None:
    assert old in CLAIM
    with pytest.raises(StudyError, match=message) as refused:
        read(STUDY + CLAIM.replace(old, new))
    assert "\n" not in str(refused.value) and str(refused.value).startswith("given.toml")


def test_two_claims_cannot_have_one_name(read: Callable[[str], Study]) -> None:
    with pytest.raises(StudyError, match="claim 2: name 'lookup_pays' is taken"):
        read(STUDY + CLAIM + CLAIM)
