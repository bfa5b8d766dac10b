"""Where and at which size checks run: the device, its dtype, the pair, and what is decoded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from fixtures.engines.transformers.models import synthetic
from fixtures.engines.transformers.models.engine import Engine, evict, load_engine, synthetic_maps
from fixtures.engines.transformers.models.shapes import SHAPES
from fixtures.study.pairs import Pair, find_pair
from fixtures.study.study import EngineKey, Workload

Size = Literal["true", "tiny"]
PAIRS: dict[Size, str] = {"true": "synthetic-llama3-8b-1b", "tiny": "synthetic-tiny-tied"}
WORKLOADS: dict[Size, Workload] = {
    "true": Workload("synthetic", num_samples=2, max_prompt=128, gen_toks=32),
    "tiny": Workload("synthetic", num_samples=2, max_prompt=12, gen_toks=12),
}


@dataclass(frozen=True)
class Setting:
    """device: as torch names it; dtype: bf16, fp16 or fp32, of everything that is not quantized."""

    device: torch.device
    dtype: str
    size: Size

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def pair(self) -> Pair:
        return find_pair(PAIRS[self.size])

    @property
    def workload(self) -> Workload:
        return WORKLOADS[self.size]

    @cached_property
    def maps(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The next token of every token, of the target and of the draft."""
        return synthetic_maps(self.pair, self.workload.seed)

    @cached_property
    def prompts(self) -> list[list[int]]:
        workload = self.workload
        vocab = SHAPES[self.pair.target].vocab
        return synthetic.prompts(vocab, workload.num_samples, workload.max_prompt, workload.seed)

    @contextmanager
    def engine(
        self, target_quant: str = "none", draft_quant: str | None = "none", compile_mode: str | None = None
    ) -> Iterator[Engine]:
        """A loaded pair, and its memory again at the end. compile_mode: None for one that is not compiled."""
        key = EngineKey(
            self.pair.name,
            target_quant,
            draft_quant,
            self.dtype,
            compile=compile_mode is not None,
            compile_mode=compile_mode or "default",
        )
        engine = load_engine(key, self.pair, self.device, seed=self.workload.seed)
        try:
            yield engine
        finally:
            del engine
            evict()
            gc.collect()
