"""What stopped a case: memory that ran out is told from other failures, with what was asked and what was free."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError

from fixtures.measuring.case import CaseFailed
from fixtures.measuring.failures import judge, size

CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 22.03 GiB of which 1.19 GiB is "
    "free. Including non-PyTorch memory, this process has 20.84 GiB memory in use. Of the allocated memory 20.5 GiB is "
    "allocated by PyTorch, and 12.00 MiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is "
    "large try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation"
)
OUT_OF_MEMORY = [
    torch.OutOfMemoryError(CUDA),
    torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in ...", 2),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("HIP error: hipErrorOutOfMemory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: ..."),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("Triton Error [CUDA]: CUDA_ERROR_OUT_OF_MEMORY"),
    RuntimeError("HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`"),
    RuntimeError("cudnn_status: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("unable to mmap 171187392 bytes from file <model.safetensors>: Cannot allocate memory (12)"),
    RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB, other allocations: 1.00 GB)"),
    SafetensorError("Error while deserializing header: I/O error: Cannot allocate memory (os error 12)"),
    ValueError("CUDA out of memory. Tried to allocate 20.00 MiB"),  # wrapped by whoever thought it was the input
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: f"{type(error).__name__}-{str(error)[:24]}")
def test_memory_that_ran_out_is_oom_with_what_was_free(error: Exception) -> None:
    status, reason = judge(error, lambda: (3 << 30, 24 << 30))
    assert status == "oom"
    assert reason.startswith("asked ")
    if "mmap" in str(error):
        assert reason.startswith("asked 163.3 MiB, ")
    assert ("free 1.19 GiB" if "1.19" in str(error) else "free afterwards 3.0 GiB of 24.0 GiB") in reason
    assert type(error).__name__ in reason and "\n" not in reason


def test_what_was_asked_is_told_and_the_allocators_advice_left_out() -> None:
    _, reason = judge(torch.OutOfMemoryError(CUDA))
    assert reason.startswith("asked 2.00 GiB, free 1.19 GiB: OutOfMemoryError: CUDA out of memory.")
    assert "PYTORCH_ALLOC_CONF" not in reason


def test_the_processors_own_allocator_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 46, dtype=torch.uint8)
    status, reason = judge(caught.value, lambda: (1 << 30, 2 << 30))
    assert (status, reason[:37]) == ("oom", "asked 64.0 TiB, free afterwards 1.0 G")


def test_what_an_error_came_from_counts_and_what_it_hides_does_not() -> None:
    def wrapped(*, hidden: bool) -> Exception:
        try:
            try:
                raise MemoryError
            except MemoryError as inner:
                raise RuntimeError("the weights were not converted") from (None if hidden else inner)
        except RuntimeError as outer:
            return outer

    assert judge(wrapped(hidden=False))[0] == "oom"
    assert judge(wrapped(hidden=True)) == ("failed", "RuntimeError: the weights were not converted")


def test_one_of_several_errors_that_are_raised_together_counts() -> None:
    status, reason = judge(ExceptionGroup("loading", [KeyError("x"), MemoryError()]))
    assert (status, reason) == ("oom", "asked an amount that the error does not tell: MemoryError")


def test_a_device_that_does_not_answer_any_more_leaves_the_reason() -> None:
    def lost() -> tuple[int, int]:
        raise RuntimeError("CUDA error: device-side assert triggered")

    assert judge(MemoryError(), lost) == (
        "oom",
        "asked an amount that the error does not tell, free unknown (RuntimeError): MemoryError",
    )


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (TimeoutError("over 2 s"), ("timeout", "over 2 s")),
        (CaseFailed("prompt 1 gave 3 tokens"), ("failed", "prompt 1 gave 3 tokens")),
        (ValueError("a\n  b"), ("failed", "ValueError: a b")),
        (OSError(errno.ENOENT, "No such file"), ("failed", "FileNotFoundError: [Errno 2] No such file")),
        (
            ValueError("num_assistant_tokens is not enough"),
            ("failed", "ValueError: num_assistant_tokens is not enough"),
        ),
        (ValueError("the prompt says: out of memory"), ("failed", "ValueError: the prompt says: out of memory")),
    ],
    ids=lambda item: type(item).__name__,
)
def test_other_failures_are_told_apart(error: Exception, verdict: tuple[str, str]) -> None:
    assert judge(error) == verdict


def test_sizes_are_readable() -> None:
    assert [size(n) for n in (7, 2048, 5 << 20, 3 << 29, 1 << 46)] == [
        "7 bytes",
        "2.0 KiB",
        "5.0 MiB",
        "1.5 GiB",
        "64.0 TiB",
    ]


def test_no_torch_is_imported() -> None:
    code = "import sys, fixtures.measuring.failures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
