"""Which dtype is native where, by what processors list and GPUs answer; and devices that cannot be used."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.decoding.clock import CudaClock
from fixtures.measuring import device as device_module
from fixtures.measuring.device import choose_dtype, device_refusals, emulation_note, find_device
from fixtures.study.options import build_study
from fixtures.study.study import StudyError

ROOT = Path(__file__).resolve().parents[3]
AVX2 = "fpu sse4_2 avx avx2 f16c fma"
AVX512 = f"{AVX2} avx512f avx512bw avx512vl avx512dq avx512_vnni"
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`processor(flags, machine, **limits)`: a machine without a GPU whose processor lists these instructions."""

    def of(flags: str, machine: str = "x86_64", key: str = "flags\t\t", **limits: str) -> None:
        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text(f"processor\t: 0\nmodel name\t: A processor\n{key}: {flags}\n\nprocessor\t: 1\n")
        monkeypatch.setattr(device_module, "CPUINFO", cpuinfo)
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(device_module, "has_gpu_driver", lambda: False)
        for name in LIMITS:
            monkeypatch.delenv(name, raising=False)
        for name, value in limits.items():
            monkeypatch.setenv(name, value)

    return of


@pytest.mark.parametrize(
    ("flags", "limits", "dtype", "said"),
    [
        (f"{AVX512} avx512_bf16", {}, "bf16", "natively"),
        (f"{AVX512} amx_tile amx_bf16", {}, "bf16", "natively"),
        (AVX512, {}, "fp32", "no instructions for bf16 (avx512_bf16, amx_bf16)"),
        (f"{AVX2} avx_vnni avx_ne_convert", {}, "fp32", "no instructions for bf16"),
        (AVX2, {}, "fp32", "no instructions for bf16"),
        (f"{AVX512} avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "fp32", "ONEDNN_MAX_CPU_ISA=AVX2"),
        (f"{AVX512} avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "avx512_core_vnni"}, "fp32", "ONEDNN_MAX_CPU_ISA"),
        (f"{AVX512} avx512_bf16", {"DNNL_MAX_CPU_ISA": "SSE41"}, "fp32", "DNNL_MAX_CPU_ISA=SSE41"),
        (f"{AVX512} avx512_bf16", {"ATEN_CPU_CAPABILITY": "avx2"}, "fp32", "ATEN_CPU_CAPABILITY=avx2"),
        (f"{AVX512} avx512_bf16", {"ATEN_CPU_CAPABILITY": "avx512"}, "bf16", "natively"),
        (f"{AVX512} avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, "bf16", "natively"),
        (f"{AVX512} avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "ALL", "DNNL_MAX_CPU_ISA": "AVX2"}, "bf16", "natively"),
        ("", {}, "fp32", "no instructions for bf16"),
    ],
)
def test_a_processors_native_dtype_is_read_from_its_instructions_and_the_limits_set_on_them(
    processor: Callable[..., None], flags: str, limits: dict[str, str], dtype: str, said: str
) -> None:
    processor(flags, **limits)
    choice = choose_dtype("auto")
    assert choice.dtype == dtype
    assert said in choice.reason
    assert bool(emulation_note("bf16", "cpu")) == (dtype == "fp32")
    assert emulation_note("fp32", "cpu") == ""


@pytest.mark.parametrize(("flags", "dtype"), [("fp asimd asimdhp bf16 i8mm", "bf16"), ("fp asimd asimdhp", "fp32")])
def test_an_arm_processors_too(processor: Callable[..., None], flags: str, dtype: str) -> None:
    processor(flags, "aarch64", "Features\t", ATEN_CPU_CAPABILITY="default")
    assert choose_dtype("cpu").dtype == dtype
    assert emulation_note("fp16", "cpu") == ""


def test_a_processor_that_nothing_is_known_of_computes_in_fp32(
    processor: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processor("avx512_bf16")
    monkeypatch.setattr(device_module, "CPUINFO", tmp_path / "nothing")
    assert choose_dtype("cpu").dtype == "fp32"


@pytest.mark.parametrize("name", ["smoke", "embedded", "llama3", "synthetic", "legacy", "compile", "humaneval"])
@pytest.mark.parametrize(("flags", "dtype"), [(f"{AVX512} avx512_bf16", "bf16"), (AVX2, "fp32")])
def test_every_study_decodes_in_the_native_dtype_unless_told_otherwise(
    processor: Callable[..., None], name: str, flags: str, dtype: str
) -> None:
    processor(flags)
    study = build_study({"study": name})
    assert study.native_dtype is not None and study.native_dtype.dtype == dtype
    ids = [case.id for case in study.cases()]
    assert len(set(ids)) == len(ids)
    assert {case.engine.dtype for case in study.cases()} <= {dtype, "fp32"}
    assert "auto" not in " ".join(ids)


def test_auto_beside_its_own_dtype_adds_nothing(processor: Callable[..., None]) -> None:
    processor(AVX2)
    several = build_study({"study": "smoke", "dtype": "auto,fp32"})
    assert [case.id for case in several.cases()] == [case.id for case in build_study({"study": "smoke"}).cases()]
    told = build_study({"study": "smoke", "dtype": "bf16,fp16"})
    assert {case.engine.dtype for case in told.cases()} == {"bf16", "fp16"}
    assert told.native_dtype is None, "nothing asked for it"


def test_8_bits_are_skipped_with_their_reason_where_auto_is_fp32(processor: Callable[..., None]) -> None:
    processor(AVX2)
    study = build_study({"study": "embedded"})
    skipped = [refused for refused in study.expansion()[1] if refused.case.engine.target_quant == "8bit"]
    assert skipped and all("use --dtype bf16 or fp16" in refused.reason for refused in skipped)
    with pytest.raises(StudyError, match=r"8bit .* use --dtype bf16 or fp16"):
        build_study({"study": "smoke", "target_quant": "8bit"})


@pytest.mark.parametrize(("card", "dtype"), [("l4", "bf16"), ("t4", "fp16")])
def test_an_estimate_for_a_card_is_in_the_cards_own_dtype(
    processor: Callable[..., None], card: str, dtype: str
) -> None:
    processor(AVX2)
    study = build_study({"study": "llama3", "estimate": "true", "device_profile": card})
    assert {case.engine.dtype for case in study.cases()} == {dtype}


# --- GPUs, by fake answers ------------------------------------------------------------------------------------------


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`cards((name, capability), ..., built=...)`: what torch.cuda answers, and the architectures it was built for."""

    def of(*found: tuple[str, tuple[int, int]], built: tuple[str, ...] = ("sm_75", "sm_80", "sm_90", "sm_120")) -> None:
        monkeypatch.setattr(device_module, "has_gpu_driver", lambda: True)
        monkeypatch.setattr(torch.version, "hip", None)
        answers = {
            "is_available": lambda: bool(found),
            "device_count": lambda: len(found),
            "get_device_name": lambda index=0: found[index][0],
            "get_device_capability": lambda index=0: found[index][1],
            "get_arch_list": lambda: list(built),
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, answer)

    return of


L4, T4 = ("NVIDIA L4", (8, 9)), ("Tesla T4", (7, 5))


def test_a_card_without_bf16_computes_in_fp16_and_says_which_card(cards: Callable[..., None]) -> None:
    cards(T4, L4)
    assert (choose_dtype("auto").dtype, choose_dtype("cuda:1").dtype) == ("fp16", "bf16")
    assert "Tesla T4 (compute capability 7.5) has no instructions for bf16" in choose_dtype("cuda").reason
    assert "Tesla T4" in emulation_note("bf16", "cuda:0")
    assert emulation_note("bf16", "cuda:1") == emulation_note("fp16", "cuda:0") == ""


def test_a_card_that_is_not_there_is_refused(cards: Callable[..., None]) -> None:
    cards(L4)
    assert find_device("cuda") == find_device("auto") == "cuda:0"
    with pytest.raises(StudyError, match="--device 'cuda:1': this machine has 1 CUDA devices"):
        find_device("cuda:1")


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((6, 1), ("sm_75", "sm_80", "compute_80"), False),
        ((6, 1), ("sm_50", "sm_60", "sm_70"), True),
        ((8, 9), ("sm_80", "sm_86"), True),
        ((8, 0), ("sm_86",), False),
        ((10, 0), ("sm_90", "compute_90"), True),
        ((10, 0), ("sm_90",), False),
        ((12, 0), ("sm_90a", "sm_120"), True),
        ((9, 0), ("sm_90a",), True),
        ((12, 1), ("sm_100f", "compute_90a"), False),
        ((7, 5), ("gfx90a",), True),
        ((7, 5), (), True),
    ],
)
def test_a_card_that_this_torch_has_no_kernels_for_is_refused(
    cards: Callable[..., None], capability: tuple[int, int], built: tuple[str, ...], runs: bool
) -> None:
    cards(("A card", capability), built=built)
    if runs:
        assert find_device("auto") == "cuda:0"
    else:
        with pytest.raises(StudyError, match=r"A card has compute capability \d+\.\d.*--device cpu"):
            find_device("auto")


def test_these_tests_and_what_they_start_see_no_gpu() -> None:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "" and not torch.cuda.is_available()


def test_hidden_cards_are_left_alone(cards: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    cards()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_device("auto") == "cpu"


FIRST_USE = {
    "asked 512.00 MiB": torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 512.00 MiB. GPU 0 has a total capacity of 22 GiB of which 2 MiB is free."
    ),
    "device-side assert": torch.AcceleratorError(
        "CUDA error: device-side assert triggered\nKernel errors might be", 710
    ),
    "CUBLAS_STATUS_NOT_INITIALIZED": RuntimeError(
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`"
    ),
}


@pytest.mark.parametrize("said", FIRST_USE)
def test_what_a_card_raises_at_its_first_use_is_one_line(said: str) -> None:
    refused = rf"--device cuda:0: cannot be used: .*{said}.*another by --device"
    with pytest.raises(StudyError, match=refused) as refusal, device_refusals("cuda:0"):
        raise FIRST_USE[said]
    assert "\n" not in str(refusal.value)


def test_the_device_is_made_current_and_events_are_recorded_on_its_stream(
    cards: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fixtures.engines.transformers.models.engine import resolve_device

    cards(L4, L4)
    current: list[Any] = []
    recorded: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    monkeypatch.setattr(
        torch.cuda, "Event", lambda **settings: SimpleNamespace(record=lambda *streams: recorded.append(streams))
    )
    device = resolve_device("cuda:1")
    assert current == [device] == [torch.device("cuda:1")]
    CudaClock(device).mark()
    assert recorded == [("the stream of cuda:1",)]


def test_a_gpu_that_only_the_driver_sees_is_told_instead_of_measuring_the_processor(
    driver: Callable[..., Path],
) -> None:
    """The stub has two cards, and this torch was built without CUDA, or for one that no stub can run."""
    if any(path.exists() for path in device_module.GPU_DEVICES):
        pytest.skip("this machine has a GPU, which the stub does not hide from torch")
    asked = "build_study({'study': 'smoke', 'device': 'auto'}).device"
    code = f"from fixtures.study.options import build_study; print({asked})"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver()), "PYTHONPATH": str(ROOT)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)

    def built(**more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], env={**environment, **more}, capture_output=True, text=True, check=False
        )
        return (done.stdout + done.stderr).strip().splitlines()[-1]

    refusal = built()
    assert "--device auto: the driver (535.104.05, up to CUDA 12.2) has Stub card and 1 more, but torch" in refusal
    assert "install" in refusal and "--device cpu" in refusal
    assert built(CUDA_VISIBLE_DEVICES="-1") == "auto", "hidden on purpose"
