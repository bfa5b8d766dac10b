"""Did a change make it worse: the verdict on one or several runs of head against one or several of base. Pure.

Exact metrics (numbers/exactness.py, which says what counts as improved) are compared wherever they are bound to agree,
also when the clock is too noisy to judge, in repeated measurements as in first ones. Timings (gate/timing.py) are
judged only against the same hardware and versions; interleaved blocks may differ in versions, since that is what they
ask about. A case that is missing, renamed, skipped, failed or not measured, or of which head does not know what base
did, is a fault of its own kind (gate/faults.py), and a run without any measured case never passes. Renders nothing,
exits nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from reports.gate.between import ROUNDS_DEVIATION
from reports.gate.calibration import Noise
from reports.gate.faults import (
    absences,
    completions_of,
    fault_of,
    faults_again,
    faults_of,
    lost_parts,
    lost_timings,
    unmeasured,
)
from reports.gate.thresholds import GateRules, fits
from reports.gate.timing import (
    OWN_SPREAD_BLOCKS,
    MeasuredCase,
    Sides,
    TimingTest,
    judge_timings,
    report_timings,
    timing_tests,
)
from reports.gate.verdicts import Fault, Gate, Judgement, Verdict
from reports.numbers.answers import is_wrong
from reports.numbers.exactness import (
    ExactComparison,
    Scope,
    compare_bytes,
    compare_completions,
    compare_counts,
    compare_problems,
    is_quantized,
    scope,
)
from reports.record.matching import (
    environment_differences,
    hardware_key,
    identity,
    match,
    refuse_other_workloads,
    repeats,
    versions_key,
    weights_differences,
)
from reports.record.published import is_reference
from reports.record.run import CaseResult, Run, RunFileError

FEWEST_ALIKE = 3
_WORST_FIRST: tuple[Verdict, ...] = ("regressed", "improved", "not gated", "inconclusive", "pass")


def gate(
    base: Sequence[Run],
    head: Sequence[Run],
    rules: GateRules,
    noise: Noise | None = None,
    *,
    interleaved: bool = False,
    unfinished: bool = False,
) -> Gate:
    """Judge head against base, the same study in all runs.

    Several base runs are a rolling base, oldest first: the last one says which cases, prompts and counts there are, and
    timings are judged against the median of all. Several head runs repeat the same measurement. interleaved: base[i]
    and head[i] were measured in one block. noise: the calibration of this machine. unfinished: head may still lack its
    end line. Raises RunFileError for runs that cannot be compared: stopped early, other prompts, the same file.
    """
    named = ", ".join(run.path.name for run in base)
    left_out: list[str] = []
    if not interleaved:
        base, left_out = _newest_first(base)
    _refuse(base, head, interleaved, unfinished)
    matching = match(base[0], head[0])
    faults = absences(matching.gone, matching.renamed, head[0], rules)
    notes = [*left_out, *_other_weights(base[0], head), *(f"new, without a baseline: {one.id}" for one in matching.new)]
    faults += [fault_of(case, *found, rules) for case in matching.new if (found := unmeasured(case, head[0]))]
    judged: list[Sides] = []
    bases, heads = _indexed(base[1:]), _indexed(head[1:])
    for first, second in matching.pairs:
        earlier = _in_runs(first, base[0], bases)
        if not interleaved:  # one without this case is one value less in the median
            earlier = [earlier[0], *(one for one in earlier[1:] if unmeasured(one.case, one.run) is None)]
        sides = Sides(tuple(earlier), tuple(_in_runs(second, head[0], heads)), interleaved)
        found_faults, note = faults_of(sides, len(base) if interleaved else len(earlier), len(head), rules)
        faults += found_faults or (() if note else [*faults_again(sides, rules), *lost_parts(sides, rules)])
        notes += note
        if not found_faults and not note:
            judged.append(sides)
    if not judged:
        faults.append(Fault("", "nothing measured", "no case was measured on both sides; a gate needs at least one"))
    reason = _why_not_timed(base, head, interleaved)
    same_machine = all(_same_machine(base[0], run) for run in (*base, *head))
    judgements = [one for sides in judged for one in _exact(sides, same_machine=same_machine)]
    own = interleaved and len(base) >= OWN_SPREAD_BLOCKS
    machine = None if reason else _of_machine(noise, base[0], head[0], notes, needed=bool(judged) and not own)
    tests, lost = timing_tests(judged, rules, machine)
    faults += [] if reason else lost_timings(lost, rules)
    timings = report_timings(tests, reason) if reason else judge_timings(tests, rules.alpha)
    place = {sides.id: number for number, sides in enumerate(judged)}
    judgements = sorted([*judgements, *timings], key=lambda one: place[one.case])
    if not reason:
        notes += [*_by_rounds(tests, machine), *_raised(timings, machine, rules), *_alike(timings, interleaved)]
    stale = [pattern for pattern in rules.allow_missing if not any(fits(one.case, pattern) for one in faults)]
    notes += [f"--allow-missing {pattern!r} fits no missing case; drop it" for pattern in stale]
    return Gate(
        named,
        ", ".join(run.path.name for run in head),
        tuple(judgements),
        tuple(faults),
        tuple(notes),
        reason,
        rules.strict,
        interleaved,
        all(run.header.get("by_turns") for run in (*base, *head)),
    )


def suspects(found: Gate) -> tuple[str, ...]:
    """The ids of cases with a timing that regressed: what measuring again could confirm. Counts need no second look."""
    return tuple(dict.fromkeys(one.case for one in found.regressions if not one.exact))


def _refuse(base: Sequence[Run], head: Sequence[Run], interleaved: bool, unfinished: bool) -> None:
    if not base or not head:
        raise RunFileError("the gate needs at least one run of base and one of head")
    if interleaved and (len(base) != len(head) or len(base) < 2):
        raise RunFileError(f"{len(base)} runs of base, {len(head)} of head: interleaved blocks need as many of both")
    for run in (*base, *head):
        if not run.complete and not (unfinished and run in head):
            raise RunFileError(f"{run.path}: no end line: the run was stopped; go on with it by --resume {run.path}")
    files = [run.path.resolve() for run in (*base, *head)]
    twice = next((path for path in files if files.count(path) > 1), None)
    if twice is not None:
        raise RunFileError(f"{twice}: given twice; a run compared with itself always passes")
    for run in (*base[1:], *head):
        refuse_other_workloads(base[0], run)
    if interleaved:
        _refuse_apart(base, head)


def _refuse_apart(base: Sequence[Run], head: Sequence[Run]) -> None:
    """Refuse as blocks what was not measured by turns, or is of several versions within one side."""
    for side, runs in (("base", base), ("head", head)):
        other = next((run for run in runs if versions_key(run) != versions_key(runs[0])), None)
        if other is not None:
            raise RunFileError(
                f"{other.path}: measured with other versions than {runs[0].path}; name blocks of one {side} only"
            )
    before, after = ([str(run.header.get("started_at") or "") for run in side] for side in (base, head))
    if all((*before, *after)) and (max(before) < min(after) or max(after) < min(before)):
        last, first = ("head", "base") if max(before) < min(after) else ("base", "head")
        raise RunFileError(
            f"{head[0].path}: all runs of {last} were measured after those of {first}, not by turns: a drift of the "
            "machine would count as a change; measure them with `python -m reports ab`"
        )


def _newest_first(base: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The runs of a rolling base that decoded what its newest one did, that one first; notes name the others."""
    if not base:
        return [], []
    newest, kept, notes = base[-1], [base[-1]], []
    for run in reversed(base[:-1]):
        try:
            refuse_other_workloads(newest, run)
        except RunFileError:
            notes.append(f"{run.path.name} has another workload than {newest.path.name}: left out of the median")
        else:
            kept.append(run)
    return kept, notes


def _in_runs(
    case: CaseResult, first: Run, others: Sequence[tuple[Run, Mapping[str, CaseResult]]]
) -> list[MeasuredCase]:
    """The case in each of the runs that has it; in the first, this very result."""
    found = [(run, by_identity.get(identity(case))) for run, by_identity in others]
    return [MeasuredCase(case, first), *(MeasuredCase(other, run) for run, other in found if other is not None)]


def _indexed(runs: Sequence[Run]) -> list[tuple[Run, dict[str, CaseResult]]]:
    return [(run, {identity(case): case for case in run.finished.values()}) for run in runs]


def _exact(sides: Sides, *, same_machine: bool) -> list[Judgement]:
    """The exact metrics of a case, of every measurement in every run of head against the first of base."""
    base = sides.base[0]
    found: dict[str, Judgement] = {}
    for head in _with_repeats(sides.head):
        for one, where in _comparisons(base, head, same_machine):
            if head.case.again and one.first:
                one = replace(one, first=f"measured again: {one.first}")
            judged = _exact_judgement(sides.id, one, where)
            found[one.metric] = min(found.get(one.metric, judged), judged, key=_badness)
        if is_wrong(head.case) and not is_wrong(base.case):
            first = dict(head.case.facts["losslessness"].get("first") or {})
            told = f"prompt {first.get('prompt', '?')}, token {first.get('position', '?')} is not plain decoding's"
            found["losslessness"] = Judgement(
                sides.id, "losslessness", "regressed", True, "held", "wrong", detail=f"{told}, and no near tie"
            )
    return list(found.values())


def _badness(one: Judgement) -> tuple[int, bool]:
    """The worst is the smallest; of those that are not gated, one whose detail goes on to tell a difference."""
    return _WORST_FIRST.index(one.verdict), "; " not in one.detail


def _with_repeats(measured: Sequence[MeasuredCase]) -> list[MeasuredCase]:
    """The measurements, and after each the good ones of the same case that were made again in its run."""
    found = []
    for one in measured:
        good = [again for again in repeats(one.case, one.run) if unmeasured(again, one.run) is None]
        found += [one, *(MeasuredCase(again, one.run) for again in good)]
    return found


def _comparisons(base: MeasuredCase, head: MeasuredCase, same_machine: bool) -> list[tuple[ExactComparison, Scope]]:
    where = scope(base.case, head.case, head.run, same_machine=same_machine)
    if head.case.kind == "humaneval":
        before, now = completions_of(base.run, base.case), completions_of(head.run, head.case)
        counts = [*compare_problems(before, now), *compare_completions(before, now)]
    else:
        counts = compare_counts(base.case, head.case)
    sizes = Scope(True) if not is_quantized(head.case) else where
    return [
        *((one, where) for one in counts),
        *((one, sizes) for one in compare_bytes(base.case, head.case)),
    ]


def _exact_judgement(case: str, one: ExactComparison, where: Scope) -> Judgement:
    verdict: Verdict = "pass" if one.equal else "improved" if one.better else "regressed"
    detail = one.first
    if not where.gated:
        verdict = "not gated"
        detail = f"{where.reason}; {one.first}" if one.first else where.reason
    return Judgement(case, one.metric, verdict, True, one.base, one.head, detail=detail)


def _same_machine(base: Run, head: Run) -> bool:
    return hardware_key(base) == hardware_key(head) and versions_key(base) == versions_key(head)


def _other_weights(base: Run, head: Sequence[Run]) -> list[str]:
    """Models that base and head know by one name and that are not the same: said before all that follows from it."""
    differing = dict.fromkeys(one for run in head for one in weights_differences(base, run))
    if not differing:
        return []
    told = ", ".join(f"{one.key} {one.base[:40]} -> {one.head[:40]}" for one in differing)
    return [f"weights differ ({told}): two models are compared, not two states of the code"]


def _why_not_timed(base: Sequence[Run], head: Sequence[Run], interleaved: bool) -> str:
    """Why timings of these runs cannot be told apart from their machines, or "" if they can."""
    for run in (*base, *head):
        if is_reference(run):
            return f"{run.path.name} was published elsewhere, not measured here"
        if hardware_key(run) != hardware_key(base[0]):
            return f"other hardware: {hardware_key(base[0])} -> {hardware_key(run)}"
        if run.order != base[0].order:
            return (
                f"cases took turns on one side only (order: {base[0].order} -> {run.order}); measure both in one order"
            )
        if bool(run.header.get("by_turns")) != bool(base[0].header.get("by_turns")):
            return "measured by turns with another run on one side only"
        if not interleaved and versions_key(run) != versions_key(base[0]):
            differing = [
                f"{one.key} {one.base or 'absent'} -> {one.head or 'absent'}"
                for one in environment_differences(base[0], run)
                if f"{one.key}={one.base}" in versions_key(base[0]) or f"{one.key}={one.head}" in versions_key(run)
            ]
            return f"other versions: {', '.join(differing)}; `reports ab` compares versions on one machine"
    return ""


def _of_machine(noise: Noise | None, base: Run, head: Run, notes: list[str], *, needed: bool) -> Noise | None:
    """The calibration if it is of this machine and study, and of the versions of either run; notes say why not."""
    study = str(dict(head.header.get("study") or {}).get("name", ""))
    what = "seconds per token" if base.order == head.order == "rounds" else "timings"
    if noise is None:
        if needed:
            notes.append(f"no calibration of this machine and study: {what} stay inconclusive; run `make calibrate`")
        return None
    if noise.hardware != hardware_key(head) or noise.study != study:
        told = f"{noise.study} on {noise.hardware}, not of {study} on {hardware_key(head)}"
    elif noise.versions not in (present := [versions_key(run) for run in (head, base)]):
        differing = sorted(set(noise.versions.split(",")) - set(present[0].split(",")))
        told = f"other versions ({', '.join(differing) or 'fewer'}) than {head.path.name}"
    else:
        return noise
    notes.append(f"the calibration is of {told}: not used, and {what} stay inconclusive; run `make calibrate`")
    return None


def _by_rounds(tests: Sequence[TimingTest], noise: Noise | None) -> list[str]:
    """Which timings were judged without a calibration, and why they could be."""
    if (noise is not None and noise.order == "rounds") or not any(test.by_rounds for test in tests):
        return []
    return [
        "speedups are judged without a calibration: on both sides their cases took turns with plain decoding in every "
        f"round; {100 * ROUNDS_DEVIATION:g}% is allowed for what two processes differ by"
    ]


def _raised(timings: Sequence[Judgement], noise: Noise | None, rules: GateRules) -> list[str]:
    """Which thresholds lie below the noise floor, and why: said once per metric, with the range over the cases."""
    notes = []
    for metric in dict.fromkeys(one.metric for one in timings):
        untold = [one for one in timings if one.metric == metric and one.untold]
        if untold:
            notes.append(
                f"{metric}: too few prompts to tell a change from noise, in {len(untold)} of the cases; measure more"
            )
        raised = [one for one in timings if one.metric == metric and one.raised and not one.untold]
        if raised:
            floors = [f"{100 * (one.floor or 0.0):.1f}%" for one in raised]
            told = " to ".join(dict.fromkeys((min(floors, key=_number), max(floors, key=_number))))
            limits = "/".join(f"{limit:g}%" for limit in sorted({100 * (one.threshold or 0.0) for one in raised}))
            line = f"{metric}: threshold {limits} raised to the noise floor, {told}, in {len(raised)} of the cases"
            notes.append(line + _factor(metric, min(one.floor or 0.0 for one in raised), noise))
    if noise is not None and any("times the noise file's" in note for note in notes):
        notes.append(_why_so_large(noise, len(timings), rules))
    return notes


def _factor(metric: str, floor: float, noise: Noise | None) -> str:
    """How the floor compares with the noise that the calibration names; empty where it names none."""
    measured = None if noise is None else noise.floor.get(metric)
    if not measured:
        return ""
    return f", {math.log1p(floor) / measured:.1f} times the noise file's {100 * math.expm1(measured):.1f}%"


def _why_so_large(noise: Noise, timings: int, rules: GateRules) -> str:
    return (
        "why more than the noise file says: 95 in 100 pairs of equal runs stay within its figure, but of "
        f"{timings} timings together noise alone may fail at most {100 * rules.alpha:g}% of gates, and {noise.pairs} "
        "pairs know the noise only so well"
    )


def _alike(timings: Sequence[Judgement], interleaved: bool) -> list[str]:
    """Whether everything got slower together, which a machine does as well as a change that all cases share."""
    latencies = [one for one in timings if one.metric in ("latency_tok", "assisted_latency_tok")]
    if interleaved or len(latencies) < FEWEST_ALIKE or any(one.verdict != "regressed" for one in latencies):
        return []
    if any(one.verdict == "regressed" for one in timings if one.metric == "speedup"):
        return []
    return [
        "all cases got slower, none of them against the baseline in its own run: the machine, or a change that all "
        "share; `python -m reports ab` tells which"
    ]


def _number(percent: str) -> float:
    return float(percent.rstrip("%"))
