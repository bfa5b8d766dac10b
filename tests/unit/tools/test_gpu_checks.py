"""`make gpu` without a GPU: every check runs on the processor with tiny models, and each finds what it is there for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CompileConfig, LlamaForCausalLM

from fixtures.engines.transformers.models import engine as engines
from fixtures.engines.transformers.models import synthetic
from fixtures.measuring.device import choose_dtype
from tools.gpu import __main__ as command
from tools.gpu import decoding_checks, device_checks
from tools.gpu.outcomes import Outcome, append, read, table
from tools.gpu.setting import Setting

pytestmark = pytest.mark.usefixtures("one_thread")
APART = {"nvml", "suite", "compiled-stock"}  # need an environment, or a process, of their own: below


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting(torch.device("cpu"), choose_dtype("cpu").dtype, "tiny")


@pytest.mark.parametrize("name", [name for name in command.CHECKS if name not in APART])
def test_a_check_holds_on_a_processor(name: str, setting: Setting, tmp_path: Path) -> None:
    outcome = command.run_check(name, setting, tmp_path / "checks.jsonl")
    assert (outcome.status, outcome.reason) == ("holds", "")
    assert outcome.figures


def test_what_transformers_compiles_by_itself_is_checked_where_it_does(setting: Setting, monkeypatch: Any) -> None:
    """On a processor it does not, and the check says so; here it is told that it does, with a cheap backend."""
    assert command.run_check("compiled-stock", setting, Path("unused")).status == "cannot"
    monkeypatch.setattr(decoding_checks, "unsupported", lambda device, mode: None)
    outcome = command.run_check("compiled-stock", setting, Path("unused"))
    assert (outcome.status, outcome.reason) == ("fails", "compile did nothing: no graph was compiled")
    criteria = lambda model, inputs, config: not config.disable_compile  # noqa: E731
    monkeypatch.setattr(LlamaForCausalLM, "_valid_auto_compile_criteria", criteria)
    cheap = classmethod(lambda model: CompileConfig(backend="eager", mode=None))
    monkeypatch.setattr(LlamaForCausalLM, "_default_compile_config", cheap)
    outcome = command.run_check("compiled-stock", setting, Path("unused"))
    assert (outcome.status, outcome.reason) == ("holds", "")


def test_the_suite_runs_its_gpu_study_into_a_run_file(setting: Setting, tmp_path: Path) -> None:
    outcome = command.run_check("suite", setting, tmp_path / "checks.jsonl")
    assert (outcome.status, outcome.reason) == ("holds", "")
    assert outcome.figures["cases"] == 4
    assert (tmp_path / "checks-suite.jsonl").exists()


def test_quantizing_that_does_nothing_is_found_in_what_is_stored(setting: Setting, monkeypatch: Any) -> None:
    monkeypatch.setattr(engines, "quantize_in_place", lambda *layers, **settings: None)
    monkeypatch.setattr(engines, "check_quantization", lambda *models, **settings: None)
    outcome = command.run_check("pair-8bit", setting, Path("unused"))
    assert outcome.status == "fails"
    assert "bytes are stored" in outcome.reason and "by arithmetic" in outcome.reason


def test_another_output_than_planted_is_found(setting: Setting, monkeypatch: Any) -> None:
    build = synthetic.build

    def wrong(shape: Any, next_token: torch.Tensor, **settings: Any) -> Any:
        return build(shape, synthetic.cycle(len(next_token), seed=7), **settings)

    monkeypatch.setattr(synthetic, "build", wrong)
    outcome = command.run_check("pair-16bit", setting, Path("unused"))
    assert outcome.status == "fails"
    assert outcome.reason == "prompt 0: the output parts from the planted one at token 0"


def test_other_counts_than_planted_are_found(setting: Setting, monkeypatch: Any) -> None:
    build = synthetic.build

    def agreeing(shape: Any, next_token: torch.Tensor, **settings: Any) -> Any:
        return build(shape, setting.maps[0], **settings)

    monkeypatch.setattr(synthetic, "build", agreeing)
    outcome = command.run_check("pair-16bit", setting, Path("unused"))
    assert outcome.status == "fails"
    assert outcome.reason.startswith("k=1: forwards, drafted, accepted, rollbacks are")


@pytest.mark.parametrize("module", [device_checks, decoding_checks])
def test_a_check_that_breaks_has_failed_with_its_reason(module: Any, setting: Setting, monkeypatch: Any) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(module, "measure_limit", broken)
    decoding_checks._limit.cache_clear()
    outcome = command.run_check("rates" if module is device_checks else "pair-16bit", setting, Path("unused"))
    assert outcome.status == "fails"
    assert "device-side assert" in outcome.reason


def test_memory_that_ran_out_and_is_told_as_something_else_is_found(setting: Setting, monkeypatch: Any) -> None:
    monkeypatch.setattr(device_checks, "judge", lambda error, free: ("failed", "a RuntimeError"))
    outcome = command.run_check("oom", setting, Path("unused"))
    assert (outcome.status, outcome.reason) == ("fails", "memory that ran out is told as failed: a RuntimeError")


def test_a_pair_that_does_not_fit_cannot_be_checked(setting: Setting, monkeypatch: Any) -> None:
    monkeypatch.setattr(decoding_checks, "free_memory", lambda device: (1000, 2000))
    outcome = command.run_check("pair-4bit", setting, Path("unused"))
    assert outcome.status == "cannot"
    assert "are free" in outcome.reason


def test_checks_run_apart_are_kept_and_the_table_is_of_all(
    driver: Callable[..., Path], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """The driver's stub is found by processes that start with it in the loader's path, as every check does."""
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{driver()}{os.pathsep}{os.environ.get('LD_LIBRARY_PATH', '')}")
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "stub.log"))
    path = tmp_path / "checks.jsonl"
    arguments = ["--device", "cpu", "--size", "tiny", "--results", str(path), "--only", "nvml"]
    assert command.main(arguments) == 0
    assert "| nvml | holds |" in capsys.readouterr().out
    assert read(path)["nvml"].figures["utilization_mean_percent"] > 0

    started: list[str] = []

    def apart(name: str, *rest: Any) -> Outcome:
        started.append(name)
        return Outcome(name, "fails", 1.0, reason="planted")

    monkeypatch.setattr(command, "_apart", apart)
    assert command.main([*arguments, "clock", "--resume"]) == 1, "what is known is kept, what is not is run"
    assert started == ["clock"]
    told = capsys.readouterr().out
    assert "| nvml | holds |" in told
    assert "| clock | fails | 1.0 | planted |" in told
    assert command.main([*arguments, "--minutes", "0"]) == 1
    assert "| nvml | not run |" in capsys.readouterr().out
    monkeypatch.setattr(command, "identity_of", lambda setting: "another card")
    assert command.main([*arguments, "--resume"]) == 1
    assert started == ["clock", "nvml"], "what is known of another card is not known of this one"


def test_a_check_that_hangs_or_dies_has_failed_and_the_others_go_on(tmp_path: Path, monkeypatch: Any) -> None:
    path, interpreter = tmp_path / "checks.jsonl", tmp_path / "interpreter"
    interpreter.write_text(
        "#!/bin/sh\necho 'the device was lost' >&2\ntest \"$4\" = rates && kill -SEGV $$\nexec sleep 60\n"
    )
    interpreter.chmod(0o755)
    monkeypatch.setattr(command.sys, "executable", str(interpreter))
    options = command._options().parse_args(["--device", "cpu", "--size", "tiny"])
    hanging = command._apart("clock", options, path, "here", deadline=0.2)
    assert (hanging.status, hanging.reason) == ("fails", "not done after 0 s")
    dying = command._apart("rates", options, path, "here", deadline=60.0)
    assert (dying.status, dying.reason) == ("fails", "its process ended with -11: the device was lost")
    assert list(read(path)) == ["clock", "rates"]


def test_outcomes_are_read_as_they_were_written_and_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "checks.jsonl"
    kept = Outcome("rates", "holds", 1.25, {"GB/s": 251.25, "profile": "NVIDIA L4"}, identity="L4")
    append(path, Outcome("rates", "fails", 1.0, reason="busy"))
    append(path, kept)
    with path.open("a") as file:
        file.write('{"check": "clo')
    assert read(path) == {"rates": kept}
    assert table([kept], ["oom"]) == [
        "| check | verdict | seconds | measured |",
        "|:---|:---|---:|:---|",
        "| rates | holds | 1.2 | GB/s 251.2, profile NVIDIA L4 |",
        "| oom | not run |  |  |",
    ]


@pytest.mark.parametrize(
    ("card", "profile"),
    [
        ("NVIDIA L4", "NVIDIA L4"),
        ("NVIDIA A10G", "NVIDIA A10G"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100"),
        ("Tesla T4", "NVIDIA T4"),
        ("NVIDIA L40S", ""),
    ],
)
def test_a_card_is_held_against_its_own_published_rates(card: str, profile: str) -> None:
    assert device_checks.published_profile(card).get("name", "").startswith(profile)
    assert bool(device_checks.published_profile(card)) == bool(profile)


def test_true_sizes_are_refused_without_a_gpu(capsys: Any) -> None:
    assert command.main(["--device", "cpu"]) == 2
    assert "--size tiny runs anywhere" in capsys.readouterr().err
