"""The lines of a run file as types: readers check by them, and the JSON Schema of the file is made from them.

What a line holds beyond them is kept where a report shows it and left out otherwise; a key that is absent means its
default. A corrected type corrects the reader, the schema and what docs link to.

Format history
  1  first: lines of kind run, case, completion, verdict, end
  2  lines of kind session: one for each further process that wrote, with its environment and start, before its cases.
     Migration from 1: the run line tells of the one session that there was; of a file that was resumed or merged
     before, the sessions cannot be told apart.
     Added since, without a new number, as a file that lacks them means their defaults: lines of kind round; order,
     order_seed and blocks in the run line; round, turn, visit and started in a sample; warm_ups, repeats, block and
     dropped_round in a case; the statuses crashed and dropped; shard, shards and shards_ended in the run line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from reports.record.checked import Count, Duration
from reports.record.run import Kind, Order, Sample, Status
from reports.record.settings import DecodingPoint, EngineKey, WorkloadDone

SCHEMA = 2
ShardText = Annotated[str, Meta(pattern="^([0-9]{1,6}/[0-9]{1,6})?$")]
_Digits = Annotated[str, Meta(pattern="^[0-9]{1,9}$")]


class PairSection(TypedDict, total=False):
    """A target model and its draft, as a study has them."""

    name: str
    source: str
    target: str
    draft: str | None


class StudySection(TypedDict, total=False):
    """The study that was run, as it describes itself."""

    name: str
    description: str
    drift_limit: Annotated[float, Meta(ge=0)]
    pairs: list[PairSection]
    workload: dict[str, Any]
    claims: list[dict[str, Any]]
    gate: dict[str, Any] | None


class HardwareSection(TypedDict, total=False):
    """The machine: what times depend on."""

    device: str
    cpu: str | None
    cpu_capability: str | None
    cpu_cores: Count | None
    cpu_threads_used: Count | None
    gpu: str | None
    gpu_ecc: bool | None
    gpu_power_limit_watts: Annotated[float, Meta(ge=0)] | None


class EnvironmentSection(TypedDict, total=False):
    """Machine and software of one session."""

    hardware: HardwareSection
    versions: dict[str, str | None]
    python: str
    system: str
    git_commit: str
    conditions: dict[str, Any]


class LimitSection(TypedDict, total=False):
    """What the device does at most with one dtype."""

    copy_bytes_per_second: float | None
    matrix_operations_per_second: float | None


class FirstDifferenceSection(TypedDict, total=False):
    """Where an output first differs from plain decoding's: token `position` of prompt `prompt`, both from 0."""

    prompt: Count
    position: Count
    expected: int | None
    found: int | None
    margin: float | None
    rounding: float | None
    near_tie: bool | None


class LosslessnessSection(TypedDict, total=False):
    """Greedy outputs against plain decoding's: prompts compared, those that differ, and how that is explained."""

    verdict: str
    compared: Count
    diverged: Count
    near_ties: Count
    wrong: Count
    unexamined: Count
    first: FirstDifferenceSection | None
    reason: str


class ForwardCostsSection(TypedDict, total=False):
    """Seconds of single forwards: the target's by the number of positions, the draft's by token and by call."""

    target_seconds: dict[_Digits, Annotated[float, Meta(gt=0, le=1e9)]]
    draft_seconds: Duration
    draft_token_seconds: float
    draft_call_overhead_seconds: float
    draft_prefill_seconds: float


class CopySection(TypedDict, total=False):
    """Bytes per second of the device's copies, as far as they were measured until the case was over."""

    lowest: float | None
    highest: float | None


class FactsSection(TypedDict, total=False):
    """Figures of a case that are not of one sample, the unit in the name; whatever else is there is kept as it is."""

    achieved_bytes_per_second: float | None
    bandwidth_share: float | None
    bytes_moved_per_step: float | None
    cache_bytes: float | None
    cache_tokens: float | None
    compile_seconds: float | None
    copy_bandwidth: CopySection | None
    forward_costs: ForwardCostsSection | None
    generation_config_put_aside: dict[str, Any] | None
    host_rss_bytes: float | None
    limit_bound: str | None
    limit_tokens_per_second: float | None
    load_seconds: float | None
    losslessness: LosslessnessSection | None
    memory_allocated_bytes: float | None
    memory_reserved_bytes: float | None
    perplexity: float | None
    perplexity_text: str | None
    perplexity_tokens: float | None
    prompts_left_out: Count | None
    published_speedup: float | None
    revisions: dict[str, str]
    weight_bytes: dict[str, float]


class SeriesSection(TypedDict, total=False):
    """Readings over time: seconds since the case began, and values in the unit that the name of the series tells."""

    seconds: list[float | None]
    values: list[float | None]


class ReadingsSection(TypedDict, total=False):
    """What one sampler saw. values: figures made of the readings; unavailable: those that could not be had, and why."""

    seconds: float | None
    values: dict[str, float | None]
    unavailable: dict[str, str]
    notes: dict[str, str]
    series: dict[str, SeriesSection]


class TelemetrySection(TypedDict, total=False):
    """By sampler."""

    nvml: ReadingsSection | None
    cpu: ReadingsSection | None


class _Line(Struct, tag_field="kind", kw_only=True):
    """What all lines share: their kind."""


class SessionLine(_Line, tag="session", kw_only=True):
    """A further process that went on with the file, or whose file was merged into it. What follows is its own.

    isolated_by: the supervision that it measured under (`--isolate`), the same for each process of it.
    """

    environment: EnvironmentSection = msgspec.field(default_factory=EnvironmentSection)
    limit: dict[str, LimitSection] = {}
    argv: list[str] = []
    started_at: str = ""
    by_turns: bool = False
    order: Order = "blocks"
    order_seed: int | None = None
    isolated_by: str = ""


class RunLine(SessionLine, tag="run", kw_only=True):
    """The first line: the study, and the first process. blocks: ids of the engines that were in memory together.

    order: whether cases took turns in rounds, drawn by order_seed, or were measured one after the other. shard: the
    part of the study that it holds, as `i/n`; shards: those that were merged into it,
    shards_ended: each of them to its end. Without any of these it holds the whole study.
    """

    schema: Count
    study: StudySection = msgspec.field(default_factory=StudySection)
    blocks: list[list[str]] = []
    shard: ShardText = ""
    shards: list[ShardText] = []
    shards_ended: bool = False


class CaseLine(_Line, tag="case", kw_only=True):
    """One case: what was asked (engine, point, workload), how it ended and why, and what was measured.

    The last line of an id counts, unless it is the repeated measurement of a baseline (again).
    """

    id: str
    status: Status
    case_kind: Kind = "decode"
    experiment: str = ""
    engine: EngineKey
    point: DecodingPoint
    workload: WorkloadDone
    reason: str = ""
    again: bool = False
    started_at: str = ""
    warm_ups: tuple[Sample, ...] = ()
    repeats: tuple[Sample, ...] = ()
    samples: tuple[Sample, ...] = ()
    metrics: dict[str, float] = {}
    facts: FactsSection = msgspec.field(default_factory=FactsSection)
    telemetry: TelemetrySection = msgspec.field(default_factory=TelemetrySection)
    notes: tuple[str, ...] = ()
    block: Count | None = None
    dropped_round: Count | None = None


class RoundLine(_Line, tag="round", kw_only=True):
    """One round of a block, written when it is over. order: ids as decoded, a baseline perhaps several times.

    cases: the settings of those that no earlier line of this process told. samples: by case, first the one that
    counts, then the repeats of a baseline. disturbed: why its times are doubtful.
    """

    session: Count = 0
    block: Count
    visit: Count
    round: Count
    order: tuple[str, ...]
    disturbed: str = ""
    machine: dict[str, Any] = {}
    cases: dict[str, dict[str, Any]] = {}
    samples: dict[str, tuple[Sample, ...]] = {}


class CompletionLine(_Line, tag="completion", kw_only=True):
    """One completion of a HumanEval problem. rows: how many were decoded at a time."""

    case: str
    task_id: str
    sample: Count
    completion: str
    tokens: Count
    seconds: Duration
    rows: Count | None = None


class VerdictLine(_Line, tag="verdict", kw_only=True):
    """Whether a completion of an earlier line passed its problem's tests."""

    case: str
    task_id: str
    sample: Count
    status: str
    detail: str


class EndLine(_Line, tag="end", kw_only=True):
    """The run ended by itself. seconds: where the time went."""

    seconds: dict[str, float] | float | UnsetType = UNSET
    ended_at: str = ""


LINES: Mapping[str, type[_Line]] = {
    "run": RunLine,
    "session": SessionLine,
    "case": CaseLine,
    "round": RoundLine,
    "completion": CompletionLine,
    "verdict": VerdictLine,
    "end": EndLine,
}
"""Kind of a line -> its type."""


def schema() -> dict[str, Any]:
    """The JSON Schema that every line of a run file keeps, one line at a time."""
    lines = RunLine | SessionLine | CaseLine | RoundLine | CompletionLine | VerdictLine | EndLine
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A line of a run file of decodebench, schema {SCHEMA}",
        **msgspec.json.schema(lines),
    }
