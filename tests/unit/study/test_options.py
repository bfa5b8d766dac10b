"""The command line's bad input: every refusal is one line that names the option, the value and a remedy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.study.options import OPTIONS, build_study, refuse_swallowed, results_path, without_paths
from fixtures.study.own_defaults import own_defaults
from fixtures.study.study import StudyError
from fixtures.study.study_file import load_study
from reports.record.reader import read_run

ROOT = Path(__file__).resolve().parents[3]
SYNTHETIC = {"study": "embedded", "pair": "synthetic-tiny", "prompts": "synthetic"}

# (options, what the line must name: option, value, remedy)
BAD = [
    ({"study": "nonsense"}, ["--study", "'nonsense'", "choose one of compile, embedded"]),
    ({"study": "missing.toml"}, ["--study", "'missing.toml'", "name a .toml file"]),
    ({"pair": "nonsense"}, ["--pair", "'nonsense'", "choose one of embedded", "--model"]),
    ({"pair": "embedded", "model": "a/b"}, ["--model", "'a/b'", "--pair", "drop one"]),
    ({"aux_model": "a/b"}, ["--aux-model", "'a/b'", "add --model"]),
    ({"target_quant": "3bit"}, ["--target-quant", "'3bit'", "none, 8bit, 4bit"]),
    ({"draft_quant": "none,2bit"}, ["--draft-quant", "'2bit'", "none, 8bit, 4bit"]),
    ({"dtype": "float16"}, ["--dtype", "'float16'", "bf16, fp16, fp32"]),
    ({"dtype": ""}, ["--dtype", "''", "bf16, fp16, fp32"]),
    ({"strategy": "beam"}, ["--strategy", "'beam'", "plain, assisted, prompt_lookup, early_exit"]),
    ({"assist_schedule": "linear"}, ["--assist-schedule", "'linear'", "constant, heuristic"]),
    ({"cache": "paged"}, ["--cache", "'paged'", "dynamic, static"]),
    ({"assist_toks": "0"}, ["--assist-toks", "0", "at least 1"]),
    ({"assist_toks": "1,-3"}, ["--assist-toks", "-3", "at least 1"]),
    ({"assist_toks": "three"}, ["--assist-toks", "'three'", "a whole number"]),
    ({"assist_toks": "2.5"}, ["--assist-toks", "'2.5'", "a whole number"]),
    ({"confidence_threshold": "1.5"}, ["--confidence-threshold", "1.5", "from 0"]),
    ({"confidence_threshold": "-0.1"}, ["--confidence-threshold", "-0.1", "from 0"]),
    ({"confidence_threshold": "nan"}, ["--confidence-threshold", "nan", "finite"]),
    ({"exit_layer": "0"}, ["--exit-layer", "0", "at least 1"]),
    ({"lookup_ngram": "0"}, ["--lookup-ngram", "0", "at least 1"]),
    ({"temperature": "0"}, ["--temperature", "0", "above 0"]),
    ({"temperature": "inf"}, ["--temperature", "inf", "finite"]),
    ({"top_p": "0"}, ["--top-p", "0", "at most 1"]),
    ({"top_p": "1.01"}, ["--top-p", "1.01", "at most 1"]),
    ({"compile": "perf_tests"}, ["--compile", "'perf_tests'", "--compile=true"]),
    ({"do_sample": "yes"}, ["--do-sample", "'yes'", "--do-sample=true"]),
    ({"gen_toks": "0"}, ["--gen-toks", "0", "at least 1"]),
    ({"num_samples": "0"}, ["--num-samples", "0", "at least 1"]),
    ({"max_prompt": "-1"}, ["--max-prompt", "-1", "at least 1"]),
    ({"seed": "-1"}, ["--seed", "-1", "0 or more"]),
    ({"case_timeout": "0"}, ["--case-timeout", "'0'", "a time above 0"]),
    ({"case_timeout": "-5"}, ["--case-timeout", "'-5'", "a time above 0"]),
    ({"time_budget": "soon"}, ["--time-budget", "'soon'", "10m, 2.5h"]),
    ({"quiet_wait": "a while"}, ["--quiet-wait", "'a while'", "10m, 2.5h"]),
    ({"quiet_wait": "0"}, ["--quiet-wait", "'0'", "above 0"]),
    ({"shard": "4/3"}, ["--shard", "'4/3'", "from 1/n to n/n"]),
    ({"shard": "0/3"}, ["--shard", "'0/3'", "write 1/3"]),
    ({"shard": "2"}, ["--shard", "'2'", "write 1/3"]),
    ({"shard": "1/-3"}, ["--shard", "'1/-3'", "write 1/3"]),
    ({"time_budget": "nan"}, ["--time-budget", "'nan'", "10m, 2.5h"]),
    ({"device": "tpu"}, ["--device", "'tpu'", "auto, cpu, cuda"]),
    ({"device": "cpu:1"}, ["--device", "'cpu:1'", "auto, cpu, cuda"]),
    ({"tokenizers": "any"}, ["--tokenizers", "'any'", "same, different"]),
    ({"prompts": "missing.txt"}, ["--prompts", "'missing.txt'", "no such file", "wikitext"]),
    ({"prompts": "/"}, ["--prompts", "'/'", "name a readable file"]),
    ({"prompts": "synthetic"}, ["--prompts", "'synthetic'", "need text", "wikitext"]),
    ({"pair": "synthetic-tiny", "prompts": "wikitext"}, ["--prompts", "'wikitext'", "use --prompts synthetic"]),
    ({"strategy": "assisted", "cache": "static"}, ["cache static", "assisted", "use --cache dynamic"]),
    ({"cache": "static"}, ["cache static", "use --cache dynamic"]),
    (
        {"study": "smoke", "cache": "static,dynamic", "strategy": "assisted"},
        ["--cache", "static", "use --cache dynamic"],
    ),
    ({"dtype": "fp32", "target_quant": "8bit"}, ["8bit", "fp32", "--dtype bf16"]),
    (
        {"study": "smoke", "dtype": "bf16,fp32", "draft_quant": "8bit", "strategy": "assisted"},
        ["--dtype", "fp32", "--dtype bf16"],
    ),
    ({"pair": "llama3-8b", "strategy": "assisted"}, ["strategy assisted", "llama3-8b", "--aux-model"]),
    ({"model": "a/b", "strategy": "assisted"}, ["strategy assisted", "pair b", "--aux-model"]),
    ({"strategy": "early_exit"}, ["early_exit", "--exit-layer"]),
    ({"strategy": "early_exit", "exit_layer": "30"}, ["exit_layer 30", "30 layers", "lower --exit-layer"]),
]


@pytest.mark.parametrize(
    ("given", "named"), BAD, ids=[" ".join(f"{k}={v}" for k, v in given.items()) for given, _ in BAD]
)
def test_bad_input_is_refused_in_one_line(given: dict[str, str], named: list[str]) -> None:
    with pytest.raises(StudyError) as refusal:
        build_study(given)
    message = str(refusal.value)
    assert "\n" not in message
    for part in named:
        assert part in message


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("empty.txt", b"", ["the file is empty", "one prompt a paragraph"]),
        ("blank.txt", b" \n\n \n", ["the file is empty"]),
        ("latin.txt", "d\xe9j\xe0 vu".encode("latin-1"), ["not UTF-8 (byte 1)", "convert it"]),
        ("broken.jsonl", b'{"prompt": "a"}\n{"prompt"\n', ["line 2 is not JSON"]),
        ("other.jsonl", b'{"question": "a"}\n', ["line 1 has no text under 'prompt' or 'text'"]),
        ("number.jsonl", b"3\n", ["line 1 has no text"]),
        ("blank.jsonl", b'{"text": " "}\n', ["line 1 has no text"]),
    ],
)
def test_a_faulty_prompts_file_is_refused(tmp_path: Path, name: str, content: bytes, named: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(StudyError) as refusal:
        build_study({"prompts": str(path)})
    assert str(refusal.value).startswith(f"--prompts '{path}': ")
    assert all(part in str(refusal.value) for part in named)
    assert "\n" not in str(refusal.value)


def test_a_results_path_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    study = load_study("embedded")
    (tmp_path / "file").write_text("x")
    refused = {
        tmp_path / "file" / "run.jsonl": "cannot be written",
        Path("/proc/run.jsonl"): "cannot be written",
        tmp_path: "is a folder",
        tmp_path / "file": "exists already",
    }
    for path, why in refused.items():
        with pytest.raises(StudyError, match=re.escape(f"--results '{path}': {why}")):
            results_path({"results": str(path)}, study, "now")
    with pytest.raises(StudyError, match=re.escape("--resume 'none.jsonl': no such file")):
        results_path({"resume": "none.jsonl"}, study, "now")
    with pytest.raises(StudyError, match="drop one of them"):
        results_path({"resume": "a", "results": "b"}, study, "now")


def test_checking_a_results_path_leaves_no_file_behind(tmp_path: Path) -> None:
    path, resumed = results_path({"results": str(tmp_path / "new" / "run.jsonl")}, load_study("embedded"), "now")
    assert (path, resumed) == (tmp_path / "new" / "run.jsonl", False)
    assert not path.exists()


def test_a_default_results_path_names_study_and_time() -> None:
    path, _ = results_path({}, load_study("embedded"), "20260101-000000")
    assert path.relative_to(ROOT) == Path("reports/runs/embedded-20260101-000000.jsonl")


def test_the_seeds_options_are_all_there() -> None:
    seed = (
        "model aux-model dtype target-quant draft-quant num-samples max-prompt gen-toks assist-toks compile do-sample"
    )
    ours = "study pair confidence-threshold assist-schedule temperature top-p cache prompts seed device results"
    wandb = "wandb-project wandb-entity wandb-run"
    assert set(f"{seed} {ours} {wandb}".split()) <= {option.name for option in OPTIONS}


def test_a_study_is_refused_before_torch_is_imported() -> None:
    code = (
        "import sys\nfrom fixtures.study.options import build_study\n"
        "build_study({'study': 'embedded'})\n"
        "heavy = {'torch', 'transformers', 'numpy', 'datasets'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--assist-toks", "0"],
        ["--study", "nonsense"],
        ["--results", "/proc/run.jsonl"],
        ["--benchmark-disable"],
    ],
    ids=" ".join,
)
def test_the_command_line_ends_with_4_and_one_line(
    run_bench: Callable[..., subprocess.CompletedProcess[str]], tiny_study: Path, tmp_path: Path, arguments: list[str]
) -> None:
    where = [] if "--results" in arguments else ["--results", str(tmp_path / "run.jsonl")]
    study = [] if "--study" in arguments else ["--study", str(tiny_study)]
    done = run_bench(*study, *where, *arguments)
    errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
    assert done.returncode == 4, done.stdout + done.stderr
    assert len(errors) == 1
    assert arguments[0] in errors[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_a_flag_that_swallowed_the_folder_is_refused() -> None:
    """`pytest --compile perf_tests` gives the folder to the option; pytest would then run another suite in silence."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", "--compile", "perf_tests"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert "--compile=true" in done.stderr


def test_help_shows_every_option_in_one_group_with_defaults() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    group = done.stdout.partition("decodebench (pytest perf_tests)")[2].partition("\n\n")[0]
    for option in OPTIONS:
        assert f"--{option.name}" in group
    assert "(default: auto, what the device computes natively)" in " ".join(group.split())
    assert "(default: 500)" in " ".join(group.split())


def test_the_command_line_is_told_without_where_results_went() -> None:
    told = without_paths(["perf_tests", "--results", "/home/me/x", "--study", "smoke", "--resume=/home/me/y"])
    assert told == ["perf_tests", "--study", "smoke"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--study=/home/me/a.toml", "--study=a.toml"),
        ("/home/me/a.toml", "a.toml"),
        (f"--study={ROOT}/perf_tests/studies/smoke.toml", "--study=perf_tests/studies/smoke.toml"),
        (f"{ROOT}/perf_tests/test_baseline.py::test[a/b]", "perf_tests/test_baseline.py::test[a/b]"),
        ("perf_tests/test_baseline.py", "perf_tests/test_baseline.py"),
        ("--target-quant=none,8bit", "--target-quant=none,8bit"),
    ],
)
def test_the_command_line_is_told_without_paths_of_this_machine(given: str, told: str) -> None:
    assert without_paths([given]) == [told]


def test_no_committed_run_file_tells_paths_of_a_machine() -> None:
    files = [path for folder in ("published", "baselines") for path in (ROOT / "reports" / folder).rglob("*.jsonl")]
    assert files
    for file in files:
        argv = read_run(file).header.get("argv") or []
        assert without_paths(argv) == argv, file


UNUSED = [
    ({"temperature": "0.5", "do_sample": "false"}, "--temperature 0.5", "no case samples; add --do-sample"),
    ({"study": "compile", "top_p": "0.9"}, "--top-p 0.9", "no case samples; add --do-sample"),
    ({"exit_layer": "3"}, "--exit-layer 3", "no case leaves early; add --strategy early_exit"),
    ({"draft_quant": "4bit", "strategy": "plain"}, "--draft-quant 4bit", "add --strategy assisted"),
    ({"assist_toks": "3", "strategy": "plain"}, "--assist-toks 3", "add --strategy assisted or prompt_lookup"),
    (
        {"study": "smoke", "confidence_threshold": "0", "strategy": "prompt_lookup"},
        "--confidence-threshold 0",
        "drafts with a model",
    ),
    ({"assist_schedule": "heuristic", "strategy": "plain"}, "--assist-schedule heuristic", "drafts with a model"),
    (
        {"study": "smoke", "lookup_ngram": "3", "strategy": "assisted"},
        "--lookup-ngram 3",
        "add --strategy prompt_lookup",
    ),
    ({"study": "smoke", "nf4_double_quant": "false"}, "--nf4-double-quant false", "4bit"),
    ({"study": "humaneval", "num_samples": "5"}, "--num-samples 5", "use --humaneval-limit"),
    ({"study": "humaneval", "gen_toks": "5"}, "--gen-toks 5", "use --humaneval-tokens"),
    ({"tokenizers": "different"}, "--tokenizers different", "give it with --model and --aux-model"),
]


@pytest.mark.parametrize(("given", "option", "why"), UNUSED, ids=[option for _, option, _ in UNUSED])
def test_an_option_that_changes_nothing_is_refused(given: dict[str, str], option: str, why: str) -> None:
    with pytest.raises(StudyError) as refusal:
        build_study(given)
    message = str(refusal.value)
    assert message.startswith(option) and "changes nothing" in message and why in message and "\n" not in message


def test_an_option_that_some_case_uses_is_taken() -> None:
    assert build_study({"temperature": "0.5"}).cases(), "the embedded study samples in one sweep"
    assert build_study({"draft_quant": "8bit", "dtype": "bf16"}).cases()
    both = build_study({"do_sample": "false,true", "compile": "false,true", "cache": "static", "strategy": "plain"})
    assert {(case.point.do_sample, case.engine.compile) for case in both.cases()} >= {
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    }
    refuse_swallowed({"do_sample": "false,true", "compile": "true,false"})


def test_help_shows_what_the_named_study_says() -> None:
    name, own = own_defaults(["perf_tests", "--study", "smoke", "--study=llama3"])
    study = load_study("llama3")
    assert name == "llama3" and own["num_samples"] == str(study.workload.num_samples)
    assert set(own["target_quant"].split(",")) == {"none", "8bit", "4bit"} and own["time_budget"] == "2.5h"
    assert own_defaults([])[0] == "embedded" and own_defaults(["--study"])[0] == "embedded"
    assert own_defaults(["--study=nonsense"]) == ("", {})


def test_the_command_line_is_told_without_secrets_and_places_in_lists() -> None:
    assert without_paths(["--model=https://me:word@host/x", "--trust-remote-code", "/home/me/a,/home/me/b"]) == [
        "--model=https://host/x",
        "--trust-remote-code",
        "a,b",
    ]
