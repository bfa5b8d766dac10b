"""One timed generation: what becomes a Sample, and that its times and counts fit together."""

from __future__ import annotations

import hashlib
import struct
import time
from typing import Any

import pytest
import torch

from fixtures.engines.transformers.decoding.clock import HostClock, clock_for
from fixtures.engines.transformers.decoding.measurement import Generation, timed_decoder, tokens_sha256
from fixtures.engines.transformers.decoding.speculation import Recording, Step
from fixtures.study.study import DecodingPoint, Workload

ASSISTED = DecodingPoint("assisted", assist_toks=3, confidence_threshold=0.0, assist_schedule="constant")


def test_a_sample_sums_its_steps() -> None:
    steps = (
        Step(proposed=3, accepted=3, rejected=0, emitted=4, draft_seconds=0.25, verify_seconds=0.5),
        Step(proposed=3, accepted=1, rejected=2, emitted=2, draft_seconds=0.25, verify_seconds=0.5),
        Step(proposed=0, accepted=0, rejected=0, emitted=1, draft_seconds=0.0, verify_seconds=0.5),
        Step(proposed=5, accepted=2, rejected=0, emitted=2, draft_seconds=0.5, verify_seconds=0.5),
    )
    sample = Generation(7, tuple(range(9)), 4.0, Recording(steps, 4, 6, 0.75, 4)).sample()
    assert (sample.prompt, sample.new_tokens, sample.target_forwards, sample.draft_forwards) == (7, 9, 4, 6)
    assert (sample.drafted, sample.accepted, sample.rejected, sample.censored) == (11, 6, 2, 3)
    assert sample.rollbacks == 1
    assert sample.proposed_at == (3, 3, 3, 1, 1)
    assert sample.accepted_at == (3, 2, 1, 0, 0)
    assert (sample.draft_seconds, sample.verify_seconds, sample.other_seconds) == (1.0, 2.0, 1.0)
    assert (sample.ttft_seconds, sample.first_tokens) == (0.75, 4)
    assert sample.output_tokens == tuple(range(9))


def test_a_hash_of_tokens_is_of_little_endian_64_bit_integers() -> None:
    assert tokens_sha256((1, 70_000)) == hashlib.sha256(struct.pack("<2q", 1, 70_000)).hexdigest()


@pytest.mark.parametrize("point", [DecodingPoint(), ASSISTED], ids=["plain", "assisted"])
def test_times_are_inside_the_wall_time_around_them(tiny_engine: Any, point: DecodingPoint) -> None:
    with timed_decoder(tiny_engine(), point, Workload(gen_toks=8)) as decoder:
        started = time.perf_counter()
        sample = decoder.generate(0, [1, 2, 3]).sample()
        wall = time.perf_counter() - started
    assert 0 < sample.ttft_seconds < sample.seconds < wall
    assert sample.draft_seconds + sample.verify_seconds <= sample.seconds
    assert len(sample.output_tokens) == 8
    assert len(sample.output_sha256) == 64
    if point == ASSISTED:
        assert sample.draft_seconds > 0
        assert sample.verify_seconds > 0


def test_plain_decoding_takes_a_forward_per_token(tiny_engine: Any) -> None:
    with timed_decoder(tiny_engine(), DecodingPoint(), Workload(gen_toks=8)) as decoder:
        sample = decoder.generate(0, [1, 2, 3]).sample()
    assert (sample.target_forwards, sample.drafted, sample.steps, sample.first_tokens) == (8, 0, (), 1)


def test_a_single_token_is_its_own_first_token(tiny_engine: Any) -> None:
    with timed_decoder(tiny_engine(), DecodingPoint(), Workload(gen_toks=1)) as decoder:
        sample = decoder.generate(0, [1, 2, 3]).sample()
    assert sample.ttft_seconds == sample.seconds


def test_a_decoder_is_used_for_many_prompts(tiny_engine: Any) -> None:
    with timed_decoder(tiny_engine(), ASSISTED, Workload(gen_toks=8)) as decoder:
        alone = [decoder.generate(number, [number]).sample().steps for number in range(3)]
    with timed_decoder(tiny_engine(), ASSISTED, Workload(gen_toks=8)) as decoder:
        assert decoder.generate(2, [2]).sample().steps == alone[2]


def test_host_marks_read_as_seconds() -> None:
    clock = clock_for(torch.device("cpu"))
    assert isinstance(clock, HostClock)
    began = time.perf_counter()
    start = clock.mark()
    time.sleep(0.01)
    end = clock.mark()
    assert 0.01 <= clock.seconds(start, end) <= time.perf_counter() - began
