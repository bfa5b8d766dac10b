"""Why cases of two runs cannot be judged: missing, renamed, skipped, failed, or measured to no use; pure.

Each is a fault of its own kind, which a pattern of case ids may allow. Knows run files and the gate's rules; no
statistics, no rendering, and nothing of what is judged where nothing is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from reports.exactness import missing_tasks
from reports.matching import repeats
from reports.run import CaseResult, Completion, Run
from reports.thresholds import GateRules
from reports.timing import Sides
from reports.verdicts import Fault, FaultKind


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
    if base.case.status == head.case.status == "skipped":
        return [], [f"skipped in both: {head.case.id}: {head.case.reason}"]
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
    wanted = case.workload.get("num_samples")
    if isinstance(wanted, int) and len(case.samples) != wanted:
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
    """What base knows of a case and head does not, though it was measured: HumanEval tasks."""
    base = sides.base[0]
    had = completions_of(base.run, base.case)
    found = []
    for head in sides.head:
        if lost := missing_tasks(had, completions_of(head.run, head.case)):
            told = f"{', '.join(lost)} not attempted in {head.run.path.name}"
            found.append(fault_of(sides.head[0].case, "missing", told, rules))
    return found


def completions_of(run: Run, case: CaseResult) -> list[Completion]:
    """The HumanEval completions of a case."""
    return [one for one in run.completions if one.case == case.id]
