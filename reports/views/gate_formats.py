"""The gate's verdict for machines: JUnit XML, SARIF 2.1.0, annotations of GitHub Actions. Computes nothing.

JUnit: one test case per case and metric, its figures as properties; a regression is a failure, an inconclusive or
ungated metric is skipped with its reason (a failure if strict). SARIF: OASIS standard 2.1.0, one result per finding.
"""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

from reports.gate.verdicts import Fault, Gate, Judgement
from reports.views.gate_text import change_text, headline, remarks, threshold_text

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
THRESHOLDS_FILE = "pyproject.toml"  # results need a file of the repository: where thresholds are set
MOST_ANNOTATIONS = 10  # of a kind and step that GitHub shows
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(found: Gate) -> str:
    """JUnit XML of the verdict."""
    suite = ElementTree.Element("testsuite", name="decodebench gate")
    for one in found.judgements:
        test = ElementTree.SubElement(suite, "testcase", classname=_text(one.case), name=one.metric, time="0")
        properties = ElementTree.SubElement(test, "properties")
        for name, value in _figures(one).items():
            ElementTree.SubElement(properties, "property", name=name, value=_text(value))
        told = _text(finding(one))
        if one.verdict == "regressed" or found.fails_strictly(one):
            ElementTree.SubElement(test, "failure", type=one.verdict, message=told)
        elif one.verdict in ("inconclusive", "not gated"):
            ElementTree.SubElement(test, "skipped", type=one.verdict, message=told)
    for fault in found.faults:
        name = fault.case or "the run"
        test = ElementTree.SubElement(suite, "testcase", classname=_text(name), name="measured", time="0")
        kind = "skipped" if fault.allowed else "failure"
        ElementTree.SubElement(test, kind, type=fault.kind, message=_text(f"{fault.kind}: {fault.reason}"))
    if found.timing_reason:
        test = ElementTree.SubElement(suite, "testcase", classname="the run", name="timings gated", time="0")
        kind = "failure" if found.strict else "skipped"
        ElementTree.SubElement(test, kind, type="not gated", message=_text(found.timing_reason))
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(sum(test.find("failure") is not None for test in suite)))
    suite.set("skipped", str(sum(test.find("skipped") is not None for test in suite)))
    suite.set("errors", "0")
    output = ElementTree.SubElement(suite, "system-out")
    output.text = _text("\n".join([headline(found), *remarks(found)]))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def sarif(found: Gate) -> str:
    """SARIF 2.1.0: regressions and faults as errors, what is inconclusive or not gated as warnings (strict: errors)."""
    results = [_result(f"regressed/{one.metric}", "error", one.case, finding(one)) for one in found.regressions]
    results += [
        _result(f"fault/{fault.kind.replace(' ', '-')}", "error", fault.case, _fault_text(fault))
        for fault in found.failures
    ]
    level = "error" if found.strict else "warning"
    results += [
        _result(f"inconclusive/{one.metric}", level, one.case, finding(one)) for one in found.of("inconclusive")
    ]
    results += [
        _result(f"not-gated/{one.metric}", level, one.case, finding(one))
        for one in found.of("not gated")
        if found.fails_strictly(one)
    ]
    if found.timing_reason:
        results.append(_result("not-gated/timings", level, "", f"timings not gated: {found.timing_reason}"))
    rules = [{"id": name} for name in sorted({result["ruleId"] for result in results})]
    tool = {"driver": {"name": "decodebench", "rules": rules}}
    log = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [{"tool": tool, "results": results}]}
    return json.dumps(log, indent=1) + "\n"


def github_annotations(found: Gate) -> str:
    """Workflow commands of GitHub Actions: errors, warnings, and the verdict as the last line."""
    errors = [("gate: " + one.metric, finding(one)) for one in found.regressions]
    errors += [("gate: " + fault.kind, _fault_text(fault)) for fault in found.failures]
    warnings = [("gate: " + one.metric, finding(one)) for one in found.of("inconclusive")]
    if found.timing_reason:
        warnings.insert(0, ("gate: timings not gated", found.timing_reason))
    if found.strict:
        errors, warnings = [*errors, *warnings], []
    lines = []
    for level, listed in (("error", errors), ("warning", warnings)):
        kept = listed if len(listed) <= MOST_ANNOTATIONS else listed[: MOST_ANNOTATIONS - 1]
        lines += [_command(level, title, text) for title, text in kept]
        if len(kept) < len(listed):
            lines.append(_command(level, "gate", f"and {len(listed) - len(kept)} more; see the step's summary"))
    level = "error" if found.exit_code else "notice"
    return "\n".join([*lines, _command(level, "gate", headline(found))]) + "\n"


def finding(one: Judgement) -> str:
    """One judgement in one line."""
    change = change_text(one)
    limit = "" if one.exact else f", threshold {threshold_text(one)}"
    told = f"{one.case}: {one.metric} {one.verdict}: {one.base} -> {one.head}"
    return told + (f", {change}" if change else "") + limit + (f" ({one.detail})" if one.detail else "")


def _figures(one: Judgement) -> dict[str, str]:
    figures: dict[str, Any] = {
        "verdict": one.verdict,
        "exact": str(one.exact).lower(),
        "base": one.base,
        "head": one.head,
    }
    if one.ratio is not None:
        figures |= {"ratio": one.ratio.estimate, "ratio_low": one.ratio.low, "ratio_high": one.ratio.high}
    figures |= {"threshold": one.threshold, "noise_floor": one.floor, "p": one.p_value}
    return {
        name: f"{value:.6g}" if isinstance(value, float) else value
        for name, value in figures.items()
        if value is not None
    }


def _fault_text(fault: Fault) -> str:
    return f"{fault.case}: {fault.kind}: {fault.reason}" if fault.case else f"{fault.kind}: {fault.reason}"


def _result(rule: str, level: str, case: str, text: str) -> dict[str, Any]:
    place = {
        "physicalLocation": {"artifactLocation": {"uri": THRESHOLDS_FILE}, "region": {"startLine": 1}},
        "logicalLocations": [{"fullyQualifiedName": case or "run", "kind": "module"}],
    }
    return {
        "ruleId": rule,
        "level": level,
        "message": {"text": text},
        "locations": [place],
        "partialFingerprints": {"caseAndRule/v1": f"{case}:{rule}"},
    }


def _command(level: str, title: str, text: str) -> str:
    data = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    name = title.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={name}::{data}"


def _text(text: str) -> str:
    """The text without characters that XML cannot hold."""
    return _NOT_XML.sub("?", text)
