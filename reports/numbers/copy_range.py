"""The copy bandwidth behind a run's hardware limits: measured several times, the largest counts, the range is known.

A copy measures what the memory gives at that moment, beside whoever else uses it: 42 and 76 GB/s within one run. What
the device can do is the largest of them. A case's limit was worked out from what had been measured until then, so that
it is brought to the largest of its session whenever a run is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reports.record.run import CaseResult, Run


def with_largest_copy(run: Run) -> Run:
    """The run with every case's limit by its session's largest copy bandwidth, and that session's range in its facts.

    Only a limit that bandwidth binds is changed, in proportion: the least time of its forwards is bytes over bandwidth.
    """
    measured = [_of_header(header) for header in run.sessions]
    for case in run.cases:
        measured[case.session].extend(_of_case(case))
    return replace(run, cases=tuple(_brought_to(case, run, measured[case.session]) for case in run.cases))


def copy_range(case: CaseResult) -> float:
    """The largest copy bandwidth over the smallest that was measured in the case's session; 1.0 where one was."""
    copies = _of_case(case)
    return max(copies) / min(copies) if copies else 1.0


def _of_header(header: Mapping[str, Any]) -> list[float]:
    rates = (dict(limit or {}).get("copy_bytes_per_second") for limit in dict(header.get("limit") or {}).values())
    return [float(rate) for rate in rates if rate]


def _of_case(case: CaseResult) -> list[float]:
    known = dict(case.facts.get("copy_bandwidth") or {})
    return [float(known[end]) for end in ("lowest", "highest") if known.get(end)]


def _brought_to(case: CaseResult, run: Run, measured: list[float]) -> CaseResult:
    if not measured or not case.facts.get("limit_tokens_per_second"):
        return case
    limits = dict(run.sessions[case.session].get("limit") or {})
    own = _of_case(case) or _of_header({"limit": {"own": limits.get(case.engine.dtype)}})
    facts = dict(case.facts)
    facts["copy_bandwidth"] = {"lowest": min(measured), "highest": max(measured)}
    if own and facts.get("limit_bound") != "compute":
        faster = max(measured) / max(own)
        facts["limit_tokens_per_second"] *= faster
        if facts.get("bandwidth_share"):
            facts["bandwidth_share"] /= faster
    return replace(case, facts=facts)
