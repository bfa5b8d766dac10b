"""Checks of the device itself: its rates, its clock, its telemetry, and what happens when its memory is full."""

from __future__ import annotations

import re
import resource
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from fixtures.engines.transformers.decoding.clock import clock_for
from fixtures.engines.transformers.models.engine import TORCH_DTYPES, evict, synchronize
from fixtures.estimate.devices import PROFILES
from fixtures.measuring.device import why_emulated
from fixtures.measuring.failures import judge
from fixtures.measuring.limit import measure_limit
from fixtures.measuring.memory import free_memory
from fixtures.telemetry.nvml import NvmlSampler
from tools.gpu.decoding_checks import planted_output, stored_bytes
from tools.gpu.outcomes import CheckFailed, CheckImpossible
from tools.gpu.setting import Setting

Figures = dict[str, float | int | str]

FAR_OFF = 4.0
"""A measured rate this many times above or below the published one was not measured rightly."""
CLOCKS_APART = 0.2
TELEMETRY_SECONDS = 1.0
READ_OF_A_CARD = ("utilization_mean_percent", "memory_max_bytes", "power_mean_watts", "energy_joules")


def rates(setting: Setting) -> Figures:
    """Copy bandwidth and matrix rate in the dtype that is native, against the card's published ones where known."""
    why = why_emulated(setting.dtype, str(setting.device))
    if why:
        raise CheckFailed(f"{setting.dtype} was chosen, but {why}")
    limit = measure_limit(setting.device, TORCH_DTYPES[setting.dtype])
    figures: Figures = {
        "GB/s": limit.copy_bytes_per_second / 1e9,
        f"{setting.dtype} TFLOP/s": limit.matrix_operations_per_second / 1e12,
    }
    published = _published(setting)
    if published:
        figures["profile"] = published["name"]
        for name, rate, nominal in (
            ("bandwidth", limit.copy_bytes_per_second, published["gigabytes_per_second"] * 1e9),
            ("matrix rate", limit.matrix_operations_per_second, published["teraflops"][setting.dtype] * 1e12),
        ):
            if not 1 / FAR_OFF < rate / nominal < FAR_OFF:
                raise CheckFailed(f"{name} {rate:.3g}/s is far from the published {nominal:.3g}/s: {figures}")
    return figures


def clock(setting: Setting) -> Figures:
    """Seconds between the device's own marks agree with the host's around the same synchronized work."""
    timer = clock_for(setting.device)
    matrix = torch.rand(2048, 2048, device=setting.device) if setting.on_gpu else torch.rand(256, 256)

    def work(times: int) -> tuple[float, float]:
        synchronize(setting.device)
        began, first = time.perf_counter(), timer.mark()
        for _ in range(times):
            torch.mm(matrix, matrix)
        last = timer.mark()
        timer.synchronize()
        return timer.seconds(first, last), time.perf_counter() - began

    work(3)
    device_seconds, host_seconds = work(200 if setting.on_gpu else 20)
    apart = abs(device_seconds - host_seconds) / host_seconds
    if setting.on_gpu and apart > CLOCKS_APART:
        raise CheckFailed(f"the device's marks say {device_seconds:.4f} s, the host's {host_seconds:.4f} s")
    return {"device ms": 1000 * device_seconds, "host ms": 1000 * host_seconds}


def nvml(setting: Setting) -> Figures:
    """Telemetry of the card through its driver while it computes: utilization, memory, power and energy are there."""
    sampler = NvmlSampler(str(setting.device), _uuid(setting))
    with sampler:
        ends = time.perf_counter() + TELEMETRY_SECONDS
        matrix = torch.rand(4096 if setting.on_gpu else 64, 4096 if setting.on_gpu else 64, device=setting.device)
        while time.perf_counter() < ends:
            torch.mm(matrix, matrix)
            synchronize(setting.device)
    read: dict[str, Any] = sampler.telemetry.to_json()
    values, unavailable = read["values"], read.get("unavailable", {})
    missing = [f"{name} ({unavailable.get(name, 'no reading')})" for name in READ_OF_A_CARD if not values.get(name)]
    if missing:
        raise CheckFailed(f"the driver tells no {', '.join(missing)}")
    return {name: float(values[name]) for name in READ_OF_A_CARD}


def out_of_memory(setting: Setting) -> Figures:
    """A pair that does not fit is told as out of memory, with what was asked, and the next one decodes as ever."""
    before = _used(setting)
    with _little_memory(setting) as asked:
        try:
            torch.empty(asked, dtype=torch.uint8, device=setting.device)
        except (RuntimeError, MemoryError) as error:
            status, reason = judge(error, lambda: free_memory(setting.device))
            error.__traceback__ = None
        else:
            raise CheckFailed(f"{asked} bytes were given where they are not there")
    if status != "oom":
        raise CheckFailed(f"memory that ran out is told as {status}: {reason}")
    if setting.on_gpu:
        _load_beyond_memory(setting)
    planted_output(setting)
    left = _used(setting) - before
    if setting.on_gpu and left > 2**28:
        raise CheckFailed(f"{left} bytes are held after the pair that did not fit, and one that did, are gone")
    return {"told as": reason, "bytes left behind": max(0, left)}


def _load_beyond_memory(setting: Setting) -> None:
    """Loading a pair under half of what it needs ends in the same status, whatever part of it ran out."""
    needed = stored_bytes(setting, "none")
    total = torch.cuda.get_device_properties(setting.device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, needed / 2 / total), setting.device)
    try:
        with setting.engine():
            raise CheckFailed(f"a pair of {needed} bytes was loaded into half of that")
    except (RuntimeError, MemoryError) as error:
        status, reason = judge(error, lambda: free_memory(setting.device))
        error.__traceback__ = None
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, setting.device)
    evict()  # what had been loaded when there was no room for more
    if status != "oom":
        raise CheckFailed(f"loading beyond the memory is told as {status}: {reason}")


@contextmanager
def _little_memory(setting: Setting) -> Iterator[int]:
    """How many bytes to ask for that cannot be had: of a card more than it has, of the host more than is allowed."""
    if setting.on_gpu:
        yield 2 * torch.cuda.get_device_properties(setting.device).total_memory
        return
    size = 2**30
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + size // 2, limits[1]))
    try:
        yield size
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _used(setting: Setting) -> int:
    if not setting.on_gpu:
        return 0
    torch.cuda.empty_cache()
    return int(torch.cuda.memory_allocated(setting.device))


def _uuid(setting: Setting) -> str:
    """The card's identity at the driver; on a processor that of the driver's first card, if there is a driver."""
    if setting.on_gpu:
        return str(torch.cuda.get_device_properties(setting.device).uuid)
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            uuid: Any = pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise CheckImpossible(f"this machine has no NVIDIA driver that answers ({error})") from None
    return str(uuid.decode() if isinstance(uuid, bytes) else uuid).removeprefix("GPU-")


def _published(setting: Setting) -> dict[str, Any]:
    """The published profile of the card at hand; empty where there is none."""
    return published_profile(torch.cuda.get_device_name(setting.device)) if setting.on_gpu else {}


def published_profile(card: str) -> dict[str, Any]:
    """The published profile of a card by what its driver calls it (`NVIDIA A100-SXM4-80GB`); empty where none is."""
    profiles = tomllib.loads(PROFILES.read_text(encoding="utf-8"))
    words = re.findall(r"[a-z0-9]+", card.lower().replace("gb", ""))
    return next((kept for name, kept in profiles.items() if set(name.split("-")) <= set(words)), {})
