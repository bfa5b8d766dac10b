"""Reading studies: the committed ones are valid, options overlay them, and a faulty file is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.study.study import Study, StudyError
from fixtures.study.study_file import load_study
from fixtures.study.study_toml import study_names
from fixtures.study.values import parse_axis

HEAD = 'pair = "synthetic-tiny"\n[workload]\nprompts = "synthetic"\n'
SWEEP = '[[sweep]]\nexperiment = "baseline"\n'


@pytest.fixture
def read(tmp_path: Path):
    def read(text: str, **options: str) -> Study:
        path = tmp_path / "given.toml"
        path.write_text(text, encoding="utf-8")
        return load_study(str(path), options)

    return read


@pytest.mark.parametrize("name", study_names())
def test_every_committed_study_is_valid_and_has_a_baseline(name: str) -> None:
    study = load_study(name)
    assert study.name == name
    wanted = "humaneval" if name == "humaneval" else "baseline"
    assert any(case.experiment == wanted and case.engine.target_quant == "none" for case in study.cases())


def test_the_default_study_is_the_embedded_pair_with_drafts_and_lookup() -> None:
    strategies = {case.point.strategy for case in load_study("embedded").cases()}
    assert {"plain", "assisted", "prompt_lookup"} <= strategies


def test_defaults_are_the_seeds(read) -> None:
    study = read(
        'pair = "llama3-8b-1b"\n' + SWEEP + '[[sweep]]\nexperiment="speculative_decoding"\nstrategy="assisted"\n'
    )
    assert (study.workload.num_samples, study.workload.max_prompt, study.workload.gen_toks) == (500, 128, 128)
    assert study.workload.prompts == "wikitext"
    case = study.cases()[-1]
    assert study.native_dtype is not None
    assert case.engine.id == f"llama3-8b-1b/t=none,d=none,{study.native_dtype.dtype}", "dtype auto"
    assert case.point.assist_toks == 5


def test_a_sweep_wins_over_the_defaults_and_an_option_over_both(read) -> None:
    text = (
        HEAD + '[defaults]\ndtype = "fp16"\n' + SWEEP + 'dtype = "fp32"\n' + '[[sweep]]\nexperiment = "quantization"\n'
    )
    assert sorted(case.engine.dtype for case in read(text).cases()) == ["fp16", "fp32"]
    assert {case.engine.dtype for case in read(text, dtype="bf16").cases()} == {"bf16"}


def test_a_comma_list_is_an_axis_and_counts_a_value_once() -> None:
    assert parse_axis("assist_toks", "3, 1,3") == (3, 1)
    assert parse_axis("confidence_threshold", "0,0.4") == (0.0, 0.4)
    assert parse_axis("compile", "true,FALSE") == (True, False)


def test_options_overlay_the_workload(read) -> None:
    study = read(HEAD + SWEEP, num_samples="7", gen_toks="9", seed="3")
    assert (study.workload.num_samples, study.workload.gen_toks, study.workload.seed) == (7, 9, 3)


def test_a_sweep_that_one_of_several_pairs_cannot_run_is_skipped_for_it_alone(read) -> None:
    text = HEAD + SWEEP + "[[sweep]]\nexperiment = 'speculative_decoding'\nstrategy = 'assisted'\n"
    cases, impossible = read(text, pair="llama3-8b,llama3-8b-1b").expansion()
    assert [case.engine.pair for case in cases if case.point.strategy == "assisted"] == ["llama3-8b-1b"]
    assert [refused.case.engine.pair for refused in impossible] == ["llama3-8b"]
    with pytest.raises(StudyError, match="needs a draft and pair llama3-8b has none"):
        read(text, pair="llama3-8b")


def test_models_by_name_replace_the_pair(read) -> None:
    study = read(HEAD + SWEEP, model="Org/Big-Model@abc", aux_model="org/small_model")
    assert [pair.name for pair in study.pairs] == ["big-model--small-model"]
    assert (study.pairs[0].target, study.pairs[0].draft) == ("Org/Big-Model@abc", "org/small_model")


def test_several_pairs_are_measured_one_after_the_other(read) -> None:
    drafting = "[[sweep]]\nexperiment = 'speculative_decoding'\nstrategy = 'assisted'\n"
    study = read(HEAD + SWEEP + drafting, pair="synthetic-tiny, synthetic-tiny-same", dtype="bf16")
    assert [case.id.rpartition(",k=")[0] for case in study.cases()] == [
        "",
        "synthetic-tiny/t=none,d=none,bf16/assisted",
        "synthetic-tiny-same/t=none,d=none,bf16/assisted",
    ], "the plain case of their one target stands under the first"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + SWEEP + "speed = 3\n", r"given.toml: sweep 1: unknown key 'speed'; allowed are .*assist_toks"),
        ("pair_ = 1\n" + SWEEP, r"unknown key 'pair_'; allowed are"),
        ("pair = 'embedded'\n[workload]\nsamples = 3\n" + SWEEP, r"\[workload\] unknown key 'samples'"),
        (
            "pair = 'embedded'\n[workload]\nnum_samples = '3'\n" + SWEEP,
            r"workload.num_samples is '3'; expected a whole",
        ),
        (
            "pair = 'embedded'\n[workload]\nnum_samples = true\n" + SWEEP,
            r"num_samples is True; expected a whole number",
        ),
        ("pair = 'embedded'\n[workload]\ngen_toks = 0\n" + SWEEP, r"workload.gen_toks 0: must be at least 1"),
        ("pair = 'embedded'\nworkload = 3\n" + SWEEP, r"workload must be a table"),
        ("pair = 3\n" + SWEEP, r"pair is 3; expected text"),
        ("pair = 'nonsense'\n" + SWEEP, r"pair 'nonsense': unknown pair; choose one of embedded"),
        (SWEEP, r"pair is missing"),
        (HEAD, r"no \[\[sweep\]\]; add one"),
        (HEAD + "[sweep]\nexperiment = 'baseline'\n", r"sweep must be a list of tables"),
        (HEAD + "[[sweep]]\nstrategy = 'plain'\n", r"sweep 1: experiment is None; choose one of baseline"),
        (HEAD + SWEEP + "assist_toks = []\n", r"assist_toks is an empty list"),
        (HEAD + SWEEP + "assist_toks = [0]\n", r"assist_toks 0: must be at least 1"),
        (HEAD + SWEEP + "assist_toks = 1.5\n", r"assist_toks is 1.5; expected a whole number"),
        (HEAD + SWEEP + "confidence_threshold = 1.5\n", r"confidence_threshold 1.5: must be from 0"),
        (HEAD + SWEEP + "confidence_threshold = nan\n", r"confidence_threshold nan: must be a finite number"),
        (HEAD + SWEEP + "dtype = 'int4'\n", r"dtype 'int4': choose from auto, bf16, fp16, fp32"),
        (HEAD + SWEEP + "compile = 'yes'\n", r"compile is 'yes'; expected true or false"),
        ("warmup = -1\n" + HEAD + SWEEP, r"warmup -1: must be at least 0 .*--warmup"),
        ("drift_limit = 0\n" + HEAD + SWEEP, r"drift_limit 0.0: must be above 0"),
        ("device = 'tpu'\n" + HEAD + SWEEP, r"given.toml: device 'tpu': choose from auto, cpu"),
        ("device = 3\n" + HEAD + SWEEP, r"given.toml: device is 3; expected text"),
        ("warmup = 1.5\n" + HEAD + SWEEP, r"given.toml: warmup is 1.5; expected a whole number"),
        ("keep_tokens = 1\n" + HEAD + SWEEP, r"given.toml: keep_tokens is 1; expected true or false"),
        ("drift_limit = inf\n" + HEAD + SWEEP, r"given.toml: drift_limit inf: must be above 0"),
        ("drift_limit = nan\n" + HEAD + SWEEP, r"given.toml: drift_limit nan: must be above 0"),
        ("name = []\n" + HEAD + SWEEP, r"given.toml: name is \[\]; expected text"),
        ("pair = ['embedded', 3]\n" + SWEEP, r"given.toml: pair.* is 3; expected "),
        ("humaneval = 3\n" + HEAD + SWEEP, r"humaneval must be a table \[humaneval\]"),
        ("pair = \n", r"given.toml is not valid TOML .*line 1.*; correct the file"),
        (HEAD + "[[sweep]]\nexperiment='kv_cache'\nstrategy='assisted'\ncache='static'\n", r"use --cache dynamic"),
    ],
)
def test_a_faulty_study_is_refused_in_one_line(read, text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message) as refusal:
        read(text)
    assert "\n" not in str(refusal.value)


def test_a_study_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes('name = "\xe9"'.encode("latin-1"))
    with pytest.raises(StudyError, match="not valid TOML"):
        load_study(str(path))


def test_a_study_that_is_a_folder_or_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    for name in ("folder.toml", "none.toml"):
        with pytest.raises(StudyError, match=r"no such file; name a \.toml file or one of compile, embedded"):
            load_study(str(tmp_path / name))


def test_the_prompt_form_of_every_target_can_be_set(tmp_path):
    path = tmp_path / "form.toml"
    path.write_text('pair = ["embedded", "llama3-8b"]\nprompt_form = "base"\n[[sweep]]\nexperiment = "humaneval"\n')
    study = load_study(str(path))
    assert [pair.prompt_form for pair in study.pairs] == ["base", "base"]
    assert all("/humaneval,base" in case.id for case in study.cases())
    asked = load_study(str(path), {"prompt_form": "instruct"})
    assert [pair.prompt_form for pair in asked.pairs] == ["instruct", "instruct"]
    with pytest.raises(StudyError, match="--prompt-form 'chat': choose from base, instruct"):
        load_study(str(path), {"prompt_form": "chat"})
    path.write_text(path.read_text().replace('"base"', '"chat"'))
    with pytest.raises(StudyError, match=r"form.toml: prompt_form 'chat': choose from"):
        load_study(str(path))


def test_a_case_under_the_models_own_generation_config_is_another_case(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        'pair = "llama3-8b-1b"\n[[sweep]]\nexperiment = "speculative_decoding"\nstrategy = "assisted"\n'
        "do_sample = [false, true]\n"
    )
    ids = {option: [case.id for case in load_study(str(path), option_of(option)).cases()] for option in ("", "model")}
    assert not any("generation_config" in name for name in ids[""])
    assert len(ids["model"]) == len(ids[""]) and all(name.endswith(",generation_config=model") for name in ids["model"])
    assert any("/plain,sampled,dynamic,generation_config=model" in name for name in ids["model"]), "its own temperature"
    given = load_study(str(path), {**option_of("model"), "temperature": "0.5"}).cases()
    assert any("/plain,sampled,T=0.5,dynamic,generation_config=model" in case.id for case in given)
    with pytest.raises(StudyError, match="--generation-config 'own': choose from neutral, model"):
        load_study(str(path), {"generation_config": "own"})


def option_of(name):
    return {"generation_config": name} if name else {}
