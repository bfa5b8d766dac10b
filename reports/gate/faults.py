"""Why cases of two runs cannot be judged: missing, renamed, skipped, failed, or measured to no use; pure.

Each is a fault of its own kind, which a pattern of case ids may allow. Knows run files and the gate's rules; no
statistics, no rendering, and nothing of what is judged where nothing is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from reports.gate.thresholds import GateRules
from reports.gate.timing import MeasuredCase, Sides
from reports.gate.verdicts import Fault, FaultKind
from reports.numbers.exactness import bytes_of, missing_tasks
from reports.numbers.speedups import baseline_measurements
from reports.record.matching import repeats
from reports.record.run import CaseResult, Completion, Run

NOT_EXAMINED = "could not be examined"
"""How a case's note says of which part facts are missing, and why."""


def absences(
    gone: Sequence[CaseResult], renamed: Sequence[tuple[CaseResult, CaseResult]], head: Run, rules: GateRules
) -> list[Fault]:
    """The cases of base that head has not, or has under another id; nobody misses what base had skipped."""
    faults = [
        Fault(case.id, "missing", f"not in {head.path.name}", rules.allows_missing(case.id))
        for case in gone
        if case.status != "skipped"
    ]
    return faults + [
        Fault(case.id, "renamed", f"is now {other.id}; promote a run with the new name", rules.allows_missing(case.id))
        for case, other in renamed
    ]


def faults_of(sides: Sides, bases: int, heads: int, rules: GateRules) -> tuple[list[Fault], list[str]]:
    """What keeps a matched case from being judged: faults, or a note where that is nobody's fault."""
    base, head = sides.base[0], sides.head[0]
    if base.case.status == head.case.status and head.case.status in ("skipped", "dropped"):
        return [], [f"{head.case.status} in both: {head.case.id}: {head.case.reason}"]
    for one in sides.head:
        if found := unmeasured(one.case, one.run):
            return [fault_of(head.case, *found, rules)], []
    if len(sides.head) < heads or len(sides.base) < bases:
        absent = "head" if len(sides.head) < heads else "base"
        fault = Fault(head.case.id, "missing", f"not in every run of {absent}", rules.allows_missing(head.case.id))
        return [fault], []
    if base.case.status == "skipped":
        return [], [f"measured now, skipped in the base: {head.case.id}"]
    for one in sides.base:
        if found := unmeasured(one.case, one.run):
            reason = f"{found[0]} in {one.run.path.name} ({found[1]}); promote a run in which it was measured"
            return [fault_of(head.case, "no baseline", reason, rules)], []
    return [], []


def unmeasured(case: CaseResult, run: Run) -> tuple[FaultKind, str] | None:
    """Why a case has no usable measurement, or None if it has one."""
    if case.status != "ok":
        return case.status, case.reason or "no reason given"
    if case.kind == "humaneval":
        completions = completions_of(run, case)
        unjudged = sum(not one.status for one in completions)
        if not completions or unjudged:
            return "unmeasured", f"{unjudged} of {len(completions)} completions not judged"
        return None
    if not case.samples:
        return "unmeasured", "zero samples"
    for sample in case.samples:
        if not (math.isfinite(sample.seconds) and sample.seconds > 0):
            return "unmeasured", f"seconds of prompt {sample.prompt} is {sample.seconds}"
        if sample.ttft_seconds is not None and not (math.isfinite(sample.ttft_seconds) and sample.ttft_seconds > 0):
            return "unmeasured", f"ttft_seconds of prompt {sample.prompt} is {sample.ttft_seconds}"
        if sample.new_tokens < 1:
            return "unmeasured", f"new_tokens of prompt {sample.prompt} is {sample.new_tokens}"
    broken = [name for name, value in case.metrics.items() if not math.isfinite(value)]
    if broken:
        return "unmeasured", f"{broken[0]} is {case.metrics[broken[0]]}"
    wanted, left_out = case.workload.num_samples, case.facts.get("prompts_left_out") or 0
    if len(case.samples) != wanted - left_out:  # left out: by its time limit or budget
        return "unmeasured", f"{len(case.samples)} of {wanted} prompts"
    return None


def fault_of(case: CaseResult, kind: FaultKind, reason: str, rules: GateRules) -> Fault:
    return Fault(case.id, kind, reason, rules.allows_missing(case.id))


def faults_again(sides: Sides, rules: GateRules) -> list[Fault]:
    """The faults of a case's repeated measurements, which follow the first one in its run."""
    found = []
    for side in (sides.head, sides.base):
        for one in side:
            for again in repeats(one.case, one.run):
                if wrong := unmeasured(again, one.run):
                    kind, reason = wrong
                    told = f"measured again in {one.run.path.name}: {reason}"
                    found.append(fault_of(sides.head[0].case, kind, told, rules))
    return found


def lost_parts(sides: Sides, rules: GateRules) -> list[Fault]:
    """What base knows of a case and head does not, though it was measured: HumanEval tasks, bytes, losslessness."""
    base, found = sides.base[0], []
    for head in sides.head:
        if lost := _lost_tasks(base, head):
            told = f"{', '.join(lost)} not attempted in {head.run.path.name}"
            found.append(fault_of(sides.head[0].case, "missing", told, rules))
        if lost := _lost_facts(base.case, head.case):
            why = "; ".join(note for note in head.case.notes if NOT_EXAMINED in note)
            told = f"{', '.join(lost)} known in the base, not in {head.run.path.name}{f' ({why})' if why else ''}"
            found.append(fault_of(sides.head[0].case, "not examined", told, rules))
    return found


def lost_timings(lost: Sequence[tuple[Sides, str]], rules: GateRules) -> list[Fault]:
    """A gated timing that base has and head lacks; a speedup is allowed to be lost with the baseline it is over."""
    found = []
    for sides, metric in lost:
        base, head = sides.base[0], sides.head[0]
        over = {one.id for one in baseline_measurements(base.case, base.run)} if metric == "speedup" else set()
        fault = fault_of(head.case, "unmeasured", f"{metric} known in the base, not in {head.run.path.name}", rules)
        allowed = fault.allowed or any(rules.allows_missing(name) for name in over)
        found.append(replace(fault, allowed=allowed))
    return found


def _lost_tasks(base: MeasuredCase, head: MeasuredCase) -> list[str]:
    if head.case.kind != "humaneval":
        return []
    return missing_tasks(completions_of(base.run, base.case), completions_of(head.run, head.case))


def _lost_facts(base: CaseResult, head: CaseResult) -> list[str]:
    known = bytes_of(head)
    lost = [metric for metric in bytes_of(base) if metric not in known]
    return lost + ["losslessness"] * (bool(base.facts.get("losslessness")) and not head.facts.get("losslessness"))


def completions_of(run: Run, case: CaseResult) -> list[Completion]:
    """The HumanEval completions of a case."""
    return [one for one in run.completions if one.case == case.id]
